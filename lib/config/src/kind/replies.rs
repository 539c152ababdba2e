//! Texts of the server's own replies, by the names that vSMTP 1.x gave them.

use std::collections::BTreeMap;

use vsmtp_mail::{EnhancedCode, Reply};

use super::Kind;
use super::list::rows;
use crate::value::Value;

/// The names, and the code that each reply has whatever the configuration says.
const REPLIES: [(&str, u16); 31] = [
    ("Greetings", 220),
    ("Help", 214),
    ("Closing", 221),
    ("Helo", 250),
    ("DataStart", 354),
    ("Ok", 250),
    ("Denied", 554),
    ("Failure", 451),
    ("UnrecognizedCommand", 500),
    ("SyntaxErrorParams", 501),
    ("ParameterUnimplemented", 555),
    ("Unimplemented", 502),
    ("BadSequence", 503),
    ("MessageSizeExceeded", 552),
    ("TlsGoAhead", 220),
    ("TlsNotAvailable", 454),
    ("AlreadyUnderTls", 503),
    ("TlsRequired", 530),
    ("AuthSucceeded", 235),
    ("AuthMechNotSupported", 504),
    ("AuthClientMustNotStart", 501),
    ("AuthMechanismMustBeEncrypted", 538),
    ("AuthInvalidCredentials", 535),
    ("AuthRequired", 530),
    ("AuthClientCanceled", 501),
    ("AuthErrorDecode64", 501),
    ("AuthTempError", 454),
    ("ConnectionMaxReached", 421),
    ("TooManyError", 421),
    ("Timeout", 421),
    ("TooManyRecipients", 452),
];
/// Those that have no enhanced code (RFC 2034 section 4).
const WITHOUT_ENHANCED: [&str; 2] = ["Greetings", "Helo"];
/// Names that are accepted without effect: what EHLO answers is what the server can do.
const LISTS: [&str; 2] = ["EhloPain", "EhloSecured"];

/// The code of the replies that `server.smtp.codes` calls by this name; `None` if there is no such name.
pub fn reply_code(name: &str) -> Option<u16> {
    REPLIES.into_iter().find(|(known, _)| *known == name).map(|(_, code)| code)
}

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
            let known = REPLIES.into_iter().find(|(known, _)| *known == name);
            let (known, _) = known.ok_or_else(|| shown.to_owned())?;
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
            REPLIES.map(|(name, _)| name).join(", ")
        )
    }

    fn remarks(&self, value: &Value) -> Vec<String> {
        let Value::Map(map) = value else { return Vec::new() };
        let lists = LISTS.into_iter().filter(|name| map.contains_key(*name));
        let lists = lists.map(|name| format!("{name} has no effect: EHLO answers what the server can do"));
        // A 451 that becomes 554 turns away for good what was to come back.
        let codes = REPLIES.into_iter().filter_map(|(name, code)| {
            let other = map.get(name).and_then(Self::reply)?.code();
            let words = format!("{name} keeps the code {code}: of a reply with {other} only the text counts");
            (other != code).then_some(words)
        });
        let enhanced = WITHOUT_ENHANCED.into_iter().filter_map(|name| {
            let enhanced = map.get(name).and_then(Self::reply)?.enhanced()?;
            Some(format!("{name} is said without an enhanced code: {enhanced} has no effect"))
        });
        lists.chain(codes).chain(enhanced).collect()
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
            one("Help", parts("5.0.0")),
            one("Help", text("214 4.0.0 ask jane")),
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

    #[test]
    fn who_gives_another_code_hears_that_it_does_not_count() {
        for (name, reply, kept) in
            [("Denied", "451 4.7.1 come back later", 554), ("Failure", "554 5.7.1 go away", 451)]
        {
            let remarks = OwnReplies.remarks(&one(name, text(reply)));
            let words = format!("{name} keeps the code {kept}: of a reply with {} only", &reply[..3]);
            assert!(remarks.len() == 1 && remarks[0].starts_with(&words), "{remarks:?}");
        }
        let remarks = OwnReplies.remarks(&one("Helo", text("250 2.0.0 hello")));
        assert!(remarks.len() == 1 && remarks[0].contains("2.0.0 has no effect"), "{remarks:?}");
        for (name, code) in REPLIES {
            assert!(OwnReplies.remarks(&one(name, text(&format!("{code} x")))).is_empty(), "{name}");
        }
    }
}
