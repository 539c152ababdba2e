//! `vsmtp-queue --spool DIR`: an operator looks at a spool that no queue-manager will start on, or that nothing runs on.
//! `vsmtpctl queue --spool DIR` passes its commands on to here. Never locks, never writes below DIR; what cannot be read
//! is named, and the rest goes on.

mod arguments;
mod check;
mod export;
mod print;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use vsmtp_mail::{QueueId, escape_text};

use crate::store::{Offline, ReadError};

use arguments::{Call, Command};

/// Exit status of a wrong command line, as in sysexits.h.
const EX_USAGE: u8 = 64;

/// What kept a command from being carried out.
#[derive(Debug)]
enum Failure {
    /// The spool cannot be read at all.
    Spool(String, io::Error),
    /// One message cannot be read.
    Message(QueueId, ReadError),
    /// A file or a folder that was to be written.
    Target(String, io::Error),
    /// The output cannot be written.
    Output(io::Error),
    /// It was carried out, and this much is not as it should be. Details were printed.
    Damaged(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Spool(path, error) => write!(f, "read spool {path}: {error}"),
            Failure::Message(id, error) => write!(f, "message {id}: {error}"),
            Failure::Target(path, error) => write!(f, "write {path}: {error}"),
            Failure::Output(error) => write!(f, "write output: {error}"),
            Failure::Damaged(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

/// Carries out what the arguments say about a spool; none if they do not, and this is the daemon.
pub fn main(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let done = match arguments::parse(arguments) {
        Ok(None) => return None,
        Ok(Some(call)) => run(&call, &mut BufWriter::new(io::stdout().lock())),
        Err(why) => {
            complain(&why);
            complain(arguments::USAGE);
            return Some(ExitCode::from(EX_USAGE));
        }
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::FAILURE
        }
    })
}

fn run(call: &Call, out: &mut dyn Write) -> Result<(), Failure> {
    let (spool, report) = Offline::open(&call.spool)
        .map_err(|error| Failure::Spool(call.spool.display().to_string(), error))?;
    if !matches!(call.command, Command::Verify) {
        for note in &report.notes {
            complain(&format!("a start would report: {note}"));
        }
    }
    let done = match &call.command {
        Command::List { state, limit } => print::list(&spool, *state, *limit, call.json, out),
        Command::Cat(id) => cat(&spool, *id, out),
        Command::Export(to) => export::export(&spool, to, call.json, out),
        Command::Verify => check::verify(&spool, &report, call.json, out),
    };
    out.flush()?;
    done
}

/// The message is read whole before its first octet is written; only a large body comes in pieces.
fn cat(spool: &Offline, id: QueueId, out: &mut dyn Write) -> Result<(), Failure> {
    let mut sink = Sink::on(out);
    let written = spool.write_message(id, &mut sink);
    match (sink.failed, written) {
        (Some(error), _) => Err(Failure::Output(error)),
        (None, Err(error)) => Err(Failure::Message(id, error)),
        (None, Ok(_)) => Ok(()),
    }
}

/// Tells a failed write from a failed read: the store's reader has one error for both.
struct Sink<'a> {
    inner: &'a mut dyn Write,
    failed: Option<io::Error>,
}

impl<'a> Sink<'a> {
    fn on(inner: &'a mut dyn Write) -> Self {
        Sink { inner, failed: None }
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.inner.write(octets).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed = Some(error);
            }
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// To standard error, whose loss is nobody's concern.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "vsmtp-queue: {}", escape_text(text));
}
