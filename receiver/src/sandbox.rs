//! The receiver's jail: sockets that are open already, memory files for bodies, and nothing else. It opens no file, makes
//! no socket, connects, binds and starts nothing. The same in every build.

use vsmtp_sys::sandbox::{Allow, AllowIf, BASE, BODIES, Denied, Limits, Profile, Rule, THREADS, Tcp, Test};

/// Beyond the base and the bodies.
const RECEIVER: &[Rule] = &[
    Allow("accept4", "clients"),
    Allow("getsockname", "our address as a client sees it, where a listener has none of its own"),
    Allow("getpeername", "the standard library, when it prints a socket"),
    AllowIf("setsockopt", NO_DELAY, "small replies at once; set on listeners, inherited by connections"),
    AllowIf("getsockopt", PEER, "the user of a local client"),
];

// Linux's numbers, for this crate has no other use for libc.
const SOL_SOCKET: u32 = 1;
const SO_PEERCRED: u32 = 17;
const IPPROTO_TCP: u32 = 6;
const TCP_NODELAY: u32 = 1;
const NO_DELAY: &[&[Test]] = &[&[Test::Is(1, IPPROTO_TCP), Test::Is(2, TCP_NODELAY)]];
const PEER: &[&[Test]] = &[&[Test::Is(1, SOL_SOCKET), Test::Is(2, SO_PEERCRED)]];

/// The whole jail. `descriptors` may be open at once.
pub fn profile(descriptors: u64) -> Profile {
    Profile {
        daemon: "vsmtp-receiver",
        // THREADS: handshakes wait for their signatures there.
        syscalls: vec![BASE, BODIES, THREADS, RECEIVER],
        // It runs only our own code, and that code faces the network: a call that is not here is an attack.
        on_denied: Denied::Kill,
        landlock: Vec::new(),
        landlock_tcp: Tcp::None,
        limits: Limits { nofile: Some(descriptors), memlock: Some(0), ..Limits::default() },
    }
}
