//! Reading a spool while nothing runs. The queue-manager's program does it, because only it knows the format; this tool
//! passes the command on and never opens the spool.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::arguments::QueueCommand;
use crate::failure::Failure;
use crate::output::Output;
use crate::place::program;

/// The words for `vsmtp-queue`, if a spool is to be read directly.
pub fn of(command: &QueueCommand, spool: Option<&Path>) -> Result<Option<Vec<OsString>>, Failure> {
    let Some(spool) = spool else {
        return match command {
            QueueCommand::Export { .. } | QueueCommand::Verify => {
                Err(Failure::Usage("export and verify read a spool directly and need --spool DIR".to_owned()))
            }
            _ => Ok(None),
        };
    };
    let mut words: Vec<OsString> = vec!["--spool".into(), spool.into()];
    match command {
        QueueCommand::List { state, limit } => {
            words.push("list".into());
            if let Some(state) = state {
                words.extend(["--state".into(), super::word((*state).into()).into()]);
            }
            if let Some(limit) = limit {
                words.extend(["--limit".into(), limit.to_string().into()]);
            }
        }
        QueueCommand::Cat { id } => words.extend(["cat".into(), id.to_string().into()]),
        QueueCommand::Export { to } => words.extend(["export".into(), to.into()]),
        QueueCommand::Verify => words.push("verify".into()),
        _ => {
            let text = "only list, cat, export and verify read a spool directly (--spool); the others ask a vsmtp that runs";
            return Err(Failure::Usage(text.to_owned()));
        }
    }
    Ok(Some(words))
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
        let list = QueueCommand::List { state: Some(StateWord::Held), limit: Some(7) };
        assert_eq!(of(&list, None).unwrap(), None);
        let spool = Some(Path::new("/s"));
        assert_eq!(
            of(&list, spool).unwrap().unwrap(),
            ["--spool", "/s", "list", "--state", "held", "--limit", "7"]
        );
        assert_eq!(of(&QueueCommand::Verify, spool).unwrap().unwrap(), ["--spool", "/s", "verify"]);
        // Neither is the spool forgotten that was named, nor is one read that was not.
        for (command, spool) in [(QueueCommand::Stats, spool), (QueueCommand::Verify, None)] {
            assert_eq!(of(&command, spool).unwrap_err().status(), 64, "{command:?}");
        }
    }
}
