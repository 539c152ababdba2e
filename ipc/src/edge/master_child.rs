//! master → child. The master speaks first: `Configure`, then peers and listeners. The child answers `Ready` when it is
//! jailed and can work. End of file means that the master is gone: stop accepting, finish or refuse, exit within 2 s.

use std::net::IpAddr;

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::role::ProcessName;
use crate::wire::{BrakesAnswer, BrakesRequest, Service};

/// How long a child may go on after its master has gone, in milliseconds.
pub const ORPHAN_GRACE_MS: u64 = 2_000;
/// How often a child reports its figures, in milliseconds.
pub const BEAT_MS: u64 = 1_000;
/// Most figures in one report.
pub const MAX_FIGURES: usize = 64;

/// Most clients in one page of the limiter's list.
pub const LIMITS_PAGE: usize = 500;

/// From the master.
#[derive(Debug, Encode, Decode)]
pub enum ToChild {
    /// First of all, once: who you are and your slice of the configuration.
    Configure(Configure),
    /// Your end of a new edge to that process. Replaces an edge that died. One descriptor.
    Peer(ProcessName),
    /// A listening socket. One descriptor.
    Listener(Listener),
    /// A file that you may read: its absolute path, by which you know it. Replaces what came by that name before. One
    /// descriptor.
    File(String),
    /// A fresh log sink instead of the old one. One descriptor.
    LogSink(LogSink),
    /// A new slice after a reload, for the one process that is never doubled.
    Reconfigure(Vec<u8>),
    /// An operator asks the limiter. Answered by `ToMaster::Limits`.
    Limits {
        /// Comes back in the answer.
        ticket: u64,
        /// What is asked.
        request: LimitsRequest,
    },
    /// Accept no more; go on with what is open.
    StopAccepting,
    /// Finish within that many milliseconds, then exit.
    Drain {
        /// Milliseconds from now.
        deadline_ms: u64,
    },
    /// An operator asks the auth helper. Answered by `ToMaster::Brakes`.
    Brakes {
        /// Comes back in the answer.
        ticket: u64,
        /// What is asked.
        request: BrakesRequest,
    },
}

/// Who the child is and what it may know.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Configure {
    /// The child's own name.
    pub name: ProcessName,
    /// Counts reloads; a child of an old generation drains.
    pub generation: u32,
    /// This machine among all (24 bits).
    pub node: u32,
    /// Different for every process that this machine ever starts (as far as 32 bits go).
    pub process: u32,
    /// What kind of sink the inherited log descriptor is.
    pub log: LogTarget,
    /// The least important level that is written: 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub log_level: u8,
    /// The syslog facility's number.
    pub log_facility: u8,
    /// The child's slice of the configuration, encoded by `vsmtp_config`.
    pub slice: Vec<u8>,
}

/// The slice of the oneshot role, encoded as all messages are.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Evaluate {
    /// Absolute path of `vsmtp.vsl`.
    pub config_path: String,
    /// The machine's name, the default of `server.name`.
    pub hostname: String,
    /// Processor cores that may be used.
    pub cores: u32,
    /// Folder below which all absolute paths lie; empty for `/`.
    pub root: String,
}

/// How to write to a log descriptor that replaces the one of `Configure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct LogSink {
    /// What kind of sink it is.
    pub target: LogTarget,
    /// As `Configure::log_level`.
    pub level: u8,
    /// The syslog facility's number.
    pub facility: u8,
}

/// What stands behind the log descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum LogTarget {
    /// A file or a terminal: lines with a time.
    Stream,
    /// A connected datagram socket to a syslog daemon.
    Syslog,
    /// A connected stream to a syslog daemon: lines framed by their length (RFC 6587 3.4.1).
    SyslogStream,
    /// A connected datagram socket to journald.
    Journald,
}

/// A listening socket's use.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Listener {
    /// Clients on the network.
    Smtp {
        /// Address and port.
        address: String,
        /// What they come for.
        service: Service,
    },
    /// SMTP over a local socket; the peer's credentials are its identity.
    Submit,
    /// For vsmtpctl.
    Control,
}

/// From a child.
#[derive(Debug, Encode, Decode)]
pub enum ToMaster {
    /// Jailed, and this is the jail in words: for `vsmtpctl sandbox`.
    Declared(String),
    /// Ready to work.
    Ready,
    /// The first request was served: a later death is no start-up failure.
    Serving,
    /// Alive; with the figures of this process.
    Beat(Vec<Figure>),
    /// To `ToChild::Limits`.
    Limits {
        /// Of the question.
        ticket: u64,
        /// The answer.
        answer: LimitsAnswer,
    },
    /// The log sink is broken; send another.
    NeedLogSink,
    /// That peer said what nobody may say, does not read, or its edge has failed: restart it.
    Misbehaved(ProcessName),
    /// The child cannot go on, and starting it again will not help: says why, for the operator.
    Fatal(String),
    /// The oneshot role's answer: the tree that the configuration script made, checked once and encoded by
    /// `vsmtp_config`; or the errors, one per line, each with its place.
    Evaluated(Result<Vec<u8>, String>),
    /// To `ToChild::Brakes`.
    Brakes {
        /// Of the question.
        ticket: u64,
        /// The answer.
        answer: BrakesAnswer,
    },
}

/// One figure of a process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Figure {
    /// Name in lower case with underscores.
    pub name: String,
    /// Count, or present value.
    pub value: u64,
}

/// What operators ask of the limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum LimitsRequest {
    /// The clients behind that one, in the limiter's own order, at most [`LIMITS_PAGE`]; from the first if there is none.
    Page(Option<IpAddr>),
    /// Forget what that client has used up, and that it passed tests.
    Reset(IpAddr),
}

/// What the limiter answers to operators.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum LimitsAnswer {
    /// To `Page`.
    Page {
        /// Length of a window, in milliseconds.
        window_ms: u64,
        /// Most sessions of one client at once.
        open_limit: Option<u32>,
        /// Most of each kind in a window, in the order of `receiver_limits::Kind::ALL`.
        rates: Vec<Option<u32>>,
        /// Counts and sizes.
        figures: Vec<Figure>,
        /// The clients.
        rows: Vec<LimitsRow>,
    },
    /// To `Reset`: whether anything was known of the client.
    Reset(bool),
}

/// One client, or one network that counts as one.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LimitsRow {
    /// Its first address.
    pub network: IpAddr,
    /// Leading bits that make it.
    pub prefix: u8,
    /// Sessions that it has open.
    pub open: u32,
    /// Counts in the window, in the order of `receiver_limits::Kind::ALL`.
    pub counts: Vec<u32>,
    /// How often it was refused since it is known.
    pub refused: u64,
}

impl Message for ToChild {
    fn descriptors(&self) -> usize {
        match self {
            ToChild::Peer(_) | ToChild::Listener(_) | ToChild::File(_) | ToChild::LogSink(_) => 1,
            ToChild::Configure(_)
            | ToChild::Reconfigure(_)
            | ToChild::Limits { .. }
            | ToChild::Brakes { .. }
            | ToChild::StopAccepting
            | ToChild::Drain { .. } => 0,
        }
    }
}

impl Message for ToMaster {}

/// The master's end.
pub type MasterEnd = Channel<ToChild, ToMaster>;
/// The child's end.
pub type ChildEnd = Channel<ToMaster, ToChild>;
