//! Rules that take their time delay nobody but themselves.

use vsmtp_ipc::edge::receiver_filter::{Ask, Verdict};
use vsmtp_ipc::role::Role;

use crate::stage::{Stage, facts};

/// Sessions whose helo is `slow.test` loop until their time is over.
const SCRIPT: &str = "#{ helo: [ rule \"h\" || { if ctx::helo() == \"slow.test\" { loop { } } next() } ] }";

fn helo(session: u64, name: &str) -> Ask {
    let mut facts = facts(session);
    facts.helo = Some(name.to_owned());
    Ask::Helo(facts)
}

#[test]
fn as_many_slow_rules_as_workers_and_a_quick_one_is_served_first() {
    let (_stage, mut receiver, _queue) = Stage::session(SCRIPT);
    for session in 1..=3 {
        receiver.say(&helo(session, "slow.test"), Vec::new());
    }
    receiver.say(&helo(9, "quick.test"), Vec::new());
    assert_eq!(receiver.decided(), (9, "accept".to_owned()));
    let mut slow: Vec<u64> = (0..3)
        .map(|_| {
            let (session, decision) = receiver.decided();
            assert!(decision.starts_with("refuse 451 4.3.0"), "{decision}");
            session
        })
        .collect();
    slow.sort_unstable();
    assert_eq!(slow, [1, 2, 3]);
}

#[test]
fn more_slow_rules_than_workers_wait_and_all_are_answered() {
    let mut stage = Stage::start(Role::FilterSession, SCRIPT);
    let (mut receiver, _) = stage.receiver(crate::stage::RECEIVER);
    for session in 1..=6 {
        receiver.say(&helo(session, "slow.test"), Vec::new());
    }
    for _ in 1..=6 {
        assert!(matches!(receiver.hear(), Verdict::Decided { .. }));
    }
    stage.process.logged("script ran longer than its time limit");
}
