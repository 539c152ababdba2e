//! Messages that are read anew while something of them is under way: nobody gets one twice, and none stays behind.

use super::*;

impl Bench {
    /// An order that is carried out and on disk.
    fn obeyed(&mut self, request: Request) {
        assert_eq!(self.order(request), None, "not on disk yet");
        assert_eq!(self.poll(), [Ok(())]);
    }

    pub(super) fn hold_and_release(&mut self, id: QueueId) {
        self.obeyed(Request::Hold(Selection::One(id.into())));
        self.obeyed(Request::Release(Selection::One(id.into())));
    }

    fn standing(&self, id: QueueId) -> Option<Standing> {
        self.ledger.schedule.survey(id, self.clock.mono_ms).map(|survey| survey.standing)
    }
}

#[test]
fn nobody_is_tried_again_while_an_attempt_at_the_message_is_out() {
    for how in 0..4 {
        let mut bench = Bench::new();
        let id = bench.stored(&["smtp:a.test", "smtp:b.test", "smtp:c.test"]);
        let out: Vec<Plan> = (0..3).map(|_| bench.lease().unwrap()).collect();
        bench.hold_and_release(id);
        assert_eq!((bench.lease(), bench.standing(id)), (None, Some(Standing::Stale)), "{how}");
        bench.settle(&out[0], Result3::Delivered);
        bench.poll();
        bench.settle(&out[1], Result3::Failed);
        bench.poll();
        assert_eq!((bench.lease(), bench.standing(id)), (None, Some(Standing::Stale)), "{how}");
        match how {
            0 => bench.settle(&out[2], Result3::Delivered),
            1 => bench.settle(&out[2], Result3::Deferred),
            2 => bench.ledger.schedule.give_back(out[2].lease, bench.clock.mono_ms),
            _ => {
                bench.ledger.schedule.lane_down(LANE, bench.clock.mono_ms);
                bench.ledger.schedule.lane_up(LANE, 256, bench.clock.mono_ms);
            }
        }
        assert_eq!(bench.lease(), None, "what came of it is not on disk yet");
        bench.poll();
        let mut again: Vec<u32> =
            std::iter::from_fn(|| bench.lease()).flat_map(|plan| plan.recipients).collect();
        again.sort_unstable();
        let left = out[if how == 0 { 1..2 } else { 1..3 }].iter().flat_map(|plan| plan.recipients.clone());
        let mut left: Vec<u32> = left.collect();
        left.sort_unstable();
        assert_eq!(again, left, "{how}: at once, and who has it has it once");
    }
}

#[test]
fn a_requeue_waits_for_what_is_out_and_then_asks_policy() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:a.test"]);
    let plan = bench.lease().unwrap();
    bench.obeyed(Request::Requeue(Selection::One(id.into())));
    assert_eq!(bench.standing(id), Some(Standing::Stale));
    bench.settle(&plan, Result3::Deferred);
    bench.poll();
    assert_eq!(bench.standing(id), Some(Standing::Judging));
    assert!(bench.ledger.line.contains(&id) && bench.ledger.rerouting.contains(&id));
    // All were delivered: there is nothing to ask.
    let id = bench.stored(&["smtp:a.test"]);
    let plan = bench.lease().unwrap();
    bench.obeyed(Request::Requeue(Selection::One(id.into())));
    bench.settle(&plan, Result3::Delivered);
    bench.poll();
    bench.poll();
    assert!(!bench.ledger.store.contains(id) && !bench.ledger.schedule.contains(id));
}

#[test]
fn a_flush_is_heeded_when_nothing_is_out_any_more() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:a.test", "smtp:b.test"]);
    let first = bench.lease().unwrap();
    bench.settle(&first, Result3::Deferred);
    let second = bench.lease().unwrap();
    bench.poll();
    bench.ledger.reload(id, 0, bench.clock);
    assert!(bench.order(Request::Flush(Selection::One(id.into()))).is_some_and(|said| said.ends_with("(1)")));
    assert_eq!(bench.lease(), None);
    bench.settle(&second, Result3::Deferred);
    bench.poll();
    assert!(bench.lease().is_some() && bench.lease().is_some());
}

#[test]
fn what_could_not_be_committed_is_not_tried_again_while_an_attempt_is_out() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:a.test", "smtp:b.test"]);
    let (first, second) = (bench.lease().unwrap(), bench.lease().unwrap());
    let clock = bench.clock;
    bench.faults.sync.store(true, Ordering::Relaxed);
    let change = Change::State { id, change: crate::store::StateChange::DelayReported };
    bench.ledger.change(change, Urgency::Durable, After::or_reload(id), clock);
    bench.poll();
    bench.faults.sync.store(false, Ordering::Relaxed);
    bench.sleep(RELOAD_WAIT_MS + 10_000);
    assert_eq!(bench.lease(), None);
    bench.settle(&first, Result3::Delivered);
    bench.settle(&second, Result3::Deferred);
    bench.poll();
    bench.poll();
    assert_eq!(bench.lease().unwrap().recipients, second.recipients);
}

#[test]
fn a_deletion_that_failed_waits_for_what_is_out() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:a.test"]);
    let plan = bench.lease().unwrap();
    bench.faults.sync.store(true, Ordering::Relaxed);
    assert_eq!(bench.order(Request::Delete(Selection::One(id.into()))), None);
    assert!(matches!(bench.poll()[..], [Err(_)]));
    bench.faults.sync.store(false, Ordering::Relaxed);
    assert_eq!(bench.standing(id), Some(Standing::Stale), "visible");
    bench.sleep(RELOAD_WAIT_MS + 10_000);
    assert_eq!(bench.lease(), None);
    bench.settle(&plan, Result3::Deferred);
    bench.poll();
    assert!(bench.lease().is_some());
}

#[test]
fn an_order_to_hold_outlasts_the_end_of_what_is_out() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:a.test"]);
    let plan = bench.lease().unwrap();
    bench.hold_and_release(id);
    assert_eq!(bench.order(Request::Hold(Selection::One(id.into()))), None, "not on disk yet");
    bench.settle(&plan, Result3::Deferred);
    let mut ended = Vec::new();
    bench.ledger.read_once_more(bench.clock);
    assert_eq!((bench.lease(), bench.standing(id)), (None, Some(Standing::Held)));
    bench.ledger.poll(bench.clock, &mut ended);
    bench.poll();
    assert_eq!((bench.lease(), bench.standing(id)), (None, Some(Standing::Held)));
    bench.obeyed(Request::Release(Selection::One(id.into())));
    assert!(bench.lease().is_some());
}

#[test]
fn an_outcome_that_is_on_its_way_to_the_disk_counts_though_the_order_is_there_before_it() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:a.test", "smtp:b.test"]);
    let plan = bench.lease().unwrap();
    bench.obeyed(Request::Hold(Selection::One(id.into())));
    assert_eq!(bench.order(Request::Release(Selection::One(id.into()))), None, "not on disk yet");
    let (mut events, mut ended) = (Vec::new(), Vec::new());
    bench.ledger.store.sync(&mut events);
    bench.settle(&plan, Result3::Delivered);
    bench.ledger.take_in(&mut events, bench.clock, &mut ended);
    assert_eq!(ended.len(), 1, "only the order has ended");
    bench.ledger.read_once_more(bench.clock);
    assert_eq!(bench.lease(), None, "the store does not know yet who has it");
    bench.poll();
    let again = bench.lease().unwrap();
    assert_ne!(again.recipients, plan.recipients);
    assert_eq!(bench.lease(), None);
}

#[test]
fn of_two_late_deliveries_none_is_read_without_the_other() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:a.test", "smtp:b.test"]);
    let out = [bench.lease().unwrap(), bench.lease().unwrap()];
    bench.hold_and_release(id);
    for plan in &out {
        bench.settle(plan, Result3::Delivered);
        bench.ledger.read_once_more(bench.clock);
        assert_eq!(bench.lease(), None);
    }
    bench.poll();
    bench.poll();
    assert!(!bench.ledger.store.contains(id) && bench.lease().is_none());
}

#[test]
fn a_message_stands_still_while_the_disk_does_not_take_what_came_of_it_and_no_longer() {
    let mut bench = Bench::new();
    let id = bench.stored(&["smtp:a.test", "smtp:b.test"]);
    let plan = bench.lease().unwrap();
    bench.faults.sync.store(true, Ordering::Relaxed);
    bench.settle(&plan, Result3::Delivered);
    bench.poll();
    bench.ledger.reload(id, 0, bench.clock);
    bench.sleep(10 * RELOAD_WAIT_MS);
    bench.poll();
    assert_eq!((bench.lease(), bench.standing(id)), (None, Some(Standing::Stale)));
    bench.faults.sync.store(false, Ordering::Relaxed);
    bench.ledger.reload(id, 0, bench.clock);
    let other = bench.stored(&["smtp:c.test"]);
    bench.poll();
    let leased: Vec<_> =
        std::iter::from_fn(|| bench.lease()).map(|plan| (plan.id, plan.recipients)).collect();
    let left: Vec<u32> = (0..2).filter(|index| !plan.recipients.contains(index)).collect();
    assert_eq!(leased.len(), 2);
    assert!(leased.contains(&(id, left)) && leased.contains(&(other, vec![0])), "{leased:?}");
}
