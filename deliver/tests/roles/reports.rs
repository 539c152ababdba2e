//! TLSRPT: what is counted of sessions with the servers of a domain, and when the queue-manager hears of it.

use std::io::Write;
use std::time::Duration;

use vsmtp_ipc::edge::client_resolver::{Answer, DnsError, Query, Records, ResolverEnd, StsMode};
use vsmtp_ipc::edge::queue_deliver::{Outcome, PolicyKind, Result3, TlsResult, TlsSessions};
use vsmtp_stage::say;

use crate::harness::{Deliver, attempt, hear, inline, results, start};
use crate::peer::{EHLO, Peer};
use crate::tls_peer::{Authority, OFFERS};

const MESSAGE: &str = "A: b\r\n\r\nbody\r\n";
const RECORD: &str = "v=TLSRPTv1; rua=mailto:reports@dst.test";

fn deliver(authority: &Authority) -> (Deliver, ResolverEnd, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(authority.pem.as_bytes()).unwrap();
    let mut deliver = start(|slice| {
        slice.tls.mta_sts = true;
        slice.tls.reports = true;
        slice.tls.ca_file = Some(file.path().to_str().unwrap().to_owned());
    });
    let resolver = deliver.resolver();
    (deliver, resolver, file)
}

fn lease(deliver: &mut Deliver, number: u64, peer: &Peer) {
    let next_hop = format!("smtp:dst.test:{}", peer.port());
    deliver.lease(&attempt(number, &next_hop, &["b@dst.test"], inline(MESSAGE)));
}

/// Answers what is asked for one message: one host, this policy and this record.
fn answer(resolver: &mut ResolverEnd, questions: usize, policy: &Result<Records, DnsError>, record: &str) {
    for _ in 0..questions {
        let question = hear(resolver);
        let result = match &question.query {
            Query::Mx(_) => Ok(Records::Mx(vec![(1, "mx.dst.test".to_owned())])),
            Query::Addresses(_) => Ok(Records::Addresses(vec!["127.0.0.1".parse().unwrap()])),
            Query::StsPolicy(_) => policy.clone(),
            Query::Text(name) => {
                assert_eq!(name, "_smtp._tls.dst.test");
                Ok(Records::Text(vec![record.as_bytes().to_vec()]))
            }
            other => panic!("{other:?}"),
        };
        say(resolver, &Answer { ticket: question.ticket, result, secure: false }, Vec::new());
    }
}

fn testing(host: &str) -> Result<Records, DnsError> {
    let mx = vec![host.to_owned()];
    Ok(Records::StsPolicy { mode: StsMode::Testing, mx, max_age_s: 86_400, age_s: 0 })
}

fn only(outcome: &Outcome) -> &TlsSessions {
    assert_eq!(outcome.sessions.len(), 1, "{:?}", outcome.sessions);
    &outcome.sessions[0]
}

#[test]
fn a_policy_that_is_tested_is_looked_at_and_its_failure_stops_nothing() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = authority.identity(&["mx.dst.test"]);
    for (identity, expected) in [
        (&good, None),
        (&authority.identity(&["elsewhere.test"]), Some(TlsResult::CertificateHostMismatch)),
        (&stranger.identity(&["mx.dst.test"]), Some(TlsResult::CertificateNotTrusted)),
    ] {
        let (mut deliver, mut resolver, _file) = deliver(&authority);
        let peer = Peer::new();
        lease(&mut deliver, 1, &peer);
        answer(&mut resolver, 4, &testing("mx.dst.test"), RECORD);
        let mut talk = peer.accept();
        identity.start_tls(&mut talk);
        talk.take_message("250 ok\r\n");
        let outcome = deliver.outcome();
        assert_eq!(results(&outcome)[0].0, Result3::Delivered);
        assert!(outcome.tls.starts_with("encrypted TLS"), "{}", outcome.tls);
        let sessions = only(&outcome);
        assert_eq!((sessions.domain.as_str(), sessions.count), ("dst.test", 1));
        assert_eq!(sessions.rua, ["mailto:reports@dst.test"]);
        assert_eq!(sessions.policy.kind, PolicyKind::Sts);
        assert!(sessions.policy.lines.contains(&"mode: testing".to_owned()), "{:?}", sessions.policy);
        let failure = sessions.failure.as_ref();
        assert_eq!(failure.map(|failure| failure.result), expected);
        if let Some(failure) = failure {
            assert_eq!(failure.host, "mx.dst.test");
            let loopback = Some("127.0.0.1".parse().unwrap());
            assert_eq!((failure.local, failure.remote), (loopback, loopback));
        }
        // A session is counted once, however many messages go over it.
        lease(&mut deliver, 2, &peer);
        talk.take_message("250 ok\r\n");
        assert!(deliver.outcome().sessions.is_empty());
    }
}

#[test]
fn a_server_without_tls_and_a_failed_handshake_are_counted_and_the_retry_is_not() {
    let authority = Authority::new();
    let (mut deliver, mut resolver, _file) = deliver(&authority);
    let peer = Peer::new();
    lease(&mut deliver, 1, &peer);
    answer(&mut resolver, 4, &Err(DnsError::NoRecords), RECORD);
    peer.accept_greeted().take_message("250 ok\r\n");
    let outcome = deliver.outcome();
    let sessions = only(&outcome);
    assert_eq!(sessions.policy.kind, PolicyKind::NotFound);
    assert_eq!(sessions.failure.as_ref().unwrap().result, TlsResult::StartTlsNotSupported);
    // The connection is gone; the next one has TLS that does not work.
    lease(&mut deliver, 2, &peer);
    let mut talk = peer.accept();
    talk.greet(OFFERS);
    talk.hear_say("STARTTLS", "220 go on\r\n");
    talk.hear_something();
    talk.say("this is no handshake at all, whatever it looks like\r\n");
    let mut talk = peer.accept();
    talk.greet(EHLO);
    talk.take_message("250 ok\r\n");
    let outcome = deliver.outcome();
    assert_eq!(only(&outcome).failure.as_ref().unwrap().result, TlsResult::ValidationFailure);
}

#[test]
fn a_handshake_that_takes_too_long_is_nothing_to_report() {
    let mut deliver = start(|slice| {
        slice.tls.reports = true;
        slice.timeouts.greeting = Duration::from_millis(500);
    });
    let mut resolver = deliver.resolver();
    let peer = Peer::new();
    lease(&mut deliver, 1, &peer);
    answer(&mut resolver, 3, &Err(DnsError::NoRecords), RECORD);
    let mut silent = peer.accept();
    silent.greet(OFFERS);
    silent.hear_say("STARTTLS", "220 go on\r\n");
    peer.accept_greeted().take_message("250 ok\r\n");
    assert_eq!(deliver.outcome().sessions, []);
}

#[test]
fn an_enforced_policy_that_stops_the_mail_is_counted() {
    let authority = Authority::new();
    let (mut deliver, mut resolver, _file) = deliver(&authority);
    let peer = Peer::new();
    lease(&mut deliver, 1, &peer);
    let mx = vec!["other.test".to_owned()];
    let policy = Ok(Records::StsPolicy { mode: StsMode::Enforce, mx, max_age_s: 9, age_s: 0 });
    answer(&mut resolver, 4, &policy, RECORD);
    let outcome = deliver.outcome();
    assert_eq!(results(&outcome)[0], (Result3::Deferred, (4, 7, 5)));
    let sessions = only(&outcome);
    let failure = sessions.failure.as_ref().unwrap();
    assert_eq!((failure.result, failure.host.as_str()), (TlsResult::ValidationFailure, "mx.dst.test"));
    assert_eq!(sessions.policy.mx, ["other.test"]);
}

#[test]
fn a_domain_that_wants_no_reports_is_not_counted() {
    let authority = Authority::new();
    let (mut deliver, mut resolver, _file) = deliver(&authority);
    let peer = Peer::new();
    lease(&mut deliver, 1, &peer);
    answer(&mut resolver, 4, &Err(DnsError::NoRecords), "v=spf1 -all");
    peer.accept_greeted().take_message("250 ok\r\n");
    assert!(deliver.outcome().sessions.is_empty());
}

#[test]
fn a_report_for_a_place_of_the_web_is_left_to_the_resolver() {
    let authority = Authority::new();
    let (mut deliver, mut resolver, _file) = deliver(&authority);
    for (result, expected) in [
        (Ok(Records::Posted), (Result3::Delivered, (2, 0, 0))),
        (Err(DnsError::Temporary), (Result3::Deferred, (4, 4, 1))),
        (Err(DnsError::BadName), (Result3::Failed, (5, 7, 1))),
    ] {
        let mut report = attempt(1 << 63, "post:https://r.dst.test/tls", &[""], inline("packed"));
        report.reverse_path = String::new();
        deliver.lease(&report);
        let question = hear(&mut resolver);
        let Query::Post { url, body } = &question.query else { panic!("{:?}", question.query) };
        assert_eq!((url.as_str(), body.as_slice()), ("https://r.dst.test/tls", &b"packed"[..]));
        say(&mut resolver, &Answer { ticket: question.ticket, result, secure: false }, Vec::new());
        let outcome = deliver.outcome();
        assert_eq!((outcome.lease, results(&outcome)[0]), (1 << 63, expected));
    }
    // Two at once is more than there may be.
    for number in 0..2 {
        deliver.lease(&attempt(1 << 63 | number, "post:https://r.dst.test/tls", &[""], inline("packed")));
    }
    assert!(deliver.try_outcome().is_err());
}
