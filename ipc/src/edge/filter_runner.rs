//! filter → runner. The filter has a command run that its configuration declares; each question is answered once, when the
//! command has ended or was ended. At most [`CREDITS`] in flight. The one descriptor is the command's standard input, a
//! sealed memory file.
//!
//! The whole declaration travels, not its number: the two ends may be of two configurations for a while.

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};

/// Questions in flight.
pub const CREDITS: u32 = 32;
/// Most octets of a command's standard input.
pub const MAX_INPUT: u64 = 64 << 20;
/// Octets that are kept of each of a command's two outputs; the rest is read and thrown away.
pub const MAX_OUTPUT: usize = 64 << 10;

/// A command as it is declared.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Declared {
    /// An absolute path, or a name that is looked for in the usual places.
    pub program: String,
    /// Its arguments, where the rule gives none.
    pub arguments: Vec<String>,
    /// It is ended after this time, in milliseconds.
    pub timeout_ms: u64,
    /// Rules cannot give it other arguments.
    pub fixed: bool,
}

/// From the filter: run this.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ask {
    /// Comes back in the answer.
    pub ticket: u64,
    /// Which command; one that is not declared does not run.
    pub command: Declared,
    /// Arguments in place of those declared.
    pub arguments: Option<Vec<String>>,
    /// Octets of the standard input, which travels as a descriptor; `None`: there is nothing to read.
    pub input: Option<u64>,
    /// Nobody waits for it longer than this, in milliseconds.
    pub left_ms: u64,
}

/// From the runner.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Answer {
    /// Of the question.
    pub ticket: u64,
    /// What came of it.
    pub result: Result<Ended, Refused>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ended {
    /// With this code, if it ended by itself.
    pub code: Option<i32>,
    /// By this signal.
    pub signal: Option<i32>,
    /// It was ended because its time was over.
    pub timed_out: bool,
    /// It has written more than is kept.
    pub truncated: bool,
    /// The beginning of its output; at most [`MAX_OUTPUT`] octets.
    pub stdout: Vec<u8>,
    /// The same of its messages.
    pub stderr: Vec<u8>,
}

/// Why a command did not run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Refused {
    /// The configuration does not declare it, or not with arguments of the rule's own.
    NotDeclared,
    /// As many run and wait as may, or the host lacks for now what one more needs. Later it may run.
    Busy,
    /// It cannot be started as it is: text for the operator.
    Failed(String),
}

impl Message for Ask {
    fn descriptors(&self) -> usize {
        usize::from(self.input.is_some())
    }
}
impl Message for Answer {}

/// The filter's end.
pub type FilterEnd = Channel<Ask, Answer>;
/// The runner's end.
pub type RunnerEnd = Channel<Answer, Ask>;
