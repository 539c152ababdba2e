//! Kinds of keys about authentication.

use std::collections::BTreeMap;

use super::Kind;
use super::list::{MAX_ITEMS, items, texts};
use crate::backend::AuthBackend;
use crate::pattern::AddressPattern;
use crate::value::Value;

/// Most back-ends.
const MAX_BACKENDS: usize = 16;
/// Longest login, in octets.
const MAX_LOGIN: usize = 255;
/// The mechanisms that can be offered. EXTERNAL comes when certificates can be mapped to logins.
const MECHANISMS: [&str; 6] =
    ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "XOAUTH2", "OAUTHBEARER"];

/// SASL mechanisms.
#[derive(Debug)]
pub(crate) struct Mechanisms;

impl Kind for Mechanisms {
    type Out = Vec<&'static str>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        let known = |text: &str| MECHANISMS.into_iter().find(|name| name.eq_ignore_ascii_case(text));
        items(value, MECHANISMS.len(), known)
    }

    fn write(&self, out: &Self::Out) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        format!("a list of {}", MECHANISMS.join(", "))
    }
}

/// Who knows passwords.
#[derive(Debug)]
pub(crate) struct Backends;

impl Kind for Backends {
    type Out = Vec<AuthBackend>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        items(value, MAX_BACKENDS, AuthBackend::parse)
    }

    fn write(&self, out: &Self::Out) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        "a list of \"file:PATH\", \"shadow\", \"dovecot:SOCKET\", \"saslauthd:SOCKET\"".to_owned()
    }
}

/// Senders and who may use them.
#[derive(Debug)]
pub(crate) struct SenderLogins;

impl SenderLogins {
    fn login(text: &str) -> Option<String> {
        let fits = !text.is_empty() && text.len() <= MAX_LOGIN && !text.chars().any(char::is_control);
        fits.then(|| text.to_owned())
    }
}

impl Kind for SenderLogins {
    type Out = Vec<(AddressPattern, Vec<String>)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        let map = match value {
            Value::Null => return Ok(Vec::new()),
            Value::Map(map) => map,
            other => return Err(other.describe()),
        };
        if map.len() > MAX_ITEMS {
            return Err(format!("a map of {} rows (at most {MAX_ITEMS})", map.len()));
        }
        let row = |(sender, logins): (&String, &Value)| {
            let name = Value::Text(sender.clone()).describe();
            let pattern = AddressPattern::parse(sender).ok_or_else(|| name.clone())?;
            let logins =
                items(logins, MAX_ITEMS, Self::login).map_err(|found| format!("{found} for {name}"))?;
            Ok((pattern, logins))
        };
        map.iter().map(row).collect()
    }

    fn write(&self, out: &Self::Out) -> Value {
        let row = |(sender, logins): &(AddressPattern, Vec<String>)| (sender.to_string(), texts(logins));
        Value::Map(out.iter().map(row).collect::<BTreeMap<_, _>>())
    }

    fn expected(&self) -> String {
        "a map of \"user\", \"user@domain\", \"*@domain\" or \"*\" to a login or a list of logins".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn mechanisms_have_one_way_to_be_written() {
        assert_eq!(Mechanisms.read(&text("scram-sha-256")), Ok(vec!["SCRAM-SHA-256"]));
        assert_eq!(Mechanisms.read(&text("CRAM-MD5")), Err("\"CRAM-MD5\"".to_owned()));
    }

    #[test]
    fn rows_name_what_is_wrong() {
        let map = |from: &str, to: Value| Value::Map(BTreeMap::from([(from.to_owned(), to)]));
        assert_eq!(SenderLogins.read(&map("*@example.com", text("jane"))).unwrap().len(), 1);
        assert_eq!(SenderLogins.read(&map("sales", Value::List(Vec::new()))).unwrap()[0].1.len(), 0);
        assert_eq!(SenderLogins.read(&map("a b", text("jane"))), Err("\"a b\"".to_owned()));
        assert_eq!(SenderLogins.read(&map("sales", text(""))), Err("\"\" for \"sales\"".to_owned()));
    }
}
