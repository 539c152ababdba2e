//! Definition files for the Rhai language server, made from the table of functions: editors complete and document what is
//! registered, and nothing else.

use std::fmt::Write;

use rhai::Engine;

use super::registry::{Form, Function};
use super::{Surroundings, install};
use crate::engine::{self, Limits, Root};

/// Statuses, objects and the like have types that the language server has no words for.
const ANY: &str = "?";

/// Names of files and their texts: one for the globals, one for each module.
pub fn definitions() -> Vec<(String, String)> {
    let mut engine: Engine = engine::bare(&Root::none(), &Limits::default());
    of_table(&install(&mut engine, &Surroundings::default()))
}

/// The same of a table.
pub fn of_table(table: &[Function]) -> Vec<(String, String)> {
    let mut modules: Vec<&str> = table.iter().map(|row| row.module).collect();
    modules.sort_unstable();
    modules.dedup();
    let mut files = Vec::new();
    for module in modules {
        let mut text = match module {
            "" => "module static;\n".to_owned(),
            name => format!("module {name};\n"),
        };
        let mut rows: Vec<&Function> = table.iter().filter(|row| is_written(row, module)).collect();
        rows.sort_by_key(|row| (row.name, row.arguments));
        for row in rows {
            definition(&mut text, row, row.name);
        }
        if module.is_empty() {
            let mut old: Vec<(&str, &Function)> = table
                .iter()
                .filter(|row| !row.module.is_empty())
                .flat_map(|row| row.global.iter().map(move |name| (*name, row)))
                .collect();
            old.sort_by_key(|(name, row)| (*name, row.arguments));
            old.into_iter().for_each(|(name, row)| definition(&mut text, row, name));
        }
        let name = if module.is_empty() { "__static__" } else { module };
        files.push((format!("{name}.d.rhai"), text));
    }
    files
}

/// Methods and properties are global: values have no module.
fn is_written(row: &Function, module: &str) -> bool {
    let is_of_values = matches!(row.form, Form::Method | Form::Property);
    match module {
        "" => is_of_values || row.module.is_empty(),
        name => row.module == name && !is_of_values,
    }
}

fn definition(text: &mut String, row: &Function, name: &str) {
    text.push('\n');
    for line in row.doc.text.lines() {
        let _ = writeln!(text, "/// {line}");
    }
    if let Some(stage) = row.from.filter(|stage| *stage != crate::stage::Stage::ALL[0]) {
        let _ = writeln!(text, "///\n/// From the stage `{stage}` on.");
    }
    if !row.doc.errors.is_empty() {
        let _ = writeln!(text, "///\n/// Throws {}.", row.doc.errors);
    }
    let _ = match row.form {
        Form::Constant => writeln!(text, "const {name}: {ANY};"),
        Form::Property => writeln!(text, "fn get {name}(value: {ANY}) -> {ANY};"),
        Form::Method => writeln!(text, "fn {name}({});", parameters(row, true)),
        Form::Function | Form::Alias => writeln!(text, "fn {name}({}) -> {ANY};", parameters(row, false)),
    };
}

/// As the signature names them; numbered where it says nothing.
fn parameters(row: &Function, on_value: bool) -> String {
    let inside = row
        .doc
        .signature
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(inside, _)| inside);
    let named: Vec<String> = inside
        .unwrap_or_default()
        .split(',')
        .filter_map(|one| one.split(':').next())
        .map(|name| name.trim().trim_end_matches('?').to_owned())
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    let own = (0..row.arguments).map(|at| match named.get(at) {
        Some(name) if named.len() == row.arguments => format!("{name}: {ANY}"),
        _ => format!("a{at}: {ANY}"),
    });
    let value = on_value.then(|| format!("value: {ANY}"));
    value.into_iter().chain(own).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::table;
    use super::*;

    #[test]
    fn every_function_under_every_name_is_in_the_definitions() {
        let table = table();
        let files = of_table(&table);
        let text = |module: &str| {
            let name = if module.is_empty() { "__static__" } else { module };
            &files.iter().find(|(file, _)| *file == format!("{name}.d.rhai")).unwrap().1
        };
        for row in &table {
            match row.form {
                Form::Function => {
                    let definition = format!("\nfn {}({})", row.name, parameters(row, false));
                    assert!(text(row.module).contains(&definition), "{definition}");
                    for name in row.global {
                        assert!(text("").contains(&format!("\nfn {name}(")), "{name}");
                    }
                }
                Form::Method => {
                    assert!(text("").contains(&format!("\nfn {}(value: ?", row.name)), "{}", row.name)
                }
                Form::Property => {
                    assert!(text("").contains(&format!("\nfn get {}(", row.name)), "{}", row.name)
                }
                Form::Constant => assert!(text(row.module).contains(&format!("\nconst {}:", row.name))),
                Form::Alias => {}
            }
        }
        assert!(text("ctx").contains("/// HELO or EHLO") || text("ctx").contains("HELO"));
        assert!(text("ctx").starts_with("module ctx;\n"));
    }
}
