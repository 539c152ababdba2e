//! The filter's jail: no socket, no program, no file but those of the configuration, and these for reading.

use std::path::PathBuf;

use vsmtp_sys::sandbox::{Allow, BASE, BODIES, Denied, Limits, PathGrant, Profile, Rights, Rule, THREADS};

/// Open descriptors: edges, bodies in flight, scripts.
const MAX_DESCRIPTORS: u64 = 4096;
/// Largest memory file: the largest body that travels in one.
const MAX_FILE: u64 = 64 << 20;

const SCRIPTS: &[Rule] = &[
    Allow("openat", "scripts and files of the configuration"),
    Allow("openat2", "the same, never outside their root"),
    Allow("getdents64", "domain folders"),
    Allow("readlink", "resolving a path of the configuration"),
    Allow("readlinkat", "resolving a path of the configuration"),
    Allow("statx", "looking whether a script is there"),
    Allow("newfstatat", "looking whether a script is there"),
    Allow("getcwd", "resolving a path of the configuration"),
    Allow("access", "looking whether a script is there"),
    Allow("faccessat2", "looking whether a script is there"),
];

/// The jail of every role: `roots` may be read.
pub fn profile(daemon: &'static str, roots: Vec<PathBuf>) -> Profile {
    let readable = |path: PathBuf| PathGrant { path, rights: Rights::Read };
    Profile {
        daemon,
        syscalls: vec![BASE, THREADS, BODIES, SCRIPTS],
        // Rhai and, later, plugins may ask for what they can do without.
        on_denied: Denied::Errno,
        landlock: roots.into_iter().filter(|path| path.exists()).map(readable).collect(),
        landlock_deny_net: true,
        limits: Limits { nofile: Some(MAX_DESCRIPTORS), fsize: Some(MAX_FILE), ..Limits::default() },
    }
}
