//! What a service gets, what becomes of what it says, and what it may be done without.

use std::time::Instant;

use vsmtp_ipc::edge::ctl_queue::{Request, Selection, State};
use vsmtp_ipc::edge::filter_queue::Receipt;
use vsmtp_ipc::edge::queue_deliver::{Reach, Result3};
use vsmtp_ipc::edge::queue_filter::{PostVerdict, Resume};

use super::{HOPS, SERVICE, all, bring, delegate, given, goes_on, ticket_of, verdict};
use crate::stage::{BODY, PATIENCE, Stage, octets, outcome, text};

#[test]
fn a_service_gets_all_recipients_at_once_and_its_message_takes_the_place_of_the_old_one() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (id, attempt, ticket) = given(&mut stage, peers, |_| {});
    assert_eq!((attempt.next_hop.as_str(), attempt.service_ms), (SERVICE, Some(7_000)));
    let to: Vec<&str> = attempt.recipients.iter().map(|one| one.address.as_str()).collect();
    assert_eq!((to, attempt.reverse_path.as_str()), (vec!["b@dst.test", "c@dst.test"], "a@src.test"));
    assert!(attempt.recipients.iter().all(|one| !one.notify.stated) && attempt.envid.is_none());
    // One of two is enough: the service has the message.
    deliver.say(&outcome(attempt.lease, &[(0, Result3::Delivered), (1, Result3::Failed)]));
    stage.logged("event=delegated");
    stage.figure("delegated", 1);
    let listed = stage.operator().list(Some(State::Delegated));
    assert_eq!((listed[0].id, listed[0].recipients_total), (id, 2));
    assert!(listed[0].recipients.iter().all(|one| one.next_hop == SERVICE), "{listed:?}");
    assert!(deliver.is_idle(&mut stage), "it is not sent again while it is away");
    let (new, receipt) = bring(&mut stage, &mut filter, ticket);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    stage.figure("messages", 1);
    goes_on(&mut stage, &mut post, &mut deliver, new);
    // A service that has lost our answer brings it once more, which changes nothing.
    let (_, receipt) = bring(&mut stage, &mut filter, ticket);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    stage.logged("event=delegation-repeated");
    assert!(deliver.is_idle(&mut stage));
}

#[test]
fn a_proxy_brings_it_back_before_it_answers() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    for result in [Result3::Delivered, Result3::Failed, Result3::Deferred] {
        let peers = (&mut filter, &mut post, &mut deliver);
        let (_, attempt, ticket) = given(&mut stage, peers, |_| {});
        let (new, receipt) = bring(&mut stage, &mut filter, ticket);
        assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
        // Whatever it says then is about what is no more.
        deliver.settle(&attempt, result);
        goes_on(&mut stage, &mut post, &mut deliver, new);
        let mailbox = stage.operator().list(None);
        assert_eq!(mailbox.len(), 1, "only the copy for the mailbox is left");
        assert_eq!(stage.operator().changed(&Request::Delete(Selection::All(None))), 1);
    }
    assert!(!stage.log().contains("event=reported"), "{}", stage.log());
}

#[test]
fn a_death_at_any_step_loses_nothing_and_nothing_goes_on_twice() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (id, _, ticket) = given(&mut stage, peers, |_| {});
    // Sent, and no word about it: it is sent again under the same token.
    let mut stage = stage.kill_and_restart(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let (attempt, descriptors) = deliver.hear();
    assert_eq!((attempt.id, attempt.service_ms), (id, Some(7_000)));
    assert_eq!(ticket_of(&octets(attempt.body.clone(), descriptors)), ticket);
    deliver.settle(&attempt, Result3::Delivered);
    stage.logged("event=delegated");
    stage.figure("commits_open", 0);
    // Away.
    drop((filter, post, deliver));
    let mut stage = stage.kill_and_restart(&[]);
    (filter, post, deliver) = all(&mut stage);
    stage.figure("delegated", 1);
    assert!(deliver.is_idle(&mut stage), "it is away");
    let (new, receipt) = bring(&mut stage, &mut filter, ticket);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    // Back, and not judged yet.
    drop((filter, post, deliver));
    let mut stage = stage.kill_and_restart(&[]);
    (filter, post, deliver) = all(&mut stage);
    stage.figure("messages", 1);
    let (_, receipt) = bring(&mut stage, &mut filter, ticket);
    assert!(matches!(receipt, Receipt::Stored { .. }), "a copy of what is back: {receipt:?}");
    stage.figure("messages", 1);
    goes_on(&mut stage, &mut post, &mut deliver, new);
    stage.figure("commits_open", 0);
    // Judged: it is an ordinary message.
    let mut stage = stage.kill_and_restart(&[]);
    let (_post, mut deliver) = (stage.post(true, false), stage.deliver());
    stage.figure("active", 1);
    assert!(deliver.is_idle(&mut stage), "what is left is for the mailbox");
}

#[test]
fn what_the_service_refuses_fails_and_what_it_cannot_now_is_tried_again() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (id, attempt, _) = given(&mut stage, peers, |_| {});
    deliver.settle(&attempt, Result3::Deferred);
    stage.logged("event=delegation-deferred");
    stage.figure("commits_open", 0);
    assert!(deliver.is_idle(&mut stage));
    assert_eq!(stage.operator().list(Some(State::Delegated))[0].recipients[0].status, "deferred");
    assert_eq!(stage.operator().flush_all(), 1);
    let (again, _) = deliver.hear();
    assert_eq!((again.id, again.service_ms), (id, Some(7_000)));
    deliver.settle(&again, Result3::Failed);
    stage.logged("event=delegation-refused");
    // Both recipients, in one report, to the sender.
    stage.logged("event=reported");
    let report = stage.log().lines().find(|line| line.contains("event=reported")).map(str::to_owned);
    assert!(report.as_ref().is_some_and(|line| line.contains("recipients=2")), "{report:?}");
    stage.figure("delegated", 0);
}

#[test]
fn a_service_that_may_be_done_without_is_done_without() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (id, attempt, _) =
        given(&mut stage, peers, |to| (to.open, to.hold) = (true, Some("why not".to_owned())));
    deliver.settle(&attempt, Result3::Deferred);
    let behind = Some(Resume { directive: "scan".to_owned(), skip: true, hold: Some("why not".to_owned()) });
    let (ask, descriptors) = post.hear();
    assert_eq!((ask.id, &ask.resume), (id, &behind));
    assert_eq!(octets(ask.body.clone(), descriptors), BODY, "without the field");
    stage.logged("event=delegation-skipped");
    // That is remembered.
    drop((filter, post, deliver));
    let mut stage = stage.kill_and_restart(&[]);
    (filter, post, deliver) = all(&mut stage);
    let (ask, _) = post.hear();
    assert_eq!((ask.id, &ask.resume), (id, &behind));
    post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
    stage.figure("held", 1);
    stage.figure("commits_open", 0);
    assert_eq!(stage.operator().changed(&Request::Release(Selection::One(id))), 1);
    assert_eq!(deliver.serve(Result3::Delivered).next_hop, "smtp:dst.test");
    // One that keeps silent, too.
    let peers = (&mut filter, &mut post, &mut deliver);
    let (id, attempt, ticket) = given(&mut stage, peers, |to| (to.open, to.return_within_s) = (true, 1));
    deliver.settle(&attempt, Result3::Delivered);
    let (ask, _) = post.hear();
    assert_eq!((ask.id, ask.resume.map(|resume| resume.skip)), (id, Some(true)));
    let (_, receipt) = bring(&mut stage, &mut filter, ticket);
    assert!(matches!(receipt, Receipt::Stored { .. }), "it has gone on already: {receipt:?}");
    stage.logged("event=delegation-repeated");
}

#[test]
fn a_message_whose_time_is_over_is_not_given_away_for_ever() {
    let short = [("queue.lifetime", text("1m")), ("queue.delay_warning", text("0"))];
    let mut stage = Stage::start(&short);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let mut message = stage.message(HOPS);
    // Older than its lifetime from the start.
    message.arrived_ms -= 300_000;
    filter.store(message);
    let (ask, _) = post.hear();
    post.say(&verdict(&ask, delegate(|to| to.return_within_s = 1)));
    deliver.serve(Result3::Delivered);
    stage.logged("event=reported");
    stage.logged("event=delegation-expired");
    stage.figure("delegated", 0);
}

#[test]
fn a_message_whose_time_ends_goes_on_without_a_service_that_may_be_done_without() {
    let short = [("queue.lifetime", text("1m")), ("queue.delay_warning", text("0"))];
    let mut stage = Stage::start(&short);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let mut expired = 0;
    // After a few failures the schedule itself finds out that nobody is there, and that the time is over.
    for _ in 0..8 {
        let mut message = stage.message(HOPS);
        message.arrived_ms -= 300_000;
        let id = filter.store(message);
        let (ask, _) = post.hear();
        post.say(&verdict(&ask, delegate(|to| to.open = true)));
        let until = Instant::now() + PATIENCE;
        let mut attempted = false;
        let resumed = loop {
            assert!(Instant::now() < until, "neither an attempt nor a question: {}", stage.log());
            if let Ok(Some(received)) = post.0.receive() {
                break received.message;
            }
            if let Some(attempt) = deliver.attempt_if_any() {
                let mut outcome = outcome(attempt.lease, &[(0, Result3::Deferred), (1, Result3::Deferred)]);
                outcome.reach = Reach::Unreachable;
                deliver.say(&outcome);
                attempted = true;
            }
            stage.operator().figures();
        };
        expired += usize::from(!attempted);
        assert_eq!((resumed.id, resumed.resume.map(|at| at.skip)), (id, Some(true)));
        post.say(&PostVerdict::Keep { ticket: resumed.ticket, is_final: false });
        assert_eq!(deliver.serve(Result3::Delivered).next_hop, "smtp:dst.test");
    }
    assert!(expired > 0, "the service does not count as dead");
    assert!(!stage.log().contains("event=reported"), "{}", stage.log());
}

#[test]
fn what_waits_for_a_service_that_nobody_can_reach_goes_on_without_an_attempt() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let (mut attempts, mut messages) = (0, 0);
    // After a few failures nobody is asked to go there for a while.
    while attempts == messages {
        assert!(messages < 20, "the service does not count as dead");
        messages += 1;
        let message = stage.message(HOPS);
        let id = filter.store(message);
        let (ask, _) = post.hear();
        post.say(&verdict(&ask, delegate(|to| to.open = true)));
        let until = Instant::now() + PATIENCE;
        let resumed = loop {
            assert!(Instant::now() < until, "neither an attempt nor a question");
            if let Ok(Some(received)) = post.0.receive() {
                break received.message;
            }
            if let Some(attempt) = deliver.attempt_if_any() {
                assert_eq!((attempt.id, attempt.service_ms), (id, Some(7_000)));
                attempts += 1;
                let mut outcome = outcome(attempt.lease, &[(0, Result3::Deferred), (1, Result3::Deferred)]);
                outcome.reach = Reach::Unreachable;
                deliver.say(&outcome);
            }
            // The queue-manager has its turn.
            stage.operator().figures();
        };
        assert_eq!((resumed.id, resumed.resume.map(|at| at.skip)), (id, Some(true)));
        post.say(&PostVerdict::Keep { ticket: resumed.ticket, is_final: false });
        assert_eq!(deliver.serve(Result3::Delivered).next_hop, "smtp:dst.test");
    }
    assert_eq!(stage.log().matches("event=delegation-skipped").count(), messages);
}
