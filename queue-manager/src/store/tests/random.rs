//! Long random days: messages come, change, stay and go, segments are compacted and used again, and now and then the
//! disk fails, the power fails, or the process is killed. On some days each side also learns late, and by pieces, what the
//! other has done. The model must agree with every start, and the log must stay short.

use super::crash::{outcome, remove};
use super::model::Model;
use super::*;

const DAYS: u64 = 16;
const STEPS: u64 = 120;
/// Messages beyond this number are removed as new ones come.
const CROWD: usize = 24;
/// Of each message.
const RECIPIENTS: u64 = 3;

struct Day {
    dice: sim::Dice,
    model: Model,
    next: u32,
}

impl Day {
    fn body_len(&mut self) -> usize {
        match self.dice.below(4) {
            0 => 0,
            1 => self.dice.below(300) as usize,
            2 => self.dice.below(9000) as usize,
            _ => 1500,
        }
    }

    fn new_message(&mut self) -> Change {
        self.next += 1;
        accept(self.next, RECIPIENTS as usize, self.body_len())
    }

    fn urgency(&mut self) -> Urgency {
        [Urgency::Durable, Urgency::Lazy, Urgency::Background][self.dice.below(3) as usize]
    }

    fn step(&mut self, store: &mut Store, disk: &SimDisk) {
        for _ in 0..1 + self.dice.below(5) {
            let present = self.model.present();
            let one = self.dice.below(present.len().max(1) as u64) as usize;
            let urgency = self.urgency();
            let n = match present.get(one) {
                Some(n) if present.len() > CROWD || self.dice.below(3) > 0 => *n,
                _ => {
                    let change = self.new_message();
                    self.model.submit(store, vec![change], Urgency::Durable);
                    continue;
                }
            };
            let (which, attempts) = (self.dice.below(RECIPIENTS) as u32, self.dice.below(1000) as u16);
            let change = match self.dice.below(8) {
                0..3 if present.len() <= CROWD / 2 => outcome(n, which, attempts),
                0..4 => remove(n),
                4 => Change::State { id: id(n), change: StateChange::Requeue },
                5 => Change::State {
                    id: id(n),
                    change: StateChange::Disposition(Disposition::Quarantine("spam".into())),
                },
                _ => outcome(n, which, attempts),
            };
            let mut changes = vec![change];
            if self.dice.below(6) == 0 {
                changes.push(self.new_message());
            }
            self.model.submit(store, changes, urgency);
        }
        self.model.hear(poll(store), disk.crashed());
    }
}

/// From here on a random part of what waits is done and heard of in one turn; or all of it again.
fn dawdle(store: &mut Store, dice: Option<sim::Dice>) {
    if let Engine::Inline(inline) = &mut store.engine {
        inline.pace.dice = dice;
    }
}

/// Lets compaction do all that it wants to do.
fn settle(store: &mut Store, model: &mut Model, disk: &SimDisk) {
    dawdle(store, None);
    for _ in 0..200 {
        let mut events = Vec::new();
        store.sync(&mut events);
        model.hear(events, disk.crashed());
    }
}

fn assert_short(store: &Store, context: &str) {
    let space = store.space();
    let files = space.log_bytes + space.free_segments as u64 * OPTIONS.segment_bytes;
    let limit = 2 * space.live_bytes + 2 * OPTIONS.segment_bytes;
    assert!(files <= limit, "{context}: {files} octets for {space:?}");
}

#[test]
fn the_model_agrees_with_every_start_of_a_random_life() {
    for seed in 0..DAYS {
        let mut day = Day { dice: sim::Dice(seed), model: Model::default(), next: 0 };
        let mut disk = SimDisk::default();
        let (mut store, ..) = open(&disk);
        let mut next_fault = 0;
        for step in 0..STEPS {
            let context = format!("day {seed} step {step}");
            // One thing at a time: a disk that also fails to write that a record is void cannot keep that promise.
            if disk.ops() > next_fault {
                next_fault = disk.ops() + 1 + day.dice.below(12);
                match day.dice.below(6) {
                    0 | 1 => disk.crash_at(next_fault),
                    2 => disk.fail_at(next_fault, io::ErrorKind::Other),
                    3 => disk.fail_sync(disk.syncs() + 1),
                    _ => next_fault += 30,
                }
            }
            if seed % 2 == 1 {
                dawdle(&mut store, Some(sim::Dice(day.dice.roll())));
            }
            day.step(&mut store, &disk);
            let fate = day.dice.below(40);
            if fate == 2 {
                settle(&mut store, &mut day.model, &disk);
                store.trim();
                settle(&mut store, &mut day.model, &disk);
                if !disk.crashed() {
                    assert_short(&store, &context);
                }
            }
            if disk.crashed() || fate < 2 {
                let power_cut = disk.crashed() && fate.is_multiple_of(2);
                // What was done is heard of: the model knows nothing of refusals that nobody has heard.
                dawdle(&mut store, None);
                day.model.hear(poll(&mut store), disk.crashed());
                drop(store);
                disk = if power_cut { disk.after_power_cut(day.dice.roll()) } else { disk.after_kill() };
                let (again, summaries, report) = open(&disk);
                assert_eq!(report.notes, [], "{context}");
                assert_eq!(summaries.count(), again.len(), "{context}");
                day.model.compare(&again, power_cut, &context);
                store = again;
                next_fault = disk.ops();
            }
        }
        disk.never_crash();
        if disk.crashed() {
            continue;
        }
        settle(&mut store, &mut day.model, &disk);
        for n in day.model.present() {
            day.model.submit(&mut store, vec![remove(n)], Urgency::Lazy);
        }
        settle(&mut store, &mut day.model, &disk);
        store.trim();
        settle(&mut store, &mut day.model, &disk);
        assert!(store.is_empty());
        drop(store);
        // A file that could not be removed when its time had come is found by the next start.
        let (mut store, _, report) = open(&disk);
        assert_eq!((report.messages, report.notes), (0, vec![]), "day {seed}");
        settle(&mut store, &mut day.model, &disk);
        store.trim();
        settle(&mut store, &mut day.model, &disk);
        assert!(disk.names(Area::Segments).len() <= 2, "day {seed}: {:?}", disk.names(Area::Segments));
    }
}
