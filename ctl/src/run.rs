//! From the command line to the exit status.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use vsmtp_auth::backend::hash::Scheme;
use vsmtp_ipc::EdgeId;
use vsmtp_mail::escape_text;

use crate::arguments::{Arguments, AuthCommand, Command, ConfigCommand, LimitsCommand, SchemeWord};
use crate::failure::Failure;
use crate::line::Line;
use crate::output::Output;
use crate::place::Place;
use crate::{auth, config, dkim, limits, queue, sandbox, status, vsl};

/// The whole main of vsmtpctl.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Locked and buffered: a list of many thousands is written in large pieces, and one page at a time.
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let done = run(&arguments, &mut Output::new(&mut stdout, arguments.json));
    let done = done.and_then(|()| Ok(stdout.flush()?));
    match done {
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = stdout.flush();
            // What rules, mail and daemons said may be in it; lists of errors have lines.
            for line in failure.to_string().lines() {
                let _ = writeln!(io::stderr(), "vsmtpctl: {}", escape_text(line));
            }
            ExitCode::from(failure.status())
        }
    }
}

fn run(arguments: &Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let place = Place::below(arguments.root.as_deref());
    let master = || Line::connect(&place.master(), EdgeId::CtlMaster);
    match &arguments.command {
        Command::Status => status::status(&mut master()?, out),
        Command::Reload => status::reload(&mut master()?, out),
        Command::Stop => status::stop(&mut master()?, out),
        Command::Limits { command: Some(LimitsCommand::Reset { whom }), .. } => {
            limits::reset(&mut master()?, whom, out)
        }
        Command::Limits { limit, command: None } => limits::list(&mut master()?, *limit, out),
        Command::Auth(AuthCommand::Hash { scheme, user }) => {
            let scheme = match scheme {
                SchemeWord::Argon2id => Scheme::Argon2id,
                SchemeWord::Scram => Scheme::Scram,
            };
            auth::hash(scheme, user.as_deref(), &mut io::stdin().lock(), out)
        }
        Command::Sandbox { declared } => sandbox::sandbox(&mut master()?, *declared, out),
        Command::Config(ConfigCommand::Show { changed, prefix }) => {
            config::show(&mut master()?, *changed, prefix.as_deref().unwrap_or(""), out)
        }
        Command::Config(ConfigCommand::Check { config }) => {
            config::check(config.as_deref(), arguments.root.as_deref(), out)
        }
        Command::Dkim(command) => dkim::run(command, arguments.root.as_deref(), out),
        Command::Vsl(command) => vsl::run(command, arguments.root.as_deref(), out),
        Command::Queue { spool, command } => match queue::offline::of(command, spool.as_deref())? {
            Some(offline) => queue::offline::run(offline, out),
            None => queue::run(command, &mut Line::connect(&place.queue(), EdgeId::CtlQueue)?, out),
        },
    }
}
