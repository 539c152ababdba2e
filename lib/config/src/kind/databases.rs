//! Databases of rules, by names that are for rules and for people.

use std::collections::BTreeMap;

use super::Kind;
use super::list::rows;
use crate::database::{Database, MAX_CONNECTIONS, MAX_DATABASES, described};
use crate::value::Value;

/// Databases with their names.
#[derive(Debug)]
pub(crate) struct Databases;

impl Kind for Databases {
    type Out = Vec<(String, Database)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        if let Value::Text(_) = value {
            return Err(described(value));
        }
        let rows = rows(value, |name, value, _| {
            let shown = || described(&Value::Text(name.to_owned()));
            let database = Database::read(value).map_err(|found| format!("{found} for {}", shown()))?;
            Ok((name.to_owned(), database))
        })?;
        if rows.len() > MAX_DATABASES {
            return Err(format!("{} databases (at most {MAX_DATABASES})", rows.len()));
        }
        let connections: usize = rows.iter().map(|(_, database)| database.connections as usize).sum();
        if connections > MAX_CONNECTIONS {
            return Err(format!("{connections} connections to all databases (at most {MAX_CONNECTIONS})"));
        }
        for (at, (_, one)) in rows.iter().enumerate() {
            if rows[..at].iter().any(|(_, other)| other.looks_like(one) && other != one) {
                return Err(format!("two databases {} that differ in their passwords", one.url));
            }
        }
        Ok(rows)
    }

    fn write(&self, out: &Self::Out) -> Value {
        let row = |(name, database): &(String, Database)| (name.clone(), database.write());
        Value::Map(out.iter().map(row).collect::<BTreeMap<_, _>>())
    }

    fn expected(&self) -> String {
        "a map of names, each with a map such as #{url: \"mysql://mail:secret@db.example.com/mail\", timeout: \"10s\", connections: 4}"
            .to_owned()
    }

    /// Without passwords.
    fn shown(&self, value: &Value) -> String {
        let Ok(rows) = self.read(value) else { return "?".to_owned() };
        let row = |(name, database): (String, Database)| (name, database.write_shown());
        super::plain(&Value::Map(rows.into_iter().map(row).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(urls: &[(&str, i64)]) -> Value {
        let row = |(at, (url, connections)): (usize, &(&str, i64))| {
            let parts = [("url", Value::Text((*url).to_owned())), ("connections", Value::Int(*connections))];
            let parts = parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            (format!("db{at}"), Value::Map(parts))
        };
        Value::Map(urls.iter().enumerate().map(row).collect())
    }

    #[test]
    fn what_is_shown_has_no_password() {
        let value = rows(&[("mysql://mail:secret@db/mail", 4)]);
        assert!(!Databases.shown(&value).contains("secret"));
        assert!(Databases.shown(&value).contains("mysql://mail@db:3306/mail"));
        // Also where a URL stands in the place of something else.
        let url = Value::Text("mysql://mail:secret@db/mail".to_owned());
        let Value::Text(text) = url.clone() else { panic!("it is a text") };
        for wrong in [
            url.clone(),
            Value::Map([("accounts".to_owned(), url)].into()),
            Value::Map([(text, Value::map())].into()),
        ] {
            let error = Databases.read(&wrong).unwrap_err();
            assert!(error.contains("a URL") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn databases_are_told_apart_and_not_too_many() {
        assert_eq!(Databases.read(&rows(&[("mysql://a@db/x", 4), ("mysql://a@db/y", 4)])).unwrap().len(), 2);
        let same = Databases.read(&rows(&[("mysql://a:1@db/x", 4), ("mysql://a:2@db/x", 4)])).unwrap_err();
        assert!(same.contains("differ in their passwords"), "{same}");
        let many = Databases.read(&rows(&[("mysql://a@db/x", 64); 5])).unwrap_err();
        assert!(many.contains("320 connections"), "{many}");
    }
}
