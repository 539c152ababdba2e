//! Rules that count ask the limiter, and go on without one that is away.

use vsmtp_ipc::edge::filter_limits::{Answer, Ask, LimitsEnd, Taken, Taking};
use vsmtp_ipc::edge::receiver_filter::{Decision, Facts, Verdict};
use vsmtp_ipc::role::Role;

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
    let Ask::Take { ticket, taking } = next(limits).unwrap().message;
    let expected = Taking { name: "helo".into(), key: "h.test".into(), limit: 2, period_s: 60, count: 1 };
    assert_eq!(taking, expected);
    ticket
}

fn answer(limits: &mut LimitsEnd, ticket: u64, granted: bool) {
    let taken = Taken { granted, left: u32::from(granted) };
    limits.send(&Answer::Taken { ticket, taken }, Vec::new()).unwrap();
    assert_eq!(limits.flush().unwrap(), vsmtp_ipc::Flushed::All);
}

#[test]
fn the_limiters_word_is_what_a_rule_goes_by() {
    let (mut stage, mut receiver, _queue) = Stage::session(RULES);
    let mut limits = stage.limits();
    receiver.say(&helo(1), Vec::new());
    let ticket = asked(&mut limits);
    answer(&mut limits, ticket, true);
    assert_eq!(decided(&mut receiver), (1, Decision::Accept(None)));
    receiver.say(&helo(2), Vec::new());
    let ticket = asked(&mut limits);
    answer(&mut limits, ticket, false);
    let (2, Decision::Refuse(reply)) = decided(&mut receiver) else { panic!("a refusal") };
    assert_eq!((reply.code, &*reply.text), (450, "Too many of these, try again later"));
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
    assert_eq!(stage.log().matches("event=limits-silent").count(), 1, "{}", stage.log());
    // An answer that comes late is nobody's, and harms nobody.
    answer(&mut limits, late, false);
    receiver.say(&helo(3), Vec::new());
    let ticket = asked(&mut limits);
    answer(&mut limits, ticket, true);
    assert_eq!(decided(&mut receiver), (3, Decision::Accept(None)));
}

#[test]
fn a_limiter_that_answers_what_nobody_asked_is_reported() {
    let mut stage = Stage::start(Role::FilterSession, RULES);
    let mut limits = stage.limits();
    answer(&mut limits, 7, true);
    let reported = |said: &vsmtp_ipc::edge::master_child::ToMaster| matches!(said, vsmtp_ipc::edge::master_child::ToMaster::Misbehaved(name) if name.role == Role::Limits);
    stage.hear_master(reported);
}
