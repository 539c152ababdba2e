//! What an operator says about a message that nobody sent, and the transaction that has just that in it. No rule has run for it.

use std::net::IpAddr;
use std::sync::Arc;

use vsmtp_mail::{Address, BodyType, Demands, Domain, Notify, QueueIdMint, ReversePath, Wishes, header_end};
use vsmtp_sys::clock;

use super::{Zone, known_identity, peer, received};
use crate::object::Fault;
use crate::process::content::Inline;
use crate::stage::Stage;
use crate::transaction::{Content, MailSpec, RcptSpec, Transaction};

/// Largest message, in octets.
pub const MAX_MESSAGE: usize = 8 << 20;

/// What is said.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The stage that runs.
    pub stage: Stage,
    /// The client; `None`: it is on the local socket.
    pub client: Option<IpAddr>,
    /// What it said in HELO.
    pub helo: String,
    /// Who it has authenticated as.
    pub user: Option<String>,
    /// MAIL FROM, without angle brackets.
    pub from: String,
    /// RCPT TO, without angle brackets; the last is the one that the rcpt stage judges.
    pub recipients: Vec<String>,
    /// The message.
    pub message: Vec<u8>,
}

impl Facts {
    /// Something for every stage, so that each can be tried at once.
    pub fn new(own: &Domain) -> Self {
        Facts {
            stage: Stage::Preq,
            client: Some(IpAddr::from([192, 0, 2, 1])),
            helo: "client.example".to_owned(),
            user: None,
            from: "sender@client.example".to_owned(),
            recipients: vec![format!("user@{own}")],
            message: b"From: sender@client.example\r\nSubject: test\r\n\r\nHello.\r\n".to_vec(),
        }
    }

    /// The transaction as it is at that stage.
    ///
    /// # Errors
    /// Something of it is no address: text for the operator.
    pub fn transaction(
        &self,
        zone: &Zone,
        own: &Domain,
        max_recipients: usize,
    ) -> Result<Transaction, Fault> {
        let mut peer = peer(zone, self.client, own);
        if let Some(user) = self.user.as_deref().filter(|_| self.stage >= Stage::Authenticate) {
            peer.identity = Some(known_identity(user));
        }
        let mut transaction = Transaction::new(Arc::new(peer), max_recipients);
        if self.stage >= Stage::Helo {
            transaction.helo = Some(self.helo.as_str().into());
            transaction.esmtp = true;
        }
        if self.stage >= Stage::Mail {
            let reverse_path = ReversePath::parse(&self.from)
                .map_err(|error| Fault(format!("'{}' is no sender: {error}", self.from)))?;
            transaction.begin(MailSpec {
                smtputf8: !self.from.is_ascii(),
                reverse_path,
                body: BodyType::EightBitMime,
                ret: None,
                envid: None,
                demands: Demands::default(),
                wishes: Wishes::default(),
                at_ms: clock::wall_ms(),
            });
        }
        if self.stage >= Stage::Rcpt {
            for to in &self.recipients {
                let address =
                    Address::parse(to).map_err(|error| Fault(format!("'{to}' is no recipient: {error}")))?;
                let spec = RcptSpec { address, original: None, notify: Notify::default() };
                transaction.add_client_recipient(spec)?;
            }
        }
        transaction.stage = self.stage;
        if self.stage >= Stage::Preq {
            let id = QueueIdMint::new(0, 0).next(clock::wall_ms());
            let message = received(&transaction, own, &self.message, &id.to_string());
            let end = header_end(&message);
            transaction.id = Some(id);
            transaction.body_offset = end as u64;
            transaction.receive_header(message.get(..end).unwrap_or_default());
            let content: Arc<dyn Content> = Arc::new(Inline(Arc::new(message)));
            transaction.content = Some(content);
        }
        Ok(transaction)
    }

    /// As an operator sees them, one per line.
    pub fn lines(&self) -> Vec<String> {
        let client = self.client.map_or_else(|| "the local socket".to_owned(), |ip| ip.to_string());
        vec![
            format!("stage   {}", self.stage),
            format!("client  {client}"),
            format!("helo    {}", self.helo),
            format!("user    {}", self.user.as_deref().unwrap_or("-")),
            format!("from    <{}>", self.from),
            format!(
                "rcpt    {}",
                self.recipients.iter().map(|to| format!("<{to}>")).collect::<Vec<_>>().join(" ")
            ),
            format!("message {} octets", self.message.len()),
        ]
    }
}
