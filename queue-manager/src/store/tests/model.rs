//! What may be true of a spool after a crash, given what was submitted, what was acknowledged and what was refused.

use super::*;
use std::collections::BTreeMap;

/// What a change does to its message.
#[derive(Debug, Clone)]
enum Effect {
    Become(Box<MessageState>),
    Results(Vec<(u32, RecipientState)>),
    Change(StateChange),
    Vanish,
}

impl Effect {
    fn apply(&self, state: &mut Option<MessageState>) {
        match (self, state) {
            (Effect::Become(new), state) => *state = Some((**new).clone()),
            (Effect::Vanish, state) => *state = None,
            (Effect::Results(results), Some(state)) => state.apply(results),
            (Effect::Change(change), Some(state)) => state.change(change),
            _ => panic!("a change of nothing"),
        }
    }
}

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Refused: it must never be seen.
    Void,
    OnItsWay,
    Reported,
    Durable,
}

#[derive(Debug, Clone, Default)]
struct History {
    body_len: usize,
    steps: Vec<(Effect, Fate)>,
}

impl History {
    /// The states that a crash may leave: everything that is at least so far, and some of what came after, in order.
    fn possible(&self, least: Fate) -> Vec<Option<MessageState>> {
        let steps: Vec<_> = self.steps.iter().filter(|(_, fate)| *fate != Fate::Void).collect();
        let sure = steps.iter().rposition(|(_, fate)| *fate >= least).map_or(0, |at| at + 1);
        let mut state = None;
        let mut states = Vec::new();
        for (at, (effect, _)) in steps.iter().enumerate() {
            if at >= sure {
                states.push(state.clone());
            }
            effect.apply(&mut state);
        }
        states.push(state);
        states
    }

    /// The state if everything that was not refused happens.
    fn latest(&self) -> Option<MessageState> {
        self.possible(Fate::Void).pop().flatten()
    }
}

#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    messages: BTreeMap<u32, History>,
    on_their_way: BTreeMap<Ticket, (Urgency, Vec<(u32, usize)>)>,
    /// Lazy ones that were reported and not synced yet.
    lazy: Vec<(u32, usize)>,
    /// Two changes that belong together: message and step of each.
    pairs: Vec<[(u32, usize); 2]>,
}

impl Model {
    pub(super) fn submit(&mut self, store: &mut Store, changes: Vec<Change>, urgency: Urgency) {
        let mut steps = Vec::new();
        for change in &changes {
            let n = u32::from_le_bytes(change.id().to_bytes()[..4].try_into().unwrap());
            let history = self.messages.entry(n).or_default();
            let effect = match change {
                Change::Accept { state, body: NewBody::Inline(chunks), .. } => {
                    history.body_len = chunks.iter().map(Chunk::len).sum();
                    Effect::Become(Box::new(MessageState::clone(state)))
                }
                Change::Accept { .. } => unreachable!("not in these scripts"),
                Change::Revise { state, .. } => Effect::Become(state.clone()),
                Change::Outcome { results, .. } => Effect::Results(results.clone()),
                Change::State { change, .. } => Effect::Change(change.clone()),
                Change::Remove { .. } => Effect::Vanish,
            };
            history.steps.push((effect, Fate::OnItsWay));
            steps.push((n, history.steps.len() - 1));
        }
        if let [first, second] = steps[..] {
            self.pairs.push([first, second]);
        }
        let accepts = changes.iter().any(|change| matches!(change, Change::Accept { .. }));
        let ticket = store.submit(Transaction { changes, urgency }).unwrap();
        let urgency = if accepts { Urgency::Durable } else { urgency };
        self.on_their_way.insert(ticket, (urgency, steps));
    }

    fn set(&mut self, steps: &[(u32, usize)], fate: Fate) {
        for (n, at) in steps {
            self.messages.get_mut(n).unwrap().steps[*at].1 = fate;
        }
    }

    /// Once the disk has crashed nobody is left to hear of a refusal.
    pub(super) fn hear(&mut self, events: Vec<Event>, crashed: bool) {
        for event in events {
            assert!(!matches!(event, Event::Alarm(Alarm::Unreadable(..))) || crashed, "{event:?}");
            if matches!(event, Event::Alarm(Alarm::SegmentFailed { .. })) {
                // Until they are written again, the end of the process would undo them.
                let lazy = self.lazy.clone();
                self.set(&lazy, Fate::OnItsWay);
            }
            let Event::Completed { ticket, result } = event else { continue };
            if crashed && result.is_err() {
                continue;
            }
            let (urgency, steps) = self.on_their_way.remove(&ticket).unwrap();
            match (result, urgency) {
                (Err(_), _) => {
                    self.pairs.retain(|pair| pair[..] != steps[..]);
                    self.set(&steps, Fate::Void);
                }
                (Ok(()), Urgency::Lazy) => {
                    self.set(&steps, Fate::Reported);
                    self.lazy.extend(steps);
                }
                (Ok(()), _) => {
                    // What was reported as written before this was reported as synced is synced too.
                    let lazy = std::mem::take(&mut self.lazy);
                    self.set(&lazy, Fate::Durable);
                    self.set(&steps, Fate::Durable);
                }
            }
        }
    }

    pub(super) fn on_their_way(&self) -> usize {
        self.on_their_way.len()
    }

    /// Messages that a change may be submitted of: accepted, and nothing that removes them is on its way.
    pub(super) fn present(&self) -> Vec<u32> {
        let accepted = |history: &History| {
            history.steps.first().is_some_and(|(_, fate)| *fate >= Fate::Reported)
                && history.latest().is_some()
        };
        self.messages.iter().filter(|(_, history)| accepted(history)).map(|(n, _)| *n).collect()
    }

    /// Compares a store with what may be, and goes on from what it is.
    pub(super) fn compare(&mut self, store: &Store, power_cut: bool, context: &str) {
        let least = if power_cut { Fate::Durable } else { Fate::Reported };
        let mut found = BTreeMap::new();
        for (n, history) in &self.messages {
            let state = store.contains(id(*n)).then(|| {
                let (message, parts) = store.message_and_body(id(*n)).expect(context);
                assert_eq!(octets(&parts), body(*n, history.body_len), "{context} message {n}");
                message.state
            });
            let possible = history.possible(least);
            assert!(possible.contains(&state), "{context}: message {n}: {state:?} is none of {possible:?}");
            found.insert(*n, state);
        }
        assert_eq!(store.len(), found.values().flatten().count(), "{context}");
        for [a, b] in &self.pairs {
            if let (Some(a), Some(b)) = (self.happened(*a, &found), self.happened(*b, &found)) {
                assert_eq!(a, b, "{context}: one of two changes of a transaction");
            }
        }
        self.on_their_way.clear();
        self.lazy.clear();
        self.pairs.clear();
        for (n, state) in found {
            let history = self.messages.entry(n).or_default();
            let effect = state.map_or(Effect::Vanish, |state| Effect::Become(Box::new(state)));
            history.steps = vec![(effect, Fate::Durable)];
        }
    }

    /// Whether a change happened, if it is its message's last one and can be told from its absence.
    fn happened(&self, (n, at): (u32, usize), found: &BTreeMap<u32, Option<MessageState>>) -> Option<bool> {
        let history = &self.messages[&n];
        let states = History { steps: history.steps[..=at].to_vec(), ..*history }.possible(Fate::Durable);
        let (after, before) = states.split_last()?;
        (at == history.steps.len() - 1 && !before.contains(after)).then(|| found[&n] == *after)
    }

    /// Compares what a new process finds with what may be, lets it go on, and starts once more.
    pub(super) fn check(mut self, disk: &SimDisk, power_cut: bool, context: &str) {
        let (mut store, summaries, report) = open(disk);
        assert_eq!(report.notes, [], "{context}");
        assert_eq!(summaries.count(), store.len(), "{context}");
        self.compare(&store, power_cut, context);
        self.submit(&mut store, vec![accept(9999, 1, 700)], Urgency::Durable);
        self.hear(poll(&mut store), false);
        let (again, _, report) = open(&disk.after_power_cut(0));
        assert_eq!((report.notes, report.interrupted), (vec![], 0), "{context}, second start");
        assert!(again.contains(id(9999)));
        self.compare(&again, true, &format!("{context}, second start"));
    }
}
