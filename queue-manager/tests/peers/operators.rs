//! Orders of operators.

use vsmtp_ipc::edge::ctl_queue::{Answer, Condition, Request, Selection, State};
use vsmtp_ipc::edge::filter_queue::Disposition;
use vsmtp_ipc::edge::queue_deliver::{Advice, Outcome, Result3};
use vsmtp_ipc::edge::queue_filter::{PostStage, PostVerdict};

use crate::stage::{BODY, Stage, octets, outcome};

const HOP: &[(&str, &str)] = &[("b@dst.test", "smtp:dst.test")];

#[test]
fn hold_release_and_delete() {
    let mut stage = Stage::start(&[]);
    stage.no_rules();
    let mut filter = stage.filter();
    let messages: Vec<_> = (0..3).map(|_| stage.message(HOP)).collect();
    let ids: Vec<_> = messages.into_iter().map(|message| filter.store(message)).collect();
    let mut operator = stage.operator();
    assert_eq!(operator.changed(&Request::Hold(Selection::All(None))), 3);
    assert_eq!(operator.changed(&Request::Hold(Selection::One(ids[0]))), 0);
    assert_eq!(operator.list(Some(State::Held)).len(), 3);
    let mut deliver = stage.deliver();
    assert!(deliver.is_idle(&mut stage));
    assert_eq!(operator.changed(&Request::Delete(Selection::One(ids[1]))), 1);
    assert!(matches!(operator.ask(&Request::Show(ids[1])).0, Answer::Failed(_)));
    assert!(matches!(operator.ask(&Request::Delete(Selection::One(ids[1]))).0, Answer::Failed(_)));
    assert_eq!(operator.changed(&Request::Release(Selection::One(ids[2]))), 1);
    assert_eq!(deliver.serve(Result3::Delivered).id, ids[2]);
    // What was held is still held after a death.
    stage.figure("messages", 1);
    let mut stage = stage.kill_and_restart(&[]);
    stage.no_rules();
    stage.logged("event=loaded");
    let mut operator = stage.operator();
    assert_eq!(operator.list(Some(State::Held))[0].id, ids[0]);
    assert_eq!(operator.changed(&Request::Delete(Selection::All(Some(State::Held)))), 1);
    assert!(operator.list(None).is_empty());
    stage.figure("messages", 0);
}

#[test]
fn a_flush_counts_what_will_be_tried() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let deferred = stage.message(HOP);
    filter.store(deferred);
    deliver.serve(Result3::Deferred);
    stage.logged("event=deferred");
    let mut quarantined = stage.message(HOP);
    quarantined.disposition = Disposition::Quarantine("virus".to_owned());
    let quarantined = filter.store(quarantined);
    let mut held = stage.message(HOP);
    held.disposition = Disposition::Hold("why".into());
    filter.store(held);
    let mut operator = stage.operator();
    assert_eq!(operator.changed(&Request::Flush(Selection::One(quarantined))), 0);
    assert_eq!(operator.changed(&Request::Flush(Selection::All(Some(State::Quarantined)))), 0);
    assert_eq!(operator.flush_all(), 1);
    deliver.serve(Result3::Delivered);
    stage.figure("messages", 2);
}

#[test]
fn lists_come_in_pages_and_show_tells_all() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let mut ids = Vec::new();
    for _ in 0..30 {
        let message = stage.message(HOP);
        ids.push(filter.store(message));
    }
    let first = deliver.serve(Result3::Deferred).id;
    stage.logged("event=deferred");
    let mut operator = stage.operator();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let Answer::Page(page) = operator.ask(&Request::List { state: None, after, limit: 7 }).0 else {
            panic!()
        };
        listed.extend(page.iter().map(|entry| entry.id));
        after = page.last().map(|entry| entry.id);
        if page.len() < 7 {
            break;
        }
    }
    assert_eq!(listed, ids);
    let Answer::Shown(entry) = operator.ask(&Request::Show(first)).0 else { panic!() };
    assert_eq!(
        (entry.state, entry.size, entry.reverse_path.as_str()),
        (State::Deferred, BODY.len() as u64, "a@src.test")
    );
    assert_eq!((entry.recipients[0].status.as_str(), entry.recipients[0].attempts), ("deferred", 1));
    assert!(entry.next_attempt_ms > entry.arrived_ms + 200_000);
    let (Answer::Body(len), descriptors) = operator.ask(&Request::Cat(first)) else { panic!() };
    assert_eq!(octets(vsmtp_ipc::wire::Body::Memfd(len), descriptors), BODY);
    let Answer::Stats(figures) = operator.ask(&Request::Stats).0 else { panic!() };
    assert!(figures.iter().any(|figure| figure.name == "messages" && figure.value == 30));
}

#[test]
fn requeue_forgets_attempts_and_asks_again() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, false));
    let message = stage.message(HOP);
    let id = filter.store(message);
    let keep = |post: &mut crate::stage::Post| {
        let (ask, _) = post.hear();
        post.say(&vsmtp_ipc::edge::queue_filter::PostVerdict::Keep { ticket: ask.ticket, is_final: false });
    };
    keep(&mut post);
    deliver.serve(Result3::Deferred);
    stage.logged("event=deferred");
    stage.figure("commits_open", 0);
    let mut operator = stage.operator();
    assert_eq!(operator.changed(&Request::Requeue(Selection::One(id))), 1);
    keep(&mut post);
    deliver.serve(Result3::Delivered);
    stage.figure("messages", 0);
}

#[test]
fn requeue_has_policy_choose_the_next_hops_anew_though_there_are_no_rules() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(false, false));
    let message = stage.message(HOP);
    let id = filter.store(message);
    deliver.serve(Result3::Deferred);
    stage.logged("event=deferred");
    assert_eq!(stage.operator().changed(&Request::Requeue(Selection::One(id))), 1);
    let (ask, _) = post.hear();
    assert_eq!((ask.id, ask.stage, ask.reroute, ask.body.len()), (id, PostStage::Routing, true, 0));
    assert!(deliver.is_idle(&mut stage), "nothing is tried before policy has spoken");
    drop((filter, deliver, post));
    // Death changes nothing.
    let mut stage = stage.kill_and_restart(&[]);
    let (mut deliver, mut post) = (stage.deliver(), stage.post(false, false));
    let (ask, _) = post.hear();
    assert_eq!((ask.id, ask.stage), (id, PostStage::Routing));
    let mut envelope = ask.envelope;
    envelope.recipients[0].next_hop = "smtp:new.test".to_owned();
    post.say(&PostVerdict::Edit {
        ticket: ask.ticket,
        envelope,
        expanded: Vec::new(),
        notices: Vec::new(),
        disposition: Disposition::Active,
        pieces: Vec::new(),
    });
    let attempt = deliver.serve(Result3::Deferred);
    assert_eq!((attempt.id, attempt.next_hop.as_str()), (id, "smtp:new.test"));
    stage.logged("event=deferred");
    // That was decided once and for all.
    drop((deliver, post));
    let mut stage = stage.kill_and_restart(&[]);
    let (mut deliver, _post) = (stage.deliver(), stage.post(false, false));
    stage.figure("active", 1);
    assert_eq!(stage.operator().flush_all(), 1);
    assert_eq!(deliver.serve(Result3::Delivered).next_hop, "smtp:new.test");
    stage.figure("messages", 0);
}

#[test]
fn who_has_a_message_does_not_get_it_again_because_it_was_requeued() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, false));
    let message = stage.message(&[("b@dst.test", "smtp:dst.test"), ("c@other.test", "smtp:other.test")]);
    let id = filter.store(message);
    let (ask, _) = post.hear();
    assert!(!ask.reroute);
    post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
    for _ in 0..2 {
        let (attempt, _) = deliver.hear();
        let is_first = attempt.recipients[0].address == "b@dst.test";
        deliver.settle(&attempt, if is_first { Result3::Delivered } else { Result3::Deferred });
    }
    stage.logged("event=delivered");
    stage.logged("event=deferred");
    stage.figure("commits_open", 0);
    assert_eq!(stage.operator().changed(&Request::Requeue(Selection::One(id))), 1);
    let (ask, _) = post.hear();
    let asked: Vec<&str> = ask.envelope.recipients.iter().map(|one| one.address.as_str()).collect();
    assert_eq!((asked, ask.reroute), (vec!["c@other.test"], true));
    // A rule that adds the one who has it.
    let mut envelope = ask.envelope;
    let again = vsmtp_ipc::wire::Recipient {
        chosen: false,
        address: "b@dst.test".to_owned(),
        next_hop: "smtp:elsewhere.test".to_owned(),
        ..envelope.recipients[0].clone()
    };
    envelope.recipients.push(again);
    post.say(&PostVerdict::Edit {
        ticket: ask.ticket,
        envelope,
        expanded: Vec::new(),
        notices: Vec::new(),
        disposition: Disposition::Active,
        pieces: Vec::new(),
    });
    let attempt = deliver.serve(Result3::Delivered);
    assert_eq!(attempt.recipients[0].address, "c@other.test");
    stage.figure("messages", 0);
    assert!(deliver.is_idle(&mut stage));
}

#[test]
fn many_orders_over_many_messages() {
    let (mut stage, mut filter, _deliver) = Stage::with_peers();
    for _ in 0..1200 {
        let message = stage.message(HOP);
        filter.store(message);
    }
    let mut operator = stage.operator();
    assert_eq!(operator.changed(&Request::Hold(Selection::All(None))), 1200);
    assert_eq!(operator.changed(&Request::Delete(Selection::All(Some(State::Held)))), 1200);
    stage.figure("messages", 0);
}

#[test]
fn what_was_delivered_while_it_was_requeued_is_not_delivered_again() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(&[("b@dst.test", "smtp:dst.test"), ("c@other.test", "smtp:other.test")]);
    let id = filter.store(message);
    let attempts = [deliver.hear().0, deliver.hear().0];
    let mut operator = stage.operator();
    assert_eq!(operator.changed(&Request::Requeue(Selection::One(id))), 1);
    assert_eq!(operator.list(Some(State::Active)).len(), 1, "it is not held");
    assert!(deliver.is_idle(&mut stage), "nobody is tried whose attempt is under way");
    deliver.settle(&attempts[0], Result3::Delivered);
    stage.logged("event=delivered");
    stage.figure("commits_open", 0);
    assert!(deliver.is_idle(&mut stage), "nor anybody else of the message");
    deliver.settle(&attempts[1], Result3::Deferred);
    stage.keep_routes();
    let again = deliver.serve(Result3::Delivered);
    assert_eq!(again.recipients, attempts[1].recipients);
    stage.figure("messages", 0);
    assert!(deliver.is_idle(&mut stage));
    stage.figure("leases", 0);
}

#[test]
fn what_was_requeued_is_tried_again_when_its_deliver_process_is_gone() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(HOP);
    let id = filter.store(message);
    deliver.hear();
    assert_eq!(stage.operator().changed(&Request::Requeue(Selection::One(id))), 1);
    drop(deliver);
    stage.keep_routes();
    let mut deliver = stage.deliver();
    assert_eq!(deliver.serve(Result3::Delivered).id, id);
    stage.figure("messages", 0);
}

#[test]
fn what_is_out_while_it_is_held_and_released_goes_out_once() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(HOP);
    let id = filter.store(message);
    let (attempt, _) = deliver.hear();
    let mut operator = stage.operator();
    assert_eq!(operator.changed(&Request::Hold(Selection::One(id))), 1);
    assert_eq!(operator.changed(&Request::Release(Selection::One(id))), 1);
    assert!(deliver.is_idle(&mut stage));
    deliver.settle(&attempt, Result3::Delivered);
    stage.figure("messages", 0);
    assert!(deliver.is_idle(&mut stage));
}

#[test]
fn a_release_tries_at_once_what_was_deferred() {
    let (mut stage, mut filter, mut deliver) = Stage::with_peers();
    let message = stage.message(HOP);
    let id = filter.store(message);
    deliver.serve(Result3::Deferred);
    stage.logged("event=deferred");
    let mut operator = stage.operator();
    assert_eq!(operator.changed(&Request::Hold(Selection::One(id))), 1);
    assert_eq!(operator.changed(&Request::Release(Selection::One(id))), 1);
    assert_eq!(deliver.serve(Result3::Delivered).id, id);
    stage.figure("messages", 0);
}

#[test]
fn who_is_on_hold_stays_there_whatever_the_rules_say() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, false));
    for edit in [false, true] {
        let message = stage.message(HOP);
        let id = filter.store(message);
        let (ask, _) = post.hear();
        let mut operator = stage.operator();
        assert_eq!(operator.changed(&Request::Hold(Selection::One(id))), 1);
        let ticket = ask.ticket;
        post.say(&match edit {
            false => PostVerdict::Keep { ticket, is_final: false },
            true => PostVerdict::Edit {
                ticket,
                envelope: ask.envelope,
                expanded: Vec::new(),
                notices: Vec::new(),
                disposition: Disposition::Active,
                pieces: Vec::new(),
            },
        });
        assert!(deliver.is_idle(&mut stage));
        stage.figure("commits_open", 0);
        assert_eq!(operator.list(Some(State::Held))[0].id, id);
        assert_eq!(operator.changed(&Request::Release(Selection::One(id))), 1);
        assert_eq!(deliver.serve(Result3::Delivered).id, id, "judged once is enough");
    }
    stage.figure("messages", 0);
}

#[test]
fn a_rate_is_held_and_shown_and_a_pause_that_a_host_asks_for_too() {
    let limits = vsmtp_config::Value::Map(
        [("dst.test".to_owned(), vsmtp_config::Value::Text("rate=1/h".to_owned()))].into(),
    );
    let mut stage = Stage::start(&[("delivery.destinations", limits)]);
    stage.no_rules();
    let (mut filter, mut deliver) = (stage.filter(), stage.deliver());
    for _ in 0..2 {
        let message = stage.message(HOP);
        filter.store(message);
    }
    assert_eq!(deliver.serve(Result3::Delivered).next_hop, "smtp:dst.test");
    let busy = stage.message(&[("b@busy.test", "smtp:busy.test")]);
    filter.store(busy);
    let (attempt, _) = deliver.hear();
    let advice = Advice { retry_after_s: 0, fewer: true, pause_s: 600 };
    deliver.say(&Outcome { advice, ..outcome(attempt.lease, &[(0, Result3::Deferred)]) });
    stage.logged("event=deferred");
    let busy = stage.message(&[("c@busy.test", "smtp:busy.test")]);
    filter.store(busy);
    assert!(deliver.is_idle(&mut stage));
    let mut operator = stage.operator();
    let Answer::Destinations(page) = operator.ask(&Request::Destinations { after: None, limit: 10 }).0 else {
        panic!("no page");
    };
    let of = |hop: &str| page.iter().find(|one| one.next_hop == hop).unwrap();
    assert_eq!((of("smtp:dst.test").condition, of("smtp:dst.test").messages), (Condition::Limited, 1));
    let busy = of("smtp:busy.test");
    assert_eq!((busy.condition, busy.concurrency, busy.messages), (Condition::Resting, 2, 2));
}
