//! What a captured queue-manager would try fails under its table, and ends it; the spool it can write.
//!
//! Without the usual harness: a jail holds for a whole process, and is entered while that has one thread.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use vsmtp_queue_manager::sandbox;
use vsmtp_sys::sandbox::{Denied, Profile, apply, probe};

const INSIDE: &str = "VSMTP_TEST_JAIL";
const SPOOL: &str = "VSMTP_TEST_SPOOL";
const SIGSYS: i32 = 31;
const DENIALS: [i32; 3] = [1, 13, 38];

fn main() {
    let spool = std::env::var(SPOOL).unwrap_or_default();
    match std::env::var(INSIDE).as_deref() {
        Ok("list") => list(Path::new(&spool)),
        Ok("work") => work(Path::new(&spool)),
        Ok(act) => attempt(act, Path::new(&spool)),
        Err(_) => {
            let folder = tempfile::tempdir().unwrap();
            nothing_but_files_of_the_spool(folder.path());
            a_try_is_the_end(folder.path());
            the_spool_is_at_hand(folder.path());
        }
    }
}

/// The table, which answers instead of killing, so that one process can try everything.
fn list(spool: &Path) {
    apply(&Profile { on_denied: Denied::Errno, ..sandbox::profile(spool) }).unwrap();
    let mut output = std::io::stdout().lock();
    for act in probe::acts() {
        let errno = act.attempt().err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        writeln!(output, "{}\t{errno}", act.name()).unwrap();
    }
}

fn attempt(name: &str, spool: &Path) {
    let profile = sandbox::profile(spool);
    assert_eq!(profile.on_denied, Denied::Kill);
    let act = probe::acts().find(|act| act.name() == name).unwrap();
    apply(&profile).unwrap();
    let _ = act.attempt();
}

/// All that the store does with a disk, inside.
fn work(spool: &Path) {
    use vsmtp_queue_manager::store::{Options, Unrecovered};
    let unrecovered =
        Unrecovered::open(spool, Options { segment_bytes: 1 << 20, ..Options::default() }).unwrap();
    apply(&sandbox::profile(spool)).unwrap();
    let (store, ..) = unrecovered.recover(Box::new(|| {})).unwrap();
    let mut staging = store.stage(vsmtp_mail::QueueId::from_bytes([1; 16])).unwrap();
    staging.append(b"octets").unwrap();
    assert!(staging.reader().unwrap().file().is_some());
    drop(staging);
    assert!(store.close().is_empty());
    assert!(std::fs::write("/tmp/vsmtp-not-in-the-spool", "x").is_err());
}

fn nothing_but_files_of_the_spool(spool: &Path) {
    let output = run("list", spool);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let acts: Vec<_> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    assert_eq!(acts.len(), probe::acts().count(), "{text}");
    let denied = |errno: &str| DENIALS.contains(&errno.parse().unwrap());
    let possible: Vec<_> = acts.iter().filter(|(_, errno)| !denied(errno)).map(|(act, _)| *act).collect();
    assert_eq!(possible, POSSIBLE);
}

/// Calls of the table. The tries name nothing that exists; Landlock keeps the calls within the spool.
const POSSIBLE: [&str; 4] = ["open beneath", "remove file", "rename file", "accept"];

fn a_try_is_the_end(spool: &Path) {
    for act in ["execute", "tcp socket", "connect", "bind"] {
        assert_eq!(run(act, spool).status.signal(), Some(SIGSYS), "{act}");
    }
}

fn the_spool_is_at_hand(spool: &Path) {
    let output = run("work", spool);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn run(what: &str, spool: &Path) -> Output {
    Command::new(std::env::current_exe().unwrap()).env(INSIDE, what).env(SPOOL, spool).output().unwrap()
}
