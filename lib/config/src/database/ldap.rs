//! Where a directory is, who we are there, and how the connection is encrypted. What is printed of it is without the password.

use std::collections::BTreeMap;
use std::fmt;

use bincode::{Decode, Encode};

use super::place::{MAX_URL, Place};
use crate::value::Value;

/// Where directories listen, in clear and by TLS from the first octet on.
const PORT: u16 = 389;
const TLS_PORT: u16 = 636;
const CLEAR: &str = "ldap://";
const WHOLE: &str = "ldaps://";
const UNIX: &str = "ldapi://";
/// What is said of a URL that is none.
const FORM: &str = "it is ldap://host:port, ldaps://host:port or ldapi://%2Fpath";

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum LdapTls {
    /// It is not.
    None,
    /// From the first answer on.
    StartTls,
    /// From the first octet on.
    Whole,
}

/// A directory.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct LdapUrl {
    /// Where it is.
    pub place: Place,
    /// How the connection is encrypted.
    pub tls: LdapTls,
    /// Absolute path of a file with the authorities that its certificate may be of; `None`: those that the system knows.
    pub ca_file: Option<String>,
    /// Who we are; empty: nobody.
    pub dn: String,
    /// Our password.
    pub password: String,
}

impl LdapUrl {
    /// Reads `ldap://host:port`, `ldaps://host:port` and `ldapi://%2Fpath`; `None` if it is another URL.
    pub(super) fn parse(text: &str) -> Option<Result<Self, String>> {
        let (rest, tls) = match (text.strip_prefix(CLEAR), text.strip_prefix(WHOLE), text.strip_prefix(UNIX))
        {
            (Some(rest), _, _) | (_, _, Some(rest)) => (rest, LdapTls::None),
            (_, Some(rest), _) => (rest, LdapTls::Whole),
            _ => return None,
        };
        let rest = rest.trim_end().strip_suffix('/').unwrap_or(rest.trim_end());
        let port = if tls == LdapTls::Whole { TLS_PORT } else { PORT };
        let place = if rest.contains(['/', '?']) {
            Err("a URL with more than a host and a port".to_owned())
        } else if rest.contains('@') {
            Err("a URL with a user, who is named by bind".to_owned())
        } else if text.starts_with(UNIX) {
            Place::unix(rest)
        } else {
            Place::tcp(rest, port)
        };
        let url = |place| LdapUrl { place, tls, ca_file: None, dn: String::new(), password: String::new() };
        Some(place.map(url).map_err(|what| format!("{what} ({FORM})")))
    }

    /// The same with the parts `bind` and `tls` of a database's map.
    ///
    /// # Errors
    /// What is wrong with them, as it follows "found" in a message.
    pub(super) fn with(mut self, bind: Option<&Value>, tls: Option<&Value>) -> Result<Self, String> {
        if let Some(map) = bind {
            let [dn, password] = parts(map, "bind", ["dn", "pw"])?.map(|part| text(part, "bind"));
            (self.dn, self.password) = (dn?.unwrap_or_default(), password?.unwrap_or_default());
            // A name without a password is nobody to a directory (RFC 4513 5.1.2), which is not what is meant.
            if self.dn.is_empty() || self.password.is_empty() {
                return Err("no dn or no pw in bind".to_owned());
            }
        }
        if let Some(map) = tls {
            let [start, file] = parts(map, "tls", ["starttls", "cafile"])?;
            match start {
                None | Some(Value::Bool(false)) => {}
                Some(Value::Bool(true)) if self.tls == LdapTls::Whole => {
                    return Err("starttls for an ldaps: URL, where all is TLS".to_owned());
                }
                Some(Value::Bool(true)) => self.tls = LdapTls::StartTls,
                Some(_) => return Err("a starttls that is neither true nor false".to_owned()),
            }
            self.ca_file = text(file, "tls")?;
            if self.tls == LdapTls::None && self.ca_file.is_some() {
                return Err("a cafile without starttls for a URL that is not ldaps:".to_owned());
            }
        }
        if self.ca_file.as_ref().is_some_and(|path| !path.starts_with('/')) {
            return Err("a cafile that is not an absolute path".to_owned());
        }
        if self.tls != LdapTls::None && self.place.host().is_none() {
            return Err("TLS for a directory of this host".to_owned());
        }
        Ok(self)
    }

    /// The URL, without all that stands in other parts of the map.
    pub(super) fn url(&self) -> String {
        match &self.place {
            place @ Place::Tcp { .. } if self.tls == LdapTls::Whole => format!("{WHOLE}{place}"),
            place @ Place::Tcp { .. } => format!("{CLEAR}{place}"),
            Place::Unix(path) => format!("{UNIX}{}", super::place::encode(path)),
        }
    }

    /// The parts of the map beside the URL, with the password if it is wanted.
    pub(super) fn others(&self, with_password: bool) -> BTreeMap<String, Value> {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut parts = BTreeMap::new();
        if !self.dn.is_empty() {
            let mut bind = BTreeMap::from([("dn".to_owned(), text(&self.dn))]);
            if with_password {
                bind.insert("pw".to_owned(), text(&self.password));
            }
            parts.insert("bind".to_owned(), Value::Map(bind));
        }
        let mut tls = BTreeMap::new();
        if self.tls == LdapTls::StartTls {
            tls.insert("starttls".to_owned(), Value::Bool(true));
        }
        if let Some(path) = &self.ca_file {
            tls.insert("cafile".to_owned(), text(path));
        }
        if !tls.is_empty() {
            parts.insert("tls".to_owned(), Value::Map(tls));
        }
        parts
    }
}

/// Two parts of a map that has no others.
fn parts<'a>(map: &'a Value, name: &str, names: [&str; 2]) -> Result<[Option<&'a Value>; 2], String> {
    let Value::Map(map) = map else { return Err(format!("no map as {name}")) };
    if map.keys().any(|key| !names.contains(&key.as_str())) {
        return Err(format!("another part of {name} than {} and {}", names[0], names[1]));
    }
    Ok(names.map(|name| map.get(name).filter(|value| **value != Value::Null)))
}

fn text(value: Option<&Value>, name: &str) -> Result<Option<String>, String> {
    match value {
        None => Ok(None),
        Some(Value::Text(text)) if text.len() <= MAX_URL && !text.chars().any(char::is_control) => {
            Ok(Some(text.clone()))
        }
        Some(_) => Err(format!("something that is no text in {name}")),
    }
}

/// Without the password.
impl fmt::Display for LdapUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())?;
        if self.tls == LdapTls::StartTls {
            f.write_str(" with StartTLS")?;
        }
        if let Some(path) = &self.ca_file {
            write!(f, " by {path}")?;
        }
        if self.dn.is_empty() { Ok(()) } else { write!(f, " as {}", self.dn) }
    }
}

/// Without the password.
impl fmt::Debug for LdapUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Database;
    use super::*;

    fn map(parts: &[(&str, Value)]) -> Value {
        Value::Map(parts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn read(url: &str, bind: Option<Value>, tls: Option<Value>) -> Result<Database, String> {
        let mut parts = vec![("url", text(url))];
        parts.extend(bind.map(|bind| ("bind", bind)));
        parts.extend(tls.map(|tls| ("tls", tls)));
        Database::read(&map(&parts))
    }

    #[test]
    fn directories_read_back_what_they_write_and_are_shown_without_passwords() {
        let bind = || Some(map(&[("dn", text("cn=mail,dc=x")), ("pw", text("s3cret"))]));
        let start = || Some(map(&[("starttls", Value::Bool(true)), ("cafile", text("/etc/ca.pem"))]));
        for (url, bind, tls, shown) in [
            ("ldap://ds.example.com:1389 ", None, None, "ldap://ds.example.com:1389"),
            ("ldap://ds", bind(), start(), "ldap://ds:389 with StartTLS by /etc/ca.pem as cn=mail,dc=x"),
            ("ldaps://[::1]/", bind(), None, "ldaps://[::1]:636 as cn=mail,dc=x"),
            ("ldapi://%2Frun%2Fslapd%2Fldapi", None, None, "ldapi://%2Frun%2Fslapd%2Fldapi"),
        ] {
            let database = read(url, bind, tls).unwrap();
            assert_eq!((database.url.to_string().as_str(), database.shown().0.as_str()), (shown, shown));
            assert!(!format!("{database:?}").contains("s3cret"));
            assert_eq!(Database::read(&database.write()), Ok(database.clone()));
            assert!(!format!("{:?}", database.write_shown()).contains("s3cret"));
        }
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let starttls = || Some(map(&[("starttls", Value::Bool(true))]));
        let bind = |parts: &[(&str, Value)]| Some(map(parts));
        for (url, bind, tls, words) in [
            ("ldap://", None, None, "host"),
            ("ldap://ds/dc=x", None, None, "more than"),
            ("ldap://ds?x", None, None, "more than"),
            ("ldap://a:s3cret@ds", None, None, "bind"),
            ("ldapi://run", None, None, "socket"),
            ("ldaps://ds", None, starttls(), "starttls"),
            ("ldapi://%2Frun%2Fx", None, starttls(), "this host"),
            ("ldap://ds", None, bind(&[("cafile", text("/a"))]), "cafile"),
            ("ldaps://ds", None, bind(&[("cafile", text("a"))]), "absolute"),
            ("ldaps://ds", None, bind(&[("insecure", Value::Bool(true))]), "another part"),
            ("ldap://ds", bind(&[("dn", text("cn=a"))]), None, "no pw"),
            ("ldap://ds", bind(&[("pw", text("s3cret"))]), None, "no dn"),
            ("ldap://ds", bind(&[("dn", text("cn=a")), ("pw", Value::Int(1))]), None, "no text"),
            ("ldap://ds", Some(text("s3cret")), None, "no map as bind"),
            ("mysql://a@b/c", bind(&[("dn", text("cn=a")), ("pw", text("s3cret"))]), None, "bind"),
            ("redis://b", None, starttls(), "tls"),
        ] {
            let error = read(url, bind, tls).unwrap_err();
            assert!(error.contains(words) && !error.contains("s3cret"), "{url}: {error}");
        }
    }
}
