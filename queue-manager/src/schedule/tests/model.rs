//! Whatever happens in whatever order, against a model.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Add { sender: u8, hops: Vec<u8> },
    Lease,
    Settle { which: usize, deferred: bool, reached: bool },
    Sleep(u64),
    Hold(usize),
    Release(usize),
    Flush(usize),
    Remove(usize),
    Down(u32),
    Up(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..4, proptest::collection::vec(0u8..5, 1..6)).prop_map(|(sender, hops)| Step::Add { sender, hops }),
        8 => Just(Step::Lease),
        6 => (0usize..100, any::<bool>(), prop::bool::weighted(0.7))
            .prop_map(|(which, deferred, reached)| Step::Settle { which, deferred, reached }),
        2 => (0u64..2_000_000).prop_map(Step::Sleep),
        1 => (0usize..100).prop_map(Step::Hold),
        1 => (0usize..100).prop_map(Step::Release),
        1 => (0usize..100).prop_map(Step::Flush),
        1 => (0usize..100).prop_map(Step::Remove),
        1 => (0u32..2).prop_map(Step::Down),
        1 => (0u32..2).prop_map(Step::Up),
    ]
}

/// What must be unsettled, by message.
#[derive(Default)]
struct Model {
    unsettled: BTreeMap<QueueId, BTreeSet<u32>>,
    out: Vec<Plan>,
    removed: BTreeSet<QueueId>,
}

fn lane(instance: u32) -> Lane {
    Lane { kind: LaneKind::Smtp, instance, life: 0 }
}

fn apply(bench: &mut Bench, model: &mut Model, step: Step) {
    let pick = |model: &Model, at: usize| {
        let count = model.unsettled.len().max(1);
        model.unsettled.keys().nth(at % count).copied()
    };
    match step {
        Step::Add { sender, hops } => {
            let hops: Vec<String> = hops.iter().map(|hop| format!("smtp:d{hop}.test")).collect();
            let hops: Vec<&str> = hops.iter().map(String::as_str).collect();
            let sender = if sender == 0 { String::new() } else { format!("s{sender}@src.test") };
            let id = bench.add(&sender, &hops);
            model.unsettled.insert(id, (0..hops.len() as u32).collect());
        }
        Step::Lease => model.out.extend(bench.next()),
        Step::Settle { which, deferred, reached } => {
            if model.out.is_empty() {
                return;
            }
            let plan = model.out.swap_remove(which % model.out.len());
            let verdict = if deferred { Verdict::Deferred } else { Verdict::Settled };
            let settled = bench.settle(&plan, verdict, if reached { Reached::Yes } else { Reached::No("x") });
            let gone = if deferred { settled.expired.clone() } else { plan.recipients.clone() };
            forget(model, plan.id, &gone);
        }
        Step::Sleep(wait) => {
            bench.now += wait;
            while bench.schedule.tick(bench.now) {}
        }
        Step::Hold(at) => {
            let id = pick(model, at);
            assert!(id.is_none_or(|id| bench.schedule.set_standing(id, Standing::Held)));
        }
        Step::Release(at) => {
            let id = pick(model, at);
            assert!(id.is_none_or(|id| bench.schedule.set_standing(id, Standing::Active)));
        }
        Step::Flush(at) => {
            let id = pick(model, at);
            assert!(id.is_none_or(|id| bench.schedule.flush(id)));
        }
        Step::Remove(at) => {
            if let Some(id) = pick(model, at) {
                assert!(bench.schedule.remove(id));
                model.unsettled.remove(&id);
                model.removed.insert(id);
            }
        }
        Step::Down(instance) => {
            bench.schedule.lane_down(lane(instance), bench.now);
            model.out.retain(|plan| plan.lane != lane(instance));
        }
        Step::Up(instance) => {
            bench.schedule.lane_up(lane(instance), 3, bench.now);
            model.out.retain(|plan| plan.lane != lane(instance));
        }
    }
    while let Some(notice) = bench.schedule.take_notice() {
        if let Notice::Expired { id, recipients, .. } = notice {
            forget(model, id, &recipients);
        }
    }
}

fn forget(model: &mut Model, id: QueueId, recipients: &[u32]) {
    let Some(left) = model.unsettled.get_mut(&id) else { return };
    left.retain(|index| !recipients.contains(index));
    if left.is_empty() {
        model.unsettled.remove(&id);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    /// Whatever happens in whatever order: nobody is lost, nobody is tried twice at a time, and in the end, when all
    /// is released and every host answers, everybody is delivered.
    #[test]
    fn nobody_is_lost(steps in proptest::collection::vec(step(), 1..120)) {
        let (mut bench, mut model) = (Bench::new(), Model::default());
        for step in steps {
            apply(&mut bench, &mut model, step);
            check(&bench, &model)?;
        }
        let ids: Vec<QueueId> = model.unsettled.keys().copied().collect();
        for id in ids {
            bench.schedule.set_standing(id, Standing::Active);
        }
        apply(&mut bench, &mut model, Step::Up(0));
        for round in 0..10_000 {
            prop_assert!(round < 9_999, "does not end");
            apply(&mut bench, &mut model, Step::Lease);
            apply(&mut bench, &mut model, Step::Settle { which: round, deferred: false, reached: true });
            apply(&mut bench, &mut model, Step::Sleep(10_000));
            check(&bench, &model)?;
            if model.unsettled.is_empty() && model.out.is_empty() {
                break;
            }
        }
        while bench.next().is_some() {}
        let schedule = &bench.schedule;
        prop_assert_eq!((schedule.messages.len(), schedule.jobs.len(), schedule.items.len()), (0, 0, 0));
        prop_assert_eq!(schedule.flows.len(), 0);
    }
}

fn check(bench: &Bench, model: &Model) -> Result<(), TestCaseError> {
    let mut out: BTreeMap<QueueId, BTreeSet<u32>> = BTreeMap::new();
    for plan in model.out.iter().filter(|plan| model.unsettled.contains_key(&plan.id)) {
        for index in &plan.recipients {
            prop_assert!(out.entry(plan.id).or_default().insert(*index), "two leases for one recipient");
        }
    }
    for (id, unsettled) in &model.unsettled {
        let found = bench.schedule.unsettled(*id);
        prop_assert_eq!(&found.iter().copied().collect::<BTreeSet<u32>>(), unsettled);
        prop_assert_eq!(found.len(), unsettled.len());
    }
    for id in &model.removed {
        let is_out = model.out.iter().any(|plan| plan.id == *id);
        prop_assert_eq!(bench.schedule.has_orphans(*id), is_out);
    }
    prop_assert_eq!(bench.schedule.totals().messages() as usize, model.unsettled.len());
    let recipients: usize = model.unsettled.values().map(BTreeSet::len).sum();
    prop_assert_eq!(bench.schedule.totals().recipients as usize, recipients);
    Ok(())
}
