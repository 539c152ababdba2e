//! The whole message: preq rules, then what the queue-manager is asked to store. Bytes are copied only where a rule
//! changed the header; everything else stays a range of what the client sent.

use std::io;
use std::sync::Arc;

use vsmtp_ipc::edge::filter_queue::Disposition;
use vsmtp_ipc::wire::Piece;
use vsmtp_mail::{EnhancedCode, Envelope, Expanded, QueueId, Reply, header_end};

use super::{Decision, Judge, local_error};
use crate::policy::Routed;
use crate::stage::Stage;
use crate::status::Status;
use crate::transaction::{Content, Shared, Transaction};

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
        /// Envelope with all that policy decided.
        envelope: Envelope,
        /// Aliases for several of which the sender wants to hear.
        expanded: Vec<Expanded>,
        /// How its bytes are put together; empty: as they came.
        pieces: Vec<Piece>,
        /// What becomes of it first.
        disposition: Disposition,
        /// What to say when it is stored, instead of the usual reply.
        reply: Option<Reply>,
    },
}

impl Judge {
    /// True if judging needs the bytes of this message.
    pub fn needs_content(&self, shared: &Shared) -> bool {
        let transaction = shared.lock();
        (transaction.verdict.is_none() && self.wants(Stage::Preq))
            || transaction.has_early_header()
            || transaction.authentication.is_to_be_shown()
            || transaction.is_submission()
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
        if self.needs_content(shared)
            && let Err(answer) = self.take_content(shared, source)
        {
            return Judged::Answer(answer);
        }
        let status = self.run(shared, Stage::Preq);
        let mut transaction = shared.lock();
        let judged = match status {
            Status::Deny(reply) => Judged::Answer(Decision::Close(reply)),
            Status::Reject(reply) => Judged::Answer(Decision::Refuse(reply)),
            Status::Next => self.store(&transaction, Disposition::Active, None),
            Status::Accept(reply) | Status::FinalAccept(reply) => {
                self.store(&transaction, Disposition::Active, reply)
            }
            Status::Quarantine(name) => self.store(&transaction, Disposition::Quarantine(name.into()), None),
        };
        transaction.content = None;
        judged
    }

    fn take_content(&self, shared: &Shared, source: Source) -> Result<(), Decision> {
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
        transaction.remove_forged_results();
        transaction.show_results();
        if transaction.is_submission() {
            transaction.complete_header(source.id);
        }
        Ok(())
    }

    fn store(&self, transaction: &Transaction, disposition: Disposition, reply: Option<Reply>) -> Judged {
        let Some(mail) = &transaction.mail else { return Judged::Answer(Decision::Refuse(local_error())) };
        let Routed { recipients, expanded } =
            match self.policy.route(&mail.reverse_path, &transaction.recipients) {
                Ok(routed) => routed,
                Err(reply) => return Judged::Answer(Decision::Refuse(reply)),
            };
        let envelope = Envelope {
            reverse_path: mail.reverse_path.clone(),
            body: mail.body,
            smtputf8: mail.smtputf8,
            ret: mail.ret,
            envid: mail.envid.clone(),
            demands: mail.demands,
            recipients,
        };
        let disposition = match disposition {
            Disposition::Active if transaction.hold => Disposition::Hold,
            other => other,
        };
        Judged::Store { envelope, expanded, pieces: pieces(transaction), disposition, reply }
    }
}

/// The rewritten header block and the untouched rest; nothing if the header is as it came.
pub(super) fn pieces(transaction: &Transaction) -> Vec<Piece> {
    let Some(content) = transaction.content.as_ref().filter(|_| transaction.header_changed) else {
        return Vec::new();
    };
    let rest = content.len().saturating_sub(transaction.body_offset);
    let mut pieces = vec![Piece::Text(transaction.header.to_bytes())];
    if rest > 0 {
        pieces.push(Piece::Original { offset: transaction.body_offset, len: rest });
    }
    pieces
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
