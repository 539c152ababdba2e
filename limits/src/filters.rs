//! The edges to the filters: takes questions, gives answers; decides nothing.
//!
//! On failure an edge is dropped; what was counted stays.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor, Record};
use vsmtp_ipc::edge::filter_limits::{Answer, Ask};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, EdgeId};

use crate::receivers::EdgeKey;

/// Most edges at once; more are refused.
const MAX_FILTERS: usize = 64;
/// Tokens from here on are those of filters; never used twice.
const FIRST_FILTER: EdgeKey = usize::MAX / 2;

/// All edges.
#[derive(Default)]
pub struct Filters {
    edges: BTreeMap<EdgeKey, Filter>,
    made: usize,
}

struct Filter {
    name: ProcessName,
    link: Link<Answer, Ask>,
}

impl Filters {
    /// Takes a new edge instead of an older one of the same process.
    ///
    /// # Errors
    /// There are too many, or the loop does not take it.
    pub fn introduce(&mut self, reactor: &Reactor, name: ProcessName, socket: OwnedFd) -> io::Result<()> {
        self.edges.retain(|_, edge| edge.name != name);
        if self.edges.len() >= MAX_FILTERS {
            return Err(io::Error::other("too many edges"));
        }
        let key = FIRST_FILTER + self.made;
        self.made += 1;
        let link = Link::new(reactor, socket, EdgeId::FilterLimits, key)?;
        self.edges.insert(key, Filter { name, link });
        Ok(())
    }

    /// True if it is the token of a filter's edge, of one that is gone too.
    pub fn is_one(key: EdgeKey) -> bool {
        key >= FIRST_FILTER
    }

    /// The next question there; `None` if there is none for now, or if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn hear(&mut self, key: EdgeKey) -> Result<Option<Ask>, ChannelError> {
        let Some(edge) = self.edges.get_mut(&key) else { return Ok(None) };
        Ok(edge.link.receive()?.map(|received| received.message))
    }

    /// Answers; dropped if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn answer(&mut self, key: EdgeKey, answer: &Answer) -> Result<(), ChannelError> {
        self.edges.get_mut(&key).map_or(Ok(()), |edge| edge.link.send(answer, Vec::new()))
    }

    /// Sends what was said in this turn. Answers the edges that failed.
    pub fn flush(&mut self, reactor: &Reactor) -> Vec<(EdgeKey, ChannelError)> {
        let flush =
            |(key, edge): (&EdgeKey, &mut Filter)| edge.link.flush(reactor).err().map(|error| (*key, error));
        self.edges.iter_mut().filter_map(flush).collect()
    }

    /// Drops an edge, and tells the master if its filter said what nobody may say.
    pub fn close(&mut self, reactor: &mut Reactor, key: EdgeKey, error: &ChannelError) {
        let Some(edge) = self.edges.remove(&key) else { return };
        let level = if matches!(error, ChannelError::Closed) { log::Level::Info } else { log::Level::Warn };
        Record::at(level, "edge-closed").field("peer", edge.name).field("error", error).emit();
        if let ChannelError::Misbehaved(_) | ChannelError::Overflow = error {
            reactor.tell_master(&ToMaster::Misbehaved(edge.name));
        }
    }
}
