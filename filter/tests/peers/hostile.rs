//! A receiver or a queue-manager that says what nobody may say loses its edge, and nobody else does.

use vsmtp_ipc::edge::filter_queue::Receipt;
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::receiver_filter::Ask;
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{Body, RcptTo};

use crate::stage::{MESSAGE, QUEUE, RECEIVER, Stage, facts, mail};

fn bad_asks() -> Vec<Vec<Ask>> {
    let rcpt = |address: &str| RcptTo { address: address.into(), original: None, notify: None };
    let recipients = |list| Ask::Recipients { facts: facts(1), mail: mail("a@b.c"), recipients: list };
    let mut helo = facts(1);
    helo.helo = Some("x\r\ny".into());
    let mut original = rcpt("b@mx.test");
    original.original = Some(("rfc822".into(), "a\nb".into()));
    let mut envid = mail("a@b.c");
    envid.envid = Some("x".repeat(200));
    vec![
        vec![Ask::Helo(helo)],
        vec![Ask::Mail(facts(1), mail("not an address"))],
        vec![Ask::Mail(facts(1), mail("a@b.c\r\nRCPT TO:<x@y.z>"))],
        vec![Ask::Mail(facts(1), envid)],
        vec![recipients(vec![])],
        vec![recipients(vec![original])],
        vec![recipients(vec![rcpt("b@mx.test")]), recipients(vec![rcpt("c@mx.test")])],
    ]
}

#[test]
fn nonsense_costs_the_edge_and_the_master_hears_of_it() {
    let mut stage = Stage::start(Role::FilterSession, "#{ rcpt: [ rule \"slow\" || { loop { } } ] }");
    let (mut other, _) = stage.receiver(ProcessName { role: Role::Receiver, instance: 1 });
    for asks in bad_asks() {
        let (mut receiver, _) = stage.receiver(RECEIVER);
        for ask in &asks {
            receiver.say(ask, Vec::new());
        }
        assert!(receiver.is_dropped(), "{asks:?}");
        stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(RECEIVER)));
    }
    other.say(&Ask::Mail(facts(1), mail("a@b.c")), Vec::new());
    assert_eq!(other.decided(), (1, "accept".to_owned()));
}

#[test]
fn addresses_that_are_none_are_refused_and_the_edge_stays() {
    let (_stage, mut receiver, _queue) = Stage::session("#{}");
    let decisions = receiver.recipients(1, &["no address", "b@mx.test", "a@b@c", ""]);
    let codes: Vec<&str> = decisions.iter().map(|decision| decision.get(..10).unwrap_or("accept")).collect();
    assert_eq!(codes, ["refuse 553", "accept", "refuse 553", "refuse 553"]);
}

#[test]
fn a_queue_manager_that_answers_what_nobody_asked_is_dropped_and_replaced() {
    let (mut stage, mut receiver, mut queue) = Stage::session("#{}");
    queue.say(&Receipt::Stored { ticket: 77 }, Vec::new());
    stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(QUEUE)));
    receiver.recipients(1, &["b@mx.test"]);
    receiver.send_message(1, 1, Body::Inline(MESSAGE.to_vec()), Vec::new());
    let mut queue = stage.queue();
    let ticket = queue.message().0.ticket;
    queue.say(&Receipt::ChunkStored { ticket }, Vec::new());
    assert!(receiver.decided().1.starts_with("refuse 451"));
    stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(QUEUE)));
}

#[test]
fn a_body_that_is_not_sealed_is_not_read() {
    let (mut stage, mut receiver, _queue) = Stage::session("#{ preq: [ rule \"r\" || next() ] }");
    receiver.recipients(1, &["b@mx.test"]);
    receiver.send_message(1, 1, Body::Memfd(5), vec![tempfile::tempfile().unwrap().into()]);
    assert!(receiver.is_dropped());
    stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(RECEIVER)));
}
