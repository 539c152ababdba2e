//! What the limiter may still do once it hears receivers: read and write the edges that it was given, and the
//! two files that the master has opened for it. It opens no file, makes no socket, and starts no program. The same table in debug, test and release.

use vsmtp_keeper::CALLS;
use vsmtp_sys::sandbox::{BASE, BODIES, Denied, Limits, Profile, THREADS, Tcp};

/// Descriptors: edges to receivers of two generations, to the resolver, to the master.
const DESCRIPTORS: u64 = 1024;

/// The jail.
pub fn profile() -> Profile {
    Profile {
        daemon: "limits",
        // BODIES: a page for operators that does not fit into a frame travels in a memory file.
        // THREADS: the one that writes. CALLS: keeping what greylisting knows.
        syscalls: vec![BASE, THREADS, BODIES, CALLS],
        // It runs only our own code: a call that is not here is an attack.
        on_denied: Denied::Kill,
        landlock: Vec::new(),
        landlock_tcp: Tcp::None,
        limits: Limits { nofile: Some(DESCRIPTORS), memlock: Some(0), ..Limits::default() },
    }
}
