//! The threads that do what may block. Work goes in, outcomes come out in any order; one piece of work that hangs takes one
//! thread, and one that panics is an unknown outcome.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use vsmtp_daemon::Record;
use vsmtp_sys::clock;

use crate::backend::{Backends, Finding, dovecot, saslauthd};
use crate::desk::{Outcome, WORK_MS, Work};

/// Threads.
pub const THREADS: usize = 16;
/// Work that may wait for a thread; more is not taken.
const MAX_WAITING: usize = 4096;

/// The threads, as the loop sees them.
pub struct Crew {
    work: SyncSender<Job>,
    outcomes: Receiver<(u64, Outcome)>,
}

struct Job {
    number: u64,
    work: Work,
    backends: Backends,
    since_ms: u64,
}

impl Crew {
    /// Starts the threads, which call `wake` after each outcome.
    pub fn start(wake: impl Fn() + Clone + Send + 'static) -> io::Result<Self> {
        let (work, jobs) = sync_channel::<Job>(MAX_WAITING);
        let (done, outcomes) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..THREADS {
            let (jobs, done, wake) = (Arc::clone(&jobs), done.clone(), wake.clone());
            thread::Builder::new().name("check".to_owned()).spawn(move || serve(&jobs, &done, wake))?;
        }
        Ok(Crew { work, outcomes })
    }

    /// Has work done; false if there is too much already.
    #[must_use]
    pub fn take(&self, number: u64, work: Work, backends: Backends) -> bool {
        self.work.try_send(Job { number, work, backends, since_ms: clock::monotonic_ms() }).is_ok()
    }

    /// The next outcome that is there.
    pub fn outcome(&self) -> Option<(u64, Outcome)> {
        self.outcomes.try_recv().ok()
    }
}

fn serve(jobs: &Mutex<Receiver<Job>>, done: &Sender<(u64, Outcome)>, wake: impl Fn()) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // The loop is gone only if the process ends.
        let Ok(job) = job else { return };
        let number = job.number;
        let outcome = catch_unwind(AssertUnwindSafe(|| perform(job))).unwrap_or_else(|_| {
            Record::at(log::Level::Error, "check-panicked").emit();
            Outcome::Unknown
        });
        let _ = done.send((number, outcome));
        wake();
    }
}

fn perform(job: Job) -> Outcome {
    let Job { work, backends, since_ms, .. } = job;
    // Whoever waited for it has gone.
    if clock::monotonic_ms().saturating_sub(since_ms) >= WORK_MS {
        return Outcome::Unknown;
    }
    match work {
        Work::Check(credentials, place) => backends.check(&credentials, place).into(),
        Work::Judge(bearer) => backends.judge(&bearer, clock::wall_ms() / 1000).into(),
        Work::Verify(credentials) => {
            let path = backends.saslauthd().unwrap_or(saslauthd::USUAL_PATH);
            saslauthd::check(path, &credentials)
                .map_or_else(|error| failed("saslauthd", &error), Outcome::from)
        }
        Work::Relay(mechanism, initial, place, seat) => match backends.dovecot() {
            Some(path) => said(dovecot::begin(path, mechanism, initial.as_deref(), place, Some(seat))),
            None => Outcome::Unknown,
        },
        Work::GoOn(exchange, response) => said(exchange.go_on(&response)),
        Work::Survey => {
            let found = backends.dovecot().map(dovecot::mechanisms);
            Outcome::Mechanisms(found.and_then(Result::ok))
        }
    }
}

fn said(said: io::Result<dovecot::Said>) -> Outcome {
    match said {
        Ok(dovecot::Said::User(user)) => Outcome::Yes(user),
        Ok(dovecot::Said::Wrong(user)) => Outcome::No(user),
        Ok(dovecot::Said::Unknown) => Outcome::Unknown,
        Ok(dovecot::Said::Challenge(exchange, message)) => Outcome::Challenge(exchange, message),
        Err(error) => failed("dovecot", &error),
    }
}

fn failed(backend: &str, error: &io::Error) -> Outcome {
    Record::at(log::Level::Error, "backend-failed").field("backend", backend).field("error", error).emit();
    Outcome::Unknown
}

impl From<Finding> for Outcome {
    fn from(finding: Finding) -> Self {
        match finding {
            Finding::Yes(user) => Outcome::Yes(user),
            Finding::No => Outcome::No(None),
            Finding::NoGuess => Outcome::NoGuess,
            Finding::Unknown => Outcome::Unknown,
        }
    }
}
