//! The edges to the receivers: tells each what there is, takes questions, gives answers. Knows no key.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{FIRST_TOKEN, Link, Reactor, Record};
use vsmtp_ipc::edge::receiver_keys::{Answer, Ask, MAX_SIGNED};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, EdgeId};

/// Most edges at once; more are refused.
const MAX_EDGES: usize = 1024;

/// The number of an edge, which is its token too.
pub type EdgeKey = usize;

/// All edges.
#[derive(Default)]
pub struct Receivers {
    edges: BTreeMap<EdgeKey, Edge>,
    made: usize,
}

struct Edge {
    name: ProcessName,
    link: Link<Answer, Ask>,
}

impl Receivers {
    /// Takes a new edge, instead of an older one of the same process.
    ///
    /// # Errors
    /// There are too many, or the loop does not take it.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
    ) -> io::Result<EdgeKey> {
        self.edges.retain(|_, edge| edge.name != name);
        if self.edges.len() >= MAX_EDGES {
            return Err(io::Error::other("too many edges"));
        }
        let key = self.next_token();
        let link = Link::new(reactor, socket, EdgeId::ReceiverKeys, key)?;
        self.edges.insert(key, Edge { name, link });
        Ok(key)
    }

    /// A token that no edge has had; filters get theirs here too.
    pub fn next_token(&mut self) -> EdgeKey {
        self.made += 1;
        FIRST_TOKEN + self.made - 1
    }

    /// All edges.
    pub fn keys(&self) -> Vec<EdgeKey> {
        self.edges.keys().copied().collect()
    }

    /// The next question there; `None` if there is none for now, or if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn question(&mut self, key: EdgeKey) -> Result<Option<Ask>, ChannelError> {
        let Some(edge) = self.edges.get_mut(&key) else { return Ok(None) };
        let Some(received) = edge.link.receive()? else { return Ok(None) };
        let Ask::Sign { message, .. } = &received.message;
        if message.len() > MAX_SIGNED {
            return Err(ChannelError::Misbehaved("asked for a signature of too much".to_owned()));
        }
        Ok(Some(received.message))
    }

    /// Says something; nothing happens if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn say(&mut self, key: EdgeKey, answer: &Answer) -> Result<(), ChannelError> {
        self.edges.get_mut(&key).map_or(Ok(()), |edge| edge.link.send(answer, Vec::new()))
    }

    /// Sends what was said in this turn. Answers the edges that failed.
    pub fn flush(&mut self, reactor: &Reactor) -> Vec<(EdgeKey, ChannelError)> {
        let flush =
            |(key, edge): (&EdgeKey, &mut Edge)| edge.link.flush(reactor).err().map(|error| (*key, error));
        self.edges.iter_mut().filter_map(flush).collect()
    }

    /// Drops an edge that failed, and tells the master unless its peer is gone.
    pub fn close(&mut self, reactor: &mut Reactor, key: EdgeKey, error: &ChannelError) {
        let Some(edge) = self.edges.remove(&key) else { return };
        let is_plain_end = matches!(error, ChannelError::Closed);
        let level = if is_plain_end { log::Level::Info } else { log::Level::Warn };
        Record::at(level, "edge-closed").field("peer", edge.name).field("error", error).emit();
        reactor.accuse(edge.name, error);
    }
}
