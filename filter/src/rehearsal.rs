//! Mail that nobody sent: the real rules judge what an operator made up, command by command, as a receiver and the queue
//! would have them do. Nothing is stored or written, nothing is asked of the DNS, and no key
//! signs.

mod counts;
mod diff;
mod facts;
mod recorder;
pub mod repl;
pub mod scripts;
pub mod trial;
mod zone;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use vsmtp_config::FilterSlice;
use vsmtp_ipc::edge::ctl_filter::{Heard, Kept};
use vsmtp_ipc::edge::filter_queue::Disposition;
use vsmtp_ipc::wire::{Grant, Piece};
use vsmtp_mail::{
    Address, BodyType, Demands, Domain, Notify, QueueIdMint, Reply, ReversePath, Rfc5322Date, Service,
};
use vsmtp_sys::clock;

use crate::api::Surroundings;
use crate::deposit::Deposit;
use crate::engine::ScriptError;
use crate::identity::Identity;
use crate::judge::{Decision, Edit, Judge, Judged, PostJudged, PostMessage, Source, Stored};
use crate::object::Fault;
use crate::process::content::Inline;
use crate::stage::Stage;
use crate::transaction::{Content, MailSpec, Peer, RcptSpec, Shared, Transaction};

pub use counts::Counts;
pub use recorder::{LogLines, Recorder};
pub use zone::{Placeholder, Zone};

/// Ports that a client reaches us at.
const SMTP_PORT: u16 = 25;
const SUBMISSION_PORT: u16 = 587;
/// The port that a client comes from.
const CLIENT_PORT: u16 = 50_000;

/// Rules that are rehearsed, with the world around them.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The rules.
    pub judge: Arc<Judge>,
    /// What the DNS says.
    pub zone: Arc<Zone>,
    /// What rules have counted.
    pub counts: Arc<Counts>,
    /// What the rules did.
    pub recorder: Arc<Recorder>,
}

impl Scene {
    /// Loads the rules of a slice.
    ///
    /// # Errors
    /// They do not load.
    pub fn load(slice: &FilterSlice, host: &Surroundings, log: LogLines) -> Result<Self, ScriptError> {
        let zone = Arc::new(Zone::default());
        let recorder = Arc::new(Recorder::new(log));
        let signer = Arc::new(Placeholder(slice.dkim_domains.clone()));
        let counts = Arc::new(Counts::default());
        let host = Surroundings {
            names: Arc::clone(&zone) as _,
            limiter: Arc::clone(&counts) as _,
            deposit: Deposit::tried(),
            signer,
            ..host.clone()
        };
        let mut judge = Judge::load(slice, &host)?;
        judge.observer = Some(Arc::clone(&recorder) as _);
        Ok(Scene { judge: Arc::new(judge), zone, counts, recorder })
    }

    /// As if nothing had happened yet.
    pub fn begin(&self) {
        self.zone.clear();
        self.counts.clear();
        self.recorder.clear();
    }
}

/// A client that speaks to us.
#[derive(Debug)]
pub struct Rehearsal {
    on: Scene,
    shared: Shared,
    is_greeted: bool,
    is_closed: bool,
    /// A recipient of the client was accepted: those that rules add do not make a message.
    has_recipient: bool,
    /// What it said and heard.
    pub heard: Vec<Heard>,
    /// What would be stored of the last message.
    pub kept: Vec<Kept>,
    /// The bytes of each of them.
    pub texts: Vec<Vec<u8>>,
}

impl Rehearsal {
    /// A client at an address, or on the local socket.
    pub fn new(on: &Scene, client: Option<IpAddr>) -> Self {
        let peer = peer(&on.zone, client, on.judge.policy.server_name());
        let shared = Shared::new(Transaction::new(Arc::new(peer), on.judge.max_recipients));
        Rehearsal {
            on: on.clone(),
            shared,
            is_greeted: false,
            is_closed: false,
            has_recipient: false,
            heard: Vec::new(),
            kept: Vec::new(),
            texts: Vec::new(),
        }
    }

    /// The client comes to the port of our own users.
    pub fn submit(&mut self) {
        let mut transaction = self.shared.lock();
        let mut peer = Peer::clone(&transaction.peer);
        peer.service = Some(Service::Submission);
        peer.server = peer.server.map(|(ip, _)| (ip, SUBMISSION_PORT));
        transaction.peer = Arc::new(peer);
    }

    /// The connection is closed.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The last reply's code.
    pub fn code(&mut self) -> Result<u16, Fault> {
        self.greet()?;
        let reply = self.heard.last().map(|heard| heard.reply.as_str()).unwrap_or_default();
        Ok(reply.get(..3).and_then(|code| code.parse().ok()).unwrap_or_default())
    }

    /// Connects, if that was not done.
    pub fn greet(&mut self) -> Result<(), Fault> {
        if !self.is_greeted {
            self.is_greeted = true;
            let decision = self.on.judge.command(&self.shared, Stage::Connect);
            let usual = format!("220 {} ESMTP", self.on.judge.policy.server_name());
            self.hear("connect", decision, &usual);
        }
        Ok(())
    }

    fn ready(&mut self) -> Result<(), Fault> {
        self.greet()?;
        if self.is_closed { Err(Fault::new("the server has closed the connection")) } else { Ok(()) }
    }

    /// HELO.
    pub fn helo(&mut self, name: &str) -> Result<(), Fault> {
        self.ready()?;
        let before = {
            let mut transaction = self.shared.lock();
            // It ends a transaction (RFC 5321 4.1.4).
            transaction.reset();
            transaction.esmtp = true;
            transaction.helo.replace(name.into())
        };
        let decision = self.on.judge.command(&self.shared, Stage::Helo);
        if !matches!(decision, Decision::Accept(_)) {
            self.shared.lock().helo = before;
        }
        let usual = format!("250 {}", self.on.judge.policy.server_name());
        self.hear(&format!("helo {name}"), decision, &usual);
        Ok(())
    }

    /// AUTH, with a password that is right.
    pub fn authenticate(&mut self, user: &str) -> Result<(), Fault> {
        self.ready()?;
        if self.shared.lock().helo.is_none() || self.shared.lock().mail.is_some() {
            return Err(Fault::new("AUTH comes behind HELO and before MAIL"));
        }
        self.shared.lock().identify(Some(known_identity(user)));
        let decision = self.on.judge.authenticate(&self.shared);
        if !matches!(decision, Decision::Accept(_)) {
            self.shared.lock().identify(None);
        }
        self.hear(&format!("auth {user}"), decision, "235 2.7.0 Authentication succeeded");
        Ok(())
    }

    /// MAIL FROM, without angle brackets.
    pub fn mail(&mut self, from: &str) -> Result<(), Fault> {
        self.ready()?;
        if self.shared.lock().helo.is_none() {
            return Err(Fault::new("MAIL comes behind a HELO that was accepted"));
        }
        if self.shared.lock().mail.is_some() {
            return Err(Fault::new("MAIL comes once in a transaction"));
        }
        let reverse_path =
            ReversePath::parse(from).map_err(|error| Fault(format!("'{from}' is no sender: {error}")))?;
        self.kept.clear();
        self.texts.clear();
        self.has_recipient = false;
        let peer = Arc::clone(&self.shared.lock().peer);
        let decision = match self.on.judge.policy.admit_sender(&reverse_path, &peer) {
            Err(reply) => Decision::Refuse(reply),
            Ok(()) => {
                self.shared.lock().begin(MailSpec {
                    reverse_path,
                    body: BodyType::EightBitMime,
                    smtputf8: !from.is_ascii(),
                    ret: None,
                    envid: None,
                    demands: Demands::default(),
                    wishes: vsmtp_mail::Wishes::default(),
                    at_ms: clock::wall_ms(),
                });
                self.on.judge.command(&self.shared, Stage::Mail)
            }
        };
        if !matches!(decision, Decision::Accept(_)) {
            self.shared.lock().reset();
        }
        self.hear(&format!("mail from:<{from}>"), decision, "250 2.1.0 Ok");
        Ok(())
    }

    /// RCPT TO, without angle brackets.
    pub fn rcpt(&mut self, to: &str) -> Result<(), Fault> {
        self.ready()?;
        if self.shared.lock().mail.is_none() {
            return Err(Fault::new("RCPT comes behind a MAIL that was accepted"));
        }
        let peer = Arc::clone(&self.shared.lock().peer);
        let decision = match self.on.judge.policy.recipient(to, &peer) {
            Err(reply) => Decision::Refuse(reply),
            Ok(address) => {
                let spec = RcptSpec { address, original: None, notify: Notify::default() };
                self.on.judge.recipient(&self.shared, spec)
            }
        };
        self.has_recipient |= matches!(decision, Decision::Accept(_));
        self.hear(&format!("rcpt to:<{to}>"), decision, "250 2.1.5 Ok");
        Ok(())
    }

    /// DATA with the message, and what the rules make of it after that.
    pub fn message(&mut self, text: &[u8], until: Stage) -> Result<(), Fault> {
        self.ready()?;
        let (has_mail, has_recipients) = {
            let transaction = self.shared.lock();
            (transaction.mail.is_some(), self.has_recipient && !transaction.recipients.is_empty())
        };
        if !has_mail {
            return Err(Fault::new("DATA comes behind a MAIL that was accepted"));
        }
        if !has_recipients {
            let reply =
                Reply::parse("554 5.5.1 No valid recipients").map_err(|error| Fault(error.to_string()))?;
            self.hear("data", Decision::Refuse(reply), "");
            return Ok(());
        }
        let id = QueueIdMint::new(0, 0).next(clock::wall_ms());
        let original =
            received(&self.shared.lock(), self.on.judge.policy.server_name(), text, &id.to_string());
        let content: Arc<dyn Content> = Arc::new(Inline(Arc::new(original.clone())));
        let judged = self.on.judge.message(&self.shared, Source { id, content: Some(content) });
        let peer = Arc::clone(&self.shared.lock().peer);
        let helo = self.shared.lock().helo.clone().unwrap_or_default();
        match judged {
            Judged::Answer(decision) => self.hear("data", decision, ""),
            Judged::Store { messages, reply } => {
                self.hear("data", Decision::Accept(reply), &format!("250 2.0.0 Ok: queued as {id}"));
                for stored in messages {
                    let (fate, stored, bytes) = self.later(stored, &original, &peer, &helo, until);
                    self.keep(&fate, &stored, &original, bytes);
                }
            }
        }
        self.shared.lock().reset();
        Ok(())
    }

    /// What the rules after the queue make of a message: its fate, itself, its bytes.
    fn later(
        &self,
        mut stored: Stored,
        original: &[u8],
        peer: &Peer,
        helo: &str,
        until: Stage,
    ) -> (String, Stored, Vec<u8>) {
        let mut bytes = assembled(&stored.pieces, original);
        let judge = &self.on.judge;
        for stage in [Stage::Postq, Stage::Delivery] {
            let is_asked = judge.wants(stage) && stage <= until && !stored.judged;
            if stored.disposition != Disposition::Active || !is_asked {
                continue;
            }
            let judged = judge.post(PostMessage {
                id: QueueIdMint::new(0, 0).next(clock::wall_ms()),
                stage: Some(stage),
                is_report: false,
                reroute: false,
                envelope: stored.envelope.clone(),
                peer: Peer {
                    client_name: None,
                    server: None,
                    identity: None,
                    was_authenticated: peer.is_authenticated(),
                    ..peer.clone()
                },
                helo: helo.to_owned(),
                arrived_ms: clock::wall_ms(),
                resume: None,
                content: Arc::new(Inline(Arc::new(bytes.clone()))),
            });
            match judged {
                PostJudged::Keep { is_final } => stored.judged = is_final,
                PostJudged::Refuse(reply, _) => return (format!("refuse {reply}"), stored, bytes),
                PostJudged::Unavailable => return ("wait: a rule failed".to_owned(), stored, bytes),
                PostJudged::Edit(edit) => {
                    let Edit { envelope, disposition, pieces, .. } = *edit;
                    bytes = assembled(&pieces, &bytes);
                    stored = Stored { envelope, disposition, judged: true, ..stored };
                }
            }
        }
        let fate = match &stored.disposition {
            Disposition::Active => "deliver".to_owned(),
            Disposition::Hold(reason) if reason.is_empty() => "hold".to_owned(),
            Disposition::Hold(reason) => format!("hold {reason}"),
            Disposition::Quarantine(name) => format!("quarantine {name}"),
            Disposition::Delegate(to) => format!("delegate {}", to.address),
        };
        (fate, stored, bytes)
    }

    fn keep(&mut self, fate: &str, stored: &Stored, original: &[u8], bytes: Vec<u8>) {
        let recipients = &stored.envelope.recipients;
        let recipients =
            recipients.iter().map(|one| (one.address.to_string(), one.next_hop.to_string())).collect();
        self.kept.push(Kept {
            from: stored.envelope.reverse_path.to_string(),
            recipients,
            fate: fate.to_owned(),
            diff: diff::lines(original, &bytes),
        });
        self.texts.push(bytes);
    }

    fn hear(&mut self, command: &str, decision: Decision, usual: &str) {
        let (reply, is_accepted) = match decision {
            Decision::Accept(None) => (usual.to_owned(), true),
            Decision::Accept(Some(reply)) => (reply.to_string(), true),
            Decision::Refuse(reply) => (reply.to_string(), false),
            Decision::Close(reply) => {
                self.is_closed = true;
                (reply.to_string(), false)
            }
        };
        self.heard.push(Heard { command: command.to_owned(), reply, is_accepted });
    }

    /// The recipients so far, or those of what would be stored.
    pub fn recipients(&self) -> Vec<String> {
        if !self.kept.is_empty() {
            return self
                .kept
                .iter()
                .flat_map(|kept| kept.recipients.iter().map(|(to, _)| to.clone()))
                .collect();
        }
        self.shared.lock().recipients.iter().map(|entry| entry.spec.address.to_string()).collect()
    }

    /// Where a recipient's copy would go.
    pub fn next_hop(&self, of: &str) -> Option<String> {
        let address = Address::parse(of).ok()?.to_string();
        let mut all = self.kept.iter().flat_map(|kept| &kept.recipients);
        all.find(|(to, _)| *to == address).map(|(_, hop)| hop.clone())
    }

    /// The sender so far, or that of what would be stored.
    pub fn sender(&self) -> String {
        match self.kept.first() {
            Some(kept) => kept.from.clone(),
            None => {
                let transaction = self.shared.lock();
                transaction.mail.as_ref().map(|mail| mail.reverse_path.to_string()).unwrap_or_default()
            }
        }
    }

    /// The directives that ran so far.
    pub fn recorder(&self) -> &Recorder {
        &self.on.recorder
    }
}

/// Whoever is at an address, or on the local socket.
fn peer(zone: &Zone, client: Option<IpAddr>, server_name: &Domain) -> Peer {
    let own = match client {
        Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    Peer {
        service: Some(if client.is_some() { Service::Smtp } else { Service::Local }),
        client: client.map(|ip| (ip, CLIENT_PORT)),
        client_name: client.and_then(|ip| zone.name_of(ip)).and_then(|name| Domain::parse(&name).ok()),
        server: client.map(|_| (own, SMTP_PORT)),
        uid: client.is_none().then_some(0),
        connected_ms: clock::wall_ms(),
        server_name: server_name.clone(),
        identity: None,
        was_authenticated: false,
        was_secured: false,
    }
}

/// Who has shown a password that is right.
fn known_identity(user: &str) -> Identity {
    Identity { name: user.into(), mechanism: "PLAIN".into(), grant: Grant([0; 16]), verifier: None }
}

/// The message with the line that a receiver puts in front, and the line ends of SMTP.
fn received(transaction: &Transaction, own: &Domain, text: &[u8], id: &str) -> Vec<u8> {
    let helo = transaction.helo.as_deref().unwrap_or_default();
    let client = if transaction.client_ip.is_empty() { "local" } else { transaction.client_ip.as_str() };
    let date = Rfc5322Date(clock::wall_ms() / 1000);
    let mut bytes =
        format!("Received: from {helo} ([{client}])\r\n\tby {own} with ESMTP id {id};\r\n\t{date}\r\n")
            .into_bytes();
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        bytes.extend_from_slice(bare.strip_suffix(b"\r").unwrap_or(bare));
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// What pieces make of a message; all of it where there are none.
fn assembled(pieces: &[Piece], original: &[u8]) -> Vec<u8> {
    if pieces.is_empty() {
        return original.to_vec();
    }
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => bytes.extend_from_slice(text),
            Piece::Original { offset, len } => {
                let from = usize::try_from(*offset).unwrap_or(usize::MAX).min(original.len());
                let to = from.saturating_add(usize::try_from(*len).unwrap_or(usize::MAX)).min(original.len());
                bytes.extend_from_slice(original.get(from..to).unwrap_or_default());
            }
        }
    }
    bytes
}
