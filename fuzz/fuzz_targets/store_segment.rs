//! A spool whose segments were written by somebody who knows the checksums: the records say anything. The store starts,
//! serves what it understands, goes on working, and finds the same at its next start.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use vsmtp_fuzz::cut::Fields;
use vsmtp_fuzz::disk::MemoryDisk;
use vsmtp_fuzz::spool::{HandMade, HandMadeRecord, Links, accept, body, id, octets, open, try_commit};
use vsmtp_queue_manager::store::{Area, Message, Store};

/// Most records of one input.
const MAX_RECORDS: usize = 64;
/// Messages that records may speak of.
const MESSAGES: u8 = 4;
/// Octets of the bodies that records have.
const BODY: usize = 64;

fuzz_target!(|input: &[u8]| {
    let disk = spool(Fields(input));
    let (mut store, _) = open(&disk);
    let before = readable(&store);
    // A spool whose numbers are used up takes nothing more, and says so.
    let is_accepted = try_commit(&mut store, accept(200, 100));
    store.close();
    let (store, _) = open(&disk);
    if is_accepted {
        let (message, parts) = store.message_and_body(id(200)).expect("what was committed");
        assert_eq!((octets(&parts), message.state), (body(200, 100), vsmtp_fuzz::spool::state(200)));
    }
    assert_eq!(readable(&store), before);
});

fn readable(store: &Store) -> BTreeMap<u8, Message> {
    let mut found = BTreeMap::new();
    for n in (0..MESSAGES).filter(|n| store.contains(id(*n))) {
        let Ok(message) = store.message(id(n)) else { continue };
        assert_eq!(message.state.progress.len(), message.state.envelope.recipients.len());
        if let Ok((again, parts)) = store.message_and_body(id(n)) {
            assert_eq!(again, message);
            assert_eq!(octets(&parts).len() as u64, message.len());
        }
        found.insert(n, message);
    }
    found
}

fn spool(mut fields: Fields<'_>) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let (mut epoch, mut number, mut sequence) = (1, 1, 0u64);
    let links = Links { tail: 0, previous: (0, 0), first_sequence: 1 };
    let mut segment = HandMade::new(epoch, number, &links);
    let content = body(0, BODY);
    for _ in 0..MAX_RECORDS {
        if fields.is_empty() {
            break;
        }
        let shape = fields.octet();
        if shape & 1 != 0 {
            let previous = (epoch, segment.end());
            let full = std::mem::replace(&mut segment, {
                epoch =
                    if shape & 2 != 0 { epoch.saturating_add(0x4000_0000) } else { epoch.saturating_add(1) };
                number += 1;
                let tail = u32::from(fields.octet());
                HandMade::new(
                    epoch,
                    number,
                    &Links { tail, previous, first_sequence: sequence.saturating_add(1) },
                )
            });
            put(&disk, number - 1, full);
        }
        sequence = match shape >> 2 & 3 {
            3 => sequence.saturating_add(u64::MAX / 2),
            2 => sequence.saturating_add(1000),
            _ => sequence.saturating_add(1),
        };
        let around = match shape >> 4 & 3 {
            0 => (0, 0),
            1 => (0, 1),
            2 => (1, 0),
            _ => (u16::MAX, u16::MAX),
        };
        let (kind, who) = (fields.octet(), fields.octet() % MESSAGES);
        segment.push(&HandMadeRecord {
            kind,
            id: id(who),
            sequence,
            lag: if shape & 64 != 0 { u32::MAX } else { 1 },
            around,
            meta: fields.counted(),
            body: if shape & 128 != 0 { &content } else { &[] },
        });
    }
    put(&disk, number, segment);
    disk
}

fn put(disk: &MemoryDisk, number: u64, segment: HandMade) {
    disk.put(Area::Segments, &format!("{number:010}.seg"), segment.into_octets());
}
