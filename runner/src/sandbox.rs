//! The runner's jail, which is also that of every program it starts: a seccomp table and Landlock hold for all that comes
//! after, so both must let ordinary programs do ordinary things. What is left out is what no program has to do on behalf of
//! a rule: to change the system, to look into other processes, to become a server, to write outside the folders for
//! temporary files. The user `vsmtp-runner`, no capabilities and `no_new_privs` hold beside it. The same in every build.

mod ordinary;

use std::path::Path;

use vsmtp_sys::sandbox::{
    Allow, AllowIf, BASE, BODIES, Denied, Limits, PathGrant, Profile, Rights, Rule, Test,
};

/// Descriptors: three for each program that runs, edges. Programs have the same limit.
const DESCRIPTORS: u64 = 4096;
/// Octets of a program's largest file.
const LARGEST_FILE: u64 = 1 << 30;

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

/// Where programs may write; what of it is not there is left out.
const WRITABLE: [(&str, Rights); 4] = [
    ("/tmp", Rights::Manage),
    ("/var/tmp", Rights::Manage),
    ("/dev/null", Rights::ReadWrite),
    ("/dev/zero", Rights::ReadWrite),
];

/// The whole jail.
pub fn profile() -> Profile {
    let grant = |(path, rights): (&str, Rights)| PathGrant { path: path.into(), rights };
    let writable = WRITABLE.into_iter().filter(|(path, _)| Path::new(path).exists());
    Profile {
        daemon: "vsmtp-runner",
        syscalls: vec![BASE, BODIES, START, ordinary::FILES, ordinary::PROCESSES, ordinary::SOCKETS],
        // Programs ask for much that they can do without.
        on_denied: Denied::Errno,
        landlock: [("/", Rights::ReadExecute)].into_iter().chain(writable).map(grant).collect(),
        // Programs ask daemons of this host and of others, spam filters above all.
        landlock_deny_net: false,
        limits: Limits { nofile: Some(DESCRIPTORS), fsize: Some(LARGEST_FILE), ..Limits::default() },
    }
}
