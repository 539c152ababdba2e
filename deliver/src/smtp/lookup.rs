//! The edge to the resolver. Every question gets an answer: if the resolver is away, dies, or stays silent, the answer is
//! that names cannot be resolved now.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor, Record};
use vsmtp_ipc::edge::client_resolver::{Answer, CREDITS, DnsError, Query, Question, Records};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, Credits, EdgeId};

/// How long the resolver may take.
const DEADLINE_MS: u32 = 20_000;
/// After this time we do not wait for it any more.
const GIVE_UP_MS: u64 = 25_000;

/// An answer, matched to its question.
#[derive(Debug)]
pub struct Answered<T> {
    /// Who asked.
    pub asker: T,
    /// What.
    pub query: Query,
    /// What the resolver said.
    pub heard: Heard,
}

/// The resolver's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The records, or why there are none.
    pub result: Result<Records, DnsError>,
    /// DNSSEC vouches for it.
    pub secure: bool,
}

impl Heard {
    /// Nobody could say anything.
    fn nothing() -> Self {
        Heard { result: Err(DnsError::Temporary), secure: false }
    }
}

/// Questions in flight and waiting. `T` names the asker.
pub struct Lookup<T> {
    token: usize,
    timer: u64,
    edge: Option<(Link<Question, Answer>, ProcessName)>,
    credits: Credits,
    next_ticket: u64,
    asked: BTreeMap<u64, Asked<T>>,
    waiting: VecDeque<Question>,
    timer_set: bool,
}

struct Asked<T> {
    asker: T,
    query: Query,
    give_up_ms: u64,
}

impl<T> Lookup<T> {
    /// No edge yet; its events come with `token`, its timer with the key `timer`.
    pub fn new(token: usize, timer: u64) -> Self {
        Lookup {
            token,
            timer,
            edge: None,
            credits: Credits::new(CREDITS),
            next_ticket: 0,
            asked: BTreeMap::new(),
            waiting: VecDeque::new(),
            timer_set: false,
        }
    }

    /// Takes a new edge instead of an old one; answers what the old one leaves open.
    #[must_use]
    pub fn connect(&mut self, reactor: &Reactor, peer: ProcessName, socket: OwnedFd) -> Vec<Answered<T>> {
        let open = self.forget();
        match Link::new(reactor, socket, EdgeId::ClientResolver, self.token) {
            Ok(link) => self.edge = Some((link, peer)),
            Err(error) => {
                Record::at(log::Level::Error, "edge-failed").field("peer", peer).field("error", error).emit()
            }
        }
        open
    }

    /// Asks. Answered at once if there is nobody to ask.
    #[must_use]
    pub fn ask(&mut self, reactor: &mut Reactor, asker: T, query: Query) -> Option<Answered<T>> {
        if self.edge.is_none() {
            return Some(Answered { asker, query, heard: Heard::nothing() });
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let give_up_ms = reactor.now_ms() + GIVE_UP_MS;
        self.waiting.push_back(Question { ticket, query: query.clone(), deadline_ms: DEADLINE_MS });
        self.asked.insert(ticket, Asked { asker, query, give_up_ms });
        self.watch(reactor);
        None
    }

    /// The answers that are there.
    #[must_use]
    pub fn receive(&mut self, reactor: &mut Reactor) -> Vec<Answered<T>> {
        let mut answers = Vec::new();
        loop {
            match self.receive_one() {
                Ok(Some(answered)) => answers.extend(answered),
                Ok(None) => return answers,
                Err(error) => {
                    answers.extend(self.close(reactor, &error));
                    return answers;
                }
            }
        }
    }

    /// `Some(None)` for an answer that came after we gave up on it.
    fn receive_one(&mut self) -> Result<Option<Option<Answered<T>>>, ChannelError> {
        let Some((link, _)) = &mut self.edge else { return Ok(None) };
        let Some(received) = link.receive()? else { return Ok(None) };
        if !self.credits.give_back() {
            return Err(ChannelError::Misbehaved("answer without a question".to_owned()));
        }
        let Answer { ticket, result, secure } = received.message;
        if ticket >= self.next_ticket {
            return Err(ChannelError::Misbehaved("answer to a question that was not asked".to_owned()));
        }
        Ok(Some(self.asked.remove(&ticket).map(|Asked { asker, query, .. }| Answered {
            asker,
            query,
            heard: Heard { result, secure },
        })))
    }

    /// Sends the questions of this turn, as far as there is credit.
    #[must_use]
    pub fn flush(&mut self, reactor: &mut Reactor) -> Vec<Answered<T>> {
        match self.try_flush(reactor) {
            Ok(()) => Vec::new(),
            Err(error) => self.close(reactor, &error),
        }
    }

    fn try_flush(&mut self, reactor: &Reactor) -> Result<(), ChannelError> {
        let Some((link, _)) = &mut self.edge else { return Ok(()) };
        while self.credits.free() > 0 {
            let Some(question) = self.waiting.pop_front() else { break };
            if self.asked.contains_key(&question.ticket) && self.credits.take() {
                link.send(&question, Vec::new())?;
            }
        }
        link.flush(reactor)
    }

    /// The timer fired: questions that are too old.
    #[must_use]
    pub fn on_timer(&mut self, reactor: &mut Reactor) -> Vec<Answered<T>> {
        self.timer_set = false;
        let now = reactor.now_ms();
        let old: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.give_up_ms <= now)
            .map(|(ticket, _)| *ticket)
            .collect();
        let old = old.into_iter().filter_map(|ticket| self.asked.remove(&ticket)).map(unanswered).collect();
        self.watch(reactor);
        old
    }

    /// The peer said what is no answer to its question: closes the edge.
    #[must_use]
    pub fn misbehaved(&mut self, reactor: &mut Reactor, what: &str) -> Vec<Answered<T>> {
        self.close(reactor, &ChannelError::Misbehaved(what.to_owned()))
    }

    fn watch(&mut self, reactor: &mut Reactor) {
        // Tickets rise with time, so the first is the oldest.
        if let Some((_, oldest)) = self.asked.first_key_value()
            && !self.timer_set
        {
            reactor.set_timer(oldest.give_up_ms, self.timer);
            self.timer_set = true;
        }
    }

    fn close(&mut self, reactor: &mut Reactor, error: &ChannelError) -> Vec<Answered<T>> {
        if let Some((_, peer)) = self.edge.take() {
            Record::at(log::Level::Warn, "edge-closed").field("peer", peer).field("error", error).emit();
            reactor.accuse(peer, error);
        }
        self.forget()
    }

    fn forget(&mut self) -> Vec<Answered<T>> {
        self.edge = None;
        self.credits.reset();
        self.waiting.clear();
        std::mem::take(&mut self.asked).into_values().map(unanswered).collect()
    }
}

fn unanswered<T>(asked: Asked<T>) -> Answered<T> {
    Answered { asker: asked.asker, query: asked.query, heard: Heard::nothing() }
}
