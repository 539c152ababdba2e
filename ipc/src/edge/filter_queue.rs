//! filter (session) → queue-manager. The filter submits, the queue-manager answers. At most [`CREDITS`] in flight.
//!
//! `Stored` is sent only after the message is on stable storage. The queue-manager checks every field again: a captured
//! filter can submit bad mail, but not a bad record.

use std::net::SocketAddr;

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::edge::queue_filter::PostStage;
use crate::wire::{Body, Envelope, Expanded, Id, Notice, Origin, Piece};

/// Submissions in flight.
pub const CREDITS: u32 = 64;

/// What becomes of an accepted message first.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Disposition {
    /// Deliver it.
    Active,
    /// Keep it until an operator releases it, for this reason.
    Hold(String),
    /// Keep it under this name.
    Quarantine(String),
    /// Give it to a service and wait for it to come back. Only a verdict after the queue may say so.
    Delegate(Box<Delegate>),
}

/// To whom a message is given before rules go on, and where they go on then.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Delegate {
    /// Postq or delivery.
    pub stage: PostStage,
    /// The directive at which they go on; at most [`vsmtp_mail::MAX_DELEGATE_NAME`] octets.
    pub directive: String,
    /// The service.
    pub address: SocketAddr,
    /// How long each of its answers may take, in milliseconds.
    pub timeout_ms: u32,
    /// How long it may keep the message, in seconds.
    pub return_within_s: u32,
    /// Go on without it if it fails.
    pub open: bool,
    /// A rule before wants the message held when all is done, and why; may be empty.
    pub hold: Option<String>,
}

/// A message that a service brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Returned {
    /// The id under which it was given away.
    pub id: Id,
    /// The secret that went with it.
    pub token: [u8; vsmtp_mail::Token::LEN],
    /// If nothing is away under these, it is a message like any other: it came where others come in too, and was judged.
    pub or_new: bool,
}

/// A request.
#[derive(Debug, Encode, Decode)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are Message, and a box would cost each one an allocation"
)]
pub enum Submit {
    /// Take this message. A `Memfd` body brings one descriptor; a `File` body was sent by chunks under this id.
    Message(NewMessage),
    /// Append to the staging file of that id; one sealed memfd.
    Chunk {
        /// Comes back in the receipt.
        ticket: u64,
        /// The message.
        id: Id,
        /// Octets before this chunk.
        offset: u64,
        /// Octets in it.
        len: u64,
    },
    /// Send a read-only descriptor of the staging file, so that it can be judged.
    OpenStaged {
        /// Comes back in the receipt.
        ticket: u64,
        /// The message.
        id: Id,
    },
    /// Forget the staging file of that id. Not answered.
    Discard(Id),
}

/// A message that policy accepted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NewMessage {
    /// Comes back in the receipt.
    pub ticket: u64,
    /// Its id; one that is already known is refused.
    pub id: Id,
    /// When it was received, in milliseconds since 1970.
    pub arrived_ms: u64,
    /// The envelope.
    pub envelope: Envelope,
    /// Where it came from.
    pub origin: Origin,
    /// What becomes of it.
    pub disposition: Disposition,
    /// A rule has accepted it for good: those of postq and delivery are not asked.
    pub judged: bool,
    /// Aliases for several of which the sender wants to hear; at most [`vsmtp_mail::MAX_RECIPIENTS`].
    pub expanded: Vec<Expanded>,
    /// Mails that rules want sent about it; at most [`crate::wire::MAX_NOTICES`].
    pub notices: Vec<Notice>,
    /// How its bytes are put together; empty: the body as it is.
    pub pieces: Vec<Piece>,
    /// A service brings it back: it takes the place of that message, whose envelope and origin count.
    pub returned: Option<Returned>,
    /// The bytes.
    pub body: Body,
}

/// Why the queue did not take a message. All are transient for the client, but `NotDelegated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
    /// The disk is full, or nearly: 452 4.3.1.
    Full,
    /// The write or the sync failed: 451 4.3.0.
    Disk,
    /// The id is known already: 451 4.3.0.
    Repeated,
    /// Shutting down or overloaded: 451 4.3.2.
    Busy,
    /// No such message is with a service, or its time is over: 554 5.7.1.
    NotDelegated,
}

/// An answer.
#[derive(Debug, Encode, Decode)]
pub enum Receipt {
    /// The message is on stable storage.
    Stored {
        /// Of the request.
        ticket: u64,
    },
    /// It is not, and will not be.
    Refused {
        /// Of the request.
        ticket: u64,
        /// Why.
        why: Refusal,
    },
    /// The chunk is appended (not yet durable).
    ChunkStored {
        /// Of the request.
        ticket: u64,
    },
    /// The staging file, read-only; one descriptor.
    Staged {
        /// Of the request.
        ticket: u64,
    },
}

impl Message for Submit {
    fn descriptors(&self) -> usize {
        match self {
            Submit::Chunk { .. } => 1,
            Submit::Message(message) => usize::from(matches!(message.body, Body::Memfd(_))),
            Submit::OpenStaged { .. } | Submit::Discard(_) => 0,
        }
    }
}

impl Message for Receipt {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Receipt::Staged { .. }))
    }
}

/// The filter's end.
pub type FilterEnd = Channel<Submit, Receipt>;
/// The queue-manager's end.
pub type QueueEnd = Channel<Receipt, Submit>;
