//! What the resolver may still do once it handles strangers' bytes: connect by UDP and TCP, read and write the two files that
//! the master has opened for it, and no more. It opens no file, binds no port, starts nothing. The same table in debug,
//! test and release.

use vsmtp_keeper::CALLS;
use vsmtp_sys::sandbox::{
    Allow, AllowIf, BASE, BODIES, Denied, Limits, Profile, Rule, TCP_UDP_ONLY, THREADS, Tcp, Test,
};

/// Descriptors: one socket for each look-up that is running, edges.
const DESCRIPTORS: u64 = 8192;

const DNS: &[Rule] = &[
    AllowIf("socket", TCP_UDP_ONLY, "questions to name servers"),
    Allow("connect", "name servers; UDP sockets too, so that only the server's answers come in"),
    Allow("getsockopt", "how a connection attempt ended"),
    AllowIf("setsockopt", NO_DELAY_ONLY, "small questions at once"),
    Allow("getsockname", "the standard library, on new sockets"),
    Allow("getpeername", "the standard library, on connected sockets"),
];

const NO_DELAY_ONLY: &[&[Test]] =
    &[&[Test::Is(1, nix::libc::IPPROTO_TCP as u32), Test::Is(2, nix::libc::TCP_NODELAY as u32)]];

/// The jail.
pub fn profile() -> Profile {
    Profile {
        daemon: "resolver",
        // BODIES: an answer that does not fit into a frame travels in a memory file.
        // CALLS: keeping the policies of MTA-STS.
        syscalls: vec![BASE, THREADS, BODIES, CALLS, DNS],
        on_denied: Denied::Errno,
        landlock: Vec::new(),
        landlock_tcp: Tcp::Any,
        limits: Limits { nofile: Some(DESCRIPTORS), ..Limits::default() },
    }
}
