//! The way to the auth helper: who is there, what it offers, credits. It knows no session but by its number, and nothing of
//! what the messages mean.
//!
//! On failure the edge is dropped, its sessions are told by the caller, and the master is told if the helper said what nobody
//! may say.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor};
use vsmtp_ipc::edge::receiver_auth::{Answer, Ask, CREDITS, Denied, MAX_WAIT_MS};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::wire::{Blob, Grant, clean};
use vsmtp_ipc::{ChannelError, Credits, EdgeId};

use crate::filter_edge::misbehaved;

/// Most helpers at once; the oldest goes first.
const MAX_EDGES: usize = 8;
/// Most mechanisms of one offer.
const MAX_OFFER: usize = 32;
/// Longest name of an identity, in octets.
const MAX_IDENTITY: usize = 255;

/// One life of one helper, for ever different from the others that this process has known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HelperKey(pub u32);

/// What a helper said of an exchange.
#[derive(Debug)]
pub enum Word {
    /// Send this to the client.
    Challenge(Blob),
    /// It is not the client; send this to it all the same.
    Refused(Blob),
    /// The client is this one.
    Granted(Grant, String),
    /// It is not, which it hears so many milliseconds later.
    Denied(Denied, u32),
}

/// What a helper said.
#[derive(Debug)]
pub enum Heard {
    /// Something that is done with already.
    Noted,
    /// These mechanisms can be had now.
    Offer(Vec<String>),
    /// A word for this session.
    Word(u64, Word),
}

/// All helpers of this process; the youngest is asked.
#[derive(Default)]
pub struct Helpers {
    edges: Vec<Edge>,
    /// Edges that failed while something was sent, and why.
    failed: Vec<(HelperKey, ChannelError)>,
    last_key: u32,
}

struct Edge {
    key: HelperKey,
    name: ProcessName,
    link: Link<Ask, Answer>,
    credits: Credits,
    /// It has spoken, as it must before it is asked.
    ready: bool,
    /// Sessions that gave up with a question open; its answer is still to come.
    abandoned: HashSet<u64>,
}

impl Helpers {
    /// Takes a new edge; `token` makes its token of its key. Answers the edge that it replaces.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: impl Fn(HelperKey) -> usize,
    ) -> io::Result<Option<HelperKey>> {
        self.last_key = self.last_key.wrapping_add(1);
        let key = HelperKey(self.last_key);
        let link = Link::new(reactor, socket, EdgeId::ReceiverAuth, token(key))?;
        let same = self.edges.iter().find(|edge| edge.name == name);
        let oldest = self.edges.first().filter(|_| self.edges.len() >= MAX_EDGES);
        let replaced = same.or(oldest).map(|edge| edge.key);
        let (credits, abandoned) = (Credits::new(CREDITS), HashSet::new());
        self.edges.push(Edge { key, name, link, credits, ready: false, abandoned });
        Ok(replaced)
    }

    /// Drops an edge. Its name, if it was there.
    pub fn remove(&mut self, key: HelperKey) -> Option<ProcessName> {
        let at = self.edges.iter().position(|edge| edge.key == key)?;
        Some(self.edges.remove(at).name)
    }

    /// The helper for a new exchange.
    pub fn choose(&self) -> Option<HelperKey> {
        self.edges.iter().rev().find(|edge| edge.ready).map(|edge| edge.key)
    }

    /// Asks something that will be answered. False if it cannot be asked now: too much is open, or it is gone.
    #[must_use]
    pub fn ask(&mut self, key: HelperKey, ask: &Ask) -> bool {
        let edge = self.edges.iter_mut().find(|edge| edge.key == key);
        let Some(edge) = edge.filter(|edge| edge.credits.free() > 0) else { return false };
        // The credit is there, as was just seen.
        let _ = edge.credits.take();
        self.say(key, ask);
        true
    }

    /// Says something that will not be answered.
    pub fn say(&mut self, key: HelperKey, ask: &Ask) {
        if let Some(edge) = self.edges.iter_mut().find(|edge| edge.key == key)
            && let Err(error) = edge.link.send(ask, Vec::new())
        {
            self.failed.push((key, error));
        }
    }

    /// A session gives its exchange up; `open` if a question is.
    pub fn cancel(&mut self, key: HelperKey, session: u64, open: bool) {
        self.say(key, &Ask::Cancel { exchange: session });
        let edge = self.edges.iter_mut().find(|edge| edge.key == key);
        if let Some(edge) = edge.filter(|_| open) {
            edge.abandoned.insert(session);
        }
    }

    /// The next thing that a helper has said; `None` when there is no more for now.
    ///
    /// # Errors
    /// The edge is to be dropped.
    pub fn hear(&mut self, key: HelperKey) -> Result<Option<Heard>, ChannelError> {
        let Some(edge) = self.edges.iter_mut().find(|edge| edge.key == key) else { return Ok(None) };
        let Some(received) = edge.link.receive()? else { return Ok(None) };
        edge.heard(received.message).map(Some)
    }

    /// Sends what was said in this turn.
    pub fn flush(&mut self, reactor: &Reactor) {
        for edge in &mut self.edges {
            if let Err(error) = edge.link.flush(reactor) {
                self.failed.push((edge.key, error));
            }
        }
    }

    /// An edge that failed while something was sent.
    pub fn take_failed(&mut self) -> Option<(HelperKey, ChannelError)> {
        self.failed.pop()
    }

    /// True if this is the helper that is asked.
    pub fn is_chosen(&self, key: HelperKey) -> bool {
        self.choose() == Some(key)
    }
}

impl Edge {
    fn heard(&mut self, answer: Answer) -> Result<Heard, ChannelError> {
        let (session, word) = match answer {
            Answer::Offer(offer) => {
                if offer.len() > MAX_OFFER || !offer.iter().all(|name| is_mechanism(name)) {
                    return Err(misbehaved("offered what is no mechanism"));
                }
                self.ready = true;
                return Ok(Heard::Offer(offer));
            }
            Answer::Challenge { exchange, challenge } => (exchange, Word::Challenge(challenge)),
            Answer::Refused { exchange, challenge } => (exchange, Word::Refused(challenge)),
            Answer::Granted { exchange, grant, identity } => {
                if identity.is_empty() || !clean(&identity, MAX_IDENTITY) {
                    return Err(misbehaved("named nobody"));
                }
                (exchange, Word::Granted(grant, identity))
            }
            Answer::Denied { exchange, why, wait_ms } => {
                (exchange, Word::Denied(why, wait_ms.min(MAX_WAIT_MS)))
            }
        };
        if !self.credits.give_back() {
            return Err(misbehaved("answered what nobody asked"));
        }
        if self.abandoned.remove(&session) {
            // What it granted is of no use to anybody.
            if let Word::Granted(grant, _) = word {
                self.link.send(&Ask::End { grant }, Vec::new())?;
            }
            return Ok(Heard::Noted);
        }
        Ok(Heard::Word(session, word))
    }
}

/// RFC 4422 3.1.
fn is_mechanism(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=20).contains(&name.len()) && name.bytes().all(allowed)
}
