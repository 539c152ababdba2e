//! XOAUTH2 and OAUTHBEARER (RFC 7628): one message with a token, and perhaps the name of its user. What is wrong with a token,
//! the client hears in a challenge, to which it says anything, and has then failed.

use super::Step;
use crate::secret::{Bearer, Token, user};

/// What ends a field.
const END: char = '\u{1}';

/// The two forms of the one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `user=NAME ^A auth=Bearer TOKEN ^A ^A`.
    XOauth2,
    /// `n,a=NAME, ^A auth=Bearer TOKEN ^A ^A`, with other fields between (RFC 7628 3.1).
    OauthBearer,
}

/// Reads the one message.
pub(super) fn read(form: Form, message: &[u8]) -> Step {
    let found = std::str::from_utf8(message).ok().and_then(|text| parse(form, text));
    match found {
        Some((user, Some(token))) => Step::Bearer(Bearer { user, token }),
        // One without a token asks what it must bring (RFC 7628 4.3).
        Some((user, None)) => Step::Wrong(user),
        None => Step::Malformed,
    }
}

/// The user, if one is named, and the token, if there is one.
fn parse(form: Form, text: &str) -> Option<(Option<String>, Option<Token>)> {
    let fields = text.strip_suffix(END)?.strip_suffix(END)?;
    let mut fields = fields.split(END);
    let first = fields.next()?;
    let named = match form {
        Form::XOauth2 => Some(user(first.strip_prefix("user=")?.as_bytes())?),
        Form::OauthBearer => authorization(first)?,
    };
    let mut token = None;
    for field in fields {
        let (name, value) = field.split_once('=')?;
        if name != "auth" {
            let is_name = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphabetic());
            if form == Form::XOauth2 || !is_name {
                return None;
            }
        } else if token.replace(value).is_some() {
            return None;
        }
    }
    let value = token?;
    if value.is_empty() {
        return Some((named, None));
    }
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return None;
    }
    Some((named, Some(Token::new(token.trim_start_matches(' '))?)))
}

/// The header of GS2 (RFC 5801 4): no channel binding, and perhaps a name.
fn authorization(header: &str) -> Option<Option<String>> {
    let rest = header.strip_prefix("n,").or_else(|| header.strip_prefix("y,"))?.strip_suffix(',')?;
    if rest.is_empty() {
        return Some(None);
    }
    let name = rest.strip_prefix("a=")?;
    let name = unescaped(name)?;
    user(name.as_bytes()).map(Some)
}

/// A comma is written `=2C`, and `=` is `=3D`.
fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (octet, rest) = part.split_at_checked(2)?;
        plain.push(match octet {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        plain.push_str(rest);
    }
    (!name.contains(',')).then_some(plain)
}

/// What the client hears of a token that counts for nothing; `scope` is what one must allow.
pub fn refusal(form: Form, scope: Option<&str>) -> Vec<u8> {
    let status = match form {
        Form::XOauth2 => ("401", Some("bearer")),
        Form::OauthBearer => ("invalid_token", None),
    };
    let mut said = serde_json::Map::new();
    said.insert("status".to_owned(), status.0.into());
    said.extend(status.1.map(|schemes| ("schemes".to_owned(), schemes.into())));
    said.extend(scope.map(|scope| ("scope".to_owned(), scope.into())));
    serde_json::Value::Object(said).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(form: Form, text: &str) -> Option<(Option<String>, String)> {
        match read(form, text.as_bytes()) {
            Step::Bearer(bearer) => Some((bearer.user, bearer.token.expose().to_owned())),
            _ => None,
        }
    }

    #[test]
    fn both_forms_name_a_user_and_a_token() {
        let tim = |token: &str| Some((Some("tim@own.test".to_owned()), token.to_owned()));
        let xoauth2 = "user=tim@own.test\u{1}auth=Bearer a.b-_~+/c==\u{1}\u{1}";
        assert_eq!(read_as(Form::XOauth2, xoauth2), tim("a.b-_~+/c=="));
        // RFC 7628 4.1.
        let bearer = "n,a=tim@own.test,\u{1}host=mx.test\u{1}port=587\u{1}auth=bearer  x\u{1}\u{1}";
        assert_eq!(read_as(Form::OauthBearer, bearer), tim("x"));
        let nobody = read_as(Form::OauthBearer, "n,,\u{1}auth=Bearer x\u{1}\u{1}");
        assert_eq!(nobody, Some((None, "x".to_owned())));
        let odd = read_as(Form::OauthBearer, "y,a=a=2Cb=3Dc,\u{1}auth=Bearer x\u{1}\u{1}");
        assert_eq!(odd, Some((Some("a,b=c".to_owned()), "x".to_owned())));
    }

    #[test]
    fn what_is_no_such_message_is_malformed() {
        for bad in [
            "",
            "\u{1}\u{1}",
            "user=\u{1}auth=Bearer x\u{1}\u{1}",
            "user=tim\u{1}auth=Bearer x\u{1}",
            "user=tim\u{1}auth=Bearer x",
            "user=tim\u{1}auth=Basic x\u{1}\u{1}",
            "user=tim\u{1}auth=Bearer\u{1}\u{1}",
            "user=tim\u{1}auth=Bearer a b\u{1}\u{1}",
            "user=tim\u{1}auth=Bearer x\u{1}auth=Bearer y\u{1}\u{1}",
            "user=tim\u{1}host=x\u{1}auth=Bearer x\u{1}\u{1}",
            "user=tim\u{1}\u{1}",
            "user=t\nm\u{1}auth=Bearer x\u{1}\u{1}",
        ] {
            assert!(matches!(read(Form::XOauth2, bad.as_bytes()), Step::Malformed), "{bad:?}");
        }
        for bad in [
            "n,,auth=Bearer x\u{1}\u{1}",
            "p=tls-exporter,,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,a=a=2Xb,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,a=a,b,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,a=,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,,\u{1}=x\u{1}auth=Bearer x\u{1}\u{1}",
            "user=tim\u{1}auth=Bearer x\u{1}\u{1}",
        ] {
            assert!(matches!(read(Form::OauthBearer, bad.as_bytes()), Step::Malformed), "{bad:?}");
        }
        assert!(matches!(read(Form::XOauth2, b"user=t\xff\x01auth=Bearer x\x01\x01"), Step::Malformed));
        let asks = read(Form::OauthBearer, b"n,a=tim,\x01auth=\x01\x01");
        assert!(matches!(asks, Step::Wrong(Some(name)) if name == "tim"));
    }

    #[test]
    fn what_is_wrong_is_said_as_each_form_wants_it() {
        let said = |form, scope| String::from_utf8(refusal(form, scope)).unwrap();
        assert_eq!(said(Form::XOauth2, None), r#"{"schemes":"bearer","status":"401"}"#);
        assert_eq!(said(Form::OauthBearer, Some("smtp")), r#"{"scope":"smtp","status":"invalid_token"}"#);
    }
}
