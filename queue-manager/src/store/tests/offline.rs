//! Looking at a spool from outside changes nothing and needs nothing.

use super::super::offline::Offline;
use super::*;

fn written(offline: &Offline, n: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let len = offline.write_message(id(n), &mut out).unwrap();
    assert_eq!(len, out.len() as u64);
    out
}

#[test]
fn everything_is_seen_and_nothing_is_touched() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    for n in 0..60 {
        commit(&mut store, vec![accept(n, 1, 3000)]);
    }
    for n in 0..10 {
        commit(&mut store, vec![Change::Remove { id: id(n), reason: RemoveReason::Settled }]);
    }
    let hold = StateChange::Disposition(Disposition::Hold("x".into()));
    commit(&mut store, vec![Change::State { id: id(42), change: hold }]);
    let mut staging = store.stage(id(99)).unwrap();
    staging.append(&body(99, 50_000)).unwrap();
    let state = Arc::new(record::test_state(2));
    let change = Change::Accept { id: id(99), state, body: NewBody::Staged(staging.finish()) };
    store.submit(Transaction::one(change, Urgency::Durable)).unwrap();
    poll(&mut store);
    poll(&mut store);

    // Beside the running store.
    let ops = disk.ops();
    let (offline, report) = Offline::on(disk.arc(), None).unwrap();
    assert_eq!((offline.len(), report.messages, report.notes), (51, 51, vec![]));
    let all: Vec<_> = offline.messages().collect();
    assert_eq!(all.len(), 51);
    for (id, message) in all {
        assert_eq!(message.unwrap().state, store.message(id).unwrap().state);
    }
    assert_eq!((written(&offline, 42), written(&offline, 99)), (body(42, 3000), body(99, 50_000)));
    assert!(matches!(offline.message(id(3)), Err(ReadError::Unknown)));
    let verified = offline.verify();
    assert!(verified.good == 51 && verified.bad.is_empty() && verified.records > 71, "{verified:?}");
    assert_eq!(disk.ops(), ops, "nothing was written");

    // With damage: the rest is still there.
    drop(store);
    let name = disk.names(Area::Large).remove(0);
    disk.edit(Area::Large, &name, |octets| octets[7] ^= 1);
    let segment = disk.names(Area::Segments).remove(1);
    disk.edit(Area::Segments, &segment, |octets| octets[20_000] ^= 1);
    let ops = disk.ops();
    let (offline, _) = Offline::on(disk.arc(), None).unwrap();
    let verified = offline.verify();
    assert_eq!((verified.good, verified.bad.len()), (49, 2), "{verified:?}");
    assert_eq!((disk.ops(), disk.names(Area::Corrupt).len()), (ops, 0));
}

#[test]
fn a_spool_that_is_no_spool_is_an_error_or_empty() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Offline::open(&dir.path().join("absent")).is_err());
    let store = Unrecovered::open(dir.path(), OPTIONS).unwrap().recover_inline().unwrap().0;
    let (offline, report) = Offline::open(dir.path()).unwrap();
    assert!(offline.is_empty() && report.notes.is_empty() && offline.set_aside().unwrap().is_empty());
    store.close();
}
