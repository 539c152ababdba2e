//! What a server offered in its reply to EHLO. Unknown words are ignored.

use crate::extension::{Extension, Extensions};

/// What a server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// The extensions that we know.
    pub extensions: Extensions,
    /// Largest message in octets, if the server named one.
    pub size: Option<u64>,
    /// STARTTLS.
    pub starttls: bool,
}

impl Capabilities {
    /// Reads the text of an EHLO reply: a first line with the server's name, then one extension per line.
    pub fn parse(text: &str) -> Self {
        let mut found = Capabilities::default();
        for line in text.lines().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else { continue };
            found.starttls |= keyword.eq_ignore_ascii_case("STARTTLS");
            let Some(extension) = Extension::from_keyword(keyword) else { continue };
            found.extensions = found.extensions.with(extension);
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
        assert!(found.size == Some(1000) && found.starttls);
        for none in ["mx\nSIZE", "mx\nSIZE 0", "mx\nSIZE x", "mx\nSIZE 99999999999999999999"] {
            assert_eq!(Capabilities::parse(none).size, None);
        }
    }
}
