//! Commands that rules may run: what one is, and how it is written, in the configuration and in rules alike.

use std::collections::BTreeMap;
use std::time::Duration;

use bincode::{Decode, Encode};

use crate::kind::{Flag, Kind, MINUTE, Period, SECOND};
use crate::value::Value;

/// Most arguments of one command.
pub const MAX_ARGUMENTS: usize = 256;
/// Most octets of one argument, and of the name of a program. The kernel takes 128 KiB.
pub const MAX_ARGUMENT: usize = 100_000;
/// Most octets of all arguments of one command together.
pub const MAX_ARGUMENTS_BYTES: usize = 1 << 20;
/// The user that commands run as.
pub const COMMAND_USER: &str = "vsmtp-runner";

/// The names of a command's parts.
const PARTS: [&str; 6] = ["command", "args", "timeout", "user", "group", "fixed"];
/// At most what the rules of a stage may take.
const TIMEOUT: Period = Period { min: 1, max: 5 * MINUTE };
/// Where none is named, in milliseconds: less than rules may take by default, so that they see that it was over.
const DEFAULT_TIMEOUT: u64 = 20 * SECOND;

/// A program that rules may run.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Command {
    /// An absolute path, or a name that is looked for in the usual places.
    pub program: String,
    /// Its arguments, where the rule gives none.
    pub arguments: Vec<String>,
    /// It is ended after this time.
    pub timeout: Duration,
    /// Rules cannot give it other arguments.
    pub fixed: bool,
}

impl Command {
    /// Reads the map of a command.
    ///
    /// # Errors
    /// What is wrong with it, as it follows "found" in a message.
    pub fn read(value: &Value) -> Result<Self, String> {
        let Value::Map(map) = value else { return Err(value.describe()) };
        if let Some(name) = map.keys().find(|name| !PARTS.contains(&name.as_str())) {
            return Err(format!("the part {}", Value::Text(name.clone()).describe()));
        }
        let part = |name: &str| map.get(name).filter(|value| **value != Value::Null);
        let wrong = |name: &str, what: String| format!("{what} as {name}");
        for name in ["user", "group"] {
            if let Some(value) = part(name).filter(|value| **value != Value::Text(COMMAND_USER.to_owned())) {
                let what = value.describe();
                return Err(format!(
                    "{what} as {name}, but commands run as the user and group {COMMAND_USER}"
                ));
            }
        }
        let program = match part("command") {
            Some(Value::Text(program)) if is_program(program) => program.clone(),
            Some(value) => return Err(wrong("command", value.describe())),
            None => return Err("no command".to_owned()),
        };
        let arguments = part("args").map_or(Ok(Vec::new()), arguments);
        let arguments = arguments.map_err(|what| wrong("args", what))?;
        let timeout = part("timeout").map_or(Ok(Duration::from_millis(DEFAULT_TIMEOUT)), |value| {
            TIMEOUT.read(value).map_err(|what| wrong("timeout", what))
        })?;
        let fixed = part("fixed").map_or(Ok(false), |value| Flag.read(value));
        Ok(Command { program, arguments, timeout, fixed: fixed.map_err(|what| wrong("fixed", what))? })
    }

    /// The map, with all parts.
    pub fn write(&self) -> Value {
        let arguments = self.arguments.iter().cloned().map(Value::Text).collect();
        Value::Map(BTreeMap::from([
            ("command".to_owned(), Value::Text(self.program.clone())),
            ("args".to_owned(), Value::List(arguments)),
            ("timeout".to_owned(), TIMEOUT.write(&self.timeout)),
            ("fixed".to_owned(), Value::Bool(self.fixed)),
        ]))
    }
}

/// An absolute path, or a name without a path.
fn is_program(text: &str) -> bool {
    let is_name = !text.is_empty() && !text.contains('/') && text != "." && text != "..";
    (is_name || text.starts_with('/')) && text.len() <= MAX_ARGUMENT && !text.contains('\0')
}

/// True if these can be the arguments of a command.
pub fn are_arguments<T: AsRef<str>>(arguments: &[T]) -> bool {
    let lens = arguments.iter().map(|argument| argument.as_ref().len());
    arguments.len() <= MAX_ARGUMENTS
        && arguments.iter().all(|text| text.as_ref().len() <= MAX_ARGUMENT && !text.as_ref().contains('\0'))
        && lens.sum::<usize>() <= MAX_ARGUMENTS_BYTES
}

fn arguments(value: &Value) -> Result<Vec<String>, String> {
    let list = match value {
        Value::Text(_) => std::slice::from_ref(value),
        Value::List(list) => list.as_slice(),
        other => return Err(other.describe()),
    };
    let argument = |value: &Value| match value {
        Value::Text(text) => Ok(text.clone()),
        other => Err(other.describe()),
    };
    let arguments: Vec<String> = list.iter().map(argument).collect::<Result<_, _>>()?;
    if are_arguments(&arguments) { Ok(arguments) } else { Err("too many, too long, or a NUL".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn read(parts: &[(&str, Value)]) -> Result<Command, String> {
        Command::read(&Value::Map(
            parts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        ))
    }

    #[test]
    fn a_command_reads_back_what_it_writes() {
        let all = [
            ("command", text("/usr/bin/scan")),
            ("args", Value::List(vec![text("-"), text("a b")])),
            ("timeout", text("10s")),
            ("user", text("vsmtp-runner")),
            ("group", Value::Null),
            ("fixed", Value::Bool(true)),
        ];
        let command = read(&all).unwrap();
        let expected = Command {
            program: "/usr/bin/scan".to_owned(),
            arguments: vec!["-".to_owned(), "a b".to_owned()],
            timeout: Duration::from_secs(10),
            fixed: true,
        };
        assert_eq!(command, expected);
        assert_eq!(Command::read(&command.write()), Ok(command));
        let least = read(&[("command", text("echo")), ("args", text("one"))]).unwrap();
        assert_eq!((least.arguments.len(), least.timeout, least.fixed), (1, Duration::from_secs(20), false));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let command = ("command", text("echo"));
        for (parts, found) in [
            (vec![], "no command"),
            (vec![("command", text("./echo"))], "\"./echo\" as command"),
            (vec![("command", text(""))], "\"\" as command"),
            (vec![("command", text(".."))], "\"..\" as command"),
            (vec![command.clone(), ("args", Value::Int(1))], "1 as args"),
            (vec![command.clone(), ("args", Value::List(vec![Value::Int(1)]))], "1 as args"),
            (vec![command.clone(), ("args", text("a\0"))], "too many, too long, or a NUL as args"),
            (vec![command.clone(), ("timeout", text("1 day"))], "\"1 day\" as timeout"),
            (vec![command.clone(), ("timeout", text("6m"))], "\"6m\" as timeout"),
            (vec![command.clone(), ("shell", Value::Bool(true))], "the part \"shell\""),
            (
                vec![command, ("user", text("root"))],
                "\"root\" as user, but commands run as the user and group vsmtp-runner",
            ),
        ] {
            assert_eq!(read(&parts), Err(found.to_owned()));
        }
        assert_eq!(Command::read(&text("echo")), Err("\"echo\"".to_owned()));
        assert!(!are_arguments(&vec!["a"; MAX_ARGUMENTS + 1]));
        assert!(!are_arguments(&["a".repeat(MAX_ARGUMENT + 1)]));
        assert!(!are_arguments(&vec!["a".repeat(MAX_ARGUMENT); 11]));
    }
}
