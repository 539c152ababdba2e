//! vsmtpctl → `vsmtp-keys --role tool`, over a socket pair that vsmtpctl makes when it starts that process. One request, one
//! answer, and both end. The one edge that carries a private key: from where it is made to who writes its file.

use std::fmt;

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};

/// Most octets of a file with a key: RSA of 16,384 bits in PEM, with room for words around it.
pub const MAX_KEY_FILE: usize = 16 * 1024;

/// Which kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum KeyKind {
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits.
    Rsa4096,
    /// Ed25519 (RFC 8463).
    Ed25519,
}

/// A request.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Make a key.
    Make(KeyKind),
    /// The public half of a key: the file of the private key in PEM, at most [`MAX_KEY_FILE`].
    Publish(Vec<u8>),
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Make(kind) => write!(f, "Make({kind:?})"),
            Request::Publish(_) => f.write_str("Publish(..)"),
        }
    }
}

/// What a domain publishes of its key (RFC 6376 3.6.1, RFC 8463 4).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Published {
    /// `k=`: `rsa` or `ed25519`.
    pub algorithm: String,
    /// `p=` before it is encoded.
    pub key: Vec<u8>,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To `Make`: the private key (PKCS #8, DER) and its public half.
    Made(Vec<u8>, Published),
    /// To `Publish`.
    Published(Published),
    /// It cannot be done, with the reason.
    Failed(String),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Made(_, published) => write!(f, "Made(.., {published:?})"),
            Answer::Published(published) => write!(f, "Published({published:?})"),
            Answer::Failed(why) => write!(f, "Failed({why:?})"),
        }
    }
}

impl Message for Request {
    const IS_SECRET: bool = true;
}

impl Message for Answer {
    const IS_SECRET: bool = true;
}

/// The operator's end.
pub type CtlEnd = Channel<Request, Answer>;
/// The key holder's end.
pub type KeysEnd = Channel<Answer, Request>;
