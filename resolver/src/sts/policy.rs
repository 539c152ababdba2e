//! The policy file (RFC 8461 3.2). Written by a stranger: a line that makes no sense makes no policy.

use std::fmt;
use std::time::Duration;

use vsmtp_ipc::edge::client_resolver::{MAX_RECORDS, StsMode};
use vsmtp_mail::Domain;

/// Longest policy file, in octets (RFC 8461 3.3 suggests 64 KiB).
pub const MAX_POLICY: usize = 64 * 1024;
/// Longest time that a policy may ask to be remembered for, in seconds: a year and its leap day.
const MAX_AGE: u64 = 31_557_600;

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What it asks for.
    pub mode: StsMode,
    /// Hosts that may serve the domain, in lower case: names, or `*.` and a domain for one label more.
    pub mx: Vec<String>,
    /// For how long it is to be remembered.
    pub max_age: Duration,
}

/// Why something is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyFault {
    /// Too long, or not text.
    NotText,
    /// It does not begin with the version that we know.
    Version,
    /// Mode or age is missing or wrong.
    Field,
    /// It names no host, too many, or one that cannot be.
    Hosts,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyFault::NotText => "the policy is not a short text",
            PolicyFault::Version => "the policy is not of version STSv1",
            PolicyFault::Field => "mode or max_age of the policy is missing or wrong",
            PolicyFault::Hosts => "the policy names no host, or one that cannot be",
        })
    }
}

impl Policy {
    /// Octets of it as a text.
    pub fn text_octets(&self) -> usize {
        self.to_string().len()
    }

    /// Reads a policy file. Fields that are not known are ignored, and of a field that comes twice the first counts.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyFault> {
        if text.len() > MAX_POLICY {
            return Err(PolicyFault::NotText);
        }
        let text = std::str::from_utf8(text).map_err(|_| PolicyFault::NotText)?;
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key.trim() {
                "version" => version = version.or(Some(value)),
                "mode" => mode = mode.or(Some(value)),
                "max_age" => max_age = max_age.or(Some(value)),
                "mx" if mx.len() < MAX_RECORDS => mx.push(host(value).ok_or(PolicyFault::Hosts)?),
                "mx" => return Err(PolicyFault::Hosts),
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(PolicyFault::Version);
        }
        let mode = match mode {
            Some("enforce") => StsMode::Enforce,
            Some("testing") => StsMode::Testing,
            Some("none") => StsMode::None,
            _ => return Err(PolicyFault::Field),
        };
        if mx.is_empty() && mode != StsMode::None {
            return Err(PolicyFault::Hosts);
        }
        let max_age =
            max_age.filter(|age| age.len() <= 10 && age.bytes().all(|octet| octet.is_ascii_digit()));
        let max_age: u64 = max_age.and_then(|age| age.parse().ok()).ok_or(PolicyFault::Field)?;
        Ok(Policy { mode, mx, max_age: Duration::from_secs(max_age.min(MAX_AGE)) })
    }
}

/// As a domain might publish it; read, it is the same again.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            StsMode::Enforce => "enforce",
            StsMode::Testing => "testing",
            StsMode::None => "none",
        };
        writeln!(f, "version: STSv1\nmode: {mode}\nmax_age: {}", self.max_age.as_secs())?;
        self.mx.iter().try_for_each(|host| writeln!(f, "mx: {host}"))
    }
}

fn host(text: &str) -> Option<String> {
    let (star, name) = text.strip_prefix("*.").map_or(("", text), |name| ("*.", name));
    let domain = Domain::parse(name).ok().filter(|domain| domain.as_literal().is_none())?;
    Some(format!("{star}{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: mail.Example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n";

    #[test]
    fn a_policy_as_the_standard_shows_it() {
        let policy = Policy::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(policy.mode, StsMode::Enforce);
        assert_eq!(policy.mx, ["mail.example.com", "*.example.net"]);
        assert_eq!(policy.max_age, Duration::from_secs(604_800));
        assert_eq!(Policy::parse(GOOD.replace("\r\n", "\n").as_bytes()), Ok(policy.clone()));
        let more = format!("{GOOD}later: field\r\nmode: none\r\n\r\nno colon\r\n");
        assert_eq!(Policy::parse(more.as_bytes()), Ok(policy));
        let none = Policy::parse(b"version: STSv1\nmode: none\nmax_age: 0").unwrap();
        assert_eq!((none.mode, none.mx.len(), none.max_age), (StsMode::None, 0, Duration::ZERO));
        let long = Policy::parse(GOOD.replace("604800", "9999999999").as_bytes()).unwrap();
        assert_eq!(long.max_age, Duration::from_secs(MAX_AGE));
        for policy in [none, long] {
            assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
        }
    }

    #[test]
    fn what_is_unclear_is_no_policy() {
        for (from, to, fault) in [
            ("STSv1", "STSv2", PolicyFault::Version),
            ("version: STSv1\r\n", "", PolicyFault::Version),
            ("enforce", "Enforce!", PolicyFault::Field),
            ("mode: enforce\r\n", "", PolicyFault::Field),
            ("604800", "-1", PolicyFault::Field),
            ("604800", "+1", PolicyFault::Field),
            ("604800", "99999999999", PolicyFault::Field),
            ("max_age: 604800\r\n", "", PolicyFault::Field),
            ("mail.Example.com", "*", PolicyFault::Hosts),
            ("mail.Example.com", "a b", PolicyFault::Hosts),
            ("mail.Example.com", "[192.0.2.1]", PolicyFault::Hosts),
        ] {
            assert_eq!(Policy::parse(GOOD.replace(from, to).as_bytes()), Err(fault), "{from} {to}");
        }
        let hostless = GOOD.replace("mx: mail.Example.com\r\nmx: *.example.net\r\n", "");
        assert_eq!(Policy::parse(hostless.as_bytes()), Err(PolicyFault::Hosts));
        let many = format!("{GOOD}{}", "mx: a.test\n".repeat(MAX_RECORDS));
        assert_eq!(Policy::parse(many.as_bytes()), Err(PolicyFault::Hosts));
        assert_eq!(Policy::parse(b"\xff"), Err(PolicyFault::NotText));
        assert_eq!(Policy::parse(&vec![b'\n'; MAX_POLICY + 1]), Err(PolicyFault::NotText));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_every_policy_has_hosts_or_asks_for_nothing(text: String) {
            let text = format!("version: STSv1\nmax_age: 1\n{text}");
            if let Ok(policy) = Policy::parse(text.as_bytes()) {
                proptest::prop_assert!(policy.mode == StsMode::None || !policy.mx.is_empty());
            }
        }
    }
}
