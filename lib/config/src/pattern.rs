//! Which addresses an entry of `delivery.mailboxes` or `delivery.aliases` means.

use std::fmt;

use vsmtp_mail::{Address, Domain};

use crate::by_text::Textual;

/// A pattern over addresses. Local parts compare without regard to ASCII case, as mailboxes do everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AddressPattern {
    /// `user@example.com`: this address.
    Exact(Address),
    /// `user`: this local part at each of the server's own domains.
    Local(Box<str>),
    /// `*@example.com` or `@example.com`: each address of this domain.
    Domain(Domain),
    /// `*`: each address at the server's own domains.
    Any,
}

impl AddressPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(AddressPattern::Any);
        }
        if let Some(domain) = text.strip_prefix("*@").or_else(|| text.strip_prefix('@')) {
            return Domain::parse(domain).ok().map(AddressPattern::Domain);
        }
        if text.contains(['*', '"']) {
            return None;
        }
        if text.contains('@') {
            return Address::parse(text).ok().map(AddressPattern::Exact);
        }
        Address::parse(&format!("{text}@localhost")).ok()?;
        Some(AddressPattern::Local(text.into()))
    }

    /// True if the pattern means `address`; the caller has found that its domain is one of the server's own.
    pub fn matches(&self, address: &Address) -> bool {
        match self {
            AddressPattern::Exact(exact) => {
                exact.domain() == address.domain()
                    && exact.local_part().eq_ignore_ascii_case(address.local_part())
            }
            AddressPattern::Local(local) => local.eq_ignore_ascii_case(address.local_part()),
            AddressPattern::Domain(domain) => domain == address.domain(),
            AddressPattern::Any => true,
        }
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressPattern::Exact(address) => address.fmt(f),
            AddressPattern::Local(local) => f.write_str(local),
            AddressPattern::Domain(domain) => write!(f, "*@{domain}"),
            AddressPattern::Any => f.write_str("*"),
        }
    }
}

impl Textual for AddressPattern {
    fn from_text(text: &str) -> Option<Self> {
        AddressPattern::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, address: &str) -> bool {
        AddressPattern::parse(pattern).unwrap().matches(&Address::parse(address).unwrap())
    }

    #[test]
    fn patterns() {
        assert!(matches("jane@example.com", "Jane@EXAMPLE.com"));
        assert!(!matches("jane@example.com", "jane@example.net"));
        assert!(matches("jane", "JANE@example.net"));
        assert!(!matches("jane", "joe@example.net"));
        assert!(matches("@example.com", "anyone@example.com"));
        assert!(!matches("*@example.com", "anyone@sub.example.com"));
        assert!(matches("*", "anyone@example.com"));
    }

    #[test]
    fn what_is_no_pattern() {
        for bad in ["", "@", "*@", "a b", "a\n", "jane@", "j*e", "a@b@c d"] {
            assert_eq!(AddressPattern::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn text_and_back() {
        for text in ["jane@example.com", "jane", "*@example.com", "*"] {
            assert_eq!(AddressPattern::parse(text).unwrap().to_string(), text);
        }
    }
}
