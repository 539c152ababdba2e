//! What the child does between fork and exec: system calls, on memory that the parent has prepared, in a fixed order.
//!
//! Must never allocate, lock, panic, return, or touch what another thread of the parent might have held.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use super::{Command, FIRST_INHERITED, MAX_FDS, Spawn, Stage, keeper};
use crate::retry::{check, uninterrupted};
use crate::sandbox::{Limits, domain, power};

/// The bytes of a failure report: the stage, then the error number.
pub(super) const REPORT: usize = 5;

/// The exit code of a child that reported a failure; nobody acts on it.
pub(super) const FAILED: libc::c_int = 127;
/// The highest signal number.
const LAST_SIGNAL: libc::c_int = 64;
/// The files the child creates are its own.
const UMASK: libc::mode_t = 0o077;
/// Standard input, output and error.
const STANDARD: usize = FIRST_INHERITED as usize;
/// The most descriptors to place: the standard ones, those handed over, the program, the reporter, the confinement's.
const MAX_PLACED: usize = STANDARD + MAX_FDS + 2;
/// Descriptors of a confinement: its files, its fence, its leash.
const CONFINING: usize = 3;

type Failure = (Stage, io::Error);

/// Everything the child needs, made before the fork. Borrows the strings and descriptors it points to.
pub(super) struct Plan<'a> {
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    /// Source of each descriptor, in the order of their new numbers: 0, 1, 2, then those handed over.
    sources: Vec<RawFd>,
    program: Target,
    reporter: RawFd,
    uid_gid: Option<(u32, u32)>,
    namespaces: libc::c_int,
    session: bool,
    parent: Option<libc::pid_t>,
    root: bool,
    limits: Option<Limits>,
    /// Files, fence and leash, or what the descriptor of nothing is.
    confining: [RawFd; CONFINING],
    _borrowed: PhantomData<&'a ()>,
}

/// No descriptor.
const NONE: RawFd = -1;

/// What is executed. The path is a C string that whoever makes a plan keeps as long as the plan.
#[derive(Clone, Copy)]
pub(super) enum Target {
    Descriptor(RawFd),
    Path(*const libc::c_char),
}

/// What is executed, and where descriptors are once all are placed.
struct Placed {
    program: Target,
    confining: [RawFd; CONFINING],
    /// The highest of all; nothing above it is left open.
    last: RawFd,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        spawn: &'a Spawn<'_>,
        program: Target,
        null: BorrowedFd<'a>,
        reporter: BorrowedFd<'a>,
    ) -> Plan<'a> {
        let error = spawn.stderr.as_raw_fd();
        let mut sources = vec![null.as_raw_fd(), error, error];
        sources.extend(spawn.fds.iter().map(AsRawFd::as_raw_fd));
        let network = if spawn.new_netns { libc::CLONE_NEWNET } else { 0 };
        let queues = if spawn.new_ipcns { libc::CLONE_NEWIPC } else { 0 };
        // SAFETY: takes nothing, cannot fail.
        let parent = unsafe { libc::getpid() };
        Plan {
            argv: pointers(&spawn.argv),
            env: pointers(&spawn.env),
            sources,
            program,
            reporter: reporter.as_raw_fd(),
            uid_gid: spawn.uid_gid,
            namespaces: network | queues,
            session: spawn.session,
            parent: spawn.pdeathsig.then_some(parent),
            root: nix::unistd::geteuid().is_root(),
            limits: None,
            confining: [NONE; CONFINING],
            _borrowed: PhantomData,
        }
    }

    /// A program in a session of its own that ends with its parent and is its parent's user.
    pub(super) fn of_command(
        command: &'a Command<'_>,
        program: Target,
        streams: [BorrowedFd<'a>; STANDARD],
        reporter: BorrowedFd<'a>,
    ) -> Plan<'a> {
        // SAFETY: takes nothing, cannot fail.
        let parent = unsafe { libc::getpid() };
        let confining = command.confinement.as_ref().map(|it| {
            let fence = it.domain.fence().map(|fence| (fence, it.leash.as_raw_fd()));
            let (fence, leash) = fence.unwrap_or((NONE, NONE));
            [it.domain.files().unwrap_or(NONE), fence, leash]
        });
        Plan {
            argv: pointers(&command.argv),
            env: pointers(&command.env),
            sources: streams.iter().map(AsRawFd::as_raw_fd).collect(),
            program,
            reporter: reporter.as_raw_fd(),
            uid_gid: None,
            namespaces: 0,
            session: true,
            parent: Some(parent),
            root: nix::unistd::geteuid().is_root(),
            limits: Some(command.limits),
            confining: confining.unwrap_or([NONE; CONFINING]),
            _borrowed: PhantomData,
        }
    }

    /// The child's whole life before its program.
    pub(super) fn run(&self) -> ! {
        let mut reporter = self.reporter;
        let Err((stage, error)) = self.prepare_and_execute(&mut reporter);
        let report = encode(stage, error.raw_os_error().unwrap_or(libc::EIO));
        // If the parent is gone there is nobody to tell.
        // SAFETY: pointer and length are those of a live array; the kernel only reads it.
        let _ = uninterrupted(|| unsafe { libc::write(reporter, report.as_ptr().cast(), report.len()) });
        // SAFETY: takes an integer and does not return; unlike exit it runs nothing of the parent's.
        unsafe { libc::_exit(FAILED) }
    }

    fn prepare_and_execute(&self, reporter: &mut RawFd) -> Result<Infallible, Failure> {
        self.leave_parents_surroundings()?;
        let placed = self.place(reporter).map_err(|error| (Stage::Descriptors, error))?;
        close_above(placed.last).map_err(|error| (Stage::Closing, error))?;
        reset_signals().map_err(|error| (Stage::Signals, error))?;
        self.become_user()?;
        power::no_new_privileges().map_err(|error| (Stage::NoNewPrivileges, error))?;
        let [files, fence, leash] = placed.confining;
        match (fence, self.parent) {
            (NONE, None) => {}
            (NONE, Some(parent)) => die_with(parent)?,
            (fence, _) => become_kept(fence, leash)?,
        }
        if let Some(limits) = &self.limits {
            power::limit(limits).map_err(|error| (Stage::Limits, error))?;
        }
        if files != NONE {
            domain::enter(files).map_err(|error| (Stage::Files, error))?;
        }
        Err((Stage::Execute, self.execute(placed.program)))
    }

    fn leave_parents_surroundings(&self) -> Result<(), Failure> {
        if self.session {
            // SAFETY: takes nothing; changes this process only.
            check(unsafe { libc::setsid() }).map_err(|error| (Stage::Session, error))?;
        }
        // SAFETY: the path is a C string that lives for ever.
        check(unsafe { libc::chdir(c"/".as_ptr()) }).map_err(|error| (Stage::Directory, error))?;
        // SAFETY: takes an integer, cannot fail.
        unsafe { libc::umask(UMASK) };
        if self.namespaces != 0 {
            // SAFETY: takes an integer; changes this process only.
            check(unsafe { libc::unshare(self.namespaces) }).map_err(|error| (Stage::Namespaces, error))?;
        }
        Ok(())
    }

    /// Moves everything out of the way first, so that no descriptor is overwritten before it has been placed.
    fn place(&self, reporter: &mut RawFd) -> io::Result<Placed> {
        let program_at = number(self.sources.len())?;
        let reporter_at = program_at + 1;
        let clear = reporter_at + 1 + number(CONFINING)?;
        *reporter = duplicate_above(*reporter, clear)?;
        let program = match self.program {
            Target::Descriptor(program) => Some(duplicate_above(program, clear)?),
            Target::Path(_) => None,
        };
        let mut moved = [0; MAX_PLACED];
        for (slot, source) in moved.iter_mut().zip(&self.sources) {
            *slot = duplicate_above(*source, clear)?;
        }
        let mut confining = self.confining;
        for source in confining.iter_mut().filter(|source| **source != NONE) {
            *source = duplicate_above(*source, clear)?;
        }
        for (target, source) in moved.iter().take(self.sources.len()).enumerate() {
            duplicate_to(*source, number(target)?, 0)?;
        }
        duplicate_to(*reporter, reporter_at, libc::O_CLOEXEC)?;
        *reporter = reporter_at;
        let program = match program {
            Some(program) => {
                duplicate_to(program, program_at, libc::O_CLOEXEC)?;
                Target::Descriptor(program_at)
            }
            None => {
                // Whatever the parent has at this number must not stay open.
                duplicate_to(reporter_at, program_at, libc::O_CLOEXEC)?;
                self.program
            }
        };
        let mut last = reporter_at;
        for source in confining.iter_mut().filter(|source| **source != NONE) {
            last += 1;
            duplicate_to(*source, last, libc::O_CLOEXEC)?;
            *source = last;
        }
        Ok(Placed { program, confining, last })
    }

    fn become_user(&self) -> Result<(), Failure> {
        if self.root {
            power::drop_bounding_set().map_err(|error| (Stage::BoundingSet, error))?;
        }
        if let Some((uid, gid)) = self.uid_gid {
            // SAFETY: no groups, so the pointer is not read.
            check(unsafe { libc::setgroups(0, ptr::null()) }).map_err(|error| (Stage::Groups, error))?;
            // SAFETY: takes integers; this process has one thread.
            check(unsafe { libc::setresgid(gid, gid, gid) }).map_err(|error| (Stage::Group, error))?;
            // SAFETY: takes integers; this process has one thread.
            check(unsafe { libc::setresuid(uid, uid, uid) }).map_err(|error| (Stage::User, error))?;
        }
        if self.root {
            power::clear_own().map_err(|error| (Stage::OwnCapabilities, error))?;
        }
        Ok(())
    }

    /// Returns only if it failed.
    fn execute(&self, program: Target) -> io::Error {
        let (argv, env) = (self.argv.as_ptr(), self.env.as_ptr());
        match program {
            Target::Descriptor(program) => {
                let path = c"".as_ptr();
                // SAFETY: the path is a C string; both lists end with a null pointer, and the strings they point to are
                // borrowed by `self` (see `pointers`) and were copied with the rest of the memory by fork.
                unsafe { libc::syscall(libc::SYS_execveat, program, path, argv, env, libc::AT_EMPTY_PATH) };
            }
            Target::Path(path) => {
                // SAFETY: as above; whoever made the plan keeps the path.
                unsafe { libc::execve(path, argv, env) };
            }
        }
        io::Error::last_os_error()
    }
}

/// From here on there are two: the keeper, which never returns, and the program-to-be, in a session of its own.
fn become_kept(fence: RawFd, leash: RawFd) -> Result<(), Failure> {
    // SAFETY: takes nothing, cannot fail.
    let outside = unsafe { libc::getppid() };
    domain::enter(fence).map_err(|error| (Stage::Fence, error))?;
    // The keeper sends a signal to everybody whom it can reach: nobody outside may be among them.
    // SAFETY: takes integers and touches no memory; signal 0 only asks.
    match check(unsafe { libc::kill(outside, 0) }) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        _ => return Err((Stage::Fence, io::Error::from_raw_os_error(libc::EPERM))),
    }
    nix::sys::prctl::set_child_subreaper(true).map_err(|error| (Stage::Keeper, error.into()))?;
    // SAFETY: takes nothing, cannot fail.
    let keeper = unsafe { libc::getpid() };
    // SAFETY: both go on with system calls only, as this process did, which has one thread.
    let program = check(unsafe { libc::fork() }).map_err(|error| (Stage::Keeper, error))?;
    if program > 0 {
        keeper::keep(program, leash);
    }
    // SAFETY: takes nothing; changes this process only.
    check(unsafe { libc::setsid() }).map_err(|error| (Stage::Session, error))?;
    die_with(keeper)
}

/// After the change of user, since that clears the signal.
fn die_with(parent: libc::pid_t) -> Result<(), Failure> {
    let signal = libc::SIGKILL as libc::c_ulong;
    // SAFETY: takes integers; changes this process only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) })
        .map_err(|error| (Stage::DeathSignal, error))?;
    // SAFETY: takes nothing, cannot fail.
    if unsafe { libc::getppid() } == parent {
        Ok(())
    } else {
        // It ended before the signal was set, so the signal will never come.
        Err((Stage::Orphaned, io::Error::from_raw_os_error(libc::ESRCH)))
    }
}

/// The list as exec takes it: pointers to C strings, then null.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

fn number(index: usize) -> io::Result<RawFd> {
    RawFd::try_from(index).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))
}

fn duplicate_above(source: RawFd, lowest: RawFd) -> io::Result<RawFd> {
    // SAFETY: touches no memory; makes a new descriptor that this process, which owns nothing in Rust's sense any
    // more, keeps until exec.
    check(unsafe { libc::fcntl(source, libc::F_DUPFD_CLOEXEC, lowest) })
}

fn duplicate_to(source: RawFd, target: RawFd, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: touches no memory. It may close what is at `target`, whose owner is in the parent and unaffected.
    uninterrupted(|| unsafe { libc::dup3(source, target, flags) }).map(|_| ())
}

fn close_above(last: RawFd) -> io::Result<()> {
    let first = (last + 1) as libc::c_uint;
    // SAFETY: touches no memory. The owners of these descriptors are in the parent and unaffected.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) }).map(|_| ())
}

/// The kernel's `struct sigaction` (handler, flags, restorer, mask), all zeros: the default action.
const DEFAULT_ACTION: [u64; 4] = [0; 4];
/// The bytes of the kernel's signal mask.
const MASK_SIZE: usize = 8;

/// Handlers are gone after exec anyway, but ignored signals and the mask would stay.
fn reset_signals() -> io::Result<()> {
    for signal in 1..=LAST_SIGNAL {
        let (new, old) = (DEFAULT_ACTION.as_ptr(), ptr::null_mut::<u64>());
        // Not through the C library, which keeps two signals to itself. SIGKILL and SIGSTOP are refused, and could not
        // have been ignored.
        // SAFETY: the kernel reads its own structure, which is no longer than the constant; a null pointer means that
        // the old action is not asked for.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, MASK_SIZE) };
    }
    Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?)
}

fn encode(stage: Stage, errno: i32) -> [u8; REPORT] {
    let [a, b, c, d] = errno.to_le_bytes();
    [stage as u8, a, b, c, d]
}

/// Reads a report back. A stage that cannot be is taken for the last one.
pub(super) fn decode([stage, a, b, c, d]: [u8; REPORT]) -> (Stage, i32) {
    let stage = Stage::ALL.iter().find(|known| **known as u8 == stage);
    (stage.copied().unwrap_or(Stage::Execute), i32::from_le_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_pipe() {
        for stage in Stage::ALL {
            assert_eq!(decode(encode(*stage, 1234)), (*stage, 1234));
        }
        assert_eq!(decode([255, 1, 0, 0, 0]), (Stage::Execute, 1));
    }
}
