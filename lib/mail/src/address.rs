//! Mailboxes (RFC 5321 4.1.2, RFC 6531 3.3) and the reverse path. The local part is kept without quotes and byte for
//! byte as the sender wrote it: only its own domain may say that two spellings are one mailbox.

use std::fmt;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::domain::{Domain, DomainError, MAX_DOMAIN};

/// Longest local part, in octets (RFC 5321 4.5.3.1.1).
pub const MAX_LOCAL_PART: usize = 64;
/// Longest path with its brackets, in octets (RFC 5321 4.5.3.1.3).
pub const MAX_PATH: usize = 256;

/// A mailbox: local part and domain.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    local: Box<str>,
    domain: Domain,
}

/// Why a text is not a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    /// There is no `@` outside quotes.
    NoDomain,
    /// The local part is empty, badly quoted, or has a character that must be quoted.
    LocalPart,
    /// Local part or path is longer than RFC 5321 allows.
    TooLong,
    /// The domain is wrong.
    Domain(DomainError),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::NoDomain => f.write_str("address has no domain"),
            AddressError::LocalPart => f.write_str("local part is empty or badly quoted"),
            AddressError::TooLong => f.write_str("address is too long"),
            AddressError::Domain(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AddressError {}

impl Address {
    /// Parses `local@domain`, with the local part as a dot-string or a quoted string. No brackets, no source route.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = if text.starts_with('"') { split_quoted(text)? } else { split_plain(text)? };
        let domain = Domain::parse(domain).map_err(AddressError::Domain)?;
        Self::new(&local, domain)
    }

    /// Makes a mailbox from a bare (unquoted) local part and a domain.
    pub fn new(local: &str, domain: Domain) -> Result<Self, AddressError> {
        if local.is_empty() || local.chars().any(char::is_control) {
            return Err(AddressError::LocalPart);
        }
        if local.len() > MAX_LOCAL_PART || local.len() + 1 + domain.as_str().len() > MAX_PATH - 2 {
            return Err(AddressError::TooLong);
        }
        Ok(Address { local: local.into(), domain })
    }

    /// The local part, without quotes.
    pub fn local_part(&self) -> &str {
        &self.local
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The local part as this host's own tables compare it, see [`fold_local_part`].
    pub fn folded_local_part(&self) -> String {
        fold_local_part(&self.local)
    }

    /// True if sending this address needs SMTPUTF8 (RFC 6531). Domains are always A-labels here.
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }

    /// True for `postmaster` in any case (RFC 5321 4.5.1).
    pub fn is_postmaster(&self) -> bool {
        self.local.eq_ignore_ascii_case("postmaster")
    }
}

/// A local part in the form in which the tables of its own domain compare it: lower case, and composed (Unicode NFC, RFC 6532
/// 3.1), so that what looks the same on two keyboards is one mailbox. Only for a host's own mailboxes and aliases.
pub fn fold_local_part(local: &str) -> String {
    if local.is_ascii() {
        return local.to_ascii_lowercase();
    }
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    nfc.normalize(&nfc.normalize(local).to_lowercase()).into_owned()
}

fn split_plain(text: &str) -> Result<(String, &str), AddressError> {
    let (local, domain) = text.split_once('@').ok_or(AddressError::NoDomain)?;
    if !is_dot_string(local) {
        return Err(AddressError::LocalPart);
    }
    Ok((local.to_owned(), domain))
}

/// Undoes a quoted string: backslash pairs become their second character.
fn split_quoted(text: &str) -> Result<(String, &str), AddressError> {
    let mut local = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let rest = text.get(at + 1..).unwrap_or("");
                return rest.strip_prefix('@').map(|domain| (local, domain)).ok_or(AddressError::NoDomain);
            }
            '\\' => local.push(chars.next().ok_or(AddressError::LocalPart)?.1),
            _ => local.push(c),
        }
        if local.len() > MAX_PATH {
            return Err(AddressError::TooLong);
        }
    }
    Err(AddressError::LocalPart)
}

fn is_dot_string(local: &str) -> bool {
    !local.is_empty() && local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            f.write_str(&self.local)?;
            f.write_str("@")?;
            return f.write_str(self.domain.as_str());
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

/// Who gets the bounces: a mailbox, or nobody (`<>`, the null sender).
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: a bounce or another message that must not be answered.
    Null,
    /// A mailbox.
    Address(Address),
}

impl ReversePath {
    /// Parses the inside of `<...>`: empty for the null sender.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() { Ok(ReversePath::Null) } else { Address::parse(text).map(ReversePath::Address) }
    }

    /// The mailbox, if there is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            ReversePath::Null => None,
            ReversePath::Address(address) => Some(address),
        }
    }
}

/// Without brackets: empty for the null sender.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().map_or(Ok(()), |address| address.fmt(f))
    }
}

impl fmt::Debug for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

const _: () = assert!(MAX_DOMAIN < MAX_PATH);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_quoted_are_one_mailbox() {
        let plain = Address::parse("john@Example.COM").unwrap();
        assert_eq!(plain, Address::parse("\"john\"@example.com").unwrap());
        assert_eq!(plain.to_string(), "john@example.com");
    }

    #[test]
    fn one_mailbox_may_be_written_in_many_ways() {
        for (written, folded) in [
            ("Jane", "jane"),
            ("J\u{d6}rg", "j\u{f6}rg"),
            ("Jo\u{308}rg", "j\u{f6}rg"),
            ("JO\u{308}RG", "j\u{f6}rg"),
            ("\u{7528}\u{6237}", "\u{7528}\u{6237}"),
        ] {
            assert_eq!(fold_local_part(written), folded, "{written}");
        }
    }

    #[test]
    fn quoting_survives_a_round_trip() {
        for text in [r#""a b"@c.d"#, r#""a@b"@c.d"#, r#""a\"b"@c.d"#, r#""a\\"@c.d"#] {
            let parsed = Address::parse(text).unwrap();
            assert_eq!(Address::parse(&parsed.to_string()).unwrap(), parsed, "{text}");
        }
    }

    #[test]
    fn the_domain_is_the_one_after_the_quotes() {
        let parsed = Address::parse(r#""a@evil.test"@good.test"#).unwrap();
        assert_eq!(parsed.domain().as_str(), "good.test");
    }

    #[test]
    fn bad_addresses_are_refused() {
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a@b:25",
            "a b@c",
            "a..b@c",
            ".a@c",
            "a.@c",
            "\"a@c",
            "\"a\"b@c",
            "a@b@c",
            "a\r@b",
            "a@b\n",
            "\"\r\"@b",
            "\"\"@b",
            "<a@b>",
            "a@[1.2.3]",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Address::parse(&format!("{}@b", "a".repeat(65))), Err(AddressError::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn whatever_parses_prints_and_parses_again(text in "\\PC{0,40}") {
            if let Ok(parsed) = Address::parse(&text) {
                let folded = parsed.folded_local_part();
                proptest::prop_assert_eq!(fold_local_part(&folded), folded);
                proptest::prop_assert_eq!(Address::parse(&parsed.to_string()), Ok(parsed));
            }
        }
    }
}
