//! The command line of a look at a spool. `vsmtpctl` writes it, and operators in need do.

use std::ffi::OsString;
use std::path::PathBuf;

use vsmtp_ipc::edge::ctl_queue::State;
use vsmtp_mail::{QueueId, escape_text};

/// What is said about a wrong command line.
pub const USAGE: &str = "usage: vsmtp-queue --spool DIR \
     list [--state STATE] [--limit N] | cat ID | export TO | verify, each with [--json]";

/// The states and their words, those of `vsmtpctl`.
const STATES: [(State, &str); 6] = [
    (State::Active, "active"),
    (State::Deferred, "deferred"),
    (State::Held, "held"),
    (State::Quarantined, "quarantined"),
    (State::Dead, "dead"),
    (State::Delegated, "delegated"),
];

/// What to do with which spool.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The folder that holds `segments`.
    pub spool: PathBuf,
    /// For programs.
    pub json: bool,
    /// What to do.
    pub command: Command,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Print one line per message.
    List {
        /// Only those.
        state: Option<State>,
        /// At most so many.
        limit: u64,
    },
    /// Print the octets of a message.
    Cat(QueueId),
    /// Write messages as files into this folder.
    Export(PathBuf),
    /// Check everything.
    Verify,
}

/// The word for a state.
pub fn word(state: State) -> &'static str {
    STATES.iter().find(|(one, _)| *one == state).map_or("unknown", |(_, word)| word)
}

/// None if the arguments are not about a spool: they are the daemon's.
pub fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Option<Call>, String> {
    match arguments.next() {
        Some(first) if first == "--spool" => {}
        _ => return Ok(None),
    }
    let spool = PathBuf::from(arguments.next().ok_or("--spool needs a folder")?);
    let (mut json, mut state, mut limit, mut words) = (false, None, None, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = |name: &str| {
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            value.into_string().map_err(|_| format!("{name}: not UTF-8"))
        };
        match argument.to_str() {
            Some("--json") => json = true,
            Some("--state") => state = Some(state_of(&value("--state")?)?),
            Some("--limit") => {
                limit = Some(value("--limit")?.parse::<u64>().map_err(|error| format!("--limit: {error}"))?);
            }
            Some(option) if option.starts_with("--") => {
                return Err(format!("{}: no such option", escape_text(option)));
            }
            _ => words.push(argument),
        }
    }
    let narrowed = state.is_some() || limit.is_some();
    let command = command(words, state, limit)?;
    if narrowed && !matches!(command, Command::List { .. }) {
        return Err("--state and --limit belong to list".to_owned());
    }
    Ok(Some(Call { spool, json, command }))
}

fn command(words: Vec<OsString>, state: Option<State>, limit: Option<u64>) -> Result<Command, String> {
    let mut words = words.into_iter();
    let name = words.next().ok_or("what is to be done with the spool?")?;
    let mut operand = |what: &str| words.next().ok_or(format!("{what} is missing"));
    let command = match name.to_str() {
        Some("list") => Command::List { state, limit: limit.unwrap_or(u64::MAX) },
        Some("cat") => Command::Cat(id(&operand("the message's id")?)?),
        Some("export") => Command::Export(operand("the folder to write to")?.into()),
        Some("verify") => Command::Verify,
        _ => return Err(format!("{}: no such command", escape_text(&name.to_string_lossy()))),
    };
    match words.next() {
        Some(more) => Err(format!("{}: one too many", escape_text(&more.to_string_lossy()))),
        None => Ok(command),
    }
}

fn id(word: &OsString) -> Result<QueueId, String> {
    let word = word.to_string_lossy();
    QueueId::parse(&word).map_err(|error| format!("{}: {error}", escape_text(&word)))
}

fn state_of(word: &str) -> Result<State, String> {
    let found = STATES.iter().find(|(_, known)| *known == word);
    found.map(|(state, _)| *state).ok_or(format!("{}: no such state", escape_text(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Call>, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn command(line: &str) -> Command {
        parsed(&format!("--spool /s {line}")).unwrap().unwrap().command
    }

    #[test]
    fn the_daemon_keeps_its_own_arguments() {
        assert_eq!(parsed(""), Ok(None));
        assert_eq!(parsed("--role x --spool /s"), Ok(None));
    }

    #[test]
    fn commands_and_options_come_in_any_order() {
        let id = "0".repeat(26);
        assert_eq!(command(&format!("cat {id} --json")), Command::Cat(QueueId::parse(&id).unwrap()));
        assert_eq!(command("--json verify"), Command::Verify);
        assert_eq!(command("export /to"), Command::Export("/to".into()));
        let held = Command::List { state: Some(State::Held), limit: 7 };
        assert_eq!(command("list --limit 7 --state held"), held);
        assert_eq!(command("list"), Command::List { state: None, limit: u64::MAX });
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--spool",
            "--spool /s",
            "--spool /s erase",
            "--spool /s cat",
            "--spool /s cat x",
            "--spool /s list --state x",
            "--spool /s list --limit -1",
            "--spool /s list --limit",
            "--spool /s list --force",
            "--spool /s verify --state held",
            "--spool /s export a b",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
