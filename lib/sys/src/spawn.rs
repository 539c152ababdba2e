//! Starting a child with exactly the descriptors, identity and namespaces it is given. For the master, which has one
//! thread: between fork and exec the child makes system calls and nothing else.
//!
//! A child that cannot be set up as asked never runs; the step that failed and its error come back here.

mod child;
mod command;
mod keeper;

use std::ffi::CString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::fds::FIRST_INHERITED;
use crate::retry::{check, repeated, uninterrupted};
use child::{Plan, Target};

pub use command::{Command, Confinement};

/// The most descriptors handed to one child.
pub const MAX_FDS: usize = 64;

/// What setresuid and setresgid take for "leave as it is".
const UNCHANGED: u32 = u32::MAX;

/// A program about to be started.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program's file, opened for reading. No path is looked at.
    pub program: OwnedFd,
    /// The arguments, the program's own name first.
    pub argv: Vec<CString>,
    /// The whole environment, as `NAME=value`.
    pub env: Vec<CString>,
    /// The user and group it runs as, without supplementary groups; `None` keeps ours. Needs root.
    pub uid_gid: Option<(u32, u32)>,
    /// Its descriptors 3, 4, ... in this order, at most `MAX_FDS`. Standard input is /dev/null.
    pub fds: Vec<OwnedFd>,
    /// Its standard output and error.
    pub stderr: BorrowedFd<'a>,
    /// A network of its own, without any interface up. Needs root.
    pub new_netns: bool,
    /// System V and POSIX message queues of its own. Needs root.
    pub new_ipcns: bool,
    /// Killed by the kernel when the thread that started it ends.
    pub pdeathsig: bool,
    /// A session of its own, away from our terminal.
    pub session: bool,
}

/// A child that has executed its program. Dropping this neither ends it nor waits for it.
#[derive(Debug)]
pub struct Child {
    /// Process id, ours to use until `wait_any` or `try_wait` has returned it.
    pub pid: i32,
    /// Becomes readable when the child ends.
    pub pidfd: OwnedFd,
}

/// Why a child did not start.
#[derive(Debug)]
pub enum SpawnError {
    /// Something the caller asked for makes no sense.
    Refused(&'static str),
    /// A step failed on our side; no child is left.
    Parent(&'static str, io::Error),
    /// A step failed in the child, before its program ran; no child is left.
    Child(Stage, io::Error),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::Refused(why) => write!(out, "cannot start child: {why}"),
            SpawnError::Parent(step, error) => write!(out, "cannot start child: {step}: {error}"),
            SpawnError::Child(stage, error) => write!(out, "cannot start child: {stage}: {error}"),
        }
    }
}

impl std::error::Error for SpawnError {}

impl From<SpawnError> for io::Error {
    fn from(error: SpawnError) -> io::Error {
        let kind = match &error {
            SpawnError::Refused(_) => io::ErrorKind::InvalidInput,
            SpawnError::Parent(_, cause) | SpawnError::Child(_, cause) => cause.kind(),
        };
        io::Error::new(kind, error)
    }
}

macro_rules! stages {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// A step in the child between fork and exec, in the order taken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Stage { $(#[doc = $text] $name),* }

        impl Stage {
            const ALL: &[Stage] = &[$(Stage::$name),*];
        }

        impl fmt::Display for Stage {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(match self { $(Stage::$name => $text),* })
            }
        }
    };
}

stages! {
    Session = "setsid",
    Directory = "chdir to /",
    Namespaces = "new namespaces",
    Descriptors = "placing descriptors",
    Closing = "closing other descriptors",
    Signals = "resetting signals",
    BoundingSet = "emptying the capability bounding set",
    Groups = "setgroups",
    Group = "setresgid",
    User = "setresuid",
    OwnCapabilities = "dropping capabilities",
    NoNewPrivileges = "no_new_privs",
    Fence = "landlock for a keeper",
    Keeper = "fork of a keeper",
    DeathSignal = "parent death signal",
    Orphaned = "parent ended during start",
    Limits = "limits",
    Files = "landlock for a program",
    Execute = "execveat",
}

impl Spawn<'_> {
    /// Starts it. Returns once the program is executing, or with the reason why it is not.
    ///
    /// The descriptors in `fds` and the program's are closed on our side either way.
    pub fn spawn(self) -> Result<Child, SpawnError> {
        if self.fds.len() > MAX_FDS {
            return Err(SpawnError::Refused("too many descriptors"));
        }
        if self.argv.is_empty() {
            return Err(SpawnError::Refused("no program name"));
        }
        if self.uid_gid.is_some_and(|(uid, gid)| uid == UNCHANGED || gid == UNCHANGED) {
            return Err(SpawnError::Refused("no such user or group"));
        }
        let null = File::open("/dev/null").map_err(|error| SpawnError::Parent("open /dev/null", error))?;
        let target = Target::Descriptor(self.program.as_raw_fd());
        let (report, reporter) = report_pipe()?;
        let plan = Plan::new(&self, target, null.as_fd(), reporter.as_fd());
        let pid = fork(&plan)?;
        drop(plan);
        // The child's copy must be the last one, or the end of the report would never come.
        drop(reporter);
        started(pid, report)
    }
}

fn report_pipe() -> Result<(io::PipeReader, io::PipeWriter), SpawnError> {
    io::pipe().map_err(|error| SpawnError::Parent("pipe", error))
}

/// A child that does what is planned.
fn fork(plan: &Plan<'_>) -> Result<i32, SpawnError> {
    // SAFETY: the child runs `Plan::run` and nothing else, which makes system calls only and never returns; all
    // the memory it reads was prepared before.
    let pid = check(unsafe { libc::fork() }).map_err(|error| SpawnError::Parent("fork", error))?;
    if pid == 0 {
        plan.run();
    }
    Ok(pid)
}

/// Waits for the child's report: nothing at all once exec has closed the pipe, or a stage and an error number.
fn started(pid: i32, mut report: io::PipeReader) -> Result<Child, SpawnError> {
    let mut message = [0; child::REPORT];
    let failure = match repeated(|| report.read(&mut message)) {
        Ok(0) => match pidfd_open(pid) {
            Ok(pidfd) => return Ok(Child { pid, pidfd }),
            Err(error) => SpawnError::Parent("pidfd_open", error),
        },
        Ok(_) => {
            let (stage, errno) = child::decode(message);
            SpawnError::Child(stage, io::Error::from_raw_os_error(errno))
        }
        Err(error) => SpawnError::Parent("reading the child's report", error),
    };
    // The failed child has ended or is about to; nothing it could still do is wanted.
    let _ = kill(pid, libc::SIGKILL);
    let _ = repeated(|| reap(pid, 0));
    Err(failure)
}

fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers and touches no memory.
    let number = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let number = i32::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the kernel just returned this number to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

impl Child {
    /// How the child ended; `None` while it runs. After an answer the pid is not ours any more.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        Ok(reap(self.pid, libc::WNOHANG)?.map(|(_, status)| status))
    }

    /// Sends a signal to the child, and to nobody else even if it has ended. ESRCH then.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let no_information = std::ptr::null::<libc::siginfo_t>();
        let number = self.pidfd.as_raw_fd();
        // SAFETY: the descriptor is open because we own it; a null siginfo is allowed and means the one of kill.
        check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, number, signal, no_information, 0) })?;
        Ok(())
    }

    /// Sends a signal to the child's process group: all that it started, but for what has made a session of its own. Only
    /// for a child that leads a session, and only until `try_wait` has answered how it ended: then the number is free.
    pub fn signal_group(&self, signal: i32) -> io::Result<()> {
        if self.pid <= 1 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: takes two integers and touches no memory.
        check(unsafe { libc::kill(-self.pid, signal) })?;
        Ok(())
    }
}

/// The next child that has ended, if any; never waits. To be called until it returns `None`, since SIGCHLD may stand
/// for several. It takes any child of this process, also those that something else started.
pub fn wait_any() -> io::Result<Option<(i32, ExitStatus)>> {
    match reap(-1, libc::WNOHANG) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        result => result,
    }
}

fn reap(pid: i32, options: i32) -> io::Result<Option<(i32, ExitStatus)>> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer that the kernel may write.
    let ended = uninterrupted(|| unsafe { libc::waitpid(pid, &raw mut status, options) })?;
    Ok((ended > 0).then(|| (ended, ExitStatus::from_raw(status))))
}

/// Makes this process the parent of what its children leave running, in whatever session.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// The children of this thread that are not waited for, those that it adopted too. Needs `/proc`.
pub fn children() -> io::Result<Vec<i32>> {
    let text = fs::read_to_string("/proc/thread-self/children")?;
    Ok(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// True if this child has ended: then it is waited for, and its number is not ours any more.
pub fn has_ended(pid: i32) -> io::Result<bool> {
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(reap(pid, libc::WNOHANG)?.is_some())
}

/// Sends a signal to one process. Refuses, with `InvalidInput`, the numbers that mean a group or everyone.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: takes two integers and touches no memory.
    check(unsafe { libc::kill(pid, signal) })?;
    Ok(())
}

/// Sets this thread's name, and with it what ps shows for a single-threaded process; 15 bytes of it count.
///
/// A program started by descriptor may be called after the descriptor's number, so each daemon says who it is.
pub fn set_comm(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    Ok(nix::sys::prctl::set_name(&name)?)
}
