//! What a captured runner, or a program that it has started, would try fails under the table.
//!
//! Without the usual harness: a jail holds for a whole process, and is entered while that has one thread.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use vsmtp_runner::sandbox;
use vsmtp_sys::sandbox::{Domain, Limits, OpenGrants, Profile, apply, probe};

const INSIDE: &str = "VSMTP_TEST_JAIL";
/// EPERM, EACCES, ENOSYS.
const DENIALS: [i32; 3] = [1, 13, 38];

/// Whatever else the table says, none of this can be done.
const IMPOSSIBLE: [&str; 39] = [
    "open by handle",
    "make device",
    "change root",
    "mount",
    "trace",
    "read other memory",
    "write other memory",
    "steal descriptor",
    "read other limit",
    "namespaces",
    "join namespace",
    "change user",
    "change group",
    "personality",
    "raw socket",
    "packet socket",
    "netlink socket",
    "vsock socket",
    "listen",
    "accept",
    "io_uring",
    "io_uring enter",
    "old aio",
    "bpf",
    "perf events",
    "user faults",
    "keys",
    "message queue",
    "secret memory",
    "terminal input",
    "signal owner",
    "kernel log",
    "kernel module",
    "host name",
    "set clock",
    "number of a later kernel",
    "number in a gap",
    "x32 getpid",
    "clone3",
];

fn main() {
    match std::env::var(INSIDE).as_deref() {
        Ok("list") => list(),
        Ok("write") => write_outside(),
        Ok("run") => run_ordinary(),
        Ok("poor") => prepare_without_descriptors(),
        _ => {
            it_cannot_change_the_system_or_look_into_others();
            programs_run_and_write_in_the_runners_folder_only();
            a_domain_is_whole_or_an_error();
        }
    }
}

/// The folder that the runner is given.
const RUNNERS: &str = "runner";

fn own_folder() -> PathBuf {
    Path::new(&std::env::var("VSMTP_TEST_FOLDER").unwrap()).join(RUNNERS)
}

fn list() {
    apply(&sandbox::profile(&own_folder())).unwrap();
    let mut output = std::io::stdout().lock();
    for act in probe::acts() {
        let errno = act.attempt().err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        writeln!(output, "{}\t{errno}", act.name()).unwrap();
    }
    let _ = std::fs::remove_file(probe::CREATED_FILE);
    let _ = std::fs::remove_dir(probe::CREATED_DIRECTORY);
}

fn it_cannot_change_the_system_or_look_into_others() {
    let output = inside("list");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let acts: Vec<_> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    assert_eq!(acts.len(), probe::acts().count(), "{text}");
    let denied = |errno: &str| DENIALS.contains(&errno.parse().unwrap());
    for act in IMPOSSIBLE {
        let (_, errno) = acts.iter().find(|(name, _)| *name == act).unwrap_or_else(|| panic!("no {act}"));
        assert!(denied(errno), "{act}: {errno}");
    }
}

/// Where Landlock is, what may be written is said by it; permissions alone would let root write here.
fn write_outside() {
    let folder = std::env::var("VSMTP_TEST_FOLDER").unwrap();
    let applied = apply(&sandbox::profile(&own_folder())).unwrap();
    if applied.landlock != vsmtp_sys::sandbox::Landlock::None {
        assert!(std::fs::write(format!("{folder}/file"), "text").is_err(), "{folder}");
    }
    std::fs::write(own_folder().join("file"), "text").unwrap();
    assert!(
        std::fs::write("/tmp/vsmtp-runner-jail", "text").is_err()
            || applied.landlock == vsmtp_sys::sandbox::Landlock::None
    );
}

/// A shell with a pipe, a loop and several programs.
fn run_ordinary() {
    apply(&sandbox::profile(&own_folder())).unwrap();
    let script = c"for i in 1 2 3; do echo $i; done | sort -r | tr -d '\\n'; ls / >/dev/null && echo done";
    let null = std::fs::File::open("/dev/null").unwrap();
    let output = std::io::stdout();
    let command = vsmtp_sys::spawn::Command {
        path: c"/bin/sh".into(),
        argv: vec![c"sh".into(), c"-c".into(), script.into()],
        env: vec![c"PATH=/usr/bin:/bin".into()],
        stdin: null.as_fd(),
        stdout: output.as_fd(),
        stderr: output.as_fd(),
        limits: vsmtp_sys::sandbox::Limits::default(),
        confinement: None,
    };
    let child = command.spawn().unwrap();
    let mut ended = [nix::poll::PollFd::new(child.pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut ended, nix::poll::PollTimeout::NONE).unwrap();
    assert!(child.try_wait().unwrap().unwrap().success());
}

fn programs_run_and_write_in_the_runners_folder_only() {
    let ran = inside("run");
    let text = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && text.contains("321done"), "{text}");
    let wrote = inside("write");
    assert!(wrote.status.success(), "{}", String::from_utf8_lossy(&wrote.stderr));
}

/// What cannot be opened for want of a descriptor is not left out.
fn prepare_without_descriptors() {
    let all = || OpenGrants::open([sandbox::own(&own_folder())]);
    let missing = || OpenGrants::open([sandbox::own(&own_folder().join("missing"))]);
    let domain = Domain::prepare(&[&all().unwrap(), &missing().unwrap()]).unwrap();
    let has = [domain.has_files(), domain.has_fence()];
    drop(domain);
    let profile = sandbox::profile(&own_folder());
    let limits = Limits { nofile: Some(64), ..Limits::default() };
    apply(&Profile { limits, ..profile }).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    assert!(all().is_err() && missing().is_err());
    // One descriptor is enough for the files, and none is left for the fence.
    for has_part in has {
        let domain = Domain::prepare(&[]);
        assert!(domain.is_err() || !has_part, "{domain:?}");
        taken.pop();
    }
}

fn a_domain_is_whole_or_an_error() {
    let prepared = inside("poor");
    assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
}

fn inside(what: &str) -> Output {
    // A folder that is ours and not the runner's, which is in it.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::create_dir(folder.path().join(RUNNERS)).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .env(INSIDE, what)
        .env("VSMTP_TEST_FOLDER", folder.path())
        .output()
        .unwrap()
}
