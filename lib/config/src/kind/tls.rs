//! TLS towards next hops.

use vsmtp_mail::NextHop;

use super::Kind;
use super::list::{rows, words};
use crate::tls_policy::{TlsDestination, TlsLevel, TlsPolicy};
use crate::value::Value;

/// A policy, as a text or as the list of its words.
fn policy(value: &Value) -> Option<TlsPolicy> {
    TlsPolicy::parse(&words(value)?)
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
        "\"none\", \"may\", \"encrypt\", \"dane\", \"dane-only\", \"sts\", \"verify match=NAME:...\" or \"fingerprint sha256:HEX\"".to_owned()
    }
}

/// Policies by next hop.
#[derive(Debug)]
pub(crate) struct TlsByNextHop;

impl Kind for TlsByNextHop {
    type Out = Vec<(TlsDestination, TlsPolicy)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        rows(value, |name, value, shown| {
            let destination = TlsDestination::parse(name).ok_or_else(|| shown.to_owned())?;
            let policy = policy(value).ok_or_else(|| format!("{} for {shown}", value.describe()))?;
            // Only mail that goes by the MX records of a domain has such a policy: all else would wait for ever.
            let has_no_sts = matches!(&destination, TlsDestination::NextHop(hop) if !matches!(hop, NextHop::Smtp { mx: true, .. }));
            if policy.level == TlsLevel::Sts && has_no_sts {
                return Err(format!("\"sts\" for {shown}, which is no mail domain"));
            }
            Ok((destination, policy))
        })
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
        for domain in ["example.com", "example.com:2525", ".example.com"] {
            assert!(TlsByNextHop.read(&map(domain, "sts")).is_ok(), "{domain}");
        }
        for server in ["[mx.example.com]:587", "[192.0.2.1]", "lmtp:[mx.example.com]:24"] {
            assert!(TlsByNextHop.read(&map(server, "sts")).is_err(), "{server}");
        }
    }
}
