//! The smtp role against servers that behave, misbehave, and vanish.

use std::io::{IoSlice, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use vsmtp_config::{DeliverSlice, DeliverTls, Family, NextHopTimeouts, SourceAddresses, TlsPolicy};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::queue_deliver::{Outcome, Reach, Result3};
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::Body;
use vsmtp_mail::Domain;
use vsmtp_sys::memfd::Sealed;

use crate::harness::{Deliver, attempt, inline, results, slice};
use crate::mailbox::{hands_back_what_comes_later, outcomes_outlast_the_drain};
use crate::peer::{EHLO, Peer, Talk, accept_unix};

const MESSAGE: &str = "From: a@src.test\r\n\r\n.hidden\r\nbody\r\n";
const TO: &[&str] = &["b@dst.test"];

pub fn settings() -> DeliverSlice {
    let long = Duration::from_secs(60);
    DeliverSlice {
        server_name: Domain::parse("us.test").unwrap().into(),
        own_addresses: Vec::new(),
        connections: 100,
        family: Family::Any,
        source: SourceAddresses::default().into(),
        sources: Vec::new(),
        chunking: false,
        mime_conversion: true,
        timeouts: NextHopTimeouts {
            connect: long,
            greeting: long,
            mail: long,
            rcpt: long,
            data: long,
            block: long,
            dot: long,
        },
        reuse_idle: Some(long),
        reuse_max_messages: None,
        tls: DeliverTls {
            level: TlsPolicy::parse("may").unwrap().into(),
            policies: Vec::new(),
            mta_sts: false,
            reports: false,
            ca_file: None,
        },
        credentials_file: None,
    }
}

pub fn start(change: impl FnOnce(&mut DeliverSlice)) -> Deliver {
    let mut settings = settings();
    change(&mut settings);
    Deliver::start(Role::DeliverSmtp, slice(&settings))
}

fn only(outcome: &Outcome) -> (Result3, (u8, u16, u16)) {
    let results = results(outcome);
    assert_eq!(results.len(), 1, "{outcome:?}");
    results[0]
}

#[test]
fn a_message_goes_out_and_the_outcome_says_where() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept_greeted();
    assert_eq!(talk.take_message("250 2.6.0 yours\r\n"), MESSAGE.replace(".hidden", "..hidden"));
    let outcome = deliver.outcome();
    assert_eq!(only(&outcome), (Result3::Delivered, (2, 6, 0)));
    assert_eq!(outcome.settled[0].text, "250 2.6.0 yours");
    assert_eq!(outcome.reach, Reach::Reached);
    assert_eq!(outcome.remote, format!("[127.0.0.1]:{}", peer.port()));
    assert!(matches!(deliver.told_master(), ToMaster::Serving));
}

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
fn recipients_have_their_own_fates() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    let to = ["a@dst.test", "b@dst.test", "c@dst.test"];
    deliver.lease(&attempt(1, &peer.next_hop(), &to, inline(MESSAGE)));
    let mut talk = peer.accept_greeted();
    talk.hear_say("MAIL", "250 ok\r\n");
    talk.hear_say("RCPT TO:<a@dst.test>", "550 5.1.1 unknown\r\n");
    talk.hear_say("RCPT TO:<b@dst.test>", "250 ok\r\n");
    talk.hear_say("RCPT TO:<c@dst.test>", "452 4.5.3 too many\r\n");
    talk.hear_say("DATA", "354 go on\r\n");
    talk.message();
    talk.say("250 ok\r\n");
    assert_eq!(
        results(&deliver.outcome()),
        [(Result3::Failed, (5, 1, 1)), (Result3::Delivered, (2, 0, 0)), (Result3::Deferred, (4, 5, 3))]
    );
}

/// Leads a conversation up to the reply with that number, and leaves the reply to the caller.
fn lead(talk: &mut Talk, stage: usize) {
    let good = ["220 hi\r\n", EHLO, "250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 ok\r\n"];
    let heard = ["", "EHLO", "MAIL", "RCPT", "DATA"];
    for (at, reply) in good.iter().enumerate().take(stage + 1) {
        match heard.get(at) {
            Some(&"") => {}
            Some(start) => drop(talk.hear(start)),
            None => drop(talk.message()),
        }
        if at < stage {
            talk.say(reply);
        }
    }
}

const STAGES: [&str; 6] = ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "dot"];

#[test]
fn trouble_at_any_stage_is_deferred_unless_the_server_said_never() {
    let replies = [
        ("451 4.7.0 later\r\n", Result3::Deferred),
        ("421 4.3.2 closing\r\n", Result3::Deferred),
        ("550 5.7.1 never\r\n", Result3::Failed),
        ("garbage\r\n", Result3::Deferred),
        ("999 what\r\n", Result3::Deferred),
        ("", Result3::Deferred),
    ];
    let mut deliver = start(|_| {});
    let mut lease = 0;
    for (stage, name) in STAGES.iter().enumerate() {
        for (reply, expected) in replies {
            let peer = Peer::new();
            lease += 1;
            deliver.lease(&attempt(lease, &peer.next_hop(), TO, inline(MESSAGE)));
            let mut talk = peer.accept();
            lead(&mut talk, stage);
            talk.say(reply);
            // A server that refuses EHLO is asked in the old way.
            if *name == "EHLO" && reply.starts_with('5') {
                talk.hear_say("HELO", reply);
            }
            drop(talk);
            let outcome = deliver.outcome();
            assert_eq!(outcome.lease, lease);
            assert_eq!(only(&outcome).0, expected, "{name} {reply:?}: {outcome:?}");
            let reach = if stage < 2 { Reach::Unreachable } else { Reach::Reached };
            assert_eq!(outcome.reach, reach, "{name} {reply:?}");
        }
    }
}

#[test]
fn a_silent_server_is_given_up_at_any_stage() {
    let mut deliver = start(|slice| {
        let short = Duration::from_millis(30);
        slice.timeouts = NextHopTimeouts {
            connect: short,
            greeting: short,
            mail: short,
            rcpt: short,
            data: short,
            block: short,
            dot: short,
        };
    });
    for (stage, name) in STAGES.iter().enumerate() {
        let peer = Peer::new();
        deliver.lease(&attempt(stage as u64, &peer.next_hop(), TO, inline(MESSAGE)));
        let mut talk = peer.accept();
        lead(&mut talk, stage);
        let outcome = deliver.outcome();
        assert_eq!(only(&outcome).0, Result3::Deferred, "{name}");
        assert!(outcome.settled[0].text.contains("timeout"), "{name}: {}", outcome.settled[0].text);
    }
}

#[test]
fn a_server_may_speak_one_octet_at_a_time() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept();
    talk.drip("220 hi\r\n");
    talk.hear("EHLO");
    talk.drip(EHLO);
    for (command, reply) in
        [("MAIL", "250-2.1.0 a\r\n250 2.1.0 b\r\n"), ("RCPT", "250 ok\r\n"), ("DATA", "354 go\r\n")]
    {
        talk.hear(command);
        talk.drip(reply);
    }
    talk.message();
    talk.drip("250 2.0.0 done\r\n");
    assert_eq!(only(&deliver.outcome()), (Result3::Delivered, (2, 0, 0)));
}

#[test]
fn an_endless_reply_ends() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept();
    while talk.try_say(&"220-more\r\n".repeat(1000)) {}
    assert_eq!(only(&deliver.outcome()).0, Result3::Deferred);
}

#[test]
fn commands_go_out_together_if_the_server_pipelines() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept_greeted();
    // All three come before any reply.
    for command in ["MAIL", "RCPT", "DATA"] {
        talk.hear(command);
    }
    talk.say("250 ok\r\n550 no\r\n354 go\r\n");
    // Nobody is left: an empty message, and its reply does not matter.
    assert_eq!(talk.hear("."), ".");
    talk.say("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Failed);
    deliver.lease(&attempt(2, &peer.next_hop(), TO, inline(MESSAGE)));
    talk.take_message("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
}

#[test]
fn lmtp_has_one_reply_per_recipient() {
    let mut deliver = start(|_| {});
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lmtp");
    let listener = UnixListener::bind(&path).unwrap();
    let to = ["a@dst.test", "b@dst.test", "c@dst.test"];
    deliver.lease(&attempt(1, &format!("lmtp:unix:{}", path.display()), &to, inline(MESSAGE)));
    let mut talk = accept_unix(&path, &listener);
    talk.say("220 hi\r\n");
    talk.hear_say("LHLO us.test", EHLO);
    talk.hear_say("MAIL", "250 ok\r\n");
    for _ in to {
        talk.hear_say("RCPT", "250 ok\r\n");
    }
    talk.hear_say("DATA", "354 go\r\n");
    talk.message();
    talk.say("250 2.1.5 a\r\n552 5.2.2 b is full\r\n");
    drop(talk);
    let outcome = deliver.outcome();
    assert_eq!(
        results(&outcome),
        [(Result3::Delivered, (2, 1, 5)), (Result3::Failed, (5, 2, 2)), (Result3::Deferred, (4, 4, 2))]
    );
    assert_eq!(outcome.remote, path.to_str().unwrap());
}

#[test]
fn large_messages_stream_through_a_slow_server() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    let big = format!("A: b\r\n\r\n{}", ".0123456789abcdef\r\n".repeat(400_000));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(big.as_bytes()).unwrap();
    let lease = attempt(1, &peer.next_hop(), TO, Body::File(big.len() as u64));
    deliver.lease_with(&lease, std::fs::File::open(file.path()).unwrap().into());
    let mut talk = peer.accept_greeted();
    talk.take_envelope();
    let message = String::from_utf8(talk.message()).unwrap();
    talk.say("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
    assert!(message == big.replace("\r\n.", "\r\n.."));

    let medium = &big[..100_000];
    let sealed = Sealed::create(c"body", &[IoSlice::new(medium.as_bytes())]).unwrap();
    deliver.lease_with(&attempt(2, &peer.next_hop(), TO, Body::Memfd(sealed.len())), sealed.into_fd());
    assert!(talk.take_message("250 ok\r\n").starts_with(&medium[..8]));
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
}

#[test]
fn a_message_that_shrinks_on_the_way_is_never_ended() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    let big = format!("A: b\r\n\r\n{}", "0123456789abcdef\r\n".repeat(10_000));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(big.as_bytes()).unwrap();
    let lease = attempt(1, &peer.next_hop(), TO, Body::File(big.len() as u64));
    deliver.lease_with(&lease, std::fs::File::open(file.path()).unwrap().into());
    let mut talk = peer.accept_greeted();
    file.as_file().set_len(70_000).unwrap();
    talk.take_envelope();
    let mut last = String::new();
    loop {
        let line = talk.line();
        if line.is_empty() && last.len() < 17 && !last.is_empty() && last != "A: b" {
            break;
        }
        assert_ne!(line, ".", "the message was ended");
        if line.is_empty() && last.is_empty() {
            break;
        }
        last = line;
    }
    assert_eq!(only(&deliver.outcome()).0, Result3::Deferred);
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

#[test]
fn nobody_at_home_is_unreachable() {
    let mut deliver = start(|_| {});
    let next_hop = Peer::new().next_hop();
    for lease in 0..3 {
        deliver.lease(&attempt(lease, &next_hop, TO, inline(MESSAGE)));
    }
    for _ in 0..3 {
        let outcome = deliver.outcome();
        assert_eq!(only(&outcome), (Result3::Deferred, (4, 4, 1)));
        assert_eq!(outcome.reach, Reach::Unreachable);
    }
    deliver.lease(&attempt(9, "lmtp:unix:/nonexistent/lmtp", TO, inline(MESSAGE)));
    assert_eq!(only(&deliver.outcome()).0, Result3::Deferred);
    deliver.drain(5000);
    assert!(deliver.ended().success());
    assert_eq!(deliver.log().matches("event=connect-failed remote=").count(), 2, "{}", deliver.log());
}

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
fn a_bad_lease_closes_the_edge() {
    let mut deliver = start(|_| {});
    deliver.lease(&attempt(1, "smtp:dst.test", &[], inline(MESSAGE)));
    assert!(matches!(deliver.told_master(), ToMaster::Misbehaved(name) if name.role == Role::QueueManager));
}

#[test]
fn a_mailbox_is_not_for_this_role() {
    let mut deliver = start(|_| {});
    deliver.lease(&attempt(1, "maildir", TO, inline(MESSAGE)));
    assert_eq!(only(&deliver.outcome()).0, Result3::Deferred);
}

fn eight_bit(lease: u64, next_hop: &str, message: &str) -> vsmtp_ipc::edge::queue_deliver::Attempt {
    let mut attempt = attempt(lease, next_hop, TO, inline(message));
    attempt.body_type = vsmtp_ipc::wire::Body7::EightBitMime;
    attempt
}

#[test]
fn eight_bits_are_encoded_for_a_server_that_does_not_take_them() {
    let (mut deliver, peer) = (start(|_| {}), Peer::new());
    let header = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n";
    let message = format!("{header}Content-Transfer-Encoding: 8bit\r\n\r\n.Grüße\r\n");
    let encoded = format!("{header}Content-Transfer-Encoding: quoted-printable\r\n\r\n.Gr=C3=BC=C3=9Fe\r\n");
    deliver.lease(&eight_bit(1, &peer.next_hop(), &message));
    let mut talk = peer.accept();
    talk.greet("250-peer.test\r\n250 SIZE 1000\r\n");
    let mail = talk.line();
    assert_eq!(mail, format!("MAIL FROM:<sender@src.test> SIZE={}", encoded.len()));
    talk.say("250 ok\r\n");
    talk.hear_say("RCPT", "250 ok\r\n");
    talk.hear_say("DATA", "354 go on\r\n");
    let got = String::from_utf8(talk.message()).unwrap();
    talk.say("250 ok\r\n");
    assert_eq!(got, encoded.replace("\r\n.", "\r\n.."));
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
    // What is signed is nobody's to change.
    let signed = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\né\r\n--b--\r\n";
    deliver.lease(&eight_bit(2, &peer.next_hop(), signed));
    assert_eq!(only(&deliver.outcome()), (Result3::Failed, (5, 6, 3)));
    assert!(deliver.log().contains("event=not-converted"), "{}", deliver.log());
    // And a server that takes it gets it as it is.
    let other = Peer::new();
    deliver.lease(&eight_bit(3, &other.next_hop(), &message));
    let mut talk = other.accept_greeted();
    talk.hear_say("MAIL FROM:<sender@src.test> SIZE=", "250 ok\r\n");
    talk.hear_say("RCPT", "250 ok\r\n");
    talk.hear_say("DATA", "354 go on\r\n");
    assert_eq!(String::from_utf8(talk.message()).unwrap(), message.replace("\r\n.", "\r\n.."));
    talk.say("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
}

#[test]
fn without_conversion_eight_bits_fail_where_they_are_not_taken() {
    let (mut deliver, peer) = (start(|slice| slice.mime_conversion = false), Peer::new());
    deliver.lease(&eight_bit(1, &peer.next_hop(), "A: b\r\n\r\né\r\n"));
    let mut talk = peer.accept();
    talk.greet("250 peer.test\r\n");
    assert_eq!(only(&deliver.outcome()), (Result3::Failed, (5, 6, 3)));
}

#[test]
fn a_message_goes_by_bdat_if_that_is_wanted_and_offered() {
    let (mut deliver, peer) = (start(|slice| slice.chunking = true), Peer::new());
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept();
    talk.greet("250-peer.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
    talk.hear_say("MAIL", "250 ok\r\n");
    talk.hear_say("RCPT", "250 ok\r\n");
    talk.hear(&format!("BDAT {} LAST", MESSAGE.len()));
    for line in MESSAGE.lines() {
        assert_eq!(talk.line(), line);
    }
    talk.say("250 2.6.0 yours\r\n");
    assert_eq!(only(&deliver.outcome()), (Result3::Delivered, (2, 6, 0)));
}

#[test]
fn a_service_gets_the_octets_as_they_are_in_clear_and_within_its_own_time() {
    let (mut deliver, peer) =
        (start(|slice| slice.tls.level = TlsPolicy::parse("encrypt").unwrap().into()), Peer::new());
    // Neither 8BITMIME nor TLS, and what is demanded of the way to a next hop is not demanded of it.
    let message = "Content-Type: text/plain; charset=utf-8\r\n\r\né\r\n";
    let mut lease = eight_bit(1, &peer.next_hop(), message);
    lease.demands.requiretls = true;
    lease.service_ms = Some(60_000);
    deliver.lease(&lease);
    let mut talk = peer.accept();
    talk.greet("250-peer.test\r\n250-STARTTLS\r\n250 DSN\r\n");
    assert_eq!(talk.line(), "MAIL FROM:<sender@src.test>");
    talk.say("250 ok\r\n");
    assert_eq!(talk.line(), "RCPT TO:<b@dst.test>");
    talk.say("250 ok\r\n");
    talk.hear_say("DATA", "354 go on\r\n");
    assert_eq!(String::from_utf8(talk.message()).unwrap(), message);
    talk.say("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
    // The same address as a next hop has its own connection, under its own policy.
    deliver.lease(&eight_bit(2, &peer.next_hop(), message));
    let mut other = peer.accept();
    other.greet("250 peer.test\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Deferred);
    // A service that says nothing is waited for as long as it was given, not as long as a next hop.
    let silent = Peer::new();
    let mut lease = attempt(3, &silent.next_hop(), TO, inline(MESSAGE));
    lease.service_ms = Some(50);
    deliver.lease(&lease);
    let _talk = silent.accept();
    assert_eq!(only(&deliver.outcome()).0, Result3::Deferred);
}

#[test]
fn a_drained_process_does_not_end_before_its_outcomes_are_taken() {
    let mut deliver = start(|_| {});
    deliver.narrow_queue();
    // Nobody listens there any more.
    let next_hop = Peer::new().next_hop();
    outcomes_outlast_the_drain(&mut deliver, &next_hop);
}
