//! The filter's jail: no socket, no program, and no file but those of the configuration, for the one-shot role and where
//! rules use lists that are read again when they change, and those that rules write, where they do.

use std::path::{Path, PathBuf};

use vsmtp_sys::sandbox::{
    Allow, BASE, BODIES, Denied, Limits, NARROWING, PLUGINS, PathGrant, Profile, Rights, Rule, THREADS, Tcp,
};

use crate::judge::Folders;

/// Open descriptors: edges, bodies in flight, scripts.
const MAX_DESCRIPTORS: u64 = 4096;

/// Where the libraries are that plugins need, and how they are found.
const LIBRARIES: [&str; 6] =
    ["/etc/ld.so.cache", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"];

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

/// Writing the files that rules want.
const FILES: &[Rule] = &[
    Allow("openat", "new files, and the folders they go into"),
    Allow("mkdir", "a folder that a rule names for the first time"),
    Allow("mkdirat", "the same, where mkdir does not exist"),
    Allow("statx", "looking whether a folder is there"),
    Allow("newfstatat", "looking whether a folder is there"),
    Allow("getdents64", "counting the folders"),
    Allow("fstatfs", "leaving room on the disk"),
    Allow("fchmod", "the folder's group may read"),
    Allow("fdatasync", "a file, before it gets its name"),
    Allow("fsync", "the folder of a new file"),
    Allow("rename", "giving a file its name"),
    Allow("renameat", "the same, where rename does not exist"),
    Allow("renameat2", "the same, where renameat does not exist"),
    Allow("unlink", "removing what could not be written whole"),
    Allow("unlinkat", "the same, where unlink does not exist"),
];

/// The jail of the roles that judge, with the folders that rules reach. Without any no file can be opened at all. What rules
/// have written nobody reads here.
pub fn judge(daemon: &'static str, folders: Folders<'_>) -> Profile {
    let Folders { watched, kept, written } = folders;
    let mut syscalls = vec![BASE, THREADS, BODIES];
    if watched.or(kept).is_some() {
        syscalls.push(SCRIPTS);
    }
    if kept.is_some() {
        syscalls.push(TABLES);
    }
    if written.is_some() {
        syscalls.push(FILES);
    }
    let grants = [(watched, Rights::Read), (kept, Rights::Manage), (written, Rights::Deposit)].into_iter();
    let grants =
        grants.filter_map(|(path, rights)| path.map(|path| PathGrant { path: path.to_owned(), rights }));
    profile(daemon, syscalls, grants.collect())
}

/// The jail of a role that judges while it loads native plugins and rules: what these run then is held already, and by the
/// kernel. [`judge`] narrows it before the first message; so it lets them do all that rules may turn out to need, in `kept`
/// and `written` if these are there. Without plugins rules are loaded before there is a jail.
pub fn loading(
    daemon: &'static str,
    root: &Path,
    kept: &Path,
    written: &Path,
    plugins: &[PathBuf],
) -> Profile {
    let mut loading = with_plugins(oneshot(Some(root.to_owned())), plugins);
    loading.syscalls.extend([TABLES, FILES, NARROWING]);
    let folders = [(kept, Rights::Manage), (written, Rights::Deposit)];
    let folders = folders.into_iter().filter(|(path, _)| path.is_dir());
    loading.landlock.extend(folders.map(|(path, rights)| PathGrant { path: path.to_owned(), rights }));
    Profile { daemon, ..loading }
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

/// A jail in which these plugins can be loaded too; the same one if there are none.
pub fn with_plugins(mut profile: Profile, plugins: &[PathBuf]) -> Profile {
    if !plugins.is_empty() {
        profile.syscalls.push(PLUGINS);
        let libraries = LIBRARIES.into_iter().map(PathBuf::from).filter(|path| path.exists());
        let files = plugins.iter().cloned().chain(libraries);
        profile.landlock.extend(files.map(|path| PathGrant { path, rights: Rights::Read }));
    }
    profile
}

fn profile(daemon: &'static str, syscalls: Vec<&'static [Rule]>, landlock: Vec<PathGrant>) -> Profile {
    Profile {
        daemon,
        syscalls,
        // Rhai may ask for what it can do without.
        on_denied: Denied::Errno,
        landlock,
        landlock_tcp: Tcp::None,
        limits: Limits { nofile: Some(MAX_DESCRIPTORS), ..Limits::default() },
    }
}
