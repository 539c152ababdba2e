//! The sender is told of what is no failure, and if that cannot be told, what happened has happened all the same.

use super::*;
use crate::bounce::Kind;
use crate::ledger::courtesy::Courtesy;
use crate::outcome::Failure;
use crate::reports;
use crate::store::{Diagnostic, Text};

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

/// An attempt ends so, and is written; what is to be written behind that is not.
fn refuse_what_is_told(bench: &mut Bench, plan: &Plan, result: Result3) {
    bench.settle(plan, result);
    let (mut events, mut ended) = (Vec::new(), Vec::new());
    bench.ledger.store.sync(&mut events);
    bench.faults.sync.store(true, Ordering::Relaxed);
    bench.ledger.take_in(&mut events, bench.clock, &mut ended);
    bench.poll();
    bench.faults.sync.store(false, Ordering::Relaxed);
    assert!(bench.ledger.courtesies.has_refused());
}

/// What the sender of a message is told when its only recipient has it.
fn on_arrival(bench: &mut Bench, id: QueueId) -> Courtesy {
    let state = bench.ledger.store.message(id).unwrap().state;
    let diagnostic =
        Diagnostic { status: vsmtp_mail::EnhancedCode(2, 0, 0), remote: None, text: Text::new("x") };
    let told = [Failure { index: 0, diagnostic, at_ms: bench.clock.wall_ms }];
    let draft = reports::draft(&mut bench.ledger, Kind::Success, id, &state, &told, bench.clock).unwrap();
    Courtesy::on_arrival(id, draft)
}

/// The text of the one report that is there.
fn only_report(bench: &mut Bench) -> String {
    let plan = bench.lease().unwrap();
    let outgoing = bench.ledger.outgoing(plan.id).unwrap();
    assert_eq!(outgoing.state.envelope.reverse_path, ReversePath::Null);
    bench.settle(&plan, Result3::Delivered);
    bench.poll();
    assert_eq!(bench.lease(), None, "only one");
    String::from_utf8(content::start(&outgoing.parts, 10_000).unwrap()).unwrap()
}

#[test]
fn a_report_on_a_delivery_that_the_disk_has_refused_is_written_later() {
    let mut bench = Bench::new();
    let id = bench.stored_for(&["smtp:a.test"], ASKED);
    let plan = bench.lease().unwrap();
    refuse_what_is_told(&mut bench, &plan, Result3::Delivered);
    assert_eq!(bench.lease(), None);
    bench.sleep(RELOAD_WAIT_MS - 1);
    bench.poll();
    assert_eq!(bench.lease(), None, "not yet");
    bench.sleep(1);
    bench.poll();
    assert!(only_report(&mut bench).contains("Action: relayed"));
    assert!(!bench.ledger.store.contains(id) && !bench.ledger.courtesies.has_refused());
    bench.sleep(10 * RELOAD_WAIT_MS);
    bench.poll();
    assert_eq!(bench.lease(), None, "once");
}

#[test]
fn a_deferral_counts_though_the_disk_does_not_take_the_report_on_the_delay_which_is_written_later() {
    for restarts in [true, false] {
        let mut bench = Bench::new();
        let id = bench.stored_for(&["smtp:a.test"], ASKED);
        bench.sleep(bench.ledger.settings.schedule.delay_warning_ms);
        let plan = bench.lease().unwrap();
        refuse_what_is_told(&mut bench, &plan, Result3::Deferred);
        let state = bench.ledger.store.message(id).unwrap().state;
        assert!(matches!(state.progress[0], RecipientState::Waiting { attempts: 1, .. }));
        assert!(!state.marks.delay_reported, "nobody was told");
        if restarts {
            let bench = bench.restart();
            let survey = bench.ledger.schedule.survey(id, bench.clock.mono_ms);
            assert_eq!(survey.map(|one| one.attempts), Some(1));
            continue;
        }
        bench.sleep(RELOAD_WAIT_MS);
        bench.poll();
        assert!(only_report(&mut bench).contains("Action: delayed"));
        assert!(bench.ledger.store.message(id).unwrap().state.marks.delay_reported);
    }
}

#[test]
fn the_sender_hears_once_of_a_delay_though_the_message_is_read_anew_before_the_disk_takes_the_report() {
    let mut bench = Bench::new();
    let id = bench.stored_for(&["smtp:a.test"], ASKED);
    bench.sleep(bench.ledger.settings.schedule.delay_warning_ms);
    let plan = bench.lease().unwrap();
    refuse_what_is_told(&mut bench, &plan, Result3::Deferred);
    bench.hold_and_release(id);
    bench.sleep(RELOAD_WAIT_MS - 1);
    let again = bench.lease().unwrap();
    assert_eq!(again.id, id);
    bench.settle(&again, Result3::Deferred);
    for _ in 0..3 {
        bench.poll();
    }
    bench.sleep(RELOAD_WAIT_MS);
    bench.poll();
    assert!(only_report(&mut bench).contains("Action: delayed"));
}

#[test]
fn what_is_to_be_told_when_the_process_ends_is_written() {
    let mut bench = Bench::new();
    let id = bench.stored_for(&["smtp:a.test"], ASKED);
    let arrival = on_arrival(&mut bench, id);
    let report = arrival.draft.id;
    let change = Change::Outcome { id, results: vec![(0, RecipientState::Delivered(None))] };
    let ticket = bench.ledger.submit(vec![change], Vec::new(), Urgency::Lazy, After::NOTHING).unwrap();
    bench.poll();
    // As if the disk had not said yet that it has the delivery.
    bench.ledger.courtesies.behind.insert(ticket, vec![arrival]);
    bench.ledger.close(bench.clock, &mut Vec::new());
    let bench = Bench::on(bench.folder, Options::default());
    assert!(bench.ledger.store.contains(report));
}

#[test]
fn nobody_is_told_of_what_was_not_written_for_it_happens_again() {
    let mut bench = Bench::new();
    let id = bench.stored_for(&["smtp:a.test"], ASKED);
    let clock = bench.clock;
    let (refused, written) = (vec![on_arrival(&mut bench, id)], vec![on_arrival(&mut bench, id)]);
    let results = vec![(0, RecipientState::Delivered(None))];
    // The store knows no such message.
    let unknown = bench.ledger.mint(clock);
    bench.ledger.change_and_tell(Change::Outcome { id: unknown, results: results.clone() }, refused, clock);
    bench.poll();
    bench.poll();
    let first = bench.lease().unwrap();
    assert_eq!((first.id, bench.lease()), (id, None));
    bench.ledger.change_and_tell(Change::Outcome { id, results }, written, clock);
    bench.poll();
    bench.poll();
    assert!(only_report(&mut bench).contains("Action: relayed"));
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
