//! An end of an edge whose peer sends any packets with any descriptors. It answers each with messages or an error, loses
//! no descriptor, and passes on what an honest peer says.
#![no_main]

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libfuzzer_sys::fuzz_target;
use vsmtp_fuzz::cut::Fields;
use vsmtp_ipc::edge::{filter_queue, master_child, queue_deliver, receiver_filter};
use vsmtp_ipc::{Channel, ChannelError, EdgeId, Flushed, MAX_DESCRIPTORS, Message, encode};
use vsmtp_sys::memfd::Sealed;
use vsmtp_sys::seqpacket;

/// Most packets of one input; a socket takes a few hundred before it is full.
const MAX_PACKETS: usize = 16;

fuzz_target!(|input: &[u8]| {
    let mut fields = Fields(input);
    let before = lowest_free_descriptor();
    match fields.octet() % 4 {
        0 => play::<master_child::ToMaster, master_child::ToChild>(EdgeId::MasterChild, fields),
        1 => play::<receiver_filter::Verdict, receiver_filter::Ask>(EdgeId::ReceiverFilter, fields),
        2 => play::<filter_queue::Receipt, filter_queue::Submit>(EdgeId::FilterQueue, fields),
        _ => play::<queue_deliver::Said, queue_deliver::Ask>(EdgeId::QueueDeliver, fields),
    }
    assert_eq!(lowest_free_descriptor(), before, "a descriptor was lost");
});

fn lowest_free_descriptor() -> i32 {
    File::open("/dev/null").expect("/dev/null").as_raw_fd()
}

fn play<Tx: Message, Rx: Message>(edge: EdgeId, mut fields: Fields<'_>) {
    let (ours, theirs) = seqpacket::pair().expect("a pair");
    let mut victim = Channel::<Tx, Rx>::new(ours, edge);
    let mut peer = Channel::<Rx, Tx>::new(theirs, edge);
    // Without the hello, the first packet stands in its place.
    if fields.octet() & 1 == 0 {
        assert_eq!(peer.flush().expect("an open socket"), Flushed::All);
    }
    let mut packets = 0;
    let mut heard = Vec::new();
    while !fields.is_empty() && packets < MAX_PACKETS {
        packets += 1;
        let shape = fields.octet();
        let payload = fields.counted();
        send(peer.socket(), shape, payload);
        match listen(&mut victim, &mut heard) {
            Ok(()) => {}
            Err(_) => return,
        }
    }
    relay(edge, heard);
}

/// The low bits of `shape` are the number of descriptors; the third makes the payload a message with a right prefix, the
/// fourth one that travels in a memfd.
fn send(socket: BorrowedFd<'_>, shape: u8, payload: &[u8]) {
    let (descriptors, framed, spilled) = (shape & 7, shape & 8 != 0, shape & 16 != 0);
    let wanted = usize::from(descriptors).min(MAX_DESCRIPTORS);
    let mut files: Vec<OwnedFd> = Vec::new();
    if spilled {
        files.push(Sealed::create(c"fuzz", &[IoSlice::new(payload)]).expect("a memfd").into_fd());
    }
    while files.len() < wanted {
        files.push(File::open("/dev/null").expect("/dev/null").into());
    }
    let length = (payload.len() as u64).to_le_bytes();
    let content: &[u8] = if spilled { &length } else { payload };
    let prefix =
        [&(content.len() as u32).to_le_bytes()[..], &[files.len() as u8, u8::from(spilled), 0, 0]].concat();
    let parts =
        if framed { vec![IoSlice::new(&prefix), IoSlice::new(content)] } else { vec![IoSlice::new(content)] };
    let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    // An empty packet is refused here already.
    let _ = seqpacket::send(socket, &parts, &borrowed);
}

fn listen<Tx: Message, Rx: Message>(
    victim: &mut Channel<Tx, Rx>,
    heard: &mut Vec<Rx>,
) -> Result<(), ChannelError> {
    while let Some(received) = victim.receive()? {
        assert_eq!(received.descriptors.len(), received.message.descriptors());
        heard.push(received.message);
    }
    Ok(())
}

/// What was heard is said again by an honest peer, in one turn, and heard the same.
fn relay<Rx: Message>(edge: EdgeId, said: Vec<Rx>) {
    let (one, other) = seqpacket::pair().expect("a pair");
    let (mut from, mut to) = (Channel::<Rx, Rx>::new(one, edge), Channel::<Rx, Rx>::new(other, edge));
    for message in &said {
        let files = (0..message.descriptors()).map(|_| File::open("/dev/null").expect("/dev/null").into());
        from.send(message, files.collect()).expect("what was received can be sent");
    }
    assert_eq!(from.flush().expect("an open socket"), Flushed::All);
    let mut heard = Vec::new();
    listen(&mut to, &mut heard).expect("an honest peer");
    let bytes = |all: &[Rx]| all.iter().map(|one| encode(one).expect("it decoded")).collect::<Vec<_>>();
    assert_eq!(bytes(&heard), bytes(&said));
}
