//! Commands that rules have declared become a setting: the runner knows the configuration and no rules.

use vsmtp_config::{Command, Value};

/// The setting, in the tree.
const KEY: &str = "filter.commands";

/// Adds the commands that are not there yet, under names that no other has.
pub(super) fn add(tree: &mut Value, declared: &[Command]) {
    let mut rows = match tree.at(KEY) {
        Some(Value::Map(rows)) => rows.clone(),
        _ => Default::default(),
    };
    let known: Vec<Command> = rows.values().filter_map(|row| Command::read(row).ok()).collect();
    let mut number = 0;
    for command in declared.iter().filter(|command| !known.contains(command)) {
        let name = loop {
            number += 1;
            let name = format!("declared by rules, {number}");
            if !rows.contains_key(&name) {
                break name;
            }
        };
        rows.insert(name, command.write());
    }
    if !rows.is_empty() {
        tree.set(KEY, Value::Map(rows));
    }
}
