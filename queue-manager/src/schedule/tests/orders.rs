//! What an operator orders of messages: hold, release, flush, delete, list.

use super::*;

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
fn the_last_lease_of_a_removed_message_is_told_of_however_it_ends() {
    let mut bench = Bench::new();
    let id = bench.add("a@src.test", &["smtp:a.test", "smtp:b.test", "smtp:c.test"]);
    let out: Vec<Plan> = std::iter::from_fn(|| bench.next()).collect();
    assert_eq!((out.len(), bench.schedule.has_orphans(id)), (3, false));
    bench.schedule.remove(id);
    assert!(bench.schedule.has_orphans(id));
    bench.settle(&out[0], Verdict::Settled, Reached::Yes);
    bench.schedule.give_back(out[1].lease, bench.now);
    assert_eq!((bench.schedule.take_returned(), bench.schedule.has_orphans(id)), (None, true));
    assert_eq!(bench.schedule.lane_down(SMTP, bench.now), 1);
    assert!(bench.schedule.has_returned() && !bench.schedule.has_orphans(id));
    assert_eq!((bench.schedule.take_returned(), bench.schedule.take_returned()), (Some(id), None));
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
