//! Where a server of Redis is, and who we are there, as a URL. What is printed of it is without the password.

use std::fmt;

use bincode::{Decode, Encode};

use super::place::{MAX_URL, Place, decoded, encode};

/// Where Redis listens.
const PORT: u16 = 6379;
const TCP: &str = "redis://";
const UNIX: [&str; 2] = ["redis+unix://", "unix://"];
const TLS: &str = "rediss://";
/// What is said of a URL that is none.
const FORM: &str = "it is redis://user:password@host:port/number or redis+unix:///path?db=number";

/// A server of Redis.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct RedisUrl {
    /// Where it is.
    pub place: Place,
    /// The user; empty: the one that all are who name none.
    pub user: String,
    /// The password; empty: we say nothing of who we are.
    pub password: String,
    /// The number of the database on that server.
    pub number: u32,
}

impl RedisUrl {
    /// Reads `redis://user:password@host:port/number`, of which only the host must be there, and
    /// `redis+unix:///path?db=number&user=name&pass=word`; `None` if it is another URL.
    pub(super) fn parse(text: &str) -> Option<Result<Self, String>> {
        let read = if let Some(rest) = text.strip_prefix(TCP) {
            Self::tcp(rest)
        } else if let Some(rest) = UNIX.iter().find_map(|form| text.strip_prefix(form)) {
            Self::unix(rest)
        } else if text.starts_with(TLS) {
            Err("a URL that asks for TLS, which is not there for Redis".to_owned())
        } else {
            return None;
        };
        Some(read.and_then(Self::checked).map_err(|what| format!("{what} ({FORM})")))
    }

    fn tcp(rest: &str) -> Result<Self, String> {
        if rest.contains('?') {
            return Err("a URL with a parameter that is not there".to_owned());
        }
        let (place, number) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = place.rsplit_once('@').unwrap_or(("", place));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        Ok(RedisUrl {
            place: Place::tcp(place, PORT)?,
            user: decoded(user)?,
            password: decoded(password)?,
            number: self::number(number)?,
        })
    }

    fn unix(rest: &str) -> Result<Self, String> {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = Place::unix(path)?;
        let mut url = RedisUrl { place, user: String::new(), password: String::new(), number: 0 };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("db", text) => url.number = number(text)?,
                ("user", name) => url.user = decoded(name)?,
                ("pass", word) => url.password = decoded(word)?,
                _ => {
                    return Err(
                        "a URL with a parameter that is not there, only db, user and pass are".to_owned()
                    );
                }
            }
        }
        Ok(url)
    }

    fn checked(self) -> Result<Self, String> {
        let all = [&self.user, &self.password];
        if all.iter().any(|part| part.len() > MAX_URL || part.chars().any(char::is_control)) {
            return Err("a URL that is too long or has control characters".to_owned());
        }
        if !self.user.is_empty() && self.password.is_empty() {
            return Err("a URL with a user and without a password".to_owned());
        }
        Ok(self)
    }

    /// The URL, with the password.
    pub(super) fn write(&self) -> String {
        self.with(&self.password)
    }

    fn with(&self, password: &str) -> String {
        let (user, word, number) = (encode(&self.user), encode(password), self.number);
        match &self.place {
            place @ Place::Tcp { .. } => {
                let word = if word.is_empty() { word } else { format!(":{word}") };
                let login =
                    if user.is_empty() && word.is_empty() { String::new() } else { format!("{user}{word}@") };
                format!("{TCP}{login}{place}/{number}")
            }
            place @ Place::Unix(_) => {
                let part = |name: &str, text: String| match text.is_empty() {
                    true => text,
                    false => format!("&{name}={text}"),
                };
                format!("{}{place}?db={number}{}{}", UNIX[0], part("user", user), part("pass", word))
            }
        }
    }
}

fn number(text: &str) -> Result<u32, String> {
    let wrong = || "a URL whose database is not a number".to_owned();
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| wrong()) }
}

/// Without the password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with(""))
    }
}

/// Without the password.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::DatabaseUrl;

    #[test]
    fn urls_of_redis_read_back_what_they_write_and_are_shown_without_passwords() {
        for (text, shown) in [
            ("redis://cache.example.com", "redis://cache.example.com:6379/0"),
            ("redis://:s%3Acret@[2001:db8::1]:6380/2", "redis://[2001:db8::1]:6380/2"),
            ("redis://mail:secret@127.0.0.1", "redis://mail@127.0.0.1:6379/0"),
            (
                "redis+unix:///run/a b.sock?db=3&user=mail&pass=secret",
                "redis+unix:///run/a%20b.sock?db=3&user=mail",
            ),
            ("unix:///run/redis.sock", "redis+unix:///run/redis.sock?db=0"),
        ] {
            let url = DatabaseUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (shown, shown));
            assert_eq!(DatabaseUrl::parse(&url.write()), Ok(url));
        }
    }

    #[test]
    fn what_is_no_url_of_redis_is_refused() {
        for (text, words) in [
            ("redis://", "host"),
            ("redis://db:x", "host"),
            ("redis://db/mail", "not a number"),
            ("redis://mail@db", "without a password"),
            ("redis://db/0?tls=1", "parameter"),
            ("redis://:%0@db", "'%'"),
            ("redis://:a%0Ab@db", "control"),
            ("rediss://db", "TLS"),
            ("redis+unix://run/x", "socket"),
            ("unix:///run/x?database=1", "parameter"),
        ] {
            let error = DatabaseUrl::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
