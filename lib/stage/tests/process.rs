//! The stage itself, with a shell where a daemon would be.
#![forbid(unsafe_code)]

use std::ffi::CString;

use vsmtp_ipc::role::Role;
use vsmtp_stage::{Process, configure};

fn shell(script: &str) -> Process {
    let script = CString::new(script).unwrap();
    Process::start("/bin/sh", &[c"-c", &script], configure(Role::Runner, Vec::new()))
}

#[test]
fn a_log_that_is_read_while_it_is_written_keeps_every_line() {
    let process = shell("echo one; sleep 0.2; echo two; sleep 0.2; echo three >&4");
    for line in ["one", "two", "three"] {
        process.logged(line);
    }
    assert!(process.ended().success());
    assert_eq!(process.log(), "one\ntwo\nthree\n");
}

#[test]
fn it_is_started_by_its_name_and_with_an_empty_environment() {
    let process = shell("head -c 2 /proc/$$/cmdline; echo; cat /proc/$$/environ");
    assert!(process.ended().success());
    assert_eq!(process.log(), "sh\n");
}

#[test]
fn it_does_not_outlive_its_test() {
    let process = shell("echo begun; exec sleep 1000");
    process.logged("begun");
    let folder = format!("/proc/{}", process.child.pid);
    assert!(std::fs::exists(&folder).unwrap());
    drop(process);
    assert!(!std::fs::exists(&folder).unwrap());
}

#[test]
#[should_panic(expected = "the log does not say never")]
fn nobody_waits_for_a_line_of_a_process_that_has_ended() {
    shell("echo else").logged("never");
}

#[test]
#[should_panic(expected = "the daemon is gone")]
fn nobody_waits_for_a_message_of_a_process_that_has_ended() {
    shell("exit 0").hear_master(|_| true);
}
