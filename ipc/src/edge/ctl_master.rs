//! vsmtpctl → master, over `/run/vsmtp/control`. The master checks the peer's credentials before it reads. One request in
//! flight per connection.

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::edge::master_child::{Figure, LimitsAnswer, LimitsRequest};
use crate::role::ProcessName;
use crate::wire::{BrakesAnswer, BrakesRequest};

/// A request.
#[derive(Debug, Encode, Decode)]
pub enum Request {
    /// All processes and their figures.
    Status,
    /// Read the configuration again.
    Reload,
    /// Drain and stop.
    Stop,
    /// Pids with names and declared jails, to compare with what the kernel reports of each.
    Processes,
    /// The configuration in force.
    Config,
    /// To the limiter.
    Limits(LimitsRequest),
    /// To the auth helper.
    Brakes(BrakesRequest),
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ProcessStatus {
    /// Its name.
    pub name: ProcessName,
    /// Its pid; 0 while it waits to be started again.
    pub pid: u32,
    /// Generation of its configuration.
    pub generation: u32,
    /// `starting`, `ready`, `draining`, `waiting`.
    pub state: String,
    /// How often it was started again.
    pub restarts: u32,
    /// Seconds since it was started.
    pub age_s: u64,
    /// Its latest figures; empty in answers to `Processes`.
    pub figures: Vec<Figure>,
    /// Its jail in words; empty in answers to `Status`.
    pub declared: String,
}

/// An answer.
#[derive(Debug, Encode, Decode)]
pub enum Answer {
    /// To `Status` and `Processes`.
    Processes(Vec<ProcessStatus>),
    /// To `Config`: encoded by `vsmtp_config`.
    Config(Vec<u8>),
    /// To `Limits`.
    Limits(LimitsAnswer),
    /// Done, with a line for the operator.
    Done(String),
    /// Not done, with the reason.
    Failed(String),
    /// To `Brakes`; `None` where nobody can log in, so that there is no helper.
    Brakes(Option<BrakesAnswer>),
}

impl Message for Request {}
impl Message for Answer {}

/// The tool's end.
pub type CtlEnd = Channel<Request, Answer>;
/// The master's end.
pub type MasterEnd = Channel<Answer, Request>;
