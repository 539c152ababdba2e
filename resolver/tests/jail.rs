//! What a captured resolver would try fails under its table.
//!
//! Without the usual harness: a jail holds for a whole process, and is entered while that has one thread.

use std::io::Write;
use std::process::Command;

use vsmtp_resolver::sandbox;
use vsmtp_sys::sandbox::{apply, probe};

const INSIDE: &str = "VSMTP_TEST_JAIL";
/// EPERM, EACCES, ENOSYS.
const DENIALS: [i32; 3] = [1, 13, 38];
/// All that is left: questions to name servers. Threads are not among the acts, second processes are.
const POSSIBLE: [&str; 4] = ["tcp socket", "tcp6 socket", "udp socket", "connect"];

fn main() {
    if std::env::var_os(INSIDE).is_some() {
        return list();
    }
    let output = Command::new(std::env::current_exe().unwrap()).env(INSIDE, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let acts: Vec<_> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    assert_eq!(acts.len(), probe::acts().count(), "{text}");
    let denied = |errno: &str| DENIALS.contains(&errno.parse().unwrap());
    let possible: Vec<_> = acts.iter().filter(|(_, errno)| !denied(errno)).map(|(act, _)| *act).collect();
    assert_eq!(possible, POSSIBLE);
}

fn list() {
    apply(&sandbox::profile()).unwrap();
    let mut output = std::io::stdout().lock();
    for act in probe::acts() {
        let errno = act.attempt().err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        writeln!(output, "{}\t{errno}", act.name()).unwrap();
    }
}
