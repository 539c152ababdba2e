//! How much TLS a next hop needs, as operators write it: one line of words per next hop. Read here and nowhere else.

use std::fmt;

use vsmtp_mail::{Domain, NextHop};

use crate::by_text::Textual;

/// Most names or fingerprints of one policy.
const MAX_ITEMS: usize = 32;
/// Octets of a SHA-256.
const SHA256: usize = 32;

/// What a next hop needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPolicy {
    /// How much.
    pub level: TlsLevel,
    /// TLS from the first octet (RFC 8314), instead of STARTTLS. Port 465 always has it.
    pub wrapper: bool,
    /// The MTA-STS policy of this next hop does not count, where it would (`may`, `dane`).
    pub no_sts: bool,
}

/// How much TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsLevel {
    /// None, even where it is offered.
    None,
    /// Where it is offered; in clear otherwise, and after a failed handshake.
    May,
    /// Always, with whoever answers.
    Encrypt,
    /// Always, with a certificate of a known authority for one of these names.
    Verify(Vec<TlsName>),
    /// What the TLSA records of the server ask for (RFC 7672); where it has none, as `may`.
    Dane,
    /// What the TLSA records of the server ask for; without any, no mail.
    DaneOnly,
    /// What the MTA-STS policy of the mail domain asks for (RFC 8461); without one that is enforced, no mail.
    Sts,
    /// Always, with a certificate or key that has one of these SHA-256 fingerprints.
    Fingerprint(Vec<[u8; SHA256]>),
}

/// A name that a certificate must be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsName {
    /// The name of the server that is connected to, which the DNS told us.
    HostName,
    /// The next hop itself.
    NextHop,
    /// Any name below the next hop.
    BelowNextHop,
    /// This one.
    Exact(Domain),
    /// Any name below this one.
    Below(Domain),
}

/// Which next hops a policy is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TlsDestination {
    /// This one.
    NextHop(NextHop),
    /// All domains below this one.
    Below(Domain),
}

impl TlsPolicy {
    /// Reads `LEVEL [match=NAME:NAME] [sha256:HEX ...] [wrapper] [no-sts]`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let level = words.next()?;
        let (mut names, mut prints, mut wrapper, mut no_sts) = (Vec::new(), Vec::new(), false, false);
        for word in words {
            if word == "wrapper" {
                wrapper = true;
            } else if word == "no-sts" {
                no_sts = true;
            } else if let Some(list) = word.strip_prefix("match=") {
                names.extend(list.split(':').map(TlsName::parse).collect::<Option<Vec<_>>>()?);
            } else {
                prints.push(fingerprint(word.strip_prefix("sha256:")?)?);
            }
        }
        if names.len() > MAX_ITEMS || prints.len() > MAX_ITEMS {
            return None;
        }
        // It says something only where such a policy could count.
        if no_sts && !matches!(level, "may" | "dane") {
            return None;
        }
        let level = match level {
            "verify" if prints.is_empty() => {
                let usual = || vec![TlsName::NextHop, TlsName::BelowNextHop];
                return Some(TlsPolicy {
                    level: TlsLevel::Verify(if names.is_empty() { usual() } else { names }),
                    wrapper,
                    no_sts,
                });
            }
            "fingerprint" if names.is_empty() && !prints.is_empty() => TlsLevel::Fingerprint(prints),
            _ if !names.is_empty() || !prints.is_empty() => return None,
            "none" if !wrapper => TlsLevel::None,
            // There is no going back from TLS that came first.
            "may" if !wrapper => TlsLevel::May,
            "encrypt" => TlsLevel::Encrypt,
            "dane" if !wrapper => TlsLevel::Dane,
            "dane-only" => TlsLevel::DaneOnly,
            "sts" => TlsLevel::Sts,
            _ => return None,
        };
        Some(TlsPolicy { level, wrapper, no_sts })
    }
}

impl TlsName {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "hostname" => TlsName::HostName,
            "nexthop" => TlsName::NextHop,
            "dot-nexthop" => TlsName::BelowNextHop,
            _ => match text.strip_prefix('.') {
                Some(domain) => TlsName::Below(name(domain)?),
                None => TlsName::Exact(name(text)?),
            },
        })
    }
}

fn name(text: &str) -> Option<Domain> {
    Domain::parse(text).ok().filter(|domain| domain.as_literal().is_none())
}

/// 32 octets in hexadecimal, with or without colons between them.
pub(crate) fn fingerprint(text: &str) -> Option<[u8; SHA256]> {
    let digits: Vec<u8> = text.bytes().filter(|octet| *octet != b':').collect();
    let mut print = [0; SHA256];
    if digits.len() != 2 * SHA256 {
        return None;
    }
    for (octet, pair) in print.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'))?;
        *octet = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(print)
}

impl fmt::Display for TlsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.level {
            TlsLevel::None => f.write_str("none")?,
            TlsLevel::May => f.write_str("may")?,
            TlsLevel::Encrypt => f.write_str("encrypt")?,
            TlsLevel::Dane => f.write_str("dane")?,
            TlsLevel::DaneOnly => f.write_str("dane-only")?,
            TlsLevel::Sts => f.write_str("sts")?,
            TlsLevel::Verify(names) => {
                let names: Vec<String> = names.iter().map(TlsName::to_string).collect();
                write!(f, "verify match={}", names.join(":"))?;
            }
            TlsLevel::Fingerprint(prints) => {
                f.write_str("fingerprint")?;
                for print in prints {
                    f.write_str(" sha256:")?;
                    for octet in print {
                        write!(f, "{octet:02x}")?;
                    }
                }
            }
        }
        if self.wrapper {
            f.write_str(" wrapper")?;
        }
        if self.no_sts { f.write_str(" no-sts") } else { Ok(()) }
    }
}

impl fmt::Display for TlsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsName::HostName => f.write_str("hostname"),
            TlsName::NextHop => f.write_str("nexthop"),
            TlsName::BelowNextHop => f.write_str("dot-nexthop"),
            TlsName::Exact(domain) => domain.fmt(f),
            TlsName::Below(domain) => write!(f, ".{domain}"),
        }
    }
}

impl TlsDestination {
    /// Reads `domain`, `domain:port`, `[host]:port` and `lmtp:...`, as a relay is written, or `.domain`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(domain) = text.strip_prefix('.') {
            return name(domain).map(TlsDestination::Below);
        }
        let next_hop =
            if text.starts_with("lmtp:") { NextHop::parse(text) } else { NextHop::parse_relay(text) };
        next_hop.ok().map(TlsDestination::NextHop)
    }
}

impl fmt::Display for TlsDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsDestination::NextHop(next_hop) => {
                let text = next_hop.to_string();
                f.write_str(text.strip_prefix("smtp:").unwrap_or(&text))
            }
            TlsDestination::Below(domain) => write!(f, ".{domain}"),
        }
    }
}

impl Textual for TlsPolicy {
    fn from_text(text: &str) -> Option<Self> {
        TlsPolicy::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Textual for TlsDestination {
    fn from_text(text: &str) -> Option<Self> {
        TlsDestination::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_survive_a_round_trip() {
        let print = "ab".repeat(32);
        for (written, canonical) in [
            ("none", "none"),
            ("may", "may"),
            ("encrypt wrapper", "encrypt wrapper"),
            ("dane", "dane"),
            ("dane-only wrapper", "dane-only wrapper"),
            ("sts", "sts"),
            ("may  no-sts", "may no-sts"),
            ("dane no-sts", "dane no-sts"),
            ("verify", "verify match=nexthop:dot-nexthop"),
            ("verify  match=hostname:.Example.com", "verify match=hostname:.example.com"),
            (&format!("fingerprint sha256:{print}"), &format!("fingerprint sha256:{print}")),
        ] {
            let policy = TlsPolicy::parse(written).unwrap();
            assert_eq!(policy.to_string(), canonical);
            assert_eq!(TlsPolicy::parse(canonical), Some(policy));
        }
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(
            TlsPolicy::parse(&format!("fingerprint sha256:{colons}")),
            TlsPolicy::parse(&format!("fingerprint sha256:{print}"))
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "",
            "must",
            "may wrapper",
            "dane wrapper",
            "none wrapper",
            "encrypt match=nexthop",
            "fingerprint",
            "verify match=",
            "fingerprint sha256:abcd",
            "may sha256:00",
            "verify match=[192.0.2.1]",
            "encrypt quickly",
            "sts no-sts",
            "encrypt no-sts",
            "verify no-sts",
            "sts match=nexthop",
        ] {
            assert_eq!(TlsPolicy::parse(bad), None, "{bad}");
        }
        assert_eq!(TlsPolicy::parse(&format!("fingerprint sha256:{}", "+1".repeat(32))), None);
    }

    #[test]
    fn destinations_are_written_as_relays_are() {
        for (written, canonical) in [
            ("Example.com", "example.com"),
            (".example.com", ".example.com"),
            ("[mx.example.com]:587", "[mx.example.com]:587"),
            ("[192.0.2.1]", "[192.0.2.1]:25"),
            ("lmtp:[mx.example.com]:24", "lmtp:[mx.example.com]:24"),
        ] {
            assert_eq!(TlsDestination::parse(written).unwrap().to_string(), canonical);
        }
        for bad in ["", ".", "a b", "example.com:x"] {
            assert_eq!(TlsDestination::parse(bad), None, "{bad}");
        }
    }
}
