//! The runner's jail, which is also that of every program it starts: a seccomp table and Landlock hold for all that comes
//! after, so both must let ordinary programs do ordinary things. What is left out is what no program has to do on behalf of
//! a rule: to change the system, to look into other processes, to become a server, to write outside the runner's folder.
//! The user `vsmtp-runner`, no capabilities and `no_new_privs` hold beside it. The same in every build.
//!
//! Within it each program has a domain of its own (Landlock), so that it finds no other program's files and processes:
//! `common_ground` says what all may open, `own` what one may.

mod common_ground;
mod ordinary;

use std::path::Path;

pub use common_ground::common_ground;
use vsmtp_sys::sandbox::{
    Allow, AllowIf, BASE, BODIES, Denied, Domain, Limits, PathGrant, Profile, Rights, Rule, Tcp, Test,
};

/// Descriptors: five for each program that runs, edges. Programs have the same limit.
const DESCRIPTORS: u64 = 4096;
/// Octets of a program's largest file.
const LARGEST_FILE: u64 = 1 << 30;
/// Octets of a program's address space, of each of its processes: more than a virus scanner with all that it knows, or a
/// runtime that reserves more than it uses.
const ADDRESS_SPACE: u64 = 4 << 30;
/// Processes and threads that programs have in all, for each that may run at once. The kernel counts them for the user.
const PROCESSES_EACH: u64 = 64;

/// What the runner does itself beside what every daemon does: start programs.
const START: &[Rule] = &[
    AllowIf("clone", NO_NAMESPACES, "starting a program; programs start others, and threads"),
    Allow("vfork", "programs start others"),
    Allow("fork", "programs start others"),
    Allow("execve", "starting a program is what the runner is for"),
    Allow("setsid", "a program and all that it starts can be ended together"),
    Allow("chdir", "programs begin in /"),
    Allow("umask", "files of programs are their own"),
    Allow("close_range", "a program inherits no descriptor of ours"),
    Allow("dup3", "a program's three streams"),
    Allow("pipe2", "a program's output; the report of its start"),
    Allow("prctl", "a program ends with the runner and gains no privilege; names of threads"),
    Allow("capset", "dropping what there is not"),
    Allow("pidfd_open", "noticing the end of a program"),
    Allow("wait4", "how a program has ended"),
    Allow("kill", "ending a program and all that it has started"),
    Allow("openat", "programs, libraries, /dev/null"),
    Allow("statx", "looking whether a program is there"),
];

/// In no namespace of its own: those are for administrators, and what they open of the kernel is large.
const NO_NAMESPACES: &[&[Test]] = &[&[Test::Bits(0, NAMESPACES, 0)]];
const NAMESPACES: u32 = (nix::libc::CLONE_NEWNS
    | nix::libc::CLONE_NEWUTS
    | nix::libc::CLONE_NEWIPC
    | nix::libc::CLONE_NEWUSER
    | nix::libc::CLONE_NEWPID
    | nix::libc::CLONE_NEWNET
    | nix::libc::CLONE_NEWCGROUP) as u32;

/// Where all may write.
const SINKS: [&str; 2] = ["/dev/null", "/dev/zero"];

/// The whole jail. `folder` is the runner's, below which each program has one.
pub fn profile(folder: &Path) -> Profile {
    let root = PathGrant { path: "/".into(), rights: Rights::ReadExecute };
    // Its own folder, at its end.
    let around = folder.parent().map(|around| PathGrant { path: around.into(), rights: Rights::RemoveEmpty });
    Profile {
        daemon: "vsmtp-runner",
        syscalls: vec![BASE, BODIES, START, ordinary::FILES, ordinary::PROCESSES, ordinary::SOCKETS],
        // Programs ask for much that they can do without.
        on_denied: Denied::Errno,
        landlock: [root, own(folder)].into_iter().chain(sinks()).chain(around).collect(),
        // Programs ask daemons of this host and of others, spam filters above all.
        landlock_tcp: Tcp::Any,
        limits: Limits { nofile: Some(DESCRIPTORS), ..Limits::default() },
    }
}

/// What one program may write in.
pub fn own(folder: &Path) -> PathGrant {
    PathGrant { path: folder.into(), rights: Rights::Manage }
}

fn sinks() -> impl Iterator<Item = PathGrant> {
    let sinks = SINKS.into_iter().map(Path::new).filter(|path| path.exists());
    sinks.map(|path| PathGrant { path: path.into(), rights: Rights::ReadWrite })
}

/// What one program may use up, one of so many at once. Processes are counted only where the runner's user is nobody
/// else's: others would be counted with them.
pub fn limits(at_once: u32, has_own_user: bool) -> Limits {
    let processes = u64::from(at_once).saturating_mul(PROCESSES_EACH);
    Limits {
        address_space: Some(ADDRESS_SPACE),
        // Not the runner itself, which writes to the log.
        fsize: Some(LARGEST_FILE),
        nproc: has_own_user.then_some(processes),
        ..Limits::default()
    }
}

/// How far the kernel keeps programs apart, for people.
pub fn describe_domain(domain: &Domain) -> &'static str {
    match (domain.has_files(), domain.has_fence()) {
        (true, true) => {
            "each program: a domain of its own, for files, /proc and signals; a keeper ends all that it starts"
        }
        (true, false) => {
            "each program: a domain of its own, for files and /proc; signals reach others (they take Linux 6.12)"
        }
        (false, _) => {
            "each program: no domain of its own (it takes Landlock), so that it reaches what others have"
        }
    }
}
