//! One program that runs: its streams, its time, its end.

use std::ffi::{CString, NulError};
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use mio::Interest;
use vsmtp_daemon::Reactor;
use vsmtp_ipc::edge::filter_runner::Ended;
use vsmtp_sys::spawn::{Child, Command};

use crate::output::{Output, Progress};
use crate::programs::PLACES;

/// Ends a process whatever it does.
pub const SIGKILL: i32 = 9;

/// Tokens that one job takes, from its first one on: its end, its output, its messages.
pub const TOKENS: usize = 4;

/// A program that runs.
#[derive(Debug)]
pub struct Job {
    /// The edge that asked for it.
    pub edge: usize,
    /// The question.
    pub ticket: u64,
    child: Child,
    stdout: Output,
    stderr: Output,
    timed_out: bool,
    flooded: bool,
}

impl Job {
    /// Starts a program and has the loop watch it. `input` is its standard input, read from the beginning.
    ///
    /// # Errors
    /// It did not start.
    pub fn start(
        reactor: &Reactor,
        token: usize,
        (edge, ticket): (usize, u64),
        path: &Path,
        argv: Vec<String>,
        input: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let input = match input {
            Some(input) => {
                let mut input = File::from(input);
                input.rewind()?;
                input
            }
            None => File::open("/dev/null")?,
        };
        let (stdout, their_stdout) = io::pipe()?;
        let (stderr, their_stderr) = io::pipe()?;
        let (stdout, stderr) = (Output::new(stdout.into())?, Output::new(stderr.into())?);
        let argv: Result<Vec<CString>, NulError> = argv.into_iter().map(CString::new).collect();
        let command = Command {
            path: CString::new(path.as_os_str().as_bytes())?,
            argv: argv?,
            env: environment(),
            stdin: input.as_fd(),
            stdout: their_stdout.as_fd(),
            stderr: their_stderr.as_fd(),
        };
        let child = command.spawn()?;
        let job = Job { edge, ticket, child, stdout, stderr, timed_out: false, flooded: false };
        match job.watch(reactor, token) {
            Ok(()) => Ok(job),
            Err(error) => {
                job.kill();
                Err(error)
            }
        }
    }

    fn watch(&self, reactor: &Reactor, token: usize) -> io::Result<()> {
        let pipes = [self.stdout.pipe(), self.stderr.pipe()].into_iter().enumerate();
        for (at, pipe) in pipes.filter_map(|(at, pipe)| Some((at, pipe?))) {
            reactor.register(pipe, token + 1 + at, Interest::READABLE)?;
        }
        reactor.register(self.child.pidfd.as_fd(), token, Interest::READABLE)
    }

    /// The number of its process.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Reads what it has printed. True if there may be more at once.
    pub fn read(&mut self) -> bool {
        let progress = [self.stdout.read(), self.stderr.read()];
        if progress.contains(&Progress::Flood) {
            self.flooded = true;
            self.kill();
            return false;
        }
        !self.flooded && progress.contains(&Progress::More)
    }

    /// Its time is over.
    pub fn end(&mut self) {
        self.timed_out = true;
        self.kill();
    }

    /// Ends it, and all of its process group.
    pub fn kill(&self) {
        // It may have ended by itself; its number is its own until it is waited for.
        let _ = self.child.signal_group(SIGKILL);
    }

    /// How it has ended; `None` while it runs. What is left of its group is ended too.
    pub fn ended(&self) -> io::Result<Option<ExitStatus>> {
        if !has_ended(&self.child)? {
            return Ok(None);
        }
        self.kill();
        self.child.try_wait()
    }

    /// What is said of its end.
    pub fn result(mut self, status: ExitStatus) -> Ended {
        // What it printed last. Nobody is left who could print more, but for what has fled from its group.
        while self.read() {}
        Ended {
            code: status.code(),
            signal: status.signal(),
            timed_out: self.timed_out,
            truncated: self.stdout.is_truncated() || self.stderr.is_truncated(),
            stdout: self.stdout.into_kept(),
            stderr: self.stderr.into_kept(),
        }
    }
}

/// True if it has ended, without taking note of it: its number must stay its own until its group is ended.
fn has_ended(child: &Child) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut ended = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut ended, PollTimeout::ZERO)? > 0)
}

/// What programs know of their surroundings.
fn environment() -> Vec<CString> {
    let path = format!("PATH={}", PLACES.join(":"));
    let pairs = [path.as_str(), "LANG=C.UTF-8", "HOME=/"];
    pairs.into_iter().filter_map(|pair| CString::new(pair).ok()).collect()
}
