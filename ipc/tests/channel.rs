//! What a channel does with honest and with hostile peers. The hostile peer is a bare socket, so it can send anything.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

use vsmtp_ipc::edge::filter_queue::{FilterEnd, QueueEnd, Receipt, Refusal, Submit};
use vsmtp_ipc::edge::master_child::{ChildEnd, MasterEnd, ToChild, ToMaster};
use vsmtp_ipc::wire::Id;
use vsmtp_ipc::{ChannelError, EdgeId, Flushed, MAX_DESCRIPTORS, encode};
use vsmtp_sys::memfd::Sealed;
use vsmtp_sys::seqpacket;

const HELLO: &[u8] = b"vSMT\x03\0\x03\0";

fn frame(payload: &[u8], descriptors: u8, flags: u8) -> Vec<u8> {
    [&(payload.len() as u32).to_le_bytes()[..], &[descriptors, flags, 0, 0], payload].concat()
}

/// Sends these packets behind a good hello and answers what the queue-manager's end makes of them.
fn hostile(packets: &[(&[u8], Vec<OwnedFd>)]) -> Result<usize, ChannelError> {
    let (peer, b) = seqpacket::pair().unwrap();
    let mut end = QueueEnd::new(b, EdgeId::FilterQueue);
    seqpacket::send(&peer, &[IoSlice::new(HELLO)], &[]).unwrap();
    for (bytes, descriptors) in packets {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        seqpacket::send(&peer, &[IoSlice::new(bytes)], &borrowed).unwrap();
    }
    let mut seen = 0;
    while end.receive()?.is_some() {
        seen += 1;
    }
    Ok(seen)
}

fn memfd(bytes: &[u8]) -> OwnedFd {
    Sealed::create(c"test", &[IoSlice::new(bytes)]).unwrap().into_fd()
}

fn misbehaved(result: Result<usize, ChannelError>) -> bool {
    matches!(result, Err(ChannelError::Misbehaved(_)))
}

fn discard() -> Vec<u8> {
    encode(&Submit::Discard(Id([1; 16]))).unwrap()
}

fn chunk(ticket: u64) -> Submit {
    Submit::Chunk { ticket, id: Id([1; 16]), offset: 0, len: 1 }
}

#[test]
fn messages_arrive_in_order_with_their_descriptors() {
    let (a, b) = seqpacket::pair().unwrap();
    let (mut filter, mut queue) =
        (FilterEnd::new(a, EdgeId::FilterQueue), QueueEnd::new(b, EdgeId::FilterQueue));
    for ticket in 0..200 {
        filter.send(&Submit::OpenStaged { ticket, id: Id([0; 16]) }, vec![]).unwrap();
        filter.send(&chunk(ticket), vec![memfd(b"x")]).unwrap();
        assert_eq!(filter.flush().unwrap(), Flushed::All);
        let first = queue.receive().unwrap().unwrap();
        assert!(matches!(first.message, Submit::OpenStaged { ticket: t, .. } if t == ticket));
        let second = queue.receive().unwrap().unwrap();
        assert!(matches!(second.message, Submit::Chunk { ticket: t, .. } if t == ticket));
        assert_eq!((first.descriptors.len(), second.descriptors.len()), (0, 1));
        assert!(queue.receive().unwrap().is_none());
    }
    queue.send(&Receipt::Refused { ticket: 1, why: Refusal::Full }, vec![]).unwrap();
    assert_eq!(queue.flush().unwrap(), Flushed::All);
    assert!(matches!(
        filter.receive().unwrap().unwrap().message,
        Receipt::Refused { ticket: 1, why: Refusal::Full }
    ));
    drop(queue);
    assert!(matches!(filter.receive(), Err(ChannelError::Closed)));
}

#[test]
fn many_messages_share_few_packets() {
    let (a, b) = seqpacket::pair().unwrap();
    let mut master = MasterEnd::new(a, EdgeId::MasterChild);
    for _ in 0..100 {
        master.send(&ToChild::StopAccepting, vec![]).unwrap();
    }
    assert_eq!(master.flush().unwrap(), Flushed::All);
    let (mut buffer, mut packets) = (vec![0; 70_000], 0);
    while seqpacket::recv(&b, &mut buffer, &mut Vec::new()).is_ok() {
        packets += 1;
    }
    assert_eq!(packets, 2, "the hello and one frame");
}

#[test]
fn large_messages_travel_in_a_sealed_memfd() {
    let (a, b) = seqpacket::pair().unwrap();
    let (mut child, mut master) =
        (ChildEnd::new(a, EdgeId::MasterChild), MasterEnd::new(b, EdgeId::MasterChild));
    let text = "x".repeat(3_000_000);
    child.send(&ToMaster::Fatal(text.clone()), vec![]).unwrap();
    assert_eq!(child.flush().unwrap(), Flushed::All);
    assert!(matches!(master.receive().unwrap().unwrap().message, ToMaster::Fatal(got) if got == text));
}

#[test]
fn a_peer_that_does_not_read_overflows_and_never_costs_memory_without_end() {
    let (a, b) = seqpacket::pair().unwrap();
    let mut child = ChildEnd::new(a, EdgeId::MasterChild);
    let text = "x".repeat(40_000);
    let sent = (0..2_000).take_while(|_| child.send(&ToMaster::Fatal(text.clone()), vec![]).is_ok()).count();
    assert!((100..2_000).contains(&sent), "{sent}");
    assert_eq!(child.flush().unwrap(), Flushed::Blocked);
    assert!(matches!(child.send(&ToMaster::Fatal(text), vec![]), Ok(()) | Err(ChannelError::Overflow)));
    drop(b);
    assert!(matches!(child.flush(), Err(ChannelError::Closed)));
}

#[test]
fn wrong_hellos_close_the_edge() {
    for wrong in
        [&b"vSMT\x02\0\x03\0"[..], b"vSMT\x03\0\x01\0", b"GET / HTTP/1.1", b"v", b"vSMT\x03\0\x03\0x"]
    {
        let (peer, b) = seqpacket::pair().unwrap();
        let mut end = QueueEnd::new(b, EdgeId::FilterQueue);
        seqpacket::send(&peer, &[IoSlice::new(wrong)], &[]).unwrap();
        assert!(matches!(end.receive(), Err(ChannelError::Misbehaved(_))), "{wrong:?}");
    }
}

#[test]
fn malformed_frames_close_the_edge() {
    let good = frame(&discard(), 0, 0);
    assert_eq!(hostile(&[(&good, vec![])]).unwrap(), 1);
    let trailing = [&good[..], b"x"].concat();
    let long = frame(&[&discard()[..], b"x"].concat(), 0, 0);
    let unknown = frame(&99u32.to_le_bytes(), 0, 0);
    let (odd_flags, nine) = (frame(&discard(), 0, 7), frame(&discard(), 9, 0));
    for bytes in [&good[..12], &trailing, &long, &unknown, &odd_flags, &nine] {
        assert!(misbehaved(hostile(&[(bytes, vec![])])), "{bytes:?}");
    }
}

#[test]
fn a_message_of_the_other_direction_is_refused() {
    let receipt = encode(&Receipt::Refused { ticket: u64::MAX, why: Refusal::Full }).unwrap();
    assert!(misbehaved(hostile(&[(&frame(&receipt, 0, 0), vec![])])));
}

#[test]
fn missing_surplus_and_excess_descriptors_close_the_edge() {
    let plain = frame(&discard(), 0, 0);
    assert!(misbehaved(hostile(&[(&plain, vec![memfd(b"x")]), (&plain, vec![])])), "surplus");
    assert!(misbehaved(hostile(&[(&frame(&discard(), 1, 0), vec![memfd(b"x")])])), "a discard has none");
    let chunk = encode(&chunk(1)).unwrap();
    assert!(misbehaved(hostile(&[(&frame(&chunk, 1, 0), vec![])])), "missing");
    assert!(misbehaved(hostile(&[(&frame(&chunk, 0, 0), vec![])])), "a chunk needs one");
    let many: Vec<OwnedFd> = (0..=MAX_DESCRIPTORS).map(|_| memfd(b"x")).collect();
    let (peer, b) = seqpacket::pair().unwrap();
    let borrowed: Vec<_> = many.iter().map(AsFd::as_fd).collect();
    seqpacket::send(&peer, &[IoSlice::new(HELLO)], &[]).unwrap();
    if seqpacket::send(&peer, &[IoSlice::new(&plain)], &borrowed).is_ok() {
        assert!(QueueEnd::new(b, EdgeId::FilterQueue).receive().is_err(), "excess");
    }
}

#[test]
fn spilled_messages_are_checked() {
    let good = discard();
    let len = (good.len() as u64).to_le_bytes();
    assert_eq!(hostile(&[(&frame(&len, 1, 1), vec![memfd(&good)])]).unwrap(), 1);
    assert!(misbehaved(hostile(&[(&frame(&len, 1, 1), vec![memfd(b"short")])])), "other length");
    assert!(misbehaved(hostile(&[(&frame(&u64::MAX.to_le_bytes(), 1, 1), vec![memfd(&good)])])), "huge");
    assert!(misbehaved(hostile(&[(&frame(&len, 0, 1), vec![])])), "no descriptor");
    let file = std::fs::File::open("/dev/zero").unwrap();
    assert!(misbehaved(hostile(&[(&frame(&len, 1, 1), vec![file.into()])])), "not a memfd");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_an_edge_panic(bytes in proptest::collection::vec(0u8..=255, 1..300)) {
        let _ = hostile(&[(&bytes, vec![])]);
        let _ = hostile(&[(&frame(&bytes, 0, 0), vec![])]);
    }
}
