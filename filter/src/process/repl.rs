//! `--role repl`: talks with an operator about the language, inside the jail, until the edge closes. vsmtpctl starts it.
//!
//! On failure: the edge closes, and vsmtpctl says so.

use std::io;
use std::process::ExitCode;

use vsmtp_daemon::errand::{self, Errand};
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::ctl_filter::Problem;
use vsmtp_ipc::edge::ctl_repl::{Answer, Request};
use vsmtp_ipc::edge::master_child::Evaluate;
use vsmtp_sys::sandbox;

use super::tool;
use crate::api::Surroundings;
use crate::inspect::problem;
use crate::oneshot;
use crate::rehearsal::repl::Repl;

/// The whole process.
pub fn main() -> ExitCode {
    errand::exit_code("vsmtp-filter", run())
}

fn run() -> io::Result<()> {
    let mut errand: Errand<Answer, Request> = Errand::begin(EdgeId::CtlRepl)?;
    let Request::Begin(of) = errand.request()? else { return Err(io::ErrorKind::InvalidData.into()) };
    let mut host = tool::surroundings(&of);
    let plugins = tool::plugins(&of);
    sandbox::apply(&tool::jail(&of, &plugins))?;
    host.plugins = plugins.load();
    let mut repl = match begun(&of, &host) {
        Ok(repl) => repl,
        Err(problems) => return errand.answer(&Answer::Problems(problems)),
    };
    errand.answer(&Answer::Said(Vec::new()))?;
    while let Some(request) = errand.another()? {
        let answer = match request {
            Request::Line(line) => repl.line(&line),
            Request::Message(message) => repl.message(message),
            Request::Begin(_) => return Err(io::ErrorKind::InvalidData.into()),
        };
        errand.answer(&answer)?;
    }
    Ok(())
}

/// The conversation, or what keeps the configuration from being loaded.
fn begun(of: &Evaluate, host: &Surroundings) -> Result<Repl, Vec<Problem>> {
    let told = |errors: &[_]| errors.iter().map(problem).collect::<Vec<_>>();
    let (_, config) = oneshot::configuration(of, host).map_err(|errors| told(&errors))?;
    Repl::new(&config.filter(), host, tool::take_lines).map_err(|error| told(&[error]))
}
