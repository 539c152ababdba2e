//! The sender is told of what is no failure, and if that cannot be told, what happened has happened all the same.

use super::*;

const ASKED: Notify = Notify { success: true, failure: true, delay: true, stated: true };

/// Octets on their way to the disk that are too much for one more message; a change is far smaller.
const NARROW: usize = 4000;

/// What can stand in the way of a new message, and of nothing else: too much on its way before it, or a disk that fails.
fn hinder(bench: &mut Bench, by_disk: bool) {
    if by_disk {
        return bench.faults.sync.store(true, Ordering::Relaxed);
    }
    while bench.ledger.store.in_flight_bytes() < NARROW {
        bench.add(&["smtp:d.test"]);
    }
}

#[test]
fn a_delivery_counts_though_the_disk_does_not_take_the_report_on_it() {
    for by_disk in [false, true] {
        for hops in [&["smtp:a.test"][..], &["smtp:a.test", "smtp:b.test"]] {
            let mut bench = Bench::narrow(NARROW);
            let id = bench.stored_for(hops, ASKED);
            let plan = bench.lease().unwrap();
            let others = hops.len() - 1;
            let others: Vec<Plan> = (0..others).map(|_| bench.lease().unwrap()).collect();
            hinder(&mut bench, by_disk);
            bench.settle(&plan, Result3::Delivered);
            bench.poll();
            bench.faults.sync.store(false, Ordering::Relaxed);
            bench.sleep(RELOAD_WAIT_MS + 10_000);
            // What waited for the disk goes with the next.
            bench.stored(&["smtp:c.test"]);
            bench.poll();
            let leased: Vec<Plan> = std::iter::from_fn(|| bench.lease()).collect();
            assert!(leased.iter().all(|plan| plan.id != id), "{by_disk}: nobody gets it twice");
            for other in &others {
                bench.settle(other, Result3::Delivered);
                bench.poll();
                let report = bench.lease().unwrap();
                let state = bench.ledger.outgoing(report.id).unwrap().state;
                assert!(
                    matches!(state.envelope.reverse_path, ReversePath::Null),
                    "{by_disk}: this could be told"
                );
            }
            assert_eq!(bench.lease(), None, "{by_disk}");
            assert!(!bench.ledger.store.contains(id), "{by_disk}");
        }
    }
}

#[test]
fn a_deferral_counts_though_the_disk_does_not_take_the_report_on_the_delay() {
    for by_disk in [false, true] {
        let mut bench = Bench::narrow(NARROW);
        let id = bench.stored_for(&["smtp:a.test"], ASKED);
        bench.sleep(bench.ledger.settings.schedule.delay_warning_ms);
        let plan = bench.lease().unwrap();
        hinder(&mut bench, by_disk);
        bench.settle(&plan, Result3::Deferred);
        bench.poll();
        bench.faults.sync.store(false, Ordering::Relaxed);
        bench.stored(&["smtp:c.test"]);
        bench.poll();
        let state = bench.ledger.store.message(id).unwrap().state;
        assert!(matches!(state.progress[0], RecipientState::Waiting { attempts: 1, .. }), "{by_disk}");
        assert!(!state.marks.delay_reported, "{by_disk}: nobody was told");
        let bench = bench.restart();
        assert_eq!(bench.ledger.schedule.survey(id, bench.clock.mono_ms).map(|one| one.attempts), Some(1));
    }
}

#[test]
fn the_sender_hears_of_a_delivery_though_the_message_was_read_anew_meanwhile() {
    // Once, whether it has asked for that, named a time by which to deliver, or done both.
    for (notify, relayed) in [(ASKED, false), (Notify::default(), true), (ASKED, true)] {
        for is_anew in [true, false] {
            let mut bench = Bench::new();
            bench.relayed = relayed;
            let id = bench.stored_for(&["smtp:a.test"], notify);
            let plan = bench.lease().unwrap();
            if is_anew {
                bench.hold_and_release(id);
            }
            bench.settle(&plan, Result3::Delivered);
            bench.poll();
            bench.poll();
            assert!(!bench.ledger.store.contains(id));
            let report = bench.lease().unwrap();
            let outgoing = bench.ledger.outgoing(report.id).unwrap();
            let start = content::start(&outgoing.parts, 10_000).unwrap();
            assert!(String::from_utf8(start).unwrap().contains("Action: relayed"));
            assert_eq!(bench.lease(), None);
        }
    }
}
