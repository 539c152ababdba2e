//! The loop: one place where signals, children, the clock and vsmtpctl meet. It waits for nothing but the next event.

mod answers;
mod children;
mod generations;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use vsmtp_config::Config;
use vsmtp_daemon::Record;
use vsmtp_ipc::edge::ctl_master::Answer;
use vsmtp_ipc::role::Role;
use vsmtp_sys::clock;
use vsmtp_sys::disk::Locked;
use vsmtp_sys::signals::{Signal, Signals, sd_notify};

use crate::arguments::Arguments;
use crate::boot;
use crate::control::{Asker, Connections};
use crate::error::Error;
use crate::evaluate::Evaluation;
use crate::event::Event;
use crate::family::Family;
use crate::files::Files;
use crate::launch::Launcher;
use crate::layout::Layout;
use crate::listeners::Listeners;
use crate::reload;
use crate::shutdown::Shutdown;
use crate::state_files::Watch;
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
    /// A reload was asked for while one was under way, which may have read the configuration before it was changed.
    reload_again: bool,
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
            reload_again: false,
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
                // However many come meanwhile, one more reload sees what they were sent for.
                Signal::HangUp if self.evaluation.is_some() => self.reload_again = true,
                Signal::HangUp => self.reload_by_signal(),
                Signal::Child | Signal::User1 => {}
            }
        }
    }

    fn reload_by_signal(&mut self) {
        if let Err(error) = self.reload() {
            Record::at(log::Level::Error, "reload-failed").field("error", error).emit();
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
            self.files.look(&mut self.family, &self.config.master().auth_files());
        }
    }

    fn timeout(&self) -> Duration {
        let now = clock::monotonic_ms();
        let stop = self.shutdown.as_ref().map(Shutdown::next_ms);
        let due = [Some(now + LOOK_MS), self.family.next_due().filter(|_| stop.is_none()), stop];
        let next = due.into_iter().flatten().min().unwrap_or(now);
        Duration::from_millis(next.saturating_sub(now).max(1))
    }
}
