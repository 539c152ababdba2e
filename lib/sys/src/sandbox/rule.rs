//! The vocabulary of a daemon's table: a system call, when it is allowed, and why it is needed.

use std::fmt;

pub use Rule::{Allow, AllowIf};

/// One line of a table. A call without a line is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The call (by name), whatever its arguments, and the reason.
    Allow(&'static str, &'static str),
    /// The call, when all tests of at least one of the alternatives hold, and the reason.
    AllowIf(&'static str, &'static [&'static [Test]], &'static str),
}

impl Rule {
    /// The system call's name.
    pub fn name(&self) -> &'static str {
        match self {
            Allow(name, _) | AllowIf(name, ..) => name,
        }
    }

    /// Why the daemon needs it.
    pub fn reason(&self) -> &'static str {
        match self {
            Allow(_, reason) | AllowIf(_, _, reason) => reason,
        }
    }
}

/// A test of one argument, counted from 0. Values are compared in 32 bits, as the kernel takes `int`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The argument is this.
    Is(u8, u32),
    /// The argument is anything but this.
    IsNot(u8, u32),
    /// The argument's bits under the first value (a mask) are the second.
    Bits(u8, u32, u32),
    /// The argument, a pointer, is null.
    Null(u8),
    /// The argument is the id of the process that applied the table.
    OwnPid(u8),
}

impl fmt::Display for Test {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::Is(argument, value) => write!(out, "arg{argument} = {value:#x}"),
            Test::IsNot(argument, value) => write!(out, "arg{argument} != {value:#x}"),
            Test::Bits(argument, mask, value) => write!(out, "arg{argument} & {mask:#x} = {value:#x}"),
            Test::Null(argument) => write!(out, "arg{argument} = NULL"),
            Test::OwnPid(argument) => write!(out, "arg{argument} = own pid"),
        }
    }
}

/// Memory that can never be executed: `mmap`, `mprotect`.
pub const NOT_EXECUTABLE: &[&[Test]] = &[&[Test::Bits(2, libc::PROT_EXEC as u32, 0)]];

/// `socket`, `socketpair`: between processes of this host only.
pub const UNIX_ONLY: &[&[Test]] = &[&[Test::Is(0, libc::AF_UNIX as u32)]];

/// The bits of a socket's type that are not flags.
const TYPE: u32 = 0xf;
const IPV4: u32 = libc::AF_INET as u32;
const IPV6: u32 = libc::AF_INET6 as u32;
const STREAM: u32 = libc::SOCK_STREAM as u32;
const DATAGRAM: u32 = libc::SOCK_DGRAM as u32;

/// `socket`: TCP.
pub const TCP_ONLY: &[&[Test]] = &[
    &[Test::Is(0, IPV4), Test::Bits(1, TYPE, STREAM), Test::Is(2, 0)],
    &[Test::Is(0, IPV6), Test::Bits(1, TYPE, STREAM), Test::Is(2, 0)],
    &[Test::Is(0, IPV4), Test::Bits(1, TYPE, STREAM), Test::Is(2, libc::IPPROTO_TCP as u32)],
    &[Test::Is(0, IPV6), Test::Bits(1, TYPE, STREAM), Test::Is(2, libc::IPPROTO_TCP as u32)],
];

/// `socket`: TCP and UDP, nothing raw.
pub const TCP_UDP_ONLY: &[&[Test]] = &[
    &[Test::Is(0, IPV4), Test::Bits(1, TYPE, STREAM), Test::Is(2, 0)],
    &[Test::Is(0, IPV6), Test::Bits(1, TYPE, STREAM), Test::Is(2, 0)],
    &[Test::Is(0, IPV4), Test::Bits(1, TYPE, STREAM), Test::Is(2, libc::IPPROTO_TCP as u32)],
    &[Test::Is(0, IPV6), Test::Bits(1, TYPE, STREAM), Test::Is(2, libc::IPPROTO_TCP as u32)],
    &[Test::Is(0, IPV4), Test::Bits(1, TYPE, DATAGRAM), Test::Is(2, 0)],
    &[Test::Is(0, IPV6), Test::Bits(1, TYPE, DATAGRAM), Test::Is(2, 0)],
    &[Test::Is(0, IPV4), Test::Bits(1, TYPE, DATAGRAM), Test::Is(2, libc::IPPROTO_UDP as u32)],
    &[Test::Is(0, IPV6), Test::Bits(1, TYPE, DATAGRAM), Test::Is(2, libc::IPPROTO_UDP as u32)],
];

/// `clone`: a thread of this process, sharing everything, in no new namespace.
pub const THREAD_ONLY: &[&[Test]] = &[&[Test::Bits(0, THREAD_FLAGS | OTHER_FLAGS, THREAD_FLAGS)]];
const THREAD_FLAGS: u32 =
    (libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_FS | libc::CLONE_FILES) as u32;
const OTHER_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_PTRACE
    | libc::CLONE_VFORK
    | libc::CLONE_PARENT) as u32;

/// `kill`, `tgkill`: this process itself.
pub const SELF_ONLY: &[&[Test]] = &[&[Test::OwnPid(0)]];

/// A call whose first argument names a thread: the calling one, by 0.
pub const THIS_THREAD: &[&[Test]] = &[&[Test::Is(0, 0)]];

/// `prlimit64`: this process's limits, for reading.
pub const OWN_LIMITS_READ: &[&[Test]] =
    &[&[Test::Is(0, 0), Test::Null(2)], &[Test::OwnPid(0), Test::Null(2)]];

/// `prctl`: naming a thread or (by the allocator) a mapping.
pub const NAMES_ONLY: &[&[Test]] = &[
    &[Test::Is(0, libc::PR_SET_NAME as u32)],
    &[Test::Is(0, libc::PR_GET_NAME as u32)],
    &[Test::Is(0, libc::PR_SET_VMA as u32)],
];

/// `prctl`: giving up new privileges, which nothing undoes.
pub const NO_NEW_PRIVILEGES: &[&[Test]] = &[&[Test::Is(0, libc::PR_SET_NO_NEW_PRIVS as u32)]];

/// `ioctl`: non-blocking mode, bytes waiting, and the question whether this is a terminal.
pub const PLAIN_IOCTLS: &[&[Test]] = &[
    &[Test::Is(1, libc::FIONBIO as u32)],
    &[Test::Is(1, libc::FIONREAD as u32)],
    &[Test::Is(1, libc::FIOCLEX as u32)],
    &[Test::Is(1, libc::TCGETS as u32)],
];

/// `fcntl`: everything but what makes the kernel send signals.
pub const NO_SIGNALS: &[&[Test]] = &[&[
    Test::IsNot(1, libc::F_SETOWN as u32),
    Test::IsNot(1, F_SETSIG),
    Test::IsNot(1, F_SETOWN_EX),
    Test::IsNot(1, libc::F_SETLEASE as u32),
    Test::IsNot(1, libc::F_NOTIFY as u32),
]];
// Linux's numbers; libc leaves them out.
const F_SETSIG: u32 = 10;
const F_SETOWN_EX: u32 = 15;

/// `newfstatat`: the status of an open descriptor (the C library's `fstat`). The path cannot be looked at, so a name
/// relative to that descriptor could be asked about too; it reveals a file's status, never its content.
pub const BY_DESCRIPTOR: &[&[Test]] =
    &[&[Test::Bits(3, libc::AT_EMPTY_PATH as u32, libc::AT_EMPTY_PATH as u32)]];
