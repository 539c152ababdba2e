//! A list of hosts in the DNS (RFC 5782), and what an entry in it is worth: `list.example.net`, `list.example.net*2`,
//! `list.example.net=127.0.0.[2;4..11]*2`, or `good.example.net=127.0.[0..255].[1..3]*-2`.

use std::fmt;
use std::net::Ipv4Addr;

use vsmtp_mail::Domain;

use crate::by_text::Textual;

/// Longest name of a list, in octets: the longest address before it takes 64 of 253.
const MAX_ZONE: usize = 189;
/// Most numbers and ranges in one part of a pattern.
const MAX_RANGES: usize = 32;
/// Largest weight, either way.
const MAX_WEIGHT: i32 = 1000;

/// One list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsblSite {
    zone: Domain,
    /// `None`: every answer in 127.0.0.0/8 but the errors of 127.255.255.0/24.
    pattern: Option<[Ranges; 4]>,
    weight: i32,
}

/// The numbers that one octet of an answer may have, from and to.
type Ranges = Vec<(u8, u8)>;

impl DnsblSite {
    /// Reads a list. A pattern must begin with 127: other answers never count.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, weight) = match text.rsplit_once('*') {
            Some((text, weight)) => (text, parse_weight(weight)?),
            None => (text, 1),
        };
        let (zone, pattern) = match text.split_once('=') {
            Some((zone, pattern)) => (zone, Some(parse_pattern(pattern)?)),
            None => (text, None),
        };
        let zone = Domain::parse(zone).ok()?;
        let fits = zone.as_str().len() <= MAX_ZONE && zone.as_literal().is_none();
        fits.then_some(DnsblSite { zone, pattern, weight })
    }

    /// Its name.
    pub fn zone(&self) -> &Domain {
        &self.zone
    }

    /// What an entry adds to a client's score; less than 0 for a list of good hosts.
    pub fn weight(&self) -> i32 {
        self.weight
    }

    /// True if that answer says that the host is listed.
    pub fn matches(&self, answer: Ipv4Addr) -> bool {
        let octets = answer.octets();
        match &self.pattern {
            None => matches!(octets, [127, b, c, _] if (b, c) != (255, 255)),
            Some(pattern) => pattern
                .iter()
                .zip(octets)
                .all(|(ranges, octet)| ranges.iter().any(|(from, to)| (*from..=*to).contains(&octet))),
        }
    }
}

fn parse_weight(text: &str) -> Option<i32> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
    let weight: i32 = text.parse().ok().filter(|_| plain)?;
    (weight != 0 && weight.abs() <= MAX_WEIGHT).then_some(weight)
}

/// Four parts between dots; a part in brackets may have dots of its own.
fn parse_pattern(text: &str) -> Option<[Ranges; 4]> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, behind) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        parts.push(parse_ranges(part)?);
        match behind.strip_prefix('.') {
            Some(next) if parts.len() < 4 => rest = next,
            None if behind.is_empty() => break,
            _ => return None,
        }
    }
    let pattern: [Ranges; 4] = parts.try_into().ok()?;
    (pattern[0] == [(127, 127)]).then_some(pattern)
}

fn parse_ranges(text: &str) -> Option<Ranges> {
    let range = |text: &str| {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let (from, to) = (parse_octet(from)?, parse_octet(to)?);
        (from <= to).then_some((from, to))
    };
    let ranges: Ranges = text.split(';').map(range).collect::<Option<_>>()?;
    (ranges.len() <= MAX_RANGES).then_some(ranges)
}

fn parse_octet(text: &str) -> Option<u8> {
    let plain = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

impl fmt::Display for DnsblSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.zone)?;
        for (at, ranges) in self.pattern.iter().flatten().enumerate() {
            f.write_str(if at == 0 { "=" } else { "." })?;
            let word = |(from, to): &(u8, u8)| match from == to {
                true => from.to_string(),
                false => format!("{from}..{to}"),
            };
            let words: Vec<String> = ranges.iter().map(word).collect();
            match ranges.as_slice() {
                [(from, to)] if from == to => write!(f, "{from}")?,
                _ => write!(f, "[{}]", words.join(";"))?,
            }
        }
        if self.weight == 1 { Ok(()) } else { write!(f, "*{}", self.weight) }
    }
}

impl Textual for DnsblSite {
    fn from_text(text: &str) -> Option<Self> {
        DnsblSite::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(site: &str, answer: &str) -> bool {
        DnsblSite::parse(site).unwrap().matches(answer.parse().unwrap())
    }

    #[test]
    fn only_answers_of_the_loopback_network_count() {
        assert!(matches("bl.test", "127.0.0.2") && matches("bl.test", "127.1.2.3"));
        assert!(!matches("bl.test", "128.0.0.2") && !matches("bl.test", "192.0.2.1"));
        assert!(!matches("bl.test", "127.255.255.254"), "an error of the list");
        assert!(matches("bl.test=127.0.0.[2;4..11]", "127.0.0.2"));
        assert!(matches("bl.test=127.0.0.[2;4..11]", "127.0.0.7"));
        assert!(!matches("bl.test=127.0.0.[2;4..11]", "127.0.0.3"));
        assert!(!matches("bl.test=127.0.0.4", "127.0.1.4"));
        assert!(matches("wl.test=127.0.[0..255].[1..3]*-2", "127.0.13.2"));
    }

    #[test]
    fn text_and_back() {
        for (text, shown) in [
            ("bl.test", "bl.test"),
            ("BL.Test*1", "bl.test"),
            ("bl.test*-3", "bl.test*-3"),
            ("bl.test=127.0.0.[2]*2", "bl.test=127.0.0.2*2"),
            ("bl.test=127.0.[0..255].[1;3..9]", "bl.test=127.0.[0..255].[1;3..9]"),
        ] {
            let site = DnsblSite::parse(text).unwrap();
            assert_eq!(site.to_string(), shown);
            assert_eq!(DnsblSite::parse(shown), Some(site));
        }
        assert_eq!(DnsblSite::parse("bl.test*-3").unwrap().weight(), -3);
    }

    #[test]
    fn what_is_no_list() {
        for bad in [
            "",
            "*2",
            "=127.0.0.2",
            "bl.test*",
            "bl.test*0",
            "bl.test*+2",
            "bl.test*1001",
            "bl.test*2*2",
            "bl.test=",
            "bl.test=127.0.0",
            "bl.test=127.0.0.2.3",
            "bl.test=127.0.0.256",
            "bl.test=127.0.0.[9..2]",
            "bl.test=127.0.0.[2",
            "bl.test=127.0.0.[]",
            "bl.test=127.0.0.[2]x",
            "bl.test=10.0.0.2",
            "bl.test=[127;128].0.0.2",
            "[192.0.2.1]",
            "a b",
        ] {
            assert_eq!(DnsblSite::parse(bad), None, "{bad}");
        }
        assert_eq!(DnsblSite::parse(&format!("{}.test", "a.".repeat(95))), None, "no room for an address");
    }
}
