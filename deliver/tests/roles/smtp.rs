//! The smtp role against servers that behave, misbehave, and vanish.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use vsmtp_config::NextHopTimeouts;
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::queue_deliver::{Reach, Result3};
use vsmtp_ipc::role::Role;

use crate::harness::{MESSAGE, TO, attempt, inline, only, results, start};
use crate::peer::{EHLO, Peer, Talk, accept_unix};

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
            // What a host that an operator chose says of itself bounces nobody's mail.
            let expected = if stage < 2 { Result3::Deferred } else { expected };
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
