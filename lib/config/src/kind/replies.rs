//! Texts of the server's own replies, by the names that vSMTP 1.x gave them.

use std::collections::BTreeMap;

use vsmtp_mail::{EnhancedCode, Reply};

use super::Kind;
use super::list::rows;
use crate::value::Value;

/// The names.
pub(crate) const REPLY_NAMES: [&str; 31] = [
    "Greetings",
    "Help",
    "Closing",
    "Helo",
    "DataStart",
    "Ok",
    "Denied",
    "Failure",
    "UnrecognizedCommand",
    "SyntaxErrorParams",
    "ParameterUnimplemented",
    "Unimplemented",
    "BadSequence",
    "MessageSizeExceeded",
    "TlsGoAhead",
    "TlsNotAvailable",
    "AlreadyUnderTls",
    "TlsRequired",
    "AuthSucceeded",
    "AuthMechNotSupported",
    "AuthClientMustNotStart",
    "AuthMechanismMustBeEncrypted",
    "AuthInvalidCredentials",
    "AuthRequired",
    "AuthClientCanceled",
    "AuthErrorDecode64",
    "AuthTempError",
    "ConnectionMaxReached",
    "TooManyError",
    "Timeout",
    "TooManyRecipients",
];
/// Names that are accepted without effect: what EHLO answers is what the server can do.
const LISTS: [&str; 2] = ["EhloPain", "EhloSecured"];

/// Replies by name.
#[derive(Debug)]
pub(crate) struct OwnReplies;

impl OwnReplies {
    /// A whole reply as text, or its parts.
    fn reply(value: &Value) -> Option<Reply> {
        match value {
            Value::Text(text) => Reply::parse(text).ok(),
            Value::Map(parts) => {
                let text = |name: &str| match parts.get(name) {
                    Some(Value::Text(text)) => Some(text.as_str()),
                    _ => None,
                };
                let code = match parts.get("code") {
                    Some(Value::Int(code)) => u16::try_from(*code).ok()?,
                    _ => return None,
                };
                let known = ["code", "enhanced", "text"];
                if parts.keys().any(|part| !known.contains(&part.as_str())) {
                    return None;
                }
                let enhanced = text("enhanced").filter(|enhanced| !enhanced.is_empty());
                let enhanced = match enhanced {
                    Some(enhanced) => Some(EnhancedCode::parse(enhanced)?),
                    None => None,
                };
                Reply::new(code, enhanced, text("text")?).ok()
            }
            _ => None,
        }
    }
}

impl Kind for OwnReplies {
    type Out = Vec<(&'static str, Reply)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        let replies = rows(value, |name, value, shown| {
            if LISTS.contains(&name) {
                return Ok(None);
            }
            let known = REPLY_NAMES.into_iter().find(|known| *known == name);
            let known = known.ok_or_else(|| shown.to_owned())?;
            let reply = Self::reply(value).ok_or_else(|| format!("{} for {shown}", value.describe()))?;
            Ok(Some((known, reply)))
        })?;
        Ok(replies.into_iter().flatten().collect())
    }

    fn write(&self, out: &Self::Out) -> Value {
        let row = |(name, reply): &(&str, Reply)| {
            let mut wire = Vec::new();
            reply.write_to(&mut wire);
            ((*name).to_owned(), Value::Text(String::from_utf8_lossy(&wire).trim_end().to_owned()))
        };
        Value::Map(out.iter().map(row).collect::<BTreeMap<_, _>>())
    }

    fn expected(&self) -> String {
        format!(
            "a map of replies such as \"220 {{name}} at your service\", with names of {}",
            REPLY_NAMES.join(", ")
        )
    }

    fn remarks(&self, value: &Value) -> Vec<String> {
        let Value::Map(map) = value else { return Vec::new() };
        let lists = LISTS.into_iter().filter(|name| map.contains_key(*name));
        lists.map(|name| format!("{name} has no effect: EHLO answers what the server can do")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: Value) -> Value {
        Value::Map([(name.to_owned(), value)].into())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn a_reply_is_a_text_or_its_parts() {
        let help = Reply::new(214, None, "ask jane").unwrap();
        let parts = |enhanced: &str| {
            let mut parts = Value::map();
            parts.set("code", Value::Int(214));
            parts.set("enhanced", text(enhanced));
            parts.set("text", text("ask jane"));
            parts
        };
        for value in [text("214 ask jane\r\n"), text("214 ask jane"), parts("")] {
            let read = OwnReplies.read(&one("Help", value.clone())).unwrap();
            assert_eq!(read, [("Help", help.clone())], "{value:?}");
            assert_eq!(OwnReplies.read(&OwnReplies.write(&read)), Ok(read));
        }
        let lines = OwnReplies.read(&one("Closing", text("221-2.0.0 a\r\n221 2.0.0 b\r\n"))).unwrap();
        assert_eq!(OwnReplies.read(&OwnReplies.write(&lines)), Ok(lines));
        for wrong in [
            one("Hlep", text("214 x")),
            one("Help", text("ask jane")),
            one("Help", Value::Int(214)),
            one("Help", parts("x")),
            one("Help", Value::map()),
            text("214 x"),
        ] {
            assert!(OwnReplies.read(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_ehlo_answers_is_not_a_matter_of_taste() {
        let value = one("EhloPain", text("250-x\r\n250 AUTH\r\n"));
        assert_eq!(OwnReplies.read(&value), Ok(Vec::new()));
        assert!(OwnReplies.remarks(&value)[0].starts_with("EhloPain has no effect"));
        assert!(OwnReplies.remarks(&one("Help", text("214 x"))).is_empty());
    }
}
