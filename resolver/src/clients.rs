//! The edges to those who ask. Takes questions, gives answers, keeps each client within its credits; knows no DNS.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{FIRST_TOKEN, Link, Reactor, Record};
use vsmtp_ipc::edge::client_resolver::{Answer, CREDITS, MAX_DEADLINE_MS, Query, Question};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{ChannelError, EdgeId};

use crate::desk::ClientId;

/// Most edges at once; more are refused. There may be 256 receivers and 256 deliver processes of one generation, and several
/// generations of receivers.
const MAX_CLIENTS: usize = 4096;

/// All edges.
#[derive(Default)]
pub struct Clients {
    edges: BTreeMap<ClientId, Client>,
    made: usize,
}

struct Client {
    name: ProcessName,
    link: Link<Answer, Question>,
    /// Questions without answer.
    open: u32,
}

impl Clients {
    /// Takes a new edge; its events come with its id as token. An edge of the same process is replaced: answers its id.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
    ) -> io::Result<Option<ClientId>> {
        let replaced = self.edges.iter().find(|(_, client)| client.name == name).map(|(id, _)| *id);
        if let Some(id) = replaced {
            self.edges.remove(&id);
        } else if self.edges.len() >= MAX_CLIENTS {
            return Err(io::Error::other("too many edges"));
        }
        let id = FIRST_TOKEN + self.made;
        self.made += 1;
        let link = Link::new(reactor, socket, EdgeId::ClientResolver, id)?;
        self.edges.insert(id, Client { name, link, open: 0 });
        Ok(replaced)
    }

    /// Who asks.
    pub fn role(&self, id: ClientId) -> Option<Role> {
        self.edges.get(&id).map(|client| client.name.role)
    }

    /// The next question of that client; `None` if there is none for now, or if its edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn question(&mut self, id: ClientId) -> Result<Option<Question>, ChannelError> {
        let Some(client) = self.edges.get_mut(&id) else { return Ok(None) };
        let Some(received) = client.link.receive()? else { return Ok(None) };
        if client.open >= CREDITS {
            return Err(ChannelError::Misbehaved("more questions than credits".to_owned()));
        }
        if received.message.deadline_ms > MAX_DEADLINE_MS {
            return Err(ChannelError::Misbehaved("deadline is too far".to_owned()));
        }
        let is_client_name = matches!(received.message.query, Query::ClientName(_));
        if client.name.role == Role::Receiver && !is_client_name {
            return Err(ChannelError::Misbehaved("asks what it has no use for".to_owned()));
        }
        client.open += 1;
        Ok(Some(received.message))
    }

    /// Answers a question; dropped if the edge is gone.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn answer(&mut self, id: ClientId, answer: &Answer) -> Result<(), ChannelError> {
        let Some(client) = self.edges.get_mut(&id) else { return Ok(()) };
        client.open = client.open.saturating_sub(1);
        client.link.send(answer, Vec::new())
    }

    /// Sends what was said in this turn. Answers the edges that failed.
    pub fn flush(&mut self, reactor: &Reactor) -> Vec<(ClientId, ChannelError)> {
        let flush = |(id, client): (&ClientId, &mut Client)| {
            client.link.flush(reactor).err().map(|error| (*id, error))
        };
        self.edges.iter_mut().filter_map(flush).collect()
    }

    /// Drops an edge that failed, and tells the master unless its peer is gone.
    pub fn close(&mut self, reactor: &mut Reactor, id: ClientId, error: &ChannelError) {
        let Some(client) = self.edges.remove(&id) else { return };
        let is_plain_end = matches!(error, ChannelError::Closed);
        let level = if is_plain_end { log::Level::Info } else { log::Level::Warn };
        Record::at(level, "edge-closed")
            .field("peer", client.name)
            .field("open", client.open)
            .field("error", error)
            .emit();
        reactor.accuse(client.name, error);
    }
}
