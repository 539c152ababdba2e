//! The edges to the filters: takes questions, gives answers. Knows no key.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor, Record};
use vsmtp_ipc::edge::filter_keys::{Answer, Ask};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, EdgeId};

use crate::receivers::EdgeKey;

/// Most edges at once; more are refused.
const MAX_EDGES: usize = 64;

/// All edges.
#[derive(Default)]
pub struct Filters {
    edges: BTreeMap<EdgeKey, Edge>,
}

struct Edge {
    name: ProcessName,
    link: Link<Answer, Ask>,
}

impl Filters {
    /// Takes a new edge under this token, instead of an older one of the same process.
    ///
    /// # Errors
    /// There are too many, or the loop does not take it.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: EdgeKey,
    ) -> io::Result<()> {
        self.edges.retain(|_, edge| edge.name != name);
        if self.edges.len() >= MAX_EDGES {
            return Err(io::Error::other("too many edges"));
        }
        let link = Link::new(reactor, socket, EdgeId::FilterKeys, token)?;
        self.edges.insert(token, Edge { name, link });
        Ok(())
    }

    /// True if it is the token of a filter.
    pub fn has(&self, token: EdgeKey) -> bool {
        self.edges.contains_key(&token)
    }

    /// The next question there; `None` if there is none for now, or if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn question(&mut self, token: EdgeKey) -> Result<Option<Ask>, ChannelError> {
        let Some(edge) = self.edges.get_mut(&token) else { return Ok(None) };
        Ok(edge.link.receive()?.map(|received| received.message))
    }

    /// Answers; nothing happens if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn say(&mut self, token: EdgeKey, answer: &Answer) -> Result<(), ChannelError> {
        self.edges.get_mut(&token).map_or(Ok(()), |edge| edge.link.send(answer, Vec::new()))
    }

    /// Sends what was said in this turn. Answers the edges that failed.
    pub fn flush(&mut self, reactor: &Reactor) -> Vec<(EdgeKey, ChannelError)> {
        let flush =
            |(key, edge): (&EdgeKey, &mut Edge)| edge.link.flush(reactor).err().map(|error| (*key, error));
        self.edges.iter_mut().filter_map(flush).collect()
    }

    /// Drops an edge that failed, and tells the master if its peer said what nobody may say.
    pub fn close(&mut self, reactor: &mut Reactor, token: EdgeKey, error: &ChannelError) {
        let Some(edge) = self.edges.remove(&token) else { return };
        let is_plain_end = matches!(error, ChannelError::Closed);
        let level = if is_plain_end { log::Level::Info } else { log::Level::Warn };
        Record::at(level, "edge-closed").field("peer", edge.name).field("error", error).emit();
        if matches!(error, ChannelError::Misbehaved(_)) {
            reactor.tell_master(&ToMaster::Misbehaved(edge.name));
        }
    }
}
