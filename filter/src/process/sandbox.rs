//! The filter's jail: no socket, no program, and no file but those of the configuration: for the one-shot role, and where
//! rules use lists that are read again when they change.

use std::path::{Path, PathBuf};

use vsmtp_sys::sandbox::{Allow, BASE, BODIES, Denied, Limits, PathGrant, Profile, Rights, Rule, THREADS};

/// Open descriptors: edges, bodies in flight, scripts.
const MAX_DESCRIPTORS: u64 = 4096;
/// Largest memory file: the largest body that travels in one.
const MAX_FILE: u64 = 64 << 20;

/// Reading the configuration, for the one-shot role; the others have read their scripts before the jail closed, and read
/// only lists that have changed.
const SCRIPTS: &[Rule] = &[
    Allow("openat", "scripts and files of the configuration"),
    Allow("readlink", "resolving a path of the configuration"),
    Allow("readlinkat", "resolving a path of the configuration"),
    Allow("statx", "looking whether a script is there"),
    Allow("newfstatat", "looking whether a script is there"),
    Allow("getcwd", "resolving a path of the configuration"),
    Allow("getdents64", "listing the folders of domains"),
];

/// Writing the tables that rules keep.
const TABLES: &[Rule] = &[
    Allow("flock", "one change of a table at a time"),
    Allow("fdatasync", "a table's new file, before it takes the old one's place"),
    Allow("fsync", "the folder of tables"),
    Allow("rename", "putting the new file in the old one's place"),
    Allow("renameat", "the same, where rename does not exist"),
    Allow("renameat2", "the same, where renameat does not exist"),
];

/// The jail of the roles that judge. `watched` is the folder of the configuration, if rules use files that may change; `kept`
/// is that of the tables that rules write, if they do. Without them no file can be opened at all.
pub fn judge(daemon: &'static str, watched: Option<&Path>, kept: Option<&Path>) -> Profile {
    let grant = |path: &Path, rights| PathGrant { path: path.to_owned(), rights };
    let mut syscalls = vec![BASE, THREADS, BODIES];
    if watched.or(kept).is_some() {
        syscalls.push(SCRIPTS);
    }
    if kept.is_some() {
        syscalls.push(TABLES);
    }
    let watched = watched.map(|folder| grant(folder, Rights::Read));
    let kept = kept.map(|folder| grant(folder, Rights::Manage));
    profile(daemon, syscalls, watched.into_iter().chain(kept).collect())
}

/// The jail of the one-shot role: the configuration may be read.
pub fn oneshot(root: Option<PathBuf>) -> Profile {
    let grants = root.into_iter().filter(|path| path.exists());
    let grants = grants.map(|path| PathGrant { path, rights: Rights::Read }).collect();
    profile("filter-oneshot", vec![BASE, THREADS, BODIES, SCRIPTS], grants)
}

/// The jail of the tool: the same.
pub fn tool(root: Option<PathBuf>) -> Profile {
    Profile { daemon: "filter-tool", ..oneshot(root) }
}

fn profile(daemon: &'static str, syscalls: Vec<&'static [Rule]>, landlock: Vec<PathGrant>) -> Profile {
    Profile {
        daemon,
        syscalls,
        // Rhai and, later, plugins may ask for what they can do without.
        on_denied: Denied::Errno,
        landlock,
        landlock_deny_net: true,
        limits: Limits { nofile: Some(MAX_DESCRIPTORS), fsize: Some(MAX_FILE), ..Limits::default() },
    }
}
