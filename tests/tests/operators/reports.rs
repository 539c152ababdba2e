//! What senders and postmasters are told, read by Python's own parser.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use vsmtp_tests::{Client, Mta, Settings, Sink, free_port, needs_programs, python, said, wait_until};

use crate::relaying_to;

/// Attempts follow each other at once, so that tests do not wait.
const HASTY: &str = "config.queue.backoff.min = \"1s\"; config.queue.backoff.max = \"1s\";";

/// Holds a report against RFC 3462 and RFC 3464: file, action, status, and the recipients that it must name.
const CHECK: &str = r#"
import email, sys
from email import policy
name, action, status, subject = sys.argv[1:5]
m = email.message_from_binary_file(open(name, 'rb'), policy=policy.default)
assert not m.defects, m.defects
assert m.get_content_type() == 'multipart/report' and m.get_param('report-type') == 'delivery-status', m['Content-Type']
assert m['Return-Path'] == '<>' and m['Auto-Submitted'] == 'auto-replied', m.items()
assert m['From'] and m['Date'] and m['Message-ID'] and m['Subject'] and m['MIME-Version'] == '1.0', m.items()
text, report, returned = m.iter_parts()
assert text.get_content_type() == 'text/plain' and text.get_content().strip()
assert report.get_content_type() == 'message/delivery-status', report.get_content_type()
head, *blocks = report.get_payload()
assert head['Reporting-MTA'] == 'dns; mx.local.test', head.items()
assert head['Arrival-Date'], head.items()
named = []
for block in blocks:
    assert block['Action'] == action, block.items()
    assert block['Status'].startswith(status), block.items()
    assert block['Diagnostic-Code'].startswith('smtp; '), block.items()
    if action == 'delayed':
        assert block['Will-Retry-Until'], block.items()
    named.append(block['Final-Recipient'].replace('rfc822; ', ''))
assert sorted(named) == sorted(sys.argv[5:]), named
assert returned.get_content_type() in ('message/rfc822', 'text/rfc822-headers'), returned.get_content_type()
inner = returned.get_payload(0) if returned.is_multipart() else email.message_from_string(returned.get_content())
assert inner['Subject'] == subject, inner.items()
"#;

fn check(mta: &Mta, report: &[u8], action: &str, status: &str, subject: &str, recipients: &[&str]) {
    let path = mta.root().join("report");
    std::fs::write(&path, report).expect("write the report");
    let path = path.to_str().expect("a plain path").to_owned();
    said(&python(CHECK, &[&[path.as_str(), action, status, subject], recipients].concat()));
}

fn send(mta: &Mta, from: &str, to: &[&str], subject: &str) {
    let message = format!("From: {from}\r\nSubject: {subject}\r\n\r\nthe text of {subject}");
    let reply = Client::hello(mta.port()).mail(from, to, &message);
    assert_eq!(reply.code(), 250, "{reply:?}");
}

fn only(mta: &Mta, user: &str) -> Vec<u8> {
    let text = mta.wait_for_mail("local.test", user, 1);
    assert_eq!(text.len(), 1, "{text:?}");
    mta.maildir_octets("local.test", user).remove(0)
}

#[test]
fn a_refused_recipient_yields_one_bounce() {
    if !needs_programs("a_refused_recipient_yields_one_bounce", &["python3"]) {
        return;
    }
    let sink = Sink::scripted(|line| {
        line.starts_with("RCPT TO:<no")
            .then(|| "550-5.1.1 no such user\r\n550 5.1.1 \u{1b}[31m<here>".to_owned())
    });
    let mta = relaying_to(&sink, "");
    send(&mta, "a@local.test", &["no1@dst.test", "yes@dst.test", "no2@dst.test"], "two of three");
    let bounce = only(&mta, "a");
    check(&mta, &bounce, "failed", "5.1.1", "two of three", &["no1@dst.test", "no2@dst.test"]);
    assert!(!bounce.contains(&0x1b), "{}", String::from_utf8_lossy(&bounce));
    assert_eq!(sink.messages()[0].to, ["yes@dst.test"]);
    wait_until("the queue is empty", || mta.queued() == 0);
    let log = mta.logged("event=reported");
    let line = log.lines().find(|line| line.contains("event=failed")).expect("a line about the failure");
    assert!(
        line.contains("to=<no") && line.contains("status=5.1.1") && line.contains("no such user"),
        "{line}"
    );
    assert_eq!(log.matches("event=reported").count(), 1, "{log}");
}

#[test]
fn a_message_that_is_refused_whole_is_returned_as_far_as_the_limit_goes() {
    if !needs_programs("a_message_that_is_refused_whole_is_returned_as_far_as_the_limit_goes", &["python3"]) {
        return;
    }
    let sink = Sink::scripted(|line| (line == ".").then(|| "554 5.6.0 not this one".to_owned()));
    let mta = relaying_to(&sink, "config.queue.bounce_size_limit = \"2KiB\";");
    send(&mta, "small@local.test", &["b@dst.test"], "small");
    let bounce = only(&mta, "small");
    check(&mta, &bounce, "failed", "5.6.0", "small", &["b@dst.test"]);
    assert!(String::from_utf8_lossy(&bounce).contains("the text of small"));
    let body = "0123456789\r\n".repeat(1_000);
    let reply = Client::hello(mta.port()).mail(
        "large@local.test",
        &["b@dst.test"],
        &format!("Subject: large\r\n\r\n{body}"),
    );
    assert_eq!(reply.code(), 250, "{reply:?}");
    let bounce = only(&mta, "large");
    check(&mta, &bounce, "failed", "5.6.0", "large", &["b@dst.test"]);
    assert!(
        !String::from_utf8_lossy(&bounce).contains("0123456789\r\n0123456789"),
        "only its header is returned"
    );
}

#[test]
fn nobody_is_told_about_the_null_sender_but_the_postmaster() {
    let sink = Sink::scripted(|line| line.starts_with("RCPT").then(|| "550 5.1.1 no such user".to_owned()));
    let mta = relaying_to(&sink, "config.queue.postmaster = \"boss@local.test\";");
    send(&mta, "", &["b@dst.test"], "a bounce of somebody");
    let told = String::from_utf8_lossy(&only(&mta, "boss")).into_owned();
    assert!(told.contains("Return-Path: <>") && told.contains("b@dst.test"), "{told}");
    // The bounce of a message whose sender cannot be reached: double bounce.
    send(&mta, "a@gone.test", &["b@dst.test"], "from nowhere");
    let mail = mta.wait_for_mail("local.test", "boss", 2);
    assert!(mail.iter().any(|mail| mail.contains("a@gone.test")), "{mail:?}");
    wait_until("the queue is empty", || mta.queued() == 0);
    assert_eq!(mta.maildir("local.test", "boss").len(), 2);
    assert_eq!(sink.count(), 0);
}

#[test]
fn what_nobody_can_be_told_of_waits_for_an_operator() {
    let sink = Sink::scripted(|line| line.starts_with("RCPT").then(|| "550 5.1.1 no such user".to_owned()));
    let mta = relaying_to(&sink, "config.queue.postmaster = \"boss@gone.test\";");
    send(&mta, "a@gone.test", &["b@dst.test"], "hopeless");
    wait_until("it is dead", || mta.ctl_rows(&["queue", "list", "--state", "dead"]).len() == 1);
    assert_eq!(mta.queued(), 1);
    mta.logged("event=dead");
    mta.ctl_json(&["queue", "delete", "--all"]);
    assert_eq!(mta.queued(), 0);
}

#[test]
fn a_deferred_message_is_tried_again_and_its_sender_warned_once() {
    if !needs_programs("a_deferred_message_is_tried_again_and_its_sender_warned_once", &["python3"]) {
        return;
    }
    let (open, tries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (gate, count) = (Arc::clone(&open), Arc::clone(&tries));
    let sink = Sink::scripted(move |line| {
        if !line.starts_with("RCPT TO:<b@dst") || gate.load(Ordering::SeqCst) {
            return None;
        }
        count.fetch_add(1, Ordering::SeqCst);
        Some("450 4.2.1 mailbox is busy".to_owned())
    });
    let mta = relaying_to(&sink, &format!("{HASTY} config.queue.delay_warning = \"1s\";"));
    send(&mta, "a@local.test", &["b@dst.test"], "patience");
    let warning = only(&mta, "a");
    check(&mta, &warning, "delayed", "4.2.1", "patience", &["b@dst.test"]);
    let so_far = tries.load(Ordering::SeqCst);
    wait_until("it was tried twice more", || tries.load(Ordering::SeqCst) >= so_far + 2);
    open.store(true, Ordering::SeqCst);
    wait_until("it is delivered", || sink.count() == 1);
    wait_until("the queue is empty", || mta.queued() == 0);
    assert_eq!(mta.maildir("local.test", "a").len(), 1, "one warning and nothing else");
}

#[test]
fn a_message_that_goes_in_circles_ends() {
    let mut mta = Mta::prepare(&Settings::default());
    let circle = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", mta.port());
    mta.write_configuration(&Settings { config: circle, ..Settings::default() });
    mta.launch();
    send(&mta, "a@local.test", &["b@dst.test"], "round and round");
    let bounce = String::from_utf8_lossy(&only(&mta, "a")).into_owned();
    assert!(bounce.contains("Status: 5.4.6"), "{bounce}");
    wait_until("the queue is empty", || mta.queued() == 0);
    assert!(mta.log().matches("event=accepted").count() < 2 * 60, "it ends soon");
}

#[test]
fn a_next_hop_that_is_away_is_tried_again() {
    let port = free_port();
    let config = format!(
        "{HASTY} config.delivery.relayhost = \"[127.0.0.1]:{port}\"; \
         config.delivery.local = \"lmtp:unix:/nonexistent/lmtp\";"
    );
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    send(&mta, "", &["b@dst.test", "b@local.test"], "nobody is there");
    wait_until("both were tried twice", || {
        let tries =
            |hop: &str| mta.log().lines().filter(|l| l.contains("event=deferred") && l.contains(hop)).count();
        tries("smtp:") >= 2 && tries("lmtp:") >= 2
    });
    let rows = mta.ctl_rows(&["queue", "list"]);
    let why = rows[0]["recipients"].to_string();
    assert!(why.contains("onnection refused") && why.contains("o such file"), "{why}");
}

#[test]
fn what_cannot_be_delivered_in_its_lifetime_fails() {
    if !needs_programs("what_cannot_be_delivered_in_its_lifetime_fails", &["python3"]) {
        return;
    }
    // The shortest lifetime that the configuration takes is a minute.
    const BOUND: Duration = Duration::from_secs(150);
    let sink =
        Sink::scripted(|line| line.starts_with("RCPT").then(|| "450 4.2.1 mailbox is busy".to_owned()));
    let lifetime = "config.queue.lifetime = \"1m\"; config.queue.bounce_lifetime = \"1m\";";
    let more = "config.queue.delay_warning = \"0s\"; config.queue.postmaster = \"boss@local.test\";";
    let mta = relaying_to(&sink, &format!("{HASTY} {lifetime} {more}"));
    send(&mta, "a@local.test", &["b@dst.test"], "too late");
    send(&mta, "", &["c@dst.test"], "a bounce of somebody");
    let began = Instant::now();
    while mta.queued() > 0 {
        assert!(began.elapsed() < BOUND, "{}", mta.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(began.elapsed() > Duration::from_secs(50), "not before its time");
    let bounce = only(&mta, "a");
    check(&mta, &bounce, "failed", "4.", "too late", &["b@dst.test"]);
}
