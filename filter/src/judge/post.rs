//! Rules that run when the message is in the queue: postq and delivery. What they change becomes the message's next
//! revision; when they fail, nothing changes and they run again later.

use std::sync::Arc;

use vsmtp_ipc::edge::filter_queue::Disposition;
use vsmtp_ipc::edge::queue_filter::Resume;
use vsmtp_ipc::wire::{Notice, Piece, Reports};
use vsmtp_mail::{Address, Envelope, Expanded, QueueId, Reply, Terms, Wishes};

use super::delegation;
use super::message::{notices, pieces, read_header};
use super::{Judge, ResumeAt};
use crate::policy::Routed;
use crate::stage::Stage;
use crate::status::Status;
use crate::transaction::{Content, Entry, MailSpec, Peer, RcptSpec, Shared, Transaction};
use crate::triage::{HandledSender, Part, Scripts};

/// A message of the queue.
#[derive(Debug)]
pub struct PostMessage {
    /// Its id.
    pub id: QueueId,
    /// Postq or delivery; `None` if only the routing tables are asked.
    pub stage: Option<Stage>,
    /// It is a report of ours, which is signed.
    pub is_report: bool,
    /// The routing tables choose the next hops anew.
    pub reroute: bool,
    /// Its envelope.
    pub envelope: Envelope,
    /// Where it came from.
    pub peer: Peer,
    /// HELO name of its session.
    pub helo: String,
    /// When it was received, in milliseconds since 1970.
    pub arrived_ms: u64,
    /// Where the rules of the stage go on: a service has had it, or was to have it.
    pub resume: Option<Resume>,
    /// Its bytes.
    pub content: Arc<dyn Content>,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostJudged {
    /// Go on as it is.
    Keep {
        /// A rule accepted it for all later stages.
        is_final: bool,
    },
    /// Go on changed.
    Edit(Box<Edit>),
    /// All recipients fail, and are reported so.
    Refuse(Reply, Reports),
    /// A rule failed: ask again later.
    Unavailable,
}

/// What a message is from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Its envelope.
    pub envelope: Envelope,
    /// Aliases for several of which the sender wants to hear.
    pub expanded: Vec<Expanded>,
    /// What becomes of it.
    pub disposition: Disposition,
    /// How its bytes are put together; empty: unchanged.
    pub pieces: Vec<Piece>,
    /// Mails that rules want sent about it.
    pub notices: Vec<Notice>,
}

impl Judge {
    /// Runs the rules of a stage after the queue; those of delivery too, if rules of postq changed the message.
    pub fn post(&self, message: PostMessage) -> PostJudged {
        let PostMessage { envelope, content, .. } = &message;
        if message.is_report {
            return self.signed_report(&message);
        }
        let Some(stage) = message.stage else { return self.rerouted(&message) };
        let header = match read_header(&**content, self.max_header.saturating_mul(2)) {
            Ok(Some(header)) => header,
            Ok(None) => return self.rerouted(&message),
            Err(error) => {
                log::error!("event=body-unreadable id={} error=\"{error}\"", message.id);
                return PostJudged::Unavailable;
            }
        };
        let shared = Shared::new(self.reopen(&message, stage, &header));
        match self.judged(&shared, stage, envelope) {
            // The queue commits an edit as the last word about a message and asks no more, so that an edit never happens
            // twice: the rules of delivery must have their say in it.
            (PostJudged::Edit(edit), false)
                if stage == Stage::Postq && edit.disposition == Disposition::Active =>
            {
                shared.lock().stage = Stage::Delivery;
                self.judged(&shared, Stage::Delivery, envelope).0
            }
            (judged, _) => judged,
        }
    }

    /// What one stage makes of the transaction, and whether a rule accepted it for all later stages.
    fn judged(&self, shared: &Shared, stage: Stage, before: &Envelope) -> (PostJudged, bool) {
        let (status, failed) = self.run_or_fail(shared, stage);
        if failed {
            return (PostJudged::Unavailable, false);
        }
        let is_final = matches!(status, Status::FinalAccept(_));
        let transaction = shared.lock();
        let disposition = match status {
            Status::Deny(reply) | Status::Reject(reply) => {
                return (PostJudged::Refuse(reply, reports(&transaction)), false);
            }
            Status::Quarantine(name) => Disposition::Quarantine(name.into()),
            Status::Delegated(to) => delegation::on_the_wire(&to, stage, transaction.hold.as_deref()),
            _ => transaction.disposition(),
        };
        match self.rebuilt(before, &transaction, disposition) {
            PostJudged::Keep { .. } => (PostJudged::Keep { is_final }, is_final),
            judged => (judged, is_final),
        }
    }

    /// What the routing tables alone make of a message.
    pub(super) fn rerouted(&self, message: &PostMessage) -> PostJudged {
        let transaction = self.reopen(message, Stage::Postq, b"");
        self.rebuilt(&message.envelope, &transaction, Disposition::Active)
    }

    fn reopen(&self, message: &PostMessage, stage: Stage, header: &[u8]) -> Transaction {
        let envelope = &message.envelope;
        let mut transaction = Transaction::new(Arc::new(message.peer.clone()), self.max_recipients);
        transaction.helo = Some(message.helo.as_str().into());
        transaction.begin(MailSpec {
            reverse_path: envelope.reverse_path.clone(),
            body: envelope.body,
            smtputf8: envelope.smtputf8,
            ret: envelope.ret,
            envid: envelope.envid.clone(),
            demands: envelope.demands,
            wishes: Wishes::default(),
            at_ms: message.arrived_ms,
        });
        transaction.stage = stage;
        transaction.terms = envelope.terms.clone();
        if let Some(Resume { directive, skip, hold }) = &message.resume {
            transaction.resume = Some(ResumeAt { stage, directive: directive.clone(), skip: *skip });
            transaction.hold = hold.as_deref().map(Into::into);
        }
        transaction.id = Some(message.id);
        transaction.sender = self.scripts.sender(&envelope.reverse_path);
        let is_trusted = self.policy.is_trusted(&transaction.peer);
        let kept = envelope.terms.rules.as_ref().and_then(|rules| self.scripts.part_kept(rules));
        let part =
            kept.unwrap_or_else(|| self.part_guessed(transaction.sender.as_ref(), is_trusted, envelope));
        transaction.part = part.clone();
        // The next hops were decided when the message was taken: they stay unless a rule or an operator changes them. What a
        // rule of rcpt or preq has chosen stays in any case, for those rules do not run again.
        transaction.recipients = envelope
            .recipients
            .iter()
            .map(|recipient| Entry {
                spec: RcptSpec {
                    address: recipient.address.clone(),
                    original: recipient.original.clone(),
                    notify: recipient.notify,
                },
                transport: (recipient.chosen || !message.reroute).then(|| recipient.next_hop.clone()),
                chosen: recipient.chosen,
                by_rule: false,
                part: part.clone(),
            })
            .collect();
        transaction.receive_header(header);
        transaction.body_offset = header.len() as u64;
        transaction.content = Some(Arc::clone(&message.content));
        transaction
    }

    /// Whose rules judge a message of the queue with which that was not kept, or whose domain has none any more. Its
    /// recipients were kept together for that; an alias may have led them out of the domain whose they were, which its name
    /// for reports tells.
    fn part_guessed(&self, sender: Option<&HandledSender>, is_trusted: bool, envelope: &Envelope) -> Part {
        let Some(first) = envelope.recipients.first() else { return Scripts::part_of_sender(sender) };
        let named = first.original.as_ref().and_then(|original| Address::parse(&original.address).ok());
        let domains = [Some(first.address.domain()), named.as_ref().map(Address::domain)];
        let mut parts = domains
            .into_iter()
            .flatten()
            .map(|domain| self.scripts.part_of_recipient(sender, is_trusted, domain));
        let first = parts.next().unwrap_or_default();
        let is_found = matches!(first, Part::Incoming(_) | Part::Internal(_));
        parts.find(|part| !is_found && matches!(part, Part::Incoming(_))).unwrap_or(first)
    }

    fn rebuilt(&self, before: &Envelope, transaction: &Transaction, disposition: Disposition) -> PostJudged {
        let sender = transaction.mail.as_ref().map_or(&before.reverse_path, |mail| &mail.reverse_path);
        let Routed { recipients, expanded } = match self.policy.route(sender, &transaction.told_recipients())
        {
            Ok(routed) => routed,
            Err(reply) => return PostJudged::Refuse(reply, reports(transaction)),
        };
        let terms = transaction.terms.clone();
        let envelope = Envelope { reverse_path: sender.clone(), recipients, terms, ..before.clone() };
        let (pieces, notices) = (pieces(transaction), notices(transaction));
        if envelope == *before
            && pieces.is_empty()
            && notices.is_empty()
            && disposition == Disposition::Active
        {
            return PostJudged::Keep { is_final: false };
        }
        PostJudged::Edit(Box::new(Edit { envelope, expanded, disposition, pieces, notices }))
    }
}

/// What rules have asked of reports, those of earlier stages too.
fn reports(transaction: &Transaction) -> Reports {
    let Terms { report_text, report_from, .. } = &transaction.terms;
    Reports {
        text: report_text.as_deref().map(str::to_owned),
        from: report_from.as_ref().map(Address::to_string),
        suppressed: transaction.is_quiet,
    }
}
