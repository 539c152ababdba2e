//! Next hops: they take turns, their windows grow, and dead ones are left alone.

use super::*;

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
