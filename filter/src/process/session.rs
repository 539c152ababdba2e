//! `--role session`: receivers ask, rules judge, the queue-manager stores. It keeps what rules did in a session until the
//! session ends, and nothing longer.
//!
//! On failure: a receiver that says nonsense loses its edge; a queue-manager that dies costs the messages under way a 451;
//! a question that nobody can answer in time gets 451.

mod answers;
mod confirm;
mod facts;
mod identities;
mod queue;
mod seats;
mod split;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vsmtp_config::FilterSlice;
use vsmtp_daemon::{Boot, BootError, Daemon, Event, FIRST_TOKEN, Flow, Live, Reactor, Record};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::filter_queue::Submit;
use vsmtp_ipc::edge::receiver_filter::{Ask, Kept, Verdict};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{Body, Id};
use vsmtp_mail::{DELEGATION_FIELD, QueueIdMint};
use vsmtp_sys::sandbox::Profile;

use super::helpers::Helpers;
use super::leader::Desk;
use super::{cede, level_of_end, sandbox};
use crate::identity::Identity;
use crate::judge::Judge;
use crate::stage::Stage;

use identities::{Identities, Parked};
use queue::{Asked, QueueLink, What};
use seats::{Incoming, Key, Receiver};
use work::{Done, Job, Work};

pub(super) use work::run;

/// Token of the edge to the queue-manager.
const QUEUE_TOKEN: usize = FIRST_TOKEN;
/// How long a question waits for a free worker or for the queue-manager, in milliseconds.
const WAIT_MS: u64 = 30_000;
/// How often waiting questions are looked at, in milliseconds.
const LOOK_MS: u64 = 500;
const LOOK_TIMER: u64 = 1;

/// The process.
pub struct Session {
    pub(super) workers: usize,
    judge: Arc<Judge>,
    /// By the token of its edge. There are few, and each question looks several times.
    receivers: BTreeMap<usize, Receiver>,
    next_token: usize,
    queue: QueueLink,
    identities: Identities,
    jobs: VecDeque<Job>,
    running: usize,
    /// Makes the ids of the messages that a split makes.
    mint: QueueIdMint,
    draining: bool,
    looking: bool,
    helpers: Helpers,
}

impl Daemon for Session {
    const NAME: &'static str = "vsmtp-filter";
    type Slice = FilterSlice;

    fn before_jail(boot: Boot<FilterSlice>) -> Result<Self, BootError> {
        let helpers = Helpers::new(&boot.slice);
        let mut host = helpers.surroundings(&boot.slice);
        host.plugins = super::load_plugins("filter-session", &boot.slice)?;
        let mut judge =
            Judge::load(&boot.slice, &host).map_err(|error| BootError::Fatal(error.to_string()))?;
        judge.on_slow = cede;
        Ok(Session {
            workers: boot.slice.workers as usize,
            judge: Arc::new(judge),
            receivers: BTreeMap::new(),
            next_token: QUEUE_TOKEN + 1,
            queue: QueueLink::default(),
            identities: Identities::new(),
            jobs: VecDeque::new(),
            running: 0,
            mint: QueueIdMint::new(boot.node, boot.process),
            draining: false,
            looking: false,
            helpers,
        })
    }

    fn profile(&self) -> Profile {
        sandbox::judge("filter-session", self.judge.folders())
    }

    fn is_jailed(&self) -> bool {
        !self.judge.plugins.all().is_empty()
    }

    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        self.identities.wake_by(super::waker(reactor));
        self.helpers.wake_by(reactor);
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        match event {
            Event::Peer(name, socket) => self.meet(reactor, name, socket),
            Event::Ready { token: QUEUE_TOKEN, readable: true, .. } => self.hear_queue(reactor),
            Event::Ready { token, readable: true, .. } if self.identities.has(token) => {
                self.hear_auth(reactor, token);
            }
            Event::Ready { token, readable: true, .. } if self.helpers.has(token) => {
                self.helpers.hear(reactor, token);
            }
            Event::Ready { token, readable: true, .. } => self.hear_receiver(reactor, token),
            Event::Timer(LOOK_TIMER) => {
                self.looking = false;
                let before_ms = reactor.now_ms().saturating_sub(WAIT_MS);
                let lost = self.queue.expired(before_ms);
                self.lose(lost);
                for parked in self.identities.expired(before_ms) {
                    self.turn_away(parked, true);
                }
            }
            Event::Drain { .. } => self.draining = true,
            Event::TurnEnd => return self.end_turn(reactor),
            _ => {}
        }
        Flow::Continue
    }
}

impl Session {
    fn meet(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        let met = match name.role {
            Role::QueueManager => self.meet_queue(reactor, name, socket),
            Role::Receiver => self.meet_receiver(reactor, name, socket),
            Role::Auth => {
                let token = self.next_token;
                self.next_token += 1;
                self.identities.introduce(reactor, name, socket, token)
            }
            _ => {
                let token = self.next_token;
                self.next_token += 1;
                self.helpers.introduce(reactor, name, socket, token)
            }
        };
        if let Err(error) = met {
            Record::at(log::Level::Error, "edge-failed").field("peer", name).field("error", error).emit();
        }
    }

    fn meet_queue(&mut self, reactor: &Reactor, name: ProcessName, socket: OwnedFd) -> io::Result<()> {
        let lost = self.queue.connect(reactor, name, socket, QUEUE_TOKEN)?;
        self.lose(lost);
        Ok(())
    }

    fn meet_receiver(&mut self, reactor: &Reactor, name: ProcessName, socket: OwnedFd) -> io::Result<()> {
        let token = self.next_token;
        self.next_token += 1;
        let mut receiver = Receiver::new(reactor, name, socket, token)?;
        let wants = |stage| self.judge.wants(stage);
        let (connect, helo, authenticate) =
            (wants(Stage::Connect), wants(Stage::Helo), wants(Stage::Authenticate));
        let mail = wants(Stage::Mail) || self.judge.policy.has_senders();
        receiver.say(&Verdict::Wanted { connect, helo, authenticate, mail }).map_err(io::Error::other)?;
        let replaced = self.receivers.iter().find(|(_, old)| old.name == name).map(|(token, _)| *token);
        if let Some(old) = replaced {
            self.drop_receiver(old);
        }
        self.receivers.insert(token, receiver);
        Ok(())
    }

    fn hear_receiver(&mut self, reactor: &mut Reactor, token: usize) {
        loop {
            let Some(receiver) = self.receivers.get_mut(&token) else { return };
            let result = match receiver.hear() {
                Ok(None) => return,
                Ok(Some(received)) => {
                    reactor.served();
                    let descriptor = received.descriptors.into_iter().next();
                    self.asked(reactor, token, received.message, descriptor)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                self.close_receiver(reactor, token, &error);
                return;
            }
        }
    }

    fn asked(
        &mut self,
        reactor: &Reactor,
        token: usize,
        ask: Ask,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), ChannelError> {
        let Some(receiver) = self.receivers.get_mut(&token) else { return Ok(()) };
        let stranger = facts::of(&ask)
            .filter(|facts| matches!(ask, Ask::Authenticate(_)) || receiver.is_stranger(facts))
            .and_then(|facts| Some((facts.session, facts.grant?)));
        let Some((session, grant)) = stranger else {
            return self.known(reactor, token, ask, descriptor, None);
        };
        receiver.park(session)?;
        let key = Key { token, session };
        let parked = Parked { key, receiver: receiver.name, grant, ask, descriptor };
        if let Err(parked) = self.identities.park(parked, reactor.now_ms()) {
            self.turn_away(*parked, true);
        }
        Ok(())
    }

    /// A question of a session of which it is known who it is.
    pub(super) fn known(
        &mut self,
        reactor: &Reactor,
        token: usize,
        ask: Ask,
        descriptor: Option<OwnedFd>,
        identity: Option<Identity>,
    ) -> Result<(), ChannelError> {
        let (now_ms, wall_ms) = (reactor.now_ms(), reactor.wall_ms());
        let Some(receiver) = self.receivers.get_mut(&token) else { return Ok(()) };
        let (facts, work, shared) = match ask {
            Ask::Reset { session, id } => {
                receiver.reset(session, id).into_iter().for_each(|id| self.queue.discard(id));
                return Ok(());
            }
            Ask::Forget { session } => {
                receiver.forget(session).into_iter().for_each(|id| self.queue.discard(id));
                return Ok(());
            }
            Ask::Chunk { session, id, offset, len } => {
                let key = Key { token, session };
                let known = receiver.ask_chunk(session, id)?;
                return self.chunk(key, known, (id, offset, len), descriptor, now_ms);
            }
            Ask::Message { facts, id, body, trace_len: _ } => {
                let seat = receiver.ask(&self.judge, &facts, identity)?;
                seat.incoming = Some(Incoming::new(id, body, descriptor, &facts, wall_ms));
                return self.message(Key { token, session: facts.session }, now_ms);
            }
            Ask::Connect(facts) => {
                let seat = receiver.ask(&self.judge, &facts, identity)?;
                (facts, Work::Stages(seat.stages_up_to(Stage::Connect)), seat.shared.clone())
            }
            Ask::Helo(facts) => {
                let seat = receiver.ask(&self.judge, &facts, identity)?;
                (facts, Work::Stages(seat.stages_up_to(Stage::Helo)), seat.shared.clone())
            }
            Ask::Authenticate(facts) => {
                if identity.is_none() {
                    return Err(ChannelError::Misbehaved("asked about nobody".to_owned()));
                }
                let seat = receiver.ask(&self.judge, &facts, identity)?;
                let stages = seat.stages_up_to(Stage::Authenticate);
                (facts, Work::Authenticate(stages), seat.shared.clone())
            }
            Ask::Mail(facts, mail) => {
                let spec = facts::mail_spec(&mail, wall_ms)?;
                let seat = receiver.ask(&self.judge, &facts, identity)?;
                (facts, Work::Mail(spec, seat.stages_up_to(Stage::Mail)), seat.shared.clone())
            }
            Ask::Recipients { facts, mail, recipients } => {
                let spec = facts::mail_spec(&mail, wall_ms)?;
                let seat = receiver.ask(&self.judge, &facts, identity)?;
                let peer = Arc::clone(&seat.shared.lock().peer);
                let asked = facts::recipients(&self.judge, &peer, &recipients)?;
                let begins = (!seat.has_mail()).then(|| (spec, seat.stages_up_to(Stage::Mail)));
                (facts, Work::Recipients(begins, asked), seat.shared.clone())
            }
        };
        self.start(Key { token, session: facts.session }, shared, work, now_ms);
        Ok(())
    }

    fn start(&mut self, key: Key, shared: crate::transaction::Shared, work: Work, now_ms: u64) {
        let judge = Arc::clone(&self.judge);
        self.jobs.push_back(Job { key, judge, shared, work, since_ms: now_ms });
    }

    fn chunk(
        &mut self,
        key: Key,
        known: bool,
        (id, offset, len): (Id, u64, u64),
        descriptor: Option<OwnedFd>,
        now_ms: u64,
    ) -> Result<(), ChannelError> {
        if !known {
            self.answer(key, &Verdict::ChunkStored { session: key.session, kept: Kept::Unavailable });
            return Ok(());
        }
        let make = |ticket| Submit::Chunk { ticket, id, offset, len };
        if let Err(asked) = self.queue.submit(now_ms, Asked { key, what: What::Chunk(id) }, make, descriptor)
        {
            self.lose(vec![asked]);
        }
        Ok(())
    }

    /// Has the message judged; a large one is fetched first if a rule wants to see it.
    fn message(&mut self, key: Key, now_ms: u64) -> Result<(), ChannelError> {
        let receiver = self.receivers.get_mut(&key.token);
        let Some(seat) = receiver.and_then(|receiver| receiver.seats.get_mut(&key.session)) else {
            return Ok(());
        };
        let shared = seat.shared.clone();
        let Some(incoming) = &mut seat.incoming else { return Ok(()) };
        let needed = self.judge.needs_content(&shared)
            || incoming.may_claim(DELEGATION_FIELD) && self.judge.may_come_back(&shared);
        if needed && matches!(incoming.body, Body::File(_)) && incoming.staged.is_none() {
            let id = incoming.id;
            let make = |ticket| Submit::OpenStaged { ticket, id };
            if let Err(asked) = self.queue.submit(now_ms, Asked { key, what: What::Open(id) }, make, None) {
                self.lose(vec![asked]);
            }
            return Ok(());
        }
        let source = incoming.source(needed)?;
        self.start(key, shared, Work::Message(source), now_ms);
        Ok(())
    }

    fn close_receiver(&mut self, reactor: &mut Reactor, token: usize, error: &ChannelError) {
        let Some(receiver) = self.receivers.get(&token) else { return };
        let name = receiver.name;
        let level = level_of_end(error, receiver.open() == 0);
        Record::at(level, "edge-closed").field("peer", name).field("error", error).emit();
        reactor.accuse(name, error);
        self.drop_receiver(token);
    }

    fn drop_receiver(&mut self, token: usize) {
        if let Some(receiver) = self.receivers.remove(&token) {
            receiver.staged().for_each(|id| self.queue.discard(id));
        }
        self.identities.drop_receiver(token);
        let (lost, jobs): (VecDeque<Job>, VecDeque<Job>) =
            self.jobs.drain(..).partition(|job| job.key.token == token);
        self.jobs = jobs;
        for job in lost {
            if let Work::Copy(_, of) = job.work {
                self.give_up_copy(of);
            }
        }
    }

    fn end_turn(&mut self, reactor: &mut Reactor) -> Flow {
        self.judge.plugins.end_if_overdue();
        self.send(reactor);
        let waits = !self.jobs.is_empty() || self.queue.waiting() > 0 || self.identities.waiting() > 0;
        if waits && !self.looking {
            self.looking = true;
            reactor.set_timer(reactor.now_ms() + LOOK_MS, LOOK_TIMER);
        }
        if reactor.reports_now() {
            let sessions: usize = self.receivers.values().map(|receiver| receiver.seats.len()).sum();
            reactor.figure("sessions", sessions as u64);
            reactor.figure("script_failures", self.judge.failures());
            reactor.figure("limits_missed", self.helpers.limits().missed());
            reactor.figure("jobs_waiting", self.jobs.len() as u64);
            reactor.figure("jobs_running", self.running as u64);
            reactor.figure("submissions_open", (self.queue.waiting() + self.queue.pending()) as u64);
        }
        let open = self.receivers.values().any(|receiver| receiver.open() > 0);
        if self.draining && !open { Flow::Exit } else { Flow::Continue }
    }

    /// Sends what was said since the last time.
    fn send(&mut self, reactor: &mut Reactor) {
        let refused = self.queue.pump();
        self.lose(refused);
        self.send_auth(reactor);
        self.helpers.send(reactor);
        if let Err(error) = self.queue.flush(reactor) {
            self.close_queue(reactor, &error);
        }
        let mut failed = Vec::new();
        for (token, receiver) in &mut self.receivers {
            if let Err(error) = receiver.flush(reactor) {
                failed.push((*token, error));
            }
        }
        for (token, error) in failed {
            self.close_receiver(reactor, token, &error);
        }
    }
}

impl Desk for Live<Session> {
    type Job = Job;
    type Done = Done;

    fn turn(&mut self) -> io::Result<bool> {
        Live::turn(self).map(|flow| flow == Flow::Continue)
    }

    fn next_job(&mut self, may_start: bool) -> Option<Job> {
        let session = &mut self.daemon;
        let before_ms = self.reactor.now_ms().saturating_sub(WAIT_MS);
        while session.jobs.front().is_some_and(|job| job.since_ms < before_ms) {
            let Some(job) = session.jobs.pop_front() else { break };
            let outcome = work::failure(&job.work);
            session.finish(Done { key: job.key, outcome }, self.reactor.now_ms());
        }
        let job = if may_start { session.jobs.pop_front() } else { None };
        session.running += usize::from(job.is_some());
        job
    }

    fn finish(&mut self, done: Done) {
        self.daemon.running = self.daemon.running.saturating_sub(1);
        self.daemon.finish(done, self.reactor.now_ms());
    }

    fn flush(&mut self) {
        self.daemon.send(&mut self.reactor);
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        super::waker(&self.reactor)
    }
}
