//! Programs of other people, which a test talks to. None runs longer than its bound.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Longest run of a program, in seconds.
const BOUND: &str = "120";
/// Where Debian has its programs; some are not in every user's PATH.
const PLACES: &str = "/usr/bin:/usr/sbin:/bin:/sbin";

/// For tests that need programs: says by name that the test is skipped. In CI, where tests/prepare has installed them,
/// that is a failure.
pub fn needs_programs(test: &str, programs: &[&str]) -> bool {
    let has = |name: &&&str| {
        let found =
            Command::new("sh").args(["-c", &format!("command -v {name}")]).env("PATH", PLACES).output();
        !found.is_ok_and(|output| output.status.success())
    };
    let missing: Vec<&&str> = programs.iter().filter(has).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{test} needs {missing:?}, and CI must not skip it");
    let _ = writeln!(std::io::stderr(), "skipped, needs {missing:?}: {test}");
    false
}

/// A program with a bound on its time and a plain environment, not started yet.
pub fn program(name: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(BOUND).arg(name);
    command.env("PATH", PLACES).env("LC_ALL", "C.UTF-8").env("TZ", "UTC").stdin(Stdio::null());
    command
}

/// Runs a program to its end.
pub fn run(name: &str, arguments: &[impl AsRef<OsStr>]) -> Output {
    program(name).args(arguments).output().unwrap_or_else(|error| panic!("run {name}: {error}"))
}

/// Runs a program with this on its standard input.
pub fn run_with_input(name: &str, arguments: &[impl AsRef<OsStr>], input: &[u8]) -> Output {
    let mut command = program(name);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("run {name}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe to the program");
    let input = input.to_owned();
    // It may not read all of it; what it says then tells why.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("wait for {name}: {error}"));
    let _ = writer.join();
    output
}

/// Runs a Python script. Its arguments are in `sys.argv[1:]`.
pub fn python(script: &str, arguments: &[&str]) -> Output {
    run("python3", &[&["-c", script], arguments].concat())
}

/// All that a program said; panics unless it succeeded.
pub fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{}: {text}", output.status);
    text
}
