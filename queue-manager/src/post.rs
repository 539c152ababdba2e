//! The post-queue filter's edge: each accepted message is judged once, at the stages that have rules, before any attempt.
//! What it changes is committed as the message's next revision first, so that an edit never happens twice.
//!
//! On failure messages wait: without a verdict nothing is delivered past a rule. What goes wrong about one message keeps
//! no other waiting.

mod asked;
mod edit;
mod line;
mod question;
mod verdict;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor};
use vsmtp_ipc::edge::queue_filter::{CREDITS, MAX_DELEGATES, PostAsk, PostVerdict};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, Credits, EdgeId};
use vsmtp_mail::QueueId;

use crate::ledger::{Clock, Judgement, Ledger};
use crate::trace;

use asked::Asked;

/// Most filters at once, those of old generations included. The oldest makes room for a new one.
const MAX_EDGES: usize = 16;

/// Filters that may have died with a question about one message before it is put off.
const MAX_DEATHS: u32 = 1;
/// Messages of which it is remembered that filters have died with them.
const MAX_UNLUCKY: usize = 4_096;

/// All post-queue filters; the newest is asked.
#[derive(Default)]
pub struct Post {
    edges: HashMap<usize, Edge>,
    newest: Option<usize>,
    asked: HashMap<u64, Asked>,
    last_ticket: u64,
    /// Those of which something is on its way to the disk. They are asked about when it is there.
    changing: Vec<QueueId>,
    /// With how many filters a question about a message has died since it was answered last. One may be why they die.
    unlucky: HashMap<QueueId, u32>,
    /// Those of them whose turn it would be while another is asked about. Asked together, all would share the fate of the
    /// one that is to blame, each time.
    suspects: VecDeque<QueueId>,
}

struct Edge {
    name: ProcessName,
    link: Link<PostAsk, PostVerdict>,
    credits: Credits,
    wanted: Option<(bool, bool)>,
}

impl Post {
    /// A new filter: it is asked from now on, once it has said what it wants.
    pub fn connect(
        &mut self,
        ledger: &mut Ledger,
        reactor: &mut Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: usize,
        clock: Clock,
    ) {
        let oldest = self.edges.keys().min().copied().filter(|_| self.edges.len() >= MAX_EDGES);
        if let Some(oldest) = oldest {
            trace::trouble("too-many-edges", &name);
            self.disconnect(oldest, &ChannelError::Closed, ledger, reactor, clock);
        }
        match Link::new(reactor, socket, EdgeId::QueueFilter, token) {
            Ok(link) => {
                self.edges.insert(token, Edge { name, link, credits: Credits::new(CREDITS), wanted: None });
                trace::edge_opened(name);
            }
            Err(error) => trace::trouble("edge-failed", &error),
        }
    }

    /// True if the token is a post-queue filter's.
    pub fn has(&self, token: usize) -> bool {
        self.edges.contains_key(&token)
    }

    /// Takes all that one filter has said.
    pub fn hear(&mut self, token: usize, ledger: &mut Ledger, reactor: &mut Reactor, clock: Clock) {
        let result = loop {
            let Some(edge) = self.edges.get_mut(&token) else { return };
            match edge.link.receive() {
                Ok(Some(received)) => {
                    if let Err(error) = self.take(token, received.message, ledger, clock) {
                        break error;
                    }
                }
                Ok(None) => return,
                Err(error) => break error,
            }
        };
        self.disconnect(token, &result, ledger, reactor, clock);
    }

    /// Sends the questions of this turn.
    pub fn flush(&mut self, ledger: &mut Ledger, reactor: &mut Reactor, clock: Clock) {
        let failed: Vec<(usize, ChannelError)> = self
            .edges
            .iter_mut()
            .filter_map(|(token, edge)| edge.link.flush(reactor).err().map(|error| (*token, error)))
            .collect();
        for (token, error) in failed {
            self.disconnect(token, &error, ledger, reactor, clock);
        }
    }

    fn take(
        &mut self,
        token: usize,
        verdict: PostVerdict,
        ledger: &mut Ledger,
        clock: Clock,
    ) -> Result<(), ChannelError> {
        let ticket = match &verdict {
            PostVerdict::Wanted { postq, delivery, delegates } => {
                if delegates.as_ref().is_some_and(|all| all.len() > MAX_DELEGATES) {
                    return Err(ChannelError::Misbehaved("more services than there can be".to_owned()));
                }
                self.wanted(token, (*postq, *delivery), ledger)?;
                ledger.delegates.clone_from(delegates);
                return Ok(());
            }
            PostVerdict::Keep { ticket, .. }
            | PostVerdict::Edit { ticket, .. }
            | PostVerdict::Refuse { ticket, .. }
            | PostVerdict::Unavailable { ticket } => *ticket,
        };
        let asked = match self.asked.entry(ticket) {
            Entry::Occupied(asked) if asked.get().token == token => asked.remove(),
            _ => return Err(ChannelError::Misbehaved("verdict on what was not asked".to_owned())),
        };
        if let Some(edge) = self.edges.get_mut(&token) {
            let _ = edge.credits.give_back();
        }
        let id = asked.id;
        let judged = self.judged(verdict, asked, ledger, clock);
        // One stage may be over, and the next one be what filters die of.
        if !self.is_asked(id) {
            self.unlucky.remove(&id);
        }
        if judged.is_err() {
            // Who says such things is heard no more, and another one is asked.
            ledger.line.push_front(id);
        }
        judged
    }

    fn wanted(
        &mut self,
        token: usize,
        wanted: (bool, bool),
        ledger: &mut Ledger,
    ) -> Result<(), ChannelError> {
        let Some(edge) = self.edges.get_mut(&token) else { return Err(ChannelError::Closed) };
        if edge.wanted.replace(wanted).is_some() {
            return Err(ChannelError::Misbehaved("said twice what it wants".to_owned()));
        }
        self.newest = Some(token);
        ledger.judgement = Judgement::Wanted { postq: wanted.0, delivery: wanted.1 };
        ledger.line_is_short = true;
        Ok(())
    }

    fn disconnect(
        &mut self,
        token: usize,
        error: &ChannelError,
        ledger: &mut Ledger,
        reactor: &mut Reactor,
        clock: Clock,
    ) {
        let Some(edge) = self.edges.remove(&token) else { return };
        let lost: Vec<u64> =
            self.asked.iter().filter(|(_, asked)| asked.token == token).map(|(ticket, _)| *ticket).collect();
        for ticket in &lost {
            if let Some(asked) = self.asked.remove(ticket) {
                // Who was sent away for what it said has not died of the message.
                match error {
                    ChannelError::Closed | ChannelError::Io(_) => self.lost(asked.id, ledger, clock),
                    _ => ledger.line.push_front(asked.id),
                }
            }
        }
        if self.newest == Some(token) {
            self.newest = None;
            // Until another filter says what it wants, nothing passes.
            ledger.judgement = Judgement::Unknown;
            ledger.delegates = None;
        }
        trace::edge_closed(edge.name, error, lost.len());
        reactor.accuse(edge.name, error);
    }

    /// A filter has died with a question. The first time it may have been about any of them, and all are asked about again,
    /// one by one beside those that nothing is held against; the one with which the next filter dies too keeps no others
    /// waiting.
    fn lost(&mut self, id: QueueId, ledger: &mut Ledger, clock: Clock) {
        if self.unlucky.len() >= MAX_UNLUCKY {
            self.unlucky.clear();
        }
        let deaths = self.unlucky.entry(id).or_default();
        *deaths = deaths.saturating_add(1);
        if *deaths > MAX_DEATHS {
            ledger.put_off(id, clock);
        } else {
            ledger.line.push_front(id);
        }
    }
}
