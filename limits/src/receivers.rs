//! The edges to receivers, and which sessions each has open. Takes questions, gives answers; decides nothing.
//!
//! On failure an edge is dropped, and with it all sessions of its receiver: the caller gives them back.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{FIRST_TOKEN, Link, Reactor, Record};
use vsmtp_ipc::edge::receiver_limits::{Answer, Ask, MAX_OPEN, Wanted};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, EdgeId};

/// Most edges at once; more are refused.
const MAX_RECEIVERS: usize = 4096;

/// Names an edge, and is its token; never used twice.
pub type EdgeKey = usize;

/// All edges.
#[derive(Default)]
pub struct Receivers {
    edges: BTreeMap<EdgeKey, Receiver>,
    made: usize,
}

struct Receiver {
    name: ProcessName,
    link: Link<Answer, Ask>,
    /// Open sessions and their clients.
    open: HashMap<u64, IpAddr>,
}

impl Receivers {
    /// Takes a new edge and says what is wanted. Answers the edge of the same process that it replaces.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        wanted: Wanted,
    ) -> Result<Option<EdgeKey>, ChannelError> {
        let replaced = self.edges.iter().find(|(_, edge)| edge.name == name).map(|(key, _)| *key);
        if replaced.is_none() && self.edges.len() >= MAX_RECEIVERS {
            return Err(ChannelError::Io(io::Error::other("too many edges")));
        }
        // One token less than the resolver's edge uses.
        let key = FIRST_TOKEN + 1 + self.made;
        self.made += 1;
        let mut link = Link::new(reactor, socket, EdgeId::ReceiverLimits, key).map_err(ChannelError::Io)?;
        link.send(&Answer::Wanted(wanted), Vec::new())?;
        self.edges.insert(key, Receiver { name, link, open: HashMap::new() });
        Ok(replaced)
    }

    /// The next thing that a receiver has said; `None` if there is none for now, or if its edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn hear(&mut self, key: EdgeKey) -> Result<Option<Ask>, ChannelError> {
        let Some(edge) = self.edges.get_mut(&key) else { return Ok(None) };
        Ok(edge.link.receive()?.map(|received| received.message))
    }

    /// A session is open now. False if it was already.
    ///
    /// # Errors
    /// No receiver can have so many: the edge must be closed.
    pub fn open(&mut self, key: EdgeKey, ticket: u64, client: IpAddr) -> Result<bool, ChannelError> {
        let Some(edge) = self.edges.get_mut(&key) else { return Ok(false) };
        if edge.open.len() >= MAX_OPEN {
            return Err(ChannelError::Misbehaved("more sessions than there can be".to_owned()));
        }
        Ok(edge.open.insert(ticket, client).is_none())
    }

    /// A session is over. Its client, if it was open.
    pub fn left(&mut self, key: EdgeKey, ticket: u64) -> Option<IpAddr> {
        self.edges.get_mut(&key)?.open.remove(&ticket)
    }

    /// The client of an open session.
    pub fn client(&self, key: EdgeKey, ticket: u64) -> Option<IpAddr> {
        self.edges.get(&key)?.open.get(&ticket).copied()
    }

    /// Answers one; dropped if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn answer(&mut self, key: EdgeKey, answer: &Answer) -> Result<(), ChannelError> {
        match self.edges.get_mut(&key) {
            Some(edge) => edge.link.send(answer, Vec::new()),
            None => Ok(()),
        }
    }

    /// Tells all what is wanted from now on. Answers the edges that failed.
    pub fn tell_wanted(&mut self, wanted: Wanted) -> Vec<(EdgeKey, ChannelError)> {
        let tell = |(key, edge): (&EdgeKey, &mut Receiver)| {
            edge.link.send(&Answer::Wanted(wanted), Vec::new()).err().map(|error| (*key, error))
        };
        self.edges.iter_mut().filter_map(tell).collect()
    }

    /// Sends what was said in this turn. Answers the edges that failed.
    pub fn flush(&mut self, reactor: &Reactor) -> Vec<(EdgeKey, ChannelError)> {
        let flush = |(key, edge): (&EdgeKey, &mut Receiver)| {
            edge.link.flush(reactor).err().map(|error| (*key, error))
        };
        self.edges.iter_mut().filter_map(flush).collect()
    }

    /// Drops an edge, and tells the master unless its receiver is gone. The clients of its open sessions.
    pub fn close(&mut self, reactor: &mut Reactor, key: EdgeKey, error: &ChannelError) -> Vec<IpAddr> {
        let Some(edge) = self.edges.remove(&key) else { return Vec::new() };
        let level = if matches!(error, ChannelError::Closed) { log::Level::Info } else { log::Level::Warn };
        Record::at(level, "edge-closed")
            .field("peer", edge.name)
            .field("sessions", edge.open.len())
            .field("error", error)
            .emit();
        reactor.accuse(edge.name, error);
        edge.open.into_values().collect()
    }

    /// The clients of all open sessions.
    pub fn clients(&self) -> impl Iterator<Item = IpAddr> {
        self.edges.values().flat_map(|edge| edge.open.values().copied())
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.edges.values().map(|edge| edge.open.len()).sum()
    }
}
