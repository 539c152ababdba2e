//! What a mail domain publishes for MTA-STS (RFC 8461): its record, the HTTP response of its policy's host, and the policy
//! in it. The first octet says which of them the rest is.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vsmtp_ipc::edge::client_resolver::StsMode;
use vsmtp_mail::Domain;
use vsmtp_resolver::sts::policy::MAX_POLICY;
use vsmtp_resolver::sts::{Policy, http, record};

/// About a year (RFC 8461 3.2).
const LONGEST: Duration = Duration::from_secs(31_557_600);

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    match which % 3 {
        0 => records(rest),
        1 => response(rest),
        _ => policy(rest),
    }
});

/// Texts, with a zero octet between them.
fn records(data: &[u8]) {
    let mut texts: Vec<Vec<u8>> = data.split(|octet| *octet == 0).map(<[u8]>::to_vec).collect();
    let Some(id) = record::id(&texts) else { return };
    assert!((1..=32).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric()));
    // With a second one nobody knows which counts.
    texts.push(b"v=STSv1; id=1".to_vec());
    assert_eq!(record::id(&texts), None);
}

fn response(data: &[u8]) {
    if data.len() > http::MAX_RESPONSE {
        assert_eq!(http::body(data, false), Err(http::HttpFault::TooLarge));
        return;
    }
    let whole = http::body(data, true);
    if let Ok(Some(body)) = &whole {
        assert!(body.len() <= MAX_POLICY);
        policy(body);
    }
    // What is complete before its end does not change when the end comes, and neither does what is wrong.
    match http::body(data, false) {
        Ok(None) => {}
        early => assert_eq!(early, whole),
    }
    for cut in [data.len() / 2, data.len().saturating_sub(1)] {
        if let Ok(Some(early)) = http::body(data.get(..cut).unwrap_or_default(), false) {
            assert_eq!(whole, Ok(Some(early)), "more octets do not change a document that is complete");
        }
    }
}

fn policy(data: &[u8]) {
    let Ok(policy) = Policy::parse(data) else { return };
    assert!(policy.max_age <= LONGEST && policy.mx.len() <= 100);
    assert!(policy.mode == StsMode::None || !policy.mx.is_empty());
    for host in &policy.mx {
        let name = host.strip_prefix("*.").unwrap_or(host);
        assert!(Domain::parse(name).is_ok_and(|domain| domain.as_literal().is_none()), "{host}");
    }
}
