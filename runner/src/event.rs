//! The daemon: what wakes it, and what it does then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use vsmtp_config::RunnerSlice;
use vsmtp_daemon::{Boot, BootError, Daemon, Edges, Event, FIRST_TOKEN, Flow, Reactor, Record};
use vsmtp_ipc::edge::filter_runner::{Answer, Ask, CREDITS, Ended, MAX_INPUT, Refused};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{ChannelError, EdgeId};
use vsmtp_sys::memfd::Sealed;
use vsmtp_sys::sandbox::{Domain, OpenGrants, Profile};
use vsmtp_sys::{spawn, users};

use crate::folders::{self, Folders};
use crate::job::{Job, NotStarted, Program, SIGKILL, TOKENS};
use crate::strays::Strays;
use crate::{programs, sandbox};

/// Most edges to filters at once; more are refused.
const MAX_FILTERS: usize = 16;
/// What the kernel is told of how readily it may end a process for want of memory: these before all others.
const FIRST_TO_GO: &str = "1000";

/// After this time it is looked whether strays that were ended have left others, in milliseconds.
const LOOK_AGAIN_MS: u64 = 100;
/// The timer for that; no token is as large.
const LOOK_AGAIN: u64 = u64::MAX;

/// The daemon.
pub struct Runner {
    slice: RunnerSlice,
    folders: Folders,
    /// Our folder is not what it was: programs can be started by another runner only.
    has_lost_folder: bool,
    /// What all programs may open. Opened once: whoever serves those file systems may take long to answer.
    common_ground: OpenGrants,
    /// Nobody else is the user that we are.
    has_own_user: bool,
    filters: Edges<Answer, Ask>,
    /// Programs that run, by their first token, which is also the key of their timer.
    jobs: BTreeMap<usize, Job>,
    strays: Strays,
    /// A job has ended in this turn, or strays that were ended are to be looked for.
    look_for_strays: bool,
    /// Questions that wait for a place. The credits of the edges bound them.
    waiting: VecDeque<Waiting>,
    /// Jobs that may have printed more than was read in this turn.
    busy: Vec<usize>,
    next_token: usize,
    draining: bool,
    figures: Figures,
}

#[derive(Default)]
struct Figures {
    run: u64,
    failed: u64,
    timed_out: u64,
    refused: u64,
}

struct Waiting {
    edge: usize,
    ask: Ask,
    input: Option<OwnedFd>,
    /// Nobody waits for it any more, in monotonic milliseconds.
    until_ms: u64,
}

impl Daemon for Runner {
    const NAME: &'static str = "vsmtp-runner";
    type Slice = RunnerSlice;

    fn before_jail(boot: Boot<RunnerSlice>) -> Result<Self, BootError> {
        for command in &boot.slice.commands {
            if !programs::find(&command.program).is_some_and(|path| path.exists()) {
                Record::at(log::Level::Warn, "command-missing").field("command", &command.program).emit();
            }
        }
        if let Err(error) = spawn::adopt_orphans().and_then(|()| spawn::children()) {
            Record::at(log::Level::Warn, "strays-unseen").field("error", error).emit();
        }
        // Programs inherit it: what they take must not cost the queue its process.
        if let Err(error) = std::fs::write("/proc/self/oom_score_adj", FIRST_TO_GO) {
            Record::at(log::Level::Warn, "oom-score-kept").field("error", error).emit();
        }
        let folders = Folders::open().map_err(|error| BootError::Io("make a folder for programs", error))?;
        let common_ground = OpenGrants::open(sandbox::common_ground(
            &folders::places(),
            boot.slice.commands.iter().filter_map(|command| programs::find(&command.program)),
        ));
        let common_ground =
            common_ground.map_err(|error| BootError::Io("open what programs may read", error))?;
        Ok(Runner {
            slice: boot.slice,
            folders,
            has_lost_folder: false,
            common_ground,
            has_own_user: has_own_user(),
            filters: Edges::new(EdgeId::FilterRunner, MAX_FILTERS),
            jobs: BTreeMap::new(),
            strays: Strays::default(),
            look_for_strays: false,
            waiting: VecDeque::new(),
            busy: Vec::new(),
            next_token: FIRST_TOKEN,
            draining: false,
            figures: Figures::default(),
        })
    }

    fn profile(&self) -> Profile {
        sandbox::profile(self.folders.path())
    }

    fn declares(&self) -> String {
        match Domain::prepare(&[]) {
            Ok(domain) => format!("  {}\n", sandbox::describe_domain(&domain)),
            Err(error) => format!("  each program: no domain can be made: {error}\n"),
        }
    }

    fn after_jail(&mut self, _: &mut Reactor) -> Result<(), BootError> {
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        match event {
            Event::Peer(name, socket) if matches!(name.role, Role::FilterSession | Role::FilterPost) => {
                self.meet(reactor, name, socket);
            }
            Event::Ready { token, readable: true, .. } if self.filters.has(token) => {
                self.hear(reactor, token)
            }
            Event::Ready { token, readable: true, .. } => self.job_event(reactor, token),
            Event::Timer(LOOK_AGAIN) => self.look_for_strays = true,
            Event::Timer(key) => self.time_over(key),
            Event::Drain { .. } => self.draining = true,
            Event::TurnEnd => return self.turn_end(reactor),
            _ => {}
        }
        Flow::Continue
    }
}

impl Runner {
    fn token(&mut self) -> usize {
        let token = self.next_token;
        self.next_token += TOKENS;
        token
    }

    fn meet(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        let token = self.token();
        match self.filters.introduce(reactor, name, socket, token) {
            Ok(old) => {
                if let Some(old) = old {
                    self.forget(old);
                }
            }
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
                    let input = received.descriptors.into_iter().next();
                    if let Err(error) = self.take(reactor.now_ms(), edge, received.message, input) {
                        break error;
                    }
                }
                Ok(None) => return,
                Err(error) => break error,
            }
        };
        self.close(reactor, edge, &error);
    }

    fn take(
        &mut self,
        now_ms: u64,
        edge: usize,
        ask: Ask,
        input: Option<OwnedFd>,
    ) -> Result<(), ChannelError> {
        let misbehaved = |what: &str| ChannelError::Misbehaved(what.to_owned());
        if self.open(edge) >= CREDITS as usize {
            return Err(misbehaved("more questions than credits"));
        }
        let input = match (ask.input, input) {
            (None, None) => None,
            (Some(len), Some(input)) if len <= MAX_INPUT => {
                let sealed = Sealed::verify(input, len).map_err(|error| misbehaved(&error.to_string()))?;
                Some(sealed.into_fd())
            }
            _ => return Err(misbehaved("a command's input is not what was said")),
        };
        let until_ms = now_ms.saturating_add(ask.left_ms);
        self.waiting.push_back(Waiting { edge, ask, input, until_ms });
        Ok(())
    }

    /// Questions of an edge that have no answer yet.
    fn open(&self, edge: usize) -> usize {
        let waiting = self.waiting.iter().filter(|waiting| waiting.edge == edge).count();
        waiting + self.jobs.values().filter(|job| job.edge == edge).count()
    }

    /// Starts what waits, as long as there are places.
    fn start_waiting(&mut self, reactor: &mut Reactor) {
        while self.jobs.len() < self.slice.at_once as usize {
            let Some(waiting) = self.waiting.pop_front() else { return };
            let (edge, ticket) = (waiting.edge, waiting.ask.ticket);
            if let Err(refused) = self.start(reactor, waiting) {
                self.say(reactor, edge, Answer { ticket, result: Err(refused) });
            }
        }
    }

    fn start(&mut self, reactor: &mut Reactor, waiting: Waiting) -> Result<(), Refused> {
        let Waiting { edge, ask: Ask { ticket, command, arguments, .. }, input, until_ms } = waiting;
        let now_ms = reactor.now_ms();
        if now_ms >= until_ms {
            return Err(Refused::Busy);
        }
        let (command, arguments) = programs::permit(&self.slice.commands, command, arguments)
            .inspect_err(|_| self.figures.refused += 1)?;
        let token = self.token();
        let limits = sandbox::limits(self.slice.at_once, self.has_own_user);
        let started = match programs::find(&command.program) {
            None => Err(NotStarted::Program(io::Error::other("no such program"))),
            Some(path) => {
                let argv = std::iter::once(command.program.clone()).chain(arguments).collect();
                let program = |folder, domain| Program { path, argv, input, folder, limits, domain };
                self.apart(|folder, domain| {
                    Job::start(reactor, token, (edge, ticket), program(folder.to_owned(), domain))
                })
            }
        };
        let job = started.map_err(|why| {
            self.figures.failed += 1;
            Record::at(log::Level::Warn, "command-failed")
                .field("command", &command.program)
                .field("error", &why)
                .emit();
            match why {
                NotStarted::Program(error) => Refused::Failed(error.to_string()),
                NotStarted::Host(_) => Refused::Busy,
            }
        })?;
        self.figures.run += 1;
        self.jobs.insert(token, job);
        let time = now_ms.saturating_add(milliseconds(command.timeout));
        reactor.set_timer(time.min(until_ms), token as u64);
        // It may have ended before it was watched.
        self.busy.push(token);
        Ok(())
    }

    /// Starts a program with a folder and a domain of its own.
    fn apart(
        &mut self,
        start: impl FnOnce(&Path, Domain) -> Result<Job, NotStarted>,
    ) -> Result<Job, NotStarted> {
        let folder =
            self.folders.make().inspect_err(|error| self.has_lost_folder |= folders::is_lost(error))?;
        let domain = OpenGrants::open([sandbox::own(&folder)])
            .and_then(|own| Domain::prepare(&[&self.common_ground, &own]));
        let job = domain.map_err(NotStarted::from).and_then(|domain| start(&folder, domain));
        if job.is_err() {
            self.folders.give_up(folder);
            // One that could not be watched was started all the same.
            self.look_for_strays = true;
        }
        job
    }

    /// A program has printed something, or has ended.
    fn job_event(&mut self, reactor: &mut Reactor, token: usize) {
        let first = FIRST_TOKEN + (token - FIRST_TOKEN) / TOKENS * TOKENS;
        let Some(job) = self.jobs.get_mut(&first) else { return };
        if job.read() {
            self.busy.push(first);
        }
        match job.ended() {
            Ok(None) => {}
            Ok(Some(status)) => {
                let Some(job) = self.jobs.remove(&first) else { return };
                self.look_for_strays = true;
                self.folders.give_up(job.folder().to_owned());
                let (edge, ticket) = (job.edge, job.ticket);
                let ended = job.result(status);
                self.figures.timed_out += u64::from(ended.timed_out);
                self.say(reactor, edge, Answer { ticket, result: Ok(ended) });
            }
            Err(error) => {
                // Nobody can tell any more how it ends.
                let Some(mut job) = self.jobs.remove(&first) else { return };
                self.look_for_strays = true;
                job.kill();
                self.folders.give_up(job.folder().to_owned());
                let result: Result<Ended, _> = Err(Refused::Failed(error.to_string()));
                self.say(reactor, job.edge, Answer { ticket: job.ticket, result });
            }
        }
    }

    fn time_over(&mut self, key: u64) {
        let job = usize::try_from(key).ok().and_then(|token| self.jobs.get_mut(&token));
        if let Some(job) = job {
            job.end();
        }
    }

    fn say(&mut self, reactor: &mut Reactor, edge: usize, answer: Answer) {
        if let Err(error) = self.filters.say(edge, &answer) {
            self.close(reactor, edge, &error);
        }
    }

    fn close(&mut self, reactor: &mut Reactor, edge: usize, error: &ChannelError) {
        self.filters.close(reactor, edge, error);
        self.forget(edge);
    }

    /// Nobody waits any more for what an edge has asked for.
    fn forget(&mut self, edge: usize) {
        self.waiting.retain(|waiting| waiting.edge != edge);
        self.jobs.values_mut().filter(|job| job.edge == edge).for_each(Job::kill);
    }

    /// Ends what has fled from commands that have ended, and waits for all that has ended.
    fn end_strays(&mut self, reactor: &mut Reactor) {
        let jobs: BTreeSet<i32> = self.jobs.values().map(Job::pid).collect();
        let running = self.jobs.keys().copied().collect();
        let others = spawn::children().unwrap_or_default().into_iter().filter(|pid| !jobs.contains(pid));
        let strays = others.filter(|pid| !spawn::has_ended(*pid).unwrap_or(true)).collect();
        let doomed = self.strays.look(&strays, &running);
        for pid in &doomed {
            // It is our child, so its number is its own until it is waited for.
            let _ = spawn::kill(*pid, SIGKILL);
        }
        if !doomed.is_empty() {
            reactor.set_timer(reactor.now_ms().saturating_add(LOOK_AGAIN_MS), LOOK_AGAIN);
        }
    }

    fn turn_end(&mut self, reactor: &mut Reactor) -> Flow {
        // Before others start, which they could belong to.
        if std::mem::take(&mut self.look_for_strays) {
            self.end_strays(reactor);
        }
        self.start_waiting(reactor);
        let busy = std::mem::take(&mut self.busy);
        for token in busy {
            self.job_event(reactor, token);
        }
        let has_doomed = self.folders.remove_some();
        if !self.busy.is_empty() || self.look_for_strays || has_doomed {
            reactor.turn_again();
        }
        for (edge, error) in self.filters.flush(reactor) {
            self.close(reactor, edge, &error);
        }
        if self.has_lost_folder {
            Record::at(log::Level::Error, "folder-lost")
                .field("folder", self.folders.path().display())
                .emit();
            return Flow::Exit;
        }
        reactor.figure("commands_running", self.jobs.len() as u64);
        reactor.figure("commands_waiting", self.waiting.len() as u64);
        reactor.figure("commands_run", self.figures.run);
        reactor.figure("commands_failed", self.figures.failed);
        reactor.figure("commands_timed_out", self.figures.timed_out);
        reactor.figure("commands_refused", self.figures.refused);
        if self.draining && self.filters.is_empty() {
            self.jobs.values_mut().for_each(Job::kill);
            if self.jobs.is_empty() && !self.folders.has_doomed() {
                self.end_strays(reactor);
                self.folders.end();
                return Flow::Exit;
            }
        }
        Flow::Continue
    }
}

/// True if we were started by another user, who has then chosen one for us alone.
fn has_own_user() -> bool {
    let parent = std::os::unix::process::parent_id();
    let status = std::fs::read_to_string(format!("/proc/{parent}/status")).unwrap_or_default();
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let of_parent = users.and_then(|users| users.split_whitespace().next()?.parse().ok());
    of_parent.is_some_and(|user: u32| user != users::current().0)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
