//! Spools that somebody or something has damaged: what is whole is served, what is not is set aside and reported.

use super::*;
use proptest::prelude::*;
use std::sync::OnceLock;

/// Forty messages in several segments.
fn spool() -> SimDisk {
    static SPOOL: OnceLock<SimDisk> = OnceLock::new();
    SPOOL.get_or_init(make_spool).after_kill()
}

fn make_spool() -> SimDisk {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    for n in 0..40 {
        commit(&mut store, vec![accept(n, 1, 4000)]);
    }
    disk
}

/// Messages that can be read; all of them must be what they were.
fn readable(store: &Store) -> Vec<u32> {
    let mut good = Vec::new();
    for n in (0..40).filter(|n| store.contains(id(*n))) {
        if let Ok((message, parts)) = store.message_and_body(id(n)) {
            assert_eq!((octets(&parts), message.state), (body(n, 4000), record::test_state(1)));
            good.push(n);
        }
    }
    good
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.names(Area::Segments)
}

#[test]
fn a_flipped_bit_costs_one_message_at_most() {
    let whole = spool();
    let name = segments(&whole).remove(0);
    for at in (0..65_536).step_by(997) {
        let disk = whole.after_kill();
        for index in disk.names(Area::Index) {
            disk.edit(Area::Index, &index, Vec::clear);
        }
        disk.edit(Area::Segments, &name, |octets| octets[at] ^= 1 << (at % 8));
        let (store, _, report) = open(&disk);
        let good = readable(&store).len();
        assert!(good >= 39, "bit at {at}: {good}");
        assert_eq!(good == 39, !report.notes.is_empty(), "bit at {at}: {:?}", report.notes);
        if let [Note::Damaged { id, .. }] = &report.notes[..] {
            assert!(disk.names(Area::Corrupt).len() == 1 && id.is_none_or(|id| !store.contains(id)));
        }
    }
}

#[test]
fn a_flipped_bit_behind_a_sidecar_is_seen_when_the_message_is_read() {
    let disk = spool();
    disk.edit(Area::Segments, &segments(&disk)[0], |octets| octets[10_000] ^= 1);
    let (store, ..) = open(&disk);
    assert_eq!((store.len(), readable(&store).len()), (40, 39));
}

#[test]
fn an_unreadable_sector_costs_one_message() {
    let disk = spool();
    for index in disk.names(Area::Index) {
        disk.edit(Area::Index, &index, Vec::clear);
    }
    disk.bad_sector(Area::Segments, &segments(&disk)[1], 50);
    let (store, _, report) = open(&disk);
    assert_eq!(readable(&store).len(), 39);
    assert!(matches!(report.notes[..], [Note::Damaged { .. }]), "{:?}", report.notes);
}

#[test]
fn a_segment_cut_short_loses_its_end_only() {
    let whole = spool();
    let name = segments(&whole).remove(0);
    for len in [100, 5000, 20_000, 65_000] {
        let disk = whole.after_kill();
        disk.edit(Area::Segments, &name, |octets| octets.truncate(len));
        let (store, _, report) = open(&disk);
        let lost = 40 - readable(&store).len();
        assert!(lost <= (65_536 - len) / 4300 + 1, "{len}: {lost}");
        assert!(!report.notes.is_empty());
    }
}

#[test]
fn copies_links_and_swapped_names_change_nothing() {
    let disk = spool();
    let names = segments(&disk);
    let (first, second) = (disk.octets(Area::Segments, &names[0]), disk.octets(Area::Segments, &names[1]));
    disk.edit(Area::Segments, &names[0], |octets| *octets = second);
    disk.edit(Area::Segments, &names[1], |octets| *octets = first.clone());
    disk.put(Area::Segments, "0000000777.seg", first);
    disk.link(Area::Segments, &names[2], "0000000778.seg");
    let (mut store, _, report) = open(&disk);
    assert_eq!(readable(&store).len(), 40);
    let duplicates = report.notes.iter().filter(|note| matches!(note, Note::Duplicate(_))).count();
    assert_eq!((duplicates, report.notes.len()), (2, 2), "{:?}", report.notes);
    commit(&mut store, vec![accept(100, 1, 10)]);
    assert_eq!(open(&disk.after_kill()).2.messages, 41);
}

#[test]
fn strangers_are_left_alone() {
    let disk = spool();
    let other = make_spool();
    let foreign = other.octets(Area::Segments, &segments(&other)[0]);
    let mut future = disk.octets(Area::Segments, &segments(&disk)[0]);
    for at in [8, 65_536 - 4096 + 8] {
        future[at] = 9;
    }
    disk.put(Area::Segments, "0000000801.seg", foreign.clone());
    disk.put(Area::Segments, "0000000802.seg", future.clone());
    disk.put(Area::Segments, "0000000803.seg", b"hello".to_vec());
    disk.put(Area::Segments, "README", b"hello".to_vec());
    let (mut store, _, report) = open(&disk);
    assert_eq!(readable(&store).len(), 40);
    assert_eq!(report.notes.len(), 4, "{:?}", report.notes);
    assert!(report.notes.contains(&Note::OtherVersion("0000000802.seg".into(), 9)));
    for n in 100..200 {
        commit(&mut store, vec![accept(n, 1, 4000)]);
    }
    assert_eq!(disk.octets(Area::Segments, "0000000801.seg"), foreign);
    assert_eq!(disk.octets(Area::Segments, "0000000802.seg"), future);
    assert_eq!(disk.octets(Area::Segments, "0000000803.seg"), b"hello");
}

#[test]
fn a_destroyed_header_is_replaced_by_its_copy() {
    let disk = spool();
    let name = segments(&disk).remove(0);
    disk.edit(Area::Segments, &name, |octets| octets[..4096].fill(0xaa));
    let (store, _, report) = open(&disk);
    assert_eq!((readable(&store).len(), report.notes), (40, vec![]));
    drop(store);
    disk.edit(Area::Segments, &name, |octets| octets[65_536 - 4096..].fill(0));
    disk.edit(Area::Segments, &name, |octets| octets[..10].copy_from_slice(b"vSMTPseg\x01\x00"));
    let (store, _, report) = open(&disk);
    assert!(readable(&store).len() >= 25);
    assert!(report.notes.contains(&Note::Unreadable(name.clone())), "{:?}", report.notes);
    assert_eq!(disk.names(Area::Corrupt), [name]);
}

#[test]
fn a_missing_segment_is_reported() {
    let disk = spool();
    let name = segments(&disk).remove(1);
    disk.remove(Area::Segments, &name).unwrap();
    let (store, _, report) = open(&disk);
    assert!(matches!(report.notes[..], [Note::Missing(_)]), "{:?}", report.notes);
    assert!(readable(&store).len() >= 25);
}

#[test]
fn a_sidecar_is_never_believed_over_the_log() {
    let whole = spool();
    let index = whole.names(Area::Index);
    assert!(index.len() >= 2);
    for seed in 0..300 {
        let disk = whole.after_kill();
        let mut dice = sim::Dice(seed);
        for name in &index {
            disk.edit(Area::Index, name, |octets| match dice.below(3) {
                _ if octets.is_empty() => octets.extend([1; 99]),
                0 => octets.truncate(dice.below(octets.len() as u64 + 1) as usize),
                _ => {
                    let at = dice.below(octets.len() as u64) as usize;
                    octets[at] ^= 1 << dice.below(8);
                }
            });
        }
        let (store, _, report) = open(&disk);
        assert_eq!((readable(&store).len(), report.notes), (40, vec![]), "{seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_octets_can_stop_the_start(
        edits in proptest::collection::vec((0usize..4, 0usize..65_536, proptest::collection::vec(0u8..=255, 1..600)), 1..12)
    ) {
        let disk = spool();
        let names = segments(&disk);
        for (which, at, octets) in edits {
            disk.edit(Area::Segments, &names[which % names.len()], |file| {
                let end = (at + octets.len()).min(file.len());
                file[at..end].copy_from_slice(&octets[..end - at]);
            });
        }
        let (mut store, _, _) = open(&disk);
        readable(&store);
        commit(&mut store, vec![accept(1000, 1, 100)]);
        prop_assert_eq!(stored_octets(&store, 1000), body(1000, 100));
    }
}

/// Gives the first record of a segment another sequence, with right checksums.
fn renumber(octets: &mut [u8], sequence: u64) {
    let header::SegmentStart::Valid(segment) = header::SegmentHeader::decode(octets) else {
        panic!("no segment")
    };
    let start = layout::SEGMENT_BLOCK as usize;
    let record = header::RecordHeader::decode(&octets[start..], segment.seed(), segment.epoch).unwrap();
    let record = header::RecordHeader { sequence, ..record }.encode(segment.seed());
    octets[start..start + record.len()].copy_from_slice(&record);
}

#[test]
fn what_cannot_be_numbered_any_more_is_refused_and_not_accepted_and_lost() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    commit(&mut store, vec![accept(0, 1, 4000)]);
    let (mut accepted, mut refused) = (0, 0);
    for left in 0..6 {
        let disk = disk.after_kill();
        disk.edit(Area::Segments, &segments(&disk)[0], |octets| {
            renumber(octets, layout::MAX_SEQUENCE - left)
        });
        let (mut store, ..) = open(&disk);
        let change = accept(1, 1, 4000);
        let ticket = store.submit(Transaction::one(change, Urgency::Durable)).unwrap();
        let is_done = poll(&mut store).iter().any(
            |event| matches!(event, Event::Completed { ticket: done, result: Ok(()) } if *done == ticket),
        );
        store.close();
        let (store, ..) = open(&disk);
        let expected: &[u32] = if is_done { &[0, 1] } else { &[0] };
        assert_eq!(readable(&store), expected, "{left} left");
        if is_done { accepted += 1 } else { refused += 1 }
    }
    assert!(accepted > 0 && refused > 0, "{accepted} {refused}");
}
