//! What may be true of a spool after a crash, given what was submitted and what was acknowledged.

use super::*;
use std::collections::BTreeMap;

/// All that may be true of one message after a crash: its states in order, the first of them that was acknowledged.
#[derive(Debug, Default, Clone)]
pub(super) struct History {
    /// `None` is gone.
    states: Vec<Option<MessageState>>,
    body_len: usize,
    /// Index of the latest state that was acknowledged as durable.
    durable: Option<usize>,
    /// The latest that was acknowledged at all.
    reported: Option<usize>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    messages: BTreeMap<u32, History>,
    /// Transactions that are on their way: the state that each change leads to.
    pub(super) on_their_way: BTreeMap<Ticket, (Urgency, Vec<(u32, usize)>)>,
    /// Lazy ones that were reported and not synced yet.
    lazy: Vec<(u32, usize)>,
    /// Message and index of its state, of two changes that belong together.
    pairs: Vec<((u32, usize), (u32, usize))>,
}

impl Model {
    pub(super) fn submit(&mut self, store: &mut Store, changes: Vec<Change>, urgency: Urgency) {
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

    pub(super) fn hear(&mut self, events: Vec<Event>) {
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

    /// Messages that were accepted and not removed, and that a change may be submitted of.
    pub(super) fn present(&self) -> Vec<u32> {
        let here = |history: &History| {
            history.reported.is_some() && history.states.last().is_some_and(Option::is_some)
        };
        self.messages.iter().filter(|(_, history)| here(history)).map(|(n, _)| *n).collect()
    }

    /// Compares a store with what may be, and goes on from what it is.
    pub(super) fn compare(&mut self, store: &Store, power_cut: bool, context: &str) {
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
            found.insert(*n, state);
        }
        assert_eq!(store.len(), found.values().flatten().count(), "{context}");
        for (a, b) in &self.pairs {
            self.check_pair(*a, *b, &found, context);
        }
        self.on_their_way.clear();
        self.lazy.clear();
        self.pairs.clear();
        for (n, state) in found {
            let history = self.messages.entry(n).or_default();
            (history.states, history.durable, history.reported) = (vec![state], Some(0), Some(0));
        }
    }

    /// Compares what a new process finds with what may be, lets it go on, and starts once more.
    pub(super) fn check(mut self, disk: &SimDisk, power_cut: bool, context: &str) {
        let (mut store, summaries, report) = open(disk);
        assert_eq!(report.notes, [], "{context}");
        assert_eq!(summaries.count(), store.len(), "{context}");
        self.compare(&store, power_cut, context);
        commit(&mut store, vec![accept(9999, 1, 700)]);
        let (again, _, report) = open(&disk.after_power_cut(0));
        assert_eq!((report.notes, report.interrupted), (vec![], 0), "{context}, second start");
        assert_eq!(again.len(), store.len(), "{context}, second start");
        assert_eq!(stored_octets(&again, 9999), body(9999, 700));
        self.compare_without(&again, 9999, context);
    }

    fn compare_without(&mut self, store: &Store, n: u32, context: &str) {
        let state = store.message(id(n)).unwrap().state;
        let body_len = stored_octets(store, n).len();
        let history = History { states: vec![Some(state)], body_len, durable: Some(0), reported: Some(0) };
        self.messages.insert(n, history);
        self.compare(store, true, context);
    }

    /// Both changes of one transaction happened, or neither.
    fn check_pair(
        &self,
        a: (u32, usize),
        b: (u32, usize),
        found: &BTreeMap<u32, Option<MessageState>>,
        context: &str,
    ) {
        let happened = |(n, at): (u32, usize)| {
            let (states, state) = (&self.messages[&n].states, &found[&n]);
            let before = at.checked_sub(1).and_then(|at| states[at].clone());
            // Only where the change is the last one and can be told from its absence.
            (at == states.len() - 1 && before != states[at]).then(|| *state == states[at])
        };
        if let (Some(a), Some(b)) = (happened(a), happened(b)) {
            assert_eq!(a, b, "{context}: one of two changes of a transaction");
        }
    }
}
