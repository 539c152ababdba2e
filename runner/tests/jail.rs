//! What a captured runner, or a program that it has started, would try fails under the table.
//!
//! Without the usual harness: see `vsmtp_stage::jail`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use vsmtp_runner::sandbox;
use vsmtp_stage::jail;
use vsmtp_sys::sandbox::{Domain, Limits, OpenGrants, Profile, apply, probe};

const FOLDER: &str = "VSMTP_TEST_FOLDER";
/// The folder that the runner is given, in that one.
const RUNNERS: &str = "runner";

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
    match jail::word().as_deref() {
        Some("all") => try_all(),
        Some("write") => write_outside(),
        Some("run") => run_ordinary(),
        Some(_) => prepare_without_descriptors(),
        None => {
            it_cannot_change_the_system_or_look_into_others();
            programs_run_and_write_in_the_runners_folder_only();
            a_domain_is_whole_or_an_error();
        }
    }
}

fn own_folder() -> PathBuf {
    Path::new(&std::env::var(FOLDER).unwrap()).join(RUNNERS)
}

fn try_all() {
    jail::try_all(sandbox::profile(&own_folder()));
    let _ = std::fs::remove_file(probe::CREATED_FILE);
    let _ = std::fs::remove_dir(probe::CREATED_DIRECTORY);
}

fn it_cannot_change_the_system_or_look_into_others() {
    let written = inside("all");
    let possible = jail::possible(&written);
    for act in IMPOSSIBLE {
        assert!(probe::acts().any(|known| known.name() == act), "no {act}");
        assert!(!possible.contains(&act), "{act}");
    }
}

/// Where Landlock is, what may be written is said by it; permissions alone would let root write here.
fn write_outside() {
    let folder = std::env::var(FOLDER).unwrap();
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
    let text = inside("run");
    assert!(text.contains("321done"), "{text}");
    inside("write");
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
    inside("poor");
}

fn inside(word: &str) -> String {
    // A folder that is ours and not the runner's, which is in it.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::create_dir(folder.path().join(RUNNERS)).unwrap();
    jail::inside(word, &[(FOLDER, folder.path().as_os_str())])
}
