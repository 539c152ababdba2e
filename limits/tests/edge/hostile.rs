//! Receivers and resolvers that were captured: what they say costs their own edge only.

use vsmtp_ipc::edge::client_resolver::Records;
use vsmtp_ipc::edge::receiver_limits::{Ask, Entry, MAX_OPEN};
use vsmtp_ipc::role::Role;
use vsmtp_sys::seqpacket;

use crate::stage::{Stage, ip, listing, receiver, slice};

const GO: Entry = Entry::Go { delay_ms: 0 };

#[test]
fn a_receiver_with_more_sessions_than_there_can_be_loses_its_edge_and_all_are_given_back() {
    let mut stage = Stage::start(&slice());
    let ((mut bad, _), (mut good, _)) = (stage.receiver(0), stage.receiver(1));
    for ticket in 0..=MAX_OPEN as u64 {
        // The last ones may find the edge closed.
        if bad.0.send(&Ask::Present { ticket, client: ip("192.0.2.1") }, Vec::new()).is_err()
            || bad.0.flush().is_err()
        {
            break;
        }
    }
    assert!(bad.is_dropped());
    assert_eq!(stage.misbehaved(), receiver(0));
    assert_eq!(good.connect(1, "192.0.2.1"), GO);
}

#[test]
fn garbage_costs_the_edge_and_nobody_else() {
    let mut stage = Stage::start(&slice());
    let (mut good, _) = stage.receiver(1);
    let (ours, theirs) = seqpacket::pair().unwrap();
    stage.tell(&vsmtp_ipc::edge::master_child::ToChild::Peer(receiver(0)), vec![theirs]);
    seqpacket::send(&ours, &[std::io::IoSlice::new(b"no hello of ours")], &[]).unwrap();
    assert_eq!(stage.misbehaved(), receiver(0));
    assert_eq!(good.connect(1, "192.0.2.1"), GO);
}

#[test]
fn a_resolver_that_answers_something_else_is_reported_and_lists_nobody() {
    let mut stage = Stage::start(&listing(&["black.test"]));
    let (mut door, _) = stage.receiver(0);
    let mut resolver = stage.resolver();
    let (test, name) = resolver.asked();
    assert_eq!(name, "1.0.0.127.black.test");
    resolver.not_listed(test);
    assert_eq!(door.connect(1, "192.0.2.1"), Entry::Screen { wait_ms: 0 });
    let (ticket, _) = resolver.asked();
    resolver.answer(ticket, Ok(Records::Names(vec!["x.test".to_owned()])));
    assert!(resolver.is_dropped());
    assert_eq!(stage.misbehaved().role, Role::Resolver);
    door.say(&Ask::Waited { ticket: 1, early: false });
    assert_eq!(door.entered(1), GO);
    let mut resolver = stage.resolver();
    resolver.not_listed(4_711);
    assert!(resolver.is_dropped(), "nobody asked");
}

#[test]
fn what_is_said_of_sessions_that_are_not_there_changes_nothing() {
    let mut stage = Stage::start(&slice());
    let (mut door, _) = stage.receiver(0);
    for ask in [Ask::Left { ticket: 1 }, Ask::Waited { ticket: 1, early: true }, Ask::Passed { ticket: 1 }] {
        door.say(&ask);
    }
    assert_eq!(door.connect(1, "192.0.2.1"), GO);
    assert!(stage.log().is_empty() || !stage.log().contains("error"), "{}", stage.log());
}
