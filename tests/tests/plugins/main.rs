//! Native plugins, from outside: the examples at work, and plugins that do what they should not. A plugin may spoil the
//! transactions that its process has under way, and nothing else.

mod examples;
mod files;
mod hostile;

use std::fs;
use std::process::{Command, Output, Stdio};

use vsmtp_tests::{Mta, Settings, binary};

/// An MTA with these rules that does not run yet, with a folder of services.
fn site(filter: &str, config: &str) -> Mta {
    let mta = Mta::prepare(&Settings { filter: filter.to_owned(), config: config.to_owned() });
    fs::create_dir_all(mta.root().join("etc/vsmtp/services")).expect("make a folder");
    mta
}

/// Writes a file of the configuration.
fn write(mta: &Mta, name: &str, text: &str) {
    fs::write(mta.root().join("etc/vsmtp").join(name), text).expect("write a script");
}

/// What the master says of the configuration; it starts nothing.
fn check(mta: &Mta) -> (bool, String) {
    let mut command = Command::new(binary("vsmtp"));
    command.arg("--root").arg(mta.root()).arg("check").stdin(Stdio::null());
    said(&command.output().expect("run vsmtp"))
}

fn said(output: &Output) -> (bool, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
