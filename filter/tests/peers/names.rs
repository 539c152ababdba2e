//! Rules that ask the resolver wait for its answer, and nobody else does.

use std::time::Duration;

use vsmtp_config::FilterSlice;
use vsmtp_ipc::edge::client_resolver::{Answer, DnsError, Query, Records};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Verdict};
use vsmtp_ipc::role::Role;

use crate::stage::*;

const RULES: &str = r#"#{ helo: [ rule "known" || {
    if ctx::helo() == "quick.test" { return state::next(); }
    let found = [];
    try { found = dns::lookup(ctx::helo()); } catch (e) { return state::deny(`550 ${e}`); }
    if found == ["192.0.2.1"] { state::accept() } else { state::deny() }
} ] }"#;

/// Sessions that are blocked at once in the test of many.
const BLOCKED: u64 = 50;

/// A session filter whose rules have so much time that no answer comes for want of it.
fn patient(workers: u32) -> (Stage, Receiver, Queue) {
    let dir = tempfile::tempdir().unwrap();
    let slice = FilterSlice { timeout: Duration::from_secs(30), workers, ..slice(&dir, RULES) };
    let mut stage = Stage::spawn(Role::FilterSession, vsmtp_ipc::encode(&slice).unwrap(), dir);
    stage.hear_master(|said| matches!(said, ToMaster::Ready));
    let queue = stage.queue();
    let (receiver, _) = stage.receiver(RECEIVER);
    (stage, receiver, queue)
}

fn helo(session: u64, name: &str) -> Ask {
    Ask::Helo(vsmtp_ipc::edge::receiver_filter::Facts { helo: Some(name.into()), ..facts(session) })
}

fn found() -> Result<Records, DnsError> {
    Ok(Records::Addresses(vec!["192.0.2.1".parse().unwrap()]))
}

fn decided(receiver: &mut Receiver) -> (u64, Decision) {
    match receiver.hear() {
        Verdict::Decided { session, decision } => (session, decision),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rule_that_waits_for_a_name_delays_nobody() {
    let (mut stage, mut receiver, _queue) = Stage::session(RULES);
    let mut resolver = stage.resolver();
    // As many as there are workers, less one.
    for session in 1..=3 {
        receiver.say(&helo(session, &format!("s{session}.test")), Vec::new());
    }
    let asked: Vec<_> = (0..3).map(|_| resolver.hear()).collect();
    receiver.say(&helo(9, "quick.test"), Vec::new());
    assert_eq!(decided(&mut receiver), (9, Decision::Accept(None)));
    // Answers come in any order, and each goes to who has asked.
    for question in asked.iter().rev() {
        let Query::Addresses(name) = &question.query else { panic!("{question:?}") };
        let session: u64 = name[1..2].parse().unwrap();
        let result = if session == 2 { Err(DnsError::NoSuchName) } else { found() };
        resolver.say(&Answer { ticket: question.ticket, result, secure: false });
        match decided(&mut receiver) {
            (2, Decision::Close(reply)) => assert!(reply.text.contains("has no address"), "{reply:?}"),
            (told, Decision::Accept(None)) => assert_eq!(told, session),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn fifty_sessions_that_are_blocked_in_a_rule_leave_the_next_one_its_answer() {
    // Three quarters of the workers may wait for names, and three quarters of these for one network: enough for fifty.
    let (mut stage, mut receiver, _queue) = patient(92);
    let mut resolver = stage.resolver();
    for session in 1..=BLOCKED {
        receiver.say(&helo(session, &format!("s{session}.test")), Vec::new());
    }
    // Each of them stands inside of its rule: it has asked, and nobody has answered.
    let asked: Vec<_> = (0..BLOCKED).map(|_| resolver.hear()).collect();
    receiver.say(&helo(BLOCKED + 1, "quick.test"), Vec::new());
    assert_eq!(decided(&mut receiver), (BLOCKED + 1, Decision::Accept(None)));
    for question in &asked {
        resolver.say(&Answer { ticket: question.ticket, result: found(), secure: false });
    }
    let mut told: Vec<u64> = (0..BLOCKED).map(|_| decided(&mut receiver).0).collect();
    told.sort_unstable();
    assert_eq!(told, (1..=BLOCKED).collect::<Vec<_>>());
}

#[test]
fn what_a_dead_resolver_leaves_the_next_one_is_asked() {
    let (mut stage, mut receiver, _queue) = Stage::session(RULES);
    receiver.say(&helo(1, "a.test"), Vec::new());
    let mut resolver = stage.resolver();
    let _ = resolver.hear();
    drop(resolver);
    let mut resolver = stage.resolver();
    let ticket = resolver.hear().ticket;
    resolver.say(&Answer { ticket, result: found(), secure: false });
    assert_eq!(decided(&mut receiver), (1, Decision::Accept(None)));
}

#[test]
fn a_question_that_two_resolvers_died_of_is_not_put_to_a_third() {
    let (mut stage, mut receiver, _queue) = patient(4);
    receiver.say(&helo(1, "a.test"), Vec::new());
    for _ in 0..2 {
        let mut resolver = stage.resolver();
        assert_eq!(resolver.hear().query, Query::Addresses("a.test".to_owned()));
        drop(resolver);
    }
    match decided(&mut receiver) {
        (1, Decision::Close(reply)) => assert!(reply.text.contains("at the moment"), "{reply:?}"),
        other => panic!("{other:?}"),
    }
    receiver.say(&helo(2, "b.test"), Vec::new());
    let mut resolver = stage.resolver();
    let question = resolver.hear();
    assert_eq!(question.query, Query::Addresses("b.test".to_owned()));
    resolver.say(&Answer { ticket: question.ticket, result: found(), secure: false });
    assert_eq!(decided(&mut receiver), (2, Decision::Accept(None)));
}

#[test]
fn rules_that_wait_for_a_dead_name_server_leave_a_quarter_of_the_workers() {
    let (mut stage, mut receiver, _queue) = patient(4);
    let mut resolver = stage.resolver();
    // There are four workers: a fourth and a fifth that want to wait are told at once that nobody can tell.
    for session in 1..=3 {
        receiver.say(&helo(session, &format!("s{session}.test")), Vec::new());
        let _ = resolver.hear();
    }
    for session in 4..=5 {
        receiver.say(&helo(session, "dead.test"), Vec::new());
        match decided(&mut receiver) {
            (told, Decision::Close(reply)) if told == session => {
                assert!(reply.text.contains("at the moment"), "{reply:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    receiver.say(&helo(9, "quick.test"), Vec::new());
    assert_eq!(decided(&mut receiver), (9, Decision::Accept(None)));
}

#[test]
fn a_resolver_that_says_nothing_costs_a_rule_its_time_only() {
    let (mut stage, mut receiver, _queue) = Stage::session(RULES);
    let mut resolver = stage.resolver();
    receiver.say(&helo(1, "a.test"), Vec::new());
    let question = resolver.hear();
    assert!(question.deadline_ms <= 1_000, "{question:?}");
    // The rule's time is over: our fault, and the client may come again.
    match decided(&mut receiver) {
        (1, Decision::Refuse(reply)) => assert_eq!(reply.code, 451),
        (1, Decision::Close(reply)) => assert!(reply.text.contains("at the moment"), "{reply:?}"),
        other => panic!("{other:?}"),
    }
    // Its late answer is nobody's any more, and no misbehaviour.
    resolver.say(&Answer { ticket: question.ticket, result: found(), secure: false });
    receiver.say(&helo(2, "b.test"), Vec::new());
    let ticket = resolver.hear().ticket;
    resolver.say(&Answer { ticket, result: found(), secure: false });
    assert_eq!(decided(&mut receiver), (2, Decision::Accept(None)));
}

#[test]
fn an_answer_that_nobody_asked_for_costs_the_edge() {
    let (mut stage, _receiver, _queue) = Stage::session(RULES);
    let mut resolver = stage.resolver();
    resolver.say(&Answer { ticket: 77, result: found(), secure: false });
    let told = stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(_)));
    assert!(format!("{told:?}").contains(&format!("{:?}", Role::Resolver)), "{told:?}");
}
