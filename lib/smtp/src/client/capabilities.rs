//! What a server offered in its reply to EHLO. Unknown words are ignored.

use crate::extension::{Extension, Extensions};

/// Most SASL mechanisms that are looked at.
const MAX_MECHANISMS: usize = 32;
/// Longest name of one (RFC 4422 3.1).
const MAX_MECHANISM: usize = 20;

/// What a server offers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// The extensions that we know.
    pub extensions: Extensions,
    /// Largest message in octets, if the server named one.
    pub size: Option<u64>,
    /// The least time in seconds that BY= may leave a message that is to fail then; 0 if the server named none.
    pub min_by_s: i32,
    /// Names of SASL mechanisms in upper case, at most [`MAX_MECHANISMS`].
    pub auth: Vec<Box<str>>,
}

impl Capabilities {
    /// Reads the text of an EHLO reply: a first line with the server's name, then one extension per line.
    pub fn parse(text: &str) -> Self {
        let mut found = Capabilities::default();
        for line in text.lines().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else { continue };
            // Some servers repeat the list as `AUTH=`, for clients of long ago.
            let Some(extension) = Extension::from_keyword(keyword) else { continue };
            if extension == Extension::Auth {
                let names = words.by_ref().filter(|name| name.len() <= MAX_MECHANISM);
                let room = MAX_MECHANISMS.saturating_sub(found.auth.len());
                found.auth.extend(names.take(room).map(|name| name.to_ascii_uppercase().into()));
            }
            found.extensions = found.extensions.with(extension);
            if extension == Extension::DeliverBy {
                let least = words.clone().next().and_then(|options| options.split(',').next());
                found.min_by_s = least.and_then(|least| least.parse().ok()).unwrap_or(0);
            }
            if extension == Extension::Size {
                // 0 means that there is no limit (RFC 1870 4).
                found.size = words.next().and_then(|size| size.parse().ok()).filter(|size| *size > 0);
            }
        }
        found
    }

    /// True if the server offers the extension.
    pub fn has(&self, extension: Extension) -> bool {
        self.extensions.has(extension)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_in_any_case() {
        let found = Capabilities::parse("mx.test PIPELINING\nsize 1000\n8bitmime\nX-FOO bar\n\nSTARTTLS");
        assert!(found.has(Extension::EightBitMime) && !found.has(Extension::Pipelining));
        assert!(found.size == Some(1000) && found.has(Extension::StartTls));
        let found =
            Capabilities::parse("mx\nAUTH plain LOGIN\nauth SCRAM-SHA-256 a-name-that-is-far-too-long");
        assert_eq!(found.auth[..], ["PLAIN".into(), "LOGIN".into(), "SCRAM-SHA-256".into()]);
        let many = format!("mx\nAUTH{}", " X".repeat(1000));
        assert_eq!(Capabilities::parse(&many).auth.len(), MAX_MECHANISMS);
        for none in ["mx\nSIZE", "mx\nSIZE 0", "mx\nSIZE x", "mx\nSIZE 99999999999999999999"] {
            assert_eq!(Capabilities::parse(none).size, None);
        }
    }
}
