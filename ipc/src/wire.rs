//! The wire's own copies of mail's vocabulary. Nothing here is trusted: the `TryFrom` at the door re-parses every field,
//! whoever sent it, and its error closes the edge. Here is that error, and what every part uses.

mod body;
mod brakes;
mod envelope;
mod recipient;
mod reply;
mod reports;
mod secret;
mod session;
mod terms;

use std::fmt;

use bincode::{Decode, Encode};
use vsmtp_mail as mail;

pub use body::{
    Body, CHUNK, MAX_INLINE_BODY, MAX_MEMFD_BODY, MAX_PIECE_TEXT, MAX_PIECES, Piece, check_pieces,
};
pub use brakes::{BRAKES_LISTED, Braked, BrakesAnswer, BrakesRequest};
pub use envelope::{Body7, Envelope, MailFrom, envid};
pub use recipient::{Class, Expanded, Notify, RcptTo, Recipient, expanded, original_recipient};
pub use reply::Reply;
pub use reports::{MAX_NOTICE_SUBJECT, MAX_NOTICE_TEXT, MAX_NOTICES, Notice, Reports};
pub use secret::{Blob, Grant};
pub use session::{ClientCertificate, Origin, Service, Tls};
pub use terms::{DeliverBy, Demands, Release, RulesOf, Terms, Wishes, priority};

/// Longest free text (diagnostics, names) that crosses an edge.
pub const MAX_TEXT: usize = 4096;

/// A field that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError(
    /// Which field.
    pub &'static str,
);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field {} is not valid", self.0)
    }
}

impl std::error::Error for WireError {}

impl From<WireError> for crate::ChannelError {
    fn from(error: WireError) -> Self {
        crate::ChannelError::Misbehaved(error.to_string())
    }
}

/// True if the text has no control characters and at most `max` octets.
pub fn clean(text: &str, max: usize) -> bool {
    text.len() <= max && !text.chars().any(char::is_control)
}

/// A queue id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Id(
    /// The binary form.
    pub [u8; mail::QueueId::LEN],
);

impl From<mail::QueueId> for Id {
    fn from(id: mail::QueueId) -> Self {
        Id(id.to_bytes())
    }
}

impl From<Id> for mail::QueueId {
    fn from(id: Id) -> Self {
        mail::QueueId::from_bytes(id.0)
    }
}
