//! vsmtpctl → `vsmtp-filter --role tool`, over a socket pair that vsmtpctl makes when it starts that process. One request,
//! one answer, and both end. Texts in answers come from scripts and from mail.

use std::net::{IpAddr, SocketAddr};

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::edge::master_child::Evaluate;

/// Most octets of a message that is tried.
pub const MAX_TRIED: usize = 8 * 1024 * 1024;

/// What is to be done with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Request {
    /// The configuration. Only its folder is read.
    pub of: Evaluate,
    /// What to do.
    pub task: Task,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Task {
    /// Find what is wrong with the rules.
    Check,
    /// Have the rules judge a message.
    Try(Trial),
    /// Run tests of scripts: these files, relative to the folder; none: all `*.test.vsl`.
    Test(Vec<String>),
    /// Write what editors want to know about functions.
    Definitions,
    /// Find which keys sign mail.
    MailKeys,
}

/// A message as a client would send it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Trial {
    /// The client's address; `None`: the local socket.
    pub client: Option<IpAddr>,
    /// The name that the client has authenticated with.
    pub user: Option<String>,
    /// HELO name.
    pub helo: String,
    /// MAIL FROM, without angle brackets; empty for the null sender.
    pub from: String,
    /// RCPT TO, without angle brackets.
    pub recipients: Vec<String>,
    /// The message, at most [`MAX_TRIED`].
    pub message: Vec<u8>,
    /// The last stage to run.
    pub until: Option<String>,
    /// Answers of the DNS, one per line.
    pub dns: String,
}

/// Something that is wrong with a script.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Problem {
    /// The file, relative to the folder of the configuration.
    pub file: String,
    /// Line, from 1; 0: the file as a whole.
    pub line: u32,
    /// Column, from 1; 0: the line as a whole.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// A directive that has run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Step {
    /// When.
    pub stage: String,
    /// Its script.
    pub script: String,
    /// `rule` or `action`.
    pub kind: String,
    /// Its name.
    pub directive: String,
    /// Line of the script.
    pub line: u32,
    /// The status that it gave, or `failed`.
    pub verdict: String,
    /// The reply that came with it, or the error.
    pub reply: Option<String>,
    /// What it changed, one change each.
    pub changes: Vec<String>,
    /// Lines that it logged.
    pub log: Vec<String>,
}

/// What a client heard.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Heard {
    /// What it said.
    pub command: String,
    /// The reply; empty: the usual one.
    pub reply: String,
    /// The command was taken.
    pub is_accepted: bool,
}

/// A message that would be stored.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Kept {
    /// Its sender.
    pub from: String,
    /// Its recipients, each with its next hop.
    pub recipients: Vec<(String, String)>,
    /// `deliver`, `hold`, `quarantine NAME` or `refuse REPLY`.
    pub fate: String,
    /// Lines that differ from what the client sent, behind `-` and `+`.
    pub diff: Vec<String>,
}

/// What became of a message that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Tried {
    /// Directives in the order in which they ran.
    pub steps: Vec<Step>,
    /// Commands in the order in which they were said.
    pub heard: Vec<Heard>,
    /// What would be stored.
    pub kept: Vec<Kept>,
}

/// One test of a script.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Tested {
    /// Its file.
    pub file: String,
    /// Its name; empty if the file did not load.
    pub name: String,
    /// What failed, and where; `None`: it passed.
    pub failure: Option<Problem>,
}

/// What a configuration says about signatures of mail.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MailKeys {
    /// Domains in lower case, each with the absolute path of a key of it.
    pub keys: Vec<(String, String)>,
    /// The name servers that are asked; none: those of this machine.
    pub servers: Vec<SocketAddr>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To `Check`; to all others if the configuration or the rules do not load.
    Problems(Vec<Problem>),
    /// To `Try`.
    Tried(Tried),
    /// To `Test`.
    Tested(Vec<Tested>),
    /// To `Definitions`: names of files and their texts.
    Definitions(Vec<(String, String)>),
    /// To `MailKeys`.
    MailKeys(MailKeys),
    /// It cannot be done, with the reason.
    Failed(String),
}

impl Message for Request {}
impl Message for Answer {}

/// The operator's end.
pub type CtlEnd = Channel<Request, Answer>;
/// The filter's end.
pub type FilterEnd = Channel<Answer, Request>;
