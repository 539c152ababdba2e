//! The edges to those who ask, of one kind. Knows who is there and how to reach them, and nothing of what is said.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, EdgeId, Message, Received};

use crate::{Link, Reactor, Record};

/// All edges of one kind, each by the token of its events.
pub struct Edges<Tx, Rx> {
    kind: EdgeId,
    max: usize,
    all: BTreeMap<usize, (ProcessName, Link<Tx, Rx>)>,
}

impl<Tx: Message, Rx: Message> Edges<Tx, Rx> {
    /// None yet, and never more than `max`.
    pub fn new(kind: EdgeId, max: usize) -> Self {
        Edges { kind, max, all: BTreeMap::new() }
    }

    /// Takes a new edge under this token. An edge of the same process is replaced: answers its token.
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
        let replaced = self.all.iter().find(|(_, (other, _))| *other == name).map(|(token, _)| *token);
        if let Some(old) = replaced {
            self.all.remove(&old);
        } else if self.all.len() >= self.max {
            return Err(io::Error::other("too many edges"));
        }
        self.all.insert(token, (name, Link::new(reactor, socket, self.kind, token)?));
        Ok(replaced)
    }

    /// True if it is the token of one of these.
    pub fn has(&self, token: usize) -> bool {
        self.all.contains_key(&token)
    }

    /// True if nobody is there.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The tokens of those that are there.
    pub fn tokens(&self) -> Vec<usize> {
        self.all.keys().copied().collect()
    }

    /// The next thing that was said, with its descriptors; `None` if there is nothing for now, or if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn hear(&mut self, token: usize) -> Result<Option<Received<Rx>>, ChannelError> {
        self.all.get_mut(&token).map_or(Ok(None), |(_, link)| link.receive())
    }

    /// Says something; dropped if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn say(&mut self, token: usize, message: &Tx) -> Result<(), ChannelError> {
        self.all.get_mut(&token).map_or(Ok(()), |(_, link)| link.send(message, Vec::new()))
    }

    /// Sends what was said in this turn. Answers the edges that failed.
    pub fn flush(&mut self, reactor: &Reactor) -> Vec<(usize, ChannelError)> {
        let flush = |(token, (_, link)): (&usize, &mut (ProcessName, Link<Tx, Rx>))| {
            link.flush(reactor).err().map(|error| (*token, error))
        };
        self.all.iter_mut().filter_map(flush).collect()
    }

    /// Drops an edge, and tells the master unless its peer is gone.
    pub fn close(&mut self, reactor: &mut Reactor, token: usize, error: &ChannelError) {
        let Some((name, _)) = self.all.remove(&token) else { return };
        let is_plain_end = matches!(error, ChannelError::Closed);
        let level = if is_plain_end { log::Level::Info } else { log::Level::Warn };
        Record::at(level, "edge-closed").field("peer", name).field("error", error).emit();
        reactor.accuse(name, error);
    }
}
