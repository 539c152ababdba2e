//! What next hops bear.

use super::Kind;
use super::list::{items, rows, texts, words};
use crate::destination::{DestinationLimits, MAX_RATES, Rate, SourceAddresses};
use crate::tls_policy::TlsDestination;
use crate::value::Value;

/// Rates that hold together.
#[derive(Debug)]
pub(crate) struct Rates;

impl Kind for Rates {
    type Out = Vec<Rate>;

    fn read(&self, value: &Value) -> Result<Vec<Rate>, String> {
        items(value, MAX_RATES, Rate::parse)
    }

    fn write(&self, out: &Vec<Rate>) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        format!("a list of at most {MAX_RATES} rates such as \"20/s\", \"500/m\", \"1/5s\"")
    }
}

/// Our own addresses that connections come from.
#[derive(Debug)]
pub(crate) struct Sources;

impl Kind for Sources {
    type Out = SourceAddresses;

    fn read(&self, value: &Value) -> Result<SourceAddresses, String> {
        let one = |text: &str| SourceAddresses::default().with(text).map(|_| text.to_owned());
        let texts = items(value, 2, one)?;
        let both = texts.iter().try_fold(SourceAddresses::default(), |all, text| all.with(text));
        both.ok_or_else(|| "two addresses of one family".to_owned())
    }

    fn write(&self, out: &SourceAddresses) -> Value {
        texts(&out.iter().collect::<Vec<_>>())
    }

    fn expected(&self) -> String {
        "a list of at most one IPv4 and one IPv6 address".to_owned()
    }
}

/// Limits by next hop.
#[derive(Debug)]
pub(crate) struct LimitsByNextHop;

/// Limits, as a text or as the list of its words.
fn limits(value: &Value) -> Option<DestinationLimits> {
    DestinationLimits::parse(&words(value)?)
}

impl Kind for LimitsByNextHop {
    type Out = Vec<(TlsDestination, DestinationLimits)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        rows(value, |name, value, shown| {
            let destination = TlsDestination::parse(name).ok_or_else(|| shown.to_owned())?;
            let limits = limits(value).ok_or_else(|| format!("{} for {shown}", value.describe()))?;
            Ok((destination, limits))
        })
    }

    fn write(&self, out: &Self::Out) -> Value {
        let row = |(destination, limits): &(TlsDestination, DestinationLimits)| {
            (destination.to_string(), Value::Text(limits.to_string()))
        };
        Value::Map(out.iter().map(row).collect())
    }

    fn expected(&self) -> String {
        "a map of next hops (\"example.com\", \".example.com\", \"[host]:port\") to limits such as \
         \"concurrency=2 rate=20/m rate=100/h\""
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offending_row_is_named() {
        let map =
            |name: &str, limits: &str| Value::Map([(name.to_owned(), Value::Text(limits.to_owned()))].into());
        assert_eq!(LimitsByNextHop.read(&map("example.com", "rate=1/s")).unwrap().len(), 1);
        assert_eq!(
            LimitsByNextHop.read(&map("example.com", "x")),
            Err("\"x\" for \"example.com\"".to_owned())
        );
        assert_eq!(LimitsByNextHop.read(&map("a b", "rate=1/s")), Err("\"a b\"".to_owned()));
    }
}
