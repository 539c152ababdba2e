//! A jail under test. It holds for a whole process, and is entered while that has one thread, so each try is one more
//! run of the test's own program, which has no usual harness: a word in its environment says what that run is to do.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use nix::libc::{EACCES, ENOSYS, EPERM, SIGSYS};
use vsmtp_sys::sandbox::{Applied, Denied, Profile, apply, probe, tighten};

/// The variable that holds the word.
const WORD: &str = "VSMTP_TEST_JAIL";
/// What tables and Landlock answer to what they deny.
const DENIALS: [i32; 3] = [EPERM, EACCES, ENOSYS];

/// What this run of the program is to do; `None` if it is the test itself.
pub fn word() -> Option<String> {
    std::env::var(WORD).ok()
}

/// Runs this program once more, to do that, with these variables.
///
/// # Panics
/// If it cannot be run.
pub fn run(word: &str, variables: &[(&str, &OsStr)]) -> Output {
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new(program);
    command.env(WORD, word).envs(variables.iter().copied());
    command.output().expect("this program can be run")
}

/// The same, of a run that has to succeed; what it has written.
///
/// # Panics
/// If it cannot be run, or fails.
pub fn inside(word: &str, variables: &[(&str, &OsStr)]) -> String {
    let output = run(word, variables);
    assert!(output.status.success(), "{word}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Tries every act under this table, and writes how each ended. What is denied is answered, even where it kills
/// otherwise, so that one process can try everything.
///
/// # Panics
/// If the table cannot be applied.
pub fn try_all(profile: Profile) -> Applied {
    tried_in(apply(&Profile { on_denied: Denied::Errno, ..profile }).expect("the jail"))
}

/// The same under a table that narrows another.
///
/// # Panics
/// If one of them cannot be applied.
pub fn try_all_narrowed(wide: &Profile, narrow: &Profile) -> Applied {
    apply(wide).expect("the jail");
    tried_in(tighten(narrow).expect("the narrower jail"))
}

fn tried_in(applied: Applied) -> Applied {
    let mut output = io::stdout().lock();
    for act in probe::acts() {
        let errno = act.attempt().err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        writeln!(output, "{}\t{errno}", act.name()).expect("somebody reads");
    }
    applied
}

/// Tries one act under a table that kills for it.
///
/// # Panics
/// If it does not kill, or there is no such act.
pub fn try_one(name: &str, profile: &Profile) {
    assert_eq!(profile.on_denied, Denied::Kill);
    let act = probe::acts().find(|act| act.name() == name).expect("the name of an act");
    apply(profile).expect("the jail");
    let _ = act.attempt();
}

/// The acts that were not denied, of what [`try_all`] has written.
///
/// # Panics
/// If an act was not tried.
pub fn possible(written: &str) -> Vec<&str> {
    let acts: Vec<_> = written.lines().filter_map(|line| line.split_once('\t')).collect();
    assert_eq!(acts.len(), probe::acts().count(), "{written}");
    let is_denied = |errno: &str| DENIALS.contains(&errno.parse().expect("a number"));
    acts.into_iter().filter(|(_, errno)| !is_denied(errno)).map(|(act, _)| act).collect()
}

/// True if a run has ended as [`try_one`] ends.
pub fn was_killed(output: &Output) -> bool {
    output.status.signal() == Some(SIGSYS)
}

/// True if this is how a denied call ends.
pub fn is_denial(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| DENIALS.contains(&errno))
}
