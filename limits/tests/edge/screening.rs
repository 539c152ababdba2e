//! Tests before the greeting, with scripted lists.

use std::time::Duration;

use vsmtp_ipc::edge::client_resolver::DnsError;
use vsmtp_ipc::edge::receiver_limits::{Ask, Entry};

use crate::stage::{Receiver, Resolver, Stage, listing, slice};

const GO: Entry = Entry::Go { delay_ms: 0 };

/// A limiter whose lists have been tested and work.
fn tested(sites: &[&str]) -> (Stage, Receiver, Resolver) {
    let mut stage = Stage::start(&listing(sites));
    let (door, _) = stage.receiver(0);
    let mut resolver = stage.resolver();
    for _ in sites {
        let (test, _) = resolver.asked();
        resolver.not_listed(test);
    }
    (stage, door, resolver)
}

#[test]
fn a_listed_client_is_refused_and_one_that_is_not_is_remembered() {
    let (_stage, mut door, mut resolver) = tested(&["black.test"]);
    assert_eq!(door.connect(1, "2001:db8::7"), Entry::Screen { wait_ms: 0 });
    let (ticket, name) = resolver.asked();
    assert!(name.starts_with("7.0.0.0.") && name.ends_with(".8.b.d.0.1.0.0.2.black.test"), "{name}");
    door.say(&Ask::Waited { ticket: 1, early: false });
    resolver.listed(ticket, "127.0.0.2");
    let Entry::Refuse(reply) = door.entered(1) else { panic!() };
    assert_eq!((reply.code, reply.text.as_str()), (554, "Client [2001:db8::7] is listed in black.test"));
    assert_eq!(door.connect(2, "192.0.2.2"), Entry::Screen { wait_ms: 0 });
    let (ticket, name) = resolver.asked();
    assert_eq!(name, "2.2.0.192.black.test");
    resolver.not_listed(ticket);
    door.say(&Ask::Waited { ticket: 2, early: false });
    assert_eq!(door.entered(2), GO);
    assert_eq!(door.connect(3, "192.0.2.2"), GO, "it is remembered");
}

#[test]
fn each_question_has_its_answer_also_where_nobody_is_tested_any_more() {
    let (_stage, mut door, mut resolver) = tested(&["black.test"]);
    door.say(&Ask::Waited { ticket: 9, early: false });
    assert_eq!(door.entered(9), GO, "a limiter that was started meanwhile");
    assert_eq!(door.connect(1, "192.0.2.1"), Entry::Screen { wait_ms: 0 });
    resolver.asked();
    door.say(&Ask::Waited { ticket: 1, early: false });
    door.say(&Ask::Left { ticket: 1 });
    assert_eq!(door.entered(1), GO, "a client that did not wait for the list");
}

#[test]
fn a_client_of_another_service_is_not_tested() {
    let (_stage, mut door, _resolver) = tested(&["black.test"]);
    door.say(&Ask::Connect { ticket: 1, client: [192, 0, 2, 1].into(), screen: false });
    assert_eq!(door.entered(1), GO);
}

#[test]
fn when_the_resolver_dies_clients_that_wait_for_it_go_on() {
    let (mut stage, mut door, mut resolver) = tested(&["black.test"]);
    assert_eq!(door.connect(1, "192.0.2.1"), Entry::Screen { wait_ms: 0 });
    resolver.asked();
    door.say(&Ask::Waited { ticket: 1, early: false });
    drop(resolver);
    assert_eq!(door.entered(1), GO);
    assert_eq!(door.connect(2, "192.0.2.9"), Entry::Screen { wait_ms: 0 });
    door.say(&Ask::Waited { ticket: 2, early: false });
    assert_eq!(door.entered(2), GO, "nobody to ask");
    let mut resolver = stage.resolver();
    assert_eq!(door.connect(3, "192.0.2.1"), Entry::Screen { wait_ms: 0 }, "it was not remembered");
    let (ticket, _) = resolver.asked();
    resolver.answer(ticket, Err(DnsError::Temporary));
    door.say(&Ask::Waited { ticket: 3, early: false });
    assert_eq!(door.entered(3), GO);
}

#[test]
fn the_wait_and_the_watch_are_said_to_the_receiver() {
    let mut slice = slice();
    (slice.screen.greet_wait, slice.screen.deep) = (Duration::from_secs(6), true);
    let mut stage = Stage::start(&slice);
    let (mut door, wanted) = stage.receiver(0);
    assert!(wanted.connect);
    assert_eq!(door.connect(1, "192.0.2.1"), Entry::Screen { wait_ms: 6_000 });
    door.say(&Ask::Waited { ticket: 1, early: false });
    assert_eq!(door.entered(1), Entry::Test);
    door.say(&Ask::Passed { ticket: 1 });
    assert_eq!(door.connect(2, "192.0.2.1"), GO);
    assert_eq!(door.connect(3, "192.0.2.3"), Entry::Screen { wait_ms: 6_000 });
    door.say(&Ask::Waited { ticket: 3, early: true });
    assert!(matches!(door.entered(3), Entry::Condemn(reply) if reply.code == 550));
}
