//! Without faults: accept, change, read, remove, start again.

use super::*;
use vsmtp_mail::EnhancedCode;

fn waiting(attempts: u16, until: u64) -> RecipientState {
    let text = format!("421 attempt {attempts}");
    let last = Some(Diagnostic { status: EnhancedCode(4, 4, 1), remote: None, text: text.as_str().into() });
    RecipientState::Waiting { attempts, until, last }
}

#[test]
fn a_message_comes_back_as_it_was_accepted() {
    let disk = SimDisk::default();
    let (mut store, summaries, report) = open(&disk);
    assert_eq!((summaries.count(), report), (0, RecoveryReport::default()));
    commit(&mut store, vec![accept(1, 3, 5000)]);
    assert_eq!(stored_octets(&store, 1), body(1, 5000));
    drop(store);
    for disk in [disk.after_kill(), disk.after_power_cut(0)] {
        let (store, mut summaries, report) = open(&disk);
        assert_eq!((report.messages, report.notes), (1, vec![]));
        assert_eq!(store.message(id(1)).unwrap().state, record::test_state(3));
        assert_eq!(stored_octets(&store, 1), body(1, 5000));
        let summary = summaries.next().unwrap();
        assert_eq!((summary.id, summary.stored_len, summary.recipients.len()), (id(1), 5000, 3));
        let hops: Vec<_> =
            summary.recipients.iter().map(|one| summaries.hop(one.hop).unwrap().to_string()).collect();
        assert_eq!(hops, ["smtp:b.test", "smtp:[mx.b.test]:2525", "smtp:[192.0.2.1]:25"]);
    }
}

#[test]
fn changes_add_up_and_survive() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    commit(&mut store, vec![accept(1, 3, 100)]);
    let mut expected = record::test_state(3);
    for n in 1..100 {
        let results = vec![(n % 3, waiting(n as u16, u64::from(n)))];
        expected.apply(&results);
        commit(&mut store, vec![Change::Outcome { id: id(1), results }]);
        if n % 10 == 0 {
            let change = StateChange::Disposition(Disposition::Hold(format!("hold {n}").as_str().into()));
            expected.change(&change);
            commit(&mut store, vec![Change::State { id: id(1), change }]);
        }
    }
    assert_eq!(store.message(id(1)).unwrap().state, expected);
    let known = store.index.at(store.index.find(id(1)).unwrap()).unwrap();
    assert!(known.chain <= 33, "the chain is cut: {}", known.chain);
    let (store, mut summaries, _) = open(&disk.after_power_cut(0));
    assert_eq!(store.message(id(1)).unwrap().state, expected);
    let summary = summaries.next().unwrap();
    assert_eq!(summary.disposition, DispositionKind::Hold);
    let briefs: Vec<_> = summary.recipients.iter().map(|one| one.state.attempts).collect();
    assert_eq!(briefs, [99, 97, 98]);
}

#[test]
fn several_changes_of_one_message_may_be_on_their_way() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    commit(&mut store, vec![accept(1, 3, 100)]);
    let mut expected = record::test_state(3);
    for n in 0..9 {
        let results = vec![(n % 3, waiting(n as u16, 5))];
        expected.apply(&results);
        let urgency = if n % 2 == 0 { Urgency::Lazy } else { Urgency::Durable };
        store.submit(Transaction::one(Change::Outcome { id: id(1), results }, urgency)).unwrap();
        if n == 4 {
            poll(&mut store);
        }
    }
    poll(&mut store);
    assert_eq!(store.message(id(1)).unwrap().state, expected);
    assert_eq!(open(&disk.after_power_cut(0)).0.message(id(1)).unwrap().state, expected);
}

/// The main loop hears of an outcome before the sync, and of the copy that it follows only after it.
#[test]
fn a_message_that_is_being_moved_reads_with_what_happens_meanwhile() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    commit(&mut store, vec![accept(0, 1, 100)]);
    let (mut attempts, began) = (0, store.segments.keys().next().copied());
    for n in 1..40 {
        let remove = Change::Remove { id: id(n), reason: RemoveReason::Settled };
        for change in [accept(n, 1, 8_000), remove] {
            commit(&mut store, vec![change]);
            attempts += 1;
            let results = vec![(0, waiting(attempts, 5))];
            store.submit(Transaction::one(Change::Outcome { id: id(0), results }, Urgency::Lazy)).unwrap();
            poll(&mut store);
            let state = store.message(id(0)).unwrap().state;
            assert_eq!((&state.progress[0], state.disposition), (&waiting(attempts, 5), Disposition::Active));
        }
    }
    assert_ne!(store.segments.keys().next().copied(), began, "it was moved");
}

#[test]
fn pieces_are_laid_over_the_stored_body() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    commit(&mut store, vec![accept(1, 1, 5000)]);
    let mut state = record::test_state(1);
    state.pieces = Some(vec![
        Piece::Inline(b"X: y\r\n".as_slice().into()),
        Piece::Stored { offset: 100, len: 4000 },
        Piece::Stored { offset: 0, len: 3 },
    ]);
    commit(&mut store, vec![Change::Revise { id: id(1), state: Box::new(state.clone()) }]);
    let whole = body(1, 5000);
    let expected = [b"X: y\r\n", &whole[100..4100], &whole[..3]].concat();
    assert_eq!(stored_octets(&store, 1), expected);
    let (store, ..) = open(&disk.after_power_cut(0));
    let (message, parts) = store.message_and_body(id(1)).unwrap();
    assert_eq!((octets(&parts), message.len(), message.stored_len), (expected, 4009, 5000));
}

#[test]
fn removed_messages_stay_removed() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    commit(&mut store, (1..=5).map(|n| accept(n, 1, 100)).collect());
    commit(&mut store, vec![Change::Remove { id: id(3), reason: RemoveReason::Settled }]);
    assert!(!store.contains(id(3)) && store.len() == 4);
    assert!(matches!(store.message(id(3)), Err(ReadError::Unknown)));
    let (store, summaries, _) = open(&disk.after_power_cut(0));
    assert_eq!((store.len(), summaries.count(), store.contains(id(3))), (4, 4, false));
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_written() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    commit(&mut store, vec![accept(1, 1, 100)]);
    let ops = disk.ops();
    let mut refuse = |changes, error| {
        assert_eq!(store.submit(Transaction { changes, urgency: Urgency::Durable }), Err(error));
    };
    refuse(vec![], SubmitError::Empty);
    refuse(vec![accept(1, 1, 100)], SubmitError::Duplicate(id(1)));
    refuse(vec![accept(2, 1, 100), accept(2, 1, 100)], SubmitError::Duplicate(id(2)));
    refuse(vec![accept(2, 0, 100)], SubmitError::Empty);
    refuse(vec![accept(2, 1, 1024 * 1024 + 1)], SubmitError::TooLarge);
    refuse(vec![accept(2, 1, 63 * 1024)], SubmitError::TooLarge);
    refuse(vec![Change::Remove { id: id(9), reason: RemoveReason::Deleted }], SubmitError::Unknown(id(9)));
    assert!(poll(&mut store).is_empty() && disk.ops() == ops && store.len() == 1);
    store.submit(Transaction::one(accept(2, 1, 1), Urgency::Durable)).unwrap();
    let early = store.submit(Transaction::one(
        Change::Remove { id: id(2), reason: RemoveReason::Deleted },
        Urgency::Durable,
    ));
    assert_eq!(early, Err(SubmitError::Unknown(id(2))), "not committed yet");
    assert!(matches!(store.message(id(2)), Err(ReadError::NotYet)));
}

#[test]
fn one_batch_costs_one_sync() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    commit(&mut store, vec![accept(0, 1, 10)]);
    let syncs = disk.syncs();
    for n in 1..50 {
        store.submit(Transaction::one(accept(n, 1, 100), Urgency::Durable)).unwrap();
    }
    assert_eq!(poll(&mut store).len(), 49);
    assert_eq!(disk.syncs(), syncs + 1);
    let remove = Change::Remove { id: id(7), reason: RemoveReason::Settled };
    store.submit(Transaction::one(remove, Urgency::Lazy)).unwrap();
    assert_eq!(poll(&mut store).len(), 1, "reported when written");
    assert_eq!(disk.syncs(), syncs + 1, "and not synced");
    assert!(!open(&disk.after_kill()).0.contains(id(7)));
    store.sync(&mut Vec::new());
    assert!(!open(&disk.after_power_cut(0)).0.contains(id(7)));
}

#[test]
fn a_clean_end_makes_the_next_start_read_no_bodies() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    for n in 0..100 {
        commit(&mut store, vec![accept(n, 1, 3000)]);
    }
    store.close();
    let (store, _, report) = open(&disk);
    assert_eq!((report.messages, report.scanned, report.interrupted), (100, 0, 0));
    assert!(report.segments > 4);
    assert_eq!(stored_octets(&store, 42), body(42, 3000));
}

#[test]
fn threads_do_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (wake, woken) = std::sync::mpsc::channel();
    let open = || {
        let wake = wake.clone();
        let unrecovered = Unrecovered::open(dir.path(), OPTIONS).unwrap();
        let wake = move || {
            let _ = wake.send(());
        };
        unrecovered.recover(Box::new(wake)).unwrap()
    };
    let (mut store, ..) = open();
    assert!(matches!(Unrecovered::open(dir.path(), OPTIONS), Err(OpenError::Locked { .. })));
    for n in 0..300 {
        store.submit(Transaction::one(accept(n, 1, 1000), Urgency::Durable)).unwrap();
    }
    let mut events = Vec::new();
    while events.len() < 300 {
        woken.recv().unwrap();
        store.poll(&mut events);
    }
    for event in &events {
        assert!(matches!(event, Event::Completed { result: Ok(()), .. }), "{event:?}");
    }
    let mut octets = [0; 8];
    assert_eq!(store.reader.maps.read(store.newest.0, &mut octets, 0), Some(8), "the newest is mapped");
    assert_eq!(octets, layout::SEGMENT_MAGIC);
    for n in [3, 150, 299] {
        assert_eq!(stored_octets(&store, n), body(n, 1000));
    }
    drop(store);
    let (store, _, report) = open();
    assert_eq!((report.messages, report.notes), (300, vec![]));
    assert_eq!(stored_octets(&store, 299), body(299, 1000));
    store.close();
    assert_eq!(open().2.scanned, 0);
}
