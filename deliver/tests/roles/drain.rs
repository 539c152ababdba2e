//! The end of this process, and of the queue-manager that it works for: what is on its way is finished, and nothing is
//! answered to whom it does not concern.

use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::queue_deliver::{Result3, Said};

use crate::harness::{MESSAGE, TO, attempt, inline, only, start};
use crate::mailbox::{hands_back_what_comes_later, outcomes_outlast_the_drain};
use crate::peer::Peer;

#[test]
fn a_lost_queue_manager_hears_nothing_of_its_old_leases() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept_greeted();
    talk.take_envelope();
    talk.message();
    deliver.renew_queue();
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    // The first message was sent, whatever comes of it, and only the second is answered.
    let mut other = peer.accept_greeted();
    talk.say("550 5.0.0 too late\r\n");
    other.take_message("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
}

#[test]
fn what_a_lost_queue_manager_will_send_again_is_not_sent_now() {
    let (mut deliver, peer) = (start(|slice| slice.connections = 1), Peer::new());
    for lease in 0..3 {
        deliver.lease(&attempt(lease, &peer.next_hop(), TO, inline(MESSAGE)));
    }
    let mut talk = peer.accept_greeted();
    talk.hear_say("MAIL", "250 ok\r\n");
    deliver.renew_queue();
    // The successor is busy for now; nothing of the old leases is begun, and the one under way is broken off.
    while !talk.ended() {}
    assert!(peer.nobody_came());
}

#[test]
fn what_is_withdrawn_is_broken_off_and_handed_back_unless_it_is_sent() {
    let mut deliver = start(|slice| slice.connections = 2);
    let (hung, sent, waits) = (Peer::new(), Peer::new(), Peer::new());
    deliver.lease(&attempt(1, &hung.next_hop(), TO, inline(MESSAGE)));
    let mut hanging = hung.accept_greeted();
    hanging.hear("MAIL");
    deliver.lease(&attempt(2, &sent.next_hop(), TO, inline(MESSAGE)));
    let mut talk = sent.accept_greeted();
    talk.take_envelope();
    talk.message();
    deliver.lease(&attempt(3, &waits.next_hop(), TO, inline(MESSAGE)));
    for lease in [1, 2, 3, 77] {
        deliver.withdraw(lease);
    }
    let mut back = Vec::new();
    for _ in 0..2 {
        match deliver.try_said().unwrap() {
            Said::Back(lease) => back.push(lease),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(back, [1, 3]);
    while !hanging.ended() {}
    assert!(waits.nobody_came());
    talk.say("250 ok\r\n");
    let outcome = deliver.outcome();
    assert_eq!((outcome.lease, only(&outcome).0), (2, Result3::Delivered));
    // Their numbers are free, and so are their places.
    deliver.lease(&attempt(3, &waits.next_hop(), TO, inline(MESSAGE)));
    waits.accept_greeted().take_message("250 ok\r\n");
    assert_eq!(deliver.outcome().lease, 3);
}

#[test]
fn a_process_that_must_end_soon_finishes_what_is_on_its_way() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept_greeted();
    talk.take_envelope();
    let silent = Peer::new();
    deliver.lease(&attempt(2, &silent.next_hop(), TO, inline(MESSAGE)));
    let mut greeting_awaited = silent.accept();
    deliver.drain(5000);
    assert!(greeting_awaited.ended());
    talk.message();
    talk.say("250 ok\r\n");
    let outcome = deliver.outcome();
    assert_eq!((outcome.lease, only(&outcome).0), (1, Result3::Delivered));
    talk.hear("QUIT");
    assert!(deliver.ended().success());
    // The other lease comes back by the end of the edge.
    assert!(matches!(deliver.try_outcome(), Err(ChannelError::Closed)));
}

#[test]
fn who_is_to_end_says_so_and_hands_back_what_comes_later() {
    hands_back_what_comes_later(&mut start(|_| {}));
}

#[test]
fn a_process_with_time_to_end_serves_what_it_has_taken() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    for lease in 0..3 {
        deliver.lease(&attempt(lease, &peer.next_hop(), TO, inline(MESSAGE)));
    }
    // Answered at once: the others were taken before.
    deliver.lease(&attempt(9, "maildir", TO, inline(MESSAGE)));
    assert_eq!(deliver.outcome().lease, 9);
    let mut talk = peer.accept();
    deliver.drain(60_000);
    talk.greet("250 peer.test\r\n");
    for _ in 0..3 {
        talk.take_message("250 ok\r\n");
        assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
    }
    talk.hear("QUIT");
    assert!(deliver.ended().success());
}

#[test]
fn a_drained_process_does_not_end_before_its_outcomes_are_taken() {
    let mut deliver = start(|_| {});
    deliver.narrow_queue();
    // Nobody listens there any more.
    let next_hop = Peer::new().next_hop();
    outcomes_outlast_the_drain(&mut deliver, &next_hop);
}
