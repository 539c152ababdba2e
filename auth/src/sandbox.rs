//! The auth helper's jail: Unix sockets to services of this host, and memory. It opens no file (those of passwords are handed
//! to it), reaches no network and starts nothing. The same in every build.

use vsmtp_sys::sandbox::{Allow, AllowIf, BASE, BODIES, Denied, Limits, Profile, Rule, THREADS, Tcp, Test};

/// Descriptors: one socket for each check that is under way, edges.
const DESCRIPTORS: u64 = 4096;

const AUTH: &[Rule] = &[
    AllowIf("socket", UNIX_STREAM_ONLY, "connections to Dovecot and saslauthd"),
    Allow("connect", "Dovecot and saslauthd"),
    AllowIf("setsockopt", WAITS_ONLY, "every wait for them ends"),
    Allow("getsockopt", "the standard library, on sockets"),
];

const UNIX_STREAM_ONLY: &[&[Test]] =
    &[&[Test::Is(0, nix::libc::AF_UNIX as u32), Test::Bits(1, 0xf, nix::libc::SOCK_STREAM as u32)]];
const WAITS_ONLY: &[&[Test]] = &[
    &[Test::Is(1, nix::libc::SOL_SOCKET as u32), Test::Is(2, nix::libc::SO_RCVTIMEO as u32)],
    &[Test::Is(1, nix::libc::SOL_SOCKET as u32), Test::Is(2, nix::libc::SO_SNDTIMEO as u32)],
];

/// The jail.
pub fn profile() -> Profile {
    Profile {
        daemon: "auth",
        // BODIES: a message that does not fit into a frame travels in a memory file.
        syscalls: vec![BASE, THREADS, BODIES, AUTH],
        // Whoever tries more than this has its passwords already: it is to have no more of them.
        on_denied: Denied::Kill,
        landlock: Vec::new(),
        landlock_tcp: Tcp::None,
        limits: Limits { nofile: Some(DESCRIPTORS), memlock: Some(0), ..Limits::default() },
    }
}
