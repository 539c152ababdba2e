//! The whole message: preq rules, then what the queue-manager is asked to store. Bytes are copied only where a rule
//! changed the header; everything else stays a range of what the client sent.

use std::io;
use std::sync::Arc;

use vsmtp_ipc::edge::filter_queue::{Disposition, Returned};
use vsmtp_ipc::wire::{MAX_NOTICES, Notice, Piece};
use vsmtp_mail::{
    DELEGATION_FIELD, DelegationTicket, EnhancedCode, Envelope, Expanded, MAX_RECIPIENTS, QueueId, Reply,
    Terms, header_end,
};

use super::{Decision, Judge, delegation, local_error};
use crate::policy::Routed;
use crate::stage::Stage;
use crate::status::Status;
use crate::transaction::{Content, Shared, Transaction};
use crate::triage::{Part, Scripts};

/// First read of a header, in octets; most headers end before.
const FIRST_READ: usize = 16 * 1024;

/// The message as it came.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its id.
    pub id: QueueId,
    /// Its bytes; `None` if they are not at hand and no rule needs them.
    pub content: Option<Arc<dyn Content>>,
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// Tell the client this; nothing is stored.
    Answer(Decision),
    /// Store it.
    Store {
        /// What it became: one message, or several where the rules of several domains made different things of it.
        messages: Vec<Stored>,
        /// What to say when all is stored, instead of the usual reply.
        reply: Option<Reply>,
    },
}

/// One message for the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Envelope with all that policy decided.
    pub envelope: Envelope,
    /// Aliases for several of which the sender wants to hear.
    pub expanded: Vec<Expanded>,
    /// How its bytes are put together; empty: as they came.
    pub pieces: Vec<Piece>,
    /// What becomes of it first.
    pub disposition: Disposition,
    /// Rules of later stages are not to be asked.
    pub judged: bool,
    /// Mails that rules want sent about it.
    pub notices: Vec<Notice>,
    /// A service brings it back: it takes the place of that message.
    pub returned: Option<Returned>,
}

impl Judge {
    /// True if judging needs the bytes of this message.
    pub fn needs_content(&self, shared: &Shared) -> bool {
        let transaction = shared.lock();
        let parts = parts(&transaction);
        let judged = |part: &Part| {
            self.scripts.part_wants(part, Stage::Preq) && transaction.verdict_of(part).is_none()
        };
        // Several messages of one need copies of it. Rules of later stages trust what the header says in our name: what a
        // stranger said in it must be gone by then.
        parts.len() > 1
            || self.brings_back(&transaction.peer)
            || self.judges_later
            || parts.iter().any(judged)
            || transaction.has_early_header()
            || transaction.authentication.is_to_be_shown()
            || transaction.is_submission()
            // Whether a program has sent it.
            || !transaction.notices.is_empty()
    }

    /// Runs the preq rules and puts the submission together.
    pub fn message(&self, shared: &Shared, source: Source) -> Judged {
        {
            let mut transaction = shared.lock();
            transaction.stage = Stage::Preq;
            transaction.id = Some(source.id);
            if transaction.mail.is_none() {
                return Judged::Answer(Decision::Refuse(local_error()));
            }
        }
        if self.brings_back(&shared.lock().peer) {
            return self.returning_message(shared, source);
        }
        let mut ticket = None;
        if self.needs_content(shared) || self.may_come_back(shared) && claims(&source, self.max_header) {
            match self.take_content(shared, source) {
                Ok(found) => ticket = found,
                Err(answer) => return Judged::Answer(answer),
            }
        }
        let parts = parts(&shared.lock());
        let judged = match parts.as_slice() {
            [part] => {
                shared.lock().part = part.clone();
                self.judge_part(shared).map(|(stored, reply)| (vec![stored], reply))
            }
            several => self.judge_parts(shared, several),
        };
        {
            let mut transaction = shared.lock();
            transaction.content = None;
            transaction.body = None;
        }
        match judged {
            Ok((mut messages, reply)) => {
                for message in &mut messages {
                    message.returned = ticket.map(|ticket| delegation::returned(ticket, true));
                }
                Judged::Store { messages, reply }
            }
            Err(decision) => Judged::Answer(decision),
        }
    }

    /// Recipients of several parts: the rules of each see a message of their own. There is one reply to the client, so
    /// what one part refuses is refused.
    fn judge_parts(&self, shared: &Shared, parts: &[Part]) -> Result<(Vec<Stored>, Option<Reply>), Decision> {
        let mut messages: Vec<Stored> = Vec::new();
        let mut reply = None;
        for part in parts {
            let own = Shared::new(shared.lock().only(part));
            let (mut stored, said) = self.judge_part(&own)?;
            reply = reply.or(said);
            // What was said before the parts were told apart is said once.
            stored.notices.retain(|notice| !messages.iter().any(|other| other.notices.contains(notice)));
            // Rules of later stages must find their recipients apart.
            match messages.iter_mut().find(|other| !self.judges_later && other.may_take(&stored)) {
                Some(other) => note_dropped(shared, other.take(stored)),
                None => messages.push(stored),
            }
        }
        Ok((messages, reply))
    }

    /// Runs the preq rules of one part.
    fn judge_part(&self, shared: &Shared) -> Result<(Stored, Option<Reply>), Decision> {
        let status = self.run(shared, Stage::Preq);
        let transaction = shared.lock();
        let store = |disposition| self.store(&transaction, disposition);
        match status {
            Status::Deny(reply) => Err(Decision::Close(reply)),
            Status::Reject(reply) => Err(Decision::Refuse(reply)),
            Status::Next | Status::Delegated(_) => Ok((store(Disposition::Active)?, None)),
            Status::Accept(reply) => Ok((store(Disposition::Active)?, reply)),
            Status::FinalAccept(reply) => Ok((Stored { judged: true, ..store(Disposition::Active)? }, reply)),
            Status::Quarantine(name) => Ok((store(Disposition::Quarantine(name.into()))?, None)),
        }
    }

    fn take_content(&self, shared: &Shared, source: Source) -> Result<Option<DelegationTicket>, Decision> {
        let content = source.content.ok_or_else(|| Decision::Refuse(local_error()))?;
        let header = read_header(&*content, self.max_header).map_err(|error| {
            log::error!("event=body-unreadable id={} error=\"{error}\"", source.id);
            Decision::Refuse(local_error())
        })?;
        let Some(header) = header else {
            let reply = Reply::fixed(552, EnhancedCode(5, 3, 4), "Message header is too large");
            return Err(Decision::Refuse(reply));
        };
        let mut transaction = shared.lock();
        transaction.body_offset = header.len() as u64;
        transaction.content = Some(content);
        transaction.receive_header(&header);
        if !transaction.header.is_complete() {
            // What cannot be seen can be a second author, or a forged word of ours.
            let reply = Reply::fixed(552, EnhancedCode(5, 3, 4), "Message header has too many fields");
            return Err(Decision::Refuse(reply));
        }
        transaction.remove_forged_results();
        let is_plain = transaction.peer.service == Some(vsmtp_mail::Service::Smtp);
        let first = transaction.header.named(DELEGATION_FIELD).next().filter(|_| is_plain);
        let ticket = first.and_then(DelegationTicket::parse);
        transaction.remove_delegation();
        transaction.show_results();
        if transaction.is_submission() {
            transaction.complete_header(source.id);
        }
        Ok(ticket)
    }

    fn store(&self, transaction: &Transaction, disposition: Disposition) -> Result<Stored, Decision> {
        let Some(mail) = &transaction.mail else { return Err(Decision::Refuse(local_error())) };
        let routed = self.policy.route(&mail.reverse_path, &transaction.told_recipients());
        let Routed { recipients, expanded } = routed.map_err(Decision::Refuse)?;
        let rules = if self.judges_later { self.scripts.kept(&transaction.part) } else { None };
        let envelope = Envelope {
            reverse_path: mail.reverse_path.clone(),
            body: mail.body,
            smtputf8: mail.smtputf8,
            ret: mail.ret,
            envid: mail.envid.clone(),
            demands: mail.demands,
            terms: Terms { rules, ..transaction.terms.clone() },
            recipients,
        };
        let disposition = match disposition {
            Disposition::Active => transaction.disposition(),
            other => other,
        };
        let (pieces, notices) = (pieces(transaction), notices(transaction));
        Ok(Stored { envelope, expanded, pieces, disposition, judged: false, notices, returned: None })
    }
}

impl Stored {
    /// True if both are the same message for different recipients.
    fn may_take(&self, other: &Stored) -> bool {
        let sender = |stored: &Stored| stored.envelope.reverse_path.clone();
        let recipients = self.envelope.recipients.len() + other.envelope.recipients.len();
        recipients <= MAX_RECIPIENTS
            && self.pieces == other.pieces
            && self.disposition == other.disposition
            && self.judged == other.judged
            && self.envelope.terms == other.envelope.terms
            && sender(self) == sender(other)
    }

    /// Takes the other's recipients. Answers how many of its notices had no place.
    fn take(&mut self, other: Stored) -> usize {
        for recipient in other.envelope.recipients {
            let mut own = self.envelope.recipients.iter();
            if !own.any(|r| r.address == recipient.address && r.next_hop == recipient.next_hop) {
                self.envelope.recipients.push(recipient);
            }
        }
        self.expanded.extend(other.expanded);
        self.notices.extend(other.notices);
        let dropped = self.notices.len().saturating_sub(MAX_NOTICES);
        self.notices.truncate(MAX_NOTICES);
        dropped
    }
}

/// Several parts may have more to say about their one message than one may.
fn note_dropped(shared: &Shared, count: usize) {
    if count > 0 {
        let id = shared.lock().id.map(|id| id.to_string()).unwrap_or_default();
        log::warn!("event=notices-dropped id={id} count={count}");
    }
}

/// The parts of the recipients; the sender's if no recipient is left, so that its rules say what follows.
fn parts(transaction: &Transaction) -> Vec<Part> {
    let parts = transaction.parts();
    if parts.is_empty() { vec![Scripts::part_of_sender(transaction.sender.as_ref())] } else { parts }
}

/// What rules want sent about the message, unless a program has sent it.
pub(super) fn notices(transaction: &Transaction) -> Vec<Notice> {
    if transaction.may_be_answered() { transaction.notices.clone() } else { Vec::new() }
}

/// The header block and the body, as far as rules have changed them, and the untouched rest; nothing if all is as it came.
pub(super) fn pieces(transaction: &Transaction) -> Vec<Piece> {
    let is_changed = transaction.header_changed || transaction.body.is_some();
    let Some(content) = transaction.content.as_ref().filter(|_| is_changed) else {
        return Vec::new();
    };
    let offset = transaction.body_offset;
    let header = match transaction.header_changed {
        true => Piece::Text(transaction.header.to_bytes()),
        false => Piece::Original { offset: 0, len: offset },
    };
    let rest = Piece::Original { offset, len: content.len().saturating_sub(offset) };
    let is_there = |piece: &Piece| !matches!(piece, Piece::Original { len: 0, .. });
    let body: Vec<Piece> = transaction.body.as_ref().map_or(vec![rest], |body| body.pieces().collect());
    [header].into_iter().chain(body).filter(is_there).collect()
}

/// True if the header may have the field of a delegation. One that is too large to look at is left to who must.
fn claims(source: &Source, most: u64) -> bool {
    let Some(content) = &source.content else { return false };
    let name = DELEGATION_FIELD.as_bytes();
    let is_named = |header: &[u8]| header.windows(name.len()).any(|one| one.eq_ignore_ascii_case(name));
    matches!(read_header(&**content, most), Ok(Some(header)) if is_named(&header))
}

/// The header block with its empty line; `None` if it is larger than `limit`.
pub(super) fn read_header(content: &dyn Content, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(4);
    let mut want = FIRST_READ.min(limit);
    loop {
        let mut bytes = content.read(0, want)?;
        if (bytes.len() as u64) < content.len().min(want as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = header_end(&bytes);
        let is_all = bytes.len() as u64 >= content.len();
        if end < bytes.len() || is_all || bytes.get(..end).is_some_and(|block| block.ends_with(b"\r\n\r\n")) {
            bytes.truncate(end);
            return Ok((bytes.len() <= limit).then_some(bytes));
        }
        if want >= limit {
            return Ok(None);
        }
        want = want.saturating_mul(4).min(limit);
    }
}
