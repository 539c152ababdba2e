//! Who does the work: a committer thread and a janitor thread, or, in tests and tools, the caller itself. Both give the
//! same reports in the same order; after each batch of them the wake-up closure is called.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use vsmtp_sys::scheduling;

use super::janitor::{Janitor, Job};
use super::log::{Log, Prepared, Report};

/// Called, from any thread, when [`super::Store::poll`] has something to say.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// The janitor reports so often that time has passed.
const TICK: Duration = Duration::from_secs(10);
/// Most transactions of one batch.
const MAX_BATCH: usize = 4096;
/// Most octets of one batch, more or less.
const MAX_BATCH_WEIGHT: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) enum Engine {
    Threads(Threads),
    Inline(Box<Inline>),
    /// The end: nothing is done any more.
    Closed,
}

/// The caller works.
#[derive(Debug)]
pub(super) struct Inline {
    log: Log,
    janitor: Janitor,
    waiting: Vec<Prepared>,
    jobs: Vec<Job>,
    /// In the order in which they were done, those of one batch together.
    reports: Vec<Vec<Report>>,
    pub(super) pace: Pace,
}

/// How much of what waits is done, and heard of, in one turn: all of it, unless a test has it as random as with threads.
#[derive(Debug, Default)]
pub(super) struct Pace {
    #[cfg(test)]
    pub(super) dice: Option<super::sim::Dice>,
}

impl Pace {
    fn of(&mut self, waiting: usize) -> usize {
        #[cfg(test)]
        if let Some(dice) = &mut self.dice {
            return dice.below(waiting as u64 + 1) as usize;
        }
        waiting
    }
}

/// Threads work.
#[derive(Debug)]
pub(super) struct Threads {
    commits: Option<Sender<Prepared>>,
    jobs: Option<Sender<Job>>,
    reports: Receiver<Vec<Report>>,
    handles: Vec<JoinHandle<()>>,
}

impl Engine {
    pub(super) fn inline(log: Log, janitor: Janitor) -> Self {
        let (waiting, jobs, reports) = (Vec::new(), Vec::new(), Vec::new());
        Engine::Inline(Box::new(Inline { log, janitor, waiting, jobs, reports, pace: Pace::default() }))
    }

    pub(super) fn threads(log: Log, janitor: Janitor, lazy_delay: Duration, wake: Wake) -> io::Result<Self> {
        let (commits, to_commit) = channel();
        let (jobs, to_do) = channel();
        let (reporter, reports) = channel();
        let wake = std::sync::Arc::new(wake);
        let (janitors_reporter, janitors_wake) = (reporter.clone(), wake.clone());
        let committer = Builder::new().name("committer".into()).spawn(move || {
            let _vital = Vital;
            // It sleeps for the disk, and whoever waits for a 250 waits for it; that others gather is enough.
            let _ = scheduling::prefer_promptness();
            commit_all(&to_commit, log, lazy_delay, &reporter, &**wake);
        })?;
        let janitor = Builder::new().name("janitor".into()).spawn(move || {
            let _vital = Vital;
            do_all(&to_do, &janitor, &janitors_reporter, &**janitors_wake);
        })?;
        let handles = vec![committer, janitor];
        Ok(Engine::Threads(Threads { commits: Some(commits), jobs: Some(jobs), reports, handles }))
    }

    pub(super) fn commit(&mut self, prepared: Prepared) {
        match self {
            Engine::Inline(inline) => inline.waiting.push(prepared),
            Engine::Closed => {}
            // The committer ends only when this sender is gone.
            Engine::Threads(threads) => drop(threads.commits.as_ref().map(|commits| commits.send(prepared))),
        }
    }

    pub(super) fn job(&mut self, job: Job) {
        match self {
            Engine::Inline(inline) => inline.jobs.push(job),
            Engine::Closed => {}
            Engine::Threads(threads) => drop(threads.jobs.as_ref().map(|jobs| jobs.send(job))),
        }
    }

    /// What has been done since the last call. Never waits; in-line, this is when the work is done.
    pub(super) fn reports(&mut self) -> Vec<Report> {
        match self {
            Engine::Inline(inline) => inline.work(false),
            Engine::Closed => Vec::new(),
            Engine::Threads(threads) => threads.reports.try_iter().flatten().collect(),
        }
    }

    /// In-line: does what waits, and syncs what is not synced. With threads that happens by itself.
    pub(super) fn sync(&mut self) -> Vec<Report> {
        match self {
            Engine::Inline(inline) => inline.work(true),
            Engine::Threads(_) | Engine::Closed => self.reports(),
        }
    }

    /// Finishes everything, syncs, and returns the last reports.
    pub(super) fn close(self) -> Vec<Report> {
        match self {
            Engine::Inline(mut inline) => {
                inline.pace = Pace::default();
                let mut reports = inline.work(true);
                reports.extend(inline.log.close());
                reports
            }
            Engine::Closed => Vec::new(),
            Engine::Threads(mut threads) => {
                threads.join();
                threads.reports.try_iter().flatten().collect()
            }
        }
    }
}

/// Without its threads a store answers nobody any more, or fills the disk: if one of them panics, the process ends, and its
/// master starts another.
struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Threads {
    /// Both end when nothing can be asked of them any more.
    fn join(&mut self) {
        drop(self.jobs.take());
        drop(self.commits.take());
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
    }
}

/// The spool's lock must not be given up while a thread may still write.
impl Drop for Threads {
    fn drop(&mut self) {
        self.join();
    }
}

impl Inline {
    fn work(&mut self, sync: bool) -> Vec<Report> {
        let jobs = self.pace.of(self.jobs.len());
        for job in self.jobs.drain(..jobs) {
            self.reports.extend(self.janitor.work(job).map(|found| vec![Report::Found(found)]));
        }
        let batch: Vec<_> = self.waiting.drain(..self.pace.of(self.waiting.len())).collect();
        if sync || !batch.is_empty() {
            self.reports.push(self.log.process(batch, sync));
        }
        if sync && self.log.wants_mark() {
            self.reports.push(self.log.mark());
        }
        let heard = self.pace.of(self.reports.len());
        self.reports.drain(..heard).flatten().collect()
    }
}

/// The committer: whatever arrived while the last sync ran shares the next one.
fn commit_all(
    commits: &Receiver<Prepared>,
    mut log: Log,
    lazy_delay: Duration,
    reports: &Sender<Vec<Report>>,
    wake: &(dyn Fn() + Send + Sync),
) {
    let mut dirty_since: Option<Instant> = None;
    loop {
        let first = match dirty_since {
            Some(since) => commits.recv_timeout(lazy_delay.saturating_sub(since.elapsed())),
            None if log.wants_mark() => commits.recv_timeout(lazy_delay),
            None => commits.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let mut batch = Vec::new();
        match first {
            Ok(prepared) => gather(prepared, commits, &mut batch),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let overdue = dirty_since.is_some_and(|since| since.elapsed() >= lazy_delay);
        let idle = batch.is_empty() && dirty_since.is_none();
        let done = if idle { log.mark() } else { log.process(batch, overdue) };
        dirty_since = match (log.is_dirty(), dirty_since, overdue) {
            (false, _, _) => None,
            (true, Some(since), false) => Some(since),
            (true, _, _) => Some(Instant::now()),
        };
        if !done.is_empty() {
            let _ = reports.send(done);
            wake();
        }
    }
    let _ = reports.send(log.close());
    wake();
}

fn gather(first: Prepared, commits: &Receiver<Prepared>, batch: &mut Vec<Prepared>) {
    let mut weight = first.weight();
    batch.push(first);
    while batch.len() < MAX_BATCH && weight < MAX_BATCH_WEIGHT {
        let Ok(prepared) = commits.try_recv() else { break };
        weight += prepared.weight();
        batch.push(prepared);
    }
}

fn do_all(
    jobs: &Receiver<Job>,
    janitor: &Janitor,
    reports: &Sender<Vec<Report>>,
    wake: &(dyn Fn() + Send + Sync),
) {
    let mut ticked = Instant::now();
    loop {
        let report = match jobs.recv_timeout(TICK.saturating_sub(ticked.elapsed())) {
            Ok(job) => janitor.work(job).map(Report::Found),
            Err(RecvTimeoutError::Timeout) => {
                ticked = Instant::now();
                Some(Report::Tick)
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Some(report) = report {
            let _ = reports.send(vec![report]);
            wake();
        }
    }
}
