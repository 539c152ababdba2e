//! A scripted day in the life of a spool, cut off at every operation on the disk. After each cut: everything that was
//! acknowledged is there to the octet, nothing is half there, and nothing comes back.

use super::*;
use std::collections::BTreeMap;

/// All that may be true of one message after a crash: its states in order, the first of them that was acknowledged.
#[derive(Debug, Default)]
struct History {
    /// `None` is gone.
    states: Vec<Option<MessageState>>,
    body_len: usize,
    /// Index of the latest state that was acknowledged as durable.
    durable: Option<usize>,
    /// The latest that was acknowledged at all.
    reported: Option<usize>,
}

#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<u32, History>,
    /// Transactions that are on their way: the state that each change leads to.
    on_their_way: BTreeMap<Ticket, (Urgency, Vec<(u32, usize)>)>,
    /// Lazy ones that were reported and not synced yet.
    lazy: Vec<(u32, usize)>,
    /// Message and index of its state, of two changes that belong together.
    pairs: Vec<((u32, usize), (u32, usize))>,
}

impl Model {
    fn submit(&mut self, store: &mut Store, changes: Vec<Change>, urgency: Urgency) {
        let mut steps = Vec::new();
        for change in &changes {
            let n = u32::from_le_bytes(change.id().to_bytes()[..4].try_into().unwrap());
            let history = self.messages.entry(n).or_default();
            let mut state = history.states.last().cloned().flatten();
            match change {
                Change::Accept { state: new, body: NewBody::Inline(chunks), .. } => {
                    history.body_len = chunks.iter().map(Chunk::len).sum();
                    state = Some((**new).clone());
                }
                Change::Accept { .. } => unreachable!("not in these scripts"),
                Change::Revise { state: new, .. } => state = Some((**new).clone()),
                Change::Outcome { results, .. } => state.as_mut().unwrap().apply(results),
                Change::State { change, .. } => state.as_mut().unwrap().change(change),
                Change::Remove { .. } => state = None,
            }
            history.states.push(state);
            steps.push((n, history.states.len() - 1));
        }
        if let [first, second] = steps[..] {
            self.pairs.push((first, second));
        }
        let accepts = changes.iter().any(|change| matches!(change, Change::Accept { .. }));
        let ticket = store.submit(Transaction { changes, urgency }).unwrap();
        let urgency = if accepts { Urgency::Durable } else { urgency };
        self.on_their_way.insert(ticket, (urgency, steps));
    }

    fn hear(&mut self, events: Vec<Event>) {
        for event in events {
            let Event::Completed { ticket, result: Ok(()) } = event else { continue };
            let (urgency, steps) = self.on_their_way.remove(&ticket).unwrap();
            if urgency != Urgency::Lazy {
                // What was reported as written before this was reported as synced is synced too.
                for (n, at) in std::mem::take(&mut self.lazy) {
                    let history = self.messages.get_mut(&n).unwrap();
                    history.durable = history.durable.max(Some(at));
                }
            }
            for (n, at) in steps {
                let history = self.messages.get_mut(&n).unwrap();
                history.reported = history.reported.max(Some(at));
                if urgency == Urgency::Lazy {
                    self.lazy.push((n, at));
                } else {
                    history.durable = history.durable.max(Some(at));
                }
            }
        }
    }

    /// Compares what a new process finds with what may be.
    fn check(&self, disk: &SimDisk, power_cut: bool, context: &str) {
        let (mut store, summaries, report) = open(disk);
        assert_eq!(report.notes, [], "{context}");
        assert_eq!(summaries.count(), store.len(), "{context}");
        let mut found = BTreeMap::new();
        for (n, history) in &self.messages {
            let least = if power_cut { history.durable } else { history.reported };
            let least = least.map_or(0, |at| at + 1);
            let state = store.contains(id(*n)).then(|| {
                let (message, parts) = store.message_and_body(id(*n)).expect(context);
                assert_eq!(octets(&parts), body(*n, history.body_len), "{context} message {n}");
                message.state
            });
            // Position 0 is "never accepted"; position i + 1 is state i.
            let at = (least..=history.states.len())
                .find(|at| at.checked_sub(1).map_or(&None, |at| &history.states[at]) == &state);
            assert!(at.is_some(), "{context}: message {n}: {state:?} is none of {history:?}");
            found.insert(*n, (state, least));
        }
        assert_eq!(store.len(), found.values().filter(|(state, _)| state.is_some()).count(), "{context}");
        for ((a, at_a), (b, at_b)) in &self.pairs {
            self.check_pair((*a, *at_a), (*b, *at_b), &found, context);
        }
        // The store goes on, and what it has is still there at the next start.
        commit(&mut store, vec![accept(9999, 1, 700)]);
        let (again, _, report) = open(&disk.after_power_cut(0));
        assert_eq!((report.notes, report.interrupted), (vec![], 0), "{context}, second start");
        assert_eq!(again.len(), store.len(), "{context}, second start");
        for (n, (state, _)) in found.iter().filter(|(_, (state, _))| state.is_some()) {
            assert_eq!(Some(again.message(id(*n)).unwrap().state), *state, "{context}, second start");
        }
        assert_eq!(stored_octets(&again, 9999), body(9999, 700));
    }

    /// Both changes of one transaction happened, or neither.
    fn check_pair(
        &self,
        a: (u32, usize),
        b: (u32, usize),
        found: &BTreeMap<u32, (Option<MessageState>, usize)>,
        context: &str,
    ) {
        let happened = |(n, at): (u32, usize)| {
            let (states, (state, _)) = (&self.messages[&n].states, &found[&n]);
            let before = at.checked_sub(1).and_then(|at| states[at].clone());
            // Only where the change is the last one and can be told from its absence.
            (at == states.len() - 1 && before != states[at]).then(|| *state == states[at])
        };
        if let (Some(a), Some(b)) = (happened(a), happened(b)) {
            assert_eq!(a, b, "{context}: one of two changes of a transaction");
        }
    }
}

fn outcome(n: u32, which: u32, attempts: u16) -> Change {
    let state = RecipientState::Waiting { attempts, until: u64::from(attempts) * 60, last: None };
    Change::Outcome { id: id(n), results: vec![(which, state)] }
}

fn remove(n: u32) -> Change {
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
        model.hear(poll(&mut store));
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
    assert!(model.on_their_way.len() < 3);
    model.check(&whole.after_power_cut(0), true, "no cut");
    for op in 1..=whole.ops() {
        let disk = SimDisk::default();
        disk.crash_at(op);
        let model = run(&disk);
        assert!(disk.crashed(), "operation {op}");
        for seed in 0..4 {
            model.check(&disk.after_power_cut(seed + op * 4), true, &format!("power cut {seed} at {op}"));
        }
        model.check(&disk.after_kill(), false, &format!("kill at {op}"));
    }
}
