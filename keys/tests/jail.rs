//! What a captured key holder would try fails under its table, and ends it.
//!
//! Without the usual harness: a jail holds for a whole process, and is entered while that has one thread.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use vsmtp_keys::sandbox;
use vsmtp_sys::sandbox::{Denied, Profile, apply, probe};

const INSIDE: &str = "VSMTP_TEST_JAIL";
const SIGSYS: i32 = 31;
const DENIALS: [i32; 3] = [1, 13, 38];

fn main() {
    match std::env::var(INSIDE).as_deref() {
        Ok("list") => list(),
        Ok(act) => attempt(act),
        Err(_) => {
            it_can_do_nothing_but_answer();
            a_try_is_the_end();
        }
    }
}

/// The key holder's own table, which answers instead of killing, so that one process can try everything.
fn list() {
    apply(&Profile { on_denied: Denied::Errno, ..sandbox::profile() }).unwrap();
    let mut output = std::io::stdout().lock();
    for act in probe::acts() {
        let errno = act.attempt().err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        writeln!(output, "{}\t{errno}", act.name()).unwrap();
    }
}

fn attempt(name: &str) {
    let profile = sandbox::profile();
    assert_eq!(profile.on_denied, Denied::Kill);
    let act = probe::acts().find(|act| act.name() == name).unwrap();
    apply(&profile).unwrap();
    let _ = act.attempt();
}

fn it_can_do_nothing_but_answer() {
    let output = run("list");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let acts: Vec<_> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    assert_eq!(acts.len(), probe::acts().count(), "{text}");
    let denied = |errno: &str| DENIALS.contains(&errno.parse().unwrap());
    let possible: Vec<_> = acts.iter().filter(|(_, errno)| !denied(errno)).map(|(act, _)| *act).collect();
    assert_eq!(possible, [""; 0]);
}

fn a_try_is_the_end() {
    // A file that cannot be opened is something that the C library meets every day, so that alone does not kill.
    for act in ["rename file", "execute", "tcp socket", "connect", "bind", "accept"] {
        assert_eq!(run(act).status.signal(), Some(SIGSYS), "{act}");
    }
}

fn run(what: &str) -> Output {
    Command::new(std::env::current_exe().unwrap()).env(INSIDE, what).output().unwrap()
}
