//! `--role tool`: does one task of an operator with a configuration, inside the jail, and ends. vsmtpctl starts it, with the
//! edge as descriptor 3; no master and no other process is needed.
//!
//! On failure: the edge closes without an answer, and vsmtpctl says so.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};
use vsmtp_daemon::errand::{self, Answering};
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::ctl_filter::{Answer, MailKeys, Request, Task};
use vsmtp_ipc::edge::master_child::Evaluate;
use vsmtp_sys::sandbox::Profile;

use crate::api::{self, Surroundings};
use crate::database::NoAsker;
use crate::engine::ScriptError;
use crate::inspect::{self, problem};
use crate::limiter::NoLimiter;
use crate::names::Nobody;
use crate::object::Fault;
use crate::oneshot;
use crate::plugins::Files;
use crate::rehearsal::{Scene, scripts, trial};
use crate::runner::NoRunner;
use crate::signer::NoSigner;

/// Most lines of the log that are kept.
const MAX_LINES: usize = 10_000;

/// The whole process.
pub fn main() -> ExitCode {
    errand::answer_once("vsmtp-filter", EdgeId::CtlFilter, |request: Request| {
        let mut host = surroundings(&request.of);
        let plugins = plugins(&request.of);
        let profile = jail(&request.of, &plugins);
        let answering: Answering<Answer> = Box::new(move || {
            host.plugins = plugins.load();
            answer(&request, &host).unwrap_or_else(|fault| Answer::Failed(fault.0))
        });
        Ok::<_, io::Error>((profile, answering))
    })
}

/// The native plugins of a configuration.
pub(super) fn plugins(of: &Evaluate) -> Files {
    Path::new(&of.config_path).parent().map(Files::look).unwrap_or_default()
}

/// The jail in which a configuration is looked at.
pub(super) fn jail(of: &Evaluate, plugins: &Files) -> Profile {
    let folder = Path::new(&of.config_path).parent().map(Path::to_owned);
    super::sandbox::with_plugins(super::sandbox::tool(folder), &plugins.paths())
}

/// What scripts may ask about where nobody else runs. From here on lines of the log are kept.
pub(super) fn surroundings(of: &Evaluate) -> Surroundings {
    // There can be no logger yet.
    let _ = log::set_logger(&KEEPER);
    log::set_max_level(LevelFilter::Debug);
    Surroundings {
        hostname: of.hostname.clone(),
        ..super::surroundings(
            Arc::new(Nobody),
            Arc::new(NoSigner),
            Arc::new(NoLimiter),
            Arc::new(NoRunner),
            Arc::new(NoAsker),
        )
    }
}

fn answer(request: &Request, host: &Surroundings) -> Result<Answer, Fault> {
    match &request.task {
        Task::Check => {
            Ok(Answer::Problems(inspect::problems(&request.of, host).iter().map(problem).collect()))
        }
        Task::Definitions => Ok(Answer::Definitions(api::definitions())),
        Task::MailKeys => match oneshot::configuration(&request.of, host) {
            Ok((_, config)) => Ok(Answer::MailKeys(MailKeys {
                keys: config.keys().mail_keys.into_iter().map(|key| (key.domain, key.path)).collect(),
                servers: config.resolver().servers.unwrap_or_default(),
            })),
            Err(errors) => Ok(told(&errors)),
        },
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
    let (_, config) = oneshot::configuration(&request.of, host).map_err(|errors| told(&errors))?;
    Scene::load(&config.filter(), host, take_lines).map_err(|error| told(&[error]))
}

fn told(errors: &[ScriptError]) -> Answer {
    Answer::Problems(errors.iter().map(problem).collect())
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

/// Takes the lines that were logged since the last time.
pub(super) fn take_lines() -> Vec<String> {
    std::mem::take(&mut *KEEPER.0.lock().unwrap_or_else(PoisonError::into_inner))
}
