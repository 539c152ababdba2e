//! What grows old while it waits: who is warned, who fails, and a bounded number at a time.

use std::collections::BTreeSet;

use super::*;

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
