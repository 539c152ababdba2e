//! What a session remembers between two calls.

use std::fmt;

use super::Dropped;
use crate::command::ChunkRequest;
use crate::data::DataDecoder;
use crate::reply::Own;

/// Where the dialogue is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nobody was asked about the client yet.
    Start,
    /// Greeted; no name yet.
    Greeted,
    /// The client has a name; no transaction.
    Ready,
    /// A transaction is open.
    Mail(Transaction),
    /// A message comes in, or its next chunk may.
    Body(Box<Body>),
    /// The next line belongs to an AUTH exchange.
    Auth,
    /// STARTTLS was granted, and the handshake is to come.
    Handshake,
    /// The session ends; an open transaction is still to be reported.
    Closing(Option<Dropped>),
    /// The transaction was dropped, which is to be reported; the name stays.
    Reported(Dropped),
}

/// What the session itself must know of an open transaction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Transaction {
    pub accepted: u32,
    pub refused: u32,
    /// Recipients beyond the limit.
    pub excess: u32,
    pub smtputf8: bool,
    pub binary: bool,
}

/// A message that comes in.
#[derive(Debug)]
pub(super) struct Body {
    pub transaction: Transaction,
    pub decoder: DataDecoder,
    pub part: Part,
    /// The fault was reported to the caller.
    pub reported: bool,
}

/// What of a message comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it up to the dot.
    UpToTheDot,
    /// A chunk, of which so many octets are still to come.
    Chunk { left: u64, last: bool },
    /// Another BDAT.
    Command,
}

/// The question that is open.
#[derive(Debug)]
pub(super) enum Open {
    Connect,
    Hello {
        extended: bool,
    },
    StartTls,
    Auth,
    Mail {
        smtputf8: bool,
        binary: bool,
        /// What is said if policy accepts it, and gives no text.
        yes: Own,
    },
    Recipients {
        count: usize,
    },
    /// With the first chunk, if the message comes in chunks.
    Data {
        chunk: Option<ChunkRequest>,
    },
    Message {
        recipients: u32,
    },
}

/// Input that could not be handled yet, and the skipping of a broken line. It may hold a password.
#[derive(Default)]
pub(super) struct Input {
    pub pending: Vec<u8>,
    /// Octets skipped so far of a line that was answered already.
    pub skipping: Option<usize>,
    /// A chunk that was refused, and is read and thrown away.
    pub refused: Option<RefusedChunk>,
    /// A message by BDAT was refused: chunks of it may still be on their way.
    pub strays: bool,
}

/// A chunk that was refused.
#[derive(Debug)]
pub(super) struct RefusedChunk {
    /// Octets that are still to come.
    pub left: u64,
    /// What is said when they are gone (RFC 3030 2).
    pub reply: Vec<u8>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({} octets, skipping {:?})", self.pending.len(), self.skipping)
    }
}

impl Body {
    /// Why the message is not kept, the first time that this is asked and so.
    pub fn report(&mut self) -> Option<Dropped> {
        let fault = self.decoder.fault().filter(|_| !self.reported)?;
        self.reported = true;
        Some(Dropped::Body(fault))
    }
}

impl Phase {
    /// Takes the report of a dropped transaction, once.
    pub fn take_dropped(&mut self) -> Option<Dropped> {
        match self {
            Phase::Closing(why) => why.take(),
            Phase::Reported(why) => {
                let why = *why;
                *self = Phase::Ready;
                Some(why)
            }
            _ => None,
        }
    }
}
