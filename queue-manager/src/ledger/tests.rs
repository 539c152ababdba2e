//! Store and schedule stay in step, on a disk that fails when it is told to. Here is the bench, and what a failure or a
//! restart leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vsmtp_ipc::edge::ctl_queue::{Request, Selection};
use vsmtp_ipc::edge::queue_deliver::{self, Reach, Result3};
use vsmtp_mail::{
    Address, BodyType, Envelope, NextHop, Notify, Recipient, RecipientClass, ReversePath, header_end,
};

use super::*;
use crate::content;
use crate::control::Work;
use crate::delegation;
use crate::outcome::{self, Attempted, Outcome};
use crate::schedule::{Lane, LaneKind, Next, Plan, Standing, Verdict};
use crate::settings::tests::slice;
use crate::store::{Disposition, Options, Origin, RealDisk, RecipientState, RemoveReason, Unrecovered};

mod anew;
mod delegated;
mod disk;
mod tls_reports;
mod told;

use disk::{FailingDisk, Faults};

const LANE: Lane = Lane { kind: LaneKind::Smtp, instance: 0, life: 1 };
const MAILBOX: Lane = Lane { kind: LaneKind::Mailbox, instance: 0, life: 2 };
const NOW: Clock = Clock { mono_ms: 1000, wall_ms: 1_000_000_000 };

struct Bench {
    ledger: Ledger,
    folder: tempfile::TempDir,
    faults: Arc<Faults>,
    clock: Clock,
    /// Deliver says that relays are to be reported.
    relayed: bool,
}

impl Bench {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap(), Options::default())
    }

    /// One that takes no new message while so much is on its way to the disk.
    fn narrow(max_in_flight_bytes: usize) -> Self {
        Self::on(tempfile::tempdir().unwrap(), Options { max_in_flight_bytes, ..Options::default() })
    }

    fn on(folder: tempfile::TempDir, options: Options) -> Self {
        let faults = Arc::new(Faults::default());
        let disk = FailingDisk { disk: RealDisk::create(folder.path()).unwrap(), faults: faults.clone() };
        let options = Options { segment_bytes: 1 << 20, low_water_bytes: 0, warm_bytes: 0, ..options };
        let (store, summaries, _) = Unrecovered::on(Arc::new(disk), options).recover_inline().unwrap();
        let settings = Settings::from(&slice(&[]));
        let mint = QueueIdMint::new(1, vsmtp_sys::random::random_u64().unwrap() as u32);
        let mut ledger = Ledger::new(store, summaries, settings, mint, 1, NOW);
        ledger.judgement = Judgement::Wanted { postq: false, delivery: false };
        while ledger.load(NOW) {}
        ledger.schedule.lane_up(LANE, 256, NOW.mono_ms);
        ledger.schedule.lane_up(MAILBOX, 256, NOW.mono_ms);
        Bench { ledger, folder, faults, clock: NOW, relayed: false }
    }

    /// The process dies; what it has written stays.
    fn restart(self) -> Self {
        drop(self.ledger);
        Self::on(self.folder, Options::default())
    }

    fn poll(&mut self) -> Vec<Result<(), CommitError>> {
        let mut ended = Vec::new();
        let mut events = Vec::new();
        self.ledger.store.sync(&mut events);
        self.ledger.take_in(&mut events, self.clock, &mut ended);
        self.ledger.poll(self.clock, &mut ended);
        ended.into_iter().map(|one| one.result).collect()
    }

    fn add(&mut self, hops: &[&str]) -> QueueId {
        self.add_for(hops, Notify::default())
    }

    fn add_for(&mut self, hops: &[&str], notify: Notify) -> QueueId {
        let fresh = self.fresh(hops, notify);
        self.take(fresh)
    }

    fn take(&mut self, fresh: Fresh) -> QueueId {
        let id = fresh.id;
        let after = After { tell: Tell::Filter { edge: 1, ticket: 1 }, reload: Reload::Never };
        self.ledger.commit(Vec::new(), vec![fresh], Urgency::Durable, after).unwrap();
        id
    }

    fn fresh(&mut self, hops: &[&str], notify: Notify) -> Fresh {
        let recipient = |(at, hop): (usize, &&str)| Recipient {
            chosen: false,
            address: Address::parse(&format!("r{at}@dst.test")).unwrap(),
            original: None,
            notify,
            class: RecipientClass::Other,
            next_hop: NextHop::parse(hop).unwrap(),
        };
        let envelope = Envelope {
            reverse_path: ReversePath::parse("a@src.test").unwrap(),
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            demands: vsmtp_mail::Demands::default(),
            terms: vsmtp_mail::Terms::default(),
            recipients: hops.iter().enumerate().map(recipient).collect(),
        };
        let chunk = Chunk::from(b"Subject: x\r\n\r\nbody\r\n".to_vec());
        Fresh {
            id: self.ledger.mint(self.clock),
            state: MessageState::fresh(self.clock.wall_ms, Origin::default(), envelope),
            body: NewBody::Inline(vec![chunk.clone()]),
            parts: Some(vec![chunk]),
            size: 20,
        }
    }

    fn stored(&mut self, hops: &[&str]) -> QueueId {
        self.stored_for(hops, Notify::default())
    }

    fn stored_for(&mut self, hops: &[&str], notify: Notify) -> QueueId {
        let id = self.add_for(hops, notify);
        assert_eq!(self.poll(), [Ok(())]);
        id
    }

    fn lease(&mut self) -> Option<Plan> {
        match self.ledger.schedule.next(self.clock.mono_ms) {
            Next::Lease(plan) => Some(plan),
            Next::Idle | Next::Later => None,
        }
    }

    /// Delivery of a lease ends like this.
    fn settle(&mut self, plan: &Plan, result: Result3) {
        self.settle_for(plan, result, None);
    }

    fn settle_for(&mut self, plan: &Plan, result: Result3, service: Option<u32>) {
        let state = self.ledger.outgoing(plan.id).unwrap().state;
        let attempted = Attempted { id: plan.id, state, leased: self.clock, service };
        let enhanced = match result {
            Result3::Delivered => (2, 0, 0),
            Result3::Deferred => (4, 0, 0),
            Result3::Failed => (5, 0, 0),
        };
        let settled =
            |index: &u32| queue_deliver::Settled { index: *index, result, enhanced, text: "x".to_owned() };
        let wire = queue_deliver::Outcome {
            lease: plan.lease,
            settled: plan.recipients.iter().map(settled).collect(),
            reach: Reach::Reached,
            advice: queue_deliver::Advice::default(),
            remote: String::new(),
            tls: "none".to_owned(),
            reports: false,
            relayed: self.relayed,
            delays_ms: (0, 0, 0),
            sessions: Vec::new(),
        };
        let outcome = Outcome::try_from(&wire).unwrap();
        let settled = self.ledger.schedule.settle(
            plan.lane,
            plan.lease,
            // In the schedule nobody is settled by a service.
            &service.map_or_else(|| outcome.verdicts(), |index| vec![(index, Verdict::Deferred)]),
            outcome.report(),
            self.clock.mono_ms,
        );
        if attempted.service.is_some() {
            let one = delegation::as_a_whole(&outcome, plan.recipients[0]).unwrap();
            let settled = settled.unwrap();
            return delegation::settle(&mut self.ledger, &attempted, &outcome, (&one, &settled), self.clock);
        }
        outcome::apply(&mut self.ledger, &attempted, &outcome, &settled.unwrap(), self.clock);
    }

    /// What an operator is answered at once.
    fn order(&mut self, request: Request) -> Option<String> {
        let mut work = Work::new(request, &self.ledger, self.clock).unwrap();
        work.go_on(1, 0, &mut self.ledger, self.clock).map(|answer| format!("{answer:?}"))
    }

    fn sleep(&mut self, milliseconds: u64) {
        self.clock.mono_ms += milliseconds;
        self.clock.wall_ms += milliseconds;
        while self.ledger.schedule.tick(self.clock.mono_ms) {}
        self.ledger.read_again(self.clock);
        self.ledger.tell_again(self.clock);
    }
}

#[test]
fn a_message_whose_sync_failed_was_never_there() {
    let mut bench = Bench::new();
    bench.faults.sync.store(true, Ordering::Relaxed);
    let id = bench.add(&["smtp:dst.test"]);
    assert!(matches!(bench.poll()[..], [Err(_)]));
    assert!(!bench.ledger.schedule.contains(id) && !bench.ledger.store.contains(id));
    bench.faults.sync.store(false, Ordering::Relaxed);
    let next = bench.stored(&["smtp:dst.test"]);
    assert_eq!(bench.lease().unwrap().id, next);
    let mut bench = bench.restart();
    assert_eq!(bench.lease().unwrap().id, next);
    assert_eq!(bench.lease(), None);
}

#[test]
fn a_delivery_that_could_not_be_written_is_written_later() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:dst.test"]);
    let plan = bench.lease().unwrap();
    bench.faults.sync.store(true, Ordering::Relaxed);
    bench.settle(&plan, Result3::Delivered);
    bench.poll();
    assert!(bench.ledger.store.contains(id) && bench.lease().is_none());
    bench.faults.sync.store(false, Ordering::Relaxed);
    // The next message finds a new segment, and the store's patience brings the rest along.
    bench.stored(&["smtp:dst.test"]);
    bench.poll();
    assert!(!bench.ledger.store.contains(id));
}

#[test]
fn a_failure_whose_report_could_not_be_written_is_tried_again() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:dst.test"]);
    let plan = bench.lease().unwrap();
    bench.faults.sync.store(true, Ordering::Relaxed);
    bench.settle(&plan, Result3::Failed);
    bench.poll();
    bench.faults.sync.store(false, Ordering::Relaxed);
    assert!(bench.ledger.schedule.contains(id), "visible");
    assert_eq!(bench.lease(), None, "and tried again later");
    bench.sleep(RELOAD_WAIT_MS + 1000);
    let plan = bench.lease().unwrap();
    bench.settle(&plan, Result3::Failed);
    bench.poll();
    let report = bench.lease().unwrap();
    assert!(report.id != id && !bench.ledger.store.contains(id));
}

#[test]
fn a_failure_and_its_report_are_one() {
    for fails in [false, true] {
        let mut bench = Bench::new();
        let id = bench.stored(&["smtp:dst.test"]);
        let plan = bench.lease().unwrap();
        bench.faults.sync.store(fails, Ordering::Relaxed);
        bench.settle(&plan, Result3::Failed);
        bench.poll();
        let mut bench = bench.restart();
        assert_eq!(bench.ledger.store.len(), 1);
        assert_eq!(bench.ledger.store.contains(id), fails);
        let plan = bench.lease().unwrap();
        let outgoing = bench.ledger.outgoing(plan.id).unwrap();
        let start = content::start(&outgoing.parts, 10_000).unwrap();
        let is_report = outgoing.state.envelope.reverse_path == ReversePath::Null;
        assert_eq!((is_report, plan.id == id), (!fails, fails));
        assert!(header_end(&start) > 0);
    }
}

#[test]
fn failures_wait_for_the_rest_of_their_message_but_not_for_ever() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:dst.test", "smtp:other.test"]);
    let (first, _second) = (bench.lease().unwrap(), bench.lease().unwrap());
    bench.settle(&first, Result3::Failed);
    bench.poll();
    assert_eq!(bench.ledger.store.len(), 1, "the other recipient is still out");
    assert!(bench.ledger.failures.overdue(bench.clock).is_empty());
    bench.sleep(61_000);
    assert_eq!(bench.ledger.failures.overdue(bench.clock), [id]);
    outcome::close(&mut bench.ledger, id, bench.clock);
    bench.poll();
    assert_eq!(bench.ledger.store.len(), 2);
    let state = bench.ledger.store.message(id).unwrap().state;
    let failed = |index: u32| matches!(state.progress[index as usize], RecipientState::Failed(_));
    assert!(failed(first.recipients[0]) && !failed(1 - first.recipients[0]));
}

#[test]
fn what_cannot_be_read_is_listed_and_read_again() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:dst.test", "smtp:dst.test"]);
    bench.faults.read.store(true, Ordering::Relaxed);
    bench.ledger.reload(id, 0, bench.clock);
    let survey = bench.ledger.schedule.survey(id, bench.clock.mono_ms).unwrap();
    assert_eq!(survey.standing, Standing::Dead);
    bench.sleep(RELOAD_WAIT_MS + 1);
    assert!(bench.ledger.schedule.contains(id));
    bench.faults.read.store(false, Ordering::Relaxed);
    assert_eq!(bench.lease(), None);
    bench.sleep(RELOAD_WAIT_MS + 1);
    assert_eq!(bench.lease().unwrap().recipients, [0, 1]);
}

#[test]
fn what_is_put_aside_takes_no_memory_from_what_goes_out() {
    let mut bench = Bench::new();
    let goes_out = bench.stored(&["smtp:dst.test"]);
    let mut fresh = bench.fresh(&["smtp:dst.test"], Notify::default());
    fresh.state.disposition = Disposition::Quarantine("spam".into());
    let put_aside = bench.take(fresh);
    assert_eq!(bench.poll(), [Ok(())]);
    assert!(bench.ledger.warm.lookup(goes_out).is_some());
    assert!(bench.ledger.warm.lookup(put_aside).is_none());
    assert!(!bench.ledger.outgoing(put_aside).unwrap().parts.is_empty(), "it can be read all the same");
}

#[test]
fn what_the_store_has_set_aside_is_tried_no_more() {
    let mut bench = Bench::new();
    let (lost, other) = (bench.stored(&["smtp:dst.test"]), bench.stored(&["smtp:dst.test"]));
    let alarm = Event::Alarm(crate::store::Alarm::Unreadable(lost, "a hole".to_owned()));
    bench.ledger.take_in(&mut vec![alarm], bench.clock, &mut Vec::new());
    assert!(!bench.ledger.schedule.contains(lost) && bench.ledger.warm.lookup(lost).is_none());
    assert_eq!(bench.lease().unwrap().id, other);
    assert_eq!(bench.lease(), None);
}

#[test]
fn deferrals_are_remembered() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:dst.test"]);
    let plan = bench.lease().unwrap();
    bench.settle(&plan, Result3::Deferred);
    bench.poll();
    let mut bench = bench.restart();
    assert_eq!(bench.lease(), None, "it waits as it did before");
    let survey = bench.ledger.schedule.survey(id, bench.clock.mono_ms).unwrap();
    assert_eq!((survey.deferred, survey.attempts), (true, 1));
    bench.sleep(340_000);
    assert_eq!(bench.lease().unwrap().attempts, 1);
}

#[test]
fn a_crash_between_the_last_outcome_and_the_removal_leaves_nothing() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:dst.test"]);
    let results = vec![(0, RecipientState::Delivered(None))];
    let clock = bench.clock;
    bench.ledger.change(Change::Outcome { id, results }, Urgency::Lazy, After::NOTHING, clock);
    bench.poll();
    let mut bench = bench.restart();
    assert_eq!(bench.lease(), None);
    bench.poll();
    assert!(bench.ledger.store.is_empty());
}

#[test]
fn a_message_whose_removal_is_on_its_way_does_not_come_back() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:dst.test"]);
    let plan = bench.lease().unwrap();
    bench.settle(&plan, Result3::Delivered);
    assert!(bench.ledger.store.is_leaving(id));
    bench.ledger.reload(id, 0, bench.clock);
    assert_eq!(bench.lease(), None, "it would be delivered twice");
    bench.poll();
    assert!(!bench.ledger.store.contains(id));
}

#[test]
fn a_removal_that_failed_brings_the_message_back() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:dst.test"]);
    let clock = bench.clock;
    bench.faults.sync.store(true, Ordering::Relaxed);
    let change = Change::Remove { id, reason: RemoveReason::Deleted };
    bench.ledger.change(change, Urgency::Durable, After::or_reload(id), clock);
    bench.ledger.reload(id, 0, clock);
    assert!(!bench.ledger.schedule.contains(id));
    bench.poll();
    assert!(!bench.ledger.store.is_leaving(id) && bench.ledger.schedule.contains(id));
}

#[test]
fn a_message_that_is_read_again_while_nothing_is_left_of_it_ends_once() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:dst.test"]);
    let results = vec![(0, RecipientState::Delivered(None))];
    let clock = bench.clock;
    bench.ledger.change(Change::Outcome { id, results }, Urgency::Lazy, After::NOTHING, clock);
    bench.poll();
    for _ in 0..3 {
        bench.ledger.reload(id, 0, clock);
    }
    assert!(bench.ledger.store.is_leaving(id));
    bench.poll();
    assert!(bench.ledger.store.is_empty());
}

#[test]
fn nobody_is_woken_for_what_was_put_off_while_nobody_can_be_asked() {
    let mut bench = Bench::new();
    let id = bench.add(&["smtp:dst.test"]);
    bench.ledger.put_off(id, bench.clock);
    let due = crate::post::Post::wake_ms(&bench.ledger);
    assert!(due.is_some_and(|due| due > bench.clock.mono_ms));
    bench.ledger.judgement = Judgement::Unknown;
    assert_eq!(crate::post::Post::wake_ms(&bench.ledger), None);
}
