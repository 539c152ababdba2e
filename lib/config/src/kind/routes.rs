//! Maps from domains and senders to next hops.

use std::fmt;

use vsmtp_mail::NextHop;

use super::Kind;
use super::list::rows;
use crate::pattern::AddressPattern;
use crate::routes::DomainPattern;
use crate::value::Value;

/// `[host]:port`, `domain`, or `lmtp:` and a server; never a mailbox.
fn next_hop(value: &Value) -> Option<NextHop> {
    let text = match value {
        Value::Text(text) => text,
        Value::List(items) => match items.as_slice() {
            [Value::Text(text)] => text,
            _ => return None,
        },
        _ => return None,
    };
    if text.starts_with("lmtp:") {
        return NextHop::parse(text).ok();
    }
    NextHop::parse_relay(text.strip_prefix("smtp:").unwrap_or(text)).ok()
}

fn read<P>(value: &Value, parse: impl Fn(&str) -> Option<P>) -> Result<Vec<(P, NextHop)>, String> {
    rows(value, |name, value, shown| {
        let pattern = parse(name).ok_or_else(|| shown.to_owned())?;
        let hop = next_hop(value).ok_or_else(|| format!("{} for {shown}", value.describe()))?;
        Ok((pattern, hop))
    })
}

fn write<P: fmt::Display>(rows: &[(P, NextHop)]) -> Value {
    let row = |(pattern, next_hop): &(P, NextHop)| {
        let text = next_hop.to_string();
        (pattern.to_string(), Value::Text(text.strip_prefix("smtp:").unwrap_or(&text).to_owned()))
    };
    Value::Map(rows.iter().map(row).collect())
}

/// By the recipient's domain.
#[derive(Debug)]
pub(crate) struct HopsByDomain;

impl Kind for HopsByDomain {
    type Out = Vec<(DomainPattern, NextHop)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        read(value, DomainPattern::parse)
    }

    fn write(&self, out: &Self::Out) -> Value {
        write(out)
    }

    fn expected(&self) -> String {
        "a map of \"domain\" or \".domain\" to a next hop such as \"[mail.example.com]:25\" or \"lmtp:unix:/path\""
            .to_owned()
    }
}

/// By the sender.
#[derive(Debug)]
pub(crate) struct HopsBySender;

impl Kind for HopsBySender {
    type Out = Vec<(AddressPattern, NextHop)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        let known = |pattern: &AddressPattern| {
            matches!(pattern, AddressPattern::Exact(_) | AddressPattern::Domain(_))
        };
        read(value, |text| AddressPattern::parse(text).filter(known))
    }

    fn write(&self, out: &Self::Out) -> Value {
        write(out)
    }

    fn expected(&self) -> String {
        "a map of \"user@domain\" or \"*@domain\" to a next hop such as \"[mail.example.com]:25\"".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offending_row_is_named() {
        let map = |name: &str, to: &str| Value::Map([(name.to_owned(), Value::Text(to.to_owned()))].into());
        assert_eq!(HopsByDomain.read(&map(".example.com", "lmtp:unix:/x")).unwrap().len(), 1);
        assert_eq!(
            HopsByDomain.read(&map("example.com", "maildir")),
            Ok(vec![(DomainPattern::parse("example.com").unwrap(), NextHop::parse("smtp:maildir").unwrap())])
        );
        assert_eq!(HopsByDomain.read(&map("a b", "x.test")), Err("\"a b\"".to_owned()));
        assert_eq!(
            HopsBySender.read(&map("jane@a.test", "[x")),
            Err("\"[x\" for \"jane@a.test\"".to_owned())
        );
        assert!(HopsBySender.read(&map("jane", "x.test")).is_err());
    }
}
