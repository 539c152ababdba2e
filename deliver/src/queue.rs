//! The edge to the queue-manager, as both roles hold it: leases in, outcomes out. When the edge dies its leases are
//! deferred by the queue-manager; their outcomes, should they still come, are dropped here. From the moment at which the
//! process is to end, the queue-manager is told so, and what was on its way by then goes back as it came.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor, Record};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::queue_deliver::{Ask, CREDITS, Said};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, EdgeId};

use crate::lease::{Ended, LeaseKey, Order};

/// Most leases that can be on their way when the other end is told that no more are taken, with the report to be posted.
const MAX_RETURNS: u32 = CREDITS + 1;

/// The edge, or none while the queue-manager is away.
pub struct QueueEdge {
    token: usize,
    epoch: u64,
    edge: Option<Live>,
    /// No more leases are taken, from whatever edge.
    refusing: bool,
    lost: bool,
    failed: bool,
}

struct Live {
    link: Link<Said, Ask>,
    peer: ProcessName,
    /// How many leases may still go back: those that the other end had sent before it heard that none are taken.
    may_return: u32,
    open: HashSet<u64>,
    /// The report that is on its way.
    post: Option<u64>,
}

impl Live {
    /// Sends back what has come since no more is taken.
    fn return_one(&mut self, lease: u64) -> Result<(), ChannelError> {
        let Some(left) = self.may_return.checked_sub(1) else {
            return Err(ChannelError::Misbehaved("more leases for one who takes none".to_owned()));
        };
        self.may_return = left;
        self.link.send(&Said::Back(lease), Vec::new())
    }
}

impl QueueEdge {
    /// No edge yet; its events will come with `token`.
    pub fn new(token: usize) -> Self {
        QueueEdge { token, epoch: 0, edge: None, refusing: false, lost: false, failed: false }
    }

    /// Takes a new edge instead of an old one.
    pub fn connect(&mut self, reactor: &mut Reactor, peer: ProcessName, socket: OwnedFd) {
        self.lost |= self.edge.take().is_some();
        self.epoch += 1;
        match Link::new(reactor, socket, EdgeId::QueueDeliver, self.token) {
            Ok(link) => {
                self.edge =
                    Some(Live { link, peer, may_return: MAX_RETURNS, open: HashSet::new(), post: None });
            }
            Err(error) => {
                return Record::at(log::Level::Error, "edge-failed")
                    .field("peer", peer)
                    .field("error", error)
                    .emit();
            }
        }
        if self.refusing {
            self.say(reactor, &Said::NoMore);
        }
    }

    /// Takes no more leases, and says so: what is not looked at goes back with the next [`QueueEdge::receive`]. What has been taken
    /// is seen to its end.
    pub fn refuse(&mut self, reactor: &mut Reactor) {
        if !std::mem::replace(&mut self.refusing, true) {
            self.say(reactor, &Said::NoMore);
        }
    }

    /// The next order that is there. A bad one closes the edge.
    pub fn receive(&mut self, reactor: &mut Reactor) -> Option<Order> {
        match self.try_receive(reactor.now_ms()) {
            Ok(order) => order,
            Err(error) => {
                self.close(reactor, &error);
                None
            }
        }
    }

    fn try_receive(&mut self, now_ms: u64) -> Result<Option<Order>, ChannelError> {
        let Some(live) = &mut self.edge else { return Ok(None) };
        let (attempt, descriptors) = loop {
            let Some(received) = live.link.receive()? else { return Ok(None) };
            match received.message {
                Ask::Attempt(attempt) if self.refusing => live.return_one(attempt.lease)?,
                Ask::Attempt(attempt) => break (attempt, received.descriptors),
                Ask::Withdraw(number) => {
                    return Ok(Some(Order::Withdraw(LeaseKey { epoch: self.epoch, number })));
                }
            }
        };
        let order = Order::parse(attempt, descriptors.into_iter().next(), self.epoch, now_ms)?;
        let is_new = match &order {
            Order::Post(post) if live.post.is_some() || live.open.contains(&post.key.number) => false,
            Order::Post(post) => {
                live.post = Some(post.key.number);
                true
            }
            Order::Deliver(_) if live.open.len() >= CREDITS as usize => {
                return Err(ChannelError::Misbehaved("more leases than credits".to_owned()));
            }
            Order::Deliver(lease) => {
                live.post != Some(lease.key.number) && live.open.insert(lease.key.number)
            }
            Order::Withdraw(_) => true,
        };
        if !is_new {
            return Err(ChannelError::Misbehaved("a lease number is in use".to_owned()));
        }
        Ok(Some(order))
    }

    /// Answers a lease; dropped if its edge is gone.
    pub fn settle(&mut self, reactor: &mut Reactor, ended: Ended) {
        let Some(live) = &mut self.edge else { return };
        let LeaseKey { epoch, number } = ended.key;
        if epoch != self.epoch
            || !live.open.remove(&number) && live.post.take_if(|post| *post == number).is_none()
        {
            return;
        }
        reactor.served();
        self.say(reactor, &Said::Outcome(ended.into()));
    }

    /// A lease that was withdrawn goes back; dropped if its edge is gone.
    pub fn hand_back(&mut self, reactor: &mut Reactor, key: LeaseKey) {
        let is_open = |live: &mut Live| live.open.remove(&key.number);
        if key.epoch == self.epoch && self.edge.as_mut().is_some_and(is_open) {
            self.say(reactor, &Said::Back(key.number));
        }
    }

    fn say(&mut self, reactor: &mut Reactor, said: &Said) {
        let result = self.edge.as_mut().map_or(Ok(()), |live| live.link.send(said, Vec::new()));
        if let Err(error) = result {
            self.close(reactor, &error);
        }
    }

    /// Sends the outcomes of this turn.
    pub fn flush(&mut self, reactor: &mut Reactor) {
        let result = self.edge.as_mut().map_or(Ok(()), |live| live.link.flush(reactor));
        if let Err(error) = result {
            self.close(reactor, &error);
        }
    }

    /// True while outcomes wait for the kernel to take them: who ends now has mail delivered again.
    pub fn is_blocked(&self) -> bool {
        self.edge.as_ref().is_some_and(|live| live.link.is_blocked())
    }

    /// True if a lease of that edge would still be heard.
    pub fn is_current(&self, epoch: u64) -> bool {
        self.edge.is_some() && epoch == self.epoch
    }

    /// True once after an edge was lost: the leases of it are the queue-manager's again, and will be given out again.
    pub fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// True once an edge has ended by what this process lacked: it must end, so that it is started and introduced anew.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The edge whose leases are wanted; 0 if there is none.
    pub fn epoch(&self) -> u64 {
        if self.edge.is_some() { self.epoch } else { 0 }
    }

    /// Leases without outcome.
    pub fn open(&self) -> usize {
        self.edge.as_ref().map_or(0, |live| live.open.len())
    }

    fn close(&mut self, reactor: &mut Reactor, error: &ChannelError) {
        let Some(live) = self.edge.take() else { return };
        self.lost = true;
        Record::at(log::Level::Warn, "edge-closed")
            .field("peer", live.peer)
            .field("leases", live.open.len())
            .field("error", error)
            .emit();
        match error {
            ChannelError::Closed => {}
            ChannelError::Misbehaved(_) => reactor.tell_master(&ToMaster::Misbehaved(live.peer)),
            // It is not the peer's fault, and only the master can give an edge: to whom it starts.
            _ => self.failed = true,
        }
    }
}
