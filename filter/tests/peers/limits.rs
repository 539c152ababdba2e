//! Rules that count ask the limiter, and go on without one that is away.

use std::time::Duration;

use vsmtp_config::FilterSlice;
use vsmtp_ipc::edge::filter_limits::{Answer, Ask, LimitsEnd, Taken, Taking, Triple};
use vsmtp_ipc::edge::filter_queue::{Receipt, Refusal};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::receiver_filter::{Decision, Facts, Verdict};
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::Body;

use crate::stage::*;

const RULES: &str = r#"#{ helo: [ rule "slowly" || ratelimit::check("helo", ctx::helo(), 2, 60) ] }"#;

fn helo(session: u64) -> vsmtp_ipc::edge::receiver_filter::Ask {
    vsmtp_ipc::edge::receiver_filter::Ask::Helo(Facts { helo: Some("h.test".into()), ..facts(session) })
}

fn decided(receiver: &mut Receiver) -> (u64, Decision) {
    match receiver.hear() {
        Verdict::Decided { session, decision } => (session, decision),
        other => panic!("{other:?}"),
    }
}

fn asked(limits: &mut LimitsEnd) -> u64 {
    let Ask::Take { ticket, taking } = next(limits).unwrap().message else { panic!("something to count") };
    let expected = Taking { name: "helo".into(), key: "h.test".into(), limit: 2, period_s: 60, count: 1 };
    assert_eq!(taking, expected);
    ticket
}

fn answer(limits: &mut LimitsEnd, ticket: u64, granted: bool) {
    let taken = Taken { granted, left: u32::from(granted) };
    limits.send(&Answer::Taken { ticket, taken }, Vec::new()).unwrap();
    assert_eq!(limits.flush().unwrap(), vsmtp_ipc::Flushed::All);
}

/// A session filter whose rules wait as long as they ever do for a limiter.
fn session(rules: &str) -> (Stage, Receiver, Queue) {
    let dir = tempfile::tempdir().unwrap();
    let slice = FilterSlice { timeout: Duration::from_secs(30), ..slice(&dir, rules) };
    let mut stage = Stage::spawn(Role::FilterSession, vsmtp_ipc::encode(&slice).unwrap(), dir);
    stage.hear_master(|said| matches!(said, ToMaster::Ready));
    let queue = stage.queue();
    let (receiver, _) = stage.receiver(RECEIVER);
    (stage, receiver, queue)
}

/// A limiter has a second. On a machine that does not run this test for so long its answer comes too late, which proves
/// nothing: then it is tried again.
fn in_time(scene: fn() -> Option<()>) {
    assert!((0..5).any(|_| scene().is_some()), "never what the limiter said");
}

#[test]
fn the_limiters_word_is_what_a_rule_goes_by() {
    in_time(|| {
        let (mut stage, mut receiver, _queue) = session(RULES);
        let mut limits = stage.limits();
        receiver.say(&helo(1), Vec::new());
        let ticket = asked(&mut limits);
        answer(&mut limits, ticket, true);
        assert_eq!(decided(&mut receiver), (1, Decision::Accept(None)));
        receiver.say(&helo(2), Vec::new());
        let ticket = asked(&mut limits);
        answer(&mut limits, ticket, false);
        let (2, Decision::Refuse(reply)) = decided(&mut receiver) else { return None };
        assert_eq!((reply.code, &*reply.text), (450, "Too many of these, try again later"));
        Some(())
    });
}

#[test]
fn nobody_is_kept_by_a_limiter_that_is_away_or_silent() {
    let (mut stage, mut receiver, _queue) = Stage::session(RULES);
    receiver.say(&helo(1), Vec::new());
    assert_eq!(decided(&mut receiver), (1, Decision::Accept(None)));
    let mut limits = stage.limits();
    receiver.say(&helo(2), Vec::new());
    let late = asked(&mut limits);
    assert_eq!(decided(&mut receiver), (2, Decision::Accept(None)));
    stage.logged("event=limits-silent");
    assert_eq!(stage.log().matches("event=limits-silent").count(), 1, "{}", stage.log());
    // An answer that comes late is nobody's, and harms nobody.
    answer(&mut limits, late, false);
    receiver.say(&helo(3), Vec::new());
    let ticket = asked(&mut limits);
    answer(&mut limits, ticket, true);
    assert_eq!(decided(&mut receiver), (3, Decision::Accept(None)));
}

/// Answers what four workers ask at once; only the first is granted if `grants`. How many were accepted.
fn burst(limits: &mut LimitsEnd, receiver: &mut Receiver, grants: bool) -> usize {
    let tickets = [(); 4].map(|()| asked(limits));
    for (number, ticket) in tickets.into_iter().enumerate() {
        answer(limits, ticket, grants && number == 0);
    }
    tickets.iter().filter(|_| decided(receiver).1 == Decision::Accept(None)).count()
}

#[test]
fn no_burst_is_so_large_that_some_of_it_is_not_counted() {
    in_time(|| {
        let (mut stage, mut receiver, _queue) = session(RULES);
        let mut limits = stage.limits();
        receiver.say_all(&(1..=12).map(helo).collect::<Vec<_>>());
        for grants in [false, false, true] {
            if burst(&mut limits, &mut receiver, grants) != usize::from(grants) {
                return None;
            }
        }
        Some(())
    });
}

#[test]
fn a_limiter_that_is_silent_leaves_workers_to_others() {
    in_time(|| {
        let (mut stage, mut receiver, _queue) = session(RULES);
        let mut limits = stage.limits();
        receiver.say(&helo(1), Vec::new());
        assert_eq!(decided(&mut receiver), (1, Decision::Accept(None)));
        // It is known as silent: of these, three wait for it.
        receiver.say_all(&(2..=8).map(helo).collect::<Vec<_>>());
        let sessions = [(); 7].map(|()| decided(&mut receiver).0);
        if sessions[..4] != [5, 6, 7, 8] {
            return None;
        }
        for _ in 0..4 {
            asked(&mut limits);
        }
        // It answers again, and is asked by all.
        receiver.say(&helo(9), Vec::new());
        let ticket = asked(&mut limits);
        answer(&mut limits, ticket, false);
        if decided(&mut receiver) == (9, Decision::Accept(None)) {
            return None;
        }
        receiver.say_all(&(10..=13).map(helo).collect::<Vec<_>>());
        (burst(&mut limits, &mut receiver, false) == 0).then_some(())
    });
}

#[test]
fn a_limiter_that_answers_what_nobody_asked_is_reported() {
    let mut stage = Stage::start(Role::FilterSession, RULES);
    let mut limits = stage.limits();
    answer(&mut limits, 7, true);
    let reported = |said: &ToMaster| matches!(said, ToMaster::Misbehaved(name) if name.role == Role::Limits);
    stage.hear_master(reported);
}

const GREYLIST: &str = r#"#{
    rcpt: [ rule "greylist" || greylist::check(#{ delay: 60, prefix_v4: 16 }) ],
    preq: [ rule "content" || if msg::get_header("Subject") == "hi" && msg::size() > 100 { deny() } else { next() } ],
}"#;

/// Answers the question whether a recipient's triple has waited.
fn waited(limits: &mut LimitsEnd, wait_s: u32) -> Triple {
    let Ask::Greylist { ticket, triple, terms } = next(limits).unwrap().message else { panic!("a triple") };
    assert_eq!((terms.delay_s, terms.known_after), (60, 5));
    limits.send(&Answer::Greylisted { ticket, wait_s }, Vec::new()).unwrap();
    assert_eq!(limits.flush().unwrap(), vsmtp_ipc::Flushed::All);
    triple
}

fn recipients(receiver: &mut Receiver) -> Vec<String> {
    match receiver.hear() {
        Verdict::Recipients { decisions, .. } => decisions.iter().map(show).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_has_waited_is_remembered_when_the_message_is_stored_and_not_before() {
    in_time(waiting);
}

fn waiting() -> Option<()> {
    let (mut stage, mut receiver, mut queue) = session(GREYLIST);
    let mut limits = stage.limits();
    receiver.send_recipients(1, &["b@mx.test", "c@mx.test"]);
    let first = waited(&mut limits, 0);
    let _ = waited(&mut limits, 60);
    if recipients(&mut receiver) != ["accept", "refuse 451 4.7.1 Greylisted, try again in 60 seconds"] {
        return None;
    }
    assert_eq!((&*first.sender, &*first.recipient), ("a@client.test", "b@mx.test"));
    assert_eq!(first.client.to_string(), "203.0.0.0");
    // Refused for what is in it: of that the limiter hears nothing.
    let long = [MESSAGE, &[b'x'; 200]].concat();
    receiver.send_message(1, 1, Body::Inline(long), Vec::new());
    assert!(receiver.decided().1.starts_with("close 554"));
    // Not stored: nor of that.
    for (number, receipt) in [(2, None), (3, Some(()))] {
        receiver.send_recipients(1, &["b@mx.test"]);
        assert_eq!(waited(&mut limits, 0), first);
        assert_eq!(recipients(&mut receiver), ["accept"]);
        receiver.send_message(1, number, Body::Inline(MESSAGE.to_vec()), Vec::new());
        let ticket = queue.message().0.ticket;
        let receipt = match receipt {
            None => Receipt::Refused { ticket, why: Refusal::Disk },
            Some(()) => Receipt::Stored { ticket },
        };
        queue.say(&receipt, Vec::new());
        assert_eq!(receiver.decided().1 == "accept", number == 3);
    }
    let Ask::Accepted { ticket, triples } = next(&mut limits).unwrap().message else {
        panic!("what was accepted, and nothing before")
    };
    assert_eq!(triples.into_iter().map(|(triple, _)| triple).collect::<Vec<_>>(), [first]);
    limits.send(&Answer::Noted { ticket }, Vec::new()).unwrap();
    assert_eq!(limits.flush().unwrap(), vsmtp_ipc::Flushed::All);
    Some(())
}

#[test]
fn a_recipient_that_is_refused_is_not_remembered() {
    let rules = r#"#{ rcpt: [
        rule "greylist" || greylist::check(#{ delay: 60, prefix_v4: 16 }),
        rule "not c" || if ctx::rcpt().local_part == "c" { state::reject("550 5.1.1 nobody") } else { state::next() },
    ] }"#;
    let (mut stage, mut receiver, mut queue) = session(rules);
    let mut limits = stage.limits();
    // One is refused by a rule, one for having no mailbox.
    receiver.send_recipients(1, &["c@mx.test", "b@mx.test", "nobody@mx.test"]);
    let [_, accepted, _] = [0, 0, 0].map(|wait_s| waited(&mut limits, wait_s));
    let decisions = recipients(&mut receiver);
    assert_eq!(decisions[..2], ["refuse 550 5.1.1 nobody", "accept"]);
    assert!(decisions[2].starts_with("refuse 550"), "{decisions:?}");
    receiver.send_message(1, 1, Body::Inline(MESSAGE.to_vec()), Vec::new());
    let ticket = queue.message().0.ticket;
    queue.say(&Receipt::Stored { ticket }, Vec::new());
    assert_eq!(receiver.decided().1, "accept");
    let Ask::Accepted { triples, .. } = next(&mut limits).unwrap().message else { panic!("who has waited") };
    assert_eq!(triples.into_iter().map(|(triple, _)| triple).collect::<Vec<_>>(), [accepted]);
}
