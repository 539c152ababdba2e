//! The daemon: boot, and what each event sets in motion. Decides nothing about mail.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vsmtp_config::QueueSlice;
use vsmtp_daemon::{Boot, BootError, Daemon, Event, FIRST_TOKEN, Flow, Reactor};
use vsmtp_ipc::edge::master_child::Listener;
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_mail::QueueIdMint;
use vsmtp_sys::sandbox::Profile;

use crate::control::{Control, Operators};
use crate::delegation;
use crate::dispatch::Dispatch;
use crate::error::StartError;
use crate::intake::Intake;
use crate::ledger::{Clock, Ended, Ledger, Tell};
use crate::outcome;
use crate::post::Post;
use crate::schedule::Notice;
use crate::settings::{self, Settings};
use crate::store::{OpenError, Options, Unrecovered};
use crate::tls_reports::{self, TlsReports};
use crate::{metrics, notice, sandbox, trace};

/// The one timer: something in the schedule is due.
const DUE: u64 = 1;
/// How often things without a time of their own are looked at, in milliseconds.
const WATCH_MS: u64 = 1000;
/// Time that is kept for the last sync when the process is to end, in milliseconds.
const CLOSING_MS: u64 = 500;
/// How long the spool may be locked at the start, in milliseconds: longer than an orphaned process lives.
const PREDECESSOR_MS: u64 = 4000;
/// How often the lock is tried meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(50);

/// The queue-manager.
pub struct QueueManager {
    spool: PathBuf,
    start: Option<Start>,
    ledger: Option<Ledger>,
    edges: Edges,
    ended: Vec<Ended>,
    /// When the timer goes off that was set last.
    timer_ms: Option<u64>,
    next_watch_ms: u64,
    /// Monotonic time at which the process must have ended.
    end_ms: Option<u64>,
}

/// What waits for the jail.
struct Start {
    unrecovered: Unrecovered,
    settings: Settings,
    mint: QueueIdMint,
}

/// All who talk to this process.
struct Edges {
    next_token: usize,
    intake: Intake,
    dispatch: Dispatch,
    post: Post,
    control: Control,
}

impl Daemon for QueueManager {
    const NAME: &'static str = "vsmtp-queue";
    type Slice = QueueSlice;

    fn before_jail(boot: Boot<QueueSlice>) -> Result<Self, BootError> {
        let spool = PathBuf::from(&boot.slice.spool);
        make_folder(&spool)?;
        let options = settings::store_options(&boot.slice);
        let unrecovered = open_when_free(&spool, options)?;
        let mint = QueueIdMint::new(boot.node, boot.process);
        let start = Start { unrecovered, settings: Settings::from(&boot.slice), mint };
        Ok(QueueManager {
            spool,
            start: Some(start),
            ledger: None,
            edges: Edges {
                next_token: FIRST_TOKEN,
                intake: Intake::default(),
                dispatch: Dispatch::default(),
                post: Post::default(),
                control: Control::new(Operators::look_up()),
            },
            ended: Vec::new(),
            timer_ms: None,
            next_watch_ms: 0,
            end_ms: None,
        })
    }

    fn profile(&self) -> Profile {
        sandbox::profile(&self.spool)
    }

    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        let Some(Start { unrecovered, settings, mint }) = self.start.take() else { return Ok(()) };
        let began_ms = vsmtp_sys::clock::monotonic_ms();
        let waker = reactor.waker();
        let wake = Box::new(move || {
            // A wake-up that fails is followed by the next one, or by the watch.
            let _ = waker.wake();
        });
        let (store, summaries, report) = unrecovered.recover(wake).map_err(StartError::Recovery)?;
        let now_ms = vsmtp_sys::clock::monotonic_ms();
        trace::recovered(&report, now_ms.saturating_sub(began_ms));
        let seed = vsmtp_sys::random::random_u64().map_err(|error| BootError::Io("get randomness", error))?;
        let clock = Clock { mono_ms: now_ms, wall_ms: reactor.wall_ms() };
        let mut ledger = Ledger::new(store, summaries, settings, mint, seed, clock);
        ledger.tls_reports = TlsReports::open(&self.spool);
        self.ledger = Some(ledger);
        reactor.turn_again();
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        let clock = Clock { mono_ms: reactor.now_ms(), wall_ms: reactor.wall_ms() };
        let Some(ledger) = &mut self.ledger else { return Flow::Exit };
        match event {
            Event::Peer(name, socket) => self.edges.connect(ledger, reactor, name, socket, clock),
            Event::Listener(Listener::Control, socket) => {
                let token = self.edges.token();
                self.edges.control.listen(reactor, socket, token);
            }
            Event::Listener(..) => trace::trouble("unexpected-listener", &"not for this process"),
            Event::Ready { token, readable, .. } => {
                if readable {
                    self.edges.hear(token, ledger, reactor, clock);
                }
            }
            Event::File(path, _) => trace::trouble("unexpected-file", &path),
            Event::Timer(_) => self.timer_ms = None,
            Event::Reconfigure(slice) => reconfigure(ledger, &slice),
            Event::Limits { .. } | Event::Brakes { .. } => {
                trace::trouble("unexpected-request", &"not for this process")
            }
            Event::StopAccepting => self.edges.intake.close(),
            Event::Drain { deadline_ms } => {
                self.edges.intake.close();
                self.edges.dispatch.close();
                self.end_ms = Some(deadline_ms);
            }
            Event::TurnEnd => return self.turn_end(reactor, clock),
        }
        Flow::Continue
    }
}

impl QueueManager {
    /// Everything that this turn's events have made possible, once, and then all answers at once.
    fn turn_end(&mut self, reactor: &mut Reactor, clock: Clock) -> Flow {
        let Some(ledger) = &mut self.ledger else { return Flow::Exit };
        ledger.poll(clock, &mut self.ended);
        self.edges.answer(&mut self.ended, reactor);
        let mut again = ledger.load(clock);
        again |= ledger.schedule.tick(clock.mono_ms);
        again |= self.edges.post.ask(ledger, clock);
        again |= self.edges.dispatch.send(ledger, reactor, clock);
        again |= self.edges.control.work(ledger, clock);
        again |= tls_reports::work(ledger, clock);
        self.edges.dispatch.withdraw(ledger);
        self.edges.dispatch.post(ledger, clock);
        while let Some(notice) = ledger.schedule.take_notice() {
            act_on(notice, ledger, clock);
        }
        if clock.mono_ms >= self.next_watch_ms {
            self.next_watch_ms = clock.mono_ms + WATCH_MS;
            self.edges.dispatch.watch(ledger, reactor, clock);
            ledger.read_again(clock);
            ledger.tell_again(clock);
            for id in ledger.failures.overdue(clock) {
                outcome::close(ledger, id, clock);
            }
            metrics::report(ledger, reactor);
        }
        self.edges.flush(ledger, reactor, clock);
        if again || ledger.has_more() {
            reactor.turn_again();
        }
        self.set_timer(reactor, clock);
        if self.is_done(clock) { self.end(reactor, clock) } else { Flow::Continue }
    }

    /// The next time at which something is due without an event.
    fn set_timer(&mut self, reactor: &mut Reactor, clock: Clock) {
        let Some(ledger) = &self.ledger else { return };
        let reports = ledger.tls_reports.wake_ms(&ledger.settings.tls_reports, clock);
        let mut due = vec![ledger.schedule.wake_ms(), Post::wake_ms(ledger), reports];
        if !ledger.failures.is_empty() || ledger.schedule.leases() > 0 || ledger.courtesies.has_refused() {
            due.push(Some(self.next_watch_ms));
        }
        due.push(self.end_ms.map(|end_ms| end_ms.saturating_sub(CLOSING_MS)));
        let Some(next_ms) = due.into_iter().flatten().min() else { return };
        // There is no cancel: an earlier timer that is set already will do.
        if self.timer_ms.is_none_or(|set_ms| next_ms < set_ms) {
            self.timer_ms = Some(next_ms);
            reactor.set_timer(next_ms, DUE);
        }
    }

    fn is_done(&self, clock: Clock) -> bool {
        let (Some(end_ms), Some(ledger)) = (self.end_ms, &self.ledger) else { return false };
        let is_quiet = ledger.open_commits() == 0 && self.edges.dispatch.open() == 0;
        is_quiet || clock.mono_ms.saturating_add(CLOSING_MS) >= end_ms
    }

    fn end(&mut self, reactor: &mut Reactor, clock: Clock) -> Flow {
        if let Some(mut ledger) = self.ledger.take() {
            for id in ledger.failures.messages() {
                outcome::close(&mut ledger, id, clock);
            }
            ledger.tls_reports.keep();
            ledger.close(clock, &mut self.ended);
        }
        self.edges.answer(&mut self.ended, reactor);
        self.edges.intake.flush(reactor);
        self.edges.control.flush(reactor);
        Flow::Exit
    }
}

impl Edges {
    fn token(&mut self) -> usize {
        let token = self.next_token;
        self.next_token += 1;
        token
    }

    fn connect(
        &mut self,
        ledger: &mut Ledger,
        reactor: &mut Reactor,
        name: ProcessName,
        socket: OwnedFd,
        clock: Clock,
    ) {
        let token = self.token();
        match name.role {
            Role::FilterSession => self.intake.connect(reactor, name, socket, token),
            Role::FilterPost => self.post.connect(ledger, reactor, name, socket, token, clock),
            Role::DeliverSmtp | Role::DeliverMailbox => {
                self.dispatch.connect(ledger, reactor, name, socket, token, clock);
            }
            Role::Receiver
            | Role::FilterOneshot
            | Role::QueueManager
            | Role::Resolver
            | Role::Limits
            | Role::Auth
            | Role::Keys
            | Role::Runner
            | Role::Database => {
                trace::trouble("unexpected-peer", &name);
            }
        }
    }

    fn hear(&mut self, token: usize, ledger: &mut Ledger, reactor: &mut Reactor, clock: Clock) {
        if self.intake.has(token) {
            self.intake.hear(token, ledger, reactor, clock);
        } else if self.dispatch.has(token) {
            self.dispatch.hear(token, ledger, reactor, clock);
        } else if self.post.has(token) {
            self.post.hear(token, ledger, reactor, clock);
        } else if self.control.has(token) {
            self.control.hear(token, ledger, clock);
        } else if self.control.is_listener(token) {
            self.control.accept(reactor, &mut self.next_token);
        }
    }

    fn answer(&mut self, ended: &mut Vec<Ended>, reactor: &mut Reactor) {
        for one in ended.drain(..) {
            match one.tell {
                Tell::Filter { .. } => self.intake.answer(&one, reactor),
                Tell::Operator { .. } => self.control.answer(&one),
                Tell::Nobody => {}
            }
        }
    }

    fn flush(&mut self, ledger: &mut Ledger, reactor: &mut Reactor, clock: Clock) {
        self.intake.flush(reactor);
        self.dispatch.flush(ledger, reactor, clock);
        self.post.flush(ledger, reactor, clock);
        self.control.flush(reactor);
    }
}

fn act_on(found: Notice, ledger: &mut Ledger, clock: Clock) {
    match found {
        Notice::Expired { id, recipients, reason, .. } => {
            notice::expired(ledger, id, &recipients, &reason, clock)
        }
        Notice::Unserved { id, reason } => delegation::unserved(ledger, id, &reason, clock),
        Notice::Warn { id, reason } => notice::warn(ledger, id, &reason, clock),
    }
}

fn reconfigure(ledger: &mut Ledger, slice: &[u8]) {
    match vsmtp_config::decode::<QueueSlice>(slice) {
        Ok(slice) => ledger.reconfigure(Settings::from(&slice)),
        Err(error) => trace::trouble("bad-configuration", &error),
    }
}

/// A predecessor whose master died may take its time to end; anybody else who has the spool keeps it.
fn open_when_free(spool: &Path, options: Options) -> Result<Unrecovered, StartError> {
    let deadline_ms = vsmtp_sys::clock::monotonic_ms() + PREDECESSOR_MS;
    loop {
        match Unrecovered::open(spool, options) {
            Err(OpenError::Locked { .. }) if vsmtp_sys::clock::monotonic_ms() < deadline_ms => {
                std::thread::sleep(LOCK_LOOK);
            }
            opened => return opened.map_err(StartError::Spool),
        }
    }
}

/// The master makes the folder where it is root; elsewhere it may be missing.
fn make_folder(spool: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(spool)
        .map_err(|error| StartError::Folder(spool.display().to_string(), error))
}
