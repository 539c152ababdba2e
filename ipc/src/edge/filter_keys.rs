//! filter → keys. The filter asks which keys a domain signs its mail with, and has fields signed by them; each question is
//! answered once, in order. At most [`CREDITS`] in flight. There is no message that carries a private key.

use bincode::{Decode, Encode};

use super::client_resolver::SignatureAlgorithm;
use crate::channel::{Channel, Message};

/// Questions in flight.
pub const CREDITS: u32 = 64;
/// Most octets that are signed at once: the fields that a signature covers.
pub const MAX_DATA: usize = 1 << 20;
/// Most keys of one domain.
pub const MAX_KEYS: usize = 16;

/// From the filter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Ask {
    /// Which keys does this domain have?
    Keys {
        /// Comes back in the answer.
        ticket: u64,
        /// In lower case.
        domain: String,
    },
    /// Sign this.
    Sign {
        /// Comes back in the answer.
        ticket: u64,
        /// The domain whose key it is, in lower case.
        domain: String,
        /// Which of its keys, from 0.
        number: u32,
        /// Fields as they are signed; the last of them is a signature of that domain, still empty, and nothing else is
        /// signed.
        data: Vec<u8>,
    },
}

/// From the key holder.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To `Keys`: what each key signs with; none if the domain has none.
    Keys {
        /// Of the question.
        ticket: u64,
        /// At most [`MAX_KEYS`].
        algorithms: Vec<SignatureAlgorithm>,
    },
    /// To `Sign`.
    Signed {
        /// Of the question.
        ticket: u64,
        /// `None`: there is no such key any more, or this is not for it to sign.
        signature: Option<Vec<u8>>,
    },
}

impl Message for Ask {}
impl Message for Answer {}

/// The filter's end.
pub type FilterEnd = Channel<Ask, Answer>;
/// The key holder's end.
pub type KeysEnd = Channel<Answer, Ask>;
