//! Messages that a service brings back. Whoever reaches us at the address that a service was told brings one back or is
//! refused: no rule runs, nothing is routed, and only the secret in the header decides, which the queue-manager knows.

use vsmtp_daemon::Record;
use vsmtp_ipc::edge::filter_queue::{Delegate, Disposition, Returned};
use vsmtp_ipc::edge::queue_filter::{MAX_DELEGATES, PostStage};
use vsmtp_mail::{
    DELEGATION_FIELD, DelegationTicket, EnhancedCode, Envelope, MailboxFormat, NextHop, Recipient,
    RecipientClass, Reply,
};

use super::message::{pieces, read_header};
use super::{Decision, Judge, Judged, Source, Stored, local_error};
use crate::service::{SmtpService, covers};
use crate::stage::Stage;
use crate::status::Delegated;
use crate::transaction::{Peer, RcptSpec, Shared, Transaction};

/// Where the rules of a stage go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeAt {
    /// The stage.
    pub stage: Stage,
    /// The directive.
    pub directive: String,
    /// Behind it.
    pub skip: bool,
}

impl Judge {
    /// Who delegates to whom; `None` if those are too many to tell.
    pub fn services(&self) -> Option<Vec<(String, std::net::SocketAddr)>> {
        let named = |one: &std::sync::Arc<crate::engine::Directive>| {
            Some((one.name.to_string(), one.service.as_ref()?.address))
        };
        let all: Vec<_> = self.delegates().filter_map(named).take(MAX_DELEGATES + 1).collect();
        (all.len() <= MAX_DELEGATES).then_some(all)
    }

    /// True if whoever is there brings messages back from a service.
    pub fn brings_back(&self, peer: &Peer) -> bool {
        let Some((ip, port)) = peer.server.filter(|_| !self.receivers.is_empty()) else { return false };
        let is_plain = peer.service == Some(vsmtp_mail::Service::Smtp);
        is_plain && self.receivers.iter().any(|receiver| covers(*receiver, (ip, port).into()))
    }

    /// True if a service may bring a message back here: to an address that was another service's, or its own in former rules.
    /// Nothing but the header of a message tells.
    pub fn may_come_back(&self, shared: &Shared) -> bool {
        shared.lock().peer.service == Some(vsmtp_mail::Service::Smtp)
    }

    /// A recipient of what is brought back: whatever the service says, those of the message count.
    pub(super) fn returning_recipient(shared: &Shared, spec: RcptSpec) -> Decision {
        match shared.lock().add_client_recipient(spec) {
            Ok(()) => Decision::Accept(None),
            Err(_) => Decision::Refuse(Reply::fixed(452, EnhancedCode(4, 5, 3), "Too many recipients")),
        }
    }

    /// The message itself.
    pub(super) fn returning_message(&self, shared: &Shared, source: Source) -> Judged {
        let refuse = |reply| Judged::Answer(Decision::Refuse(reply));
        let id = source.id;
        let Some(content) = source.content else { return refuse(local_error()) };
        // It may have grown by what we and the service put in front.
        let header = match read_header(&*content, self.max_header.saturating_mul(2)) {
            Ok(Some(header)) => header,
            Ok(None) => {
                let text = "Message header is too large";
                return refuse(Reply::fixed(552, EnhancedCode(5, 3, 4), text));
            }
            Err(error) => {
                log::error!("event=body-unreadable id={id} error=\"{error}\"");
                return refuse(local_error());
            }
        };
        let mut transaction = shared.lock();
        transaction.body_offset = header.len() as u64;
        transaction.content = Some(content);
        transaction.receive_header(&header);
        if !transaction.header.is_complete() {
            transaction.content = None;
            let text = "Message header has too many fields";
            return refuse(Reply::fixed(552, EnhancedCode(5, 3, 4), text));
        }
        // Ours stands in front of whatever the message had before.
        let ticket = transaction.header.named(DELEGATION_FIELD).next().map(DelegationTicket::parse);
        let stored = match ticket {
            Some(Some(ticket)) => {
                transaction.remove_delegation();
                stored(&transaction, ticket)
            }
            missing => {
                let why = if missing.is_some() { "unreadable" } else { "missing" };
                Record::at(log::Level::Warn, "delegation-unknown")
                    .field("id", id)
                    .field("client", &transaction.client_ip)
                    .field("header", why)
                    .emit();
                None
            }
        };
        transaction.content = None;
        match stored {
            Some(stored) => Judged::Store { messages: vec![stored], reply: None },
            None => refuse(not_expected()),
        }
    }
}

impl Transaction {
    /// Removes what claims to be the field of a delegation.
    pub(super) fn remove_delegation(&mut self) {
        while self.remove_header(DELEGATION_FIELD) {}
    }
}

/// What somebody hears who brings what nobody waits for.
pub fn not_expected() -> Reply {
    Reply::fixed(554, EnhancedCode(5, 7, 1), "No message is expected back under this id and token")
}

/// In the words of the queue-manager's edge. What comes where others come in too may be a message like theirs.
pub(super) fn returned(ticket: DelegationTicket, or_new: bool) -> Returned {
    Returned { id: ticket.id.into(), token: ticket.token.to_bytes(), or_new }
}

/// What the queue-manager is asked to take. It knows the envelope; this one only says what the service says of the octets.
fn stored(transaction: &Transaction, ticket: DelegationTicket) -> Option<Stored> {
    let mail = transaction.mail.as_ref()?;
    let recipient = |spec: &RcptSpec| Recipient {
        chosen: false,
        address: spec.address.clone(),
        original: None,
        notify: vsmtp_mail::Notify::default(),
        class: RecipientClass::Other,
        next_hop: NextHop::Mailbox(MailboxFormat::Maildir),
    };
    let envelope = Envelope {
        reverse_path: mail.reverse_path.clone(),
        body: mail.body,
        smtputf8: mail.smtputf8,
        ret: None,
        envid: None,
        demands: vsmtp_mail::Demands::default(),
        terms: vsmtp_mail::Terms::default(),
        recipients: transaction.recipients.iter().map(|entry| recipient(&entry.spec)).collect(),
    };
    Some(Stored {
        envelope,
        expanded: Vec::new(),
        pieces: pieces(transaction),
        disposition: Disposition::Active,
        judged: false,
        notices: Vec::new(),
        returned: Some(returned(ticket, false)),
    })
}

/// To whom a message is given, in the words of the queue-manager's edge.
pub(super) fn on_the_wire(delegated: &Delegated, stage: Stage, hold: Option<&str>) -> Disposition {
    let SmtpService { address, timeout, return_within, open, .. } = &*delegated.service;
    Disposition::Delegate(Box::new(Delegate {
        stage: if stage == Stage::Delivery { PostStage::Delivery } else { PostStage::Postq },
        directive: delegated.directive.to_string(),
        address: *address,
        timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        return_within_s: u32::try_from(return_within.as_secs()).unwrap_or(u32::MAX),
        open: *open,
        hold: hold.map(str::to_owned),
    }))
}
