//! How long a message is tried: as long as all, or as its own lifetime says.

use super::*;

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
fn what_waits_for_its_release_grows_no_older_before_it() {
    let mut bench = Bench::new();
    let began = bench.now;
    let timing = Timing { wait_ms: 200 * HOUR, lifetime_ms: Some(HOUR), ..Timing::default() };
    let id = bench.add_with("a@src.test", &["smtp:dst.test"], 0, timing);
    // One that was loaded when its time was near.
    let near = bench.add_with("b@src.test", &["smtp:other.test"], 199 * HOUR, timing);
    assert_eq!((bench.next(), bench.schedule.survey(id, bench.now).map(|s| s.deferred)), (None, Some(true)));
    bench.sleep_until_due();
    assert!((HOUR..HOUR + 1000).contains(&(bench.now - began)), "{}", bench.now - began);
    assert_eq!(bench.next().map(|plan| plan.id), Some(near));
    bench.sleep_until_due();
    assert!((200 * HOUR..200 * HOUR + 1000).contains(&(bench.now - began)), "{}", bench.now - began);
    let plan = bench.next().unwrap();
    let settled = bench.settle(&plan, Verdict::Deferred, Reached::Yes);
    assert!(plan.id == id && !settled.warn && !settled.finished, "{settled:?}");
}

#[test]
fn an_operator_need_not_wait_for_a_release_and_retries_go_on_from_there() {
    let mut bench = Bench::new();
    let timing = Timing { wait_ms: 200 * HOUR, ..Timing::default() };
    let id = bench.add_with("a@src.test", &["smtp:dst.test"], 0, timing);
    assert_eq!(bench.next(), None);
    assert!(bench.schedule.flush(id));
    let plan = bench.next().unwrap();
    assert_eq!(plan.id, id);
    assert!(!bench.settle(&plan, Verdict::Deferred, Reached::Yes).finished);
    bench.sleep_until_due();
    assert!(bench.next().is_some_and(|plan| plan.id == id) && bench.now < HOUR);
}

#[test]
fn what_was_stopped_and_goes_on_still_waits_for_its_time() {
    let mut bench = Bench::new();
    let timing = Timing { wait_ms: 200 * HOUR, ..Timing::default() };
    let later = bench.add_with("a@src.test", &["smtp:dst.test"], 0, timing);
    let now = bench.add_with("a@src.test", &["smtp:dst.test"], 0, Timing::default());
    for id in [later, now] {
        bench.schedule.set_standing(id, Standing::Held);
    }
    assert_eq!(bench.next(), None);
    for id in [later, now] {
        bench.schedule.set_standing(id, Standing::Active);
        assert!(bench.schedule.resume(id, bench.now));
    }
    let plan = bench.next().unwrap();
    assert_eq!(plan.id, now);
    bench.settle(&plan, Verdict::Settled, Reached::Yes);
    assert_eq!(bench.next(), None);
    bench.sleep_until_due();
    assert!(bench.next().is_some_and(|plan| plan.id == later) && bench.now >= 200 * HOUR);
}

#[test]
fn what_is_late_for_its_sender_is_tried_once_more_then_and_its_sender_told_once() {
    let mut bench = Bench::new();
    let (began, late) = (bench.now, Timing { late_ms: Some(400_000), ..Timing::default() });
    bench.add_with("a@src.test", &["smtp:dst.test"], 0, late);
    let mut told = Vec::new();
    // At once, five minutes later, when it is late, and as often as others behind that.
    for _ in 0..6 {
        let plan = bench.next().unwrap();
        if bench.settle(&plan, Verdict::Deferred, Reached::Yes).warn {
            told.push(bench.now - began);
        }
        bench.sleep_until_due();
    }
    assert!(told.len() == 1 && (400_000..401_000).contains(&told[0]), "{told:?}");
    // What was late from the start is told of when it has to wait.
    let mut bench = Bench::new();
    bench.add_with("b@src.test", &["smtp:dst.test"], 0, Timing { late_ms: Some(0), ..Timing::default() });
    let plan = bench.next().unwrap();
    assert!(bench.settle(&plan, Verdict::Deferred, Reached::Yes).warn);
    assert_eq!(bench.schedule.warnings.len(), 1);
    bench.sleep_until_due();
    let plan = bench.next().unwrap();
    assert!(bench.settle(&plan, Verdict::Settled, Reached::Yes).finished);
    assert!(bench.schedule.warnings.is_empty());
}

#[test]
fn what_is_not_to_be_delivered_late_is_not_tried_when_it_is() {
    let strict = Timing { lifetime_ms: Some(60_000), is_strict: true, ..Timing::default() };
    let mut bench = Bench::new();
    let id = bench.add_with("a@src.test", &["smtp:dst.test"], HOUR, strict);
    assert_eq!(bench.next(), None);
    assert!(
        matches!(bench.schedule.take_notice(), Some(Notice::Expired { id: expired, finished: true, .. }) if expired == id)
    );
    bench.add_with("a@src.test", &["smtp:dst.test"], 30_000, strict);
    assert!(bench.next().is_some());
}
