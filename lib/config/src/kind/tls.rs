//! TLS towards next hops.

use super::Kind;
use crate::tls_policy::{TlsDestination, TlsPolicy};
use crate::value::Value;

/// Most next hops with a policy of their own.
const MAX_ROWS: usize = 20_000;

/// A policy, as a text or as the list of its words.
fn policy(value: &Value) -> Option<TlsPolicy> {
    match value {
        Value::Text(text) => TlsPolicy::parse(text),
        Value::List(words) => {
            let word = |word: &Value| if let Value::Text(text) = word { Some(text.clone()) } else { None };
            TlsPolicy::parse(&words.iter().map(word).collect::<Option<Vec<_>>>()?.join(" "))
        }
        _ => None,
    }
}

/// One policy.
#[derive(Debug)]
pub(crate) struct Tls;

impl Kind for Tls {
    type Out = TlsPolicy;

    fn read(&self, value: &Value) -> Result<TlsPolicy, String> {
        policy(value).ok_or_else(|| value.describe())
    }

    fn write(&self, out: &TlsPolicy) -> Value {
        Value::Text(out.to_string())
    }

    fn expected(&self) -> String {
        "\"none\", \"may\", \"encrypt\", \"dane\", \"dane-only\", \"verify match=NAME:...\" or \"fingerprint sha256:HEX\"".to_owned()
    }
}

/// Policies by next hop.
#[derive(Debug)]
pub(crate) struct TlsByNextHop;

impl Kind for TlsByNextHop {
    type Out = Vec<(TlsDestination, TlsPolicy)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        let map = match value {
            Value::Null => return Ok(Vec::new()),
            Value::Map(map) => map,
            other => return Err(other.describe()),
        };
        if map.len() > MAX_ROWS {
            return Err(format!("a map of {} rows (at most {MAX_ROWS})", map.len()));
        }
        let row = |(name, value): (&String, &Value)| {
            let shown = Value::Text(name.clone()).describe();
            let destination = TlsDestination::parse(name).ok_or_else(|| shown.clone())?;
            let policy = policy(value).ok_or_else(|| format!("{} for {shown}", value.describe()))?;
            Ok((destination, policy))
        };
        map.iter().map(row).collect()
    }

    fn write(&self, out: &Self::Out) -> Value {
        Value::Map(
            out.iter()
                .map(|(destination, policy)| (destination.to_string(), Value::Text(policy.to_string())))
                .collect(),
        )
    }

    fn expected(&self) -> String {
        "a map of next hops (\"example.com\", \".example.com\", \"[host]:port\") to policies such as \"encrypt\""
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offending_row_is_named() {
        let map =
            |name: &str, policy: &str| Value::Map([(name.to_owned(), Value::Text(policy.to_owned()))].into());
        assert_eq!(TlsByNextHop.read(&map("example.com", "encrypt")).unwrap().len(), 1);
        assert_eq!(TlsByNextHop.read(&map("example.com", "x")), Err("\"x\" for \"example.com\"".to_owned()));
        assert_eq!(TlsByNextHop.read(&map("a b", "may")), Err("\"a b\"".to_owned()));
    }
}
