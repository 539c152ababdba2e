//! The operator's limits: rates and concurrency of next hops.

use super::*;

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
