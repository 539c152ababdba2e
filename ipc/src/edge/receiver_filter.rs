//! receiver → filter (session). The receiver asks, the filter answers; only `Wanted` comes unasked, first of all.
//!
//! One question in flight per session, at most [`CREDITS`] on the edge. Session facts travel with each question, so that a
//! restarted filter can go on; a `Message` whose earlier questions went to a dead filter is answered with 451.

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::wire::{Body, Grant, Id, MailFrom, RcptTo, Reply, Service, Tls};

/// Questions in flight.
pub const CREDITS: u32 = 256;

/// What the receiver knows of a session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Facts {
    /// Unique within this edge.
    pub session: u64,
    /// What the client came for.
    pub service: Service,
    /// Client address; `None` on a local socket.
    pub client: Option<(std::net::IpAddr, u16)>,
    /// The confirmed name of that address, if it has one.
    pub client_name: Option<String>,
    /// Our address as the client sees it.
    pub server: Option<(std::net::IpAddr, u16)>,
    /// User of a local submitter.
    pub uid: Option<u32>,
    /// When the session began, in milliseconds since 1970.
    pub connected_ms: u64,
    /// HELO name, once said.
    pub helo: Option<String>,
    /// What a TLS handshake has agreed on; `None` in clear.
    pub tls: Option<Tls>,
    /// EHLO rather than HELO.
    pub esmtp: bool,
    /// What the auth helper gave for this session; it is asked who that is.
    pub grant: Option<Grant>,
}

/// A question.
#[derive(Debug, Encode, Decode)]
pub enum Ask {
    /// Rules of connect.
    Connect(Facts),
    /// Rules of helo; the name is in the facts.
    Helo(Facts),
    /// Rules of authenticate: the helper has granted what is in the facts, and is asked who that is.
    Authenticate(Facts),
    /// Rules of mail. Begins a transaction.
    Mail(Facts, MailFrom),
    /// RCPT commands that came together. Answered by as many decisions, in order. If no `Mail` was asked, this begins
    /// the transaction, so the sender is said again.
    Recipients {
        /// Facts.
        facts: Facts,
        /// MAIL FROM of this transaction.
        mail: MailFrom,
        /// At least one.
        recipients: Vec<RcptTo>,
    },
    /// A chunk of a large body; one sealed memfd. Answered by `ChunkStored`.
    Chunk {
        /// The session.
        session: u64,
        /// The message.
        id: Id,
        /// Octets before this chunk.
        offset: u64,
        /// Octets in it.
        len: u64,
    },
    /// The whole message: judge it and submit it. A `Memfd` body brings one descriptor; a `File` body went by chunks.
    Message {
        /// Facts.
        facts: Facts,
        /// Its id, already in its Received field.
        id: Id,
        /// Its bytes, our Received field first.
        body: Body,
        /// Octets of our Received field at the start of the body.
        trace_len: u32,
    },
    /// The transaction was given up (RSET, EHLO, refused, cut off). Not answered.
    Reset {
        /// The session.
        session: u64,
        /// A large body to discard.
        id: Option<Id>,
    },
    /// The session is over. Not answered.
    Forget {
        /// The session.
        session: u64,
    },
}

/// What to do with a command.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Decision {
    /// Go on, with the usual reply or this one.
    Accept(Option<Reply>),
    /// Say this; the session goes on.
    Refuse(Reply),
    /// Say this and close.
    Close(Reply),
}

/// An answer.
#[derive(Debug, Encode, Decode)]
pub enum Verdict {
    /// First of all: which stages have rules. The others are not asked.
    Wanted {
        /// Ask at connect.
        connect: bool,
        /// Ask at helo.
        helo: bool,
        /// Ask when the helper has granted something; otherwise its word is enough.
        authenticate: bool,
        /// Ask at mail.
        mail: bool,
    },
    /// To `Connect`, `Helo`, `Authenticate`, `Mail`, `Message`. An accepted `Message` is on stable storage.
    Decided {
        /// The session.
        session: u64,
        /// What to do.
        decision: Decision,
    },
    /// To `Recipients`.
    Recipients {
        /// The session.
        session: u64,
        /// As many as were asked.
        decisions: Vec<Decision>,
    },
    /// To `Chunk`.
    ChunkStored {
        /// The session.
        session: u64,
        /// What became of it.
        kept: Kept,
    },
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Kept {
    /// It is stored.
    Stored,
    /// The disk is full; the message gets 452.
    NoRoom,
    /// The queue or its disk is busy or fails, or nobody knows; the message gets 451.
    Unavailable,
}

impl Message for Ask {
    fn descriptors(&self) -> usize {
        match self {
            Ask::Chunk { .. } | Ask::Message { body: Body::Memfd(_), .. } => 1,
            _ => 0,
        }
    }
}

impl Message for Verdict {}

/// The receiver's end.
pub type ReceiverEnd = Channel<Ask, Verdict>;
/// The filter's end.
pub type FilterEnd = Channel<Verdict, Ask>;
