//! Messages that a service is to see: what it gets, what comes back, and what a death in between leaves.

use std::time::Instant;

use vsmtp_ipc::edge::ctl_queue::{Request, Selection, State};
use vsmtp_ipc::edge::filter_queue::{Delegate, Disposition, Receipt, Refusal, Returned};
use vsmtp_ipc::edge::queue_deliver::{Attempt, Reach, Result3};
use vsmtp_ipc::edge::queue_filter::{PostAsk, PostStage, PostVerdict, Resume};
use vsmtp_ipc::wire::{Body, Body7, Id, Piece};
use vsmtp_mail::{DELEGATION_FIELD, DelegationTicket, HeaderBlock};

use crate::stage::{BODY, Deliver, Filter, PATIENCE, Post, Stage, octets, outcome, text};

const HOPS: &[(&str, &str)] = &[("b@dst.test", "smtp:dst.test"), ("c@dst.test", "maildir")];
const SERVICE: &str = "smtp:[127.0.0.1]:10026";
/// What the service makes of the message.
const SCANNED: &[u8] = b"X-Scanned: clean\r\nSubject: x\r\n\r\nscanned\r\n";

fn delegate(change: impl FnOnce(&mut Delegate)) -> Disposition {
    let mut delegate = Delegate {
        stage: PostStage::Postq,
        directive: "scan".to_owned(),
        address: ([127, 0, 0, 1], 10026).into(),
        timeout_ms: 7_000,
        return_within_s: 3600,
        open: false,
        hold: None,
    };
    change(&mut delegate);
    Disposition::Delegate(Box::new(delegate))
}

fn verdict(ask: &PostAsk, disposition: Disposition) -> PostVerdict {
    let envelope = ask.envelope.clone();
    PostVerdict::Edit {
        ticket: ask.ticket,
        envelope,
        expanded: Vec::new(),
        notices: Vec::new(),
        disposition,
        pieces: Vec::new(),
    }
}

/// A message that rules have given to the service; its id, and what the service gets.
fn given(
    stage: &mut Stage,
    (filter, post, deliver): (&mut Filter, &mut Post, &mut Deliver),
    change: impl FnOnce(&mut Delegate),
) -> (Id, Attempt, DelegationTicket) {
    let message = stage.message(HOPS);
    let id = filter.store(message);
    let (ask, _) = post.hear();
    assert_eq!((ask.id, ask.stage, ask.resume.as_ref()), (id, PostStage::Postq, None));
    post.say(&verdict(&ask, delegate(change)));
    let (mut attempt, descriptors) = deliver.hear();
    let body = std::mem::replace(&mut attempt.body, Body::Inline(Vec::new()));
    let ticket = ticket(&octets(body, descriptors));
    assert_eq!(vsmtp_mail::QueueId::from(id), ticket.id);
    (id, attempt, ticket)
}

fn ticket(message: &[u8]) -> DelegationTicket {
    let header = HeaderBlock::parse(message);
    let field = header.fields().next().expect("a header").clone();
    assert!(field.is(DELEGATION_FIELD), "{}", String::from_utf8_lossy(message));
    assert!(message.ends_with(BODY));
    DelegationTicket::parse(&field).expect("id and token")
}

/// The service brings it back.
fn bring(stage: &mut Stage, filter: &mut Filter, ticket: DelegationTicket) -> (Id, Receipt) {
    let mut message = stage.message(&[("whoever@else.test", "maildir")]);
    message.envelope.body = Body7::EightBitMime;
    message.body = Body::Inline(SCANNED.to_vec());
    message.returned = Some(Returned { id: ticket.id.into(), token: ticket.token.to_bytes(), or_new: false });
    (message.id, filter.submit(message))
}

fn refused(receipt: &Receipt) -> bool {
    matches!(receipt, Receipt::Refused { why: Refusal::NotDelegated, .. })
}

/// The rules go on, and the message arrives as the service has left it.
fn goes_on(stage: &mut Stage, post: &mut Post, deliver: &mut Deliver, id: Id) {
    let (ask, descriptors) = post.hear();
    assert_eq!((ask.id, ask.stage, ask.origin.client.as_str()), (id, PostStage::Postq, "192.0.2.9"));
    let here = Resume { directive: "scan".to_owned(), skip: false, hold: None };
    assert_eq!(ask.resume, Some(here));
    let to: Vec<&str> = ask.envelope.recipients.iter().map(|one| one.address.as_str()).collect();
    assert_eq!((to, ask.envelope.body), (vec!["b@dst.test", "c@dst.test"], Body7::EightBitMime));
    assert_eq!(octets(ask.body, descriptors), SCANNED);
    post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
    let (attempt, descriptors) = deliver.hear();
    assert_eq!((attempt.id, attempt.next_hop.as_str()), (id, "smtp:dst.test"));
    assert_eq!((attempt.service_ms, octets(attempt.body.clone(), descriptors).as_slice()), (None, SCANNED));
    deliver.settle(&attempt, Result3::Delivered);
    stage.figure("delegated", 0);
}

fn all(stage: &mut Stage) -> (Filter, Post, Deliver) {
    (stage.filter(), stage.post(true, false), stage.deliver())
}

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
    assert_eq!(self::ticket(&octets(attempt.body.clone(), descriptors)), ticket);
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
fn what_is_forged_or_late_or_for_another_message_is_refused() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (id, attempt, good) = given(&mut stage, peers, |to| to.return_within_s = 1);
    let mut bytes = good.token.to_bytes();
    bytes[15] ^= 1;
    let forged = DelegationTicket { token: vsmtp_mail::Token::from_bytes(bytes), ..good };
    let other = DelegationTicket { id: vsmtp_mail::QueueId::from_bytes([9; 16]), ..good };
    for bad in [forged, other] {
        assert!(refused(&bring(&mut stage, &mut filter, bad).1));
    }
    deliver.settle(&attempt, Result3::Delivered);
    // It stays away too long, and is sent again.
    let (again, descriptors) = deliver.hear();
    assert_eq!((again.id, ticket(&octets(again.body.clone(), descriptors))), (id, good));
    stage.logged("event=delegation-expired");
    // A service that is only slow brings the first copy; that counts, and the second one is dropped.
    let (brought, receipt) = bring(&mut stage, &mut filter, good);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    deliver.settle(&again, Result3::Delivered);
    goes_on(&mut stage, &mut post, &mut deliver, brought);
    let (_, receipt) = bring(&mut stage, &mut filter, good);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    stage.logged("event=delegation-repeated");
    stage.figure("messages", 1);
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
fn operators_see_and_stop_what_is_away() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (id, attempt, ticket) = given(&mut stage, peers, |_| {});
    deliver.settle(&attempt, Result3::Delivered);
    stage.logged("event=delegated");
    stage.figure("commits_open", 0);
    assert_eq!(stage.operator().changed(&Request::Hold(Selection::One(id))), 1);
    let (_, receipt) = bring(&mut stage, &mut filter, ticket);
    let is_busy = matches!(receipt, Receipt::Refused { why: Refusal::Busy, .. });
    assert!(is_busy, "an operator keeps it, but it lives: {receipt:?}");
    assert_eq!(stage.operator().list(Some(State::Held)).len(), 1);
    assert_eq!(stage.operator().changed(&Request::Release(Selection::One(id))), 1);
    // Rules decide anew, under another token.
    let (ask, _) = post.hear();
    assert_eq!((ask.id, &ask.resume), (id, &None));
    post.say(&verdict(&ask, delegate(|_| {})));
    let (again, descriptors) = deliver.hear();
    assert!(!self::ticket(&octets(again.body.clone(), descriptors)).token.is(ticket.token));
}

#[test]
fn rules_that_are_gone_hold_nobody_up() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (_, attempt, ticket) = given(&mut stage, peers, |_| {});
    drop(post);
    stage.logged("event=edge-closed");
    stage.no_rules();
    let (new, receipt) = bring(&mut stage, &mut filter, ticket);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    deliver.settle(&attempt, Result3::Delivered);
    let attempt = deliver.serve(Result3::Delivered);
    assert_eq!((attempt.id, attempt.service_ms), (new, None));
}

#[test]
fn what_is_due_for_a_service_of_former_rules_is_judged_anew() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    for directive in ["other", "scan"] {
        let message = stage.message(HOPS);
        let id = filter.store(message);
        let (ask, _) = post.hear();
        // Rules that the newest filter does not know have said so.
        let former = |to: &mut Delegate| {
            to.directive = directive.to_owned();
            to.address = ([127, 0, 0, 1], 10_099).into();
        };
        post.say(&verdict(&ask, delegate(former)));
        let (ask, descriptors) = post.hear();
        assert_eq!((ask.id, &ask.resume), (id, &None));
        assert_eq!(octets(ask.body.clone(), descriptors), BODY);
        stage.logged("event=delegation-gone");
        post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
        assert_eq!(deliver.serve(Result3::Delivered).next_hop, "smtp:dst.test");
    }
    // So is what has been away too long; what the service brings then is a copy.
    let peers = (&mut filter, &mut post, &mut deliver);
    let (id, attempt, ticket) = given(&mut stage, peers, |to| {
        (to.return_within_s, to.hold) = (1, Some("look at it".to_owned()));
    });
    drop(post);
    stage.logged("event=edge-closed");
    stage.no_rules();
    deliver.settle(&attempt, Result3::Delivered);
    stage.logged(&format!("event=delegation-gone id={}", vsmtp_mail::QueueId::from(id)));
    stage.figure("commits_open", 0);
    assert_eq!(stage.operator().list(Some(State::Held))[0].id, id, "a rule before has held it");
    let (_, receipt) = bring(&mut stage, &mut filter, ticket);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    stage.logged("event=delegation-repeated");
    assert!(deliver.is_idle(&mut stage));
}

#[test]
fn what_a_rule_has_held_stays_held_where_the_rules_are_gone() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (_, _attempt, ticket) = given(&mut stage, peers, |to| to.hold = Some("look at it".to_owned()));
    drop(post);
    stage.logged("event=edge-closed");
    stage.no_rules();
    let (new, receipt) = bring(&mut stage, &mut filter, ticket);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    stage.figure("held", 1);
    stage.figure("commits_open", 0);
    let mut stage = stage.kill_and_restart(&[]);
    stage.no_rules();
    stage.figure("held", 1);
    assert_eq!(stage.operator().list(Some(State::Held))[0].id, new);
}

#[test]
fn where_others_come_in_too_what_is_not_away_is_a_new_message() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (_, attempt, ticket) = given(&mut stage, peers, |_| {});
    deliver.settle(&attempt, Result3::Delivered);
    let mut come = |stage: &mut Stage, token: [u8; 16]| {
        let mut message = stage.message(HOPS);
        message.body = Body::Inline(SCANNED.to_vec());
        message.envelope.body = Body7::EightBitMime;
        message.returned = Some(Returned { id: ticket.id.into(), token, or_new: true });
        let id = message.id;
        let receipt = filter.submit(message);
        assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
        id
    };
    let new = come(&mut stage, [0; 16]);
    let (ask, _) = post.hear();
    assert_eq!((ask.id, &ask.resume), (new, &None));
    post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
    assert_eq!(Id::from(vsmtp_mail::QueueId::from(deliver.serve(Result3::Delivered).id)), new);
    stage.figure("delegated", 1);
    // With the right one it is what was away: nothing loops.
    let new = come(&mut stage, ticket.token.to_bytes());
    goes_on(&mut stage, &mut post, &mut deliver, new);
}

#[test]
fn what_others_than_its_recipients_are_to_get_is_never_taken_for_a_copy() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (_, attempt, ticket) = given(&mut stage, peers, |_| {});
    deliver.settle(&attempt, Result3::Delivered);
    // The header of what was given away, on a message for somebody else: before the service has brought it back, and after.
    let other_comes = |stage: &mut Stage, filter: &mut Filter, post: &mut Post, deliver: &mut Deliver| {
        let mut message = stage.message(&[("other@else.test", "smtp:else.test")]);
        message.returned =
            Some(Returned { id: ticket.id.into(), token: ticket.token.to_bytes(), or_new: true });
        let id = message.id;
        assert!(matches!(filter.submit(message), Receipt::Stored { .. }));
        let (ask, _) = post.hear();
        assert_eq!((ask.id, &ask.resume), (id, &None));
        post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
        assert_eq!(Id::from(vsmtp_mail::QueueId::from(deliver.serve(Result3::Delivered).id)), id);
    };
    other_comes(&mut stage, &mut filter, &mut post, &mut deliver);
    stage.figure("delegated", 1);
    let (new, receipt) = bring(&mut stage, &mut filter, ticket);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    goes_on(&mut stage, &mut post, &mut deliver, new);
    other_comes(&mut stage, &mut filter, &mut post, &mut deliver);
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
    assert!(stage.log().contains("event=delegation-expired"), "{}", stage.log());
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
            if let Ok(Some(received)) = deliver.0.receive() {
                let lease = received.message.lease;
                let mut outcome = outcome(lease, &[(0, Result3::Deferred), (1, Result3::Deferred)]);
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
fn a_large_message_comes_back_as_a_file() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post, mut deliver) = all(&mut stage);
    let peers = (&mut filter, &mut post, &mut deliver);
    let (_, _attempt, ticket) = given(&mut stage, peers, |_| {});
    let large = [SCANNED, &vec![b'x'; 2 << 20], b"\r\n"].concat();
    let mut message = stage.message(&[("whoever@else.test", "maildir")]);
    crate::large::chunks(&mut filter, message.id, &large);
    message.body = Body::File(large.len() as u64);
    message.pieces = vec![
        Piece::Text(b"X-Scanned: large\r\n".to_vec()),
        Piece::Original { offset: 18, len: large.len() as u64 - 18 },
    ];
    message.returned = Some(Returned { id: ticket.id.into(), token: ticket.token.to_bytes(), or_new: false });
    let id = message.id;
    let receipt = filter.submit(message);
    assert!(matches!(receipt, Receipt::Stored { .. }), "{receipt:?}");
    let (ask, descriptors) = post.hear();
    assert_eq!((ask.id, ask.resume.is_some()), (id, true));
    let got = octets(ask.body, descriptors);
    assert_eq!(got.len(), large.len());
    assert!(got.starts_with(b"X-Scanned: large\r\nSubject: x\r\n"));
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
            if let Ok(Some(received)) = deliver.0.receive() {
                let attempt = received.message;
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
