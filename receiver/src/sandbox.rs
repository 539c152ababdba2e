//! The receiver's jail: sockets that are open already, memory files for bodies, and nothing else. It opens no file, makes
//! no socket, connects, binds and starts nothing. The same in every build.

use vsmtp_sys::sandbox::{Allow, BASE, BODIES, Denied, Limits, Profile, Rule};

/// Beyond the base and the bodies.
const RECEIVER: &[Rule] = &[
    Allow("accept4", "clients"),
    Allow("getsockname", "our address as a client sees it, where a listener has none of its own"),
    Allow("getpeername", "the standard library, when it prints a socket"),
    Allow("setsockopt", "no delay, on listeners"),
    Allow("getsockopt", "the user of a local client; errors of a connection"),
];

/// The whole jail. `descriptors` may be open at once.
pub fn profile(descriptors: u64) -> Profile {
    Profile {
        daemon: "vsmtp-receiver",
        syscalls: vec![BASE, BODIES, RECEIVER],
        // It runs only our own code, and that code faces the network: a call that is not here is an attack.
        on_denied: Denied::Kill,
        landlock: Vec::new(),
        landlock_deny_net: true,
        limits: Limits { nofile: Some(descriptors), memlock: Some(0), ..Limits::default() },
    }
}
