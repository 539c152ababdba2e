//! One program that runs: its streams, its time, its end.

use std::ffi::{CString, NulError};
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, PipeWriter, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use mio::Interest;
use vsmtp_daemon::Reactor;
use vsmtp_ipc::edge::filter_runner::Ended;
use vsmtp_sys::sandbox::{Domain, Limits};
use vsmtp_sys::spawn::{Child, Command, Confinement, SpawnError, Stage};

use crate::output::{Output, Progress};
use crate::programs::PLACES;

/// What a program's own folder is called in its environment.
const FOLDER_NAMES: [&str; 2] = ["TMPDIR", "HOME"];
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
    /// The keeper of the program, or where there is none, the program.
    child: Child,
    /// The keeper ends all when this is closed. `None`: that is done, or there is no keeper.
    leash: Option<PipeWriter>,
    has_keeper: bool,
    /// What the program may write in.
    folder: PathBuf,
    stdout: Output,
    stderr: Output,
    timed_out: bool,
    flooded: bool,
}

/// What is started.
#[derive(Debug)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// Its arguments, its own name first.
    pub argv: Vec<String>,
    /// Its standard input, read from the beginning; `None`: there is nothing to read.
    pub input: Option<OwnedFd>,
    /// What it may write in, and nobody else.
    pub folder: PathBuf,
    /// What it may use.
    pub limits: Limits,
    /// What it is put into.
    pub domain: Domain,
}

/// Why a program did not start.
#[derive(Debug)]
pub enum NotStarted {
    /// It is no program that we can execute: for the operator to mend.
    Program(io::Error),
    /// The host lacks something for now: a disk with room, a process, memory.
    Host(io::Error),
}

impl fmt::Display for NotStarted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (NotStarted::Program(error) | NotStarted::Host(error)) = self;
        error.fmt(out)
    }
}

/// What is unclear may pass, so it is the host's.
impl From<io::Error> for NotStarted {
    fn from(error: io::Error) -> NotStarted {
        NotStarted::Host(error)
    }
}

impl From<NulError> for NotStarted {
    fn from(error: NulError) -> NotStarted {
        NotStarted::Program(error.into())
    }
}

impl From<SpawnError> for NotStarted {
    fn from(error: SpawnError) -> NotStarted {
        match &error {
            SpawnError::Refused(_) => NotStarted::Program(error.into()),
            SpawnError::Child(Stage::Execute, cause) if is_of_program(cause) => {
                NotStarted::Program(error.into())
            }
            SpawnError::Child(..) | SpawnError::Parent(..) => NotStarted::Host(error.into()),
        }
    }
}

/// What `execve` says of a file that is no program, not for us, or not for these arguments. While somebody writes it, it may
/// become one.
fn is_of_program(cause: &io::Error) -> bool {
    let no_program = [
        ErrorKind::NotFound,
        ErrorKind::PermissionDenied,
        ErrorKind::NotADirectory,
        ErrorKind::IsADirectory,
        ErrorKind::ArgumentListTooLong,
        ErrorKind::InvalidInput,
        ErrorKind::InvalidFilename,
    ];
    // These have no kind of their own.
    let others = [nix::libc::ENOEXEC, nix::libc::ELOOP, nix::libc::ELIBBAD];
    no_program.contains(&cause.kind()) || cause.raw_os_error().is_some_and(|number| others.contains(&number))
}

impl Job {
    /// Starts a program and has the loop watch it.
    ///
    /// # Errors
    /// It did not start.
    pub fn start(
        reactor: &Reactor,
        token: usize,
        (edge, ticket): (usize, u64),
        program: Program,
    ) -> Result<Self, NotStarted> {
        let Program { path, argv, input, folder, limits, domain } = program;
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
        let (their_leash, leash) = io::pipe()?;
        let (stdout, stderr) = (Output::new(stdout.into())?, Output::new(stderr.into())?);
        let argv: Result<Vec<CString>, NulError> = argv.into_iter().map(CString::new).collect();
        let command = Command {
            path: CString::new(path.as_os_str().as_bytes())?,
            argv: argv?,
            env: environment(&folder),
            stdin: input.as_fd(),
            stdout: their_stdout.as_fd(),
            stderr: their_stderr.as_fd(),
            limits,
            confinement: Some(Confinement { domain: &domain, leash: their_leash.as_fd() }),
        };
        let child = command.spawn()?;
        let has_keeper = domain.has_fence();
        let leash = has_keeper.then_some(leash);
        let (timed_out, flooded) = (false, false);
        let mut job =
            Job { edge, ticket, child, leash, has_keeper, folder, stdout, stderr, timed_out, flooded };
        match job.watch(reactor, token) {
            Ok(()) => Ok(job),
            Err(error) => {
                job.kill();
                Err(error.into())
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

    /// What it may write in.
    pub fn folder(&self) -> &Path {
        &self.folder
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

    /// Ends it, and all that it has started; without a keeper, all of its process group.
    pub fn kill(&mut self) {
        self.leash = None;
        if !self.has_keeper {
            // It may have ended by itself; its number is its own until it is waited for.
            let _ = self.child.signal_group(SIGKILL);
        }
    }

    /// How it has ended; `None` while it runs. What is left of its group is ended too. Its number is nobody's after that, so
    /// it is not to be killed any more.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if !has_ended(&self.child)? {
            return Ok(None);
        }
        self.kill();
        self.child.try_wait()
    }

    /// What is said of its end.
    pub fn result(mut self, status: ExitStatus) -> Ended {
        // What it printed last. Nobody is left who could print more, but for what has fled where there are no keepers.
        for output in [&mut self.stdout, &mut self.stderr] {
            while output.read() == Progress::More {}
        }
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
fn environment(folder: &Path) -> Vec<CString> {
    let path = format!("PATH={}", PLACES.join(":"));
    let pairs = [path.as_str(), "LANG=C.UTF-8"].into_iter().filter_map(|pair| CString::new(pair).ok());
    let folder = folder.as_os_str().as_bytes();
    let own =
        FOLDER_NAMES.iter().filter_map(|name| CString::new([name.as_bytes(), b"=", folder].concat()).ok());
    pairs.chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_the_hosts_and_the_rest_the_programs() {
        use nix::libc::{EACCES, EAGAIN, ELOOP, EMFILE, ENOENT, ENOEXEC, ENOMEM, ETXTBSY};
        let at =
            |stage, number| NotStarted::from(SpawnError::Child(stage, io::Error::from_raw_os_error(number)));
        for number in [ENOENT, EACCES, ENOEXEC, ELOOP] {
            assert!(matches!(at(Stage::Execute, number), NotStarted::Program(_)), "{number}");
            assert!(matches!(at(Stage::Files, number), NotStarted::Host(_)), "{number}");
        }
        for number in [ENOMEM, EAGAIN, ETXTBSY, EMFILE] {
            assert!(matches!(at(Stage::Execute, number), NotStarted::Host(_)), "{number}");
        }
        let fork = SpawnError::Parent("fork", io::Error::from_raw_os_error(EAGAIN));
        assert!(matches!(NotStarted::from(fork), NotStarted::Host(_)));
    }
}
