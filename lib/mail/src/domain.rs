//! Domain names and address literals, in one canonical form: lower case, A-labels (RFC 5321 4.1.2, RFC 5890).

use std::fmt;
use std::net::IpAddr;

/// Longest domain, in octets (RFC 5321 4.5.3.1.2).
pub const MAX_DOMAIN: usize = 255;
const MAX_LABEL: usize = 63;

/// A domain name or an address literal such as `[192.0.2.1]`, canonical: two equal domains compare equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Box<str>);

/// Why a text is not a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainError {
    /// The text is empty.
    Empty,
    /// More than [`MAX_DOMAIN`] octets, or a label above 63.
    TooLong,
    /// A character or label that host names do not have.
    Syntax,
    /// Brackets around something that is not an IP address.
    Literal,
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DomainError::Empty => "domain is empty",
            DomainError::TooLong => "domain or label is too long",
            DomainError::Syntax => "domain has a character or label that host names do not allow",
            DomainError::Literal => "address literal does not hold an IP address",
        })
    }
}

impl std::error::Error for DomainError {}

impl Domain {
    /// Parses a domain name (A-labels or U-labels) or an address literal in brackets.
    ///
    /// A single trailing dot is refused: SMTP has no root label (RFC 5321 2.3.5).
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(DomainError::Literal)?;
            return Self::parse_literal(inner);
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            if text.len() > MAX_DOMAIN * 4 {
                return Err(DomainError::TooLong);
            }
            idna::domain_to_ascii_strict(text).map_err(|_| DomainError::Syntax)?
        };
        check_name(&ascii)?;
        Ok(Domain(ascii.into_boxed_str()))
    }

    /// The literal that stands for an address.
    pub fn literal(address: IpAddr) -> Self {
        Domain(match address {
            IpAddr::V4(v4) => format!("[{v4}]").into_boxed_str(),
            IpAddr::V6(v6) => format!("[IPv6:{v6}]").into_boxed_str(),
        })
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address inside an address literal, or `None` for a name.
    pub fn as_literal(&self) -> Option<IpAddr> {
        let inner = self.0.strip_prefix('[')?.strip_suffix(']')?;
        match inner.strip_prefix("IPv6:") {
            Some(v6) => v6.parse().ok().map(IpAddr::V6),
            None => inner.parse().ok().map(IpAddr::V4),
        }
    }

    /// True if `self` is `other` or lies below it.
    pub fn is_within(&self, other: &Domain) -> bool {
        match self.0.strip_suffix(&*other.0) {
            Some("") => true,
            Some(rest) => rest.ends_with('.'),
            None => false,
        }
    }

    fn parse_literal(inner: &str) -> Result<Self, DomainError> {
        let tagged = inner.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
        let address = if tagged {
            inner.get(5..).and_then(|v6| v6.parse().ok()).map(IpAddr::V6)
        } else {
            inner.parse().ok().map(IpAddr::V4)
        };
        address.map(Self::literal).ok_or(DomainError::Literal)
    }
}

fn check_name(name: &str) -> Result<(), DomainError> {
    if name.len() > MAX_DOMAIN {
        return Err(DomainError::TooLong);
    }
    for label in name.split('.') {
        if label.len() > MAX_LABEL {
            return Err(DomainError::TooLong);
        }
        let inside = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if label.is_empty() || !inside || label.starts_with('-') || label.ends_with('-') {
            return Err(DomainError::Syntax);
        }
    }
    Ok(())
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_canonical() {
        assert_eq!(Domain::parse("EXAMPLE.com").unwrap().as_str(), "example.com");
        assert_eq!(Domain::parse("bücher.example").unwrap().as_str(), "xn--bcher-kva.example");
    }

    #[test]
    fn literals_hold_addresses() {
        let v6 = Domain::parse("[ipv6:2001:db8::1]").unwrap();
        assert_eq!(v6.as_str(), "[IPv6:2001:db8::1]");
        assert_eq!(v6.as_literal(), Some("2001:db8::1".parse().unwrap()));
        for bad in ["[]", "[1.2.3]", "[1.2.3.4", "[IPv6:1.2.3.4]", "[IPv6:fe80::1%eth0]", "[::1]"] {
            assert_eq!(Domain::parse(bad), Err(DomainError::Literal), "{bad}");
        }
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in ["", ".", "a..b", "a.", ".a", "-a.b", "a-.b", "a b", "a\r\nb", "a\0", "a:25", "a/b"] {
            assert!(Domain::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Domain::parse(&"a".repeat(64)).is_err());
        assert!(Domain::parse(&"a.".repeat(128)).is_err());
    }

    #[test]
    fn within_needs_a_label_border() {
        let parent = Domain::parse("example.com").unwrap();
        assert!(Domain::parse("mx.example.com").unwrap().is_within(&parent));
        assert!(parent.is_within(&parent));
        assert!(!Domain::parse("badexample.com").unwrap().is_within(&parent));
    }
}
