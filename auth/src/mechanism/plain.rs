//! PLAIN (RFC 4616): `[authzid] NUL authcid NUL password`. Acting for somebody else is not possible: an authzid must be the
//! authcid.

use super::Step;
use crate::secret::{Credentials, Password, user};

/// Reads the one message.
pub(super) fn read(message: &[u8]) -> Step {
    let mut parts = message.split(|octet| *octet == 0);
    let (Some(for_whom), Some(name), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Step::Malformed;
    };
    let Some(name) = user(name) else { return Step::Malformed };
    if !for_whom.is_empty() && for_whom != name.as_bytes() {
        return Step::Wrong(Some(name));
    }
    match Password::new(password) {
        Some(password) => Step::Check(Credentials { user: name, password }),
        // RFC 4616 2: the password is not empty. Some services would take an empty one for an anonymous look-up.
        None => Step::Wrong(Some(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(message: &[u8]) -> Option<(String, String)> {
        match read(message) {
            Step::Check(c) => Some((c.user, c.password.expose().to_owned())),
            _ => None,
        }
    }

    #[test]
    fn a_name_and_a_password() {
        let expected = Some(("tim".to_owned(), "tanstaaf".to_owned()));
        assert_eq!(checked(b"\0tim\0tanstaaf"), expected);
        assert_eq!(checked(b"tim\0tim\0tanstaaf"), expected);
    }

    #[test]
    fn there_are_exactly_two_nuls_and_nobody_acts_for_another() {
        for bad in [&b""[..], b"tim\0tanstaaf", b"\0tim\0tan\0staaf", b"\0\0x", b"\0tim", b"\0t\xffm\0x"] {
            assert!(matches!(read(bad), Step::Malformed), "{bad:?}");
        }
        assert!(matches!(read(b"root\0tim\0tanstaaf"), Step::Wrong(Some(name)) if name == "tim"));
        assert!(matches!(read(b"\0tim\0"), Step::Wrong(_)));
    }
}
