//! Starting a program that an operator named, by its path and with pipes of the caller's choice. The caller has one
//! thread, holds no privilege, and stays the user that it is.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use super::child::{Plan, Target};
use super::{Child, SpawnError, fork, report_pipe, started};
use crate::sandbox::{Domain, Limits};

/// A program about to be started. It gets a session (so a process group) of its own, the folder `/`, default signals, and
/// no descriptor beside its three streams; it is killed when the thread that started it ends, or its keeper.
#[derive(Debug)]
pub struct Command<'a> {
    /// The program's file. A script names its interpreter in its first line.
    pub path: CString,
    /// The arguments, the program's own name first.
    pub argv: Vec<CString>,
    /// The whole environment, as `NAME=value`.
    pub env: Vec<CString>,
    /// Its standard input.
    pub stdin: BorrowedFd<'a>,
    /// Its standard output.
    pub stdout: BorrowedFd<'a>,
    /// Its standard error.
    pub stderr: BorrowedFd<'a>,
    /// What it may use, within what we may.
    pub limits: Limits,
    /// What else confines it; `None`: what confines us.
    pub confinement: Option<Confinement<'a>>,
}

/// A domain for one program. Where the domain has a fence, the child is not the program but its keeper, which ends as the
/// program does once all is ended that the program has started.
#[derive(Debug)]
pub struct Confinement<'a> {
    /// What it is put into.
    pub domain: &'a Domain,
    /// The reading end of a pipe whose other end is ours alone: the keeper ends all when that is closed.
    pub leash: BorrowedFd<'a>,
}

impl Command<'_> {
    /// Starts it. Returns once the program is executing, or with the reason why it is not.
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        if self.argv.is_empty() {
            return Err(SpawnError::Refused("no program name"));
        }
        let streams = [self.stdin, self.stdout, self.stderr];
        let (report, reporter) = report_pipe()?;
        let target = Target::Path(self.path.as_ptr());
        let plan = Plan::of_command(self, target, streams, reporter.as_fd());
        let pid = fork(&plan)?;
        drop(plan);
        drop(reporter);
        started(pid, report)
    }
}
