//! What is brought back: only what was given, only once, and no other message in its place.

use vsmtp_ipc::edge::filter_queue::{Receipt, Returned};
use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_ipc::edge::queue_filter::PostVerdict;
use vsmtp_ipc::wire::{Body, Body7, Id, Piece};
use vsmtp_mail::DelegationTicket;

use super::{HOPS, SCANNED, all, bring, given, goes_on, refused, ticket_of};
use crate::stage::{Deliver, Filter, Post, Stage, octets};

#[test]
fn what_is_forged_or_late_or_for_another_message_is_refused() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (id, attempt, good) = given(&mut stage, peers, |to| to.return_within_s = 1);
    let mut bytes = good.token.to_bytes();
    bytes[15] ^= 1;
    let forged = DelegationTicket { token: vsmtp_mail::Token::from_bytes(bytes), ..good };
    let other = DelegationTicket { id: vsmtp_mail::QueueId::from_bytes([9; 16]), ..good };
    for bad in [forged, other] {
        assert!(refused(&bring(&mut stage, &mut filter, bad).1));
    }
    deliver.settle(&attempt, Result3::Delivered);
    // It stays away too long, and is sent again.
    let (again, descriptors) = deliver.hear();
    assert_eq!((again.id, ticket_of(&octets(again.body.clone(), descriptors))), (id, good));
    stage.logged("event=delegation-expired");
    // A service that is only slow brings the first copy; that counts, and the second one is dropped.
    let (brought, receipt) = bring(&mut stage, &mut filter, good);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    deliver.settle(&again, Result3::Delivered);
    goes_on(&mut stage, &mut post, &mut deliver, brought);
    let (_, receipt) = bring(&mut stage, &mut filter, good);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    stage.logged("event=delegation-repeated");
    stage.figure("messages", 1);
}

#[test]
fn where_others_come_in_too_what_is_not_away_is_a_new_message() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (_, attempt, ticket) = given(&mut stage, peers, |_| {});
    deliver.settle(&attempt, Result3::Delivered);
    let mut come = |stage: &mut Stage, token: [u8; 16]| {
        let mut message = stage.message(HOPS);
        message.body = Body::Inline(SCANNED.to_vec());
        message.envelope.body = Body7::EightBitMime;
        message.returned = Some(Returned { id: ticket.id.into(), token, or_new: true });
        let id = message.id;
        let receipt = filter.submit(message);
        assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
        id
    };
    let new = come(&mut stage, [0; 16]);
    let (ask, _) = post.hear();
    assert_eq!((ask.id, &ask.resume), (new, &None));
    post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
    assert_eq!(Id::from(vsmtp_mail::QueueId::from(deliver.serve(Result3::Delivered).id)), new);
    stage.figure("delegated", 1);
    // With the right one it is what was away: nothing loops.
    let new = come(&mut stage, ticket.token.to_bytes());
    goes_on(&mut stage, &mut post, &mut deliver, new);
}

#[test]
fn what_others_than_its_recipients_are_to_get_is_never_taken_for_a_copy() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (_, attempt, ticket) = given(&mut stage, peers, |_| {});
    deliver.settle(&attempt, Result3::Delivered);
    // The header of what was given away, on a message for somebody else: before the service has brought it back, and
    // after.
    let other_comes = |stage: &mut Stage, filter: &mut Filter, post: &mut Post, deliver: &mut Deliver| {
        let mut message = stage.message(&[("other@else.test", "smtp:else.test")]);
        message.returned =
            Some(Returned { id: ticket.id.into(), token: ticket.token.to_bytes(), or_new: true });
        let id = message.id;
        assert!(matches!(filter.submit(message), Receipt::Stored { .. }));
        let (ask, _) = post.hear();
        assert_eq!((ask.id, &ask.resume), (id, &None));
        post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
        assert_eq!(Id::from(vsmtp_mail::QueueId::from(deliver.serve(Result3::Delivered).id)), id);
    };
    other_comes(&mut stage, &mut filter, &mut post, &mut deliver);
    stage.figure("delegated", 1);
    let (new, receipt) = bring(&mut stage, &mut filter, ticket);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    goes_on(&mut stage, &mut post, &mut deliver, new);
    other_comes(&mut stage, &mut filter, &mut post, &mut deliver);
}

#[test]
fn a_large_message_comes_back_as_a_file() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (_, _attempt, ticket) = given(&mut stage, peers, |_| {});
    let large = [SCANNED, &vec![b'x'; 2 << 20], b"\r\n"].concat();
    let mut message = stage.message(&[("whoever@else.test", "maildir")]);
    crate::large::chunks(&mut filter, message.id, &large);
    message.body = Body::File(large.len() as u64);
    message.pieces = vec![
        Piece::Text(b"X-Scanned: large\r\n".to_vec()),
        Piece::Original { offset: 18, len: large.len() as u64 - 18 },
    ];
    message.returned = Some(Returned { id: ticket.id.into(), token: ticket.token.to_bytes(), or_new: false });
    let id = message.id;
    let receipt = filter.submit(message);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    let (ask, descriptors) = post.hear();
    assert_eq!((ask.id, ask.resume.is_some()), (id, true));
    let got = octets(ask.body, descriptors);
    assert_eq!(got.len(), large.len());
    assert!(got.starts_with(b"X-Scanned: large\r\nSubject: x\r\n"));
}
