//! Who hears of failures.

use std::time::Instant;

use vsmtp_config::Value;
use vsmtp_ipc::edge::ctl_queue::{Request, Selection, State};
use vsmtp_ipc::edge::filter_queue::Disposition;
use vsmtp_ipc::edge::queue_deliver::{Reach, Result3};
use vsmtp_ipc::edge::queue_filter::{PostStage, PostVerdict};
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::{Body, DeliverBy, Demands, Expanded, Notify, Piece, Terms};
use vsmtp_ipc::{Channel, EdgeId};

use crate::stage::{Deliver, PATIENCE, Stage, octets, outcome, text};

fn mailbox(stage: &mut Stage) -> Deliver {
    Deliver(Channel::new(stage.introduce(Role::DeliverMailbox, 0), EdgeId::QueueDeliver))
}

#[test]
fn failures_of_one_message_make_one_report_to_its_sender() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut mailbox = mailbox(&mut stage);
    let message = stage.message(&[
        ("b@dst.test", "smtp:dst.test"),
        ("c@other.test", "smtp:other.test"),
        ("d@dst.test", "smtp:dst.test"),
    ]);
    filter.store(message);
    for _ in 0..2 {
        let (attempt, _) = deliver.hear();
        let results: Vec<(u32, Result3)> = attempt
            .recipients
            .iter()
            .map(|r| (r.index, if r.index == 2 { Result3::Delivered } else { Result3::Failed }))
            .collect();
        deliver.say(&outcome(attempt.lease, &results));
    }
    let (report, descriptors) = mailbox.hear();
    assert_eq!((report.reverse_path.as_str(), report.recipients[0].address.as_str()), ("", "a@src.test"));
    assert_eq!(
        report.recipients[0].notify,
        Notify { success: false, failure: false, delay: false, stated: true }
    );
    mailbox.settle(&report, Result3::Delivered);
    let bytes = String::from_utf8(octets(report.body, descriptors)).unwrap();
    assert_eq!(bytes.matches("Final-Recipient: rfc822; ").count(), 2, "{bytes}");
    assert!(bytes.contains("Final-Recipient: rfc822; b@dst.test") && bytes.contains("rfc822; c@other.test"));
    assert!(bytes.contains("Diagnostic-Code: smtp; the host said so to 0"));
    assert!(bytes.contains("\r\nSubject: hi\r\n\r\nline\r\n"), "the original is returned");
    stage.figure("messages", 0);
}

#[test]
fn who_asked_to_hear_nothing_hears_nothing() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    message.envelope.recipients[0].notify =
        Notify { success: false, failure: false, delay: false, stated: true };
    filter.store(message);
    deliver.serve(Result3::Failed);
    stage.figure("messages", 0);
    assert!(!stage.log().contains("event=reported"));
}

#[test]
fn who_asked_hears_of_success() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut mailbox = mailbox(&mut stage);
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    message.envelope.recipients[0].notify =
        Notify { success: true, failure: true, delay: true, stated: true };
    filter.store(message);
    deliver.serve(Result3::Delivered);
    let (report, descriptors) = mailbox.hear();
    mailbox.settle(&report, Result3::Delivered);
    let bytes = String::from_utf8(octets(report.body, descriptors)).unwrap();
    assert!(bytes.contains("Action: relayed") && bytes.contains("Status: 2.0.0"), "{bytes}");
    stage.figure("messages", 0);
}

#[test]
fn a_next_hop_that_knows_of_reports_has_the_duty_to_send_them() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    message.envelope.recipients[0].notify =
        Notify { success: true, failure: true, delay: true, stated: true };
    filter.store(message);
    let (attempt, _) = deliver.hear();
    let mut delivered = outcome(attempt.lease, &[(0, Result3::Delivered)]);
    delivered.reports = true;
    deliver.say(&delivered);
    stage.figure("messages", 0);
    assert!(!stage.log().contains("event=reported"));
}

#[test]
fn an_alias_for_several_is_reported_when_its_message_is_stored() {
    let (mut stage, mut filter, deliver) = Stage::with_peers();
    let mut mailbox = mailbox(&mut stage);
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test"), ("c@dst.test", "smtp:dst.test")]);
    message.envelope.envid = Some("e1".to_owned());
    let original = Some(("rfc822".to_owned(), "O@old.test".to_owned()));
    message.expanded = vec![Expanded { address: "all@src.test".to_owned(), original }];
    let id = filter.store(message);
    // A death right behind the acceptance loses neither.
    drop((filter, deliver));
    let (report, descriptors) = mailbox.hear();
    let bytes = String::from_utf8(octets(report.body, descriptors)).unwrap();
    for field in [
        "Original-Envelope-Id: e1\r\n",
        "Original-Recipient: rfc822; O@old.test\r\nFinal-Recipient: rfc822; all@src.test\r\nAction: expanded\r\nStatus: 2.1.5",
        "Content-Type: text/rfc822-headers\r\n\r\nReceived: from x\r\nSubject: hi\r\n",
    ] {
        assert!(bytes.contains(field), "{field}: {bytes}");
    }
    let mut stage = stage.kill_and_restart(&[]);
    stage.no_rules();
    stage.figure("messages", 2);
    let mut deliver = stage.deliver();
    assert_eq!(deliver.serve(Result3::Delivered).id, id);
}

#[test]
fn the_null_sender_hears_of_no_alias() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    message.envelope.reverse_path = String::new();
    message.expanded = vec![Expanded { address: "all@src.test".to_owned(), original: None }];
    filter.store(message);
    deliver.serve(Result3::Delivered);
    stage.figure("messages", 0);
}

#[test]
fn what_must_not_be_read_on_its_way_is_not_returned_and_its_report_is_guarded_too() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut mailbox = mailbox(&mut stage);
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    message.envelope.demands = Demands { requiretls: true };
    message.envelope.ret_full = Some(true);
    filter.store(message);
    assert!(deliver.serve(Result3::Failed).demands.requiretls);
    let (report, descriptors) = mailbox.hear();
    assert!(report.demands.requiretls);
    let bytes = String::from_utf8(octets(report.body, descriptors)).unwrap();
    assert!(
        bytes.contains("Content-Type: text/rfc822-headers") && !bytes.contains("\r\nline\r\n"),
        "{bytes}"
    );
}

#[test]
fn a_report_that_fails_goes_to_the_postmaster_and_then_stays_for_the_operator() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut mailbox = mailbox(&mut stage);
    let message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    filter.store(message);
    deliver.serve(Result3::Failed);
    assert_eq!(mailbox.serve(Result3::Failed).recipients[0].address, "a@src.test");
    let (double, descriptors) = mailbox.hear();
    assert_eq!(
        (double.reverse_path.as_str(), double.recipients[0].address.as_str()),
        ("", "postmaster@src.test")
    );
    mailbox.settle(&double, Result3::Failed);
    let bytes = String::from_utf8(octets(double.body, descriptors)).unwrap();
    assert!(bytes.contains("Final-Recipient: rfc822; a@src.test"), "{bytes}");
    stage.figure("dead", 1);
    let mut operator = stage.operator();
    let entries = operator.list(Some(State::Dead));
    assert_eq!((entries.len(), entries[0].id), (1, double.id));
    // Not lost, and not tried again: an operator decides.
    assert_eq!(operator.flush_all(), 0);
    assert!(mailbox.is_idle(&mut stage));
    assert_eq!(operator.changed(&Request::Release(Selection::One(double.id))), 1);
    assert_eq!(mailbox.serve(Result3::Delivered).id, double.id);
    stage.figure("messages", 0);
}

#[test]
fn what_nobody_takes_expires_and_its_sender_hears_of_the_delay_first() {
    let settings = [
        ("queue.lifetime", text("1m")),
        ("queue.bounce_lifetime", text("1m")),
        ("queue.delay_warning", text("1s")),
    ];
    let mut stage = Stage::start(&settings);
    stage.no_rules();
    let (mut filter, mut deliver) = (stage.filter(), stage.deliver());
    let mut mailbox = mailbox(&mut stage);
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    // As old as that when it is loaded: a new message has its whole life before it.
    message.arrived_ms -= 30_000;
    let id = filter.store(message);
    let (attempt, _) = deliver.hear();
    let mut deferred = outcome(attempt.lease, &[(0, Result3::Deferred)]);
    deferred.reach = Reach::Unreachable;
    deliver.say(&deferred);
    stage.logged("event=deferred");
    drop((filter, deliver, mailbox));
    let mut stage = stage.kill_and_restart(&settings);
    stage.no_rules();
    let mut deliver = stage.deliver();
    mailbox = self::mailbox(&mut stage);
    stage.figure("active", 1);
    assert_eq!(stage.operator().flush_all(), 1);
    assert_eq!(deliver.serve(Result3::Deferred).id, id);
    let (warning, descriptors) = mailbox.hear();
    mailbox.settle(&warning, Result3::Delivered);
    let bytes = String::from_utf8(octets(warning.body, descriptors)).unwrap();
    assert!(bytes.contains("Action: delayed") && bytes.contains("Will-Retry-Until: "), "{bytes}");
    assert_eq!(stage.operator().flush_all(), 1);
    deliver.serve(Result3::Deferred);
    assert!(mailbox.is_idle(&mut stage), "one warning is enough");
}

/// A spool in which counts of three days ago are kept, for a domain that wants its report at these places.
fn counted(rua: &[&str]) -> Stage {
    let mut stage = counted_with(rua, &[]);
    stage.no_rules();
    stage
}

/// The same with more settings, and nobody there yet.
fn counted_with(rua: &[&str], more: &[(&str, Value)]) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("queue")).unwrap();
    let day = vsmtp_sys::clock::wall_ms() / 86_400_000 - 3;
    let rua = rua.iter().map(|uri| format!("\"{uri}\"")).collect::<Vec<_>>().join(",");
    let policy = r#"{"policy":{"policy-type":"no-policy-found","policy-domain":"dst.test"},
        "summary":{"total-successful-session-count":3,"total-failure-session-count":0}}"#;
    let kept = format!(
        r#"{{"version":1,"sheets":[{{"day":{day},"domain":"dst.test","rua":[{rua}],"policies":[{policy}]}}]}}"#
    );
    std::fs::write(folder.path().join("queue/tls-reports.json"), kept).unwrap();
    let from = Value::Text("tls-reports@src.test".to_owned());
    Stage::start_in(folder, &[&[("delivery.tls.reports.from", from)], more].concat())
}

#[test]
fn a_report_about_tls_that_is_to_be_signed_waits_for_the_filter() {
    let text = |text: &str| Value::Text(text.to_owned());
    let key = Value::Map([("private_key".to_owned(), text("k.pem"))].into());
    let domains = Value::Map([("src.test".to_owned(), Value::Map([("dkim".to_owned(), key)].into()))].into());
    let more = [("server.virtual", domains), ("delivery.tls.reports.selector", text("2026"))];
    let mut stage = counted_with(&["mailto:reports@dst.test"], &more);
    // Rules would be asked about other messages, and are not about this one.
    let (mut post, mut deliver) = (stage.post(true, true), stage.deliver());
    let (ask, _) = post.hear();
    assert_eq!((ask.stage, ask.envelope.reverse_path.as_str()), (PostStage::Report, "tls-reports@src.test"));
    assert!(deliver.is_idle(&mut stage), "nothing is tried before it is signed");
    drop((post, deliver));
    // The process dies, and no rules are there any more.
    let mut stage = stage.kill_and_restart(&[]);
    let (mut post, mut deliver) = (stage.post(false, false), stage.deliver());
    let (ask, _) = post.hear();
    assert_eq!(ask.stage, PostStage::Report);
    let Body::Inline(report) = ask.body else { panic!("{:?}", ask.body) };
    assert!(report.starts_with(b"From: tls-reports@src.test\r\n"));
    post.say(&PostVerdict::Edit {
        ticket: ask.ticket,
        envelope: ask.envelope,
        expanded: Vec::new(),
        notices: Vec::new(),
        disposition: Disposition::Active,
        pieces: vec![
            Piece::Text(b"DKIM-Signature: x\r\n".to_vec()),
            Piece::Original { offset: 0, len: report.len() as u64 },
        ],
    });
    let (attempt, descriptors) = deliver.hear();
    deliver.settle(&attempt, Result3::Delivered);
    let sent = octets(attempt.body, descriptors);
    assert_eq!(sent, [&b"DKIM-Signature: x\r\n"[..], &report].concat());
}

#[test]
fn a_report_about_tls_goes_to_each_place_by_mail_or_by_post() {
    let mut stage = counted(&["https://r.dst.test/tls", "mailto:reports@dst.test"]);
    let mut deliver = stage.deliver();
    let (mut posted, mut mailed) = (false, false);
    for _ in 0..2 {
        let (attempt, _) = deliver.hear();
        if let Some(url) = attempt.next_hop.strip_prefix("post:") {
            assert_eq!(url, "https://r.dst.test/tls");
            let Body::Inline(body) = &attempt.body else { panic!("{:?}", attempt.body) };
            assert!(body.starts_with(&[0x1f, 0x8b]), "compressed");
            posted = true;
        } else {
            let (from, to) = (attempt.reverse_path.as_str(), attempt.recipients[0].address.as_str());
            assert_eq!((from, to), ("tls-reports@src.test", "reports@dst.test"));
            mailed = true;
        }
        deliver.settle(&attempt, Result3::Delivered);
    }
    assert!(posted && mailed);
    stage.logged("event=tls-report-posted");
    assert!(deliver.is_idle(&mut stage), "each goes once");
}

/// P2: a report about TLS that cannot be delivered is told to nobody: no report is about a report.
#[test]
fn a_report_about_tls_that_is_refused_is_told_to_nobody() {
    let mut stage = counted(&["mailto:reports@dst.test"]);
    let (mut deliver, mut mailbox) = (stage.deliver(), mailbox(&mut stage));
    let (attempt, _) = deliver.hear();
    let recipient = &attempt.recipients[0];
    assert_eq!(
        (attempt.reverse_path.as_str(), &*recipient.address),
        ("tls-reports@src.test", "reports@dst.test")
    );
    // Nor of a delay, nor when its time is over, nor by the next hop.
    assert_eq!(recipient.notify, Notify { success: false, failure: false, delay: false, stated: true });
    deliver.settle(&attempt, Result3::Failed);
    stage.figure("messages", 0);
    assert!(deliver.is_idle(&mut stage) && mailbox.is_idle(&mut stage));
    let log = stage.log();
    assert!(log.contains("event=failed") && !log.contains("event=reported"), "{log}");
}

#[test]
fn a_post_that_dies_with_its_process_or_is_refused_harms_nothing() {
    let mut stage = counted(&["https://r.dst.test/tls"]);
    let mut deliver = stage.deliver();
    let (attempt, _) = deliver.hear();
    assert!(attempt.next_hop.starts_with("post:"));
    // Only who has it can say how it ended.
    let mut other = Deliver(Channel::new(stage.introduce(Role::DeliverSmtp, 1), EdgeId::QueueDeliver));
    other.say(&outcome(attempt.lease, &[(0, Result3::Delivered)]));
    assert!(other.is_dropped());
    deliver.settle(&attempt, Result3::Failed);
    stage.logged("event=tls-report-given-up");
    assert!(deliver.is_idle(&mut stage));
}

#[test]
fn a_message_whose_own_lifetime_is_over_fails_between_two_attempts_and_its_sender_is_told() {
    let text = report_at_the_end_of(Terms { priority: 3, lifetime_s: Some(1), ..Terms::default() });
    assert!(text.contains("Status: 4.4.7"), "{text}");
}

#[test]
fn what_its_client_wanted_delivered_by_a_time_that_is_over_has_failed_for_good() {
    let by = Some(DeliverBy { seconds: 1, returns: true, traced: false });
    let text = report_at_the_end_of(Terms { priority: 3, by, ..Terms::default() });
    assert!(text.contains("Action: failed") && text.contains("Status: 5.4.7"), "{text}");
}

/// What the sender of a message with these terms is told when its time is over.
fn report_at_the_end_of(terms: Terms) -> String {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut mailbox = mailbox(&mut stage);
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    message.envelope.terms = Some(Box::new(terms));
    filter.store(message);
    // However slow this machine is: what is tried before the end is deferred, and there may be nothing.
    let (mut operator, until) = (stage.operator(), Instant::now() + PATIENCE);
    while !stage.log().contains("event=reported") {
        assert!(Instant::now() < until, "nobody is told");
        let _ = deliver.0.flush().unwrap();
        if let Some(attempt) = deliver.attempt_if_any() {
            deliver.settle(&attempt, Result3::Deferred);
        }
        operator.figures();
    }
    let (report, descriptors) = mailbox.hear();
    assert_eq!((report.reverse_path.as_str(), report.recipients[0].address.as_str()), ("", "a@src.test"));
    assert_eq!(report.priority, 3, "as urgent as what it is about");
    String::from_utf8(octets(report.body, descriptors)).unwrap()
}

fn notice(subject: &str) -> vsmtp_ipc::wire::Notice {
    vsmtp_ipc::wire::Notice { to: "admin@dst.test".into(), subject: subject.into(), text: "line\n".into() }
}

/// What deliver gets of the queue, told apart: messages, and what we have written.
fn delivered(deliver: &mut Deliver, count: usize) -> (usize, Vec<String>) {
    let (mut messages, mut ours) = (0, Vec::new());
    for _ in 0..count {
        let (attempt, descriptors) = deliver.hear();
        deliver.settle(&attempt, Result3::Delivered);
        let text = String::from_utf8(octets(attempt.body, descriptors)).unwrap();
        if attempt.reverse_path.is_empty() {
            assert_eq!(attempt.recipients[0].address, "admin@dst.test");
            ours.push(text);
        } else {
            messages += 1;
        }
    }
    ours.sort();
    (messages, ours)
}

#[test]
fn what_a_rule_wants_said_goes_in_with_the_message_and_is_judged_by_nobody() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, false));
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    message.notices = vec![notice("one"), notice("two")];
    let id = filter.store(message);
    // Only the message itself is asked about; that answer has something to say too.
    let (ask, _) = post.hear();
    assert_eq!(ask.id, id);
    post.say(&PostVerdict::Edit {
        ticket: ask.ticket,
        envelope: ask.envelope,
        expanded: Vec::new(),
        notices: vec![notice("three")],
        disposition: Disposition::Active,
        pieces: Vec::new(),
    });
    let (messages, ours) = delivered(&mut deliver, 4);
    assert_eq!((messages, ours.len()), (1, 3));
    for subject in ["one", "two", "three"] {
        let found = ours.iter().find(|text| text.contains(&format!("\r\nSubject: {subject}\r\n"))).unwrap();
        assert!(found.contains("\r\nAuto-Submitted: auto-generated\r\n") && found.ends_with("\r\nline\r\n"));
    }
    stage.figure("messages", 0);
    assert_eq!(stage.log().matches("kind=notice to=<admin@dst.test>").count(), 3, "{}", stage.log());
    // Nobody is to answer what nobody has sent.
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    message.envelope.reverse_path.clear();
    message.judged = true;
    message.notices = vec![notice("four")];
    filter.store(message);
    let attempt = deliver.serve(Result3::Delivered);
    assert_eq!(attempt.recipients[0].address, "b@dst.test");
    assert!(deliver.is_idle(&mut stage));
    // Five are more than a message may have.
    let mut message = stage.message(&[("b@dst.test", "smtp:dst.test")]);
    message.notices = vec![notice("x"); 5];
    filter.say(&vsmtp_ipc::edge::filter_queue::Submit::Message(message), Vec::new());
    assert!(filter.is_dropped());
}
