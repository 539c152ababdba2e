//! What each role may still do once it handles other people's bytes. The same tables in debug, test and release.

use std::path::Path;

use vsmtp_sys::sandbox::{
    Allow, AllowIf, BASE, BODIES, Denied, Limits, PathGrant, Profile, Rights, Rule, TCP_ONLY, THREADS, Tcp,
    Test,
};

/// Descriptors of `--role smtp`: connections, bodies of leases in flight, edges.
const SMTP_DESCRIPTORS: u64 = 65_536;
/// Descriptors of `--role mailbox`: folders and files of running batches, bodies of leases in flight, edges.
const MAILBOX_DESCRIPTORS: u64 = 4096;

/// Connecting and no more: no file can be opened, and nobody can connect to us.
const SMTP: &[Rule] = &[
    AllowIf("socket", TCP_ONLY, "connections to mail servers"),
    AllowIf("socket", UNIX_STREAM_ONLY, "connections to local LMTP servers"),
    Allow("connect", "mail servers"),
    Allow("getsockopt", "how a connection attempt ended"),
    AllowIf("setsockopt", AT_ONCE, "small commands at once"),
    Allow("getsockname", "which of our addresses a connection uses"),
    Allow("getpeername", "the standard library, on connected sockets"),
];

/// For connections from one of our own addresses, where one is set. The filter cannot see which one a socket is bound to, and
/// Landlock, where the kernel has it, sees the port and leaves its choice to the kernel; without `listen` and `accept` nobody
/// can connect to it.
const SOURCES: &[Rule] = &[
    Allow("bind", "connections from one of our own addresses"),
    AllowIf("setsockopt", LATE_PORT, "a port for each server"),
];

const UNIX_STREAM_ONLY: &[&[Test]] =
    &[&[Test::Is(0, nix::libc::AF_UNIX as u32), Test::Bits(1, 0xf, nix::libc::SOCK_STREAM as u32)]];
const AT_ONCE: &[&[Test]] =
    &[&[Test::Is(1, nix::libc::IPPROTO_TCP as u32), Test::Is(2, nix::libc::TCP_NODELAY as u32)]];
const LATE_PORT: &[&[Test]] =
    &[&[Test::Is(1, nix::libc::IPPROTO_IP as u32), Test::Is(2, nix::libc::IP_BIND_ADDRESS_NO_PORT as u32)]];

/// Files below the mail root and nothing else: no socket of any kind can be made.
const MAILBOX: &[Rule] = &[
    Allow("openat2", "folders and files below the mail root, never through a link"),
    Allow("mkdirat", "the Maildir of a new user"),
    Allow("pwritev", "message text"),
    Allow("fdatasync", "a message is durable before it is answered for"),
    Allow("fsync", "a name is durable before it is answered for"),
    Allow("renameat2", "from tmp to new"),
    Allow("linkat", "from tmp to new, where rename cannot refuse to replace"),
    Allow("unlinkat", "files of failed deliveries, dot locks"),
    Allow("newfstatat", "age of a dot lock"),
    Allow("ftruncate", "an mbox back to its old length after an error"),
];

/// The jail of `--role smtp`, which binds sockets only if connections come from addresses that are set.
pub fn smtp(has_sources: bool) -> Profile {
    let mut syscalls = vec![BASE, BODIES, SMTP];
    if has_sources {
        syscalls.push(SOURCES);
    }
    Profile {
        daemon: "deliver-smtp",
        syscalls,
        on_denied: Denied::Errno,
        landlock: Vec::new(),
        landlock_tcp: Tcp::OutOnly,
        limits: Limits { nofile: Some(SMTP_DESCRIPTORS), ..Limits::default() },
    }
}

/// The jail of `--role mailbox`.
pub fn mailbox(mail_root: &Path) -> Profile {
    Profile {
        daemon: "deliver-mailbox",
        syscalls: vec![BASE, THREADS, BODIES, MAILBOX],
        on_denied: Denied::Errno,
        landlock: vec![PathGrant { path: mail_root.to_owned(), rights: Rights::Manage }],
        landlock_tcp: Tcp::None,
        limits: Limits { nofile: Some(MAILBOX_DESCRIPTORS), ..Limits::default() },
    }
}
