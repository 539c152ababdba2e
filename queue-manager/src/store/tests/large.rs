//! Bodies that are files of their own: durable before they are acknowledged, gone with their message, never left over.

use super::*;

fn stage(store: &Store, n: u32, len: usize) -> io::Result<StagedBody> {
    let mut staging = store.stage(id(n))?;
    for chunk in body(n, len).chunks(10_000) {
        staging.append(chunk)?;
    }
    Ok(staging.finish())
}

fn accept_staged(n: u32, staged: StagedBody) -> Change {
    Change::Accept { id: id(n), state: Arc::new(record::test_state(2)), body: NewBody::Staged(staged) }
}

/// Bodies are published in one poll and their record is committed in the next.
fn commit_large(store: &mut Store, n: u32, len: usize) -> bool {
    let Ok(staged) = stage(store, n, len) else { return false };
    let Ok(ticket) = store.submit(Transaction::one(accept_staged(n, staged), Urgency::Durable)) else {
        return false;
    };
    let events = [poll(store), poll(store)].concat_events();
    events
        .iter()
        .any(|event| matches!(event, Event::Completed { ticket: done, result: Ok(()) } if *done == ticket))
}

trait ConcatEvents {
    fn concat_events(self) -> Vec<Event>;
}

impl ConcatEvents for [Vec<Event>; 2] {
    fn concat_events(self) -> Vec<Event> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn a_large_body_lives_and_dies_with_its_message() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    let staged = stage(&store, 1, 100_000).unwrap();
    assert_eq!((disk.names(Area::Staging).len(), staged.len()), (1, 100_000));
    drop(staged);
    assert!(disk.names(Area::Staging).is_empty(), "dropped is removed");
    assert!(commit_large(&mut store, 1, 100_000));
    assert_eq!(stored_octets(&store, 1), body(1, 100_000));
    let (mut store, mut summaries, report) = open(&disk.after_power_cut(0));
    assert_eq!((report.notes, summaries.next().unwrap().stored_len), (vec![], 100_000));
    assert_eq!(stored_octets(&store, 1), body(1, 100_000));
    let mut state = record::test_state(2);
    state.pieces =
        Some(vec![Piece::Inline(b"X: y\r\n".as_slice().into()), Piece::Stored { offset: 10, len: 99_000 }]);
    commit(&mut store, vec![Change::Revise { id: id(1), state: Box::new(state) }]);
    assert_eq!(stored_octets(&store, 1), [b"X: y\r\n", &body(1, 100_000)[10..99_010]].concat());
}

#[test]
fn the_file_goes_only_when_the_removal_is_durable() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    assert!(commit_large(&mut store, 1, 50_000));
    let remove = Change::Remove { id: id(1), reason: RemoveReason::Settled };
    store.submit(Transaction::one(remove, Urgency::Lazy)).unwrap();
    assert!(poll(&mut store).is_empty(), "not even reported");
    assert_eq!(disk.names(Area::Large).len(), 1);
    store.sync(&mut Vec::new());
    poll(&mut store);
    assert!(disk.names(Area::Large).is_empty() && store.is_empty());
    assert_eq!(open(&disk.after_power_cut(0)).2.messages, 0);
}

#[test]
fn compaction_carries_the_reference() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    assert!(commit_large(&mut store, 1, 50_000));
    let before = store.index.at(store.index.find(id(1)).unwrap()).unwrap().base.epoch;
    for n in 100..400 {
        commit(&mut store, vec![accept(n, 1, 3000)]);
        commit(&mut store, vec![Change::Remove { id: id(n), reason: RemoveReason::Settled }]);
    }
    let after = store.index.at(store.index.find(id(1)).unwrap()).unwrap().base.epoch;
    assert!(after > before, "it has moved");
    let (store, _, report) = open(&disk.after_power_cut(0));
    assert_eq!((report.messages, report.notes), (1, vec![]));
    assert_eq!(stored_octets(&store, 1), body(1, 50_000));
}

#[test]
fn every_cut_leaves_the_whole_body_or_none_of_it() {
    let script = |disk: &SimDisk| {
        let mut acknowledged = Vec::new();
        let Ok((mut store, ..)) = Unrecovered::on(disk.arc(), OPTIONS).recover_inline() else {
            return acknowledged;
        };
        for n in 1..4 {
            if commit_large(&mut store, n, 30_000 * n as usize) {
                acknowledged.push(n);
            }
        }
        acknowledged
    };
    let whole = SimDisk::default();
    assert_eq!(script(&whole), [1, 2, 3]);
    for op in 1..=whole.ops() {
        let disk = SimDisk::default();
        disk.crash_at(op);
        let acknowledged = script(&disk);
        for seed in 0..4 {
            let disk = disk.after_power_cut(seed);
            let (store, _, report) = open(&disk);
            assert_eq!(report.notes, [], "{op}");
            assert!(acknowledged.iter().all(|n| store.contains(id(*n))), "{op}");
            for n in (1..4).filter(|n| store.contains(id(*n))) {
                assert_eq!(stored_octets(&store, n), body(n, 30_000 * n as usize), "{op}");
            }
            assert_eq!(disk.names(Area::Large).len(), store.len(), "{op}: nothing is left over");
            assert!(disk.names(Area::Staging).is_empty());
        }
    }
}

#[test]
fn a_missing_or_cut_body_is_reported_and_an_orphan_is_kept_where_there_is_damage() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    assert!(commit_large(&mut store, 1, 50_000) && commit_large(&mut store, 2, 50_000));
    drop(store);
    let names = disk.names(Area::Large);
    disk.edit(Area::Large, &names[0], |octets| octets.truncate(100));
    let (store, ..) = open(&disk);
    assert!(matches!(store.message_and_body(id(1)), Err(ReadError::Damaged(_))));
    drop(store);
    disk.remove(Area::Large, &names[0]).unwrap();
    let (_, _, report) = open(&disk);
    assert_eq!(report.notes, [Note::BodyMissing(id(1))]);
    let segment = disk.names(Area::Segments).remove(0);
    disk.edit(Area::Segments, &segment, |octets| octets[4096 + 100..4700].fill(1));
    let (store, _, report) = open(&disk);
    assert!(!store.contains(id(2)) && report.notes.contains(&Note::BodyOrphaned(names[1].clone())));
    assert!(disk.names(Area::Corrupt).contains(&names[1]));
}
