//! Where a server of memcached is, as a URL. There is no password: whoever reaches it may ask it.

use std::fmt;

use bincode::{Decode, Encode};

use super::place::Place;

/// Where memcached listens.
const PORT: u16 = 11211;
const FORMS: [&str; 2] = ["memcache://", "memcached://"];
const TLS: [&str; 2] = ["memcache+tls://", "memcaches://"];
/// What is said of a URL that is none.
const FORM: &str = "it is memcache://host:port or memcache:///path";

/// A server of memcached.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct MemcachedUrl {
    /// Where it is.
    pub place: Place,
}

impl MemcachedUrl {
    /// Reads `memcache://host:port`, of which the port need not be there, and `memcache:///path` of a Unix socket; `None` if it is
    /// another URL.
    pub(super) fn parse(text: &str) -> Option<Result<Self, String>> {
        let read = if let Some(rest) = FORMS.iter().find_map(|form| text.strip_prefix(form)) {
            Self::place(rest)
        } else if TLS.iter().any(|form| text.starts_with(form)) {
            Err("a URL that asks for TLS, which is not there for memcached".to_owned())
        } else {
            return None;
        };
        Some(read.map(|place| MemcachedUrl { place }).map_err(|what| format!("{what} ({FORM})")))
    }

    fn place(rest: &str) -> Result<Place, String> {
        if rest.contains('?') {
            return Err("a URL with a parameter that is not there".to_owned());
        }
        if rest.contains('@') {
            return Err("a URL with a user, which memcached does not know".to_owned());
        }
        match rest.starts_with('/') {
            true => Place::unix(rest),
            false => Place::tcp(rest.strip_suffix('/').unwrap_or(rest), PORT),
        }
    }
}

impl fmt::Display for MemcachedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", FORMS[0], self.place)
    }
}

impl fmt::Debug for MemcachedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::DatabaseUrl;

    #[test]
    fn urls_of_memcached_read_back_what_they_write() {
        for (text, shown) in [
            ("memcache://localhost", "memcache://localhost:11211"),
            ("memcached://[::1]:11212/", "memcache://[::1]:11212"),
            ("memcache:///run/memcached.sock", "memcache:///run/memcached.sock"),
        ] {
            let url = DatabaseUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(DatabaseUrl::parse(&url.write()), Ok(url));
        }
    }

    #[test]
    fn what_is_no_url_of_memcached_is_refused() {
        for (text, words) in [
            ("memcache://", "host"),
            ("memcache://db:0", "host"),
            ("memcache://a:secret@db", "user"),
            ("memcache://db?timeout=1", "parameter"),
            ("memcache+tls://db", "TLS"),
            ("memcache:///a%0Ab", "socket"),
        ] {
            let error = DatabaseUrl::parse(text).unwrap_err();
            assert!(error.contains(words) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
