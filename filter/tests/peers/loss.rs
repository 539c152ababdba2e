//! Peers that die, and the orderly end.

use vsmtp_ipc::edge::filter_queue::Receipt;
use vsmtp_ipc::edge::master_child::ToChild;
use vsmtp_ipc::wire::Body;

use crate::stage::{MESSAGE, RECEIVER, Stage};

fn inline() -> Body {
    Body::Inline(MESSAGE.to_vec())
}

#[test]
fn a_dead_queue_manager_costs_the_messages_under_way_a_451_and_no_more() {
    let (mut stage, mut receiver, mut queue) = Stage::session("#{}");
    receiver.recipients(1, &["b@mx.test"]);
    receiver.send_message(1, 1, inline(), Vec::new());
    queue.message();
    drop(queue);
    assert!(receiver.decided().1.starts_with("refuse 451 4.3.2"));
    // Without a queue-manager a message waits for the next one.
    receiver.recipients(2, &["b@mx.test"]);
    receiver.send_message(2, 2, inline(), Vec::new());
    let mut queue = stage.queue();
    let ticket = queue.message().0.ticket;
    queue.say(&Receipt::Stored { ticket }, Vec::new());
    assert_eq!(receiver.decided(), (2, "accept".to_owned()));
}

#[test]
fn a_receiver_that_comes_again_begins_with_nothing() {
    let (mut stage, mut receiver, mut queue) = Stage::session("#{}");
    receiver.recipients(1, &["b@mx.test"]);
    receiver.send_message(1, 1, inline(), Vec::new());
    let ticket = queue.message().0.ticket;
    drop(receiver);
    let (mut receiver, _) = stage.receiver(RECEIVER);
    // The receipt for the dead receiver goes nowhere; the same session number is another session.
    queue.say(&Receipt::Stored { ticket }, Vec::new());
    receiver.send_message(1, 2, inline(), Vec::new());
    assert!(receiver.decided().1.starts_with("refuse 451"));
}

#[test]
fn a_drain_ends_the_process_when_all_questions_are_answered() {
    let (mut stage, mut receiver, mut queue) = Stage::session("#{}");
    receiver.recipients(1, &["b@mx.test"]);
    receiver.send_message(1, 1, inline(), Vec::new());
    let ticket = queue.message().0.ticket;
    stage.process.tell(&ToChild::Drain { deadline_ms: 60_000 }, Vec::new());
    queue.say(&Receipt::Stored { ticket }, Vec::new());
    assert_eq!(receiver.decided(), (1, "accept".to_owned()));
    assert!(stage.wait());
}

#[test]
fn without_a_master_it_ends() {
    let (mut stage, _receiver, _queue) = Stage::session("#{}");
    let (ours, _) = vsmtp_sys::seqpacket::pair().unwrap();
    stage.process.master =
        vsmtp_ipc::edge::master_child::MasterEnd::new(ours, vsmtp_ipc::EdgeId::MasterChild);
    assert!(stage.wait());
}
