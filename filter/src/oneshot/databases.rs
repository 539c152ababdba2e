//! Databases that rules have described become a setting: whoever asks them knows the configuration and no rules.

use vsmtp_config::{Database, Value};

/// The setting, in the tree.
const KEY: &str = "filter.databases";

/// Adds the databases that are not there yet, under names that no other has.
pub(super) fn add(tree: &mut Value, described: &[Database]) {
    let mut rows = match tree.at(KEY) {
        Some(Value::Map(rows)) => rows.clone(),
        _ => Default::default(),
    };
    let known: Vec<Database> = rows.values().filter_map(|row| Database::read(row).ok()).collect();
    let mut number = 0;
    for database in described.iter().filter(|database| !known.contains(database)) {
        let name = loop {
            number += 1;
            let name = format!("declared by rules, {number}");
            if !rows.contains_key(&name) {
                break name;
            }
        };
        rows.insert(name, database.write());
    }
    if !rows.is_empty() {
        tree.set(KEY, Value::Map(rows));
    }
}
