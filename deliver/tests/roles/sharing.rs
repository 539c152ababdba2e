//! How leases share connections: one after the other, few for many, none kept for itself, and what an old one still
//! says.

use std::time::Duration;

use vsmtp_ipc::edge::queue_deliver::Result3;

use crate::harness::{Deliver, MESSAGE, TO, attempt, inline, only, start};
use crate::peer::{EHLO, Peer, Talk};

#[test]
fn one_connection_serves_one_lease_after_the_other() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept_greeted();
    talk.take_message("250 ok\r\n");
    assert_eq!(deliver.outcome().lease, 1);
    for lease in 2..10 {
        deliver.lease(&attempt(lease, &peer.next_hop(), TO, inline(MESSAGE)));
        talk.take_message("250 ok\r\n");
        assert_eq!(deliver.outcome().lease, lease);
    }
    assert!(peer.nobody_came());
}

#[test]
fn a_connection_ends_after_its_number_of_messages_and_after_its_idle_time() {
    let (mut deliver, peer) = (start(|slice| slice.reuse_max_messages = Some(1)), Peer::new());
    for lease in 1..3 {
        deliver.lease(&attempt(lease, &peer.next_hop(), TO, inline(MESSAGE)));
        let mut talk = peer.accept_greeted();
        talk.take_message("250 ok\r\n");
        talk.hear_say("QUIT", "221 bye\r\n");
        assert!(talk.ended());
        assert_eq!(deliver.outcome().lease, lease);
    }
    let (mut deliver, peer) =
        (start(|slice| slice.reuse_idle = Some(Duration::from_millis(20))), Peer::new());
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept_greeted();
    talk.take_message("250 ok\r\n");
    talk.hear_say("QUIT", "221 bye\r\n");
    assert!(talk.ended());
}

#[test]
fn an_old_connection_that_died_costs_nothing() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept_greeted();
    talk.take_message("250 ok\r\n");
    deliver.outcome();
    deliver.lease(&attempt(2, &peer.next_hop(), TO, inline(MESSAGE)));
    talk.hear("MAIL");
    talk.say("421 4.4.2 idle too long\r\n");
    drop(talk);
    peer.accept_greeted().take_message("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
}

/// What a server sends at once at the end of a message on a connection that was used before, and what that makes of it.
const LAST_WORDS: [(&str, Result3); 5] = [
    ("250 2.6.0 yours\r\n421 4.3.2 closing\r\n", Result3::Delivered),
    ("250 2.6.0 yours\r\n250 2.0.0 what else\r\n", Result3::Delivered),
    ("250 2.6.0 yours\r\nwhat else\r\n", Result3::Delivered),
    ("550 5.7.1 never\r\n421 4.3.2 closing\r\n", Result3::Failed),
    ("250 2.6.0 yours\r\n", Result3::Delivered),
];

/// Two messages over each connection that `accept` greets, the second with the server's last words and the end.
pub fn last_words_count(deliver: &mut Deliver, peer: &Peer, next_hop: &str, accept: impl Fn(&Peer) -> Talk) {
    for (lease, (words, result)) in (1..).step_by(2).zip(LAST_WORDS) {
        deliver.lease(&attempt(lease, next_hop, TO, inline(MESSAGE)));
        let mut talk = accept(peer);
        talk.take_message("250 ok\r\n");
        assert_eq!(deliver.outcome().lease, lease);
        deliver.lease(&attempt(lease + 1, next_hop, TO, inline(MESSAGE)));
        talk.take_message(words);
        drop(talk);
        let outcome = deliver.outcome();
        assert_eq!((outcome.lease, only(&outcome).0), (lease + 1, result), "{words:?}");
        assert!(peer.nobody_came(), "the message was sent again after {words:?}");
    }
}

#[test]
fn a_reply_to_a_message_counts_although_the_end_of_an_old_connection_comes_with_it() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    last_words_count(&mut deliver, &peer, &peer.next_hop(), Peer::accept_greeted);
    let peer = Peer::new();
    last_words_count(&mut deliver, &peer, &format!("lmtp:[127.0.0.1]:{}", peer.port()), |peer| {
        let mut talk = peer.accept();
        talk.say("220 hi\r\n");
        talk.hear_say("LHLO us.test", EHLO);
        talk
    });
}

#[test]
fn many_leases_share_few_connections() {
    let (mut deliver, peer) = (start(|slice| slice.connections = 3), Peer::new());
    let leases = 200;
    let next_hop = peer.next_hop();
    let server = std::thread::spawn(move || {
        let talks: Vec<_> = (0..3)
            .map(|_| {
                let mut talk = peer.accept_greeted();
                std::thread::spawn(move || {
                    let mut messages = 0;
                    while talk.line().starts_with("MAIL") {
                        talk.say("250 ok\r\n");
                        talk.hear_say("RCPT", "250 ok\r\n");
                        talk.hear_say("DATA", "354 go\r\n");
                        talk.message();
                        talk.say("250 ok\r\n");
                        messages += 1;
                    }
                    messages
                })
            })
            .collect();
        let messages: u64 = talks.into_iter().map(|talk| talk.join().unwrap()).sum();
        assert!(peer.nobody_came());
        messages
    });
    for lease in 0..leases {
        deliver.lease(&attempt(lease, &next_hop, TO, inline(MESSAGE)));
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..leases {
        let outcome = deliver.outcome();
        assert_eq!(only(&outcome).0, Result3::Delivered);
        assert!(seen.insert(outcome.lease));
    }
    deliver.drain(5000);
    assert!(deliver.ended().success());
    assert_eq!(server.join().unwrap(), leases);
}

#[test]
fn a_busy_next_hop_does_not_keep_all_connections() {
    let (mut deliver, one, two) = (start(|slice| slice.connections = 2), Peer::new(), Peer::new());
    for lease in 0..5 {
        deliver.lease(&attempt(lease, &one.next_hop(), TO, inline(MESSAGE)));
    }
    let (mut first, mut second) = (one.accept_greeted(), one.accept_greeted());
    first.take_envelope();
    second.take_envelope();
    deliver.lease(&attempt(9, &two.next_hop(), TO, inline(MESSAGE)));
    // Answered at once, and after the one before has taken its place in the line.
    deliver.lease(&attempt(10, "maildir", TO, inline(MESSAGE)));
    assert_eq!(deliver.outcome().lease, 10);
    first.message();
    first.say("250 ok\r\n");
    deliver.outcome();
    first.hear_say("QUIT", "221 bye\r\n");
    drop(first);
    two.accept_greeted().take_message("250 ok\r\n");
    assert_eq!(deliver.outcome().lease, 9);
    // The other one is kept.
    second.message();
    second.say("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
    second.hear("MAIL");
}

#[test]
fn who_needs_no_connection_any_more_does_not_hold_up_those_behind_it() {
    let (mut deliver, one) = (start(|slice| slice.connections = 1), Peer::new());
    let (two, three) = (Peer::new(), Peer::new());
    let into_line = |deliver: &mut Deliver, lease: u64, peer: &Peer| {
        deliver.lease(&attempt(lease, &peer.next_hop(), TO, inline(MESSAGE)));
        // Answered at once, and after the one before has taken its place in the line.
        deliver.lease(&attempt(99, "maildir", TO, inline(MESSAGE)));
        assert_eq!(deliver.outcome().lease, 99);
    };
    deliver.lease(&attempt(1, &one.next_hop(), TO, inline(MESSAGE)));
    let mut talk = one.accept_greeted();
    talk.take_envelope();
    talk.message();
    into_line(&mut deliver, 2, &two);
    // The next queue-manager has other plans with what waits; what is sent is sent.
    deliver.renew_queue();
    into_line(&mut deliver, 3, &three);
    talk.say("250 ok\r\n");
    three.accept_greeted().take_message("250 ok\r\n");
    assert_eq!(deliver.outcome().lease, 3);
}
