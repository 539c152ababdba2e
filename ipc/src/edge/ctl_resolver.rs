//! vsmtpctl → `vsmtp-resolver --role tool`, over a socket pair that vsmtpctl makes when it starts that process. One request,
//! one answer, and both end. Texts in answers come from strangers.

use std::net::SocketAddr;

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::edge::client_resolver::DnsError;

/// Most names in one request.
pub const MAX_NAMES: usize = 1000;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Request {
    /// Name servers to ask; none: those of this machine.
    pub servers: Vec<SocketAddr>,
    /// Names whose texts are wanted, at most [`MAX_NAMES`].
    pub names: Vec<String>,
}

/// The texts of one name, the strings of each record joined; or why there are none.
pub type Texts = Result<Vec<Vec<u8>>, DnsError>;

/// An answer: one for each name, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Answer(pub Vec<Texts>);

impl Message for Request {}
impl Message for Answer {}

/// The operator's end.
pub type CtlEnd = Channel<Request, Answer>;
/// The resolver's end.
pub type ResolverEnd = Channel<Answer, Request>;
