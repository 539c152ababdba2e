//! The way to the auth helper: who stands behind a grant that a receiver shows, and whether a password is right. What a
//! receiver asks with a grant that is not known yet waits here until it is; without the helper it waits for a while.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vsmtp_daemon::{Link, Reactor};
use vsmtp_ipc::edge::filter_auth::{Answer, Ask, CREDITS, Identity, Verified};
use vsmtp_ipc::edge::receiver_filter;
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::wire::Grant;
use vsmtp_ipc::{ChannelError, Credits, EdgeId};

use super::seats::Key;
use crate::identity::Verifier;
use crate::process::leader::cede_or_stay;

/// Longest wait of a rule for the word about a password: a little longer than the helper's own.
const VERIFY: Duration = Duration::from_secs(32);
/// Most questions of rules that wait to be sent; there are not more workers.
const MAX_REQUESTS: usize = 1024;
/// Most questions that wait in all.
const MAX_WAITING: usize = 100_000;
/// Most helpers at once: of the generations that a reload leaves.
const MAX_EDGES: usize = 8;

/// A receiver's question that waits until it is known who asks.
pub struct Parked {
    pub key: Key,
    pub receiver: ProcessName,
    pub grant: Grant,
    pub ask: receiver_filter::Ask,
    pub descriptor: Option<OwnedFd>,
}

/// What is asked.
enum What {
    Confirm(Box<Parked>),
    Verify(Grant, SyncSender<Verified>),
}

struct Waiting {
    what: What,
    since_ms: u64,
    /// Helpers that know nothing of it.
    in_vain: Vec<usize>,
}

struct Edge {
    token: usize,
    name: ProcessName,
    link: Link<Ask, Answer>,
    credits: Credits,
    pending: HashMap<u64, Waiting>,
}

/// All helpers; the youngest is asked first.
pub struct Identities {
    edges: Vec<Edge>,
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
    requests: Receiver<(Grant, SyncSender<Verified>)>,
    door: Arc<Door>,
}

/// What rules ask through, from any thread.
struct Door {
    requests: SyncSender<(Grant, SyncSender<Verified>)>,
    /// Wakes the loop; set when there is one.
    wake: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl Verifier for Door {
    fn verify(&self, grant: Grant) -> Verified {
        // The loop itself must carry the question: it cannot wait for its own answer.
        if cede_or_stay() {
            return Verified::Unavailable;
        }
        let (answer, heard) = sync_channel(1);
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (Ok(()), Some(wake)) = (self.requests.try_send((grant, answer)), wake) else {
            return Verified::Unavailable;
        };
        wake();
        heard.recv_timeout(VERIFY).unwrap_or(Verified::Unavailable)
    }
}

impl Identities {
    /// No helper yet.
    pub fn new() -> Self {
        let (sender, requests) = sync_channel(MAX_REQUESTS);
        let door = Arc::new(Door { requests: sender, wake: Mutex::new(None) });
        Identities { edges: Vec::new(), waiting: VecDeque::new(), next_ticket: 0, requests, door }
    }

    /// How the loop is woken from now on.
    pub fn wake_by(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        *self.door.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// What rules ask through.
    pub fn verifier(&self) -> Arc<dyn Verifier> {
        self.door.clone()
    }

    /// Takes a new edge; replaces the one of the same process, and the oldest if there are too many.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: usize,
    ) -> io::Result<()> {
        let link = Link::new(reactor, socket, EdgeId::FilterAuth, token)?;
        let same = self.edges.iter().find(|edge| edge.name == name);
        let oldest = self.edges.last().filter(|_| self.edges.len() >= MAX_EDGES);
        if let Some(old) = same.or(oldest).map(|edge| edge.token) {
            self.lose(old);
        }
        let edge = Edge { token, name, link, credits: Credits::new(CREDITS), pending: HashMap::new() };
        self.edges.insert(0, edge);
        Ok(())
    }

    /// True if it is the token of a helper.
    pub fn has(&self, token: usize) -> bool {
        self.edges.iter().any(|edge| edge.token == token)
    }

    /// An edge is gone: what it was asked, others are asked. Its name.
    pub fn lose(&mut self, token: usize) -> Option<ProcessName> {
        let at = self.edges.iter().position(|edge| edge.token == token)?;
        let edge = self.edges.remove(at);
        self.waiting.extend(edge.pending.into_values());
        Some(edge.name)
    }

    /// Has a question of a receiver wait until it is known who asks. Handed back if too many do.
    pub fn park(&mut self, parked: Parked, now_ms: u64) -> Result<(), Box<Parked>> {
        let parked = Box::new(parked);
        if self.waiting.len() >= MAX_WAITING {
            return Err(parked);
        }
        self.waiting.push_back(Waiting {
            what: What::Confirm(parked),
            since_ms: now_ms,
            in_vain: Vec::new(),
        });
        Ok(())
    }

    /// The rules have judged.
    pub fn settle(&mut self, grant: Grant, accepted: bool) {
        for edge in &mut self.edges {
            // One that cannot be told is about to be lost.
            let _ = edge.link.send(&Ask::Settle { grant, accepted }, Vec::new());
        }
    }

    /// Sends what waits, as far as there are helpers and credits. Hands back what nobody knows.
    pub fn pump(&mut self, now_ms: u64) -> Vec<Parked> {
        while let Ok((grant, answer)) = self.requests.try_recv() {
            self.waiting.push_back(Waiting {
                what: What::Verify(grant, answer),
                since_ms: now_ms,
                in_vain: Vec::new(),
            });
        }
        let mut unknown = Vec::new();
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else { break };
            if let Some(waiting) = self.send(waiting) {
                if waiting.in_vain.is_empty()
                    || self.edges.iter().any(|e| !waiting.in_vain.contains(&e.token))
                {
                    self.waiting.push_back(waiting);
                } else if let What::Confirm(parked) = waiting.what {
                    unknown.push(*parked);
                }
            }
        }
        unknown
    }

    /// Asks the first helper that may know. Handed back if there is none now.
    fn send(&mut self, waiting: Waiting) -> Option<Waiting> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let ask = match &waiting.what {
            What::Confirm(parked) => Ask::Confirm { ticket, receiver: parked.receiver, grant: parked.grant },
            What::Verify(grant, _) => Ask::Verify { ticket, grant: *grant },
        };
        let may_know = |edge: &&mut Edge| !waiting.in_vain.contains(&edge.token) && edge.credits.free() > 0;
        let Some(edge) = self.edges.iter_mut().find(may_know) else { return Some(waiting) };
        if edge.link.send(&ask, Vec::new()).is_err() || !edge.credits.take() {
            return Some(waiting);
        }
        edge.pending.insert(ticket, waiting);
        None
    }

    /// The next answer about a receiver's question; the others are passed on at once. `None` when there is no more.
    ///
    /// # Errors
    /// The edge is to be closed.
    pub fn hear(&mut self, token: usize) -> Result<Option<(Box<Parked>, Identity)>, ChannelError> {
        loop {
            let Some(edge) = self.edges.iter_mut().find(|edge| edge.token == token) else { return Ok(None) };
            let Some(received) = edge.link.receive()? else { return Ok(None) };
            let (Answer::Confirmed { ticket, .. } | Answer::Verified { ticket, .. }) = received.message;
            let waiting = edge.pending.remove(&ticket).filter(|_| edge.credits.give_back());
            let Some(mut waiting) = waiting else {
                return Err(ChannelError::Misbehaved("answered what nobody asked".to_owned()));
            };
            match (waiting.what, received.message) {
                (What::Confirm(parked), Answer::Confirmed { identity: Some(identity), .. }) => {
                    return Ok(Some((parked, identity)));
                }
                (What::Confirm(parked), Answer::Confirmed { identity: None, .. }) => {
                    waiting.in_vain.push(token);
                    self.waiting.push_back(Waiting { what: What::Confirm(parked), ..waiting });
                }
                (What::Verify(_, answer), Answer::Verified { verified, .. }) => {
                    // The rule may have been stopped meanwhile.
                    let _ = answer.try_send(verified);
                }
                _ => {
                    return Err(ChannelError::Misbehaved(
                        "answered another question than was asked".to_owned(),
                    ));
                }
            }
        }
    }

    /// Questions that wait since before `before_ms`; those of rules have their own end.
    pub fn expired(&mut self, before_ms: u64) -> Vec<Parked> {
        let (mut out, mut left) = (Vec::new(), VecDeque::new());
        for waiting in self.waiting.drain(..) {
            match waiting.what {
                What::Confirm(parked) if waiting.since_ms < before_ms => out.push(*parked),
                What::Verify(..) if waiting.since_ms < before_ms => {}
                what => left.push_back(Waiting { what, ..waiting }),
            }
        }
        self.waiting = left;
        out
    }

    /// The questions of a receiver that is gone are of no interest.
    pub fn drop_receiver(&mut self, token: usize) {
        let of_it =
            |waiting: &Waiting| matches!(&waiting.what, What::Confirm(parked) if parked.key.token == token);
        self.waiting.retain(|waiting| !of_it(waiting));
        for edge in &mut self.edges {
            for waiting in edge.pending.values_mut().filter(|waiting| of_it(waiting)) {
                if let What::Confirm(parked) = &mut waiting.what {
                    // Its answer is still to come, and then finds no receiver.
                    parked.descriptor = None;
                }
            }
        }
    }

    /// Sends what was said. Answers the edges that failed.
    pub fn flush(&mut self, reactor: &Reactor) -> Vec<(usize, ChannelError)> {
        let flush = |edge: &mut Edge| edge.link.flush(reactor).err().map(|error| (edge.token, error));
        self.edges.iter_mut().filter_map(flush).collect()
    }

    /// Questions in line.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
