//! Attempts and the waits between them, until nothing is left.

use super::*;

#[test]
fn a_delivered_message_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let id = bench.add("a@src.test", &["smtp:dst.test", "smtp:dst.test", "maildir"]);
    let plan = bench.next().unwrap();
    assert_eq!((plan.id, plan.recipients.as_slice()), (id, &[0, 1][..]));
    assert_eq!(bench.next(), None, "no mailbox process is up");
    bench.schedule.lane_up(Lane { kind: LaneKind::Mailbox, instance: 0, life: 0 }, 10, bench.now);
    let mailbox = bench.next().unwrap();
    assert_eq!(mailbox.recipients, [2]);
    assert!(!bench.settle(&plan, Verdict::Settled, Reached::Yes).finished);
    assert!(bench.settle(&mailbox, Verdict::Settled, Reached::Yes).finished);
    let schedule = &bench.schedule;
    assert_eq!(
        (schedule.messages.len(), schedule.jobs.len(), schedule.items.len(), schedule.flows.len()),
        (0, 0, 0, 0)
    );
    assert_eq!((schedule.totals(), schedule.leases(), schedule.contains(id)), (Totals::default(), 0, false));
}

#[test]
fn deferred_recipients_come_back_later_and_later() {
    let mut bench = Bench::new();
    bench.add("a@src.test", &["smtp:dst.test"]);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let plan = bench.next().unwrap();
        waits.push(bench.settle(&plan, Verdict::Deferred, Reached::Yes).retry_in_ms / 1000);
        assert_eq!(bench.next(), None);
        bench.sleep_until_due();
    }
    assert!((300..340).contains(&waits[0]) && (600..680).contains(&waits[1]), "{waits:?}");
    assert!((3500..4001).contains(&waits[5]), "{waits:?}");
}
