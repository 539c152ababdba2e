//! The loop: one place where signals, children, the clock and vsmtpctl meet. It waits for nothing but the next event.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use vsmtp_config::Config;
use vsmtp_daemon::Record;
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::ctl_master::{Answer, ProcessStatus, Request};
use vsmtp_ipc::edge::master_child::{LimitsRequest, ToChild, ToMaster};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_sys::disk::Locked;
use vsmtp_sys::signals::{Signal, Signals, sd_notify};
use vsmtp_sys::{clock, spawn};

use crate::arguments::Arguments;
use crate::boot;
use crate::child::State;
use crate::control::{Asker, Connections};
use crate::demo;
use crate::error::Error;
use crate::evaluate::{self, Evaluation};
use crate::event::Event;
use crate::family::{Family, Life};
use crate::files::Files;
use crate::key_files;
use crate::launch::{Launcher, settings_role};
use crate::layout::Layout;
use crate::listeners::Listeners;
use crate::log_sink::LogSink;
use crate::reload;
use crate::shutdown::Shutdown;
use crate::state_files::{Place, Watch};
use crate::surroundings::Readings;

/// Most events handled between two looks at the clock.
const MAX_EVENTS: usize = 128;
/// The loop looks after its children at least this often, in milliseconds.
const LOOK_MS: u64 = 1_000;

/// The running master.
pub struct Master {
    layout: Layout,
    arguments: Arguments,
    launcher: Launcher,
    config: Config,
    generation: u32,
    family: Family,
    listeners: Listeners,
    /// Files that processes have read before their jails.
    readings: Readings,
    state_files: Watch,
    files: Files,
    /// When files are looked at again, in monotonic milliseconds.
    next_look_ms: u64,
    signals: Signals,
    poll: Poll,
    evaluation: Option<Evaluation>,
    /// Waits to hear how the reload ends.
    reloader: Option<Asker>,
    shutdown: Option<Shutdown>,
    connections: Connections,
    /// All processes of the first generation have been ready.
    announced: bool,
    /// Why the whole system must end, if it must.
    fatal: Option<String>,
    /// Held as long as we live.
    _lock: Locked,
}

impl Master {
    /// Registers what wakes us and makes the places of the first generation.
    pub fn new(
        layout: Layout,
        arguments: Arguments,
        launcher: Launcher,
        config: Config,
        listeners: Listeners,
        signals: Signals,
        lock: Locked,
    ) -> Result<Self, Error> {
        let poll = Poll::new().map_err(Error::io("make a poll"))?;
        for (fd, event) in [(signals.as_fd(), Event::Signal), (listeners.control.as_fd(), Event::Control)] {
            poll.registry()
                .register(&mut SourceFd(&fd.as_raw_fd()), event.token(), Interest::READABLE)
                .map_err(Error::io("watch a descriptor"))?;
        }
        let mut family = Family::default();
        for role in Role::DAEMONS {
            for place in 0..reload::count(&config, role) {
                family.add(role, place, 0);
            }
        }
        Ok(Master {
            layout,
            arguments,
            launcher,
            config,
            generation: 0,
            family,
            listeners,
            readings: Readings::default(),
            state_files: Watch::default(),
            files: Files::default(),
            next_look_ms: 0,
            signals,
            poll,
            evaluation: None,
            reloader: None,
            shutdown: None,
            connections: Connections::default(),
            announced: false,
            fatal: None,
            _lock: lock,
        })
    }

    /// Runs until told to stop.
    pub fn run(mut self) -> Result<(), Error> {
        Record::new("starting")
            .field("version", env!("CARGO_PKG_VERSION"))
            .field("pid", std::process::id())
            .emit();
        let mut events = Events::with_capacity(MAX_EVENTS);
        loop {
            self.start_due();
            vsmtp_daemon::flush_log();
            match self.poll.poll(&mut events, Some(self.timeout())) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(Error::Io("poll".into(), error));
                }
                _ => {}
            }
            for event in events.iter().filter_map(|event| Event::of(event.token())).collect::<Vec<_>>() {
                self.handle(event);
            }
            self.reap();
            if self.proceed() {
                Record::new("stopped").emit();
                vsmtp_daemon::flush_log();
                return self.fatal.map_or(Ok(()), |text| Err(Error::System(text)));
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Signal => self.hear_signals(),
            Event::Control => {
                self.connections.accept(
                    &self.listeners.control,
                    &self.launcher.accounts,
                    self.poll.registry(),
                );
            }
            Event::Ctl(at) => {
                while let Some(request) = self.connections.request(at) {
                    if let Some(answer) = self.answer(at, &request) {
                        self.connections.answer(at, &answer);
                    }
                }
            }
            Event::Evaluation => self.look_at_evaluation(),
            Event::Child(name) => self.hear_child(name),
        }
    }

    fn hear_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.next() {
            match signal {
                Signal::Terminate | Signal::Interrupt => self.stop(),
                Signal::HangUp => {
                    if let Err(error) = self.reload() {
                        Record::at(log::Level::Error, "reload-failed").field("error", error).emit();
                    }
                }
                Signal::Child | Signal::User1 => {}
            }
        }
    }

    fn stop(&mut self) {
        if self.shutdown.is_none() {
            Record::new("stopping").emit();
            let _ = sd_notify("STOPPING=1");
            self.answer_reloader(&Answer::Failed("a stop came first".to_owned()));
            // What it would bring is a new generation that nobody would start or end.
            if let Some(evaluation) = self.evaluation.take() {
                evaluation.abandon();
            }
            self.shutdown = Some(Shutdown::begin(&mut self.family, clock::monotonic_ms()));
        }
    }

    /// Begins to evaluate the configuration again; the result comes as an event.
    fn reload(&mut self) -> Result<(), Error> {
        if self.evaluation.is_some() || self.shutdown.is_some() {
            return Err(Error::System("a reload or a stop is under way already".to_owned()));
        }
        let context = evaluate::context(&self.layout, self.arguments.root.as_deref());
        let evaluation = Evaluation::start(&mut self.launcher, &self.layout, context)?;
        self.poll
            .registry()
            .register(&mut SourceFd(&evaluation.fd()), Event::Evaluation.token(), Interest::READABLE)
            .map_err(Error::io("watch the oneshot process"))?;
        self.evaluation = Some(evaluation);
        let _ = sd_notify("RELOADING=1");
        Ok(())
    }

    fn look_at_evaluation(&mut self) {
        let Some(result) = self.evaluation.as_mut().and_then(Evaluation::look) else { return };
        self.evaluation = None;
        let taken = result.and_then(|config| self.take(config));
        match taken {
            Ok(()) => {
                Record::new("reloaded").field("generation", self.generation).emit();
                self.answer_reloader(&Answer::Done(format!("reloaded: generation {}", self.generation)));
            }
            Err(error) => {
                // The old configuration stays in force.
                for line in error.to_string().lines() {
                    Record::at(log::Level::Error, "reload-refused").field("error", line).emit();
                }
                self.answer_reloader(&Answer::Failed(error.to_string()));
            }
        }
        let _ = sd_notify("READY=1");
    }

    fn answer_reloader(&mut self, answer: &Answer) {
        if let Some(asker) = self.reloader.take() {
            self.connections.answer_late(asker, answer);
        }
    }

    fn take(&mut self, config: Config) -> Result<(), Error> {
        let slice = config.master();
        if self.config.master().spool != slice.spool || self.config.master().mail_root != slice.mail_root {
            return Err(Error::Config(
                "the spool and the mail root cannot change without a restart".to_owned(),
            ));
        }
        // What can fail comes first: a configuration that is refused has changed nothing.
        Files::check(&slice.password_files)?;
        let log = LogSink::new(slice.log);
        let opened = boot::open_log(&log)?;
        let key_files = key_files::open(&config.keys())?;
        self.listeners.rebind(&slice.listeners, slice.receivers)?;
        boot::point(&log, opened);
        self.launcher.log = log;
        boot::report_warnings(&config);
        self.generation += 1;
        let moved = self.readings.moved(&config);
        reload::turn_over(&mut self.family, &self.config, &config, self.generation, &moved, key_files);
        reload::hand_out_log(&mut self.family, &self.launcher.log);
        self.config = config;
        Ok(())
    }

    fn start_due(&mut self) {
        if self.shutdown.is_some() {
            return;
        }
        let now = clock::monotonic_ms();
        let mut due = self.family.due(now);
        due.sort_by_key(|name| Role::DAEMONS.iter().position(|role| *role == name.role));
        for name in due {
            if let Err(error) = self.start(name) {
                let wait_ms = self.family.stillborn(name, now);
                Record::at(log::Level::Error, "start-failed")
                    .field("process", name)
                    .field("error", error)
                    .field("retry_ms", wait_ms)
                    .emit();
            }
        }
    }

    fn start(&mut self, name: ProcessName) -> Result<(), Error> {
        let Some((place, generation)) = self.family.slot(name).map(|slot| (slot.place, slot.generation))
        else {
            return Ok(());
        };
        let kept = self.family.slot(name).and_then(|slot| slot.kept.clone());
        let slice = kept.map_or_else(|| reload::slice(&self.config, name.role), Ok);
        let slice = slice.map_err(|error| Error::System(error.to_string()))?;
        self.readings.note(name.role, generation, &self.config);
        let files = match name.role {
            Role::Keys => key_files::open(&self.config.keys())?,
            Role::Limits => Place::limits(&self.layout).open()?,
            Role::Resolver => Place::resolver(&self.layout).open()?,
            Role::FilterSession | Role::FilterPost => {
                boot::make_folders_of_rules(&self.launcher.accounts, &self.config);
                Vec::new()
            }
            _ => Vec::new(),
        };
        if matches!(name.role, Role::Limits | Role::Resolver) {
            self.state_files.note(name.role, &files)?;
        }
        let mut child = self.launcher.start(name, generation, slice)?;
        for (path, file) in files {
            child.say(&ToChild::File(path), Some(file));
        }
        self.poll
            .registry()
            .register(
                &mut SourceFd(&child.channel.socket().as_raw_fd()),
                Event::Child(name).token(),
                Interest::READABLE,
            )
            .map_err(Error::io("watch a child"))?;
        if name.role == Role::Auth {
            self.files.hand_to(&mut child, &self.config.master().password_files);
        }
        let listeners = match name.role {
            Role::Receiver => self.listeners.for_receiver(place),
            Role::QueueManager => self.listeners.for_queue().map(|one| vec![one]),
            _ => Ok(Vec::new()),
        };
        for (listener, socket) in listeners.map_err(Error::io("copy a listening socket"))? {
            child.say(&ToChild::Listener(listener), Some(socket));
        }
        self.family.born(child);
        Ok(())
    }

    fn hear_child(&mut self, name: ProcessName) {
        loop {
            let Some(child) = self.family.child(name) else { return };
            match child.channel.receive() {
                Ok(Some(received)) => self.hear(name, received.message),
                // The death itself is seen by the reaper, which knows how it ended.
                Ok(None) | Err(ChannelError::Closed) => return,
                Err(error) => {
                    Record::at(log::Level::Error, "child-misbehaved")
                        .field("process", name)
                        .field("error", error)
                        .emit();
                    self.family.kill(name);
                    return;
                }
            }
        }
    }

    fn hear(&mut self, name: ProcessName, message: ToMaster) {
        let Some(child) = self.family.child(name) else { return };
        child.heard_ms = clock::monotonic_ms();
        match message {
            ToMaster::Ready => {
                if child.state == State::Starting {
                    child.state = State::Ready;
                }
                let (pid, after_ms) =
                    (child.process.pid, clock::monotonic_ms().saturating_sub(child.started_ms));
                Record::new("ready")
                    .field("process", name)
                    .field("pid", pid)
                    .field("after_ms", after_ms)
                    .emit();
                reload::release_old(&mut self.family, self.generation, name.role);
                self.announce();
            }
            ToMaster::Declared(text) => child.declared = text,
            ToMaster::Serving => child.served = true,
            ToMaster::Beat(figures) => child.figures = figures,
            ToMaster::NeedLogSink => {
                // It asks again when it finds this one broken too.
                if let Ok(sink) = self.launcher.log.open_or_stand_in() {
                    child.say(&self.launcher.log.message(settings_role(child.name.role)), Some(sink));
                }
            }
            ToMaster::Misbehaved(accused) => self.family.accuse(name, accused),
            ToMaster::Fatal(text) => {
                Record::at(log::Level::Error, "fatal").field("process", name).field("error", &text).emit();
                if !self.announced {
                    self.fatal.get_or_insert(format!("{name}: {text}"));
                    self.stop();
                }
            }
            ToMaster::Limits { ticket, answer } if name.role == Role::Limits => {
                self.connections.answer_ticket(ticket, &Answer::Limits(answer));
            }
            ToMaster::Limits { .. } | ToMaster::Evaluated(_) => self.family.kill(name),
        }
    }

    /// Says once, when all are ready, that the service is up.
    fn announce(&mut self) {
        let all = self
            .family
            .slots()
            .all(|(_, slot)| matches!(&slot.life, Life::Running(c) if c.state == State::Ready));
        if self.announced || !all {
            return;
        }
        self.announced = true;
        Record::new("up").field("processes", self.family.slots().count()).emit();
        vsmtp_daemon::flush_log();
        let _ = sd_notify("READY=1");
        if let (true, Some(root)) = (self.arguments.demo, self.arguments.root.clone()) {
            let slice = self.config.master();
            let address = slice.listeners.first().map(|(address, _)| address.to_string()).unwrap_or_default();
            let mut out = io::stdout();
            let _ = demo::greet(&mut out, &address, &slice.mail_root, &root).and_then(|()| out.flush());
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = spawn::wait_any() {
            let stopping = self.shutdown.is_some();
            let Some((name, back)) = self.family.died(pid, stopping, clock::monotonic_ms()) else { continue };
            let level = if back.is_some() { log::Level::Error } else { log::Level::Info };
            Record::at(level, "exited")
                .field("process", name)
                .field("pid", pid)
                .field("status", status)
                .maybe("restart_ms", back)
                .emit();
            if name.role == Role::Limits {
                self.connections.fail_tickets("the limiter has ended");
            }
            reload::release_filters(&mut self.family, self.generation);
        }
    }

    /// What happens by time alone. True when all is over.
    fn proceed(&mut self) -> bool {
        self.family.kill_silent(clock::monotonic_ms());
        for role in self.state_files.overgrown() {
            self.family.kill_all(role);
        }
        for child in self.family.children() {
            // An edge that cannot be flushed belongs to a process that is about to be reaped.
            let _ = child.flush();
        }
        self.look_at_evaluation();
        self.look_at_files();
        if vsmtp_daemon::take_broken_log() {
            // If it is still away, the next line finds that out.
            boot::log_again(&self.launcher.log);
        }
        let now = clock::monotonic_ms();
        let Some(shutdown) = &mut self.shutdown else { return false };
        shutdown.proceed(&mut self.family, now)
    }

    /// Whether files of children have changed, once in a while.
    fn look_at_files(&mut self) {
        let now = clock::monotonic_ms();
        if now >= self.next_look_ms {
            self.next_look_ms = now + LOOK_MS;
            self.files.look(&mut self.family, &self.config.master().password_files);
        }
    }

    fn timeout(&self) -> Duration {
        let now = clock::monotonic_ms();
        let stop = self.shutdown.as_ref().map(Shutdown::next_ms);
        let due = [Some(now + LOOK_MS), self.family.next_due().filter(|_| stop.is_none()), stop];
        let next = due.into_iter().flatten().min().unwrap_or(now);
        Duration::from_millis(next.saturating_sub(now).max(1))
    }

    /// `None`: the answer comes later.
    fn answer(&mut self, at: usize, request: &Request) -> Option<Answer> {
        Some(match request {
            Request::Status => Answer::Processes(self.processes(false)),
            Request::Processes => Answer::Processes(self.processes(true)),
            Request::Config => match vsmtp_config::encode(&self.config.show()) {
                Ok(bytes) => Answer::Config(bytes),
                Err(error) => Answer::Failed(error.to_string()),
            },
            Request::Reload => match self.reload() {
                Ok(()) => {
                    self.reloader = self.connections.asker(at);
                    return None;
                }
                Err(error) => Answer::Failed(error.to_string()),
            },
            Request::Limits(request) => return self.ask_limiter(at, *request),
            Request::Stop => {
                self.stop();
                Answer::Done("stopping".to_owned())
            }
        })
    }

    /// Passes a question on to the limiter, whose answer comes later.
    fn ask_limiter(&mut self, at: usize, request: LimitsRequest) -> Option<Answer> {
        let Some(limiter) = self.family.children().find(|child| child.name.role == Role::Limits) else {
            return Some(Answer::Failed("the limiter does not run just now".to_owned()));
        };
        let ticket = self.connections.ticket(at)?;
        limiter.say(&ToChild::Limits { ticket, request }, None);
        None
    }

    /// Figures for people who watch, jails for people who compare: never both, so that an answer stays small.
    fn processes(&mut self, with_jail: bool) -> Vec<ProcessStatus> {
        let now = clock::monotonic_ms();
        let status = |(name, slot): (ProcessName, &crate::family::Slot)| {
            let child = match &slot.life {
                Life::Running(child) => Some(child),
                Life::Waiting { .. } => None,
            };
            ProcessStatus {
                name,
                pid: child.map_or(0, |child| child.process.pid.unsigned_abs()),
                generation: slot.generation,
                state: child.map_or("waiting", |child| child.state.name()).to_owned(),
                restarts: slot.restarts,
                age_s: child.map_or(0, |child| now.saturating_sub(child.started_ms) / 1000),
                figures: child.filter(|_| !with_jail).map_or_else(Vec::new, |child| child.figures.clone()),
                declared: child
                    .filter(|_| with_jail)
                    .map_or_else(String::new, |child| child.declared.clone()),
            }
        };
        self.family.slots().map(status).collect()
    }
}
