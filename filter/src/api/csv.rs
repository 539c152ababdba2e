//! `csv::`: tables in CSV files.

use std::sync::Arc;

use rhai::{Array, Dynamic, ImmutableString, Map};

use super::general::Surroundings;
use super::registry::{Registry, name};
use crate::csv::{Access, Database, Settings};
use crate::database::NoAnswer;
use crate::engine::service_constructor;
use crate::object::{Fault, Object};
use crate::typename;

/// The entries of a table's map.
const ENTRIES: [&str; 4] = ["connector", "access", "refresh", "delimiter"];

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    registry.engine.register_type_with_name::<Arc<Database>>("csv");
    let (folder, databases) = (Arc::clone(&surroundings.folder), Arc::clone(&surroundings.databases));
    let build = move |map: Map| {
        let settings = settings(&map)?;
        Database::open(&settings, &folder, &databases).map(Arc::new)
    };
    registry.constructor(&service_constructor("db:csv"), build.clone());
    let constructor = name("csv", "build", &["csv"])
        .doc("(map) -> csv", "A table in a CSV file (RFC 4180), whose rows are found by their first field. `access: \"O_RDONLY\"` means a file of the configuration, `connector`, which must be there and is only read. `\"O_RDWR\"` (the default) and `\"O_WRONLY\"` mean a file that rules keep: its `connector` is a plain name in the folder `/var/lib/vsmtp/databases`, where it is made when it is first written; at most 4 MiB. `refresh: \"no\"` means that it is read once; `\"always\"`, the default, that changes are seen, those of a file of the configuration within a second. `delimiter` is one character, `,` by default. Make it once, outside rules and functions: a table that rules keep cannot be made elsewhere. `service NAME db:csv = #{ ... }` is the same.")
        .errors("if the map is not that of a table, the file cannot be read, or lies elsewhere, or if a table that rules keep is made in a rule")
        .example("const users = csv::build(#{ connector: \"lists/users.csv\", access: \"O_RDONLY\", delimiter: ',' }); `${users}` == \"csv:lists/users.csv\"");
    registry.free1(constructor, build);
    rows(registry);
    for printer in ["to_string", "to_debug"] {
        registry.engine.register_fn(printer, |table: &mut Arc<Database>| format!("csv:{}", table.name()));
    }
}

fn rows(registry: &mut Registry) {
    let get = name("csv", "get", &[])
        .doc("(key: string) -> array", "The fields of the row that begins with `key`, that among them; an empty array if there is none.")
        .errors("if the access is `O_WRONLY`, or the file cannot be read")
        .example("const users = csv::build(#{ connector: \"lists/users.csv\", access: \"O_RDONLY\" }); users.get(\"jane\") == [\"jane\", \"admin\"] && users.get(\"nobody\").is_empty()");
    registry.method_text_asks(get, |table: &Arc<Database>, key| {
        Ok(table.get(key)?.into_iter().map(Dynamic::from).collect::<Array>())
    });
    let set = name("csv", "set", &[])
        .doc("(row: array)", "Puts a row of strings or objects in the place of the one with the same first field, or after all others. Quotes are added where a field needs them, so no value ends its field or its row.")
        .errors("if the access is `O_RDONLY`, the row has no first field or something else than strings and objects, or the file cannot be written")
        .example("const seen = csv(#{ connector: \"seen.csv\" }); seen.set([\"192.0.2.1\", address(\"a@b.c\")]); seen.get(\"192.0.2.1\")[1] == \"a@b.c\"");
    registry.method_asks(set, |table: &Arc<Database>, row: Array| {
        let row = row.iter().map(text).collect::<Result<_, _>>();
        table.set(row.map_err(NoAnswer::Never)?)
    });
    let remove = name("csv", "rm", &[])
        .doc("(key: string) -> bool", "Removes the rows whose first field is `key`; false if there are none.")
        .errors("if the access is `O_RDONLY`, or the file cannot be written")
        .example("const seen = csv(#{ connector: \"seen.csv\" }); !seen.rm(\"nobody\")");
    registry.method_text_asks(remove, |table: &Arc<Database>, key| table.remove(key));
}

fn text(field: &Dynamic) -> Result<String, Fault> {
    let object = field.read_lock::<Object>().map(|object| object.text().to_string());
    let text = || field.read_lock::<ImmutableString>().map(|text| text.to_string());
    let number = || field.as_int().ok().map(|number| number.to_string());
    object.or_else(text).or_else(number).ok_or_else(|| {
        Fault(format!("a field of a row is a string, a number or an object, not a {}", typename::of(field)))
    })
}

fn settings(map: &Map) -> Result<Settings, Fault> {
    if let Some(name) = map.keys().find(|name| !ENTRIES.contains(&name.as_str())) {
        return Err(Fault(format!("the map of a table has no entry '{name}'")));
    }
    let entry = |name: &str| match map.get(name) {
        None => Ok(None),
        Some(value) => match value.read_lock::<ImmutableString>() {
            Some(text) => Ok(Some(text.to_string())),
            None => value
                .as_char()
                .map(|c| Some(c.to_string()))
                .map_err(|found| Fault(format!("the entry '{name}' of a table is a text, not a {found}"))),
        },
    };
    let connector =
        entry("connector")?.ok_or_else(|| Fault::new("the map of a table needs an entry 'connector'"))?;
    let access = entry("access")?.unwrap_or_else(|| "O_RDWR".to_owned());
    let access = Access::parse(&access).ok_or_else(|| {
        Fault(format!("the access of a table is O_RDONLY, O_WRONLY or O_RDWR, not '{access}'"))
    })?;
    let refresh = match entry("refresh")?.as_deref() {
        None | Some("always") => true,
        Some("no") => false,
        Some(other) => return Err(Fault(format!("the refresh of a table is always or no, not '{other}'"))),
    };
    let delimiter = entry("delimiter")?.unwrap_or_else(|| ",".to_owned());
    let mut characters = delimiter.chars();
    match (characters.next(), characters.next()) {
        (Some(delimiter), None) if !matches!(delimiter, '"' | '\r' | '\n' | '\0') => {
            Ok(Settings { connector, access, refresh, delimiter })
        }
        _ => Err(Fault(format!(
            "the delimiter of a table is one character, not '{}'",
            delimiter.escape_debug()
        ))),
    }
}
