//! A scripted day in the life of a spool, cut off at every operation on the disk. After each cut: everything that was
//! acknowledged is there to the octet, nothing is half there, and nothing comes back.

use super::model::Model;
use super::*;

pub(super) fn outcome(n: u32, which: u32, attempts: u16) -> Change {
    let state = RecipientState::Waiting { attempts, until: u64::from(attempts) * 60, last: None };
    Change::Outcome { id: id(n), results: vec![(which, state)] }
}

pub(super) fn remove(n: u32) -> Change {
    Change::Remove { id: id(n), reason: RemoveReason::Settled }
}

/// One batch of the script; false when there is no more.
fn step(n: u32, model: &mut Model, store: &mut Store) -> bool {
    let durable = Urgency::Durable;
    match n {
        0 => model.submit(store, vec![accept(1, 2, 1500)], durable),
        1 => {
            model.submit(store, vec![accept(2, 1, 0)], durable);
            model.submit(store, vec![accept(3, 70, 9000)], durable);
        }
        2 => {
            model.submit(store, vec![outcome(1, 0, 1)], Urgency::Lazy);
            model.submit(store, vec![accept(4, 1, 700), accept(5, 1, 20_000)], durable);
        }
        3 => model.submit(store, vec![outcome(1, 1, 2), accept(6, 1, 600)], durable),
        4 => {
            model.submit(store, vec![remove(4)], Urgency::Lazy);
            model.submit(store, vec![outcome(3, 69, 3)], Urgency::Background);
        }
        5 => {
            let hold = StateChange::Disposition(Disposition::Hold("x".into()));
            model.submit(store, vec![Change::State { id: id(2), change: hold }], durable);
        }
        6..20 => {
            for k in 0..3 {
                let n = n * 10 + k;
                model.submit(store, vec![accept(n, 1, 3000)], durable);
            }
            if n >= 8 {
                model.submit(store, vec![remove((n - 2) * 10 + 1)], Urgency::Lazy);
                model.submit(store, vec![outcome(1, n % 2, n as u16)], Urgency::Lazy);
            }
            if n >= 9 {
                model.submit(store, vec![remove((n - 3) * 10)], durable);
            }
        }
        20 => {
            let state = Box::new(record::test_state(3));
            model.submit(store, vec![Change::Revise { id: id(1), state }], durable);
        }
        21..24 => model.submit(store, vec![outcome(1, 2, n as u16)], durable),
        _ => return false,
    }
    true
}

/// Runs the script until it ends or the disk crashes.
fn run(disk: &SimDisk) -> Model {
    let mut model = Model::default();
    let Ok((mut store, ..)) = Unrecovered::on(disk.arc(), OPTIONS).recover_inline() else { return model };
    let mut n = 0;
    while step(n, &mut model, &mut store) {
        model.hear(poll(&mut store), disk.crashed());
        if disk.crashed() {
            break;
        }
        n += 1;
    }
    model
}

#[test]
fn every_cut_leaves_all_that_was_acknowledged() {
    let whole = SimDisk::default();
    let model = run(&whole);
    assert!(model.on_their_way() < 3);
    model.clone().check(&whole.after_power_cut(0), true, "no cut");
    for op in 1..=whole.ops() {
        let disk = SimDisk::default();
        disk.crash_at(op);
        let model = run(&disk);
        assert!(disk.crashed(), "operation {op}");
        for seed in 0..4 {
            model.clone().check(
                &disk.after_power_cut(seed + op * 4),
                true,
                &format!("power cut {seed} at {op}"),
            );
        }
        model.clone().check(&disk.after_kill(), false, &format!("kill at {op}"));
    }
}

#[test]
fn what_a_start_has_read_is_durable_also_where_it_does_not_go_on_writing() {
    let disk = SimDisk::default();
    let (mut store, ..) = open(&disk);
    commit(&mut store, vec![accept(1, 1, 1000)]);
    store.submit(Transaction::one(outcome(1, 0, 7), Urgency::Lazy)).unwrap();
    poll(&mut store);
    drop(store);
    // Killed before the sync; then segments have another size, so that this one is not written again.
    let disk = disk.after_kill();
    let options = Options { segment_bytes: 2 * OPTIONS.segment_bytes, ..OPTIONS };
    let (mut store, ..) = Unrecovered::on(disk.arc(), options).recover_inline().unwrap();
    commit(&mut store, vec![accept(2, 1, 1000)]);
    let (store, _, report) =
        Unrecovered::on(disk.after_power_cut(0).arc(), options).recover_inline().unwrap();
    assert_eq!(report.notes, []);
    assert_eq!(store.message(id(1)).unwrap().state.progress[0].brief().attempts, 7);
}
