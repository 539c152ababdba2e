//! The way to the session filters: who is there, which stages they want, credits, and the line of sessions that wait for
//! one. It knows no session but by its number.
//!
//! On failure the edge is dropped, its sessions are told by the caller, and the master is told if the filter said what
//! nobody may say.

mod words;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor};
use vsmtp_ipc::edge::receiver_filter::{Ask, CREDITS, Decision, Kept, Verdict};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, Credits, EdgeId};

pub use words::{completed, mail_from, rcpt_to, verdict};

/// How long a session waits for a credit or a filter before its client hears 451, in milliseconds.
pub const CREDIT_MS: u64 = 30_000;
/// The loop's timer for that.
pub const CREDIT_TIMER: u64 = 1;
/// Most filters at once; the oldest goes first.
const MAX_EDGES: usize = 16;

/// One life of one filter, for ever different from the others that this process has known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EdgeKey(pub u32);

/// The stages that a filter wants to be asked about, besides recipients and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Connect.
    pub connect: bool,
    /// HELO and EHLO.
    pub helo: bool,
    /// What the auth helper has granted.
    pub authenticate: bool,
    /// MAIL.
    pub mail: bool,
}

/// An answer to what a session asked.
#[derive(Debug)]
pub enum Answer {
    /// To everything but recipients and chunks.
    Decided(Decision),
    /// One for each recipient.
    Recipients(Vec<Decision>),
    /// What became of the chunk.
    Chunk(Kept),
}

/// What a filter said.
#[derive(Debug)]
pub enum Heard {
    /// Something that is done with already.
    Noted,
    /// An answer for this session.
    Answer(u64, Answer),
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It goes out at the end of the turn.
    Sent,
    /// Too many are in flight: wait in line.
    NoCredit,
    /// The edge is gone.
    Gone,
}

/// A session in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// The session.
    pub session: u64,
    /// Since when, in monotonic milliseconds.
    pub since_ms: u64,
}

/// All filters of this process.
#[derive(Default)]
pub struct Filters {
    edges: Vec<Edge>,
    line: VecDeque<Waiter>,
    /// The timer for the first in line, or for one who was first, will fire.
    timer_is_set: bool,
    /// Edges that failed while something was sent, and why.
    failed: Vec<(EdgeKey, ChannelError)>,
    last_key: u32,
}

struct Edge {
    key: EdgeKey,
    name: ProcessName,
    link: Link<Ask, Verdict>,
    credits: Credits,
    wanted: Option<Wanted>,
    /// Sessions that ended with a question open; its answer is still to come.
    abandoned: HashSet<u64>,
    /// Something was said that somebody waits for.
    urgent: bool,
}

impl Filters {
    /// Takes a new edge; `token` makes its token of its key. Answers the edge that it replaces.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: impl Fn(EdgeKey) -> usize,
    ) -> io::Result<Option<EdgeKey>> {
        self.last_key = self.last_key.wrapping_add(1);
        let key = EdgeKey(self.last_key);
        let link = Link::new(reactor, socket, EdgeId::ReceiverFilter, token(key))?;
        let same = self.edges.iter().find(|edge| edge.name == name);
        let oldest = self.edges.first().filter(|_| self.edges.len() >= MAX_EDGES);
        let replaced = same.or(oldest).map(|edge| edge.key);
        let (credits, abandoned) = (Credits::new(CREDITS), HashSet::new());
        self.edges.push(Edge { key, name, link, credits, wanted: None, abandoned, urgent: true });
        Ok(replaced)
    }

    /// Drops an edge. Its name, if it was there.
    pub fn remove(&mut self, key: EdgeKey) -> Option<ProcessName> {
        let at = self.edges.iter().position(|edge| edge.key == key)?;
        Some(self.edges.remove(at).name)
    }

    /// True while the edge is there.
    pub fn is_alive(&self, key: EdgeKey) -> bool {
        self.edges.iter().any(|edge| edge.key == key)
    }

    /// A filter that can be asked: the one that knows the session, or else one for its number.
    pub fn choose(&self, known: Option<EdgeKey>, session: u64) -> Option<(EdgeKey, Wanted)> {
        let ready = |edge: &Edge| edge.wanted.map(|wanted| (edge.key, wanted));
        let same = known.and_then(|key| self.edges.iter().find(|edge| edge.key == key)).and_then(ready);
        same.or_else(|| {
            let count = self.edges.iter().filter_map(ready).count();
            let turn = usize::try_from(session).unwrap_or(0).checked_rem(count)?;
            self.edges.iter().filter_map(ready).nth(turn)
        })
    }

    /// Takes a credit of that edge. The question must follow at once.
    pub fn take_credit(&mut self, key: EdgeKey) -> Asked {
        match self.edges.iter_mut().find(|edge| edge.key == key).map(|edge| edge.credits.take()) {
            Some(true) => Asked::Sent,
            Some(false) => Asked::NoCredit,
            None => Asked::Gone,
        }
    }

    /// Gives a credit back that was taken for nothing.
    pub fn return_credit(&mut self, key: EdgeKey) {
        if let Some(edge) = self.edges.iter_mut().find(|edge| edge.key == key) {
            let _ = edge.credits.give_back();
        }
    }

    /// Says something to a filter: a question for which there is a credit, or what is not answered.
    pub fn say(&mut self, key: EdgeKey, ask: &Ask, descriptor: Option<OwnedFd>) {
        let Some(edge) = self.edges.iter_mut().find(|edge| edge.key == key) else { return };
        edge.urgent |= !matches!(ask, Ask::Forget { .. });
        if let Err(error) = edge.link.send(ask, Vec::from_iter(descriptor)) {
            self.failed.push((key, error));
        }
    }

    /// The next thing that a filter has said; `None` when there is no more for now.
    ///
    /// # Errors
    /// The edge is to be dropped.
    pub fn hear(&mut self, key: EdgeKey) -> Result<Option<Heard>, ChannelError> {
        let Some(edge) = self.edges.iter_mut().find(|edge| edge.key == key) else { return Ok(None) };
        let Some(received) = edge.link.receive()? else { return Ok(None) };
        edge.heard(received.message).map(Some)
    }

    /// A session has ended with a question open: its answer will be of no interest.
    pub fn abandon(&mut self, key: EdgeKey, session: u64) {
        if let Some(edge) = self.edges.iter_mut().find(|edge| edge.key == key) {
            edge.abandoned.insert(session);
        }
    }

    /// Puts a session in line.
    pub fn wait_in_line(&mut self, reactor: &mut Reactor, session: u64) -> Waiter {
        let waiter = Waiter { session, since_ms: reactor.now_ms() };
        if !std::mem::replace(&mut self.timer_is_set, true) {
            reactor.set_timer(waiter.since_ms + CREDIT_MS, CREDIT_TIMER);
        }
        self.line.push_back(waiter);
        waiter
    }

    /// The first in line, if there is a credit for it.
    pub fn next_in_line(&mut self) -> Option<Waiter> {
        let free = self.edges.iter().any(|edge| edge.wanted.is_some() && edge.credits.free() > 0);
        if free { self.line.pop_front() } else { None }
    }

    /// After the timer has fired: the first in line, if it has waited too long; sets the timer for the next.
    pub fn next_expired(&mut self, reactor: &mut Reactor) -> Option<Waiter> {
        self.timer_is_set = false;
        let first = self.line.front()?;
        let due = first.since_ms + CREDIT_MS;
        if reactor.now_ms() >= due {
            return self.line.pop_front();
        }
        reactor.set_timer(due, CREDIT_TIMER);
        self.timer_is_set = true;
        None
    }

    /// Sends what was said in this turn. That sessions are over wakes no filter: it goes with the next question, or with the
    /// next report to the master, a second later at most.
    pub fn flush(&mut self, reactor: &Reactor) {
        for edge in &mut self.edges {
            if !edge.urgent && !reactor.reports_now() {
                continue;
            }
            match edge.link.flush(reactor) {
                Ok(()) => edge.urgent = edge.link.is_blocked(),
                Err(error) => self.failed.push((edge.key, error)),
            }
        }
    }

    /// An edge that failed while something was sent.
    pub fn take_failed(&mut self) -> Option<(EdgeKey, ChannelError)> {
        self.failed.pop()
    }

    /// Questions without an answer.
    pub fn in_flight(&self) -> u64 {
        self.edges.iter().map(|edge| u64::from(CREDITS - edge.credits.free())).sum()
    }

    /// Sessions in line.
    pub fn waiting(&self) -> u64 {
        self.line.len() as u64
    }
}

impl Edge {
    fn heard(&mut self, verdict: Verdict) -> Result<Heard, ChannelError> {
        let (session, answer) = match verdict {
            Verdict::Wanted { connect, helo, authenticate, mail } => {
                if self.wanted.replace(Wanted { connect, helo, authenticate, mail }).is_some() {
                    return Err(misbehaved("said twice which stages it wants"));
                }
                return Ok(Heard::Noted);
            }
            Verdict::Decided { session, decision } => (session, Answer::Decided(decision)),
            Verdict::Recipients { session, decisions } => (session, Answer::Recipients(decisions)),
            Verdict::ChunkStored { session, kept } => (session, Answer::Chunk(kept)),
        };
        if !self.credits.give_back() {
            return Err(misbehaved("answered what nobody asked"));
        }
        if self.abandoned.remove(&session) {
            return Ok(Heard::Noted);
        }
        Ok(Heard::Answer(session, answer))
    }
}

/// The error of a filter that said what nobody may say.
pub fn misbehaved(what: &str) -> ChannelError {
    ChannelError::Misbehaved(what.to_owned())
}
