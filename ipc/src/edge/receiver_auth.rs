//! receiver → auth. The helper speaks first: `Offer`, and again whenever that changes. Then the receiver asks: each `Begin`,
//! `Vouch` and `Continue` is answered once. One question in flight per exchange, at most [`CREDITS`] on the edge.
//!
//! The receiver carries SASL messages (RFC 4422) and understands none. What it gets is a [`Grant`], a number that only the
//! helper can have made: the filter asks the helper for the identity behind it and never takes the receiver's word. The helper
//! takes it for a client's certificate ([`Tls`]) and for what a proxy has stated ([`Vouch`]).

use std::net::IpAddr;

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::wire::{Blob, Grant};

/// Questions in flight.
pub const CREDITS: u32 = 256;
/// How long a client waits to hear that it was wrong, whoever has judged it, in milliseconds.
pub const WRONG_MS: u32 = 1_000;
/// Longest wait of a client for its refusal, in milliseconds.
pub const MAX_WAIT_MS: u32 = 60_000;
/// Longest SASL message, in octets once decoded: the longest line of RFC 4954 4 holds no more.
pub const MAX_MESSAGE: usize = 12_288;
/// Most exchanges that are under way on one edge.
pub const MAX_EXCHANGES: usize = 70_000;
/// Most grants that are remembered for one edge: one for each session that a receiver can have.
pub const MAX_GRANTS: usize = 70_000;

/// Most names of a certificate that are told.
pub const MAX_NAMES: usize = 64;
/// Longest of them, in octets: an address (RFC 5321 4.5.3.1.3) behind its kind.
pub const MAX_NAME: usize = 264;

/// What the receiver says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Ask {
    /// AUTH: a new exchange.
    Begin(Begin),
    /// XCLIENT: a proxy has said as whom its client has authenticated there. Answered as the last word of an exchange.
    Vouch(Vouch),
    /// The client's answer to a challenge.
    Continue {
        /// As in its `Begin`.
        exchange: u64,
        /// The message.
        response: Blob,
    },
    /// The client has given the exchange up, or is gone. Not answered; a question that is open is answered at once.
    Cancel {
        /// As in its `Begin`.
        exchange: u64,
    },
    /// The session has ended, or has forgotten that it was authenticated. Not answered.
    End {
        /// What was granted.
        grant: Grant,
    },
}

/// The beginning of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Begin {
    /// Named by the receiver; may be used again when the exchange is over.
    pub exchange: u64,
    /// The mechanism's name, in upper case.
    pub mechanism: String,
    /// The initial response.
    pub initial: Option<Blob>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// Our address as the client sees it.
    pub server: Option<IpAddr>,
    /// What is known of its TLS session.
    pub tls: Option<Tls>,
}

/// A login that a proxy states.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Vouch {
    /// As in `Begin`.
    pub exchange: u64,
    /// The proxy, on the receiver's word.
    pub proxy: IpAddr,
    /// The login.
    pub login: String,
    /// The client's address, by the proxy.
    pub client: Option<IpAddr>,
}

/// What SASL needs to know of a TLS session.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Tls {
    /// Channel binding `tls-exporter` (RFC 9266); `None` before TLS 1.3.
    pub exporter: Option<[u8; 32]>,
    /// SHA-256 of the certificate that the client has shown and proved to be its own. On the receiver's word.
    pub certificate: Option<[u8; 32]>,
    /// The names in it, as configuration writes them (`email:`, `dns:`), in their order: at most [`MAX_NAMES`], each of at most
    /// [`MAX_NAME`] octets; none unless it leads to a trusted authority. On the receiver's word.
    pub names: Vec<String>,
}

/// What the helper says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// First of all, and again: the mechanisms that can be had now.
    Offer(Vec<String>),
    /// Send this to the client and come back with its answer.
    Challenge {
        /// As in its `Begin`.
        exchange: u64,
        /// The message.
        challenge: Blob,
    },
    /// The client is not who it says, which counts from now on, and has to hear this before it is over (RFC 7628 3.2.2): its answer,
    /// whatever it is, is answered by `Denied`.
    Refused {
        /// As in its `Begin`.
        exchange: u64,
        /// The message.
        challenge: Blob,
    },
    /// The client is who it says. The exchange is over.
    Granted {
        /// As in its `Begin`.
        exchange: u64,
        /// Remembered until `End`, or until this edge closes.
        grant: Grant,
        /// Who the client is: for logs.
        identity: String,
    },
    /// It is not. The exchange is over.
    Denied {
        /// As in its `Begin`.
        exchange: u64,
        /// Why.
        why: Denied,
        /// How long the client is to wait until it hears that, in milliseconds, at most [`MAX_WAIT_MS`]. The receiver waits, so
        /// that who guesses costs himself time and nobody else a question.
        wait_ms: u32,
    },
}

/// Why an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Denied {
    /// Wrong name or password; nobody is told which.
    Credentials,
    /// Nobody could be asked, or not in time.
    Temporary,
    /// A message was not what the mechanism says.
    Malformed,
    /// This mechanism is not for connections that can be listened to.
    NeedsTls,
    /// There is no such mechanism here.
    Unsupported,
    /// Too many failures of this client or this account.
    Throttled,
}

impl Message for Ask {
    const IS_SECRET: bool = true;
}
impl Message for Answer {
    const IS_SECRET: bool = true;
}

/// The receiver's end.
pub type ReceiverEnd = Channel<Ask, Answer>;
/// The helper's end.
pub type AuthEnd = Channel<Answer, Ask>;
