//! What is remembered, for how long, and what makes room.

use vsmtp_ipc::edge::client_resolver::StsMode;

use super::*;

const DAY: u64 = 86_400;
/// When the process started, by the time of day.
const START_S: u64 = 1_800_000_000;

/// So many seconds after the start.
fn at(seconds: u64) -> Time {
    Time { now: Duration::from_secs(seconds), wall_s: START_S + seconds }
}

fn policy(max_age: u64) -> Arc<Policy> {
    large(max_age, 0)
}

/// One that names so many hosts.
fn large(max_age: u64, hosts: usize) -> Arc<Policy> {
    let mx = (0..hosts).map(|n| format!("{n}.{}", "x".repeat(240))).collect();
    Arc::new(Policy { mode: StsMode::None, mx, max_age: Duration::from_secs(max_age) })
}

fn cache(domains: &[(&str, u64)], time: Time) -> Cache {
    let mut cache = Cache::default();
    for (domain, max_age) in domains {
        cache.insert((*domain).to_owned(), "1".to_owned(), policy(*max_age), time);
    }
    cache
}

/// What the next process knows if that one ends, and it starts at that time by its own clocks.
fn next(cache: &Cache, end: Time, start: Time) -> Cache {
    let mut next = Cache::default();
    next.absorb(cache.kept(end), start);
    next
}

fn age(cache: &Cache, domain: &str, time: Time) -> Option<u64> {
    cache.find(domain, time).map(|known| known.age.as_secs())
}

#[test]
fn a_policy_ends_when_its_time_is_over() {
    let cache = cache(&[("a.test", 10)], at(5));
    let known = cache.find("a.test", at(14)).unwrap();
    assert_eq!((&*known.id, known.age), ("1", Duration::from_secs(9)));
    assert!(cache.find("a.test", at(15)).is_none() && cache.find("b.test", at(5)).is_none());
}

#[test]
fn a_policy_goes_on_to_age_while_nobody_runs() {
    let mut first = cache(&[("short.test", 10), ("long.test", 1_000)], at(5));
    assert!(first.take_changed() && !first.take_changed());
    let later = Time { now: Duration::ZERO, wall_s: START_S + 105 };
    let mut second = next(&first, at(6), later);
    assert_eq!(age(&second, "long.test", later), Some(100));
    assert_eq!((second.len(), second.take_changed()), (1, false));
    let end = Time { now: Duration::from_secs(900), wall_s: START_S + 1_005 };
    assert_eq!(age(&second, "long.test", end), None);
    // The other one seemed to be over at the start already, which may be the clock's fault.
    assert_eq!(second.kept(end).iter().map(|kept| &*kept.domain).collect::<Vec<_>>(), ["short.test"]);
}

#[test]
fn a_clock_that_jumps_makes_nothing_immortal_and_ends_nothing_early() {
    let first = cache(&[("a.test", 1_000)], at(0));
    // Back by months: it counts as fetched just now, is kept so, and lives no longer than one that was.
    let back = |seconds| Time { now: Duration::from_secs(seconds), wall_s: START_S - 20_000_000 + seconds };
    let mut second = next(&first, at(1), back(0));
    assert!(second.take_changed());
    assert_eq!(age(&second, "a.test", back(999)), Some(999));
    assert_eq!(age(&second, "a.test", back(1_000)), None);
    let mut third = next(&second, back(1), back(900));
    assert_eq!((age(&third, "a.test", back(900)), third.take_changed()), (Some(900), false));
    // While a process runs, jumps of the time of day mean nothing.
    let far = Time { now: Duration::from_secs(500), wall_s: START_S * 2 };
    assert_eq!(age(&first, "a.test", far), Some(500));
    assert_eq!(age(&first, "a.test", Time { wall_s: 0, ..far }), Some(500));
}

#[test]
fn a_clock_that_is_wrong_at_one_start_costs_the_next_one_nothing() {
    let first = cache(&[("a.test", 1_000_000)], at(0));
    for wrong_s in [0, 1_000, FLOOR_S - 1, START_S * 2] {
        // Without a time that can be right it counts as fetched just now; with one far ahead it is not used.
        let wrong = |seconds| Time { now: Duration::from_secs(seconds), wall_s: wrong_s + seconds };
        let mut second = next(&first, at(1), wrong(0));
        second.note_asked("a.test", wrong(5));
        assert_eq!(age(&second, "a.test", wrong(7)), (wrong_s < START_S).then_some(7), "{wrong_s}");
        let third = next(&second, wrong(10), at(300));
        assert_eq!(age(&third, "a.test", at(300)), Some(300), "{wrong_s}");
    }
    // Set right while the process runs, it counts from then on.
    let far = Time { now: Duration::ZERO, wall_s: START_S * 2 };
    let mut second = next(&first, at(1), far);
    second.rouse(far);
    assert_eq!(age(&second, "a.test", far), None);
    let right = Time { now: Duration::from_secs(10), wall_s: START_S + 500 };
    second.rouse(right);
    assert_eq!(age(&second, "a.test", right), Some(500));
    // And what was over indeed is forgotten after a day.
    let mut third = next(&first, at(1), far);
    third.rouse(Time { now: REST - Duration::from_secs(1), ..far });
    assert_eq!(third.kept(far).len(), 1);
    third.rouse(Time { now: REST, ..far });
    assert!(third.kept(far).is_empty() && third.take_changed());
}

#[test]
fn what_is_fetched_while_the_clock_is_wrong_is_kept_with_the_time_that_it_turns_out_to_have_been() {
    for wrong_s in [0, START_S * 2] {
        let wrong = Time { now: Duration::ZERO, wall_s: wrong_s };
        let first = cache(&[("a.test", 1_000)], wrong);
        let second = next(&first, at(100), at(150));
        assert_eq!(age(&second, "a.test", at(150)), Some(150), "{wrong_s}");
        // Never set right, it is from the future for who comes next.
        let second = next(&first, Time { now: Duration::from_secs(100), wall_s: wrong_s + 100 }, at(150));
        assert_eq!(age(&second, "a.test", at(150)), Some(0), "{wrong_s}");
    }
}

#[test]
fn of_two_that_are_known_the_newer_one_counts() {
    let old = cache(&[("a.test", 1_000), ("b.test", 1_000)], at(10));
    let mut new = Cache::default();
    new.insert("a.test".to_owned(), "2".to_owned(), policy(1_000), at(20));
    new.absorb(old.kept(at(20)), at(20));
    assert_eq!((age(&new, "a.test", at(30)), age(&new, "b.test", at(30))), (Some(10), Some(20)));
    let mut old = old;
    old.absorb(new.kept(at(30)), at(30));
    assert_eq!(old.find("a.test", at(30)).unwrap().id, "2");
}

#[test]
fn there_are_never_too_many() {
    let mut cache = Cache::default();
    for n in 0..MAX_POLICIES + 5 {
        cache.insert(format!("{n}.test"), String::new(), policy(1_000 + n as u64), at(0));
    }
    assert_eq!(cache.len(), MAX_POLICIES);
    assert!(cache.find("4.test", at(0)).is_none() && cache.find("5.test", at(0)).is_some());
    // What is over makes room before what is not.
    cache.insert("new.test".to_owned(), String::new(), policy(10), at(1_006));
    assert!(cache.find("new.test", at(1_006)).is_some());
    assert!(cache.find("2000.test", at(1_006)).is_some());
}

#[test]
fn policies_that_are_met_once_push_out_none_that_is_in_use() {
    let mut cache = cache(&[("used.test", 1_000)], at(0));
    for n in 0..MAX_POLICIES + 100 {
        let time = at(n as u64 / 100);
        cache.insert(format!("{n}.test"), String::new(), policy(DAY), time);
        if n == MAX_POLICIES / 2 {
            cache.note_asked("used.test", time);
        }
    }
    assert_eq!(cache.len(), MAX_POLICIES);
    assert!(cache.find("used.test", at(200)).is_some() && cache.find("0.test", at(200)).is_none());
}

#[test]
fn large_policies_push_out_large_ones_only() {
    let mut cache = cache(&[("small.test", 1)], at(0));
    for n in 0..1_000 {
        cache.insert(format!("{n}.test"), String::new(), large(1_000, 100), at(0));
        assert!(cache.octets <= MAX_OCTETS, "{n}");
    }
    assert!(cache.find("small.test", at(0)).is_some() && cache.find("999.test", at(0)).is_some());
    assert_eq!(cache.kept(at(0)).iter().map(Kept::octets).sum::<usize>(), cache.octets);
    // Again and again the same takes no room, and what is over gives its room back.
    let count = cache.len();
    (0..1_000).for_each(|_| cache.insert("999.test".to_owned(), String::new(), large(1_000, 100), at(1)));
    assert_eq!(cache.len(), count);
    cache.sweep(at(2_000));
    assert_eq!((cache.len(), cache.octets), (0, 0));
}

#[test]
fn policies_are_looked_at_once_a_day_and_more_often_if_they_are_short() {
    let mut cache = cache(&[("week.test", 7 * DAY), ("day.test", DAY), ("hour.test", 3_600)], at(0));
    assert!(cache.take_due(at(DAY / 4 - 1), 9).is_empty());
    assert_eq!(cache.take_due(at(DAY / 4), 9), ["day.test"]);
    assert!(cache.take_due(at(DAY / 4 + 1), 9).is_empty(), "it was looked at");
    assert_eq!(cache.take_due(at(DAY / 2), 9), ["day.test"]);
    // Over, and so not looked at.
    assert_eq!(cache.take_due(at(DAY), 9), ["week.test"]);
    // The next process looks when this one would have, at the latest.
    let mut later = next(&cache, at(DAY + 1), at(2 * DAY));
    assert_eq!(later.take_due(at(2 * DAY), 9), ["week.test"]);
}

#[test]
fn who_has_waited_longest_for_a_look_is_first_and_who_is_not_asked_for_is_left_alone() {
    let mut cache = cache(&[("late.test", 4 * DAY)], at(0));
    cache.insert("soon.test".to_owned(), String::new(), policy(4 * DAY), at(DAY));
    assert_eq!(cache.take_due(at(2 * DAY + 5), 1), ["late.test"]);
    assert_eq!(cache.take_due(at(2 * DAY + 5), 1), ["soon.test"]);
    assert!(cache.take_due(at(2 * DAY + 5), 1).is_empty());

    let mut cache = self::cache(&[("asked.test", 300 * DAY), ("forgotten.test", 300 * DAY)], at(0));
    cache.note_asked("asked.test", at(5 * DAY));
    assert_eq!(cache.take_due(at(31 * DAY), 9), ["asked.test"]);
    // That it was fetched anew does not mean that somebody asked for it.
    cache.insert("asked.test".to_owned(), String::new(), policy(300 * DAY), at(31 * DAY));
    assert!(next(&cache, at(31 * DAY), at(36 * DAY)).take_due(at(36 * DAY), 9).is_empty());
}
