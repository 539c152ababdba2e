//! What the loop offers to a daemon: registration of descriptors, timers, the clock, the way to the master, figures.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token, Waker};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::master_child::{ChildEnd, Figure, ToMaster};
use vsmtp_ipc::role::ProcessName;

use crate::timers::Timers;

/// Tokens below this one belong to the skeleton.
pub const FIRST_TOKEN: usize = 8;
pub(crate) const MASTER_TOKEN: Token = Token(0);
pub(crate) const WAKER_TOKEN: Token = Token(1);

/// The loop's services.
pub struct Reactor {
    pub(crate) poll: Poll,
    pub(crate) timers: Timers,
    pub(crate) master: ChildEnd,
    pub(crate) figures: BTreeMap<&'static str, u64>,
    pub(crate) served: bool,
    waker: Arc<Waker>,
    now_ms: u64,
    /// Monotonic time of the next report to the master.
    pub(crate) next_report_ms: u64,
    again: bool,
}

impl Reactor {
    pub(crate) fn new(master: ChildEnd) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER_TOKEN)?);
        let reactor = Reactor {
            poll,
            timers: Timers::default(),
            master,
            figures: BTreeMap::new(),
            served: false,
            waker,
            now_ms: vsmtp_sys::clock::monotonic_ms(),
            next_report_ms: 0,
            again: false,
        };
        let master_fd = reactor.master.socket().as_raw_fd();
        reactor.poll.registry().register(&mut SourceFd(&master_fd), MASTER_TOKEN, Interest::READABLE)?;
        Ok(reactor)
    }

    /// Watches a descriptor, edge-triggered: after an event, read or write until it would block.
    pub fn register(&self, fd: BorrowedFd<'_>, token: usize, interest: Interest) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), Token(token), interest)
    }

    /// Changes what is watched.
    pub fn reregister(&self, fd: BorrowedFd<'_>, token: usize, interest: Interest) -> io::Result<()> {
        self.poll.registry().reregister(&mut SourceFd(&fd.as_raw_fd()), Token(token), interest)
    }

    /// Watches no more. Closing the last descriptor of a file does the same.
    pub fn deregister(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()))
    }

    /// Fires `Event::Timer(key)` at that time of the monotonic clock. There is no cancel, see [`Timers`].
    pub fn set_timer(&mut self, at_ms: u64, key: u64) {
        self.timers.set(at_ms, key);
    }

    /// Monotonic milliseconds, read once per turn.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn read_clock(&mut self) {
        self.now_ms = vsmtp_sys::clock::monotonic_ms();
    }

    /// Wall clock in milliseconds since 1970.
    pub fn wall_ms(&self) -> u64 {
        vsmtp_sys::clock::wall_ms()
    }

    /// Has the next turn begin at once, with a `TurnEnd` at its end: work is left that no event will announce.
    pub fn turn_again(&mut self) {
        self.again = true;
    }

    pub(crate) fn take_again(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }

    /// Wakes the loop from another thread; the turn then ends with `TurnEnd`.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Tells the master something. Sent at the end of the turn.
    pub fn tell_master(&mut self, message: &ToMaster) {
        if self.master.send(message, Vec::new()).is_err() {
            log::error!("event=master-unreachable");
        }
    }

    /// Why an edge had to be closed here. Unless its peer is gone, that lives on, and only the master can give both another
    /// edge: it starts the peer anew.
    pub fn accuse(&mut self, peer: ProcessName, error: &ChannelError) {
        if !matches!(error, ChannelError::Closed) {
            self.tell_master(&ToMaster::Misbehaved(peer));
        }
    }

    /// Tells the master, once, that real work was done: a later death is no start-up failure.
    pub fn served(&mut self) {
        if !self.served {
            self.served = true;
            self.tell_master(&ToMaster::Serving);
        }
    }

    /// True if this turn ends with a report to the master: figures that are set now are in it.
    pub fn reports_now(&self) -> bool {
        self.now_ms >= self.next_report_ms
    }

    /// Sets a figure that is reported to the master every second. Those that change with every turn need be set only in
    /// the turns that end with a report, see [`Self::reports_now`].
    pub fn figure(&mut self, name: &'static str, value: u64) {
        self.figures.insert(name, value);
    }

    /// Adds to a figure.
    pub fn count(&mut self, name: &'static str, more: u64) {
        let slot = self.figures.entry(name).or_default();
        *slot = slot.saturating_add(more);
    }

    pub(crate) fn report(&mut self) {
        let figures = self
            .figures
            .iter()
            .map(|(name, value)| Figure { name: (*name).to_owned(), value: *value })
            .collect();
        self.tell_master(&ToMaster::Beat(figures));
    }
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::EdgeId;
    use vsmtp_ipc::edge::master_child::MasterEnd;
    use vsmtp_ipc::role::Role;

    use super::*;

    #[test]
    fn the_master_hears_of_every_peer_that_lives_on_without_its_edge() {
        let (ours, theirs) = vsmtp_sys::seqpacket::pair().unwrap();
        let mut master = MasterEnd::new(ours, EdgeId::MasterChild);
        let mut reactor = Reactor::new(ChildEnd::new(theirs, EdgeId::MasterChild)).unwrap();
        let peer = ProcessName { role: Role::Resolver, instance: 0 };
        for (error, is_told) in [
            (ChannelError::Closed, false),
            (ChannelError::Misbehaved("lies".to_owned()), true),
            (ChannelError::Overflow, true),
            (ChannelError::Io(io::Error::other("no buffers")), true),
        ] {
            reactor.accuse(peer, &error);
            let _ = reactor.master.flush().unwrap();
            let heard = master.receive().unwrap().map(|received| received.message);
            assert_eq!(matches!(heard, Some(ToMaster::Misbehaved(name)) if name == peer), is_told, "{error}");
        }
    }
}
