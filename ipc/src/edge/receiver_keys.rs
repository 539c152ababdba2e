//! receiver → keys. The key holder speaks first: all certificates, then the secrets of session tickets; both again
//! whenever they change. Then the receiver asks for signatures, at most [`CREDITS`] at once, and each is answered once, in
//! order. There is no message that carries a private key.

use std::fmt;

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};

/// Signatures in flight.
pub const CREDITS: u32 = 64;
/// How long a handshake waits for its signature, in milliseconds.
pub const SIGN_MS: u64 = 1_000;
/// Most octets that are signed at once: what a TLS handshake signs is shorter (RFC 8446 4.4.3, RFC 8422 5.4).
pub const MAX_SIGNED: usize = 256;
/// Most certificates.
pub const MAX_CERTIFICATES: usize = 1024;

/// From the receiver.
#[derive(Debug, Encode, Decode)]
pub enum Ask {
    /// Sign this with that key, in that scheme (a number of the TLS registry).
    Sign {
        /// Comes back in the answer.
        ticket: u64,
        /// As in [`Certificate::key`].
        key: u32,
        /// One of [`Certificate::schemes`].
        scheme: u16,
        /// What a TLS handshake signs, and nothing else.
        message: Vec<u8>,
    },
}

/// A certificate that receivers may show.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Certificate {
    /// The number of its private key, never used again for another one while the key holder lives.
    pub key: u32,
    /// DER, the server's own certificate first.
    pub chain: Vec<Vec<u8>>,
    /// DNS names in it, in lower case.
    pub names: Vec<String>,
    /// What its key can do, as numbers of the TLS registry, the preferred one first.
    pub schemes: Vec<u16>,
    /// For clients that ask for no name, or for one that nobody has.
    pub is_default: bool,
}

/// A secret of session tickets.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// From the key holder.
#[derive(Debug, Encode, Decode)]
pub enum Answer {
    /// All certificates, and the authorities (DER) that those of clients may lead to. Replaces what was said before.
    Certificates {
        /// At most [`MAX_CERTIFICATES`].
        certificates: Vec<Certificate>,
        /// For client certificates.
        client_authorities: Vec<Vec<u8>>,
    },
    /// The secrets of session tickets, the current one first, then the one before it.
    Tickets(Vec<Secret>),
    /// To `Sign`.
    Signed {
        /// Of the question.
        ticket: u64,
        /// `None`: there is no such key any more.
        signature: Option<Vec<u8>>,
    },
}

impl Message for Ask {}
impl Message for Answer {}

/// The receiver's end.
pub type ReceiverEnd = Channel<Ask, Answer>;
/// The key holder's end.
pub type KeysEnd = Channel<Answer, Ask>;
