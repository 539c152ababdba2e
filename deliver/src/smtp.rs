//! `deliver --role smtp`: SMTP and LMTP to other servers, many connections in one loop. Leases come from the
//! queue-manager and wait per next hop; connections are made, used again and ended here. It opens no file.

pub mod accounts;
mod breaker;
mod connection;
mod counted;
mod destination;
mod dial;
mod dispatch;
mod elsewhere;
mod hints;
mod idle;
mod lookup;
mod ourselves;
mod resolution;
mod route;
pub mod sasl;
mod security;
mod socket;
mod sources;
mod tally;
mod traffic;
mod transaction;
mod way;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use vsmtp_config::{DeliverSlice, TlsLevel};
use vsmtp_daemon::{Boot, BootError, Daemon, Event, FIRST_TOKEN, Flow, Reactor, Record};
use vsmtp_ipc::edge::client_resolver::Query;
use vsmtp_ipc::edge::queue_deliver::{Advice, Reach, Settled};
use vsmtp_ipc::role::Role;
use vsmtp_mail::EnhancedCode;
use vsmtp_sys::sandbox::Profile;

use crate::lease::{Ended, Lease, LeaseKey, Order, Post, Verdict, span_ms};
use crate::queue::QueueEdge;
use crate::sandbox;
use crate::smtp::accounts::Accounts;
use crate::smtp::breaker::Breakers;
use crate::smtp::connection::{Connection, Stage};
use crate::smtp::destination::{Destination, Waiting};
use crate::smtp::idle::IdlePool;
use crate::smtp::lookup::Lookup;
use crate::smtp::ourselves::Ourselves;
use crate::smtp::security::Policies;
use crate::smtp::sources::Sources;
use crate::smtp::tally::Tally;
use crate::smtp::way::Way;

/// Token of the edge to the queue-manager.
const QUEUE_TOKEN: usize = FIRST_TOKEN;
/// Token of the edge to the resolver.
const RESOLVER_TOKEN: usize = FIRST_TOKEN + 1;
/// Key of the timer of questions to the resolver; the keys of connections are their tokens.
const RESOLVER_TIMER: u64 = 0;
/// Key of the timer that looks for leases that wait too long.
const SWEEP_TIMER: u64 = 1;
/// How often that is.
const SWEEP_MS: u64 = 60_000;
/// Longest wait of a lease for a connection. With [`connection::MAX_TRANSACTION_MS`] below the queue-manager's patience.
const MAX_WAIT_MS: u64 = 30 * 60_000;
/// With so much time before the end, leases that wait are still served.
const PATIENT_DRAIN_MS: u64 = 30_000;
/// Tokens of connections begin here and are never used twice.
const FIRST_CONNECTION: usize = FIRST_TOKEN + 8;
/// Most next hops without work whose routes are remembered.
const MAX_REMEMBERED: usize = 1024;

/// The daemon.
pub struct Smtp {
    slice: DeliverSlice,
    us: Ourselves,
    policies: Policies,
    tls: Rc<vsmtp_tls::client::Client>,
    accounts: Accounts,
    sources: Sources,
    queue: QueueEdge,
    lookup: Lookup<Asker>,
    destinations: HashMap<Rc<Way>, Destination>,
    connections: HashMap<usize, Connection>,
    idle: IdlePool,
    breakers: Breakers,
    tally: Tally,
    /// Next hops to look at before the turn ends.
    dirty: VecDeque<Rc<Way>>,
    /// Next hops that could not get a connection because there are too many.
    starved: VecDeque<Rc<Way>>,
    next_token: usize,
    drain: Drain,
}

/// For whom the resolver is asked.
#[derive(Debug)]
enum Asker {
    /// Mail that goes this way.
    Mail(Rc<Way>),
    /// A report for a place of the web.
    Post(LeaseKey),
}

/// How this process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    /// Not at all.
    No,
    /// All leases that were taken are seen to their end.
    Patient,
    /// Only what is on its way is. The queue-manager gets the rest back when the edge closes.
    Hasty,
}

/// Who answered, and how.
struct Heard {
    reach: Reach,
    /// What the next attempts should heed.
    advice: Advice,
    /// Name and address of the host; empty if none.
    remote: String,
    /// What TLS reached, for the log; empty if no host answered.
    tls: String,
    /// It knows of DSN: reports are its business.
    reports: bool,
    /// The sender wants to hear that it took the message.
    relayed: bool,
}

/// Our accounts at next hops, and that their policies can protect them.
fn accounts(slice: &DeliverSlice) -> Result<Accounts, BootError> {
    let Some(path) = slice.credentials_file.as_deref() else { return Ok(Accounts::default()) };
    let wrong = |error: &dyn std::fmt::Display| {
        BootError::Fatal(format!("delivery.credentials_file {path}: {error}"))
    };
    let mut file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    let accounts = Accounts::read(&mut file).map_err(|error| wrong(&error))?;
    let policies = Policies::new(&slice.tls);
    for next_hop in accounts.next_hops() {
        if policies.of(next_hop).level == TlsLevel::None {
            return Err(wrong(&format_args!("{next_hop} is not to get TLS, and without it no credentials")));
        }
    }
    Ok(accounts)
}

/// Who we are. Where the interfaces cannot be asked, only the addresses in the configuration are ours.
fn ourselves(slice: &DeliverSlice) -> Ourselves {
    let interfaces = vsmtp_sys::interfaces::addresses().unwrap_or_else(|error| {
        Record::at(log::Level::Warn, "interfaces-unknown").field("error", error).emit();
        Vec::new()
    });
    let public = slice.public_addresses.iter().map(|network| **network).collect();
    Ourselves::new((*slice.server_name).clone(), &slice.own_addresses, &interfaces, public)
}

/// The authorities for `verify`. Without any, nothing is verified and all else works.
fn roots(ca_file: Option<&str>) -> Result<vsmtp_tls::client::Roots, BootError> {
    let Some(path) = ca_file else {
        let known = rustls_native_certs::load_native_certs().certs;
        let roots = vsmtp_tls::client::Roots::of_certificates(known.iter().map(|known| known.to_vec()));
        if roots.is_empty() {
            Record::at(log::Level::Warn, "no-authorities").emit();
        }
        return Ok(roots);
    };
    let wrong =
        |error: &dyn std::fmt::Display| BootError::Fatal(format!("delivery.tls.ca_file {path}: {error}"));
    let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
    vsmtp_tls::client::Roots::of_pem(&pem).map_err(|error| wrong(&error))
}

impl Daemon for Smtp {
    const NAME: &'static str = "vsmtp-deliver";
    type Slice = DeliverSlice;

    fn before_jail(boot: Boot<DeliverSlice>) -> Result<Self, BootError> {
        let slice = boot.slice;
        let tally = Tally::new(slice.tls.reports);
        Ok(Smtp {
            accounts: accounts(&slice)?,
            policies: Policies::new(&slice.tls),
            tls: Rc::new(vsmtp_tls::client::Client::new(roots(slice.tls.ca_file.as_deref())?)),
            sources: Sources::new(&slice),
            us: ourselves(&slice),
            slice,
            queue: QueueEdge::new(QUEUE_TOKEN),
            lookup: Lookup::new(RESOLVER_TOKEN, RESOLVER_TIMER),
            destinations: HashMap::new(),
            connections: HashMap::new(),
            idle: IdlePool::default(),
            breakers: Breakers::default(),
            tally,
            dirty: VecDeque::new(),
            starved: VecDeque::new(),
            next_token: FIRST_CONNECTION,
            drain: Drain::No,
        })
    }

    fn profile(&self) -> Profile {
        sandbox::smtp(self.sources.is_any_set())
    }

    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        reactor.set_timer(reactor.now_ms() + SWEEP_MS, SWEEP_TIMER);
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        match event {
            Event::Peer(name, socket) if name.role == Role::QueueManager => {
                self.queue.connect(reactor, name, socket);
            }
            Event::Peer(name, socket) if name.role == Role::Resolver => {
                let open = self.lookup.connect(reactor, name, socket);
                self.on_answers(reactor, open);
            }
            Event::Ready { token: QUEUE_TOKEN, readable: true, .. } => self.take_leases(reactor),
            Event::Ready { token: RESOLVER_TOKEN, readable: true, .. } => {
                let answers = self.lookup.receive(reactor);
                self.on_answers(reactor, answers);
            }
            Event::Ready { token, readable, writable, closed } => {
                self.on_ready(reactor, token, readable, writable, closed);
            }
            Event::Timer(RESOLVER_TIMER) => {
                let answers = self.lookup.on_timer(reactor);
                self.on_answers(reactor, answers);
            }
            Event::Timer(SWEEP_TIMER) => self.sweep(reactor),
            Event::Timer(key) => self.on_timer(reactor, key),
            Event::StopAccepting => self.refuse_more(reactor),
            Event::Drain { deadline_ms } => self.begin_drain(reactor, deadline_ms),
            Event::TurnEnd => return self.end_turn(reactor),
            // Others are introduced to others, and a new configuration to a new process.
            Event::Peer(..)
            | Event::Listener(..)
            | Event::File(..)
            | Event::Reconfigure(_)
            | Event::Limits { .. }
            | Event::Brakes { .. } => {}
        }
        Flow::Continue
    }
}

impl Smtp {
    fn take_leases(&mut self, reactor: &mut Reactor) {
        while let Some(order) = self.queue.receive(reactor) {
            let lease = match order {
                Order::Deliver(lease) => lease,
                Order::Post(Post { key, url, body }) => {
                    let asked = self.lookup.ask(reactor, Asker::Post(key), Query::Post { url, body });
                    self.on_answers(reactor, asked.into_iter().collect());
                    continue;
                }
                Order::Withdraw(key) => {
                    self.withdraw(reactor, key);
                    continue;
                }
            };
            let way = Way::of(
                &lease,
                &self.policies.of(&lease.next_hop),
                self.slice.tls.mta_sts,
                self.slice.tls.reports,
            );
            let known = self.destinations.get_key_value(&way).map(|(known, _)| Rc::clone(known));
            let way = known.unwrap_or_else(|| Rc::new(way));
            let destination = self.destinations.entry(Rc::clone(&way)).or_default();
            destination.waiting.push_back(Waiting { lease, retries: 0, lack: None });
            self.mark(way);
        }
    }

    /// Takes no more leases, and sends back at once what was not looked at: the process may end with this turn.
    fn refuse_more(&mut self, reactor: &mut Reactor) {
        self.queue.refuse(reactor);
        self.take_leases(reactor);
    }

    /// The queue-manager has other plans with a lease. Before its server can have accepted the message it is broken off and
    /// handed back; what is sent is answered for as ever.
    fn withdraw(&mut self, reactor: &mut Reactor, key: LeaseKey) {
        let mut is_free = false;
        for destination in self.destinations.values_mut() {
            let count = destination.waiting.len();
            destination.waiting.retain(|waiting| waiting.lease.key != key);
            is_free |= destination.waiting.len() < count;
        }
        let carries = |connection: &Connection| connection.lease() == Some(key) && !connection.is_sent();
        let token =
            self.connections.iter().find(|(_, connection)| carries(connection)).map(|(token, _)| *token);
        if let Some(token) = token {
            self.break_off(token);
        }
        if is_free || token.is_some() {
            self.queue.hand_back(reactor, key);
        }
    }

    /// Ends a connection with the lease that it carries, before the server can accept it.
    fn break_off(&mut self, token: usize) {
        let Some(connection) = self.connections.remove(&token) else { return };
        if let Some(destination) = self.destinations.get_mut(&connection.serves) {
            destination.busy = destination.busy.saturating_sub(1);
        }
        self.feed_starved();
        self.mark(connection.serves);
    }

    /// Has a next hop looked at before the turn ends.
    fn mark(&mut self, way: Rc<Way>) {
        if self.dirty.back() != Some(&way) {
            self.dirty.push_back(way);
        }
    }

    /// Ends a lease that no server has heard of.
    fn refuse(
        &mut self,
        reactor: &mut Reactor,
        lease: &Lease,
        verdict: &Verdict,
        reach: Reach,
        remote: String,
    ) {
        let heard = Heard {
            reach,
            advice: Advice::default(),
            remote,
            tls: String::new(),
            reports: false,
            relayed: false,
        };
        self.refuse_as(reactor, lease, verdict, heard);
    }

    fn refuse_as(&mut self, reactor: &mut Reactor, lease: &Lease, verdict: &Verdict, heard: Heard) {
        let waited = span_ms(lease.arrived_ms, reactor.now_ms());
        self.settle(reactor, lease, lease.all(verdict), heard, (waited, 0, 0));
    }

    fn settle(
        &mut self,
        reactor: &mut Reactor,
        lease: &Lease,
        settled: Vec<Settled>,
        heard: Heard,
        delays_ms: (u32, u32, u32),
    ) {
        reactor.count("leases", 1);
        let Heard { reach, advice, remote, tls, reports, relayed } = heard;
        let (key, sessions) = (lease.key, self.tally.take());
        let ended = Ended { key, settled, reach, advice, remote, tls, reports, relayed, delays_ms, sessions };
        self.queue.settle(reactor, ended);
    }

    /// No new work. With little time what waits is given back, by closing the edge, and tried again soon.
    fn begin_drain(&mut self, reactor: &mut Reactor, deadline_ms: u64) {
        self.refuse_more(reactor);
        let patient = deadline_ms.saturating_sub(reactor.now_ms()) >= PATIENT_DRAIN_MS;
        self.drain = if patient { Drain::Patient } else { Drain::Hasty };
        if self.drain == Drain::Hasty {
            self.destinations.clear();
            self.connections.retain(|_, connection| !matches!(connection.stage, Stage::Dialing(_)));
        }
        for token in self.idle.take_all() {
            self.say_goodbye(reactor, token);
        }
    }

    /// Nothing stays here so long that the queue-manager must think that this process hangs.
    fn sweep(&mut self, reactor: &mut Reactor) {
        let arrived_ms = reactor.now_ms().saturating_sub(MAX_WAIT_MS);
        let too_late = Verdict::deferred(EnhancedCode(4, 4, 1), "no connection became free in time");
        let mut late = Vec::new();
        for destination in self.destinations.values_mut() {
            late.extend(destination.take_arrived_before(arrived_ms));
        }
        for waiting in late {
            self.refuse(reactor, &waiting.lease, &too_late, Reach::Reached, String::new());
        }
        reactor.set_timer(reactor.now_ms() + SWEEP_MS, SWEEP_TIMER);
    }

    /// True if something is still to be done.
    fn is_at_work(&self) -> bool {
        self.connections.values().any(|connection| matches!(connection.stage, Stage::Busy(_)))
            || self.destinations.values().any(|destination| !destination.waiting.is_empty())
    }

    /// The queue-manager that gave these leases is gone, and its successor gives them out again. What is not sent
    /// completely is broken off, before the server can accept it, or there would be two.
    fn abandon(&mut self) {
        for destination in self.destinations.values_mut() {
            let queue = &self.queue;
            destination.waiting.retain(|waiting| queue.is_current(waiting.lease.key.epoch));
        }
        let orphaned: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.lease().is_some_and(|key| !self.queue.is_current(key.epoch)))
            .filter(|(_, connection)| !connection.is_sent())
            .map(|(token, _)| *token)
            .collect();
        for token in orphaned {
            self.break_off(token);
        }
    }

    fn end_turn(&mut self, reactor: &mut Reactor) -> Flow {
        if self.queue.take_lost() {
            self.abandon();
        }
        while let Some(way) = self.dirty.pop_front() {
            self.pump(reactor, &way);
        }
        let answers = self.lookup.flush(reactor);
        if !answers.is_empty() {
            self.on_answers(reactor, answers);
            reactor.turn_again();
        }
        reactor.figure("connections", self.connections.len() as u64);
        reactor.figure("connections_idle", self.idle.len() as u64);
        reactor.figure("leases_open", self.queue.open() as u64);
        self.queue.flush(reactor);
        if self.queue.take_lost() {
            self.abandon();
        }
        let is_done = !self.is_at_work() && !self.queue.is_blocked();
        let must_end = self.queue.has_failed() || self.drain != Drain::No && is_done;
        if must_end { Flow::Exit } else { Flow::Continue }
    }
}
