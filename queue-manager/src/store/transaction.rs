//! What the queue asks of the store, and what it hears back. A transaction is all or nothing, also after a crash.

use std::fmt;
use std::io;
use std::sync::Arc;

use vsmtp_mail::QueueId;

use super::body::Chunk;
use super::message::{MessageState, RecipientState, RemoveReason, StateChange};
use super::staging::StagedBody;

/// Names a transaction until its [`Event::Completed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// When a transaction must be durable, and when it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Synced at once with whatever else is there; reported when that is done. Every accept is.
    Durable,
    /// Written at once, so that the death of this process cannot undo it, and reported then. Synced with the next
    /// durable transaction or after a short while: a power cut before that undoes it.
    Lazy,
    /// Written at once, synced as a lazy one, and reported when that is done.
    Background,
}

/// The body of a new message.
#[derive(Debug)]
pub enum NewBody {
    /// At most [`super::layout::MAX_INLINE_BODY`] octets.
    Inline(Vec<Chunk>),
    /// A file that was staged chunk by chunk.
    Staged(StagedBody),
}

/// One change of the queue.
#[derive(Debug)]
pub enum Change {
    /// A new message.
    Accept {
        /// Its id; must not be in the queue.
        id: QueueId,
        /// Everything but the body; whoever accepts it often needs it too.
        state: Arc<MessageState>,
        /// The body.
        body: NewBody,
    },
    /// The whole state of a message once more: envelope, progress and pieces may all be new.
    Revise {
        /// The message.
        id: QueueId,
        /// Its new state.
        state: Box<MessageState>,
    },
    /// What became of some recipients, by their place in the envelope.
    Outcome {
        /// The message.
        id: QueueId,
        /// At most one per recipient.
        results: Vec<(u32, RecipientState)>,
    },
    /// A change of the whole message.
    State {
        /// The message.
        id: QueueId,
        /// The change.
        change: StateChange,
    },
    /// The message leaves the queue.
    Remove {
        /// The message.
        id: QueueId,
        /// Why.
        reason: RemoveReason,
    },
}

impl Change {
    /// The message that changes.
    pub fn id(&self) -> QueueId {
        match self {
            Change::Accept { id, .. }
            | Change::Revise { id, .. }
            | Change::Outcome { id, .. }
            | Change::State { id, .. }
            | Change::Remove { id, .. } => *id,
        }
    }
}

/// Changes that are committed together.
#[derive(Debug)]
pub struct Transaction {
    /// At least one, at most [`super::layout::MAX_TRANSACTION_RECORDS`].
    pub changes: Vec<Change>,
    /// Ignored, as if [`Urgency::Durable`], if a message is accepted.
    pub urgency: Urgency,
}

impl Transaction {
    /// One change.
    pub fn one(change: Change, urgency: Urgency) -> Self {
        Transaction { changes: vec![change], urgency }
    }
}

/// Why a transaction was not even tried. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// A message of this id is in the queue, or on its way into it.
    Duplicate(QueueId),
    /// No such message, or it is on its way in or out.
    Unknown(QueueId),
    /// It does not fit: too many octets, records, pieces or recipients.
    TooLarge,
    /// No change, no recipient, or progress for another number of recipients.
    Empty,
    /// Too much is on its way to the disk; try again after the next completion.
    Busy,
    /// The disk is, or is about to be, full. 452 4.3.1 for the client.
    Full,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::Duplicate(id) => write!(f, "message {id} is already in the queue"),
            SubmitError::Unknown(id) => write!(f, "message {id} is not in the queue"),
            SubmitError::TooLarge => f.write_str("transaction is too large for the store"),
            SubmitError::Empty => f.write_str("transaction is empty or inconsistent"),
            SubmitError::Busy => f.write_str("too much is on its way to the disk"),
            SubmitError::Full => f.write_str("queue disk is full"),
        }
    }
}

impl std::error::Error for SubmitError {}

/// Why a transaction failed. It may be submitted again. None of it is seen after a crash, unless the disk also refused
/// the header of another segment that makes it void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitError {
    /// There is no room for new messages. 452 4.3.1 for the client.
    Full,
    /// The disk failed. 451 4.3.0 for the client.
    Failed(io::ErrorKind),
}

impl CommitError {
    pub(super) fn from_disk(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CommitError::Full,
            kind => CommitError::Failed(kind),
        }
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitError::Full => f.write_str("queue disk is full"),
            CommitError::Failed(kind) => write!(f, "queue disk failed: {kind}"),
        }
    }
}

impl std::error::Error for CommitError {}

/// Something an operator should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// A write or sync of a segment failed; it was closed and will not be written again.
    SegmentFailed {
        /// The segment's file number.
        number: u64,
        /// What was tried.
        during: &'static str,
        /// The system's answer.
        error: String,
    },
    /// No segment could be made ready.
    NoSegment(String),
    /// A stored message does not match its checksum.
    Unreadable(QueueId, String),
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alarm::SegmentFailed { number, during, error } => {
                write!(f, "{during} of queue segment {number} failed, segment closed: {error}")
            }
            Alarm::NoSegment(error) => write!(f, "no queue segment could be made ready: {error}"),
            Alarm::Unreadable(id, error) => write!(f, "message {id} is unreadable: {error}"),
        }
    }
}

/// What the store reports after its wake-up call.
#[derive(Debug)]
pub enum Event {
    /// A transaction has come to its end.
    Completed {
        /// Which one.
        ticket: Ticket,
        /// Whether it is in the log.
        result: Result<(), CommitError>,
    },
    /// Something an operator should hear of.
    Alarm(Alarm),
}
