//! The schedule against its promises, with a clock that the tests turn.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use vsmtp_mail::{NextHop, QueueId, QueueIdMint, ReversePath};

use super::*;
use crate::store::Timing;

const SMTP: Lane = Lane { kind: LaneKind::Smtp, instance: 0, life: 0 };
const HOUR: u64 = 3_600_000;

struct Bench {
    schedule: Schedule,
    mint: QueueIdMint,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        let mut schedule = Schedule::new(Settings::default(), 42, 1000);
        schedule.lane_up(SMTP, 256, 1000);
        Bench { schedule, mint: QueueIdMint::new(0, 0), now: 1000 }
    }

    fn add(&mut self, sender: &str, hops: &[&str]) -> QueueId {
        self.add_aged(sender, hops, 0)
    }

    fn add_aged(&mut self, sender: &str, hops: &[&str], age_ms: u64) -> QueueId {
        self.add_with(sender, hops, age_ms, Timing::default())
    }

    fn add_with(&mut self, sender: &str, hops: &[&str], age_ms: u64, timing: Timing) -> QueueId {
        let id = self.mint.next(1);
        let sender = ReversePath::parse(sender).unwrap();
        let hops: Vec<NextHop> = hops.iter().map(|hop| NextHop::parse(hop).unwrap()).collect();
        let admission = Admission {
            id,
            sender: Sender::from(&sender),
            age_ms,
            standing: Standing::Active,
            warned: false,
            timing,
        };
        let pending = hops.iter().enumerate().map(|(index, next_hop)| Pending {
            index: index as u32,
            next_hop,
            attempts: 0,
            wait_ms: 0,
        });
        self.schedule.admit(&admission, pending, self.now).unwrap();
        id
    }

    fn next(&mut self) -> Option<Plan> {
        match self.schedule.next(self.now) {
            Next::Lease(plan) => Some(plan),
            Next::Idle => None,
            Next::Later => panic!("too many steps"),
        }
    }

    fn settle(&mut self, plan: &Plan, verdict: Verdict, reached: Reached<'_>) -> Settled {
        let results: Vec<(u32, Verdict)> = plan.recipients.iter().map(|index| (*index, verdict)).collect();
        self.schedule.settle(plan.lane, plan.lease, &results, reached, self.now).unwrap()
    }

    fn sleep_until_due(&mut self) {
        self.now = self.schedule.wake_ms().unwrap();
        assert!(!self.schedule.tick(self.now));
    }
}

#[test]
fn a_delivered_message_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let id = bench.add("a@src.test", &["smtp:dst.test", "smtp:dst.test", "maildir"]);
    let plan = bench.next().unwrap();
    assert_eq!((plan.id, plan.recipients.as_slice()), (id, &[0, 1][..]));
    assert_eq!(bench.next(), None, "no mailbox process is up");
    bench.schedule.lane_up(Lane { kind: LaneKind::Mailbox, instance: 0, life: 0 }, 10, bench.now);
    let mailbox = bench.next().unwrap();
    assert_eq!(mailbox.recipients, [2]);
    assert!(!bench.settle(&plan, Verdict::Settled, Reached::Yes).finished);
    assert!(bench.settle(&mailbox, Verdict::Settled, Reached::Yes).finished);
    let schedule = &bench.schedule;
    assert_eq!(
        (schedule.messages.len(), schedule.jobs.len(), schedule.items.len(), schedule.flows.len()),
        (0, 0, 0, 0)
    );
    assert_eq!((schedule.totals(), schedule.leases(), schedule.contains(id)), (Totals::default(), 0, false));
}

#[test]
fn deferred_recipients_come_back_later_and_later() {
    let mut bench = Bench::new();
    bench.add("a@src.test", &["smtp:dst.test"]);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let plan = bench.next().unwrap();
        waits.push(bench.settle(&plan, Verdict::Deferred, Reached::Yes).retry_in_ms / 1000);
        assert_eq!(bench.next(), None);
        bench.sleep_until_due();
    }
    assert!((300..340).contains(&waits[0]) && (600..680).contains(&waits[1]), "{waits:?}");
    assert!((3500..4001).contains(&waits[5]), "{waits:?}");
}

#[test]
fn lifetime_ends_with_an_attempt_and_the_delay_is_told_once() {
    let mut bench = Bench::new();
    bench.add("a@src.test", &["smtp:dst.test"]);
    let mut warned_at = Vec::new();
    for attempt in 0.. {
        assert!(attempt < 200, "never expires");
        let plan = bench.next().unwrap();
        let settled = bench.settle(&plan, Verdict::Deferred, Reached::Yes);
        if settled.warn {
            warned_at.push(bench.now);
        }
        if settled.finished {
            assert_eq!(settled.expired, [0]);
            break;
        }
        bench.sleep_until_due();
    }
    assert!((4 * HOUR..6 * HOUR).contains(&warned_at[0]) && warned_at.len() == 1, "{warned_at:?}");
    assert!((120 * HOUR..122 * HOUR).contains(&bench.now), "{}", bench.now);
}

#[test]
fn a_clock_that_jumped_ahead_expires_nothing_for_an_hour_of_attempts() {
    let mut bench = Bench::new();
    bench.add_aged("a@src.test", &["smtp:dst.test"], 3650 * 24 * HOUR);
    let mut attempts = 0;
    loop {
        let plan = bench.next().unwrap();
        attempts += 1;
        if bench.settle(&plan, Verdict::Deferred, Reached::Yes).finished {
            break;
        }
        bench.sleep_until_due();
    }
    assert!(attempts >= 4, "{attempts}");
    // One whose arrival lies in the future is as good as new.
    bench.add_aged("b@src.test", &["smtp:dst.test"], 0);
    assert!(bench.next().is_some());
}

#[test]
fn a_dead_next_hop_is_left_alone_and_its_messages_wait_and_expire() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        bench.add("a@src.test", &["smtp:dead.test"]);
    }
    let plans: Vec<Plan> = std::iter::from_fn(|| bench.next()).collect();
    assert_eq!(plans.len(), 5);
    for plan in &plans {
        bench.settle(plan, Verdict::Deferred, Reached::No("connection refused"));
    }
    assert_eq!(bench.next(), None);
    bench.add("a@src.test", &["smtp:alive.test"]);
    let alive = bench.next().unwrap();
    bench.settle(&alive, Verdict::Settled, Reached::Yes);
    // From now on there is one probe at a time, until all have expired.
    let (mut probes, mut expired) = (0, 0);
    while bench.schedule.totals().messages() > 0 {
        if let Some(plan) = bench.next() {
            assert_eq!(bench.next(), None, "one probe at a time");
            probes += 1;
            expired +=
                bench.settle(&plan, Verdict::Deferred, Reached::No("connection refused")).expired.len();
        }
        assert_eq!(bench.next(), None);
        while let Some(notice) = bench.schedule.take_notice() {
            if let Notice::Expired { recipients, reason, .. } = notice {
                expired += recipients.len();
                assert_eq!(&*reason, "connection refused");
            }
        }
        if bench.schedule.totals().messages() > 0 {
            bench.now = bench.schedule.wake_ms().unwrap();
            bench.schedule.tick(bench.now);
        }
    }
    while let Some(notice) = bench.schedule.take_notice() {
        expired += usize::from(matches!(notice, Notice::Expired { .. }));
    }
    assert_eq!(expired, 50);
    assert!((80..400).contains(&probes), "{probes}");
    assert!(bench.now < 123 * HOUR);
}

#[test]
fn a_success_after_death_opens_the_window_again() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        bench.add("a@src.test", &["smtp:dst.test"]);
    }
    for plan in std::iter::from_fn(|| bench.next()).collect::<Vec<_>>() {
        bench.settle(&plan, Verdict::Deferred, Reached::No("timeout"));
    }
    assert_eq!(bench.next(), None);
    let mut delivered = 0;
    while bench.schedule.totals().messages() > 0 {
        while let Some(plan) = bench.next() {
            bench.settle(&plan, Verdict::Settled, Reached::Yes);
            delivered += 1;
        }
        if bench.schedule.wake_ms().is_some() {
            bench.sleep_until_due();
        }
    }
    assert_eq!(delivered, 20);
    assert!(bench.now < 1000 + 11 * 60_000, "{}", bench.now);
}

#[test]
fn a_bulk_sender_and_a_huge_message_do_not_stop_the_others() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        bench.add("bulk@src.test", &["smtp:dst.test"]);
    }
    bench.add("list@src.test", &["smtp:dst.test"; 5000]);
    let single = bench.add("a@other.test", &["smtp:dst.test"]);
    let mut before = 0;
    loop {
        let plan = bench.next().unwrap();
        if plan.id == single {
            break;
        }
        assert!(plan.recipients.len() <= 100);
        before += 1;
        bench.settle(&plan, Verdict::Settled, Reached::Yes);
    }
    assert!(before <= 4, "{before} went first");
}

#[test]
fn next_hops_take_turns_and_a_slow_one_does_not_hold_the_others() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.add("a@src.test", &["smtp:slow.test"]);
    }
    bench.add("a@src.test", &["smtp:quick.test"]);
    let plans: Vec<Plan> = std::iter::from_fn(|| bench.next()).collect();
    assert_eq!(plans.len(), 6, "five for the slow one, one for the quick one");
}

#[test]
fn the_window_grows_while_a_next_hop_answers() {
    let mut bench = Bench::new();
    for _ in 0..2000 {
        bench.add("a@src.test", &["smtp:dst.test"]);
    }
    let mut most = 0;
    while bench.schedule.totals().messages() > 0 {
        let plans: Vec<Plan> = std::iter::from_fn(|| bench.next()).collect();
        most = most.max(plans.len());
        for plan in plans {
            bench.settle(&plan, Verdict::Settled, Reached::Yes);
        }
    }
    assert_eq!(most, 20);
}

#[test]
fn credits_bound_a_lane_and_those_that_waited_go_on() {
    let mut bench = Bench::new();
    bench.schedule.lane_up(SMTP, 2, bench.now);
    for n in 0..10 {
        bench.add("a@src.test", &[format!("smtp:d{n}.test").as_str()]);
    }
    let mut delivered = 0;
    loop {
        let plans: Vec<Plan> = std::iter::from_fn(|| bench.next()).collect();
        if plans.is_empty() {
            break;
        }
        assert!(plans.len() <= 2);
        delivered += plans.len();
        for plan in plans {
            bench.settle(&plan, Verdict::Settled, Reached::Yes);
        }
    }
    assert_eq!(delivered, 10);
}

#[test]
fn a_dead_deliver_process_gives_its_leases_back() {
    let mut bench = Bench::new();
    bench.add("a@src.test", &["smtp:dst.test"]);
    let plan = bench.next().unwrap();
    assert_eq!(bench.schedule.lane_down(SMTP, bench.now), 1);
    let error = bench.schedule.settle(SMTP, plan.lease, &[(0, Verdict::Settled)], Reached::Yes, bench.now);
    assert_eq!(error, Err(LeaseError::Unknown), "too late");
    bench.schedule.lane_up(SMTP, 256, bench.now);
    assert_eq!(bench.next(), None);
    bench.sleep_until_due();
    assert!(bench.now <= 1000 + 10_100);
    let again = bench.next().unwrap();
    assert_eq!((again.id, again.attempts), (plan.id, 1));
}

#[test]
fn a_retired_process_finishes_what_it_has() {
    let mut bench = Bench::new();
    bench.add("a@src.test", &["smtp:dst.test"]);
    bench.add("a@src.test", &["smtp:other.test"]);
    let plan = bench.next().unwrap();
    bench.schedule.lane_retire(SMTP);
    assert!(bench.settle(&plan, Verdict::Settled, Reached::Yes).finished);
    let fresh = Lane { life: 1, ..SMTP };
    bench.schedule.lane_up(fresh, 256, bench.now);
    while let Some(plan) = bench.next() {
        assert_eq!(plan.lane, fresh);
    }
    assert_eq!(bench.schedule.lane_down(SMTP, bench.now), 0);
}

#[test]
fn outcomes_that_lie_are_refused() {
    let mut bench = Bench::new();
    bench.add("a@src.test", &["smtp:dst.test", "smtp:dst.test"]);
    let plan = bench.next().unwrap();
    let now = bench.now;
    let mut settle = |lane, lease, results: &[(u32, Verdict)]| {
        bench.schedule.settle(lane, lease, results, Reached::Yes, now).unwrap_err()
    };
    let (done, other) = (Verdict::Settled, Lane { kind: LaneKind::Mailbox, instance: 0, life: 0 });
    assert_eq!(settle(other, plan.lease, &[(0, done), (1, done)]), LeaseError::Unknown);
    assert_eq!(settle(SMTP, plan.lease + 1, &[(0, done), (1, done)]), LeaseError::Unknown);
    assert_eq!(settle(SMTP, plan.lease, &[(0, done)]), LeaseError::Recipients);
    assert_eq!(settle(SMTP, plan.lease, &[(0, done), (0, done)]), LeaseError::Recipients);
    assert_eq!(settle(SMTP, plan.lease, &[(0, done), (2, done)]), LeaseError::Recipients);
    assert!(bench.settle(&plan, done, Reached::Yes).finished);
}

#[test]
fn held_messages_stay_and_released_ones_go() {
    let mut bench = Bench::new();
    let id = bench.add("a@src.test", &["smtp:dst.test"]);
    assert!(bench.schedule.set_standing(id, Standing::Held));
    assert_eq!(bench.next(), None);
    assert_eq!(bench.schedule.totals().held, 1);
    assert!(bench.schedule.set_standing(id, Standing::Active));
    let plan = bench.next().unwrap();
    // Held while it is out: the outcome counts, the next attempt does not come.
    bench.schedule.set_standing(id, Standing::Held);
    bench.settle(&plan, Verdict::Deferred, Reached::Yes);
    bench.sleep_until_due();
    assert_eq!(bench.next(), None);
    bench.schedule.set_standing(id, Standing::Active);
    assert!(bench.next().is_some());
}

#[test]
fn flush_wakes_what_waits_and_what_was_found_dead() {
    let mut bench = Bench::new();
    let ids: Vec<QueueId> = (0..5).map(|_| bench.add("a@src.test", &["smtp:dst.test"])).collect();
    for plan in std::iter::from_fn(|| bench.next()).collect::<Vec<_>>() {
        bench.settle(&plan, Verdict::Deferred, Reached::No("timeout"));
    }
    assert_eq!(bench.next(), None);
    for id in &ids {
        assert!(bench.schedule.survey(*id, bench.now).unwrap().deferred);
        assert!(bench.schedule.flush(*id));
    }
    assert!(bench.next().is_some());
}

#[test]
fn a_message_deleted_while_it_is_out_is_gone() {
    let mut bench = Bench::new();
    let id = bench.add("a@src.test", &["smtp:dst.test"; 150]);
    let plan = bench.next().unwrap();
    assert!(bench.schedule.remove(id) && !bench.schedule.remove(id));
    let next = bench.add("b@src.test", &["smtp:dst.test"]);
    assert_eq!(bench.next().unwrap().id, next);
    assert_eq!(bench.settle(&plan, Verdict::Deferred, Reached::Yes), Settled::default());
    assert_eq!(
        (bench.schedule.totals().recipients, bench.schedule.items.len(), bench.schedule.jobs.len()),
        (1, 1, 1)
    );
}

#[test]
fn recovered_waits_are_kept_but_never_frozen() {
    let mut bench = Bench::new();
    let sender = ReversePath::Null;
    let hop = NextHop::parse("smtp:dst.test").unwrap();
    for wait_ms in [60_000, u64::MAX] {
        let id = bench.mint.next(1);
        let admission = Admission {
            id,
            sender: Sender::from(&sender),
            age_ms: HOUR,
            standing: Standing::Active,
            warned: true,
            timing: Timing::default(),
        };
        let pending = Pending { index: 3, next_hop: &hop, attempts: 7, wait_ms };
        bench.schedule.admit(&admission, [pending], bench.now).unwrap();
        let again = bench.schedule.admit(&admission, [pending], bench.now);
        assert_eq!(again, Err(AdmitError::Known));
    }
    assert_eq!(bench.next(), None);
    bench.sleep_until_due();
    assert!((61_000..61_200).contains(&bench.now), "{}", bench.now);
    let plan = bench.next().unwrap();
    assert_eq!((plan.recipients.as_slice(), plan.attempts), (&[3][..], 7));
    bench.sleep_until_due();
    assert!(bench.now < 1000 + 4_000_100 && bench.next().is_some());
}

#[test]
fn messages_without_recipients_and_impossible_places_are_refused_whole() {
    let mut bench = Bench::new();
    let (sender, hop) = (ReversePath::Null, NextHop::parse("maildir").unwrap());
    let id = bench.mint.next(1);
    let admission = Admission {
        id,
        sender: Sender::from(&sender),
        age_ms: 0,
        standing: Standing::Active,
        warned: false,
        timing: Timing::default(),
    };
    assert_eq!(bench.schedule.admit(&admission, [], 0), Err(AdmitError::Recipients));
    let pending = |index| Pending { index, next_hop: &hop, attempts: 0, wait_ms: 0 };
    assert_eq!(
        bench.schedule.admit(&admission, [pending(0), pending(10_000)], 0),
        Err(AdmitError::Recipients)
    );
    assert_eq!(bench.schedule.totals(), Totals::default());
    assert_eq!(bench.schedule.messages.len() + bench.schedule.jobs.len() + bench.schedule.items.len(), 0);
}

#[test]
fn pages_follow_each_other_in_order_of_id() {
    let mut bench = Bench::new();
    let mut ids: Vec<QueueId> = (0..25).map(|_| bench.add("a@src.test", &["smtp:dst.test"])).collect();
    bench.schedule.set_standing(ids[3], Standing::Held);
    let (mut listed, mut after) = (Vec::<QueueId>::new(), None);
    loop {
        let page = bench.schedule.ids_after(after, 10, |standing, _| standing == Standing::Active);
        listed.extend(page.iter().copied());
        after = page.last().copied();
        if page.len() < 10 {
            break;
        }
    }
    ids.remove(3);
    assert_eq!(listed, ids);
}

#[test]
fn a_recipient_costs_what_was_promised() {
    let mut bench = Bench::new();
    let count = 100_000;
    for n in 0..count {
        bench.add(&format!("s{}@src.test", n % 1000), &[format!("smtp:d{}.test", n % 500).as_str()]);
    }
    assert_eq!(bench.schedule.destinations(), 500);
    // Flows are at most as many as next hops times classes; here every eighth message has one of its own.
    let schedule = &bench.schedule;
    let octets = schedule.messages.len() * size_of::<Message>()
        + schedule.jobs.len() * size_of::<Job>()
        + schedule.items.len() * size_of::<Item>()
        + schedule.flows.len() * size_of::<Flow>()
        + (schedule.messages.len() + schedule.flows.len()) * 11
        + schedule.messages.len() * size_of::<u64>();
    assert!(octets / count <= 150, "{} octets for each recipient", octets / count);
}

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
    prop_assert_eq!(bench.schedule.totals().messages() as usize, model.unsettled.len());
    let recipients: usize = model.unsettled.values().map(BTreeSet::len).sum();
    prop_assert_eq!(bench.schedule.totals().recipients as usize, recipients);
    Ok(())
}

fn limited(rows: &[(&str, &str)], rates: &[(u32, u64)]) -> Settings {
    use vsmtp_config::{ByNextHop, DestinationLimits, TlsDestination};
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, text)| {
            let limits = DestinationLimits::parse(text).unwrap();
            (TlsDestination::parse(name).unwrap().into(), limits.into())
        })
        .collect();
    let read = |limits: &DestinationLimits| Limits {
        concurrency: limits.concurrency,
        rates: Some(
            limits
                .rates
                .iter()
                .map(|rate| Rate { count: rate.count, period_ms: rate.period.as_millis() as u64 })
                .collect(),
        ),
    };
    let rate = |(count, period_ms): &(u32, u64)| Rate { count: *count, period_ms: *period_ms };
    let limits =
        LimitTable { rates: rates.iter().map(rate).collect(), by_next_hop: ByNextHop::new(&rows, read) };
    Settings { limits, ..Settings::default() }
}

/// Settles whatever goes, and answers when each went, until nothing is left.
fn run_dry(bench: &mut Bench) -> Vec<(u64, String)> {
    let mut sent = Vec::new();
    loop {
        while let Some(plan) = bench.next() {
            let hop = bench.schedule.prospects(None, 10, bench.now);
            let hop = hop.iter().find(|one| one.attempts > 0).unwrap().next_hop.to_string();
            sent.push((bench.now, hop));
            bench.settle(&plan, Verdict::Settled, Reached::Yes);
        }
        if bench.schedule.totals().active == 0 {
            return sent;
        }
        bench.sleep_until_due();
    }
}

#[test]
fn a_rate_holds_for_its_next_hop_and_keeps_no_other() {
    let mut bench = Bench::new();
    bench.schedule.set_settings(limited(&[("slow.test", "rate=2/s rate=3/m")], &[]));
    for n in 0..5 {
        bench.add(&format!("s{n}@src.test"), &["smtp:slow.test"]);
        bench.add(&format!("s{n}@src.test"), &["smtp:fast.test"]);
    }
    let start = bench.now;
    let sent = run_dry(&mut bench);
    let of = |name: &str| -> Vec<u64> {
        sent.iter().filter(|(_, hop)| hop == name).map(|(at, _)| at - start).collect()
    };
    assert_eq!(of("smtp:fast.test"), [0; 5]);
    assert_eq!(of("smtp:slow.test"), [0, 0, 1000, 61_000, 61_000]);
}

#[test]
fn the_rate_of_all_is_not_for_mailboxes_and_servers_nearby_and_rows_come_before_it() {
    let mut bench = Bench::new();
    bench.schedule.set_settings(limited(&[("[own.test]:25", "rate=none")], &[(1, 5000)]));
    bench.schedule.lane_up(Lane { kind: LaneKind::Mailbox, instance: 0, life: 0 }, 10, bench.now);
    let hops = ["smtp:all.test", "smtp:[own.test]:25", "lmtp:unix:/run/l", "maildir"];
    for _ in 0..3 {
        for hop in hops {
            bench.add("a@src.test", &[hop]);
        }
    }
    let start = bench.now;
    let sent = run_dry(&mut bench);
    for hop in hops {
        let at: Vec<u64> = sent.iter().filter(|(_, to)| to == hop).map(|(at, _)| at - start).collect();
        assert_eq!(at, if hop == "smtp:all.test" { [0, 5000, 10_000] } else { [0; 3] }, "{hop}");
    }
}

#[test]
fn new_limits_hold_at_once_and_what_was_sent_still_counts() {
    let mut bench = Bench::new();
    bench.schedule.set_settings(limited(&[("slow.test", "rate=1/h")], &[]));
    for _ in 0..12 {
        bench.add("a@src.test", &["smtp:slow.test"]);
    }
    let plan = bench.next().unwrap();
    assert_eq!(bench.next(), None);
    bench.schedule.set_settings(limited(&[("slow.test", "rate=1/h concurrency=2")], &[]));
    assert_eq!(bench.next(), None);
    bench.schedule.set_settings(limited(&[("slow.test", "concurrency=2")], &[]));
    assert!(bench.next().is_some());
    assert_eq!(bench.next(), None, "one of the two places is taken by the first");
    bench.settle(&plan, Verdict::Settled, Reached::Yes);
    assert!(bench.next().is_some());
    assert_eq!(bench.next(), None, "no success makes it more than two");
}

#[test]
fn a_limited_next_hop_that_dies_keeps_nothing_parked() {
    let mut bench = Bench::new();
    bench.schedule.set_settings(limited(&[("slow.test", "rate=3/h")], &[]));
    for _ in 0..6 {
        bench.add("a@src.test", &["smtp:slow.test"]);
    }
    let plans: Vec<Plan> = std::iter::from_fn(|| bench.next()).collect();
    assert_eq!(plans.len(), 3);
    for plan in &plans {
        bench.settle(plan, Verdict::Deferred, Reached::No("connect: timeout"));
    }
    assert_eq!(bench.next(), None);
    let prospect = bench.schedule.prospects(None, 1, bench.now).remove(0);
    assert_eq!((prospect.condition, prospect.messages), (Condition::Dead, 6));
    assert_eq!(&*prospect.reason, "connect: timeout");
    bench.sleep_until_due();
    while bench.next().is_none() {
        bench.sleep_until_due();
    }
}

fn advised(bench: &mut Bench, verdict: Verdict, advice: Advice) -> Settled {
    let plan = bench.next().unwrap();
    let results: Vec<(u32, Verdict)> = plan.recipients.iter().map(|index| (*index, verdict)).collect();
    let report = Report { reached: Reached::Yes, advice };
    bench.schedule.settle(plan.lane, plan.lease, &results, report, bench.now).unwrap()
}

#[test]
fn a_wish_to_come_back_makes_the_first_waits_shorter_and_all_long_enough() {
    let mut bench = Bench::new();
    bench.add("a@src.test", &["smtp:grey.test"]);
    let mut waits = Vec::new();
    for wish in [60, 60, 60, 60, 7200] {
        let advice = Advice { retry_after_ms: wish * 1000, ..Advice::default() };
        waits.push(advised(&mut bench, Verdict::Deferred, advice).retry_in_ms / 1000);
        bench.sleep_until_due();
    }
    assert!(waits[..3].iter().all(|wait| (60..70).contains(wait)), "{waits:?}");
    assert!((2400..2800).contains(&waits[3]), "{waits:?}");
    assert!((7200..8200).contains(&waits[4]), "{waits:?}");
}

#[test]
fn a_host_that_asks_for_a_pause_gets_one_and_an_operator_can_end_it() {
    let mut bench = Bench::new();
    let ids: Vec<QueueId> = (0..3).map(|_| bench.add("a@src.test", &["smtp:busy.test"])).collect();
    let other = bench.add("a@src.test", &["smtp:other.test"]);
    let advice = Advice { pause_ms: 600_000, fewer: true, ..Advice::default() };
    advised(&mut bench, Verdict::Deferred, advice);
    let plan = bench.next().unwrap();
    assert_eq!((plan.id, bench.next()), (other, None));
    let found = bench.schedule.prospects(None, 10, bench.now);
    let busy = found.iter().find(|one| one.next_hop.to_string() == "smtp:busy.test").unwrap();
    assert_eq!((busy.condition, busy.concurrency), (Condition::Resting, 2));
    assert_eq!(busy.next_ms, Some(bench.now + 600_000));
    assert!(bench.schedule.flush(ids[2]));
    assert!(bench.next().is_some());
}

#[test]
fn a_host_that_has_too_much_to_do_is_not_taken_for_dead() {
    let mut bench = Bench::new();
    for _ in 0..8 {
        bench.add("a@src.test", &["smtp:busy.test"]);
    }
    for _ in 0..6 {
        let plan = bench.next().unwrap();
        let results = [(0, Verdict::Deferred)];
        let advice = Advice { fewer: true, ..Advice::default() };
        let report = Report { reached: Reached::No("421 too many connections"), advice };
        bench.schedule.settle(plan.lane, plan.lease, &results, report, bench.now).unwrap();
    }
    let found = bench.schedule.prospects(None, 10, bench.now);
    assert_eq!((found[0].condition, found[0].concurrency), (Condition::Up, 1));
    assert!(bench.next().is_some());
    assert_eq!(bench.next(), None);
}

/// What the schedule has found out: who was warned, and who failed.
fn notices(bench: &mut Bench) -> (Vec<QueueId>, Vec<(QueueId, Vec<u32>)>) {
    let (mut warned, mut expired) = (Vec::new(), Vec::new());
    while let Some(notice) = bench.schedule.take_notice() {
        match notice {
            Notice::Warn { id, .. } => warned.push(id),
            Notice::Expired { id, recipients, .. } => expired.push((id, recipients)),
            Notice::Unserved { .. } => panic!("nothing is for a service"),
        }
    }
    (warned, expired)
}

#[test]
fn what_waits_for_a_rate_grows_old_and_its_senders_hear_of_it() {
    let mut bench = Bench::new();
    let limits = limited(&[("slow.test", "rate=1/h concurrency=1")], &[]);
    bench.schedule.set_settings(Settings { lifetime_ms: 10 * HOUR, ..limits });
    let start = bench.now;
    for _ in 0..13 {
        bench.add("a@src.test", &["smtp:slow.test"]);
    }
    let (mut sent, mut warned, mut expired) = (0, Vec::new(), 0);
    while bench.schedule.totals().messages() > 0 {
        while let Some(plan) = bench.next() {
            bench.settle(&plan, Verdict::Settled, Reached::Yes);
            sent += 1;
        }
        bench.sleep_until_due();
        let age = bench.now - start;
        assert!(age < 11 * HOUR, "never expires");
        let (told, failed) = notices(&mut bench);
        for id in told {
            assert!((4 * HOUR..4 * HOUR + 120_000).contains(&age) && !warned.contains(&id), "{age}");
            warned.push(id);
        }
        assert!(failed.is_empty() || (10 * HOUR..10 * HOUR + 120_000).contains(&age), "{age}");
        expired += failed.len();
    }
    assert_eq!(sent + expired, 13);
    assert!((10..=11).contains(&sent) && (8..=9).contains(&warned.len()), "{sent} {}", warned.len());
}

#[test]
fn what_a_pause_keeps_back_expires_in_bounded_turns_and_takes_nothing_with_it() {
    let mut bench = Bench::new();
    bench.schedule.set_settings(Settings { lifetime_ms: 10 * HOUR, ..Settings::default() });
    let many = sweep::MAX_JOBS_AT_ONCE + sweep::MAX_NOTICES + 1;
    for _ in 0..many {
        bench.add("a@src.test", &["smtp:busy.test"]);
    }
    advised(&mut bench, Verdict::Settled, Advice { pause_ms: 48 * HOUR, ..Advice::default() });
    let both = bench.add("b@src.test", &["smtp:busy.test", "smtp:other.test"]);
    let held = bench.add("b@src.test", &["smtp:busy.test"]);
    bench.schedule.set_standing(held, Standing::Held);
    let other = bench.next().unwrap();
    assert_eq!((other.id, other.recipients.as_slice(), bench.next()), (both, &[1][..], None));
    let found = |bench: &mut Bench| {
        let (mut warned, mut expired) = (Vec::new(), Vec::new());
        while bench.schedule.tick(bench.now) {
            let (mut told, mut failed) = notices(bench);
            assert!(told.len() + failed.len() <= sweep::MAX_NOTICES);
            warned.append(&mut told);
            expired.append(&mut failed);
        }
        let (mut told, mut failed) = notices(bench);
        warned.append(&mut told);
        expired.append(&mut failed);
        (warned.into_iter().collect::<BTreeSet<_>>().len(), expired)
    };
    bench.now += 4 * HOUR;
    assert_eq!(found(&mut bench), (many, Vec::new()));
    bench.now += 6 * HOUR;
    let (warned, expired) = found(&mut bench);
    assert_eq!((warned, expired.len()), (0, many));
    assert!(expired.contains(&(both, vec![0])));
    assert!(bench.settle(&other, Verdict::Settled, Reached::Yes).finished, "the other one was out");
    assert_eq!((bench.schedule.totals().messages(), bench.schedule.contains(held)), (1, true));
    // What failed still stands in line, and must neither be tried nor stay.
    bench.schedule.remove(held);
    bench.now += 48 * HOUR;
    found(&mut bench);
    while !matches!(bench.schedule.next(bench.now), Next::Idle) {}
    assert_eq!((bench.schedule.jobs.len(), bench.schedule.flows.len()), (0, 0));
}

fn urgent(number: i64) -> Timing {
    Timing { priority: vsmtp_mail::Priority::new(number).unwrap(), lifetime_ms: None }
}

/// A bench whose next hops take one attempt at a time.
fn one_at_a_time() -> Bench {
    let mut bench = Bench::new();
    let settings = Settings { initial_concurrency: 1, max_concurrency: 1, ..Settings::default() };
    bench.schedule.set_settings(settings);
    bench
}

#[test]
fn what_is_urgent_goes_before_and_what_can_wait_is_never_forgotten() {
    const EACH: usize = 60;
    let mut bench = one_at_a_time();
    let mut priority_of = BTreeMap::new();
    for n in 0..EACH {
        for number in [-9, -1, 0, 1, 9] {
            let sender = format!("a{}@src.test", n % 7);
            let id = bench.add_with(&sender, &["smtp:dst.test"], 0, urgent(number));
            priority_of.insert(id, number.signum());
        }
    }
    let mut order = Vec::new();
    while let Some(plan) = bench.next() {
        assert_eq!(bench.next(), None, "one at a time");
        order.push(priority_of[&plan.id]);
        bench.settle(&plan, Verdict::Settled, Reached::Yes);
    }
    assert_eq!(order.len(), 5 * EACH);
    // As long as all have something to do, each has its share of any thirteen in a row.
    let last_urgent = order.iter().rposition(|sign| *sign == 1).unwrap();
    for some in order[..last_urgent].windows(13) {
        let count = |sign| some.iter().filter(|other| **other == sign).count();
        assert_eq!((count(1), count(0), count(-1)), (9, 3, 1), "{order:?}");
    }
}

#[test]
fn an_urgent_message_overtakes_those_that_wait_for_its_next_hop() {
    let mut bench = one_at_a_time();
    for n in 0..100 {
        bench.add(&format!("a{n}@src.test"), &["smtp:dst.test"]);
    }
    for _ in 0..20 {
        let plan = bench.next().unwrap();
        assert_eq!(bench.next(), None);
        let urgent = bench.add_with("b@src.test", &["smtp:dst.test"], 0, urgent(1));
        bench.settle(&plan, Verdict::Settled, Reached::Yes);
        let mut overtook = 0;
        loop {
            let plan = bench.next().unwrap();
            bench.settle(&plan, Verdict::Settled, Reached::Yes);
            if plan.id == urgent {
                break;
            }
            overtook += 1;
        }
        assert!(overtook <= 1, "{overtook} went before it");
    }
}

#[test]
fn a_lifetime_of_its_own_ends_when_it_ends_and_without_another_attempt() {
    let own = |lifetime_ms| Timing { lifetime_ms: Some(lifetime_ms), ..Timing::default() };
    let mut bench = Bench::new();
    let began = bench.now;
    let id = bench.add_with("a@src.test", &["smtp:dst.test", "smtp:other.test"], 0, own(12 * 60_000));
    let mut attempts = 0;
    let expired = loop {
        while let Some(plan) = bench.next() {
            attempts += 1;
            bench.settle(&plan, Verdict::Deferred, Reached::Yes);
        }
        match bench.schedule.take_notice() {
            Some(Notice::Expired { id: expired, recipients, finished, .. }) => {
                assert_eq!((expired, recipients.len()), (id, 1));
                if finished {
                    break bench.now;
                }
            }
            Some(other) => panic!("{other:?}"),
            None => bench.sleep_until_due(),
        }
    };
    assert_eq!(attempts, 4, "two at once, two five minutes later");
    assert!((720_000..721_000).contains(&(expired - began)), "{}", expired - began);
    assert!(bench.schedule.lifetimes.is_empty() && !bench.schedule.contains(id));
    // One that outlives the others is begun.
    bench.add_with("a@src.test", &["smtp:dst.test"], 200 * HOUR, own(300 * HOUR));
    let plan = bench.next().unwrap();
    assert!(!bench.settle(&plan, Verdict::Deferred, Reached::Yes).finished);
}

/// A bench that has run for long enough to trust its clock.
fn long_running() -> Bench {
    let mut bench = Bench::new();
    bench.now += 2 * HOUR;
    bench
}

#[test]
fn a_lifetime_of_its_own_that_seems_over_at_the_start_has_its_grace() {
    let own = Timing { lifetime_ms: Some(60_000), ..Timing::default() };
    let mut bench = Bench::new();
    let id = bench.add_with("a@src.test", &["smtp:dst.test"], 2 * HOUR, own);
    let began = bench.now;
    let mut attempts = 0;
    let ended = loop {
        if let Some(plan) = bench.next() {
            attempts += 1;
            assert!(attempts < 20, "it must not be tried all the time");
            assert!(bench.settle(&plan, Verdict::Deferred, Reached::Yes).expired.is_empty());
        }
        match bench.schedule.take_notice() {
            Some(Notice::Expired { id: expired, finished: true, .. }) if expired == id => break bench.now,
            Some(Notice::Warn { .. }) => {}
            Some(other) => panic!("{other:?}"),
            None => bench.sleep_until_due(),
        }
    };
    assert!(
        attempts >= 3 && (HOUR..HOUR + 1000).contains(&(ended - began)),
        "{attempts} in {}",
        ended - began
    );
    assert!(bench.schedule.spared.is_empty());
}

#[test]
fn a_lifetime_of_its_own_that_is_over_when_a_message_comes_back_leaves_one_attempt() {
    let own = Timing { lifetime_ms: Some(60_000), ..Timing::default() };
    let mut bench = long_running();
    let hops = ["smtp:dst.test", "smtp:dst.test", "smtp:other.test"];
    bench.add_with("a@src.test", &hops, HOUR, own);
    let (one, other) = (bench.next().unwrap(), bench.next().unwrap());
    assert_eq!(bench.settle(&one, Verdict::Deferred, Reached::Yes).expired.len(), one.recipients.len());
    let last = bench.settle(&other, Verdict::Deferred, Reached::Yes);
    assert!(last.finished && last.expired.len() == other.recipients.len());
    assert!(bench.schedule.spared.is_empty() && bench.schedule.take_notice().is_none());
}

#[test]
fn a_dead_next_hop_keeps_the_one_attempt_waiting_and_does_not_spin() {
    let own = Timing { lifetime_ms: Some(60_000), ..Timing::default() };
    let mut bench = long_running();
    // Others have found out that there is nobody.
    for _ in 0..8 {
        bench.add("b@src.test", &["smtp:dst.test"]);
    }
    while let Some(plan) = bench.next() {
        bench.settle(&plan, Verdict::Deferred, Reached::No("refused"));
    }
    let id = bench.add_with("a@src.test", &["smtp:dst.test"], HOUR, own);
    assert!(bench.next().is_none() && bench.schedule.take_notice().is_none());
    let mut turns = 0;
    let expired = loop {
        bench.sleep_until_due();
        turns += 1;
        assert!(turns < 100, "it waits in vain");
        while let Some(plan) = bench.next() {
            let settled = bench.settle(&plan, Verdict::Deferred, Reached::No("refused"));
            if plan.id == id {
                assert!(settled.finished);
                return assert!(bench.schedule.spared.is_empty());
            }
        }
        if let Some(notice) = bench.schedule.take_notice() {
            break notice;
        }
    };
    panic!("not tried: {expired:?}");
}

#[test]
fn a_deliver_process_that_dies_of_a_message_does_not_keep_it_for_ever() {
    let own = Timing { lifetime_ms: Some(60_000), ..Timing::default() };
    let mut bench = long_running();
    let id = bench.add_with("a@src.test", &["smtp:dst.test"], HOUR, own);
    for life in 1..10 {
        bench.schedule.tick(bench.now);
        if bench.next().is_some() {
            bench.schedule.lane_down(Lane { life: life - 1, ..SMTP }, bench.now);
            bench.schedule.lane_up(Lane { life, ..SMTP }, 256, bench.now);
        }
        match bench.schedule.take_notice() {
            Some(Notice::Expired { id: expired, .. }) => return assert!(expired == id && life > 2),
            _ => bench.now = bench.schedule.wake_ms().unwrap(),
        }
    }
    panic!("it is tried for ever");
}

#[test]
fn what_expires_at_once_is_told_a_bounded_number_at_a_time() {
    let own = Timing { lifetime_ms: Some(60_000), ..Timing::default() };
    let mut bench = one_at_a_time();
    let many = 3 * sweep::MAX_NOTICES;
    for n in 0..many {
        bench.add_with(&format!("a{n}@src.test"), &["smtp:dst.test"], 0, own);
    }
    let stuck = bench.next().unwrap();
    bench.now += 2 * HOUR;
    bench.settle(&stuck, Verdict::Settled, Reached::Yes);
    // In line, and ready at once.
    let mut told = 1;
    while bench.schedule.next(bench.now) == Next::Later {
        let now = std::iter::from_fn(|| bench.schedule.take_notice()).count();
        assert!((1..=sweep::MAX_NOTICES).contains(&now), "{now}");
        told += now;
    }
    told += std::iter::from_fn(|| bench.schedule.take_notice()).count();
    assert_eq!(told, many);
    // Waiting, and due at once.
    for n in 0..many {
        bench.add_with(&format!("a{n}@src.test"), &["smtp:dst.test"], 0, own);
    }
    while let Some(plan) = bench.next() {
        bench.settle(&plan, Verdict::Deferred, Reached::Yes);
    }
    bench.now += 2 * HOUR;
    let mut told = 0;
    loop {
        let more = bench.schedule.tick(bench.now);
        let now = std::iter::from_fn(|| bench.schedule.take_notice()).count();
        assert!(now <= sweep::MAX_NOTICES, "{now}");
        told += now;
        if !more {
            break;
        }
    }
    assert_eq!(told, many);
}
