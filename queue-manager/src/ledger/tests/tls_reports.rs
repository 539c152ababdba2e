//! A day of sessions becomes reports.

use vsmtp_ipc::edge::queue_deliver::TlsResult;

use super::*;
use crate::tls_reports::{self, TlsReports, sessions};

/// The hour of a day, on a clock that begins with the test's.
fn at(days: u64, hours: u64) -> Clock {
    let since_ms = days * 86_400_000 + hours * 3_600_000;
    Clock { mono_ms: NOW.mono_ms + since_ms, wall_ms: 11 * 86_400_000 + since_ms }
}

#[test]
fn a_day_of_sessions_becomes_one_message_for_each_domain_and_survives_a_restart() {
    let settings = || {
        let from = vsmtp_config::Value::Text("tls-reports@src.test".to_owned());
        Settings::from(&slice(&[("delivery.tls.reports.from", from)]))
    };
    let mut bench = Bench::new();
    bench.ledger.settings = settings();
    bench.ledger.tls_reports = TlsReports::open(bench.folder.path());
    let ledger = &mut bench.ledger;
    for (domain, failure) in
        [("a.test", None), ("a.test", Some(TlsResult::CertificateExpired)), ("b.test", None)]
    {
        ledger.tls_reports.note(&[sessions(domain, failure, 1)], at(0, 9));
    }
    ledger.tls_reports.note(&[sessions("a.test", None, 1)], at(1, 0));
    assert!(!tls_reports::work(ledger, at(1, 0)), "the day is over, and the hour has not come");
    let wake_ms = ledger.tls_reports.wake_ms(&ledger.settings.tls_reports, at(1, 0)).unwrap();
    assert!((at(1, 1).mono_ms..at(1, 3).mono_ms).contains(&wake_ms));
    // What was counted is kept, and found by the next process.
    ledger.tls_reports.keep();
    let mut bench = bench.restart();
    bench.ledger.settings = settings();
    bench.ledger.tls_reports = TlsReports::open(bench.folder.path());
    bench.clock = at(1, 4);
    tls_reports::work(&mut bench.ledger, at(1, 4));
    bench.poll();
    let mut hops = Vec::new();
    while let Some(plan) = bench.lease() {
        let outgoing = bench.ledger.outgoing(plan.id).unwrap();
        let envelope = &outgoing.state.envelope;
        assert_eq!(envelope.reverse_path.to_string(), "tls-reports@src.test");
        let text = content::start(&outgoing.parts, 1 << 20).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("report-type=\"tlsrpt\""), "{text}");
        hops.push((envelope.recipients[0].address.to_string(), envelope.recipients[0].next_hop.to_string()));
    }
    hops.sort();
    let expected = [("reports@a.test", "smtp:a.test"), ("reports@b.test", "smtp:b.test")];
    assert_eq!(hops, expected.map(|(to, hop)| (to.to_owned(), hop.to_owned())));
    // The second day of the one domain is left, and is reported when that is over.
    tls_reports::work(&mut bench.ledger, at(2, 4));
    bench.clock = at(2, 4);
    bench.poll();
    assert!(bench.lease().is_some() && bench.lease().is_none());
    bench.ledger.tls_reports.keep();
    assert_eq!(TlsReports::open(bench.folder.path()).wake_ms(&settings().tls_reports, at(2, 4)), None);
}
