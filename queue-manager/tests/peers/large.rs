//! Bodies of more than a mebibyte.

use vsmtp_ipc::edge::filter_queue::{Receipt, Refusal, Submit};
use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::{Body, CHUNK, Expanded, Id, Piece};
use vsmtp_ipc::{Channel, EdgeId};

use crate::stage::{Deliver, Filter, Stage, octets, sealed};

const HOP: &[(&str, &str)] = &[("b@dst.test", "smtp:dst.test")];

fn body(len: usize) -> Vec<u8> {
    let mut body = b"Subject: large\r\n\r\n".to_vec();
    body.extend((0..len).map(|n| b'a' + (n % 26) as u8));
    body
}

/// Has the queue-manager stage a body.
pub fn chunks(filter: &mut Filter, id: Id, body: &[u8]) {
    let mut offset = 0;
    for chunk in body.chunks(CHUNK) {
        let len = chunk.len() as u64;
        filter.say(&Submit::Chunk { ticket: offset, id, offset, len }, vec![sealed(chunk)]);
        assert!(matches!(filter.hear().0, Receipt::ChunkStored { ticket } if ticket == offset));
        offset += len;
    }
}

#[test]
fn large_messages_are_staged_judged_and_delivered_as_files() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    for pieces in [false, true] {
        let (mut message, body) = (stage.message(HOP), body(3_000_000));
        chunks(&mut filter, message.id, &body);
        filter.say(&Submit::OpenStaged { ticket: 9, id: message.id }, Vec::new());
        let (receipt, descriptors) = filter.hear();
        assert!(matches!(receipt, Receipt::Staged { ticket: 9 }));
        assert_eq!(octets(Body::File(body.len() as u64), descriptors), body);
        message.body = Body::File(body.len() as u64);
        let mut expected = body.clone();
        if pieces {
            let rest = body.len() as u64 - 16;
            message.pieces =
                vec![Piece::Text(b"X-Rule: yes\r\n".to_vec()), Piece::Original { offset: 16, len: rest }];
            expected = [b"X-Rule: yes\r\n", &body[16..]].concat();
        }
        filter.store(message);
        let (attempt, descriptors) = deliver.hear();
        deliver.settle(&attempt, Result3::Delivered);
        assert!(octets(attempt.body, descriptors) == expected);
        stage.figure("messages", 0);
    }
    nothing_is_left(&stage);
}

#[test]
fn the_report_on_an_alias_holds_the_header_of_a_large_message() {
    let (mut stage, mut filter, _deliver) = Stage::with_peers();
    let mut mailbox = Deliver(Channel::new(stage.introduce(Role::DeliverMailbox, 0), EdgeId::QueueDeliver));
    let (mut message, body) = (stage.message(HOP), body(1_500_000));
    chunks(&mut filter, message.id, &body);
    message.body = Body::File(body.len() as u64);
    message.expanded = vec![Expanded { address: "all@src.test".to_owned(), original: None }];
    filter.store(message);
    let (report, descriptors) = mailbox.hear();
    let bytes = String::from_utf8(octets(report.body, descriptors)).unwrap();
    assert!(bytes.contains("Content-Type: text/rfc822-headers\r\n\r\nSubject: large\r\n"), "{bytes}");
    assert!(bytes.len() < 10_000);
}

#[test]
fn a_large_message_survives_the_death_of_the_process() {
    let (mut stage, mut filter, deliver) = Stage::with_peers();
    let (mut message, body) = (stage.message(HOP), body(2_000_000));
    chunks(&mut filter, message.id, &body);
    message.body = Body::File(body.len() as u64);
    drop(deliver);
    filter.store(message);
    let mut stage = stage.kill_and_restart(&[]);
    stage.no_rules();
    let mut deliver = stage.deliver();
    let (attempt, descriptors) = deliver.hear();
    assert!(octets(attempt.body, descriptors) == body);
}

#[test]
fn what_is_not_accepted_leaves_no_file() {
    let (mut stage, mut filter, _deliver) = Stage::with_peers();
    let (id, other) = (stage.id(), stage.id());
    chunks(&mut filter, id, &body(1_500_000));
    filter.say(&Submit::Discard(id), Vec::new());
    chunks(&mut filter, other, &body(300_000));
    assert_eq!(left_over(&stage).len(), 1);
    drop(filter);
    stage.logged("event=edge-closed");
    nothing_is_left(&stage);
}

#[test]
fn chunks_out_of_order_and_bodies_of_another_length_end_the_edge() {
    let (mut stage, ..) = Stage::with_peers();
    let bad = [(5, 4, 4), (0, 4, 5), (0, 0, 0), (u64::MAX, 4, 4)];
    for (offset, octets, stated) in bad {
        let (mut filter, id) = (stage.filter(), stage.id());
        filter.say(&Submit::Chunk { ticket: 1, id, offset: 0, len: 4 }, vec![sealed(b"four")]);
        filter.hear();
        filter.say(&Submit::Chunk { ticket: 1, id, offset, len: stated }, vec![sealed(&vec![b'x'; octets])]);
        assert!(filter.is_dropped(), "{offset} {octets} {stated}");
        stage.misbehaved(Role::FilterSession);
    }
    let mut filter = stage.filter();
    let mut message = stage.message(HOP);
    filter.say(&Submit::Chunk { ticket: 1, id: message.id, offset: 0, len: 4 }, vec![sealed(b"four")]);
    filter.hear();
    message.body = Body::File(5);
    filter.say(&Submit::Message(message), Vec::new());
    assert!(filter.is_dropped());
}

#[test]
fn a_body_that_was_never_staged_is_refused() {
    let (mut stage, mut filter, _deliver) = Stage::with_peers();
    let mut message = stage.message(HOP);
    message.body = Body::File(2 << 20);
    let receipt = filter.submit(message);
    assert!(matches!(receipt, Receipt::Refused { why: Refusal::Disk, .. }), "{receipt:?}");
}

/// Files go after the message's record, in their own time.
fn nothing_is_left(stage: &Stage) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !left_over(stage).is_empty() {
        assert!(std::time::Instant::now() < until, "{:?}", left_over(stage));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn left_over(stage: &Stage) -> Vec<String> {
    let mut found = Vec::new();
    for area in ["staging", "large"] {
        let folder = stage.folder.path().join("queue").join(area);
        found.extend(
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().display().to_string()),
        );
    }
    found
}
