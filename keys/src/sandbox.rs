//! The key holder's jail: edges that it was handed, memory, and the clock. It opens no file, makes no socket, connects and
//! starts nothing; its files came as open descriptors. The same in every build.

use vsmtp_sys::sandbox::{BASE, BODIES, Denied, Limits, Profile, Tcp};

/// Descriptors: edges, and the files of one configuration while they are read.
const DESCRIPTORS: u64 = 4096;

/// The whole jail.
pub fn profile() -> Profile {
    Profile {
        daemon: "vsmtp-keys",
        // BODIES: certificates that do not fit into a frame travel in a memory file.
        syscalls: vec![BASE, BODIES],
        // Nobody but receivers speaks to it, and what they may say is small: a call that is not here is an attack.
        on_denied: Denied::Kill,
        landlock: Vec::new(),
        landlock_tcp: Tcp::None,
        limits: Limits { nofile: Some(DESCRIPTORS), ..Limits::default() },
    }
}
