//! An SPF record as text (RFC 7208 4.6, 5, 6, 12): terms in their order, or nothing if one of them breaks the grammar.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::macros::{Place, Template, parse, parse_domain};

/// Most terms of one record; a text record has at most 65,535 octets.
const MAX_TERMS: usize = 4_096;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// In their order.
    pub directives: Vec<Directive>,
    /// Where to go on if nothing matches.
    pub redirect: Option<Template>,
    /// Where an explanation stands.
    pub explanation: Option<Template>,
}

/// What follows if a mechanism matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// `+`, `-`, `~` or `?`.
    pub qualifier: Qualifier,
    /// What is to match.
    pub mechanism: Mechanism,
    /// As it stands in the record.
    pub text: String,
}

/// What a match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qualifier {
    /// `+`, or nothing.
    Pass,
    /// `-`.
    Fail,
    /// `~`.
    SoftFail,
    /// `?`.
    Neutral,
}

/// A mechanism.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mechanism {
    /// Everything matches.
    All,
    /// The other domain's record says pass.
    Include(Template),
    /// An address of the host.
    A(Option<Template>, Lengths),
    /// An address of a mail exchanger.
    Mx(Option<Template>, Lengths),
    /// A name of the address is within the domain.
    Ptr(Option<Template>),
    /// The address is within a network.
    Ip(IpAddr, u8),
    /// The name has an address.
    Exists(Template),
}

/// How many bits of an address count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// Of IPv4.
    pub v4: u8,
    /// Of IPv6.
    pub v6: u8,
}

/// True if the text claims to be a record of this version.
pub fn is_record(text: &[u8]) -> bool {
    let (Some(version), rest) = (text.get(..6), text.get(6..).unwrap_or_default()) else { return false };
    version.eq_ignore_ascii_case(b"v=spf1") && matches!(rest.first(), None | Some(b' '))
}

impl Record {
    /// Reads a record; `None` if it breaks the grammar.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut record = Record { directives: Vec::new(), redirect: None, explanation: None };
        let terms = text.get(6..)?.split(' ').filter(|term| !term.is_empty());
        for (at, term) in terms.enumerate() {
            if at >= MAX_TERMS {
                return None;
            }
            record.take(term)?;
        }
        Some(record)
    }

    fn take(&mut self, term: &str) -> Option<()> {
        let named = term.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
        let is_name = term.starts_with(|c: char| c.is_ascii_alphabetic());
        if let Some((name, value)) = named.filter(|_| is_name).and_then(|at| {
            let (name, rest) = term.split_at_checked(at)?;
            Some((name, rest.strip_prefix('=')?))
        }) {
            return self.modifier(name, value);
        }
        let (qualifier, rest) = match term.as_bytes().first()? {
            b'+' => (Qualifier::Pass, term.get(1..)?),
            b'-' => (Qualifier::Fail, term.get(1..)?),
            b'~' => (Qualifier::SoftFail, term.get(1..)?),
            b'?' => (Qualifier::Neutral, term.get(1..)?),
            _ => (Qualifier::Pass, term),
        };
        let mechanism = mechanism(rest)?;
        self.directives.push(Directive { qualifier, mechanism, text: term.to_owned() });
        Some(())
    }

    fn modifier(&mut self, name: &str, value: &str) -> Option<()> {
        let place = if name.eq_ignore_ascii_case("redirect") {
            &mut self.redirect
        } else if name.eq_ignore_ascii_case("exp") {
            &mut self.explanation
        } else {
            // Nobody knows it, but it must be written well.
            return parse(value, Place::Record).map(|_| ());
        };
        if place.is_some() {
            return None;
        }
        *place = Some(parse_domain(value)?);
        Some(())
    }
}

fn mechanism(text: &str) -> Option<Mechanism> {
    let end = text.find([':', '/']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let argument = rest.strip_prefix(':');
    Some(match name.to_ascii_lowercase().as_str() {
        "all" if rest.is_empty() => Mechanism::All,
        "include" => Mechanism::Include(parse_domain(argument?)?),
        "exists" => Mechanism::Exists(parse_domain(argument?)?),
        "ptr" if rest.is_empty() => Mechanism::Ptr(None),
        "ptr" => Mechanism::Ptr(Some(parse_domain(argument?)?)),
        "ip4" => {
            let (address, bits) = network(argument?, 32)?;
            Mechanism::Ip(address.parse::<Ipv4Addr>().ok()?.into(), bits)
        }
        "ip6" => {
            let (address, bits) = network(argument?, 128)?;
            Mechanism::Ip(address.parse::<Ipv6Addr>().ok()?.into(), bits)
        }
        name @ ("a" | "mx") => {
            let (rest, lengths) = lengths(rest)?;
            let domain = match rest.strip_prefix(':') {
                Some(domain) => Some(parse_domain(domain)?),
                None if rest.is_empty() => None,
                None => return None,
            };
            if name == "a" { Mechanism::A(domain, lengths) } else { Mechanism::Mx(domain, lengths) }
        }
        _ => return None,
    })
}

fn network(text: &str, most: u8) -> Option<(&str, u8)> {
    match text.split_once('/') {
        Some((address, bits)) => Some((address, number(bits, most)?)),
        None => Some((text, most)),
    }
}

/// Takes `/24`, `//64` or `/24//64` from the end.
fn lengths(text: &str) -> Option<(&str, Lengths)> {
    let digits = |text: &str| text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let mut lengths = Lengths { v4: 32, v6: 128 };
    let mut rest = text;
    let (before, bits) = rest.split_at(digits(rest));
    if let Some(before) = before.strip_suffix("//").filter(|_| !bits.is_empty()) {
        lengths.v6 = number(bits, 128)?;
        rest = before;
    }
    let (before, bits) = rest.split_at(digits(rest));
    if let Some(before) = before.strip_suffix('/').filter(|_| !bits.is_empty()) {
        lengths.v4 = number(bits, 32)?;
        rest = before;
    }
    Some((rest, lengths))
}

/// Digits without a leading zero.
fn number(text: &str, most: u8) -> Option<u8> {
    let plain = text.bytes().all(|octet| octet.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|number| plain && *number <= most)
}
