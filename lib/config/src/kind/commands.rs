//! Commands of rules, by names that are for people.

use std::collections::BTreeMap;

use super::Kind;
use super::list::rows;
use crate::command::Command;
use crate::value::Value;

/// Most commands.
const MAX_COMMANDS: usize = 1000;

/// Commands with their names.
#[derive(Debug)]
pub(crate) struct Commands;

impl Kind for Commands {
    type Out = Vec<(String, Command)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        let rows = rows(value, |name, value, shown| {
            let command = Command::read(value).map_err(|found| format!("{found} for {shown}"))?;
            Ok((name.to_owned(), command))
        })?;
        match rows.len() > MAX_COMMANDS {
            true => Err(format!("{} commands (at most {MAX_COMMANDS})", rows.len())),
            false => Ok(rows),
        }
    }

    fn write(&self, out: &Self::Out) -> Value {
        let row = |(name, command): &(String, Command)| (name.clone(), command.write());
        Value::Map(out.iter().map(row).collect::<BTreeMap<_, _>>())
    }

    fn expected(&self) -> String {
        "a map of names, each with a map such as #{command: \"/usr/bin/clamscan\", args: [\"-\"], timeout: \"10s\"}"
            .to_owned()
    }
}
