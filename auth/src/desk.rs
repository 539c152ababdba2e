//! The desk: exchanges that are under way, grants that were made, failures that were counted. Time, randomness and findings
//! come in, acts come out; nothing here blocks.
//!
//! A process that says what the contract forbids is an `Err`, which costs it its edge and nobody else anything. What nobody
//! can tell is never a yes and never a no.

mod brakes;
mod exchange;
mod filters;
mod grants;
mod operator;

use std::collections::HashMap;
use std::io;

use vsmtp_config::{AuthSlice, CertificateLogins, Network};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::{filter_auth, receiver_auth};
use vsmtp_ipc::role::ProcessName;

use crate::backend::{Backends, dovecot, possible};
use crate::mechanism::Mechanism;
use crate::secret::{Bearer, Credentials};

pub use crate::backend::{Finding, Place};
pub use brakes::{Brakes, MAX_COUNTED};
use exchange::Exchange;
use grants::Grants;

/// How long a check may take before the client hears that nobody could tell, in milliseconds.
pub const WORK_MS: u64 = 30_000;
/// How long one that was wrong too often waits, in milliseconds.
pub const THROTTLED_MS: u32 = 3_000;
/// How long a password waits for the rules' question about it, in milliseconds.
pub const PENDING_MS: u64 = 30_000;

/// Names an edge; never used twice.
pub type Edge = usize;

/// What the desk wants done.
#[derive(Debug)]
pub enum Act {
    /// Say this to a receiver.
    Answer(Edge, receiver_auth::Answer),
    /// Say this to a filter.
    Reply(Edge, filter_auth::Answer),
    /// Have this done by a thread, and report it by [`Desk::done`] with this number.
    Work(u64, Work),
    /// Call [`Desk::due`] with this number at that time.
    Timer(u64, u64),
}

/// What may block.
#[derive(Debug)]
pub enum Work {
    /// Ask the back-ends.
    Check(Credentials, Place),
    /// Judge a token.
    Judge(Bearer),
    /// Ask saslauthd.
    Verify(Credentials),
    /// Have Dovecot begin an exchange.
    Relay(Mechanism, Option<Vec<u8>>, Place, dovecot::Seat),
    /// Have Dovecot go on with it.
    GoOn(dovecot::Exchange, Vec<u8>),
    /// Ask Dovecot what it can.
    Survey,
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// It is this user.
    Yes(String),
    /// It is not; whom the client named, as far as that is known.
    No(Option<String>),
    /// It is not, and that counts as no failure.
    NoGuess,
    /// Nobody could tell.
    Unknown,
    /// Dovecot wants the client to hear this.
    Challenge(dovecot::Exchange, Vec<u8>),
    /// What Dovecot can; `None` if it cannot be asked.
    Mechanisms(Option<Vec<Mechanism>>),
}

/// The desk.
pub struct Desk {
    wanted: Vec<Mechanism>,
    /// What Dovecot can, as far as it was asked.
    relayed: Vec<Mechanism>,
    /// For exchanges that Dovecot leads.
    seats: dovecot::Seats,
    /// Whose certificate is whose.
    certificates: CertificateLogins,
    in_clear: bool,
    proxies: Vec<Network>,
    trusted: Vec<Network>,
    backends: Backends,
    random: fn(&mut [u8]) -> io::Result<()>,
    receivers: HashMap<Edge, Receiver>,
    /// Questions of filters that are open.
    filters: HashMap<Edge, u32>,
    grants: Grants,
    brakes: Brakes,
    works: HashMap<u64, Purpose>,
    timers: HashMap<u64, Due>,
    last_number: u64,
    tally: Tally,
}

/// What was decided so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Exchanges that ended well.
    pub granted: u64,
    /// Exchanges that did not.
    pub denied: u64,
    /// Of these, those of clients or accounts with too many failures.
    pub throttled: u64,
}

struct Receiver {
    name: ProcessName,
    exchanges: HashMap<u64, Exchange>,
    open: u32,
}

/// Whom a finding is for.
enum Purpose {
    /// An exchange; the user that was named, if that is known already.
    Exchange { edge: Edge, exchange: u64, user: Option<String> },
    /// A filter's question.
    Verify { edge: Edge, ticket: u64 },
}

/// What a timer is for.
enum Due {
    /// The work of that number takes too long.
    Work(u64),
    /// A password has waited long enough.
    Forget(vsmtp_ipc::wire::Grant),
}

impl Desk {
    /// An empty desk.
    pub fn new(slice: &AuthSlice, random: fn(&mut [u8]) -> io::Result<()>) -> Self {
        let window_ms = u64::try_from(slice.failure_window.as_millis()).unwrap_or(u64::MAX);
        Desk {
            wanted: slice.mechanisms.iter().filter_map(|name| Mechanism::parse(name)).collect(),
            relayed: Vec::new(),
            seats: dovecot::Seats::default(),
            certificates: CertificateLogins::new(&slice.certificates),
            in_clear: slice.in_clear,
            proxies: slice.proxies.iter().map(|network| **network).collect(),
            trusted: slice.trusted.iter().map(|network| **network).collect(),
            backends: Backends::new(&slice.backends, slice.oauth.clone()),
            random,
            receivers: HashMap::new(),
            filters: HashMap::new(),
            grants: Grants::default(),
            brakes: Brakes::new(slice.failures_per_address, slice.failures_per_account, window_ms),
            works: HashMap::new(),
            timers: HashMap::new(),
            last_number: 0,
            tally: Tally::default(),
        }
    }

    /// The back-ends.
    pub fn backends(&self) -> &Backends {
        &self.backends
    }

    /// The back-ends, to hand a file to them.
    pub fn backends_mut(&mut self) -> &mut Backends {
        &mut self.backends
    }

    /// What Dovecot can. True if that changes what is offered.
    pub fn set_relayed(&mut self, mechanisms: Vec<Mechanism>) -> bool {
        let before = self.offered();
        self.relayed = mechanisms;
        before != self.offered()
    }

    /// The mechanisms that can be had now.
    pub fn offered(&self) -> Vec<Mechanism> {
        possible(&self.backends, &self.wanted, &self.relayed)
    }

    /// The same as receivers hear it.
    pub fn offer(&self) -> receiver_auth::Answer {
        receiver_auth::Answer::Offer(self.offered().iter().map(|one| one.name().to_owned()).collect())
    }

    /// A receiver has come.
    pub fn meet_receiver(&mut self, edge: Edge, name: ProcessName) {
        self.receivers.insert(edge, Receiver { name, exchanges: HashMap::new(), open: 0 });
    }

    /// A filter has come.
    pub fn meet_filter(&mut self, edge: Edge) {
        self.filters.insert(edge, 0);
    }

    /// An edge is gone: what was granted over it is void.
    pub fn lose(&mut self, edge: Edge) {
        self.receivers.remove(&edge);
        self.filters.remove(&edge);
        self.grants.lose(edge);
    }

    /// A thread has done its work.
    pub fn done(&mut self, now_ms: u64, number: u64, outcome: Outcome) -> Vec<Act> {
        match self.works.remove(&number) {
            Some(Purpose::Exchange { edge, exchange, user }) => {
                self.found(now_ms, edge, exchange, number, user, outcome)
            }
            Some(Purpose::Verify { edge, ticket }) => self.verified(edge, ticket, &outcome),
            None => Vec::new(),
        }
    }

    /// A timer has fired.
    pub fn due(&mut self, now_ms: u64, number: u64) -> Vec<Act> {
        match self.timers.remove(&number) {
            Some(Due::Work(work)) => self.done(now_ms, work, Outcome::Unknown),
            Some(Due::Forget(grant)) => {
                self.grants.forget_password(grant);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// Exchanges and questions without an answer.
    pub fn open(&self) -> u64 {
        let receivers: u64 = self.receivers.values().map(|receiver| u64::from(receiver.open)).sum();
        receivers + self.filters.values().map(|open| u64::from(*open)).sum::<u64>()
    }

    /// What was decided so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Grants that are remembered.
    pub fn granted(&self) -> usize {
        self.grants.len()
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn work(&mut self, now_ms: u64, purpose: Purpose, work: Work) -> (u64, Vec<Act>) {
        let number = self.number();
        self.works.insert(number, purpose);
        let timer = self.timer(now_ms + WORK_MS, Due::Work(number));
        (number, vec![Act::Work(number, work), timer])
    }

    fn timer(&mut self, at_ms: u64, due: Due) -> Act {
        let number = self.number();
        self.timers.insert(number, due);
        Act::Timer(at_ms, number)
    }
}

fn misbehaved(what: &str) -> ChannelError {
    ChannelError::Misbehaved(what.to_owned())
}

#[cfg(test)]
mod tests;
