//! Databases that rules ask: what one is, and how it is written, in the configuration and in rules alike. A password is
//! shown to nobody: what is printed of a database is without it.

mod ldap;
mod memcached;
mod place;
mod redis;
mod url;

use std::collections::BTreeMap;
use std::time::Duration;

use bincode::{Decode, Encode};

use crate::kind::{Count, Kind, MINUTE, Period, SECOND};
use crate::value::Value;

pub use ldap::{LdapTls, LdapUrl};
pub use memcached::MemcachedUrl;
pub use place::Place;
pub use redis::RedisUrl;
pub use url::{DatabaseKind, DatabaseUrl, MySqlUrl};

/// Most databases of one configuration.
pub const MAX_DATABASES: usize = 64;
/// Most connections to all of them together; each has a thread.
pub const MAX_CONNECTIONS: usize = 256;

/// The names of a database's parts.
const PARTS: [&str; 5] = ["url", "timeout", "connections", "bind", "tls"];
/// At most what the rules of a stage may take.
const TIMEOUT: Period = Period { min: 1, max: 5 * MINUTE };
/// Where none is named, in milliseconds: less than rules may take by default, so that they see the error.
const DEFAULT_TIMEOUT: u64 = 10 * SECOND;
const CONNECTIONS: Count = Count { min: 1, max: 64 };
const DEFAULT_CONNECTIONS: u32 = 4;

/// A database that rules may ask.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Database {
    /// Where it is, and who we are there.
    pub url: DatabaseUrl,
    /// A question has its answer within this time, or none.
    pub timeout: Duration,
    /// Most questions that are put to it at once.
    pub connections: u32,
}

impl Database {
    /// Reads the map of a database.
    ///
    /// # Errors
    /// What is wrong with it, as it follows "found" in a message; without the URL, in which there may be a password.
    pub fn read(value: &Value) -> Result<Self, String> {
        let Value::Map(map) = value else { return Err(described(value)) };
        if let Some(name) = map.keys().find(|name| !PARTS.contains(&name.as_str())) {
            return Err(format!("the part {}", described(&Value::Text(name.clone()))));
        }
        let part = |name: &str| map.get(name).filter(|value| **value != Value::Null);
        let wrong = |name: &str, what: String| format!("{what} as {name}");
        let url = match part("url") {
            Some(Value::Text(url)) => DatabaseUrl::parse(url).map_err(|what| wrong("url", what))?,
            Some(value) => return Err(wrong("url", described(value))),
            None => return Err("no url".to_owned()),
        };
        let url = match (url, part("bind"), part("tls")) {
            (DatabaseUrl::Ldap(url), bind, tls) => DatabaseUrl::Ldap(url.with(bind, tls)?),
            (url, None, None) => url,
            (_, Some(_), _) => return Err("bind for a URL that is not one of LDAP".to_owned()),
            (_, None, Some(_)) => return Err("tls for a URL that is not one of LDAP".to_owned()),
        };
        let timeout = part("timeout").map_or(Ok(Duration::from_millis(DEFAULT_TIMEOUT)), |value| {
            TIMEOUT.read(value).map_err(|what| wrong("timeout", or_url(value, what)))
        })?;
        let connections = part("connections").map_or(Ok(DEFAULT_CONNECTIONS), |value| {
            CONNECTIONS.read(value).map_err(|what| or_url(value, what))
        });
        let connections = connections.map_err(|what| wrong("connections", what))?;
        Ok(Database { url, timeout, connections })
    }

    /// The map, with all parts, the password among them.
    pub fn write(&self) -> Value {
        self.map(true)
    }

    /// The same without the password, for people.
    pub fn write_shown(&self) -> Value {
        self.map(false)
    }

    fn map(&self, with_password: bool) -> Value {
        let (url, mut parts) = match &self.url {
            DatabaseUrl::Ldap(url) => (url.url(), url.others(with_password)),
            url if with_password => (url.write(), BTreeMap::new()),
            url => (url.to_string(), BTreeMap::new()),
        };
        parts.insert("url".to_owned(), Value::Text(url));
        parts.insert("timeout".to_owned(), TIMEOUT.write(&self.timeout));
        parts.insert("connections".to_owned(), CONNECTIONS.write(&self.connections));
        Value::Map(parts)
    }

    /// True if nobody could tell the two apart but by their passwords.
    pub fn looks_like(&self, other: &Database) -> bool {
        self.shown() == other.shown()
    }

    /// All of it but the password, by which those who hold the database are asked for it.
    pub fn shown(&self) -> (String, Duration, u32) {
        (self.url.to_string(), self.timeout, self.connections)
    }
}

/// What an error message says was found, where a URL may stand in the wrong place: no text in which there may be a password.
pub(crate) fn described(value: &Value) -> String {
    or_url(value, value.describe())
}

fn or_url(value: &Value, what: String) -> String {
    match value {
        Value::Text(text) if text.contains("://") => "a URL".to_owned(),
        _ => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn read(parts: &[(&str, Value)]) -> Result<Database, String> {
        Database::read(&Value::Map(
            parts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        ))
    }

    #[test]
    fn a_database_reads_back_what_it_writes() {
        let all = [
            ("url", text("mysql://mail:s%3Acret@db.example.com/mail")),
            ("timeout", text("30s")),
            ("connections", Value::Int(2)),
        ];
        let database = read(&all).unwrap();
        assert_eq!((database.timeout, database.connections), (Duration::from_secs(30), 2));
        assert_eq!(Database::read(&database.write()), Ok(database));
        let least = read(&[("url", text("mysql://mail@192.0.2.1:3307/mail"))]).unwrap();
        assert_eq!((least.timeout, least.connections), (Duration::from_secs(10), 4));
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is() {
        let url = ("url", text("mysql://mail:secret@db/mail"));
        for (parts, found) in [
            (vec![], "no url"),
            (vec![("url", Value::Int(1))], "1 as url"),
            (vec![url.clone(), ("timeout", text("1 day"))], "\"1 day\" as timeout"),
            (vec![url.clone(), ("connections", Value::Int(0))], "0 as connections"),
            (vec![url.clone(), ("connections", Value::Int(65))], "65 as connections"),
            (vec![url, ("pool", text("x"))], "the part \"pool\""),
        ] {
            assert_eq!(read(&parts), Err(found.to_owned()));
        }
        let url = text("mysql://mail:secret@db/mail");
        assert_eq!(Database::read(&url), Err("a URL".to_owned()));
        for part in ["timeout", "connections"] {
            let error = read(&[("url", url.clone()), (part, url.clone())]).unwrap_err();
            assert_eq!(error, format!("a URL as {part}"));
        }
        assert_eq!(read(&[("mysql://mail:secret@db", url)]), Err("the part a URL".to_owned()));
        let error = read(&[("url", text("mysql://mail:secret@db:x/mail"))]).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
        let [one, other] = ["secret", "other"]
            .map(|password| read(&[("url", text(&format!("mysql://mail:{password}@db/mail")))]).unwrap());
        assert!(one != other && one.looks_like(&other));
        assert!(!format!("{one:?}").contains("secret"));
    }
}
