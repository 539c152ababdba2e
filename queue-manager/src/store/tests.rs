//! The store as its users see it: what goes in comes out, whatever happens in between.

mod basic;
mod crash;
mod damage;
mod faults;
mod format;
mod large;
mod model;
mod offline;
mod order;
mod previous;
mod random;

use vsmtp_mail::QueueId;

use super::sim::SimDisk;
use super::*;

/// Small segments, so that tests use many.
const OPTIONS: Options = Options {
    segment_bytes: 64 * 1024,
    low_water_bytes: 0,
    lazy_delay: Duration::from_millis(1),
    warm_bytes: 64 * 1024,
    max_in_flight_bytes: 1024 * 1024,
};

fn id(n: u32) -> QueueId {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    QueueId::from_bytes(bytes)
}

fn open(disk: &SimDisk) -> (Store, Summaries, RecoveryReport) {
    Unrecovered::on(disk.arc(), OPTIONS).recover_inline().unwrap()
}

fn body(n: u32, len: usize) -> Vec<u8> {
    let mut dice = sim::Dice(u64::from(n));
    let mut octets = Vec::with_capacity(len + 8);
    while octets.len() < len {
        octets.extend_from_slice(&dice.roll().to_le_bytes());
    }
    octets.truncate(len);
    octets
}

fn accept(n: u32, recipients: usize, len: usize) -> Change {
    let state = Arc::new(record::test_state(recipients));
    Change::Accept { id: id(n), state, body: NewBody::Inline(vec![Chunk::from(body(n, len))]) }
}

fn poll(store: &mut Store) -> Vec<Event> {
    let mut events = Vec::new();
    store.poll(&mut events);
    events
}

/// Submits and waits; panics if it fails.
fn commit(store: &mut Store, changes: Vec<Change>) {
    let ticket = store.submit(Transaction { changes, urgency: Urgency::Durable }).unwrap();
    let events = poll(store);
    let done = events
        .iter()
        .any(|event| matches!(event, Event::Completed { ticket: done, result: Ok(()) } if *done == ticket));
    assert!(done, "{events:?}");
}

fn octets(parts: &[BodyPart]) -> Vec<u8> {
    let mut all = Vec::new();
    for part in parts {
        match part {
            BodyPart::Bytes(chunk) => all.extend_from_slice(chunk.as_bytes()),
            BodyPart::File { file, offset, len } => {
                let mut some = vec![0; *len as usize];
                assert_eq!(file.read_at(&mut some, *offset).unwrap(), some.len());
                all.extend(some);
            }
        }
    }
    all
}

fn stored_octets(store: &Store, n: u32) -> Vec<u8> {
    octets(&store.message_and_body(id(n)).unwrap().1)
}
