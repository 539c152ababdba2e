//! What single next hops bear, as operators write it: one line of words per next hop. Read here and nowhere else.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use vsmtp_mail::{Domain, NextHop, parse_duration};

use crate::by_text::{ByText, Textual};
use crate::tls_policy::TlsDestination;

/// Most rates of one next hop.
pub const MAX_RATES: usize = 4;
/// Most messages of a rate.
const MAX_COUNT: u32 = 10_000_000;
/// Longest time of a rate.
const MAX_PERIOD: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most attempts at a time.
const MAX_CONCURRENCY: u32 = 1000;
/// Units of time, the largest first.
const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// At most so many in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least one.
    pub count: u32,
    /// In how long: whole seconds, at least one.
    pub period: Duration,
}

impl Rate {
    /// Reads `20/s`, `500/m`, `10000/h`, `1/5s`.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, period) = text.split_once('/')?;
        let count = count.parse().ok().filter(|count| (1..=MAX_COUNT).contains(count))?;
        let is_unit = UNITS.iter().any(|(unit, _)| *unit == period);
        let period = if is_unit { parse_duration(&format!("1{period}")) } else { parse_duration(period) };
        let is_whole = |period: &Duration| period.subsec_nanos() == 0 && !period.is_zero();
        Some(Rate { count, period: period.filter(|period| is_whole(period) && *period <= MAX_PERIOD)? })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.period.as_secs();
        let (unit, length) =
            UNITS.into_iter().find(|(_, length)| seconds.is_multiple_of(*length)).unwrap_or(("s", 1));
        match seconds / length {
            1 => write!(f, "{}/{unit}", self.count),
            several => write!(f, "{}/{several}{unit}", self.count),
        }
    }
}

/// Our own addresses that connections come from, at most one of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SourceAddresses {
    /// For servers at IPv4 addresses; `None` for what the system chooses.
    pub v4: Option<Ipv4Addr>,
    /// For servers at IPv6 addresses; `None` for what the system chooses.
    pub v6: Option<Ipv6Addr>,
}

impl SourceAddresses {
    /// Adds an address. `None` if it is not one that a connection can come from, or if there is one of its family already.
    pub fn with(mut self, text: &str) -> Option<Self> {
        let address: IpAddr = text.parse().ok()?;
        if address.is_unspecified() || address.is_multicast() {
            return None;
        }
        let before = match address {
            IpAddr::V4(v4) if v4.is_broadcast() => return None,
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => return None,
            IpAddr::V4(v4) => self.v4.replace(v4).is_some(),
            IpAddr::V6(v6) => self.v6.replace(v6).is_some(),
        };
        Some(self).filter(|_| !before)
    }

    /// The addresses.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// The one for a server at that address.
    pub fn towards(self, server: IpAddr) -> Option<IpAddr> {
        match server {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// Separated by spaces.
impl fmt::Display for SourceAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.iter().map(|address| address.to_string()).collect();
        f.write_str(&addresses.join(" "))
    }
}

impl Textual for SourceAddresses {
    fn from_text(text: &str) -> Option<Self> {
        text.split_ascii_whitespace().try_fold(SourceAddresses::default(), SourceAddresses::with)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// What one next hop bears; what is not said is as for all others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DestinationLimits {
    /// Attempts at a time, at most.
    pub concurrency: Option<u32>,
    /// Messages in a time; all of them count. Empty if nothing is said, which is not the same as `rate=none`.
    pub rates: Vec<Rate>,
    /// `rate=none`: no rate, whatever holds for others.
    pub unlimited: bool,
    /// Our own addresses that connections come from; of a family that has none here, the usual one.
    pub source: SourceAddresses,
}

impl DestinationLimits {
    /// Reads `[concurrency=N] [rate=N/TIME ...] [source=ADDRESS ...]`, or `rate=none` instead of rates.
    pub fn parse(text: &str) -> Option<Self> {
        let mut limits = DestinationLimits::default();
        for word in text.split_ascii_whitespace() {
            let (name, value) = word.split_once('=')?;
            match name {
                "concurrency" if limits.concurrency.is_none() => {
                    let number =
                        value.parse().ok().filter(|number| (1..=MAX_CONCURRENCY).contains(number))?;
                    limits.concurrency = Some(number);
                }
                "rate" if value == "none" && limits.rates.is_empty() => limits.unlimited = true,
                "rate" if !limits.unlimited && limits.rates.len() < MAX_RATES => {
                    limits.rates.push(Rate::parse(value)?);
                }
                "source" => limits.source = limits.source.with(value)?,
                _ => return None,
            }
        }
        Some(limits).filter(|limits| *limits != DestinationLimits::default())
    }
}

impl fmt::Display for DestinationLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let concurrency = self.concurrency.map(|number| format!("concurrency={number}"));
        let unlimited = self.unlimited.then(|| "rate=none".to_owned());
        let rates = self.rates.iter().map(|rate| format!("rate={rate}"));
        let sources = self.source.iter().map(|address| format!("source={address}"));
        let words: Vec<String> =
            concurrency.into_iter().chain(unlimited).chain(rates).chain(sources).collect();
        f.write_str(&words.join(" "))
    }
}

impl Textual for Rate {
    fn from_text(text: &str) -> Option<Self> {
        Rate::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Textual for DestinationLimits {
    fn from_text(text: &str) -> Option<Self> {
        DestinationLimits::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// A table by next hop: what a next hop has itself comes before what the nearest domain above it has.
#[derive(Debug, Clone)]
pub struct ByNextHop<T> {
    exact: HashMap<NextHop, T>,
    below: HashMap<Domain, T>,
}

impl<T> Default for ByNextHop<T> {
    fn default() -> Self {
        ByNextHop { exact: HashMap::new(), below: HashMap::new() }
    }
}

impl<T> ByNextHop<T> {
    /// Sorts the rows of a slice.
    pub fn new<'a, R: Textual + 'a>(
        rows: impl IntoIterator<Item = &'a (ByText<TlsDestination>, ByText<R>)>,
        read: impl Fn(&R) -> T,
    ) -> Self {
        let mut table = ByNextHop::default();
        for (destination, row) in rows {
            match &**destination {
                TlsDestination::NextHop(next_hop) => table.exact.insert(next_hop.clone(), read(row)),
                TlsDestination::Below(domain) => table.below.insert(domain.clone(), read(row)),
            };
        }
        table
    }

    /// The row of a next hop.
    pub fn of(&self, next_hop: &NextHop) -> Option<&T> {
        if let Some(found) = self.exact.get(next_hop) {
            return Some(found);
        }
        let NextHop::Smtp { host, .. } = next_hop else { return None };
        if self.below.is_empty() || host.as_literal().is_some() {
            return None;
        }
        let text = host.as_str();
        let mut parents =
            text.match_indices('.').filter_map(|(dot, _)| Domain::parse(text.get(dot + 1..)?).ok());
        parents.find_map(|parent| self.below.get(&parent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_survive_a_round_trip() {
        for (written, canonical) in
            [("20/s", "20/s"), ("500/60s", "500/m"), ("1/5s", "1/5s"), ("3/90m", "3/90m"), ("9/24h", "9/d")]
        {
            assert_eq!(Rate::parse(written).unwrap().to_string(), canonical);
            assert_eq!(Rate::parse(canonical), Rate::parse(written));
        }
        for bad in ["", "0/s", "1", "1/", "/s", "1/0s", "1/500ms", "1/8d", "-1/s", "10000001/s", "1/x"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn limits_survive_a_round_trip() {
        for (written, canonical) in [
            ("concurrency=2", "concurrency=2"),
            ("rate=100/h concurrency=2  rate=20/m", "concurrency=2 rate=100/h rate=20/m"),
            ("rate=none", "rate=none"),
            ("source=2001:DB8::1 source=192.0.2.1", "source=192.0.2.1 source=2001:db8::1"),
        ] {
            let limits = DestinationLimits::parse(written).unwrap();
            assert_eq!(limits.to_string(), canonical);
            assert_eq!(DestinationLimits::parse(canonical), Some(limits));
        }
        let bad = [
            "",
            "concurrency=0",
            "concurrency=1001",
            "concurrency=1 concurrency=2",
            "rate=1",
            "rate=none rate=1/s",
            "rate=1/s rate=none",
            "rate=1/s rate=2/s rate=3/s rate=4/s rate=5/s",
            "speed=1",
            "source=0.0.0.0",
            "source=::ffff:192.0.2.1",
            "source=192.0.2.1 source=192.0.2.2",
            "source=mx.example.com",
            "fast",
        ];
        for bad in bad {
            assert_eq!(DestinationLimits::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_next_hop_comes_before_the_domains_above_it() {
        let row = |name: &str, text: &str| {
            let limits = DestinationLimits::parse(text).unwrap();
            (TlsDestination::parse(name).unwrap().into(), limits.into())
        };
        let rows = [
            row("example.com", "concurrency=1"),
            row(".example.com", "concurrency=2"),
            row(".com", "concurrency=3"),
            row("[mx.example.net]:26", "concurrency=4"),
        ];
        let table = ByNextHop::new(&rows, |limits: &DestinationLimits| limits.concurrency.unwrap());
        for (hop, expected) in [
            ("smtp:example.com", Some(1)),
            ("smtp:a.b.example.com", Some(2)),
            ("smtp:other.com", Some(3)),
            ("smtp:[mx.example.net]:26", Some(4)),
            ("smtp:[mx.example.net]:25", None),
            ("smtp:example.net", None),
            ("lmtp:unix:/run/l", None),
            ("maildir", None),
        ] {
            assert_eq!(table.of(&NextHop::parse(hop).unwrap()).copied(), expected, "{hop}");
        }
    }
}
