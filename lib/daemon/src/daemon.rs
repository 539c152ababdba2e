//! What a daemon must say of itself.

use std::os::fd::OwnedFd;

use bincode::Decode;
use vsmtp_ipc::edge::master_child::{LimitsRequest, Listener};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::wire::BrakesRequest;
use vsmtp_sys::sandbox::Profile;

use crate::boot::BootError;
use crate::reactor::Reactor;

/// Who this process is, and its slice of the configuration.
#[derive(Debug, Clone)]
pub struct Boot<Slice> {
    /// Its name.
    pub name: ProcessName,
    /// Counts reloads.
    pub generation: u32,
    /// This machine among all (24 bits).
    pub node: u32,
    /// This process among all that this machine ever started.
    pub process: u32,
    /// All of the configuration that this daemon may see.
    pub slice: Slice,
}

/// One daemon. `run` calls the functions in the order in which they stand here.
pub trait Daemon: Sized {
    /// Name of the binary, of the process, and of its log lines; at most 15 octets.
    const NAME: &'static str;
    /// Its slice of the configuration.
    type Slice: Decode<()>;
    /// Wake-ups wait for whoever runs, so that messages gather, see [`vsmtp_sys::scheduling`]; in an ordinary loop as long as
    /// they do not wait long. Not for who is asked one short thing at a time by someone who waits for it.
    const GATHERS: bool = true;

    /// Opens what the jail will forbid to open.
    fn before_jail(boot: Boot<Self::Slice>) -> Result<Self, BootError>;
    /// The jail.
    fn profile(&self) -> Profile;
    /// It has closed a wider jail in `before_jail` already, which that of `profile` narrows.
    fn is_jailed(&self) -> bool {
        false
    }
    /// What holds beside the profile, as whole lines for `vsmtpctl sandbox`. Inside the jail.
    fn declares(&self) -> String {
        String::new()
    }
    /// How many files the master opens for it. They come before `after_jail`, one by one.
    fn files(&self) -> usize {
        0
    }
    /// One of them, in the order in which the slice names them. Inside the jail.
    fn take_file(&mut self, _file: OwnedFd) {}
    /// First act inside the jail: register with the loop.
    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError>;
    /// Reacts to one event. Must not block and must not panic on outside data.
    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow;
}

/// All that can wake a daemon.
#[derive(Debug)]
pub enum Event {
    /// An end of a new edge to that process; replaces an edge that died.
    Peer(ProcessName, OwnedFd),
    /// A listening socket.
    Listener(Listener, OwnedFd),
    /// A file that the master has opened for us; replaces what came by that name before.
    File(String, OwnedFd),
    /// A registered descriptor can be read or written, or has failed (then both are set).
    Ready {
        /// As registered.
        token: usize,
        /// May be read.
        readable: bool,
        /// May be written.
        writable: bool,
        /// The peer will send no more: a short read is then not the last one, the end is still to be read.
        closed: bool,
    },
    /// A timer is due.
    Timer(u64),
    /// All events of this turn are handled: flush what they produced. Comes at the end of every turn.
    TurnEnd,
    /// A new slice, encoded, after a reload. Only those who are never doubled see this: the queue-manager, the limiter and
    /// the key holder. The others are started anew.
    Reconfigure(Vec<u8>),
    /// An operator asks the limiter. Only it sees this; answered by `ToMaster::Limits`.
    Limits {
        /// To be said in the answer.
        ticket: u64,
        /// What is asked.
        request: LimitsRequest,
    },
    /// An operator asks the auth helper. Only it sees this; answered by `ToMaster::Brakes`.
    Brakes {
        /// To be said in the answer.
        ticket: u64,
        /// What is asked.
        request: BrakesRequest,
    },
    /// Accept no more sessions or work; go on with what is open.
    StopAccepting,
    /// Finish until this time of the monotonic clock (milliseconds), then answer `Flow::Exit`; the skeleton ends the
    /// process at that time in any case.
    Drain {
        /// Monotonic milliseconds.
        deadline_ms: u64,
    },
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Next event.
    Continue,
    /// All done: leave the loop and exit with success.
    Exit,
}
