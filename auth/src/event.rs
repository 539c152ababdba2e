//! The daemon: events in, acts of the desk out.

use std::os::fd::OwnedFd;

use vsmtp_config::AuthSlice;
use vsmtp_daemon::{Boot, BootError, Daemon, Edges, Event, FIRST_TOKEN, Flow, Reactor, Record};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::{filter_auth, receiver_auth};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{ChannelError, EdgeId};
use vsmtp_sys::sandbox::Profile;

use crate::backend::hash::Unfit;
use crate::backend::table::{Refused, Table};
use crate::crew::Crew;
use crate::desk::{Act, Desk, Edge, Outcome, Work};
use crate::sandbox;
use crate::token::{self, KeySet};

/// Most edges of one kind at once; more are refused.
const MAX_EDGES: usize = 4096;
/// The number of the work that asks Dovecot what it can; the desk counts from 1.
const SURVEY: u64 = 0;
/// The loop's timer for that; the desk counts from 1.
const SURVEY_TIMER: u64 = 0;
/// How often Dovecot is asked what it can, in milliseconds: it may be started after us, or set up anew.
const SURVEY_MS: u64 = 60_000;
/// How often while it did not answer, in milliseconds.
const SURVEY_AGAIN_MS: u64 = 2_000;

/// What is told of a file that was read.
struct Notes {
    users: usize,
    locked: usize,
    unusable: usize,
    refused: Vec<Refused>,
}

impl Notes {
    fn of(table: &Table) -> Self {
        Notes {
            users: table.len(),
            locked: table.locked(),
            unusable: table.unusable(),
            refused: table.told().to_vec(),
        }
    }

    fn log(&self, path: &str) {
        for refused in &self.refused {
            let why = match refused.why {
                Unfit::TooCostly => "costs-too-much",
                Unfit::Unknown | Unfit::Locked => "not-known",
            };
            Record::at(log::Level::Warn, "password-refused")
                .field("file", path)
                .field("line", refused.line)
                .maybe("user", refused.user.as_deref())
                .field("why", why)
                .emit();
        }
        let level = if self.unusable > 0 { log::Level::Warn } else { log::Level::Info };
        Record::at(level, "passwords-read")
            .field("file", path)
            .field("users", self.users)
            .field("locked", self.locked)
            .field("unusable", self.unusable)
            .emit();
    }
}

/// The daemon.
pub struct Auth {
    desk: Desk,
    receivers: Edges<receiver_auth::Answer, receiver_auth::Ask>,
    filters: Edges<filter_auth::Answer, filter_auth::Ask>,
    made: usize,
    /// From the jail on.
    crew: Option<Crew>,
    surveying: bool,
    draining: bool,
}

impl Daemon for Auth {
    const NAME: &'static str = "vsmtp-auth";
    type Slice = AuthSlice;

    fn before_jail(boot: Boot<AuthSlice>) -> Result<Self, BootError> {
        token::warm_up();
        Ok(Auth {
            desk: Desk::new(&boot.slice, vsmtp_sys::random::fill),
            receivers: Edges::new(EdgeId::ReceiverAuth, MAX_EDGES),
            filters: Edges::new(EdgeId::FilterAuth, MAX_EDGES),
            made: 0,
            crew: None,
            surveying: false,
            draining: false,
        })
    }

    fn profile(&self) -> Profile {
        sandbox::profile()
    }

    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        let waker = reactor.waker();
        let wake = move || {
            if let Err(error) = waker.wake() {
                log::error!("event=wake-failed error=\"{error}\"");
            }
        };
        let crew = Crew::start(wake).map_err(|error| BootError::Io("start the threads", error))?;
        self.crew = Some(crew);
        self.survey(reactor);
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        match event {
            Event::Peer(name, socket) => self.meet(reactor, name, socket),
            Event::File(path, file) => self.take_file(reactor, &path, file),
            Event::Ready { token, readable: true, .. } => self.hear(reactor, token),
            Event::Timer(SURVEY_TIMER) => self.survey(reactor),
            Event::Timer(number) => {
                let acts = self.desk.due(reactor.now_ms(), number);
                self.perform(reactor, acts);
            }
            Event::Brakes { ticket, request } => {
                let answer = self.desk.operate(reactor.now_ms(), &request);
                reactor.tell_master(&ToMaster::Brakes { ticket, answer });
            }
            Event::Drain { .. } => self.draining = true,
            Event::TurnEnd => return self.end_turn(reactor),
            _ => {}
        }
        Flow::Continue
    }
}

impl Auth {
    fn meet(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        let edge = FIRST_TOKEN + self.made;
        self.made += 1;
        let met = match name.role {
            Role::Receiver => self.receivers.introduce(reactor, name, socket, edge).map(|replaced| {
                self.desk.meet_receiver(edge, name);
                let offer = self.desk.offer();
                (replaced, self.receivers.say(edge, &offer))
            }),
            Role::FilterSession => self.filters.introduce(reactor, name, socket, edge).map(|replaced| {
                self.desk.meet_filter(edge);
                (replaced, Ok(()))
            }),
            _ => return,
        };
        match met {
            Ok((replaced, said)) => {
                replaced.into_iter().for_each(|old| self.desk.lose(old));
                if let Err(error) = said {
                    self.close(reactor, edge, &error);
                }
            }
            Err(error) => {
                Record::at(log::Level::Error, "edge-failed").field("peer", name).field("error", error).emit();
            }
        }
    }

    /// A file of the keys for tokens. What was read before stays if there is none in it.
    fn take_keys(&mut self, path: &str, file: OwnedFd) {
        match KeySet::read(file) {
            Ok(keys) => {
                for (id, why) in keys.unfit() {
                    Record::at(log::Level::Warn, "token-key-refused")
                        .field("file", path)
                        .maybe("kid", id.as_deref())
                        .field("why", why.word())
                        .emit();
                }
                let count = keys.len();
                let taken = self.desk.backends_mut().take_keys(keys);
                let level = if taken { log::Level::Info } else { log::Level::Warn };
                Record::at(level, "token-keys-read").field("file", path).field("keys", count).emit();
            }
            Err(error) => {
                Record::at(log::Level::Error, "unreadable").field("file", path).field("error", error).emit();
            }
        }
    }

    /// A file of passwords, which the master has opened for us, or has opened again because it has changed.
    fn take_file(&mut self, reactor: &mut Reactor, path: &str, file: OwnedFd) {
        if self.desk.backends().wants_keys(path) {
            return self.take_keys(path, file);
        }
        let before = self.desk.offered();
        match Table::read(file) {
            Ok(table) => {
                let notes = Notes::of(&table);
                if self.desk.backends_mut().take_file(path, table) {
                    notes.log(path);
                }
            }
            // What was read before stays.
            Err(error) => {
                Record::at(log::Level::Error, "unreadable").field("file", path).field("error", error).emit();
            }
        }
        if before != self.desk.offered() {
            self.offer(reactor);
        }
    }

    fn hear(&mut self, reactor: &mut Reactor, edge: Edge) {
        loop {
            let now_ms = reactor.now_ms();
            let heard = if self.receivers.has(edge) {
                let ask = self.receivers.hear(edge);
                ask.and_then(|ask| ask.map(|ask| self.desk.ask(now_ms, edge, ask.message)).transpose())
            } else {
                let ask = self.filters.hear(edge);
                ask.and_then(|ask| ask.map(|ask| self.desk.ask_about(now_ms, edge, ask.message)).transpose())
            };
            match heard {
                Ok(Some(acts)) => {
                    reactor.served();
                    self.perform(reactor, acts);
                }
                Ok(None) => return,
                Err(error) => return self.close(reactor, edge, &error),
            }
        }
    }

    fn perform(&mut self, reactor: &mut Reactor, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Answer(edge, answer) => {
                    if let Err(error) = self.receivers.say(edge, &answer) {
                        self.close(reactor, edge, &error);
                    }
                }
                Act::Reply(edge, answer) => {
                    if let Err(error) = self.filters.say(edge, &answer) {
                        self.close(reactor, edge, &error);
                    }
                }
                Act::Work(number, work) => self.work(reactor, number, work),
                Act::Timer(at_ms, number) => reactor.set_timer(at_ms, number),
            }
        }
    }

    fn work(&mut self, reactor: &mut Reactor, number: u64, work: Work) {
        let backends = self.desk.backends().clone();
        let taken = self.crew.as_ref().is_some_and(|crew| crew.take(number, work, backends));
        if !taken {
            reactor.count("checks_refused", 1);
            let acts = self.desk.done(reactor.now_ms(), number, Outcome::Unknown);
            self.perform(reactor, acts);
        }
    }

    /// Asks Dovecot what it can, if it is a back-end.
    fn survey(&mut self, reactor: &mut Reactor) {
        if self.desk.backends().dovecot().is_some() && !self.surveying {
            self.surveying = true;
            self.work(reactor, SURVEY, Work::Survey);
        }
    }

    fn surveyed(&mut self, reactor: &mut Reactor, found: Option<Vec<crate::mechanism::Mechanism>>) {
        self.surveying = false;
        let again_ms = if found.is_some() { SURVEY_MS } else { SURVEY_AGAIN_MS };
        reactor.set_timer(reactor.now_ms() + again_ms, SURVEY_TIMER);
        // One that is away keeps what it could: it may be back when it is needed, and otherwise nobody can tell.
        if found.is_some_and(|found| self.desk.set_relayed(found)) {
            self.offer(reactor);
        }
    }

    /// Tells all receivers what can be had now.
    fn offer(&mut self, reactor: &mut Reactor) {
        let offer = self.desk.offer();
        for edge in self.receivers.tokens() {
            if let Err(error) = self.receivers.say(edge, &offer) {
                self.close(reactor, edge, &error);
            }
        }
    }

    fn close(&mut self, reactor: &mut Reactor, edge: Edge, error: &ChannelError) {
        self.desk.lose(edge);
        self.receivers.close(reactor, edge, error);
        self.filters.close(reactor, edge, error);
    }

    fn end_turn(&mut self, reactor: &mut Reactor) -> Flow {
        while let Some((number, outcome)) = self.crew.as_ref().and_then(Crew::outcome) {
            match outcome {
                Outcome::Mechanisms(found) => self.surveyed(reactor, found),
                outcome => {
                    let acts = self.desk.done(reactor.now_ms(), number, outcome);
                    self.perform(reactor, acts);
                }
            }
        }
        let failed = self.receivers.flush(reactor).into_iter().chain(self.filters.flush(reactor));
        for (edge, error) in failed.collect::<Vec<_>>() {
            self.close(reactor, edge, &error);
        }
        let tally = self.desk.tally();
        reactor.figure("questions_open", self.desk.open());
        reactor.figure("granted", tally.granted);
        reactor.figure("denied", tally.denied);
        reactor.figure("throttled", tally.throttled);
        reactor.figure("grants", self.desk.granted() as u64);
        if self.draining && self.desk.open() == 0 { Flow::Exit } else { Flow::Continue }
    }
}
