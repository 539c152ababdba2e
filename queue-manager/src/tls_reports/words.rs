//! Counts in the words of RFC 8460 4.4, as JSON: what a report says, and what the file keeps between two starts. What is
//! read back is checked as if it came from a stranger.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use vsmtp_ipc::edge::queue_deliver::{PolicyFound, PolicyKind, SessionFailure, TlsResult, TlsSessions};

use super::tally::{MAX_FAILURES, MAX_POLICIES, OfPolicy, Sheet, Tally, is_good};

/// The version of the file.
const VERSION: u64 = 1;

const KINDS: [(PolicyKind, &str); 3] =
    [(PolicyKind::Sts, "sts"), (PolicyKind::Tlsa, "tlsa"), (PolicyKind::NotFound, "no-policy-found")];

const RESULTS: [(TlsResult, &str); 10] = [
    (TlsResult::StartTlsNotSupported, "starttls-not-supported"),
    (TlsResult::CertificateHostMismatch, "certificate-host-mismatch"),
    (TlsResult::CertificateExpired, "certificate-expired"),
    (TlsResult::CertificateNotTrusted, "certificate-not-trusted"),
    (TlsResult::ValidationFailure, "validation-failure"),
    (TlsResult::TlsaInvalid, "tlsa-invalid"),
    (TlsResult::DnssecInvalid, "dnssec-invalid"),
    (TlsResult::DaneRequired, "dane-required"),
    (TlsResult::StsPolicyFetchError, "sts-policy-fetch-error"),
    (TlsResult::StsPolicyInvalid, "sts-policy-invalid"),
];

/// The word of a list for a value of it.
fn word<T: PartialEq + Copy>(words: &[(T, &'static str)], of: T) -> &'static str {
    words.iter().find(|(known, _)| *known == of).map_or("", |(_, word)| word)
}

/// The value of a list for a word of it.
fn read<T: Copy>(words: &[(T, &'static str)], word: &Value) -> Option<T> {
    words.iter().find(|(_, known)| word == *known).map(|(value, _)| *value)
}

/// What was counted under one policy.
pub fn policy(of: &OfPolicy) -> Value {
    let PolicyFound { kind, domain, lines, mx } = &of.found;
    let mut policy = json!({ "policy-type": word(&KINDS, *kind), "policy-domain": domain });
    if let Value::Object(fields) = &mut policy {
        for (name, list) in [("policy-string", lines), ("mx-host", mx)] {
            if !list.is_empty() {
                fields.insert(name.to_owned(), json!(list));
            }
        }
    }
    let summary = json!({ "total-successful-session-count": of.good, "total-failure-session-count": of.bad });
    let failures: Vec<Value> = of.failures.iter().map(|(failure, count)| details(failure, *count)).collect();
    let mut all = json!({ "policy": policy, "summary": summary });
    if let Value::Object(fields) = &mut all
        && !failures.is_empty()
    {
        fields.insert("failure-details".to_owned(), Value::Array(failures));
    }
    all
}

fn details(failure: &SessionFailure, count: u64) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("result-type", word(&RESULTS, failure.result).into());
    if let Some(local) = failure.local {
        put("sending-mta-ip", local.to_string().into());
    }
    if let Some(remote) = failure.remote {
        put("receiving-ip", remote.to_string().into());
    }
    for (name, text) in [("receiving-mx-hostname", &failure.host), ("failure-reason-code", &failure.reason)] {
        if !text.is_empty() {
            put(name, text.as_str().into());
        }
    }
    put("failed-session-count", count.into());
    Value::Object(fields)
}

/// All counts, for the file.
pub fn write(tally: &Tally) -> Vec<u8> {
    let sheets: Vec<Value> = tally
        .sheets()
        .map(|(day, domain, sheet)| {
            let policies: Vec<Value> = sheet.policies.iter().map(policy).collect();
            json!({ "day": day, "domain": domain, "rua": sheet.rua, "policies": policies })
        })
        .collect();
    json!({ "version": VERSION, "sheets": sheets }).to_string().into_bytes()
}

/// Reads the file; what makes no sense in it is left out. `None` if it makes none at all.
pub fn read_all(bytes: &[u8]) -> Option<Tally> {
    let root: Value = serde_json::from_slice(bytes).ok()?;
    if root["version"] != VERSION {
        return None;
    }
    let mut tally = Tally::default();
    for sheet in root["sheets"].as_array()? {
        let (Some(day), Some(domain)) = (sheet["day"].as_u64(), sheet["domain"].as_str()) else { continue };
        let rua = texts(&sheet["rua"]);
        let policies = sheet["policies"].as_array().map_or(&[][..], Vec::as_slice);
        let policies: Vec<OfPolicy> =
            policies.iter().take(MAX_POLICIES).filter_map(|one| read_policy(domain, &rua, one)).collect();
        if !policies.is_empty() && day < u64::from(u32::MAX) {
            tally.restore(day, domain.to_owned(), Sheet { rua, policies });
        }
    }
    Some(tally)
}

fn read_policy(domain: &str, rua: &[String], all: &Value) -> Option<OfPolicy> {
    let policy = &all["policy"];
    let found = PolicyFound {
        kind: read(&KINDS, &policy["policy-type"])?,
        domain: policy["policy-domain"].as_str()?.to_owned(),
        lines: texts(&policy["policy-string"]),
        mx: texts(&policy["mx-host"]),
    };
    let is_fine = |failure: Option<SessionFailure>| {
        let (domain, rua) = (domain.to_owned(), rua.to_vec());
        is_good(&TlsSessions { domain, rua, policy: found.clone(), failure, count: 1 })
    };
    let failures = all["failure-details"].as_array().map_or(&[][..], Vec::as_slice);
    let failures: Vec<(SessionFailure, u64)> = failures
        .iter()
        .take(MAX_FAILURES)
        .filter_map(|one| Some((read_failure(one)?, one["failed-session-count"].as_u64()?)))
        .filter(|(failure, _)| is_fine(Some(failure.clone())))
        .collect();
    let summary = &all["summary"];
    let good = summary["total-successful-session-count"].as_u64()?;
    let bad = summary["total-failure-session-count"].as_u64()?;
    is_fine(None).then_some(OfPolicy { found, good, bad, failures })
}

fn read_failure(details: &Value) -> Option<SessionFailure> {
    let text = |name: &str| details[name].as_str().unwrap_or_default().to_owned();
    let address = |name: &str| details[name].as_str().and_then(|text| text.parse::<IpAddr>().ok());
    Some(SessionFailure {
        result: read(&RESULTS, &details["result-type"])?,
        local: address("sending-mta-ip"),
        host: text("receiving-mx-hostname"),
        remote: address("receiving-ip"),
        reason: text("failure-reason-code"),
    })
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tally::tests::sessions;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut tally = Tally::default();
        tally.add(7, &sessions("a.test", None, 3));
        for (result, _) in RESULTS {
            tally.add(7, &sessions("a.test", Some(result), 2));
        }
        let mut plain = sessions("b.test", None, 1);
        plain.policy = PolicyFound {
            kind: PolicyKind::NotFound,
            domain: "b.test".to_owned(),
            lines: Vec::new(),
            mx: Vec::new(),
        };
        tally.add(8, &plain);
        let back = read_all(&write(&tally)).unwrap();
        assert_eq!(back.sheets().collect::<Vec<_>>(), tally.sheets().collect::<Vec<_>>());
        assert_eq!(back.next_ms(0), tally.next_ms(0));
    }

    #[test]
    fn a_policy_is_told_in_the_words_of_the_standard() {
        let mut tally = Tally::default();
        tally.add(7, &sessions("a.test", None, 3));
        tally.add(7, &sessions("a.test", Some(TlsResult::CertificateNotTrusted), 2));
        let (_, _, sheet) = tally.sheets().next().unwrap();
        let expected = json!({
            "policy": {
                "policy-type": "sts",
                "policy-domain": "a.test",
                "policy-string": ["version: STSv1", "mode: testing"],
                "mx-host": ["*.a.test"],
            },
            "summary": { "total-successful-session-count": 3, "total-failure-session-count": 2 },
            "failure-details": [{
                "result-type": "certificate-not-trusted",
                "sending-mta-ip": "192.0.2.1",
                "receiving-ip": "192.0.2.25",
                "receiving-mx-hostname": "mx.a.test",
                "failure-reason-code": "why",
                "failed-session-count": 2,
            }],
        });
        assert_eq!(policy(&sheet.policies[0]), expected);
    }

    #[test]
    fn a_damaged_file_is_read_as_far_as_it_makes_sense() {
        for bad in ["", "[]", "{}", r#"{"version":2,"sheets":[]}"#, r#"{"version":1}"#] {
            assert!(read_all(bad.as_bytes()).is_none(), "{bad}");
        }
        let mut tally = Tally::default();
        tally.add(7, &sessions("a.test", None, 3));
        let text = String::from_utf8(write(&tally)).unwrap();
        for (from, to) in [("\"sts\"", "\"x\""), ("a.test", "a\\u0000b"), ("\"day\":7", "\"day\":\"7\"")] {
            let damaged = text.replace(from, to);
            assert_ne!(damaged, text);
            assert_eq!(read_all(damaged.as_bytes()).unwrap().sheets().count(), 0, "{from}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_in_a_file_is_a_panic(bytes in proptest::collection::vec(0u8..=255, 0..300)) {
            let _ = read_all(&bytes);
        }
    }
}
