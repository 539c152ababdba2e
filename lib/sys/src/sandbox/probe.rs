//! What a captured process might try, each act harmless should it succeed. For the must-fail tests of every daemon and
//! for the probe that proves the declared part of a sandbox. Decides nothing.

use std::ffi::CStr;
use std::io;

/// Something a process can try: the act's name and how to do it.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    name: &'static str,
    call: Call,
}

#[derive(Clone, Copy, Debug)]
enum Call {
    /// A system call with constant arguments.
    Raw(i64, [Word; 6]),
    /// A second process, which ends at once.
    Fork,
}

/// One argument.
#[derive(Clone, Copy, Debug)]
enum Word {
    Number(i64),
    Text(&'static CStr),
}

/// What an unknown system call answers, in every profile.
pub const UNKNOWN: [&str; 4] = ["number of a later kernel", "number in a gap", "x32 getpid", "clone3"];

/// The file that the act "create file" makes if it is let.
pub const CREATED_FILE: &str = "/tmp/vsmtp-probe-file";
/// The directory that the act "create directory" makes if it is let.
pub const CREATED_DIRECTORY: &str = "/tmp/vsmtp-probe-directory";

const HERE: Word = Word::Number(libc::AT_FDCWD as i64);
const NONE: Word = Word::Number(0);
/// A descriptor that is never open, so that an allowed call fails with EBADF.
const CLOSED: Word = Word::Number(-1);
/// A process that never exists, so that an allowed call fails with ESRCH.
const NOBODY: Word = Word::Number(i32::MAX as i64);
const MISSING: Word = Word::Text(c"/tmp/vsmtp-probe-missing/x");

const fn n(value: libc::c_int) -> Word {
    Word::Number(value as i64)
}

/// Arguments, filled up with zeros.
const fn words<const N: usize>(some: [Word; N]) -> [Word; 6] {
    let mut all = [NONE; 6];
    let mut index = 0;
    while index < N {
        all[index] = some[index];
        index += 1;
    }
    all
}

macro_rules! acts {
    ($($name:literal: $call:expr, [$($word:expr),*];)*) => {
        &[$(Act { name: $name, call: Call::Raw($call, words([$($word),*])) }),*]
    };
}

const RAW: &[Act] = acts! {
    // Files.
    "open file": libc::SYS_openat, [HERE, Word::Text(c"/etc/passwd"), n(libc::O_RDONLY)];
    "open directory": libc::SYS_openat, [HERE, Word::Text(c"/"), n(libc::O_DIRECTORY)];
    "create file": libc::SYS_openat, [HERE, Word::Text(c"/tmp/vsmtp-probe-file"), n(libc::O_CREAT | libc::O_WRONLY), n(0o600)];
    "open beneath": libc::SYS_openat2, [HERE, Word::Text(c"etc"), NONE, NONE];
    "open by handle": libc::SYS_open_by_handle_at, [CLOSED, NONE, NONE];
    "create directory": libc::SYS_mkdirat, [HERE, Word::Text(c"/tmp/vsmtp-probe-directory"), n(0o700)];
    "remove file": libc::SYS_unlinkat, [HERE, MISSING, NONE];
    "rename file": libc::SYS_renameat2, [HERE, MISSING, HERE, MISSING, NONE];
    "link file": libc::SYS_linkat, [HERE, MISSING, HERE, MISSING, NONE];
    "symlink": libc::SYS_symlinkat, [Word::Text(c"x"), HERE, MISSING];
    "make device": libc::SYS_mknodat, [HERE, MISSING, n(0o600), NONE];
    "change mode": libc::SYS_fchmodat, [HERE, MISSING, n(0o600)];
    "change owner": libc::SYS_fchownat, [HERE, MISSING, NONE, NONE, NONE];
    "truncate file": libc::SYS_truncate, [MISSING, NONE];
    "change root": libc::SYS_chroot, [MISSING];
    "change directory": libc::SYS_chdir, [MISSING];
    "mount": libc::SYS_mount, [NONE, NONE, NONE, NONE, NONE];
    "extended attribute": libc::SYS_getxattr, [MISSING, Word::Text(c"user.x"), NONE, NONE];
    "watch file": libc::SYS_inotify_init1, [NONE];
    // Programs and processes.
    "execute": libc::SYS_execve, [MISSING, NONE, NONE];
    "execute descriptor": libc::SYS_execveat, [CLOSED, Word::Text(c""), NONE, NONE, n(libc::AT_EMPTY_PATH)];
    "executable mapping": libc::SYS_mmap, [NONE, n(4096), n(libc::PROT_READ | libc::PROT_EXEC), n(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), CLOSED, NONE];
    "make memory executable": libc::SYS_mprotect, [NONE, NONE, n(libc::PROT_EXEC)];
    "trace": libc::SYS_ptrace, [n(libc::PTRACE_PEEKDATA as libc::c_int), NOBODY, NONE, NONE];
    "read other memory": libc::SYS_process_vm_readv, [NOBODY, NONE, NONE, NONE, NONE, NONE];
    "write other memory": libc::SYS_process_vm_writev, [NOBODY, NONE, NONE, NONE, NONE, NONE];
    "signal process": libc::SYS_kill, [n(1), NONE];
    "signal thread": libc::SYS_tgkill, [n(1), n(1), NONE];
    "signal group": libc::SYS_kill, [NONE, NONE];
    "process descriptor": libc::SYS_pidfd_open, [n(1), NONE];
    "steal descriptor": libc::SYS_pidfd_getfd, [CLOSED, NONE, NONE];
    "namespaces": libc::SYS_unshare, [NONE];
    "join namespace": libc::SYS_setns, [CLOSED, NONE];
    // Identity and limits.
    "change user": libc::SYS_setresuid, [CLOSED, CLOSED, CLOSED];
    "change group": libc::SYS_setresgid, [CLOSED, CLOSED, CLOSED];
    "change capabilities": libc::SYS_capset, [NONE, NONE];
    "raise limit": libc::SYS_prlimit64, [NONE, n(libc::RLIMIT_NOFILE as libc::c_int), n(1), NONE];
    "read other limit": libc::SYS_prlimit64, [n(1), n(libc::RLIMIT_NOFILE as libc::c_int), NONE, NONE];
    "become dumpable": libc::SYS_prctl, [n(libc::PR_SET_DUMPABLE), n(1), NONE, NONE, NONE];
    "personality": libc::SYS_personality, [n(-1)];
    // Sockets.
    "unix socket": libc::SYS_socket, [n(libc::AF_UNIX), n(libc::SOCK_STREAM), NONE];
    "tcp socket": libc::SYS_socket, [n(libc::AF_INET), n(libc::SOCK_STREAM), NONE];
    "tcp6 socket": libc::SYS_socket, [n(libc::AF_INET6), n(libc::SOCK_STREAM | libc::SOCK_NONBLOCK), NONE];
    "udp socket": libc::SYS_socket, [n(libc::AF_INET), n(libc::SOCK_DGRAM), NONE];
    "raw socket": libc::SYS_socket, [n(libc::AF_INET), n(libc::SOCK_RAW), n(libc::IPPROTO_ICMP)];
    "packet socket": libc::SYS_socket, [n(libc::AF_PACKET), n(libc::SOCK_RAW), NONE];
    "netlink socket": libc::SYS_socket, [n(libc::AF_NETLINK), n(libc::SOCK_RAW), NONE];
    "vsock socket": libc::SYS_socket, [n(libc::AF_VSOCK), n(libc::SOCK_STREAM), NONE];
    "socket pair": libc::SYS_socketpair, [n(libc::AF_UNIX), n(libc::SOCK_STREAM), NONE, NONE];
    "connect": libc::SYS_connect, [CLOSED, NONE, NONE];
    "bind": libc::SYS_bind, [CLOSED, NONE, NONE];
    "listen": libc::SYS_listen, [CLOSED, NONE];
    "accept": libc::SYS_accept4, [CLOSED, NONE, NONE, NONE];
    "socket option": libc::SYS_setsockopt, [CLOSED, NONE, NONE, NONE, NONE];
    // Large and seldom used parts of the kernel.
    "io_uring": libc::SYS_io_uring_setup, [NONE, NONE];
    "io_uring enter": libc::SYS_io_uring_enter, [CLOSED, NONE, NONE, NONE, NONE, NONE];
    "old aio": libc::SYS_io_setup, [NONE, NONE];
    "bpf": libc::SYS_bpf, [CLOSED, NONE, NONE];
    "perf events": libc::SYS_perf_event_open, [NONE, NONE, CLOSED, CLOSED, NONE];
    "user faults": libc::SYS_userfaultfd, [CLOSED];
    "keys": libc::SYS_keyctl, [CLOSED, NONE, NONE, NONE, NONE];
    "shared memory": libc::SYS_shmget, [n(0x7673_6d70), NONE, NONE];
    "message queue": libc::SYS_mq_open, [NONE, NONE, NONE, NONE];
    "secret memory": libc::SYS_memfd_secret, [CLOSED];
    "terminal input": libc::SYS_ioctl, [CLOSED, n(libc::TIOCSTI as libc::c_int), NONE];
    "signal owner": libc::SYS_fcntl, [CLOSED, n(libc::F_SETOWN), n(1)];
    "kernel log": libc::SYS_syslog, [n(10), NONE, NONE];
    "kernel module": libc::SYS_init_module, [NONE, NONE, NONE];
    "host name": libc::SYS_sethostname, [NONE, CLOSED];
    "set clock": libc::SYS_clock_settime, [NONE, NONE];
    // Answered before any table is looked at.
    "number of a later kernel": 1000, [];
    "number in a gap": 400, [];
    "x32 getpid": 0x4000_0000 + 39, [];
    "clone3": libc::SYS_clone3, [NONE, NONE];
};

const FORK: Act = Act { name: "fork", call: Call::Fork };

/// All acts, each with its own name.
pub fn acts() -> impl Iterator<Item = Act> {
    RAW.iter().copied().chain([FORK])
}

impl Act {
    /// What is tried, in two or three words.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Tries it now. `Ok` or an error other than EPERM, EACCES and ENOSYS means that it was not prevented.
    pub fn attempt(&self) -> io::Result<()> {
        match self.call {
            Call::Raw(number, [a, b, c, d, e, f]) => {
                let (a, b, c, d, e, f) = (a.raw(), b.raw(), c.raw(), d.raw(), e.raw(), f.raw());
                // SAFETY: each line of the table above is such that the call writes to no memory of ours and closes
                // nothing: pointers are null, invalid on purpose, or static strings that are only read.
                let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
                if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
            }
            Call::Fork => fork(),
        }
    }
}

impl Word {
    fn raw(self) -> i64 {
        match self {
            Word::Number(number) => number,
            Word::Text(text) => text.as_ptr() as i64,
        }
    }
}

fn fork() -> io::Result<()> {
    // SAFETY: the child does nothing but `_exit`, which is allowed after a fork with any number of threads.
    let pid = crate::retry::check(unsafe { libc::fork() })?;
    if pid == 0 {
        // SAFETY: takes an integer and does not return.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: the pointer is to a live integer that the kernel may write.
    crate::retry::check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_has_its_own_name() {
        let mut names: Vec<_> = acts().map(|act| act.name()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(UNKNOWN.iter().all(|name| names.contains(name)));
    }
}
