//! The edges to those who ask, of one kind. Knows who is there and how to reach them, and nothing of what is said.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor, Record};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, EdgeId, Message};

use crate::desk::Edge;

/// Most edges of one kind at once; more are refused.
const MAX_EDGES: usize = 512;

/// All edges of one kind.
pub struct Edges<Tx, Rx> {
    all: BTreeMap<Edge, (ProcessName, Link<Tx, Rx>)>,
}

impl<Tx: Message, Rx: Message> Edges<Tx, Rx> {
    /// None.
    pub fn new() -> Self {
        Edges { all: BTreeMap::new() }
    }

    /// Takes a new edge; its events come with its name as token. An edge of the same process is replaced: answers it.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        id: EdgeId,
        edge: Edge,
    ) -> io::Result<Option<Edge>> {
        let replaced = self.all.iter().find(|(_, (other, _))| *other == name).map(|(edge, _)| *edge);
        if let Some(old) = replaced {
            self.all.remove(&old);
        } else if self.all.len() >= MAX_EDGES {
            return Err(io::Error::other("too many edges"));
        }
        self.all.insert(edge, (name, Link::new(reactor, socket, id, edge)?));
        Ok(replaced)
    }

    /// True if the edge is of this kind and there.
    pub fn has(&self, edge: Edge) -> bool {
        self.all.contains_key(&edge)
    }

    /// The edges that are there.
    pub fn names(&self) -> Vec<Edge> {
        self.all.keys().copied().collect()
    }

    /// The next thing that was said; `None` if there is nothing for now, or if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn hear(&mut self, edge: Edge) -> Result<Option<Rx>, ChannelError> {
        let Some((_, link)) = self.all.get_mut(&edge) else { return Ok(None) };
        Ok(link.receive()?.map(|received| received.message))
    }

    /// Says something; dropped if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn say(&mut self, edge: Edge, message: &Tx) -> Result<(), ChannelError> {
        self.all.get_mut(&edge).map_or(Ok(()), |(_, link)| link.send(message, Vec::new()))
    }

    /// Sends what was said in this turn. Answers the edges that failed.
    pub fn flush(&mut self, reactor: &Reactor) -> Vec<(Edge, ChannelError)> {
        let flush = |(edge, (_, link)): (&Edge, &mut (ProcessName, Link<Tx, Rx>))| {
            link.flush(reactor).err().map(|error| (*edge, error))
        };
        self.all.iter_mut().filter_map(flush).collect()
    }

    /// Drops an edge, and tells the master if its peer said what nobody may say.
    pub fn close(&mut self, reactor: &mut Reactor, edge: Edge, error: &ChannelError) {
        let Some((name, _)) = self.all.remove(&edge) else { return };
        let is_plain_end = matches!(error, ChannelError::Closed);
        let level = if is_plain_end { log::Level::Info } else { log::Level::Warn };
        Record::at(level, "edge-closed").field("peer", name).field("error", error).emit();
        if matches!(error, ChannelError::Misbehaved(_)) {
            reactor.tell_master(&ToMaster::Misbehaved(name));
        }
    }
}
