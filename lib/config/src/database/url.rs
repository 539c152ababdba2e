//! Where a database is, as a URL. What is printed of it is without the password.

use std::fmt;
use std::net::IpAddr;

use bincode::{Decode, Encode};

/// Where MySQL and MariaDB listen.
const MYSQL_PORT: u16 = 3306;
/// Longest URL, in octets.
const MAX_URL: usize = 2048;
/// The longest path of a Unix socket, in octets.
const MAX_SOCKET: usize = 107;

/// Where a database is, and who we are there.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct DatabaseUrl {
    /// The user.
    pub user: String,
    /// The user's password; empty: none.
    pub password: String,
    /// A name, or an address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Absolute path of a Unix socket, in place of host and port.
    pub socket: Option<String>,
    /// The database on that server; empty: none.
    pub database: String,
}

impl DatabaseUrl {
    /// Reads `mysql://user:password@host:port/database?socket=path`.
    ///
    /// # Errors
    /// What is wrong with it, as it follows "found" in a message, without the URL itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{what} (it is mysql://user:password@host:port/database)"));
        if text.len() > MAX_URL || text.chars().any(char::is_control) {
            return wrong("a URL that is too long or has control characters");
        }
        let Some(rest) = text.strip_prefix("mysql://") else { return wrong("no URL of MySQL") };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let Some((login, place)) = place.rsplit_once('@') else { return wrong("a URL without a user") };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let decoded = (decode(user), decode(password), decode(path));
        let (Some(user), Some(password), Some(database)) = decoded else {
            return wrong("a URL with a '%' that is not followed by two hexadecimal digits");
        };
        if user.is_empty() {
            return wrong("a URL without a user");
        }
        let Some((host, port)) = host_and_port(place) else {
            return wrong("a URL without a host or with a bad one");
        };
        let mut socket = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (name, decode(value)) {
                ("socket", Some(path)) if path.starts_with('/') && path.len() <= MAX_SOCKET => {
                    socket = Some(path);
                }
                ("socket", _) => return wrong("a socket that is not an absolute path"),
                // Nothing is encrypted, so nobody may think that it is.
                (name, _) if name.contains("ssl") || name.contains("tls") => {
                    return wrong("a URL that asks for TLS, which is not there for databases");
                }
                _ => return wrong("a URL with a parameter that is not there, only socket is"),
            }
        }
        Ok(DatabaseUrl { user, password, host, port, socket, database })
    }

    /// The URL, with the password.
    pub fn write(&self) -> String {
        let password = match self.password.as_str() {
            "" => String::new(),
            password => format!(":{}", encode(password)),
        };
        self.with_password(&password)
    }

    fn with_password(&self, password: &str) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let socket = self.socket.as_ref().map(|path| format!("?socket={}", encode(path))).unwrap_or_default();
        let (user, database) = (encode(&self.user), encode(&self.database));
        format!("mysql://{user}{password}@{host}:{}/{database}{socket}", self.port)
    }
}

/// Without the password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_password(""))
    }
}

/// Without the password.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<IpAddr>().ok()?;
            (address, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let is_host = |octet: u8| octet.is_ascii_alphanumeric() || b".-_:".contains(&octet);
    let port = if port.is_empty() { MYSQL_PORT } else { port.parse().ok().filter(|port| *port > 0)? };
    (!host.is_empty() && host.len() <= 253 && host.bytes().all(is_host)).then(|| (host.to_owned(), port))
}

fn decode(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        octets.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(octets).ok().filter(|text| !text.contains('\0'))
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => encoded.push(char::from(octet)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_read_back_what_they_write() {
        for (text, shown) in [
            ("mysql://mail:a%40%2fb@db.example.com/mail", "mysql://mail@db.example.com:3306/mail"),
            ("mysql://mail:p@ss@[2001:db8::1]:3307/", "mysql://mail@[2001:db8::1]:3307/"),
            ("mysql://mail@localhost", "mysql://mail@localhost:3306/"),
            (
                "mysql://root@localhost/a?socket=%2Frun%2Fmysqld.sock",
                "mysql://root@localhost:3306/a?socket=%2Frun%2Fmysqld.sock",
            ),
        ] {
            let url = DatabaseUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(DatabaseUrl::parse(&url.write()), Ok(url));
        }
        let url = DatabaseUrl::parse("mysql://mail:a%40%2fb@db/mail").unwrap();
        assert_eq!(url.password, "a@/b");
    }

    #[test]
    fn what_is_no_url_of_a_database_is_refused() {
        for (text, words) in [
            ("", "no URL"),
            ("postgres://a@b/c", "no URL"),
            ("mysql://db/mail", "without a user"),
            ("mysql://:x@db/mail", "without a user"),
            ("mysql://a@/mail", "host"),
            ("mysql://a@db:0/mail", "host"),
            ("mysql://a@db:65536/mail", "host"),
            ("mysql://a@[::1/mail", "host"),
            ("mysql://a@[::1]x/mail", "host"),
            ("mysql://a@d b/mail", "host"),
            ("mysql://a:%zz@db/mail", "'%'"),
            ("mysql://a:%00@db/mail", "'%'"),
            ("mysql://a@db/mail?socket=run/x", "socket"),
            ("mysql://a@db/mail?require_ssl=true", "TLS"),
            ("mysql://a@db/mail?pool_max=3", "parameter"),
            ("mysql://a@db/ma\nil", "control"),
        ] {
            let error = DatabaseUrl::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(DatabaseUrl::parse(&format!("mysql://a@b/{}", "x".repeat(MAX_URL))).is_err());
    }
}
