//! Passwords as this process holds them: never shown, wiped when they are dropped.

use std::fmt;

use zeroize::Zeroizing;

use crate::token::MAX_TOKEN;

/// Longest name of a user, in octets.
pub const MAX_USER: usize = 255;
/// Longest password, in octets.
pub const MAX_PASSWORD: usize = 1024;

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password; `None` if it is empty, too long, or no text.
    pub fn new(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let fits = !text.is_empty() && text.len() <= MAX_PASSWORD && !text.contains('\0');
        fits.then(|| Password(Zeroizing::new(text.to_owned())))
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A token, as a client brought it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes a token; `None` if it is too long, or has octets that none has (RFC 6750 2.1).
    pub fn new(text: &str) -> Option<Self> {
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~+/=".contains(&octet);
        let fits = !text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(allowed);
        fits.then(|| Token(Zeroizing::new(text.to_owned())))
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A token, and whom its client has named with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The name, if there was one.
    pub user: Option<String>,
    /// The token.
    pub token: Token,
}

/// A name and its password, as a client gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Password,
}

/// The name of a user, if these octets can be one: some text without control characters.
pub fn user(octets: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(octets).ok()?;
    let fits = !text.is_empty() && text.len() <= MAX_USER && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let password = Password::new(b"tanstaaftanstaaf").unwrap();
        assert_eq!(format!("{password:?}"), "Password(..)");
        let credentials = Credentials { user: "tim".to_owned(), password };
        assert!(!format!("{credentials:?}").contains("tanstaaf"));
    }

    #[test]
    fn tokens_are_not_shown_and_are_bounded() {
        let token = Token::new("a.b-c_d~e+f/g==").unwrap();
        assert_eq!(format!("{:?}", Bearer { user: None, token }), "Bearer { user: None, token: Token(..) }");
        for bad in ["", "a b", "a\u{1}", "ä", &"x".repeat(MAX_TOKEN + 1)] {
            assert_eq!(Token::new(bad), None);
        }
    }

    #[test]
    fn names_and_passwords_are_bounded_texts() {
        for bad in [&b""[..], b"\xff", &[b'x'; MAX_PASSWORD + 1], b"a\0b"] {
            assert_eq!(Password::new(bad), None);
        }
        for bad in [&b""[..], b"\xff", &[b'x'; MAX_USER + 1], b"a\tb", b"a\nb"] {
            assert_eq!(user(bad), None);
        }
        assert_eq!(user("jörg".as_bytes()).as_deref(), Some("jörg"));
    }
}
