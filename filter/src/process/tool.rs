//! `--role tool`: does one task of an operator with a configuration, inside the jail, and ends. vsmtpctl starts it, with the
//! edge as descriptor 3; no master and no other process is needed.
//!
//! On failure: the edge closes without an answer, and vsmtpctl says so.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use vsmtp_ipc::edge::ctl_filter::{Answer, FilterEnd, Request, Task};
use vsmtp_ipc::{Channel, EdgeId, Flushed};
use vsmtp_sys::{fds, sandbox, signals};

use crate::api::{self, Surroundings};
use crate::inspect::{self, problem};
use crate::limiter::NoLimiter;
use crate::names::Nobody;
use crate::object::Fault;
use crate::oneshot;
use crate::rehearsal::{Scene, scripts, trial};
use crate::runner::NoRunner;
use crate::signer::NoSigner;

/// The descriptor of the edge.
const EDGE_FD: i32 = 3;
/// Longest wait for the request, and for the answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most lines of the log that are kept.
const MAX_LINES: usize = 10_000;

/// The whole process.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(io::stderr(), "vsmtp-filter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    signals::ignore_sigpipe_and_xfsz()?;
    // There can be no logger yet: this is the first thing that a process does.
    let _ = log::set_logger(&KEEPER);
    log::set_max_level(LevelFilter::Debug);
    let mut edge: FilterEnd = Channel::new(fds::inherited(EDGE_FD)?, EdgeId::CtlFilter);
    let mut wait = Wait::on(&edge)?;
    let request = loop {
        if let Some(received) = edge.receive().map_err(io::Error::other)? {
            break received.message;
        }
        wait.a_while()?;
    };
    let host = Surroundings {
        hostname: request.of.hostname.clone(),
        ..super::surroundings(Arc::new(Nobody), Arc::new(NoSigner), Arc::new(NoLimiter), Arc::new(NoRunner))
    };
    let folder = Path::new(&request.of.config_path).parent().map(Path::to_owned);
    sandbox::apply(&super::sandbox::tool(folder))?;
    let answer = answer(&request, &host).unwrap_or_else(|fault| Answer::Failed(fault.0));
    edge.send(&answer, Vec::new()).map_err(io::Error::other)?;
    let mut wait = Wait::on(&edge)?;
    while edge.flush().map_err(io::Error::other)? == Flushed::Blocked {
        wait.a_while()?;
    }
    Ok(())
}

fn answer(request: &Request, host: &Surroundings) -> Result<Answer, Fault> {
    match &request.task {
        Task::Check => {
            Ok(Answer::Problems(inspect::problems(&request.of, host).iter().map(problem).collect()))
        }
        Task::Definitions => Ok(Answer::Definitions(api::definitions())),
        Task::Try(trial) => match scene(request, host) {
            Ok(scene) => trial::run(&scene, trial).map(Answer::Tried),
            Err(problems) => Ok(problems),
        },
        Task::Test(files) => match scene(request, host) {
            Ok(scene) => {
                let folder = Path::new(&request.of.config_path).parent().unwrap_or(Path::new("/"));
                scripts::run(&scene, folder, files, host).map(Answer::Tested)
            }
            Err(problems) => Ok(problems),
        },
    }
}

/// The rules of the configuration, or what keeps them from being loaded.
fn scene(request: &Request, host: &Surroundings) -> Result<Scene, Answer> {
    let told = |errors: &[_]| Answer::Problems(errors.iter().map(problem).collect());
    let (_, config) = oneshot::configuration(&request.of, host).map_err(|errors| told(&errors))?;
    Scene::load(&config.filter(), host, take_lines).map_err(|error| told(&[error]))
}

/// Waits for the edge.
struct Wait {
    poll: Poll,
    events: Events,
    deadline: Instant,
}

impl Wait {
    fn on(edge: &FilterEnd) -> io::Result<Self> {
        let poll = Poll::new()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&edge.socket().as_raw_fd()), Token(0), interest)?;
        Ok(Wait { poll, events: Events::with_capacity(2), deadline: Instant::now() + PATIENCE })
    }

    fn a_while(&mut self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match self.poll.poll(&mut self.events, Some(left)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

/// Keeps what rules log, for the operator to see beside the rule.
struct Keeper(Mutex<Vec<String>>);

static KEEPER: Keeper = Keeper(Mutex::new(Vec::new()));

impl Log for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < MAX_LINES {
            lines.push(format!("{} {}", record.level().as_str().to_ascii_lowercase(), record.args()));
        }
    }

    fn flush(&self) {}
}

fn take_lines() -> Vec<String> {
    std::mem::take(&mut *KEEPER.0.lock().unwrap_or_else(PoisonError::into_inner))
}
