//! The daemon: what wakes it, and what it does then.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use vsmtp_config::{Database, DatabaseSlice};
use vsmtp_daemon::{Boot, BootError, Daemon, Edges, Event, FIRST_TOKEN, Flow, Reactor, Record};
use vsmtp_ipc::edge::filter_database::{Answer, Ask, CREDITS, Refused, Which};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{ChannelError, EdgeId};
use vsmtp_sys::sandbox::Profile;

use crate::crew::{Crew, Heard, Job, MAX_WAITING};
use crate::open::Open;
use crate::sandbox;
use crate::tls::Tls;

/// Most edges to filters at once; more are refused.
const MAX_FILTERS: usize = 16;
/// What the kernel is told of how readily it may end this process for want of memory: before all that keep mail, after the
/// programs of rules.
const EARLY_TO_GO: &str = "900";

/// The daemon.
pub struct Asker {
    slice: DatabaseSlice,
    /// Each database once, whatever names it has.
    databases: Vec<Database>,
    /// What connections to each of them begin TLS with; until the jail.
    tls: Vec<Option<Tls>>,
    filters: Edges<Answer, Ask>,
    open: Open,
    /// From the jail on.
    crew: Option<Crew>,
    made: usize,
    draining: bool,
    figures: Figures,
}

#[derive(Default)]
struct Figures {
    answered: u64,
    failed: u64,
    late: u64,
    refused: u64,
}

impl Daemon for Asker {
    const NAME: &'static str = "vsmtp-database";
    type Slice = DatabaseSlice;

    fn before_jail(boot: Boot<DatabaseSlice>) -> Result<Self, BootError> {
        let mut databases: Vec<Database> = Vec::new();
        for (_, database) in &boot.slice.databases {
            if !databases.contains(database) {
                databases.push(database.clone());
            }
        }
        // What a database makes it take must not cost the queue its process.
        if let Err(error) = std::fs::write("/proc/self/oom_score_adj", EARLY_TO_GO) {
            Record::at(log::Level::Warn, "oom-score-kept").field("error", error).emit();
        }
        sandbox::prepare(&databases);
        let tls: Vec<Option<Tls>> = databases.iter().map(Tls::of).collect();
        for (database, why) in databases
            .iter()
            .zip(&tls)
            .filter_map(|(database, tls)| Some((database, tls.as_ref()?.trouble()?)))
        {
            Record::at(log::Level::Warn, "database-authorities")
                .field("database", &database.url)
                .field("error", why)
                .emit();
        }
        if tls.iter().any(Option::is_some) {
            vsmtp_tls::warm_up().map_err(|error| BootError::Io("draw random bytes", error))?;
        }
        for (database, error) in sandbox::missing(&databases) {
            Record::at(log::Level::Warn, "database-folder")
                .field("database", &database.url)
                .field("error", error)
                .emit();
        }
        Ok(Asker {
            slice: boot.slice,
            databases,
            tls,
            filters: Edges::new(EdgeId::FilterDatabase, MAX_FILTERS),
            open: Open::default(),
            crew: None,
            made: 0,
            draining: false,
            figures: Figures::default(),
        })
    }

    fn profile(&self) -> Profile {
        sandbox::profile(&self.databases)
    }

    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        let waker = reactor.waker();
        let wake = move || {
            if let Err(error) = waker.wake() {
                log::error!("event=wake-failed error=\"{error}\"");
            }
        };
        let tls = std::mem::take(&mut self.tls);
        let databases: Vec<_> = self.databases.iter().cloned().zip(tls).collect();
        let crew = Crew::start(&databases, wake);
        self.crew = Some(crew.map_err(|error| BootError::Io("start the threads", error))?);
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        match event {
            Event::Peer(name, socket) if matches!(name.role, Role::FilterSession | Role::FilterPost) => {
                self.meet(reactor, name, socket);
            }
            Event::Ready { token, readable: true, .. } if self.filters.has(token) => {
                self.hear(reactor, token);
            }
            Event::Timer(number) => self.answer(reactor, number, Err(Refused::Late)),
            Event::Drain { .. } => self.draining = true,
            Event::TurnEnd => return self.turn_end(reactor),
            _ => {}
        }
        Flow::Continue
    }
}

impl Asker {
    fn meet(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        let token = FIRST_TOKEN + self.made;
        self.made += 1;
        match self.filters.introduce(reactor, name, socket, token) {
            Ok(old) => old.into_iter().for_each(|old| self.open.forget(old)),
            Err(error) => {
                Record::at(log::Level::Error, "edge-failed").field("peer", name).field("error", error).emit();
            }
        }
    }

    fn hear(&mut self, reactor: &mut Reactor, edge: usize) {
        let error = loop {
            match self.filters.hear(edge) {
                Ok(Some(received)) => {
                    reactor.served();
                    if self.open.of_edge(edge) >= CREDITS as usize {
                        break ChannelError::Misbehaved("more questions than credits".to_owned());
                    }
                    let ticket = received.message.ticket;
                    if let Err(refused) = self.take(reactor, edge, received.message) {
                        self.figures.refused += 1;
                        self.say(reactor, edge, Answer { ticket, result: Err(refused) });
                    }
                }
                Ok(None) => return,
                Err(error) => break error,
            }
        };
        self.close(reactor, edge, &error);
    }

    /// Has a question put to its database.
    fn take(&mut self, reactor: &mut Reactor, edge: usize, ask: Ask) -> Result<(), Refused> {
        let found = self.find(&ask.database).filter(|_| ask.is_within_bounds());
        let database = found.ok_or(Refused::NotDeclared)?;
        let Some(Database { timeout, .. }) = self.databases.get(database) else {
            return Err(Refused::NotDeclared);
        };
        let time = (*timeout).min(Duration::from_millis(ask.left_ms));
        if self.open.of_database(database) >= MAX_WAITING {
            return Err(Refused::Busy);
        }
        let (number, line) = self.open.note(edge, ask.ticket, database);
        let Ask { statement, parameters, .. } = ask;
        let job = Job { number, statement, parameters, until: Instant::now() + time, line };
        if !self.crew.as_ref().is_some_and(|crew| crew.take(database, job)) {
            self.open.end(number);
            return Err(Refused::Busy);
        }
        reactor.set_timer(reactor.now_ms().saturating_add(milliseconds(time)), number);
        Ok(())
    }

    /// The place of a database that the configuration names.
    fn find(&self, which: &Which) -> Option<usize> {
        let database = match which {
            Which::Named(name) => {
                self.slice.databases.iter().find(|(other, _)| other == name).map(|(_, database)| database)?
            }
            Which::Like { url, timeout_ms, connections } => self.databases.iter().find(|database| {
                let (shown, timeout, count) = database.shown();
                (&shown, milliseconds(timeout), count) == (url, *timeout_ms, *connections)
            })?,
        };
        self.databases.iter().position(|other| other == database)
    }

    /// Answers a question, if nobody has yet.
    fn answer(&mut self, reactor: &mut Reactor, number: u64, heard: Heard) {
        let Some(question) = self.open.end(number) else { return };
        match &heard {
            Ok(_) => self.figures.answered += 1,
            Err(Refused::Late) => self.figures.late += 1,
            Err(_) => self.figures.failed += 1,
        }
        let database = self.databases.get(question.database);
        if let (Err(refused), Some(database)) = (&heard, database) {
            let why = match refused {
                Refused::Failed(why) => why.as_str(),
                _ => "out of time",
            };
            Record::at(log::Level::Warn, "database-failed")
                .field("database", &database.url)
                .field("error", why)
                .emit();
        }
        self.say(reactor, question.edge, Answer { ticket: question.ticket, result: heard });
    }

    fn say(&mut self, reactor: &mut Reactor, edge: usize, answer: Answer) {
        if let Err(error) = self.filters.say(edge, &answer) {
            self.close(reactor, edge, &error);
        }
    }

    fn close(&mut self, reactor: &mut Reactor, edge: usize, error: &ChannelError) {
        self.filters.close(reactor, edge, error);
        self.open.forget(edge);
    }

    fn turn_end(&mut self, reactor: &mut Reactor) -> Flow {
        while let Some((number, heard)) = self.crew.as_ref().and_then(Crew::heard) {
            self.answer(reactor, number, heard);
        }
        for (edge, error) in self.filters.flush(reactor) {
            self.close(reactor, edge, &error);
        }
        reactor.figure("questions_open", self.open.len() as u64);
        reactor.figure("questions_answered", self.figures.answered);
        reactor.figure("questions_failed", self.figures.failed);
        reactor.figure("questions_late", self.figures.late);
        reactor.figure("questions_refused", self.figures.refused);
        // Threads end with the process.
        if self.draining && self.filters.is_empty() { Flow::Exit } else { Flow::Continue }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
