//! The way to the queue-manager: requests wait for a credit and for an edge, and every one of them gets an answer or is
//! handed back. Order is kept.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor};
use vsmtp_ipc::edge::filter_queue::{CREDITS, Receipt, Submit};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::wire::Id;
use vsmtp_ipc::{ChannelError, Credits, EdgeId};
use vsmtp_mail::Reply;

use super::seats::Key;

/// Most requests that wait; more sessions than that cannot be open.
const MAX_WAITING: usize = 100_000;

/// What was asked, and for whom.
#[derive(Debug)]
pub struct Asked {
    pub key: Key,
    pub what: What,
}

/// Kinds of requests.
#[derive(Debug)]
pub enum What {
    /// Store the message; then say this instead of the usual reply.
    Store(Option<Reply>),
    /// Store one of the messages that a split made; the file of the original body, if it has one, waits for the last.
    Part(Option<Id>),
    /// Append to the copy of a body's file, for a message that a split made.
    Copy(CopyOf),
    /// Append a chunk to the file of this id.
    Chunk(Id),
    /// Hand over the staging file of this id.
    Open(Id),
}

/// A copy and its original.
#[derive(Debug, Clone, Copy)]
pub struct CopyOf {
    /// The copy.
    pub copy: Id,
    /// What is copied.
    pub original: Id,
    /// Octets of the copy, with what is being appended.
    pub end: u64,
}

struct Waiting {
    submit: Submit,
    descriptors: Vec<OwnedFd>,
    ticket: u64,
    asked: Asked,
    since_ms: u64,
}

/// The edge, or none while the queue-manager is away.
#[derive(Default)]
pub struct QueueLink {
    edge: Option<Edge>,
    next_ticket: u64,
    waiting: VecDeque<Waiting>,
}

struct Edge {
    link: Link<Submit, Receipt>,
    name: ProcessName,
    credits: Credits,
    pending: HashMap<u64, Asked>,
}

impl QueueLink {
    /// Takes a new edge. Hands back what the old one never answered.
    pub fn connect(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: usize,
    ) -> io::Result<Vec<Asked>> {
        let lost = self.disconnect().1;
        let link = Link::new(reactor, socket, EdgeId::FilterQueue, token)?;
        self.edge = Some(Edge { link, name, credits: Credits::new(CREDITS), pending: HashMap::new() });
        Ok(lost)
    }

    /// Drops the edge. Hands back its name and what it never answered; what waits goes on waiting.
    pub fn disconnect(&mut self) -> (Option<ProcessName>, Vec<Asked>) {
        match self.edge.take() {
            Some(edge) => (Some(edge.name), edge.pending.into_values().collect()),
            None => (None, Vec::new()),
        }
    }

    /// Puts a request in line; `make` gets its ticket. Handed back if the line is full.
    pub fn submit(
        &mut self,
        now_ms: u64,
        asked: Asked,
        make: impl FnOnce(u64) -> Submit,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), Asked> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(asked);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let descriptors = Vec::from_iter(descriptor);
        self.waiting.push_back(Waiting {
            submit: make(ticket),
            descriptors,
            ticket,
            asked,
            since_ms: now_ms,
        });
        Ok(())
    }

    /// Queues as much as there are credits for. Hands back what cannot be sent at all.
    pub fn pump(&mut self) -> Vec<Asked> {
        let mut refused = Vec::new();
        let Some(edge) = &mut self.edge else { return refused };
        while !self.waiting.is_empty() && edge.credits.take() {
            let Some(Waiting { submit, descriptors, ticket, asked, .. }) = self.waiting.pop_front() else {
                break;
            };
            match edge.link.send(&submit, descriptors) {
                Ok(()) => {
                    edge.pending.insert(ticket, asked);
                }
                Err(error) => {
                    log::error!("event=submit-failed error=\"{error}\"");
                    let _ = edge.credits.give_back();
                    refused.push(asked);
                }
            }
        }
        refused
    }

    /// The next answer, with what it answers.
    pub fn hear(&mut self) -> Result<Option<(Asked, Receipt, Option<OwnedFd>)>, ChannelError> {
        let Some(edge) = &mut self.edge else { return Ok(None) };
        let Some(received) = edge.link.receive()? else { return Ok(None) };
        let ticket = match received.message {
            Receipt::Stored { ticket }
            | Receipt::Refused { ticket, .. }
            | Receipt::ChunkStored { ticket }
            | Receipt::Staged { ticket } => ticket,
        };
        let asked = edge.pending.remove(&ticket).filter(|_| edge.credits.give_back());
        let asked = asked.ok_or_else(|| ChannelError::Misbehaved("answered what nobody asked".to_owned()))?;
        Ok(Some((asked, received.message, received.descriptors.into_iter().next())))
    }

    /// Requests that wait since before `before_ms`.
    pub fn expired(&mut self, before_ms: u64) -> Vec<Asked> {
        let mut out = Vec::new();
        while self.waiting.front().is_some_and(|waiting| waiting.since_ms < before_ms) {
            out.extend(self.waiting.pop_front().map(|waiting| waiting.asked));
        }
        out
    }

    /// Forgets a staging file. If nobody is there, its owner forgets it by itself.
    pub fn discard(&mut self, id: Id) {
        if let Some(edge) = &mut self.edge
            && let Err(error) = edge.link.send(&Submit::Discard(id), Vec::new())
        {
            log::warn!("event=discard-failed error=\"{error}\"");
        }
    }

    /// Sends what is queued.
    pub fn flush(&mut self, reactor: &Reactor) -> Result<(), ChannelError> {
        self.edge.as_mut().map_or(Ok(()), |edge| edge.link.flush(reactor))
    }

    /// Requests in line.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests without an answer.
    pub fn pending(&self) -> usize {
        self.edge.as_ref().map_or(0, |edge| edge.pending.len())
    }
}
