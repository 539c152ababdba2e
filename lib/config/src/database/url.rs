//! Where a database is, as a URL. What is printed of it is without the password.

use std::fmt;
use std::net::IpAddr;

use bincode::{Decode, Encode};

use super::place::{self, MAX_SOCKET, MAX_URL, decode, encode};
use super::{LdapUrl, MemcachedUrl, RedisUrl};

/// Where MySQL and MariaDB listen.
const MYSQL_PORT: u16 = 3306;
/// How URLs begin.
const MYSQL: &str = "mysql://";
const SQLITE: &str = "sqlite:";

/// Where a database is.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum DatabaseUrl {
    /// On a server.
    MySql(MySqlUrl),
    /// In a file of this host, at this absolute path.
    Sqlite(String),
    /// On a server of Redis.
    Redis(RedisUrl),
    /// On a server of memcached.
    Memcached(MemcachedUrl),
    /// On a server of LDAP.
    Ldap(LdapUrl),
}

/// What kind of a database it is; it decides what may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum DatabaseKind {
    /// MySQL and MariaDB, asked in SQL.
    MySql,
    /// A file of SQLite, asked in SQL.
    Sqlite,
    /// Redis, and what speaks as it does.
    Redis,
    /// memcached.
    Memcached,
    /// LDAP: a directory, which is searched.
    Ldap,
}

/// A server, and who we are there.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct MySqlUrl {
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
    /// Reads `mysql://user:password@host:port/database?socket=path`, `sqlite:path`, and what those of other kinds read. User and
    /// password may stand behind the question mark too; without a user it is the anonymous one.
    ///
    /// # Errors
    /// What is wrong with it, as it follows "found" in a message, without the URL itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        match (text.strip_prefix(MYSQL), text.strip_prefix(SQLITE)) {
            (Some(rest), _) => MySqlUrl::parse(rest)
                .map(DatabaseUrl::MySql)
                .map_err(|what| format!("{what} (it is mysql://user:password@host:port/database)")),
            (None, Some(path)) => Self::sqlite(path),
            (None, None) => {
                let redis = || RedisUrl::parse(text).map(|url| url.map(DatabaseUrl::Redis));
                let memcached = || MemcachedUrl::parse(text).map(|url| url.map(DatabaseUrl::Memcached));
                let ldap = || LdapUrl::parse(text).map(|url| url.map(DatabaseUrl::Ldap));
                redis().or_else(memcached).or_else(ldap).unwrap_or_else(|| {
                    Err("no URL of MySQL, Redis, memcached or LDAP (such as mysql://user:password@host:port/database)"
                        .to_owned())
                })
            }
        }
    }

    /// What kind of a database it is.
    pub fn kind(&self) -> DatabaseKind {
        match self {
            DatabaseUrl::MySql(_) => DatabaseKind::MySql,
            DatabaseUrl::Sqlite(_) => DatabaseKind::Sqlite,
            DatabaseUrl::Redis(_) => DatabaseKind::Redis,
            DatabaseUrl::Memcached(_) => DatabaseKind::Memcached,
            DatabaseUrl::Ldap(_) => DatabaseKind::Ldap,
        }
    }

    /// The name of the host whose address is to be found; `None` if it has an address, or is on this host.
    pub fn host_name(&self) -> Option<&str> {
        let host = match self {
            DatabaseUrl::MySql(url) => url.socket.is_none().then_some(url.host.as_str()),
            DatabaseUrl::Sqlite(_) => None,
            DatabaseUrl::Redis(url) => url.place.host(),
            DatabaseUrl::Memcached(url) => url.place.host(),
            DatabaseUrl::Ldap(url) => url.place.host(),
        };
        host.filter(|host| host.parse::<IpAddr>().is_err())
    }

    /// A file of SQLite.
    ///
    /// # Errors
    /// The path is not absolute, or none at all.
    pub fn sqlite(path: &str) -> Result<Self, String> {
        let is_path = path.starts_with('/') && !path.ends_with('/') && path.len() <= MAX_URL;
        match is_path && !path.chars().any(char::is_control) {
            true => Ok(DatabaseUrl::Sqlite(path.to_owned())),
            false => Err("no absolute path of a file of SQLite".to_owned()),
        }
    }

    /// The URL, with the password if that stands in it.
    pub fn write(&self) -> String {
        match self {
            DatabaseUrl::MySql(url) if !url.password.is_empty() => {
                url.with_password(&format!(":{}", encode(&url.password)))
            }
            DatabaseUrl::Redis(url) => url.write(),
            other => other.to_string(),
        }
    }
}

impl MySqlUrl {
    /// Of parts as a file of Postfix has them: `host:port`, a socket in its place, and who we are.
    ///
    /// # Errors
    /// What is wrong with a part, as it follows "found" in a message.
    pub fn new(
        place: &str,
        socket: Option<String>,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Self, String> {
        if user.is_empty() {
            return Err("a URL without a user".to_owned());
        }
        Self::of_parts(place, socket, user, password, database)
    }

    fn of_parts(
        place: &str,
        socket: Option<String>,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Self, String> {
        let all = [place, user, password, database, socket.as_deref().unwrap_or_default()];
        if all.iter().any(|part| part.len() > MAX_URL || part.chars().any(char::is_control)) {
            return Err("a URL that is too long or has control characters".to_owned());
        }
        if user.is_empty() && !password.is_empty() {
            return Err("a URL with a password and without a user".to_owned());
        }
        if socket.as_ref().is_some_and(|path| !path.starts_with('/') || path.len() > MAX_SOCKET) {
            return Err("a socket that is not an absolute path".to_owned());
        }
        let (host, port) = place::host_and_port(place, MYSQL_PORT)
            .ok_or_else(|| "a URL without a host or with a bad one".to_owned())?;
        let [user, password, database] = [user, password, database].map(str::to_owned);
        Ok(MySqlUrl { user, password, host, port, socket, database })
    }

    fn parse(rest: &str) -> Result<Self, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = place.rsplit_once('@').unwrap_or(("", place));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let decoded = |text| {
            decode(text)
                .ok_or_else(|| "a URL with a '%' that is not followed by two hexadecimal digits".to_owned())
        };
        let (mut user, mut password, database) = (decoded(user)?, decoded(password)?, decoded(path)?);
        let mut socket = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("socket", path) => socket = Some(decoded(path)?),
                ("user", name) if user.is_empty() => user = decoded(name)?,
                ("password", word) if password.is_empty() => password = decoded(word)?,
                // Nothing is encrypted, so nobody may think that it is.
                (name, _) if name.contains("ssl") || name.contains("tls") => {
                    return Err("a URL that asks for TLS, which is not there for databases".to_owned());
                }
                _ => {
                    return Err(
                        "a URL with a parameter that is not there, only socket, user and password are"
                            .to_owned(),
                    );
                }
            }
        }
        Self::of_parts(place, socket, &user, &password, &database)
    }

    fn with_password(&self, password: &str) -> String {
        let host = place::bracketed(&self.host);
        let socket = self.socket.as_ref().map(|path| format!("?socket={}", encode(path))).unwrap_or_default();
        let (user, database) = (encode(&self.user), encode(&self.database));
        format!("{MYSQL}{user}{password}@{host}:{}/{database}{socket}", self.port)
    }
}

/// Without the password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseUrl::MySql(url) => f.write_str(&url.with_password("")),
            DatabaseUrl::Sqlite(path) => write!(f, "{SQLITE}{path}"),
            DatabaseUrl::Redis(url) => fmt::Display::fmt(url, f),
            DatabaseUrl::Memcached(url) => fmt::Display::fmt(url, f),
            DatabaseUrl::Ldap(url) => fmt::Display::fmt(url, f),
        }
    }
}

/// Without the password.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Without the password.
impl fmt::Debug for MySqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_password(""))
    }
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
            ("mysql://localhost/", "mysql://@localhost:3306/"),
            ("mysql://localhost/?user=guest&password=x%26y", "mysql://guest@localhost:3306/"),
        ] {
            let url = DatabaseUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(DatabaseUrl::parse(&url.write()), Ok(url));
        }
        let DatabaseUrl::MySql(url) = DatabaseUrl::parse("mysql://mail:a%40%2fb@db/mail").unwrap() else {
            panic!("it is one of MySQL")
        };
        assert_eq!(url.password, "a@/b");
        let file = DatabaseUrl::parse("sqlite:/var/lib/mail.db").unwrap();
        assert_eq!(
            (file.write(), file.to_string()),
            ("sqlite:/var/lib/mail.db".into(), "sqlite:/var/lib/mail.db".into())
        );
    }

    #[test]
    fn what_is_no_url_of_a_database_is_refused() {
        for (text, words) in [
            ("", "no URL"),
            ("postgres://a@b/c", "no URL"),
            ("mysql://:x@db/mail", "without a user"),
            ("mysql://db/mail?password=x", "without a user"),
            ("mysql://a@db/mail?user=b", "parameter that is not there"),
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
            ("sqlite:mail.db", "absolute path"),
            ("sqlite:/var/lib/", "absolute path"),
            ("sqlite:/var\n/a", "absolute path"),
        ] {
            let error = DatabaseUrl::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(DatabaseUrl::parse(&format!("mysql://a@b/{}", "x".repeat(MAX_URL + 1))).is_err());
    }
}
