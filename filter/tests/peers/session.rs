//! A session from its first question to the receipt of its message.

use std::io::IoSlice;

use vsmtp_ipc::edge::filter_queue::{Disposition, Receipt, Refusal, Submit};
use vsmtp_ipc::edge::receiver_filter::{Ask, Kept, Verdict};
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::{Body, Piece};
use vsmtp_sys::memfd::Sealed;

use crate::stage::{MESSAGE, RECEIVER, Stage, facts, id, mail};

fn inline() -> Body {
    Body::Inline(MESSAGE.to_vec())
}

#[test]
fn a_message_is_submitted_and_the_receipt_is_the_answer() {
    let (_stage, mut receiver, mut queue) = Stage::session("#{}");
    let decisions =
        receiver.recipients(5, &["b@mx.test", "Postmaster", "nobody@mx.test", "x@elsewhere.test"]);
    assert_eq!(decisions[..2], ["accept", "accept"]);
    assert!(decisions[2].starts_with("refuse 550 5.1.1"), "{decisions:?}");
    assert!(decisions[3].starts_with("refuse 554 5.7.1"), "{decisions:?}");
    receiver.send_message(5, 1, inline(), Vec::new());
    let (message, descriptors) = queue.message();
    assert!(descriptors.is_empty());
    assert_eq!((message.id, message.disposition, message.pieces.len()), (id(1), Disposition::Active, 0));
    assert_eq!(message.body, inline());
    assert_eq!(message.envelope.reverse_path, "a@client.test");
    let to: Vec<_> = message.envelope.recipients.iter().map(|r| (&*r.address, &*r.next_hop)).collect();
    assert_eq!(
        to,
        [("b@mx.test", "maildir"), ("postmaster@mx.test", "maildir")]
            .map(|(a, b)| (if a.starts_with('p') { "Postmaster@mx.test" } else { a }, b))
    );
    assert_eq!(
        (&*message.origin.client, &*message.origin.helo, message.origin.session),
        ("203.0.113.5", "client.test", 5)
    );
    queue.say(&Receipt::Stored { ticket: message.ticket }, Vec::new());
    assert_eq!(receiver.decided(), (5, "accept".to_owned()));
    // The next message of the session begins with nothing.
    receiver.send_message(5, 2, inline(), Vec::new());
    assert!(receiver.decided().1.starts_with("refuse 451"));
    assert_eq!(receiver.recipients(5, &["c@mx.test"]), ["accept"]);
    receiver.send_message(5, 3, inline(), Vec::new());
    assert_eq!(queue.message().0.envelope.recipients.len(), 1);
}

#[test]
fn a_sealed_body_goes_on_as_it_came() {
    let (_stage, mut receiver, mut queue) =
        Stage::session("#{ preq: [ action \"a\" || msg::prepend_header(\"X\", ctx::helo()) ] }");
    for number in 1..3 {
        receiver.recipients(1, &["b@mx.test"]);
        let sealed = Sealed::create(c"body", &[IoSlice::new(MESSAGE)]).unwrap();
        receiver.send_message(1, number, Body::Memfd(MESSAGE.len() as u64), vec![sealed.into_fd()]);
        let (message, mut descriptors) = queue.message();
        let sealed = Sealed::verify(descriptors.remove(0), MESSAGE.len() as u64).unwrap();
        assert_eq!(sealed.read_all(1000).unwrap(), MESSAGE);
        let header = b"X: client.test\r\nReceived: x\r\nSubject: hi\r\n\r\n".to_vec();
        assert_eq!(message.pieces, [Piece::Text(header), Piece::Original { offset: 28, len: 6 }]);
        queue.say(&Receipt::Stored { ticket: message.ticket }, Vec::new());
        assert_eq!(receiver.decided(), (1, "accept".to_owned()));
    }
}

#[test]
fn a_large_body_travels_by_chunks_and_is_opened_for_rules_that_look_and_for_what_may_come_back() {
    for script in
        ["#{}", "#{ preq: [ rule \"a\" || if msg::has_header(\"Subject\") { next() } else { deny() } ] }"]
    {
        let (_stage, mut receiver, mut queue) = Stage::session(script);
        receiver.recipients(1, &["b@mx.test"]);
        let sealed = Sealed::create(c"chunk", &[IoSlice::new(MESSAGE)]).unwrap();
        let len = MESSAGE.len() as u64;
        receiver.say(&Ask::Chunk { session: 1, id: id(9), offset: 0, len }, vec![sealed.into_fd()]);
        match queue.hear() {
            (Submit::Chunk { ticket, id: of, offset: 0, len: length }, fds) => {
                assert_eq!((of, length, fds.len()), (id(9), len, 1));
                queue.say(&Receipt::ChunkStored { ticket }, Vec::new());
            }
            (other, _) => panic!("{other:?}"),
        }
        assert!(matches!(receiver.hear(), Verdict::ChunkStored { session: 1, kept: Kept::Stored }));
        receiver.send_message(1, 9, Body::File(len), Vec::new());
        let Submit::OpenStaged { ticket, .. } = queue.hear().0 else { panic!() };
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, MESSAGE, 0).unwrap();
        queue.say(&Receipt::Staged { ticket }, vec![file.into()]);
        let (message, descriptors) = queue.message();
        assert_eq!((message.body, descriptors.len()), (Body::File(len), 0));
        queue.say(&Receipt::Stored { ticket: message.ticket }, Vec::new());
        assert_eq!(receiver.decided(), (1, "accept".to_owned()));
        receiver.say(&Ask::Forget { session: 1 }, Vec::new());
        // What is stored is not discarded: the next thing that the queue hears is the next message.
        receiver.recipients(2, &["b@mx.test"]);
        receiver.send_message(2, 3, inline(), Vec::new());
        assert_eq!(queue.message().0.id, id(3));
    }
}

#[test]
fn a_large_body_that_is_given_up_or_refused_is_discarded() {
    let (_stage, mut receiver, mut queue) = Stage::session("#{ preq: [ rule \"no\" || deny() ] }");
    for (number, end) in [(1, "reset"), (2, "forget"), (3, "refuse")] {
        let session = u64::from(number);
        receiver.recipients(session, &["b@mx.test"]);
        let sealed = Sealed::create(c"chunk", &[IoSlice::new(b"x")]).unwrap();
        receiver.say(&Ask::Chunk { session, id: id(number), offset: 0, len: 1 }, vec![sealed.into_fd()]);
        let Submit::Chunk { ticket, .. } = queue.hear().0 else { panic!() };
        queue.say(&Receipt::ChunkStored { ticket }, Vec::new());
        receiver.hear();
        match end {
            "reset" => receiver.say(&Ask::Reset { session, id: Some(id(number)) }, Vec::new()),
            "forget" => receiver.say(&Ask::Forget { session }, Vec::new()),
            _ => {
                receiver.send_message(session, number, Body::File(1), Vec::new());
                let Submit::OpenStaged { ticket, .. } = queue.hear().0 else { panic!() };
                let file = tempfile::tempfile().unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, b"x", 0).unwrap();
                queue.say(&Receipt::Staged { ticket }, vec![file.into()]);
                assert!(receiver.decided().1.starts_with("close 554"));
            }
        }
        assert!(matches!(queue.hear().0, Submit::Discard(of) if of == id(number)), "{end}");
    }
}

#[test]
fn a_large_body_whose_session_ends_while_a_chunk_is_on_the_way_is_discarded_behind_it() {
    let (mut stage, mut receiver, mut queue) = Stage::session("#{}");
    for (number, end) in [(1, "reset"), (2, "forget"), (3, "receiver dies")] {
        let session = u64::from(number);
        receiver.recipients(session, &["b@mx.test"]);
        let sealed = Sealed::create(c"chunk", &[IoSlice::new(b"x")]).unwrap();
        receiver.say(&Ask::Chunk { session, id: id(number), offset: 0, len: 1 }, vec![sealed.into_fd()]);
        let Submit::Chunk { ticket, .. } = queue.hear().0 else { panic!() };
        match end {
            "reset" => receiver.say(&Ask::Reset { session, id: Some(id(number)) }, Vec::new()),
            "forget" => receiver.say(&Ask::Forget { session }, Vec::new()),
            _ => receiver = stage.receiver(RECEIVER).0,
        }
        queue.say(&Receipt::ChunkStored { ticket }, Vec::new());
        assert!(matches!(queue.hear().0, Submit::Discard(of) if of == id(number)), "{end}");
        if end != "receiver dies" {
            assert!(matches!(receiver.hear(), Verdict::ChunkStored { kept: Kept::Stored, .. }));
        }
    }
}

#[test]
fn a_file_that_is_shorter_than_was_said_is_not_judged() {
    let (_stage, mut receiver, mut queue) = Stage::session("#{ preq: [ rule \"r\" || next() ] }");
    receiver.recipients(1, &["b@mx.test"]);
    receiver.send_message(1, 1, Body::File(100), Vec::new());
    let Submit::OpenStaged { ticket, .. } = queue.hear().0 else { panic!() };
    queue.say(&Receipt::Staged { ticket }, vec![tempfile::tempfile().unwrap().into()]);
    assert!(receiver.decided().1.starts_with("refuse 451 4.3.0"));
}

#[test]
fn refusals_of_the_queue_reach_the_client() {
    let (_stage, mut receiver, mut queue) = Stage::session("#{}");
    for (why, reply) in [
        (Refusal::Full, "refuse 452 4.3.1"),
        (Refusal::Disk, "refuse 451 4.3.0"),
        (Refusal::Repeated, "refuse 451 4.3.0"),
        (Refusal::Busy, "refuse 451 4.3.2"),
    ] {
        receiver.recipients(1, &["b@mx.test"]);
        receiver.send_message(1, 1, inline(), Vec::new());
        let ticket = queue.message().0.ticket;
        queue.say(&Receipt::Refused { ticket, why }, Vec::new());
        let answer = receiver.decided().1;
        assert!(answer.starts_with(reply), "{answer}");
    }
}

#[test]
fn stages_are_wanted_where_there_are_rules_and_their_order_is_kept() {
    let script = "#{ connect: [ action \"c\" || msg::append_header(\"X\", \"connect\") ],
        helo: [ rule \"h\" || if ctx::helo() == \"bad.test\" { deny() } else { next() } ],
        mail: [ action \"m\" || msg::append_header(\"X\", `${ctx::mail_from()}`) ] }";
    let mut stage = Stage::start(Role::FilterSession, script);
    let mut queue = stage.queue();
    let (mut receiver, wanted) = stage.receiver(RECEIVER);
    assert_eq!(wanted, (true, true, true));
    receiver.say(&Ask::Connect(facts(1)), Vec::new());
    assert_eq!(receiver.decided(), (1, "accept".to_owned()));
    let mut bad = facts(1);
    bad.helo = Some("bad.test".into());
    receiver.say(&Ask::Helo(bad), Vec::new());
    assert!(receiver.decided().1.starts_with("close 554"));
    // A session that this filter never saw: rules of connect and helo run before those of mail.
    receiver.say(&Ask::Mail(facts(2), mail("a@client.test")), Vec::new());
    assert_eq!(receiver.decided(), (2, "accept".to_owned()));
    receiver.recipients(2, &["b@mx.test"]);
    receiver.send_message(2, 1, inline(), Vec::new());
    let Piece::Text(header) = queue.message().0.pieces.remove(0) else { panic!() };
    assert!(header.starts_with(b"X: connect\r\nX: a@client.test\r\nReceived"));
}
