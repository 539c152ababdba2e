//! Deliver processes: what one may have, and what becomes of its leases when it lies, retires or dies.

use super::*;

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
fn what_a_retired_process_did_not_take_is_given_to_another_at_once() {
    let mut bench = Bench::new();
    let id = bench.add("a@src.test", &["smtp:dst.test", "smtp:dst.test"]);
    let plan = bench.next().unwrap();
    bench.schedule.lane_retire(SMTP);
    let fresh = Lane { life: 1, ..SMTP };
    bench.schedule.lane_up(fresh, 256, bench.now);
    assert_eq!(bench.schedule.take_back(fresh, plan.lease), Err(LeaseError::Unknown), "another's");
    bench.schedule.take_back(SMTP, plan.lease).unwrap();
    assert_eq!(bench.schedule.take_back(SMTP, plan.lease), Err(LeaseError::Unknown), "twice");
    let again = bench.next().unwrap();
    assert_eq!((again.lane, again.id, again.attempts, &again.recipients), (fresh, id, 0, &plan.recipients));
    assert_eq!(bench.next(), None);
    assert!(bench.settle(&again, Verdict::Settled, Reached::Yes).finished);
    // Nor is it in anybody's way that the message is gone.
    let id = bench.add("a@src.test", &["smtp:dst.test"]);
    let plan = bench.next().unwrap();
    bench.schedule.lane_retire(fresh);
    bench.schedule.remove(id);
    bench.schedule.take_back(fresh, plan.lease).unwrap();
    assert_eq!((bench.schedule.take_returned(), bench.schedule.leases()), (Some(id), 0));
}
