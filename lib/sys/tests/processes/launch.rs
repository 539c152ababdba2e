//! Children are started with exactly what they are given, and with nothing else.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use vsmtp_sys::spawn::{SpawnError, Stage};
use vsmtp_sys::{seqpacket, spawn};

use crate::support::{self, Launch, root, skipped};

#[test]
fn a_child_has_its_descriptors_arguments_and_environment_and_no_others() {
    // Strays that a careless program would pass on: without close-on-exec, below and above those handed over.
    let strays: Vec<OwnedFd> = (0..40).map(|_| support::leaky(File::open("/dev/zero").unwrap())).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    let (socket, _peer) = seqpacket::pair().unwrap();
    let given = vec![OwnedFd::from(file.reopen().unwrap()), socket];
    let said = Launch { fds: given, ..Launch::new(&["report"]) }.run();
    drop(strays);

    assert!(said.exit.success(), "{said:?}");
    assert_eq!(said.get("fd 0"), "/dev/null");
    assert!(said.get("fd 1").starts_with("pipe:"));
    assert_eq!(said.get("fd 1"), said.get("fd 2"));
    assert_eq!(said.get("fd 3"), file.path().to_str().unwrap());
    assert!(said.get("fd 4").starts_with("socket:"));
    assert_eq!(said.keys("fd ").len(), 5, "{said:?}");
    assert_eq!((said.get("inherited 3"), said.get("inherited 4")), ("0", "0"));
    assert_eq!(said.get("args"), "vsmtp-probe report");
    assert_eq!(said.get("env"), "ONLY=this");
    assert_eq!(said.get("directory"), "/");
    assert_eq!(said.get("comm"), "vsmtp-probe");
    assert_eq!(said.get("no_new_privs"), "Some(true)");
    assert_eq!(said.get("SigBlk"), "0000000000000000");
    // SIGPIPE alone, which Rust's own start ignores.
    assert_eq!(said.get("SigIgn"), "0000000000001000");
    assert_eq!(said.get("Umask"), "0077");
    assert_eq!(said.get("NSsid"), said.pid.to_string());
}

#[test]
fn descriptors_arrive_in_order_from_whatever_numbers_they_had() {
    // Enough of them that their old numbers overlap the new ones, in reverse.
    let files: Vec<_> = (0..spawn::MAX_FDS).map(|_| tempfile::NamedTempFile::new().unwrap()).collect();
    let mut given: Vec<OwnedFd> = files.iter().rev().map(|file| file.reopen().unwrap().into()).collect();
    given.reverse();
    let said = Launch { fds: given, ..Launch::new(&["report"]) }.run();
    for (index, file) in files.iter().enumerate() {
        assert_eq!(said.get(&format!("fd {}", index + 3)), file.path().to_str().unwrap());
    }
    assert_eq!(said.keys("fd ").len(), spawn::MAX_FDS + 3);
}

#[test]
fn a_child_of_root_has_its_own_identity_and_no_privilege() {
    if !root() {
        return skipped("a_child_of_root_has_its_own_identity_and_no_privilege");
    }
    let said = Launch { uid_gid: Some((64_001, 64_002)), ..Launch::new(&["report"]) }.run();
    assert_eq!(said.get("uids"), "64001 64001 64001 64001");
    assert_eq!(said.get("gids"), "64002 64002 64002 64002");
    assert_eq!(said.get("groups"), "");
    let none = "Some(0)";
    let nothing = format!(
        "Capabilities {{ inheritable: {none}, permitted: {none}, effective: {none}, bounding: {none}, ambient: {none} }}"
    );
    assert_eq!(said.get("capabilities"), nothing);
}

#[test]
fn even_a_child_that_stays_root_has_no_capability() {
    if !root() {
        return skipped("even_a_child_that_stays_root_has_no_capability");
    }
    let said = Launch::new(&["report"]).run();
    assert_eq!(said.get("uids"), "0 0 0 0");
    assert!(said.get("capabilities").contains("permitted: Some(0), effective: Some(0), bounding: Some(0)"));
}

#[test]
fn namespaces_are_new_where_asked_for_and_only_there() {
    if !root() {
        return skipped("namespaces_are_new_where_asked_for_and_only_there");
    }
    let own = vsmtp_sys::report::Report::of(std::process::id() as i32).unwrap().namespaces;
    let said = Launch { new_netns: true, uid_gid: Some((64_001, 64_001)), ..Launch::new(&["report"]) }.run();
    for (name, inode) in &own {
        let same = said.get(&format!("ns {name}")) == inode.to_string();
        assert_eq!(same, *name != "net", "{name}");
    }
    let said = Launch { new_ipcns: true, ..Launch::new(&["report"]) }.run();
    for (name, inode) in &own {
        let same = said.get(&format!("ns {name}")) == inode.to_string();
        assert_eq!(same, *name != "ipc", "{name}");
    }
}

#[test]
fn a_step_that_fails_is_named_and_leaves_no_child() {
    let not_a_program = tempfile::tempfile().unwrap();
    let error = Launch { program: Some(not_a_program.into()), ..Launch::new(&["x"]) }.start().unwrap_err();
    assert!(matches!(error, SpawnError::Child(Stage::Execute, _)), "{error}");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);

    let many = (0..=spawn::MAX_FDS).map(|_| File::open("/dev/null").unwrap().into()).collect();
    let error = Launch { fds: many, ..Launch::new(&["report"]) }.start().unwrap_err();
    assert!(matches!(error, SpawnError::Refused(_)), "{error}");

    for nobody in [(u32::MAX, 1), (1, u32::MAX)] {
        let error = Launch { uid_gid: Some(nobody), ..Launch::new(&["report"]) }.start().unwrap_err();
        assert!(matches!(error, SpawnError::Refused(_)), "{error}");
    }
    if !root() {
        let error = Launch { uid_gid: Some((0, 0)), ..Launch::new(&["report"]) }.start().unwrap_err();
        assert!(matches!(error, SpawnError::Child(Stage::Groups, _)), "{error}");
    }
}

#[test]
fn a_child_can_be_signalled_and_its_end_is_seen() {
    let (theirs, _keep) = io::pipe().unwrap();
    let (child, _output) = Launch { fds: vec![theirs.into()], ..Launch::new(&["sleep"]) }.start().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    child.signal(libc::SIGTERM).unwrap();
    let status = support::wait(&child);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGTERM));
    assert_eq!(child.signal(libc::SIGTERM).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    assert_eq!(spawn::kill(0, libc::SIGTERM).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(spawn::kill(-1, libc::SIGTERM).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_child_ends_with_the_thread_that_started_it() {
    let (theirs, _keep) = io::pipe().unwrap();
    let launch = Launch { fds: vec![theirs.into()], pdeathsig: true, ..Launch::new(&["sleep"]) };
    let (child, _output) = std::thread::spawn(move || launch.start().unwrap()).join().unwrap();
    let status = support::wait(&child);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
}

#[test]
fn ended_children_are_noticed_once_each() {
    let said = Launch { env: "PATH=/bin:/usr/bin", ..Launch::new(&["children"]) }.run();
    assert_eq!(said.get("signal"), "Child");
    assert_eq!(said.get("ended"), "exit status: 3, signal: 9 (SIGKILL)");
    assert_eq!(said.get("then"), "None");
}

#[test]
fn strays_are_closed_and_what_was_taken_is_not() {
    let strays: Vec<OwnedFd> = (0..5).map(|_| support::leaky(File::open("/dev/zero").unwrap())).collect();
    let keep = support::leaky(File::open("/dev/full").unwrap());
    let number = std::os::fd::AsRawFd::as_raw_fd(&keep).to_string();
    // Not through our launcher, which leaves no strays.
    let probe = std::process::Command::new(env!("CARGO_BIN_EXE_vsmtp-sys-probe"))
        .args(["close-from", &number])
        .output()
        .unwrap();
    drop(strays);
    let said = String::from_utf8(probe.stdout).unwrap();
    assert!(said.contains(&format!("fd {number}\t/dev/full\n")) && !said.contains("/dev/zero"), "{said}");
}
