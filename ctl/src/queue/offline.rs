//! Reading a spool while nothing runs. The queue-manager's program does it, because only it knows the format; this tool
//! passes the command on and never opens the spool.

use std::ffi::OsString;
use std::io;
use std::process::{Command, Stdio};

use crate::arguments::QueueCommand;
use crate::failure::Failure;
use crate::output::Output;
use crate::place::program;

/// The words for `vsmtp-queue`, if the command reads a spool directly.
pub fn of(command: &QueueCommand) -> Option<Vec<OsString>> {
    let words: Vec<OsString> = match command {
        QueueCommand::List { state, limit, spool: Some(spool) } => {
            let mut words = vec!["--spool".into(), spool.into(), "list".into()];
            if let Some(state) = state {
                words.extend(["--state".into(), super::word((*state).into()).into()]);
            }
            if let Some(limit) = limit {
                words.extend(["--limit".into(), limit.to_string().into()]);
            }
            words
        }
        QueueCommand::Cat { id, spool: Some(spool) } => {
            vec!["--spool".into(), spool.into(), "cat".into(), id.to_string().into()]
        }
        QueueCommand::Export { spool, to } => {
            vec!["--spool".into(), spool.into(), "export".into(), to.into()]
        }
        QueueCommand::Verify { spool } => vec!["--spool".into(), spool.into(), "verify".into()],
        _ => return None,
    };
    Some(words)
}

/// Runs `vsmtp-queue` and passes on what it prints.
pub fn run(words: Vec<OsString>, out: &mut Output<'_>) -> Result<(), Failure> {
    let path = program("vsmtp-queue");
    let mut child = Command::new(&path)
        .args(words)
        .args(out.is_json().then_some("--json"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::NotRunning(format!("cannot start {}: {error}", path.display())))?;
    let copied = match child.stdout.take() {
        Some(mut stdout) => io::copy(&mut stdout, out.raw()).map(|_| ()),
        None => Ok(()),
    };
    let status = child.wait()?;
    copied?;
    if status.success() { Ok(()) } else { Err(Failure::Refused(format!("vsmtp-queue: {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::StateWord;

    #[test]
    fn only_commands_with_a_spool_are_passed_on() {
        let list = |spool: Option<&str>| QueueCommand::List {
            state: spool.map(|_| StateWord::Held),
            limit: spool.map(|_| 7),
            spool: spool.map(Into::into),
        };
        assert_eq!(of(&list(None)), None);
        assert_eq!(
            of(&list(Some("/s"))).unwrap(),
            ["--spool", "/s", "list", "--state", "held", "--limit", "7"]
        );
        let verify = QueueCommand::Verify { spool: "/s".into() };
        assert_eq!(of(&verify).unwrap(), ["--spool", "/s", "verify"]);
    }
}
