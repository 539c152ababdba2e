//! One running process, as its master sees it.

use vsmtp_ipc::edge::master_child::{Figure, MasterEnd, ToChild};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{ChannelError, Flushed};
use vsmtp_sys::spawn;

/// How far a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Started, and not yet in its jail.
    Starting,
    /// At work.
    Ready,
    /// Told to finish.
    Draining,
}

impl State {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
        }
    }
}

/// A process that is past its start and says nothing for so long hangs, in milliseconds. It beats every second.
pub const SILENCE_MS: u64 = 60_000;

/// A running process.
pub struct Child {
    /// Who it is.
    pub name: ProcessName,
    /// The process itself.
    pub process: spawn::Child,
    /// Our end of its edge.
    pub channel: MasterEnd,
    /// How far it is.
    pub state: State,
    /// It has done real work.
    pub served: bool,
    /// Monotonic milliseconds.
    pub started_ms: u64,
    /// When it last said anything, in monotonic milliseconds.
    pub heard_ms: u64,
    /// Its latest report.
    pub figures: Vec<Figure>,
    /// Its jail, in its own words.
    pub declared: String,
    /// How often it accused a peer.
    pub accusations: u32,
}

impl Child {
    /// True if it hangs: no beat for too long. One that still starts may be recovering a large spool, and is left alone; but
    /// not a filter, which runs rules and plugins then: those were checked in less time.
    pub fn is_silent(&self, now_ms: u64) -> bool {
        let is_filter = matches!(self.name.role, Role::FilterSession | Role::FilterPost);
        (self.state != State::Starting || is_filter) && now_ms.saturating_sub(self.heard_ms) > SILENCE_MS
    }

    /// Queues a message and tries to send it. False if the edge is dead: the process is about to be reaped.
    pub fn say(&mut self, message: &ToChild, descriptor: Option<std::os::fd::OwnedFd>) -> bool {
        let sent =
            self.channel.send(message, descriptor.into_iter().collect()).and_then(|()| self.channel.flush());
        // A child that does not read for long is caught by its missing beats; what is blocked goes with the next flush.
        matches!(sent, Ok(Flushed::All | Flushed::Blocked))
    }

    /// Sends what an earlier `say` could not.
    pub fn flush(&mut self) -> Result<(), ChannelError> {
        if self.channel.wants_write() { self.channel.flush().map(|_| ()) } else { Ok(()) }
    }
}
