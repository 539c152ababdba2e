//! What an operator does: checks, starts, reloads, stops, looks at the queue and changes it, reads logs and reports.

mod logs;
mod next_hops;
mod processes;
mod queue;
mod reports;
mod rules;
mod settings;

use std::process::{Child, Command, ExitStatus, Output, Stdio};

use vsmtp_tests::{Mta, Settings, Sink, binary, signal, wait_until};

/// An MTA that relays to the sink, with more lines of `on_config`.
fn relaying_to(sink: &Sink, config: &str) -> Mta {
    let relay = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port());
    Mta::start(&Settings { config: format!("{relay}\n{config}"), ..Settings::default() })
}

/// What vsmtpctl prints, as text; panics unless it succeeds.
fn ctl(mta: &Mta, words: &[&str]) -> String {
    let output = mta.ctl(words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "vsmtpctl {words:?}: {said}");
    String::from_utf8(output.stdout).expect("vsmtpctl prints UTF-8")
}

/// What vsmtpctl complains about, and its exit status.
fn refused(mta: &Mta, words: &[&str]) -> (i32, String) {
    let output = mta.ctl(words);
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs the master's own program on the root of an MTA.
fn vsmtp(mta: &Mta, action: &str) -> Output {
    let mut command = Command::new(binary("vsmtp"));
    command.arg("--root").arg(mta.root()).arg(action).stdin(Stdio::null());
    command.output().expect("run vsmtp")
}

/// Stops a master that a test has started itself, also when the test fails.
struct Term(u32);

impl Drop for Term {
    fn drop(&mut self) {
        signal(&[self.0], "TERM");
    }
}

/// How a master ended that was told to stop.
fn ended(master: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until("vsmtp has stopped", || {
        status = master.try_wait().expect("wait for vsmtp");
        status.is_some()
    });
    status.expect("it has stopped")
}
