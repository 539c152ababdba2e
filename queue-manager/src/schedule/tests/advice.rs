//! What a host wishes: to be tried later, to be left alone, to have fewer at a time.

use super::*;

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
