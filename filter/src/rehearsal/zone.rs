//! A world without a network: what the DNS says is what an operator wrote down, and signatures are placeholders.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vsmtp_ipc::edge::client_resolver::{
    ClientName, DmarcPolicy, DmarcQuestion, DmarcResult, DmarcVerdict, DnsError, MAX_RECORDS, Query, Records,
    SignatureAlgorithm, SignatureResult, SignatureVerdict, SpfResult, SpfVerdict,
};

use crate::names::Names;
use crate::object::Fault;
use crate::signer::Signer;

/// Most records.
const MAX_ALL: usize = 100_000;

/// Kinds of records that may be written, in the order in which they are told.
const KINDS: [&str; 9] = ["A", "AAAA", "MX", "PTR", "TXT", "SPF", "DKIM", "DMARC", "FAIL"];

/// Records by name in lower case and kind. A name without any does not exist.
#[derive(Debug, Default)]
pub struct Zone(Mutex<BTreeMap<(String, &'static str), Vec<String>>>);

impl Zone {
    /// Adds a record.
    ///
    /// # Errors
    /// There is no such kind, or the zone is full.
    pub fn add(&self, name: &str, kind: &str, data: &str) -> Result<(), Fault> {
        let upper = kind.to_ascii_uppercase();
        let Some(kind) = KINDS.into_iter().find(|known| *known == upper) else {
            return Err(Fault(format!("'{kind}' is no kind of record: there are {}", KINDS.join(", "))));
        };
        let well_formed = match kind {
            "A" | "AAAA" => data.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() == (kind == "A")),
            "MX" => exchanger(data).is_some(),
            "PTR" => name.parse::<IpAddr>().is_ok(),
            "SPF" => spf(data).is_some(),
            "DKIM" => signature(data).is_some(),
            "DMARC" => dmarc(data).is_some(),
            _ => true,
        };
        if !well_formed {
            return Err(Fault(format!("'{name} {kind} {data}' is no record of that kind")));
        }
        let mut records = self.lock();
        if records.len() >= MAX_ALL {
            return Err(Fault(format!("more than {MAX_ALL} names")));
        }
        // An address has many spellings, and questions come with one.
        let name = name.parse::<IpAddr>().map_or_else(|_| key(name), |ip| ip.to_canonical().to_string());
        let list = records.entry((name, kind)).or_default();
        if list.len() < MAX_RECORDS {
            list.push(data.to_owned());
        }
        Ok(())
    }

    /// Adds the records of a file: `NAME KIND DATA` in a line, `#` begins a comment.
    ///
    /// # Errors
    /// The first line that is no record, with its number.
    pub fn read(&self, text: &str) -> Result<(), Fault> {
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let in_line = |fault: Fault| Fault(format!("line {}: {}", at + 1, fault.0));
            let mut words = line.splitn(3, char::is_whitespace).map(str::trim);
            let (Some(name), Some(kind)) = (words.next(), words.next()) else {
                return Err(in_line(Fault::new("a record is NAME KIND DATA")));
            };
            let data = words.next().unwrap_or_default();
            let bare = data.strip_prefix('"').and_then(|data| data.strip_suffix('"')).unwrap_or(data);
            self.add(name, kind, bare).map_err(in_line)?;
        }
        Ok(())
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// The name of a client.
    pub fn name_of(&self, ip: IpAddr) -> Option<String> {
        self.all(&ip.to_canonical().to_string(), "PTR").into_iter().next()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, &'static str), Vec<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self, name: &str, kind: &'static str) -> Vec<String> {
        self.lock().get(&(key(name), kind)).cloned().unwrap_or_default()
    }

    /// True if nobody can tell now.
    fn fails(&self, name: &str) -> bool {
        !self.all(name, "FAIL").is_empty()
    }

    /// Records of some kinds, or why there are none.
    fn records(&self, name: &str, kinds: &[&'static str]) -> Result<Vec<String>, DnsError> {
        if self.fails(name) {
            return Err(DnsError::Temporary);
        }
        let found: Vec<String> = kinds.iter().flat_map(|kind| self.all(name, kind)).collect();
        let exists = || KINDS.into_iter().any(|kind| !self.all(name, kind).is_empty());
        match found.is_empty() {
            false => Ok(found),
            true if exists() => Err(DnsError::NoRecords),
            true => Err(DnsError::NoSuchName),
        }
    }

    fn answer(&self, query: &Query) -> Result<Records, DnsError> {
        let addresses = |name: &str, kinds: &[&'static str]| {
            let found = self.records(name, kinds)?;
            Ok(Records::Addresses(found.iter().filter_map(|ip| ip.parse().ok()).collect()))
        };
        match query {
            Query::Mx(name) => {
                let mut found: Vec<(u16, String)> =
                    self.records(name, &["MX"])?.iter().filter_map(|data| exchanger(data)).collect();
                found.sort();
                Ok(Records::Mx(found))
            }
            Query::Addresses(name) => addresses(name, &["A", "AAAA"]),
            Query::Ipv4(name) => addresses(name, &["A"]),
            Query::Names(ip) => self.records(&ip.to_canonical().to_string(), &["PTR"]).map(Records::Names),
            Query::ClientName(ip) => {
                let name = match self.name_of(*ip) {
                    Some(name) => ClientName::Is(name),
                    None if self.fails(&ip.to_canonical().to_string()) => ClientName::Unknown,
                    None => ClientName::None,
                };
                Ok(Records::ClientName(name))
            }
            Query::Text(name) => {
                let found = self.records(name, &["TXT"])?;
                Ok(Records::Text(found.into_iter().map(String::into_bytes).collect()))
            }
            Query::Spf(question) => {
                let domain = question.sender.as_ref().map_or(&question.helo, |(_, domain)| domain);
                let written = self.all(domain, "SPF").first().and_then(|data| spf(data));
                let result = if self.fails(domain) { Some(SpfResult::TempError) } else { written };
                let by = "written down".to_owned();
                Ok(Records::Spf(SpfVerdict {
                    result: result.unwrap_or(SpfResult::None),
                    by,
                    explanation: None,
                }))
            }
            Query::Signature(question) => {
                let written = self.all(&question.domain, "DKIM").first().and_then(|data| signature(data));
                let failed = self.fails(&question.domain).then_some(SignatureResult::TempError);
                let result = failed.or(written).unwrap_or(SignatureResult::PermError);
                let reason = if result == SignatureResult::Pass { "" } else { "written down, or no key" };
                Ok(Records::Signature(SignatureVerdict { result, reason: reason.to_owned(), testing: false }))
            }
            Query::Dmarc(question) => Ok(Records::Dmarc(self.dmarc(question))),
            Query::Tlsa(_) | Query::Canonical(_) | Query::StsPolicy(_) | Query::Post { .. } => {
                Err(DnsError::NoSuchName)
            }
        }
    }

    fn dmarc(&self, question: &DmarcQuestion) -> DmarcVerdict {
        let author = &question.author;
        if self.fails(author) {
            return DmarcVerdict::without_policy(DmarcResult::TempError);
        }
        let Some(policy) = self.all(author, "DMARC").first().and_then(|data| dmarc(data)) else {
            return DmarcVerdict::without_policy(DmarcResult::None);
        };
        let spf_aligned = question.spf.as_ref().is_some_and(|domain| is_aligned(author, domain));
        let dkim_aligned = question.dkim.iter().any(|domain| is_aligned(author, domain));
        let result = if spf_aligned || dkim_aligned { DmarcResult::Pass } else { DmarcResult::Fail };
        DmarcVerdict {
            published: policy,
            policy,
            found_at: author.clone(),
            organisation: author.clone(),
            spf_aligned,
            dkim_aligned,
            ..DmarcVerdict::without_policy(result)
        }
    }
}

impl Names for Zone {
    fn ask(&self, queries: Vec<Query>, _: Duration) -> Vec<Result<Records, DnsError>> {
        queries.iter().map(|query| self.answer(query)).collect()
    }
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Preference and host.
fn exchanger(data: &str) -> Option<(u16, String)> {
    let (preference, host) = data.split_once(char::is_whitespace)?;
    Some((preference.parse().ok()?, key(host.trim())))
}

fn spf(word: &str) -> Option<SpfResult> {
    let all = [
        SpfResult::None,
        SpfResult::Neutral,
        SpfResult::Pass,
        SpfResult::Fail,
        SpfResult::SoftFail,
        SpfResult::TempError,
        SpfResult::PermError,
    ];
    all.into_iter().find(|result| result.word() == word)
}

fn signature(word: &str) -> Option<SignatureResult> {
    Some(match word {
        "pass" => SignatureResult::Pass,
        "fail" => SignatureResult::Fail,
        "temperror" => SignatureResult::TempError,
        "permerror" => SignatureResult::PermError,
        _ => return None,
    })
}

fn dmarc(word: &str) -> Option<DmarcPolicy> {
    Some(match word {
        "none" => DmarcPolicy::None,
        "quarantine" => DmarcPolicy::Quarantine,
        "reject" => DmarcPolicy::Reject,
        _ => return None,
    })
}

/// The same domain, or one below it.
fn is_aligned(author: &str, domain: &str) -> bool {
    let (author, domain) = (key(author), key(domain));
    let below = |one: &str, other: &str| one.strip_suffix(other).is_some_and(|rest| rest.ends_with('.'));
    author == domain || below(&author, &domain) || below(&domain, &author)
}

/// Signs for the domains that have keys, with octets that are no signature.
#[derive(Debug)]
pub struct Placeholder(pub Vec<String>);

impl Signer for Placeholder {
    fn keys(&self, domain: &str) -> Option<Vec<SignatureAlgorithm>> {
        let has_key = self.0.iter().any(|known| known == domain);
        Some(if has_key { vec![SignatureAlgorithm::RsaSha256] } else { Vec::new() })
    }

    fn sign(&self, _: &str, _: u32, _: Vec<u8>) -> Option<Vec<u8>> {
        Some(b"no signature, only a rehearsal".to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_what_is_answered() {
        let zone = Zone::default();
        zone.read(
            "# a comment\nexample.test MX 10 mx.example.test\nmx.example.test A 192.0.2.1\nExample.test. TXT \"v=x y\"\n\
             192.0.2.1 PTR mx.example.test\nexample.test SPF fail\ndead.test FAIL\nexample.test DMARC reject\n",
        )
        .unwrap();
        let ask = |query| zone.ask_one(query, Duration::ZERO);
        let text = |text: &str| text.to_owned();
        assert_eq!(
            ask(Query::Mx(text("example.test"))),
            Ok(Records::Mx(vec![(10, text("mx.example.test"))]))
        );
        assert_eq!(ask(Query::Text(text("EXAMPLE.test"))), Ok(Records::Text(vec![b"v=x y".to_vec()])));
        assert_eq!(ask(Query::Mx(text("mx.example.test"))), Err(DnsError::NoRecords));
        assert_eq!(ask(Query::Mx(text("other.test"))), Err(DnsError::NoSuchName));
        assert_eq!(ask(Query::Mx(text("dead.test"))), Err(DnsError::Temporary));
        let spf = vsmtp_ipc::edge::client_resolver::SpfQuestion {
            client: "192.0.2.1".parse().unwrap(),
            sender: Some((text("a"), text("dead.test"))),
            helo: text("a.test"),
            receiver: text("mx.test"),
        };
        let Ok(Records::Spf(verdict)) = ask(Query::Spf(spf)) else { panic!("no verdict") };
        assert_eq!(verdict.result, SpfResult::TempError);
        zone.read("2001:DB8:0:0::1 PTR six.example.test\n").unwrap();
        assert_eq!(zone.name_of("2001:db8::1".parse().unwrap()), Some(text("six.example.test")));
        assert_eq!(zone.name_of("192.0.2.1".parse().unwrap()), Some(text("mx.example.test")));
        zone.clear();
        assert_eq!(ask(Query::Mx(text("example.test"))), Err(DnsError::NoSuchName));
        for (line, words) in [
            ("x", "line 1: a record is"),
            ("\nx CNAME y", "line 2: 'CNAME' is no kind of record"),
            ("x A ::1", "is no record"),
            ("x MX y", "is no record"),
            ("x SPF good", "is no record"),
        ] {
            let fault = zone.read(line).unwrap_err();
            assert!(fault.0.contains(words), "{}", fault.0);
        }
    }
}
