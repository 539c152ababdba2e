//! A disk that fails: what was not acknowledged is refused, what was is there, and the store goes on.

use super::*;

fn submit(store: &mut Store, change: Change, urgency: Urgency) -> Ticket {
    store.submit(Transaction::one(change, urgency)).unwrap()
}

fn result_of(events: &[Event], ticket: Ticket) -> Option<Result<(), CommitError>> {
    events.iter().find_map(|event| match event {
        Event::Completed { ticket: done, result } if *done == ticket => Some(result.clone()),
        _ => None,
    })
}

fn alarms(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Alarm(_))).count()
}

fn held(n: u32) -> Change {
    Change::State { id: id(n), change: StateChange::Disposition(Disposition::Hold("x".into())) }
}

#[test]
fn a_failed_sync_fails_its_batch_and_is_not_tried_again() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    commit(&mut store, vec![accept(1, 1, 1000)]);
    disk.fail_sync(disk.syncs() + 1);
    let ticket = submit(&mut store, accept(2, 1, 1000), Urgency::Durable);
    let events = poll(&mut store);
    assert!(matches!(result_of(&events, ticket), Some(Err(CommitError::Failed(_)))), "{events:?}");
    assert_eq!((alarms(&events), store.contains(id(2)), store.len()), (1, false, 1));
    // The same id may be submitted again, and lands in another segment.
    commit(&mut store, vec![accept(2, 1, 1000)]);
    let segments: Vec<_> =
        [1, 2].map(|n| store.index.at(store.index.find(id(n)).unwrap()).unwrap().base.epoch).to_vec();
    assert!(segments[0] < segments[1], "{segments:?}");
    for seed in 0..4 {
        let (store, _, report) = open(&disk.after_power_cut(seed));
        assert_eq!((report.messages, report.notes), (2, vec![]), "{seed}");
        assert_eq!(stored_octets(&store, 2), body(2, 1000));
    }
}

#[test]
fn a_refused_message_is_never_seen_again_though_its_octets_are_on_the_disk() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    commit(&mut store, vec![accept(1, 1, 1000)]);
    disk.fail_sync(disk.syncs() + 1);
    submit(&mut store, accept(2, 1, 1000), Urgency::Durable);
    poll(&mut store);
    commit(&mut store, vec![accept(3, 1, 1000)]);
    let (store, _, report) = open(&disk.after_kill());
    assert_eq!((report.messages, report.notes), (2, vec![]));
    assert!(!store.contains(id(2)));
}

#[test]
fn what_was_reported_before_its_sync_is_written_again_when_the_sync_fails() {
    for failing_write in [false, true] {
        let disk = SimDisk::default();
        let (mut store, ..) = open(&disk);
        commit(&mut store, vec![accept(1, 1, 100), accept(2, 1, 100), accept(4, 1, 100)]);
        let lazy = submit(&mut store, held(1), Urgency::Lazy);
        let removal =
            submit(&mut store, Change::Remove { id: id(2), reason: RemoveReason::Settled }, Urgency::Lazy);
        let events = poll(&mut store);
        assert_eq!((result_of(&events, lazy), result_of(&events, removal)), (Some(Ok(())), Some(Ok(()))));
        if failing_write {
            disk.fail_at(disk.ops() + 1, io::ErrorKind::Other);
        } else {
            disk.fail_sync(disk.syncs() + 1);
        }
        let failed = submit(&mut store, accept(3, 1, 100), Urgency::Durable);
        let background = submit(&mut store, held(4), Urgency::Background);
        let events = poll(&mut store);
        assert!(matches!(result_of(&events, failed), Some(Err(_))));
        assert_eq!(
            result_of(&events, background),
            Some(Ok(())),
            "it is nobody's 250: it finds a place at once"
        );
        for (disk, seed) in (0..4).map(|seed| (disk.after_power_cut(seed), seed)) {
            let (again, _, report) = open(&disk);
            assert_eq!((report.messages, report.notes), (2, vec![]), "{seed}");
            for n in [1, 4] {
                assert!(!again.message(id(n)).unwrap().state.disposition.is_active());
            }
        }
        assert!(!store.message(id(1)).unwrap().state.disposition.is_active(), "it was moved");
        // Later changes of a moved record find it.
        let results = vec![(0, RecipientState::Delivered(None))];
        commit(&mut store, vec![Change::Outcome { id: id(1), results }]);
        let state = open(&disk.after_power_cut(0)).0.message(id(1)).unwrap().state;
        assert!(state.is_settled() && !state.disposition.is_active());
    }
}

#[test]
fn every_failing_operation_is_survived() {
    let total = {
        let disk = SimDisk::default();
        fill(&disk, 20);
        disk.ops()
    };
    for op in 1..=total {
        let disk = SimDisk::default();
        disk.fail_at(op, io::ErrorKind::Other);
        let acknowledged = fill(&disk, 20);
        for seed in 0..2 {
            let (store, _, report) = open(&disk.after_power_cut(seed));
            assert_eq!(report.notes, [], "operation {op}");
            for n in &acknowledged {
                assert_eq!(stored_octets(&store, *n), body(*n, 4000), "operation {op}");
            }
            assert_eq!(store.len(), acknowledged.len(), "operation {op}");
        }
        assert!(acknowledged.len() >= 18 || op < 6, "operation {op}: {acknowledged:?}");
    }
}

/// Accepts messages one by one, each again if it is refused; returns what was acknowledged.
fn fill(disk: &SimDisk, count: u32) -> Vec<u32> {
    let Ok((mut store, ..)) = Unrecovered::on(disk.arc(), OPTIONS).recover_inline() else { return vec![] };
    let mut acknowledged = Vec::new();
    for n in 0..count {
        let ticket = submit(&mut store, accept(n, 1, 4000), Urgency::Durable);
        if result_of(&poll(&mut store), ticket) == Some(Ok(())) {
            acknowledged.push(n);
        }
    }
    acknowledged
}

#[test]
fn a_full_disk_refuses_new_messages_and_lets_the_queue_drain() {
    let disk = SimDisk::default();
    disk.set_free(Some(6 * OPTIONS.segment_bytes));
    let (mut store, ..) = open(&disk);
    let mut accepted = Vec::new();
    let (mut refused, mut refused_early) = (0, 0);
    for n in 0..200 {
        match store.submit(Transaction::one(accept(n, 1, 5000), Urgency::Durable)) {
            Err(error) => {
                assert_eq!(error, SubmitError::Full);
                refused_early += 1;
                store.trim();
            }
            Ok(ticket) => match result_of(&poll(&mut store), ticket).unwrap() {
                Ok(()) => accepted.push(n),
                Err(error) => {
                    assert_eq!(error, CommitError::Full);
                    refused += 1;
                }
            },
        }
    }
    let counts = (accepted.len(), refused, refused_early);
    assert!(counts.0 > 30 && counts.1 > 40 && counts.2 > 40, "{counts:?}");
    assert_eq!(store.len(), accepted.len());
    let ops = disk.ops();
    (0..100).for_each(|_| drop(poll(&mut store)));
    assert_eq!(disk.ops(), ops, "a full disk is not asked again and again");
    // A change of every message still works, many times over.
    for n in &accepted {
        commit(&mut store, vec![held(*n)]);
    }
    for n in &accepted {
        assert_eq!(stored_octets(&store, *n), body(*n, 5000));
        commit(&mut store, vec![Change::Remove { id: id(*n), reason: RemoveReason::Settled }]);
    }
    assert!(store.is_empty());
    // And then there is room again.
    store.trim();
    poll(&mut store);
    for n in 1000..1030 {
        commit(&mut store, vec![accept(n, 1, 5000)]);
    }
    assert_eq!(open(&disk.after_power_cut(0)).2.messages, 30);
}

#[test]
fn new_messages_leave_room_for_changes_however_often_they_are_tried() {
    let disk = SimDisk::default();
    disk.set_free(Some(12 * OPTIONS.segment_bytes));
    let options = Options { low_water_bytes: 4 * OPTIONS.segment_bytes, ..OPTIONS };
    let (mut store, ..) = Unrecovered::on(disk.arc(), options).recover_inline().unwrap();
    let mut accepted = Vec::new();
    for n in 0..3000 {
        if let Ok(ticket) = store.submit(Transaction::one(accept(n, 1, 2000), Urgency::Durable))
            && result_of(&poll(&mut store), ticket) == Some(Ok(()))
        {
            accepted.push(n);
        }
        // Panics if it is refused.
        let one = accepted[n as usize % accepted.len()];
        commit(&mut store, vec![held(one)]);
        if n % 50 == 0 {
            store.trim();
        }
    }
    assert!((50..3000).contains(&accepted.len()), "{}", accepted.len());
    let low = disk.free_bytes().unwrap();
    assert!(low >= 2 * OPTIONS.segment_bytes, "changes take little of what is kept back: {low}");
    assert_eq!(open(&disk.after_power_cut(0)).2.messages, accepted.len());
}

#[test]
fn a_message_that_cannot_be_read_is_tried_again_and_then_set_aside() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    for n in 0..20 {
        commit(&mut store, vec![accept(n, 1, 5000)]);
    }
    let segment = disk.names(Area::Segments).remove(0);
    disk.bad_sector(Area::Segments, &segment, 30);
    let mut unreadable = Vec::new();
    for n in 0..20 {
        let remove = Change::Remove { id: id(n), reason: RemoveReason::Settled };
        if n > 4 {
            store.submit(Transaction::one(remove, Urgency::Durable)).unwrap();
        }
        poll(&mut store);
    }
    for n in 100..400 {
        store.submit(Transaction::one(accept(n, 1, 3000), Urgency::Durable)).unwrap();
        let mut events = poll(&mut store);
        let remove = Change::Remove { id: id(n), reason: RemoveReason::Settled };
        store.submit(Transaction::one(remove, Urgency::Durable)).unwrap();
        events.extend(poll(&mut store));
        unreadable.extend(events.into_iter().filter_map(|event| match event {
            Event::Alarm(Alarm::Unreadable(id, _)) => Some((n, id)),
            _ => None,
        }));
        if n % 10 == 0 {
            store.trim();
        }
    }
    // What waited behind it is made up for.
    for _ in 0..40 {
        poll(&mut store);
    }
    let [(when, lost)] = unreadable[..] else { panic!("{unreadable:?}") };
    assert!(when > 200, "tried often: {when}");
    assert!(!store.contains(lost) && store.len() == 4);
    assert!(disk.names(Area::Corrupt)[0].starts_with(&lost.to_string()));
    assert!(store.space().log_bytes <= 3 * OPTIONS.segment_bytes, "{:?}", store.space());
    for n in (0..5).filter(|n| id(*n) != lost) {
        assert_eq!(stored_octets(&store, n), body(n, 5000));
    }
}

#[test]
fn a_disk_that_reads_nothing_for_a_while_costs_no_message() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    let kept = 40;
    for n in 0..kept {
        commit(&mut store, vec![accept(n, 1, 1000)]);
    }
    let mut events = Vec::new();
    for n in 1000..1200 {
        disk.set_blind((1020..1150).contains(&n));
        commit(&mut store, vec![accept(n, 1, 3000)]);
        commit(&mut store, vec![Change::Remove { id: id(n), reason: RemoveReason::Settled }]);
        store.trim();
        events.extend(poll(&mut store));
    }
    assert_eq!((alarms(&events), disk.names(Area::Corrupt).len()), (0, 0), "{events:?}");
    let moved = store.index.at(store.index.find(id(0)).unwrap()).unwrap().base.epoch;
    assert!(moved > 1, "they were moved when the disk did better");
    let (store, _, report) = open(&disk.after_power_cut(0));
    assert_eq!((report.messages, report.notes), (kept as usize, vec![]));
    for n in 0..kept {
        assert_eq!(stored_octets(&store, n), body(n, 1000));
    }
}

#[test]
fn a_disk_that_fails_while_there_is_room_is_not_taken_for_a_full_one() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    // Whatever is done to the disk from now on fails: among it the making of free segments.
    for op in disk.ops() + 1..disk.ops() + 400 {
        disk.fail_at(op, io::ErrorKind::Other);
    }
    let mut refused = 0;
    for n in 0..40 {
        match store.submit(Transaction::one(accept(n, 1, 5000), Urgency::Durable)) {
            Ok(ticket) => match result_of(&poll(&mut store), ticket) {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    assert!(matches!(error, CommitError::Failed(_)), "{n}: {error:?}");
                    refused += 1;
                }
                None => panic!("{n}: nothing was said"),
            },
            Err(error) => {
                assert_ne!(error, SubmitError::Full, "{n}");
                refused += 1;
            }
        }
        // A change that is not waited for has found no place either; what comes after it is not refused for a full disk.
        if n % 10 == 5 {
            store.trim();
        }
    }
    assert!(refused > 0);
    assert!(disk.ops() < 10_000, "a failing disk is not asked again and again");
}

/// The process under test is this program once more.
#[test]
fn a_thread_that_panics_takes_the_process_with_it() {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    /// Its spool. It does not live to remove it.
    const AGAIN: &str = "VSMTP_TEST_OF_A_PANIC";
    if let Some(dir) = std::env::var_os(AGAIN) {
        let unrecovered = Unrecovered::open(dir.as_ref(), OPTIONS).unwrap();
        // Called on the committer's thread once it has something to say.
        let (mut store, ..) = unrecovered.recover(Box::new(|| panic!("on purpose"))).unwrap();
        store.submit(Transaction::one(accept(1, 1, 100), Urgency::Durable)).unwrap();
        store.close();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "store::tests::faults::a_thread_that_panics_takes_the_process_with_it"]);
    let status = again.env(AGAIN, dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.signal(), Some(6), "{status}");
}
