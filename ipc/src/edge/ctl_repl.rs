//! vsmtpctl → `vsmtp-filter --role repl`, over a socket pair that vsmtpctl makes when it starts that process. `Begin` comes first;
//! each request has one answer, and the next comes after it. Texts in answers come from scripts and from mail.

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::edge::ctl_filter::Problem;
use crate::edge::master_child::Evaluate;

/// Most octets of one statement.
pub const MAX_LINE: usize = 64 * 1024;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// With this configuration.
    Begin(Evaluate),
    /// One line: a statement or a part of one, or a command behind a colon.
    Line(String),
    /// The message that functions see.
    Message(Vec<u8>),
}

/// What a statement gave.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Value {
    /// Its type.
    pub kind: String,
    /// The value; empty if there is none.
    pub text: String,
    /// What it changed, one change each.
    pub changes: Vec<String>,
    /// Lines that it logged.
    pub log: Vec<String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To `Begin`: the configuration does not load; the end.
    Problems(Vec<Problem>),
    /// To a command, and to `Begin` and `Message`.
    Said(Vec<String>),
    /// The statement is not finished.
    More,
    /// The statement is done.
    Value(Value),
    /// It failed.
    Failed {
        /// Where and how.
        problem: Problem,
        /// What it changed before.
        changes: Vec<String>,
        /// Lines that it logged before.
        log: Vec<String>,
    },
}

impl Message for Request {}
impl Message for Answer {}

/// The operator's end.
pub type CtlEnd = Channel<Request, Answer>;
/// The filter's end.
pub type FilterEnd = Channel<Answer, Request>;
