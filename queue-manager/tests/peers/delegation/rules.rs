//! Rules and operators that change their mind while a message is away.

use vsmtp_ipc::edge::ctl_queue::{Request, Selection, State};
use vsmtp_ipc::edge::filter_queue::{Delegate, Receipt, Refusal};
use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_ipc::edge::queue_filter::PostVerdict;

use super::{HOPS, all, bring, delegate, given, ticket_of, verdict};
use crate::stage::{BODY, Stage, octets};

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
    assert!(!ticket_of(&octets(again.body.clone(), descriptors)).token.is(ticket.token));
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
