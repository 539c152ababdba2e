//! A DMARC record (RFC 9989 4.7, 4.8). What is not understood is left out; what makes no policy is no record.

use vsmtp_ipc::edge::client_resolver::DmarcPolicy;

/// Most addresses for reports.
const MAX_REPORTS: usize = 10;
/// Longest of them, in octets.
const MAX_REPORT: usize = 256;

/// How close two domains must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alignment {
    /// Of one organisation.
    Relaxed,
    /// The same.
    Strict,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `p`.
    pub policy: DmarcPolicy,
    /// `sp`.
    pub below: Option<DmarcPolicy>,
    /// `np`.
    pub absent: Option<DmarcPolicy>,
    /// `adkim`.
    pub dkim: Alignment,
    /// `aspf`.
    pub spf: Alignment,
    /// `psd`; `None` for `u`.
    pub is_public_suffix: Option<bool>,
    /// `t`.
    pub testing: bool,
    /// `rua`.
    pub reports: Vec<String>,
}

/// The tags of a text. Unlike a signature, a record with a slip of its writer's still counts: parts that are no tags are
/// skipped, and of those that say the same the first one counts.
struct Tags<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Tags<'a> {
    /// `None` if the text does not begin as a record does.
    fn read(text: &'a str) -> Option<Self> {
        let tag =
            |part: &'a str| part.split_once('=').map(|(name, value)| (name.trim_ascii(), value.trim_ascii()));
        let mut parts = text.split(';').map(tag);
        let is_record =
            parts.next()?.is_some_and(|(name, value)| name.eq_ignore_ascii_case("v") && value == "DMARC1");
        is_record.then(|| Tags(parts.flatten().collect()))
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// True if a text begins as a record does, whatever it says then: several of those are as good as none (4.7).
pub fn begins(text: &[u8]) -> bool {
    Tags::read(&String::from_utf8_lossy(text)).is_some()
}

impl Record {
    /// Reads a text; `None` if it is no record.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let tags = Tags::read(&text)?;
        let policy = |name: &str| tags.get(name).map(parse_policy);
        let reports: Vec<String> = tags
            .get("rua")
            .iter()
            .flat_map(|list| list.split(','))
            .map(|uri| uri.trim_ascii().to_owned())
            .filter(|uri| {
                uri.len() <= MAX_REPORT && uri.get(..7).is_some_and(|s| s.eq_ignore_ascii_case("mailto:"))
            })
            .take(MAX_REPORTS)
            .collect();
        // A record that cannot say what is wanted still asks for reports, or for nothing.
        let is_bad = ["sp", "np"].iter().any(|name| policy(name) == Some(None));
        let policy_said = match policy("p") {
            Some(Some(said)) if !is_bad => said,
            _ if !reports.is_empty() => DmarcPolicy::None,
            _ => return None,
        };
        let alignment = |name: &str| match tags.get(name) {
            Some(word) if word.eq_ignore_ascii_case("s") => Alignment::Strict,
            _ => Alignment::Relaxed,
        };
        Some(Record {
            policy: policy_said,
            below: policy("sp").flatten().filter(|_| !is_bad),
            absent: policy("np").flatten().filter(|_| !is_bad),
            dkim: alignment("adkim"),
            spf: alignment("aspf"),
            is_public_suffix: match tags.get("psd") {
                Some(word) if word.eq_ignore_ascii_case("y") => Some(true),
                Some(word) if word.eq_ignore_ascii_case("n") => Some(false),
                _ => None,
            },
            testing: tags.get("t").is_some_and(|word| word.eq_ignore_ascii_case("y")),
            reports,
        })
    }
}

fn parse_policy(word: &str) -> Option<DmarcPolicy> {
    [DmarcPolicy::None, DmarcPolicy::Quarantine, DmarcPolicy::Reject]
        .into_iter()
        .find(|policy| word.eq_ignore_ascii_case(policy.word()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Record> {
        Record::parse(text.as_bytes())
    }

    #[test]
    fn records_as_the_rfc_reads_them() {
        let record =
            read("v=DMARC1; p=Reject; sp=none; adkim=s; psd=n; t=y; rua=mailto:a@b.c, https://x").unwrap();
        assert_eq!((record.policy, record.below), (DmarcPolicy::Reject, Some(DmarcPolicy::None)));
        assert_eq!((record.dkim, record.spf), (Alignment::Strict, Alignment::Relaxed));
        assert_eq!((record.is_public_suffix, record.testing), (Some(false), true));
        assert_eq!(record.reports, ["mailto:a@b.c"]);
        // Old tags and unknown ones do not count.
        assert_eq!(read("v=DMARC1; p=none; pct=10; rf=afrf; x=y").unwrap().policy, DmarcPolicy::None);
        for none in [
            "p=reject",
            "v=DMARC2; p=none",
            "v=dmarc1; p=none",
            "p=none; v=DMARC1",
            "v=DMARC1",
            "v=DMARC1; p=x",
            "v=DMARC1; p=none; sp=x",
            "",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
        // Slips of the writer.
        for slip in [
            "v=DMARC1;; p=reject",
            "v=DMARC1; p=reject; p=none",
            "v=DMARC1; p=reject; word",
            "v=DMARC1; =x; p=reject; 1=; \u{1}",
            " V = DMARC1 ;P=reject;",
        ] {
            assert_eq!(read(slip).map(|record| record.policy), Some(DmarcPolicy::Reject), "{slip}");
        }
        assert_eq!(Record::parse(b"v=DMARC1; \xff; p=reject").unwrap().policy, DmarcPolicy::Reject);
        // One that cannot say what it wants, but wants reports.
        assert_eq!(read("v=DMARC1; p=x; rua=mailto:a@b.c").unwrap().policy, DmarcPolicy::None);
        assert_eq!(read("v=DMARC1; rua=mailto:a@b.c").unwrap().policy, DmarcPolicy::None);
    }
}
