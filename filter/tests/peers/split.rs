//! A message for recipients of several domains: stored once for each, told once.

use std::io::{IoSlice, Write};

use vsmtp_ipc::edge::filter_queue::{NewMessage, Receipt, Refusal, Submit};
use vsmtp_ipc::edge::receiver_filter::{Ask, Verdict};
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::{Body, CHUNK, Id, RcptTo};
use vsmtp_sys::memfd::Sealed;

use crate::stage::{MESSAGE, Queue, RECEIVER, Receiver, Stage, facts, id, mail};

const INTERNAL: &str = "#{ preq: [ action \"i\" || msg::append_header(\"X-Part\", \"internal\") ] }";
const OUTGOING: &str = "#{ preq: [ action \"o\" || msg::append_header(\"X-Part\", \"outgoing\") ] }";

fn session() -> (Stage, Receiver, Queue) {
    let files = [
        ("domain-enabled/mx.test/internal.vsl", INTERNAL),
        ("domain-enabled/mx.test/outgoing.vsl", OUTGOING),
    ];
    let mut stage = Stage::start_with(Role::FilterSession, "#{}", &files);
    let queue = stage.queue();
    let (receiver, _) = stage.receiver(RECEIVER);
    (stage, receiver, queue)
}

/// A colleague and a stranger.
fn recipients(receiver: &mut Receiver, session: u64) {
    let mut facts = facts(session);
    facts.client = Some((std::net::IpAddr::from([192, 0, 2, 5]), 4321));
    let rcpt = |address: &str| RcptTo { address: address.into(), original: None, notify: None };
    let recipients = vec![rcpt("c@mx.test"), rcpt("x@far.test")];
    receiver.say(&Ask::Recipients { facts, mail: mail("b@mx.test"), recipients }, Vec::new());
    match receiver.hear() {
        Verdict::Recipients { decisions, .. } => {
            let decisions: Vec<String> = decisions.iter().map(crate::stage::show).collect();
            assert_eq!(decisions, ["accept", "accept"]);
        }
        other => panic!("{other:?}"),
    }
}

fn to(message: &NewMessage) -> Vec<&str> {
    message.envelope.recipients.iter().map(|recipient| &*recipient.address).collect()
}

fn part(message: &NewMessage) -> String {
    let header = format!("{:?}", message.pieces.first());
    let bytes = match message.pieces.first() {
        Some(vsmtp_ipc::wire::Piece::Text(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        _ => panic!("{header}"),
    };
    let line = bytes.lines().find_map(|line| line.strip_prefix("X-Part: ")).unwrap_or_default();
    line.to_owned()
}

#[test]
fn each_part_is_stored_before_the_client_hears_so() {
    let (_stage, mut receiver, mut queue) = session();
    for (number, sealed) in [(1, false), (2, true)] {
        recipients(&mut receiver, 1);
        if sealed {
            let body = Sealed::create(c"body", &[IoSlice::new(MESSAGE)]).unwrap();
            receiver.send_message(1, number, Body::Memfd(MESSAGE.len() as u64), vec![body.into_fd()]);
        } else {
            receiver.send_message(1, number, Body::Inline(MESSAGE.to_vec()), Vec::new());
        }
        let (first, descriptors) = queue.message();
        assert_eq!((to(&first), part(&first)), (vec!["c@mx.test"], "internal".to_owned()));
        assert_eq!(descriptors.len(), usize::from(sealed));
        assert_ne!(first.id, id(number));
        queue.say(&Receipt::Stored { ticket: first.ticket }, Vec::new());
        let (second, descriptors) = queue.message();
        assert_eq!((to(&second), part(&second)), (vec!["x@far.test"], "outgoing".to_owned()));
        assert_eq!((second.id, descriptors.len()), (id(number), usize::from(sealed)));
        assert_eq!(first.body, second.body);
        queue.say(&Receipt::Stored { ticket: second.ticket }, Vec::new());
        assert_eq!(receiver.decided(), (1, "accept".to_owned()));
    }
}

#[test]
fn a_large_body_is_copied_for_each_part() {
    let (_stage, mut receiver, mut queue) = session();
    let body = [MESSAGE, &vec![b'x'; CHUNK]].concat();
    let len = body.len() as u64;
    recipients(&mut receiver, 1);
    receiver.send_message(1, 1, Body::File(len), Vec::new());
    let Submit::OpenStaged { ticket, .. } = queue.hear().0 else { panic!() };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&body).unwrap();
    queue.say(&Receipt::Staged { ticket }, vec![file.into()]);
    let (mut copied, mut copy): (Vec<u8>, Option<Id>) = (Vec::new(), None);
    while (copied.len() as u64) < len {
        let (Submit::Chunk { ticket, id: of, offset, len }, mut fds) = queue.hear() else { panic!() };
        assert_eq!(offset, copied.len() as u64);
        assert!(of != id(1) && copy.is_none_or(|copy| copy == of));
        copy = Some(of);
        copied.extend(Sealed::verify(fds.remove(0), len).unwrap().read_all(CHUNK as u64).unwrap());
        queue.say(&Receipt::ChunkStored { ticket }, Vec::new());
    }
    assert!(copied == body);
    let first = queue.message().0;
    assert_eq!((Some(first.id), &first.body, part(&first)), (copy, &Body::File(len), "internal".to_owned()));
    queue.say(&Receipt::Stored { ticket: first.ticket }, Vec::new());
    let second = queue.message().0;
    assert_eq!((second.id, &second.body, part(&second)), (id(1), &Body::File(len), "outgoing".to_owned()));
    queue.say(&Receipt::Stored { ticket: second.ticket }, Vec::new());
    assert_eq!(receiver.decided(), (1, "accept".to_owned()));
}

#[test]
fn a_refusal_of_any_part_is_the_answer_and_nothing_is_left_behind() {
    for refused in ["copy", "first", "second"] {
        let (_stage, mut receiver, mut queue) = session();
        recipients(&mut receiver, 1);
        receiver.send_message(1, 1, Body::File(MESSAGE.len() as u64), Vec::new());
        let Submit::OpenStaged { ticket, .. } = queue.hear().0 else { panic!() };
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(MESSAGE).unwrap();
        queue.say(&Receipt::Staged { ticket }, vec![file.into()]);
        let Submit::Chunk { ticket, id: copy, .. } = queue.hear().0 else { panic!() };
        if refused == "copy" {
            queue.say(&Receipt::Refused { ticket, why: Refusal::Full }, Vec::new());
            assert!(matches!(queue.hear().0, Submit::Discard(of) if of == copy));
        } else {
            queue.say(&Receipt::ChunkStored { ticket }, Vec::new());
            let first = queue.message().0;
            if refused == "first" {
                queue.say(&Receipt::Refused { ticket: first.ticket, why: Refusal::Full }, Vec::new());
            } else {
                queue.say(&Receipt::Stored { ticket: first.ticket }, Vec::new());
                let second = queue.message().0;
                queue.say(&Receipt::Refused { ticket: second.ticket, why: Refusal::Full }, Vec::new());
            }
        }
        assert!(receiver.decided().1.starts_with("refuse 452 4.3.1"), "{refused}");
        // The session goes on.
        recipients(&mut receiver, 1);
    }
}

#[test]
fn a_receiver_that_dies_while_its_message_is_copied_leaves_no_file() {
    let (mut stage, mut receiver, mut queue) = session();
    recipients(&mut receiver, 1);
    receiver.send_message(1, 1, Body::File(MESSAGE.len() as u64), Vec::new());
    let Submit::OpenStaged { ticket, .. } = queue.hear().0 else { panic!() };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(MESSAGE).unwrap();
    queue.say(&Receipt::Staged { ticket }, vec![file.into()]);
    let Submit::Chunk { ticket, id: copy, .. } = queue.hear().0 else { panic!() };
    drop(receiver);
    let _receiver = stage.receiver(RECEIVER);
    queue.say(&Receipt::ChunkStored { ticket }, Vec::new());
    for expected in [copy, id(1)] {
        assert!(matches!(queue.hear().0, Submit::Discard(of) if of == expected));
    }
}
