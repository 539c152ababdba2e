//! The configuration of vSL 1.x, in TOML: the same tree as a script makes. What the file leaves out is at its default; a
//! table that it has in part is completed. It computes nothing and imports nothing.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use vsmtp_config::{MAX_DEPTH, Value};

use super::places::KeyPlaces;
use crate::engine::{Location, ScriptError};

/// Reads a file; `name` stands for it in messages.
pub(super) fn read(name: &str, text: &str, defaults: &Value) -> Result<(Value, KeyPlaces), ScriptError> {
    let file = File { name, text };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        ScriptError::at(file.location(at), error.message().to_owned())
    })?;
    let mut places = KeyPlaces::default();
    let mut said = file.table(table.get_ref(), &mut Vec::new(), &mut places)?;
    adapt(&mut said);
    Ok((completed(said, defaults), places))
}

/// Values that are written in another way now.
fn adapt(said: &mut Value) {
    // A table of levels by part of the program. Its parts are no more; its default is the level of all.
    if let Some(Value::Map(levels)) = said.at("server.logs.level").cloned() {
        let level = levels.get("default").cloned().unwrap_or(Value::Null);
        said.set("server.logs.level", level);
    }
    if let Some(Value::Text(level)) = said.at("server.tls.security_level").cloned() {
        let level = level.to_ascii_lowercase();
        said.set("server.tls.security_level", if level == "none" { Value::Null } else { Value::Text(level) });
    }
}

struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    /// The place of an octet.
    fn location(&self, at: usize) -> Location {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Location { file: self.name.to_owned(), line: before.matches('\n').count() + 1, column }
    }

    fn table(
        &self,
        table: &DeTable<'_>,
        path: &mut Vec<String>,
        places: &mut KeyPlaces,
    ) -> Result<Value, ScriptError> {
        let mut out = BTreeMap::new();
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            places.record(&path.join("."), self.location(key.span().start));
            out.insert(key.get_ref().to_string(), self.value(value, path, places)?);
            path.pop();
        }
        Ok(Value::Map(out))
    }

    fn value(
        &self,
        value: &Spanned<DeValue<'_>>,
        path: &mut Vec<String>,
        places: &mut KeyPlaces,
    ) -> Result<Value, ScriptError> {
        let fail = |message: &str| {
            Err(ScriptError::at(self.location(value.span().start), format!("{}: {message}", path.join("."))))
        };
        if path.len() > MAX_DEPTH {
            return fail("tables are nested too deeply");
        }
        Ok(match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(flag) => Value::Bool(*flag),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Int(number),
                Err(_) => return fail("the number is out of range"),
            },
            DeValue::Float(number) => Value::Other(format!("the number {}", number.as_str())),
            DeValue::Datetime(_) => Value::Other("a date".to_owned()),
            DeValue::Array(items) => {
                let mut out = Vec::new();
                for item in items {
                    path.push(String::new());
                    let item = self.value(item, path, places);
                    path.pop();
                    out.push(item?);
                }
                Value::List(out)
            }
            DeValue::Table(table) => self.table(table, path, places)?,
        })
    }
}

/// What the file says, and beside it the defaults.
fn completed(said: Value, defaults: &Value) -> Value {
    match (said, defaults) {
        (Value::Map(mut said), Value::Map(defaults)) => {
            for (name, default) in defaults {
                let value = match said.remove(name) {
                    Some(own) => completed(own, default),
                    None => default.clone(),
                };
                said.insert(name.clone(), value);
            }
            Value::Map(said)
        }
        (said, _) => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Value {
        let mut tree = Value::map();
        tree.set("server.name", Value::Text("localhost".into()));
        tree.set("server.smtp.rcpt_count_max", Value::Int(1000));
        tree
    }

    #[test]
    fn a_file_becomes_the_tree_that_a_script_would_make() {
        let text = "version_requirement = \">=1.3.0, <2.0.0\"\n\n[server]\ndomain = 'mx.test'\nclient_count_max = 0x10\n\
                    [server.interfaces]\naddr = [\"127.0.0.1:25\"]\n[server.virtual.\"example.com\"]\ntls.certificate = \"a.pem\"\n";
        let (tree, places) = read("vsmtp.toml", text, &defaults()).unwrap();
        assert_eq!(tree.at("server.domain"), Some(&Value::Text("mx.test".into())));
        assert_eq!(tree.at("server.client_count_max"), Some(&Value::Int(16)));
        assert_eq!(tree.at("server.name"), Some(&Value::Text("localhost".into())));
        assert_eq!(tree.at("server.smtp.rcpt_count_max"), Some(&Value::Int(1000)));
        assert_eq!(
            tree.at("server.interfaces.addr"),
            Some(&Value::List(vec![Value::Text("127.0.0.1:25".into())]))
        );
        let place = |key: &str| places.locate(key).map(ToString::to_string).unwrap_or_default();
        assert_eq!(place("server.domain"), "vsmtp.toml:4:1");
        assert_eq!(place("server.interfaces.addr"), "vsmtp.toml:7:1");
        assert_eq!(place("server.virtual.example.com.tls.certificate"), "vsmtp.toml:9:5");
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        for (text, place, words) in [
            ("[server]\nname = ", "vsmtp.toml:2:", ""),
            ("[server]\nname = \"a\"\nname = \"b\"", "vsmtp.toml:3:1", "duplicate"),
            ("a = 99999999999999999999", "vsmtp.toml:1:5", "out of range"),
            ("\n\n[[", "vsmtp.toml:3:", ""),
        ] {
            let error = read("vsmtp.toml", text, &defaults()).unwrap_err().to_string();
            assert!(error.starts_with(place) && error.contains(words), "{text}: {error}");
        }
        let deep = format!("a = {}1{}", "[".repeat(60), "]".repeat(60));
        assert!(read("vsmtp.toml", &deep, &defaults()).is_err());
        let (tree, _) = read("vsmtp.toml", "a = 1.5\nb = 2020-01-01", &defaults()).unwrap();
        assert!(
            matches!(tree.at("a"), Some(Value::Other(_))) && matches!(tree.at("b"), Some(Value::Other(_)))
        );
    }
}
