//! What a filter may say, and what ends its edge.

use vsmtp_ipc::edge::ctl_queue::State;
use vsmtp_ipc::edge::filter_queue::{Disposition, NewMessage, Receipt, Refusal, Submit};
use vsmtp_ipc::edge::master_child::ToChild;
use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::{Body, Piece, Terms};

use crate::stage::{BODY, Stage, octets, sealed};

const HOP: &[(&str, &str)] = &[("b@dst.test", "smtp:dst.test")];

#[test]
fn bodies_travel_inline_or_sealed_and_pieces_change_them() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let body = [BODY, &b"x".repeat(100_000)].concat();
    let mut message = stage.message(HOP);
    message.body = Body::Memfd(body.len() as u64);
    message.pieces = vec![
        Piece::Text(b"X-Rule: yes\r\n".to_vec()),
        Piece::Original { offset: 0, len: 18 },
        Piece::Original { offset: 18, len: body.len() as u64 - 18 },
    ];
    filter.say(&Submit::Message(message), vec![sealed(&body)]);
    assert!(matches!(filter.hear().0, Receipt::Stored { ticket: 1 }));
    let (attempt, descriptors) = deliver.hear();
    assert!(matches!(attempt.body, Body::Memfd(_)));
    assert_eq!(octets(attempt.body, descriptors), [b"X-Rule: yes\r\n", &body[..]].concat());
}

#[test]
fn a_repeated_id_is_refused() {
    let (mut stage, mut filter, _deliver) = Stage::with_peers();
    let message = stage.message(HOP);
    filter.store(message.clone());
    let receipt = filter.submit(message);
    assert!(matches!(receipt, Receipt::Refused { ticket: 1, why: Refusal::Repeated }), "{receipt:?}");
}

#[test]
fn held_and_quarantined_messages_stay() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut held = stage.message(HOP);
    held.disposition = Disposition::Hold("why".into());
    let mut quarantined = stage.message(HOP);
    quarantined.disposition = Disposition::Quarantine("virus".to_owned());
    let (held, quarantined) = (filter.store(held), filter.store(quarantined));
    assert!(deliver.is_idle(&mut stage));
    let mut operator = stage.operator();
    let entries = operator.list(Some(State::Held));
    assert_eq!((entries[0].id, entries[0].reason.as_str()), (held, "why"));
    let entries = operator.list(Some(State::Quarantined));
    assert_eq!((entries[0].id, entries[0].quarantine.as_str()), (quarantined, "virus"));
}

#[test]
fn a_filter_that_says_what_nobody_may_say_is_dropped_and_nobody_else_is() {
    let bad: [fn(&mut NewMessage); 11] = [
        |m| m.envelope.terms = Some(Box::new(Terms { priority: 10, ..Terms::default() })),
        |m| m.envelope.terms = Some(Box::new(Terms { lifetime_s: Some(u32::MAX), ..Terms::default() })),
        |m| m.disposition = Disposition::Hold("a\nb".to_owned()),
        |m| m.envelope.recipients.clear(),
        |m| m.envelope.reverse_path = "a\r\nb".to_owned(),
        |m| m.envelope.recipients[0].next_hop = "pipe:/bin/sh".to_owned(),
        |m| m.pieces = vec![Piece::Original { offset: 1, len: u64::MAX }],
        |m| m.body = Body::Inline(vec![b'x'; 17 * 1024]),
        |m| m.disposition = Disposition::Quarantine("a\nb".to_owned()),
        |m| m.disposition = Disposition::Quarantine(String::new()),
        |m| m.origin.helo = "x".repeat(5000),
    ];
    let (mut stage, mut good, mut deliver) = Stage::with_peers();
    for spoil in bad {
        let mut message = stage.message(HOP);
        spoil(&mut message);
        let mut filter = stage.filter();
        filter.say(&Submit::Message(message), Vec::new());
        assert!(filter.is_dropped());
        stage.misbehaved(Role::FilterSession);
    }
    let message = stage.message(HOP);
    good.store(message);
    deliver.hear();
}

#[test]
fn a_body_that_is_not_sealed_or_of_another_size_ends_the_edge() {
    let (mut stage, ..) = Stage::with_peers();
    let file = || tempfile::tempfile().unwrap().into();
    for (len, fd) in
        [(4, file()), (5, sealed(b"four")), (u64::MAX, sealed(b"four")), (2 << 20, sealed(b"four"))]
    {
        let mut filter = stage.filter();
        let mut message = stage.message(HOP);
        message.body = Body::Memfd(len);
        filter.say(&Submit::Message(message), vec![fd]);
        assert!(filter.is_dropped());
        stage.misbehaved(Role::FilterSession);
    }
}

#[test]
fn a_filter_cannot_pretend_to_be_our_own_reports() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut message = stage.message(HOP);
    message.envelope.reverse_path = String::new();
    message.origin.protocol = "double-bounce".to_owned();
    filter.store(message);
    deliver.serve(vsmtp_ipc::edge::queue_deliver::Result3::Failed);
    // It is a message without sender like any other: the postmaster hears of it.
    stage.logged("kind=double-bounce to=<postmaster@src.test>");
}

#[test]
fn when_it_is_to_end_nothing_more_is_taken() {
    let (mut stage, mut filter, _deliver) = Stage::with_peers();
    stage.tell(&ToChild::StopAccepting, Vec::new());
    let message = stage.message(HOP);
    let receipt = filter.submit(message);
    assert!(matches!(receipt, Receipt::Refused { ticket: 1, why: Refusal::Busy }), "{receipt:?}");
}

/// As after many reloads while clients stay with the filters of their generations.
#[test]
fn however_many_filters_there_are_the_newest_ones_are_heard() {
    let (mut stage, mut first, mut deliver) = Stage::with_peers();
    let mut many: Vec<_> = (1..40).map(|instance| stage.filter_process(instance)).collect();
    let message = stage.message(HOP);
    many.last_mut().unwrap().store(message);
    deliver.serve(Result3::Delivered);
    assert!(first.is_dropped(), "the oldest has made room");
    // Nobody is to be started again for that.
    stage.figure("messages", 0);
    stage.logged("event=too-many-edges");
}
