//! The edges to the filters: takes questions, gives answers, counts what is open. Runs nothing.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor, Record};
use vsmtp_ipc::edge::filter_runner::{Answer, Ask, CREDITS};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, EdgeId};

/// Most edges at once; more are refused.
const MAX_EDGES: usize = 16;

/// All edges, by the token of the loop.
#[derive(Default)]
pub struct Filters {
    edges: BTreeMap<usize, Edge>,
}

struct Edge {
    name: ProcessName,
    link: Link<Answer, Ask>,
    open: u32,
}

impl Filters {
    /// Takes a new edge under this token. Answers the token of an older one of the same process, which is gone.
    ///
    /// # Errors
    /// There are too many, or the loop does not take it.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: usize,
    ) -> io::Result<Option<usize>> {
        let old = self.edges.iter().find(|(_, edge)| edge.name == name).map(|(token, _)| *token);
        if let Some(old) = old {
            self.edges.remove(&old);
        }
        if self.edges.len() >= MAX_EDGES {
            return Err(io::Error::other("too many edges"));
        }
        let link = Link::new(reactor, socket, EdgeId::FilterRunner, token)?;
        self.edges.insert(token, Edge { name, link, open: 0 });
        Ok(old)
    }

    /// True if it is the token of a filter.
    pub fn has(&self, token: usize) -> bool {
        self.edges.contains_key(&token)
    }

    /// True if there is nobody to ask anything.
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// The next question there, with its descriptor; `None` if there is none for now, or if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn question(&mut self, token: usize) -> Result<Option<(Ask, Option<OwnedFd>)>, ChannelError> {
        let Some(edge) = self.edges.get_mut(&token) else { return Ok(None) };
        let Some(received) = edge.link.receive()? else { return Ok(None) };
        if edge.open >= CREDITS {
            return Err(ChannelError::Misbehaved("more questions than credits".to_owned()));
        }
        edge.open += 1;
        Ok(Some((received.message, received.descriptors.into_iter().next())))
    }

    /// Answers; nothing happens if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn say(&mut self, token: usize, answer: &Answer) -> Result<(), ChannelError> {
        let Some(edge) = self.edges.get_mut(&token) else { return Ok(()) };
        edge.open = edge.open.saturating_sub(1);
        edge.link.send(answer, Vec::new())
    }

    /// Sends what was said in this turn. Answers the edges that failed.
    pub fn flush(&mut self, reactor: &Reactor) -> Vec<(usize, ChannelError)> {
        let flush =
            |(token, edge): (&usize, &mut Edge)| edge.link.flush(reactor).err().map(|error| (*token, error));
        self.edges.iter_mut().filter_map(flush).collect()
    }

    /// Drops an edge that failed, and tells the master if its peer said what nobody may say.
    pub fn close(&mut self, reactor: &mut Reactor, token: usize, error: &ChannelError) {
        let Some(edge) = self.edges.remove(&token) else { return };
        let is_plain_end = matches!(error, ChannelError::Closed);
        let level = if is_plain_end { log::Level::Info } else { log::Level::Warn };
        Record::at(level, "edge-closed").field("peer", edge.name).field("error", error).emit();
        if matches!(error, ChannelError::Misbehaved(_)) {
            reactor.tell_master(&ToMaster::Misbehaved(edge.name));
        }
    }
}
