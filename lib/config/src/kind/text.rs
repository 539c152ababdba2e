//! Names, paths, addresses and targets.

use std::net::{IpAddr, SocketAddr};

use vsmtp_mail::{Address, Domain, NextHop};

use super::Kind;
use crate::value::Value;

/// Longest path, in octets (`PATH_MAX`, without its NUL).
const MAX_FILE_PATH: usize = 4095;

/// Longest line of text for people, in octets.
const MAX_LINE: usize = 255;

fn text_of(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(other.describe()),
    }
}

/// `()` and the empty text both say that the key is not set.
fn optional<T>(value: &Value, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Text(text) if text.is_empty() => Ok(None),
        _ => read(text_of(value)?).map(Some).ok_or_else(|| value.describe()),
    }
}

fn unset_or(text: Option<String>) -> Value {
    text.map_or(Value::Null, Value::Text)
}

fn path(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= MAX_FILE_PATH && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// A domain name.
#[derive(Debug)]
pub(crate) struct DomainName;

impl Kind for DomainName {
    type Out = Domain;

    fn read(&self, value: &Value) -> Result<Domain, String> {
        let domain = Domain::parse(text_of(value)?).map_err(|_| value.describe())?;
        if domain.as_literal().is_some() { Err(value.describe()) } else { Ok(domain) }
    }

    fn write(&self, out: &Domain) -> Value {
        Value::Text(out.to_string())
    }

    fn expected(&self) -> String {
        "a domain name".to_owned()
    }
}

/// A path, which must be given. Absolute, or relative to the folder of the configuration file.
#[derive(Debug)]
pub(crate) struct FilePath;

impl Kind for FilePath {
    type Out = String;

    fn read(&self, value: &Value) -> Result<String, String> {
        path(text_of(value)?).ok_or_else(|| value.describe())
    }

    fn write(&self, out: &String) -> Value {
        Value::Text(out.clone())
    }

    fn expected(&self) -> String {
        "a path".to_owned()
    }
}

/// A path or nothing.
#[derive(Debug)]
pub(crate) struct MaybePath;

impl Kind for MaybePath {
    type Out = Option<String>;

    fn read(&self, value: &Value) -> Result<Option<String>, String> {
        optional(value, path)
    }

    fn write(&self, out: &Option<String>) -> Value {
        unset_or(out.clone())
    }

    fn expected(&self) -> String {
        "a path, or () for none".to_owned()
    }
}

/// A relay host or nothing.
#[derive(Debug)]
pub(crate) struct MaybeRelay;

impl Kind for MaybeRelay {
    type Out = Option<NextHop>;

    fn read(&self, value: &Value) -> Result<Option<NextHop>, String> {
        let relay = |text: &str| {
            let (is_lmtp, target) = (text.starts_with("lmtp:"), text.strip_prefix("smtp:").unwrap_or(text));
            if is_lmtp { NextHop::parse(text).ok() } else { NextHop::parse_relay(target).ok() }
        };
        optional(value, relay)
    }

    fn write(&self, out: &Option<NextHop>) -> Value {
        unset_or(out.as_ref().map(|hop| {
            let text = hop.to_string();
            text.strip_prefix("smtp:").unwrap_or(&text).to_owned()
        }))
    }

    fn expected(&self) -> String {
        "a relay such as \"[mail.example.com]:587\" (this host) or \"example.com\" (its MX), or () for none"
            .to_owned()
    }
}

/// How local mail is delivered: any next hop but SMTP.
#[derive(Debug)]
pub(crate) struct Target;

impl Kind for Target {
    type Out = NextHop;

    fn read(&self, value: &Value) -> Result<NextHop, String> {
        match NextHop::parse(text_of(value)?) {
            Ok(NextHop::Smtp { .. }) | Err(_) => Err(value.describe()),
            Ok(hop) => Ok(hop),
        }
    }

    fn write(&self, out: &NextHop) -> Value {
        Value::Text(out.to_string())
    }

    fn expected(&self) -> String {
        "\"maildir\", \"mbox\", \"lmtp:HOST:PORT\" or \"lmtp:unix:/path\"".to_owned()
    }
}

/// A mail address or nothing.
#[derive(Debug)]
pub(crate) struct MaybeAddress;

impl Kind for MaybeAddress {
    type Out = Option<Address>;

    fn read(&self, value: &Value) -> Result<Option<Address>, String> {
        optional(value, |text| Address::parse(text).ok())
    }

    fn write(&self, out: &Option<Address>) -> Value {
        unset_or(out.as_ref().map(Address::to_string))
    }

    fn expected(&self) -> String {
        "a mail address, or ()".to_owned()
    }
}

/// A line of text for people, or nothing.
#[derive(Debug)]
pub(crate) struct MaybeLine;

impl Kind for MaybeLine {
    type Out = Option<String>;

    fn read(&self, value: &Value) -> Result<Option<String>, String> {
        let is_line = |text: &str| text.len() <= MAX_LINE && !text.chars().any(char::is_control);
        optional(value, |text| is_line(text).then(|| text.to_owned()))
    }

    fn write(&self, out: &Option<String>) -> Value {
        unset_or(out.clone())
    }

    fn expected(&self) -> String {
        "one line of text, or ()".to_owned()
    }
}

/// A selector of a DKIM key (RFC 6376 3.1), or nothing.
#[derive(Debug)]
pub(crate) struct MaybeSelector;

impl Kind for MaybeSelector {
    type Out = Option<String>;

    fn read(&self, value: &Value) -> Result<Option<String>, String> {
        let is_selector = |text: &str| Domain::parse(text).is_ok_and(|name| name.as_literal().is_none());
        optional(value, |text| (text.is_ascii() && is_selector(text)).then(|| text.to_owned()))
    }

    fn write(&self, out: &Option<String>) -> Value {
        unset_or(out.clone())
    }

    fn expected(&self) -> String {
        "a selector such as \"2026\" or \"a.b\", or ()".to_owned()
    }
}

/// Address and port of a server that is asked before any name can be resolved; without a port, `DEFAULT_PORT`.
#[derive(Debug)]
pub(crate) struct ServerAddress {
    pub(crate) default_port: u16,
}

impl ServerAddress {
    pub(crate) fn parse(&self, text: &str) -> Option<SocketAddr> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(address) => Some(SocketAddr::new(address, self.default_port)),
            Err(_) => text.parse().ok().filter(|address: &SocketAddr| address.port() != 0),
        }
    }
}

impl Kind for ServerAddress {
    type Out = SocketAddr;

    fn read(&self, value: &Value) -> Result<SocketAddr, String> {
        self.parse(text_of(value)?).ok_or_else(|| value.describe())
    }

    fn write(&self, out: &SocketAddr) -> Value {
        Value::Text(out.to_string())
    }

    fn expected(&self) -> String {
        format!("an address such as \"192.0.2.1\" (port {}) or \"[2001:db8::1]:1514\"", self.default_port)
    }
}

/// The characters that divide a mailbox's name from the extension behind it.
#[derive(Debug)]
pub(crate) struct RecipientDelimiter;

impl Kind for RecipientDelimiter {
    type Out = String;

    fn read(&self, value: &Value) -> Result<String, String> {
        let text = if *value == Value::Null { "" } else { text_of(value)? };
        let fits = text.len() <= 4 && text.chars().all(|c| "+-_.=#".contains(c));
        if fits { Ok(text.to_owned()) } else { Err(value.describe()) }
    }

    fn write(&self, out: &String) -> Value {
        Value::Text(out.clone())
    }

    fn expected(&self) -> String {
        "up to four of the characters + - _ . = #".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn relays() {
        for (written, canonical) in [
            ("[mail.example.com]:587", "[mail.example.com]:587"),
            ("smtp:[mail.example.com]:587", "[mail.example.com]:587"),
            ("example.com", "example.com"),
            ("lmtp:unix:/run/x", "lmtp:unix:/run/x"),
        ] {
            let relay = MaybeRelay.read(&text(written)).unwrap();
            assert_eq!(MaybeRelay.write(&relay), text(canonical));
        }
        assert_eq!(MaybeRelay.read(&Value::Null), Ok(None));
        assert_eq!(MaybeRelay.read(&text("")), Ok(None));
        for bad in ["[mail.example.com", "a b", "host:0", "maildir\n"] {
            assert!(MaybeRelay.read(&text(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn local_mail_never_goes_out_by_smtp() {
        assert!(Target.read(&text("smtp:example.com")).is_err());
        assert!(Target.read(&text("mbox")).is_ok());
        assert!(Target.read(&text("lmtp:unix:/run/dovecot/lmtp")).is_ok());
    }

    #[test]
    fn server_addresses() {
        let kind = ServerAddress { default_port: 53 };
        assert_eq!(kind.parse("192.0.2.1"), Some("192.0.2.1:53".parse().unwrap()));
        assert_eq!(kind.parse("2001:db8::1"), Some("[2001:db8::1]:53".parse().unwrap()));
        assert_eq!(kind.parse("[2001:db8::1]:54"), Some("[2001:db8::1]:54".parse().unwrap()));
        assert_eq!(kind.parse("dns.example.com"), None);
        assert_eq!(kind.parse("192.0.2.1:0"), None);
    }

    #[test]
    fn selectors_are_names_below_a_domain() {
        for good in ["2026", "a.b-c"] {
            assert_eq!(MaybeSelector.read(&text(good)), Ok(Some(good.to_owned())));
        }
        for bad in ["a b", "a;d=b", "[192.0.2.1]", ".a"] {
            assert!(MaybeSelector.read(&text(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_no_literal() {
        assert!(DomainName.read(&text("[192.0.2.1]")).is_err());
        assert!(DomainName.read(&text("mx.example.com")).is_ok());
    }
}
