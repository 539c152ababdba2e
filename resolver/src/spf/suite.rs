//! The test suite of openspf.org for RFC 7208, all of it. `tests/data/rfc7208-tests.json` holds its zones and tests without
//! the comments; records of the type SPF, which the suite keeps for its elder, are texts there.

use std::collections::HashMap;

use serde_json::Value;
use vsmtp_ipc::edge::client_resolver::{DnsError, Records, SpfQuestion};

use super::{Subject, check};
use crate::finding::{Key, Kind};
use crate::zone::{Found, Judged, Missing, Zone};

const SUITE: &str = include_str!("../../tests/data/rfc7208-tests.json");
/// What the suite calls an explanation that is ours.
const DEFAULT: &str = "DEFAULT";

/// A zone of the suite. What is asked for the first time is missing, as in life.
struct Hosts<'a> {
    rows: HashMap<String, &'a Vec<Value>>,
    known: HashMap<Key, Found>,
    asked: Vec<Key>,
}

impl Zone for Hosts<'_> {
    fn find(&mut self, key: Key) -> Judged<Found> {
        if let Some(found) = self.known.get(&key) {
            return Ok(found.clone());
        }
        self.asked.push(key);
        Err(Missing)
    }
}

impl Hosts<'_> {
    fn look_up(&self, key: &Key) -> Found {
        let labels = key.name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase());
        self.rows_of(&labels.collect::<Vec<_>>().join("."), key.kind, 0)
    }

    fn rows_of(&self, name: &str, kind: Kind, aliases: usize) -> Found {
        if aliases > crate::lookup::MAX_ALIASES {
            return Err(DnsError::Temporary);
        }
        let Some(rows) = self.rows.get(name) else { return Err(DnsError::NoSuchName) };
        let mut found = Vec::new();
        for row in *rows {
            let fields: Vec<&Value> = row.as_array().unwrap().iter().collect();
            match (fields[0].as_str().unwrap(), kind) {
                ("TIMEOUT", _) if found.is_empty() => return Err(DnsError::Temporary),
                ("CNAME", _) => {
                    return self.rows_of(&host(fields[1]).to_ascii_lowercase(), kind, aliases + 1);
                }
                ("A", Kind::A) | ("AAAA", Kind::Aaaa) | ("TXT", Kind::Txt) | ("PTR", Kind::Ptr) => {
                    found.push(fields);
                }
                ("MX", Kind::Mx) => found.push(fields),
                _ => {}
            }
        }
        if found.is_empty() {
            return Err(DnsError::NoRecords);
        }
        let texts = found.iter().map(|fields| fields[1].as_str().unwrap_or_default());
        Ok(match kind {
            Kind::A | Kind::Aaaa => Records::Addresses(texts.map(|text| text.parse().unwrap()).collect()),
            // One octet for each character.
            Kind::Txt => Records::Text(texts.map(|text| text.chars().map(|c| c as u8).collect()).collect()),
            Kind::Ptr => Records::Names(found.iter().map(|fields| host(fields[1])).collect()),
            _ => Records::Mx(found.iter().map(|f| (f[1].as_u64().unwrap() as u16, host(f[2]))).collect()),
        })
    }
}

fn host(value: &Value) -> String {
    value.as_str().unwrap().trim_end_matches('.').to_owned()
}

fn subject(test: &Value) -> Subject {
    let text = |name: &str| test[name].as_str().unwrap().to_owned();
    let (helo, sender) = (text("helo"), text("mailfrom"));
    let sender = match sender.rsplit_once('@') {
        Some((local, domain)) => Some((local.to_owned(), domain.to_owned())),
        None if sender.is_empty() => None,
        None => Some((String::new(), sender)),
    };
    let client = text("host").parse().unwrap();
    Subject::of(&SpfQuestion { client, helo, sender, receiver: "receiver.test".to_owned() }, 1_800_000_000)
}

/// What is wrong with our answer; nothing if it is one of those that the suite allows.
fn complaint(test: &Value, zone: &Value) -> Option<String> {
    let rows = zone.as_object().unwrap().iter();
    let rows = rows.map(|(name, rows)| (name.to_ascii_lowercase(), rows.as_array().unwrap())).collect();
    let mut hosts = Hosts { rows, known: HashMap::new(), asked: Vec::new() };
    let subject = subject(test);
    let mut turns = 0;
    let verdict = loop {
        match check(&subject, &mut hosts) {
            Ok(verdict) => break verdict,
            Err(Missing) => {
                for key in std::mem::take(&mut hosts.asked) {
                    hosts.known.insert(key.clone(), hosts.look_up(&key));
                }
            }
        }
        turns += 1;
        assert!(turns < 200, "it never ends");
    };
    let allowed: Vec<&str> = test["result"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    if !allowed.contains(&verdict.result.word()) {
        return Some(format!("{allowed:?} expected, got {verdict:?}"));
    }
    let expected = test["explanation"].as_str()?;
    let got = verdict.explanation.as_deref().unwrap_or(DEFAULT);
    (got != expected).then(|| format!("explanation {expected:?} expected, got {got:?}"))
}

#[test]
fn the_suite_of_openspf_passes_in_full() {
    let sections: Vec<Value> = serde_json::from_str(SUITE).unwrap();
    let mut complaints = Vec::new();
    let mut tests = 0;
    for section in &sections {
        for (name, test) in section["tests"].as_object().unwrap() {
            tests += 1;
            if let Some(text) = complaint(test, &section["zone"]) {
                complaints.push(format!("{}, {name}: {text}", section["description"]));
            }
        }
    }
    assert_eq!((complaints.len(), tests), (0, 203), "{}", complaints.join("\n"));
}
