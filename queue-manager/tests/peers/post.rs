//! Rules behind the acceptance.

use std::time::{Duration, Instant};

use vsmtp_ipc::edge::ctl_queue::{Answer, Request, Selection, State};
use vsmtp_ipc::edge::filter_queue::{Disposition, Receipt, Refusal};
use vsmtp_ipc::edge::master_child::ToChild;
use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_ipc::edge::queue_filter::{PostAsk, PostStage, PostVerdict};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{Body, Notice, Piece, Reply, Reports};
use vsmtp_stage::next;

use crate::large::chunks;
use crate::stage::{BODY, PATIENCE, Stage, octets, text};

pub const HOP: &[(&str, &str)] = &[("b@dst.test", "smtp:dst.test")];

pub fn keep(ask: &PostAsk) -> PostVerdict {
    PostVerdict::Keep { ticket: ask.ticket, is_final: false }
}

fn refuse(ask: &PostAsk) -> PostVerdict {
    let reply = Reply { code: 554, enhanced: None, text: "not this one".to_owned() };
    PostVerdict::Refuse { ticket: ask.ticket, reply, reports: Reports::default() }
}

/// The message goes on with the envelope that it has, put together like this.
fn edit(ask: &PostAsk, pieces: Vec<Piece>) -> PostVerdict {
    PostVerdict::Edit {
        ticket: ask.ticket,
        envelope: ask.envelope.clone(),
        expanded: Vec::new(),
        notices: Vec::new(),
        disposition: Disposition::Active,
        pieces,
    }
}

#[test]
fn nothing_is_delivered_before_a_filter_has_said_what_it_wants() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver) = (stage.filter(), stage.deliver());
    let message = stage.message(HOP);
    filter.store(message);
    assert!(deliver.is_idle(&mut stage));
    stage.no_rules();
    deliver.serve(Result3::Delivered);
    stage.figure("messages", 0);
}

#[test]
fn both_stages_are_asked_and_the_message_goes_on() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, true));
    let message = stage.message(HOP);
    let id = filter.store(message);
    for stage in [PostStage::Postq, PostStage::Delivery] {
        let (ask, descriptors) = post.hear();
        assert_eq!((ask.id, ask.stage, ask.origin.client.as_str()), (id, stage, "192.0.2.9"));
        assert_eq!(ask.envelope.recipients[0].address, "b@dst.test");
        assert_eq!(octets(ask.body, descriptors), BODY);
        post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
    }
    assert_eq!(deliver.hear().0.id, id);
    // The verdict is remembered: it is not asked again after a death.
    stage.figure("commits_open", 0);
    drop((filter, deliver));
    let mut stage = stage.kill_and_restart(&[]);
    let mut deliver = stage.deliver();
    let _post = stage.post(true, true);
    assert_eq!(deliver.serve(Result3::Delivered).id, id);
}

#[test]
fn what_postq_has_accepted_for_good_is_not_asked_about_at_delivery() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, true));
    let message = stage.message(HOP);
    let id = filter.store(message);
    let (ask, _) = post.hear();
    assert_eq!((ask.id, ask.stage), (id, PostStage::Postq));
    post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: true });
    assert_eq!(deliver.serve(Result3::Delivered).id, id);
}

#[test]
fn a_message_that_was_accepted_for_good_is_not_asked_about_and_that_survives() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post) = (stage.filter(), stage.post(true, true));
    let mut message = stage.message(HOP);
    message.judged = true;
    let id = filter.store(message);
    let other = stage.message(HOP);
    let other = filter.store(other);
    let (ask, _) = post.hear();
    assert_eq!(ask.id, other);
    drop((filter, post));
    let mut stage = stage.kill_and_restart(&[]);
    let (_post, mut deliver) = (stage.post(true, true), stage.deliver());
    assert_eq!(deliver.serve(Result3::Delivered).id, id);
}

#[test]
fn edits_are_committed_before_the_first_attempt_and_survive() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut post) = (stage.filter(), stage.post(true, false));
    let message = stage.message(HOP);
    let id = filter.store(message);
    let (ask, _) = post.hear();
    let mut envelope = ask.envelope.clone();
    envelope.recipients[0].address = "changed@dst.test".to_owned();
    envelope.recipients[0].next_hop = "smtp:[192.0.2.7]:25".to_owned();
    let pieces = vec![
        Piece::Text(b"X-Post: yes\r\n".to_vec()),
        Piece::Original { offset: 18, len: BODY.len() as u64 - 18 },
    ];
    post.say(&PostVerdict::Edit {
        ticket: ask.ticket,
        envelope,
        expanded: Vec::new(),
        notices: Vec::new(),
        disposition: Disposition::Active,
        pieces,
    });
    stage.logged("verdict=edit");
    stage.figure("active", 1);
    let mut stage = stage.kill_and_restart(&[]);
    let (_post, mut deliver) = (stage.post(true, false), stage.deliver());
    let (attempt, descriptors) = deliver.hear();
    assert_eq!((attempt.id, attempt.next_hop.as_str()), (id, "smtp:[192.0.2.7]:25"));
    assert_eq!(attempt.recipients[0].address, "changed@dst.test");
    deliver.settle(&attempt, Result3::Delivered);
    assert_eq!(octets(attempt.body, descriptors), [b"X-Post: yes\r\n", &BODY[18..]].concat());
    stage.figure("messages", 0);
}

#[test]
fn a_message_refused_behind_its_acceptance_bounces() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, false));
    let mut message = stage.message(HOP);
    message.envelope.reverse_path = "a@far.test".to_owned();
    filter.store(message);
    let (ask, _) = post.hear();
    let reply = Reply { code: 554, enhanced: Some((5, 7, 7)), text: "not this one".to_owned() };
    let reports = Reports {
        text: Some("Call us.".to_owned()),
        from: Some("help@src.test".to_owned()),
        suppressed: false,
    };
    post.say(&PostVerdict::Refuse { ticket: ask.ticket, reply, reports });
    let (report, descriptors) = deliver.hear();
    assert_eq!(
        (report.recipients[0].address.as_str(), report.next_hop.as_str()),
        ("a@far.test", "smtp:far.test")
    );
    deliver.settle(&report, Result3::Delivered);
    let bytes = String::from_utf8(octets(report.body, descriptors)).unwrap();
    assert!(bytes.contains("Status: 5.7.7") && bytes.contains("not this one"), "{bytes}");
    assert!(bytes.contains("\r\nCall us.\r\n") && bytes.contains("<help@src.test>"), "{bytes}");
    stage.figure("messages", 0);
    // The rules that refuse it may want nobody to be told.
    let mut message = stage.message(HOP);
    message.envelope.reverse_path = "a@far.test".to_owned();
    filter.store(message);
    let (ask, _) = post.hear();
    let reply = Reply { code: 554, enhanced: None, text: "nor this one".to_owned() };
    let reports = Reports { suppressed: true, ..Reports::default() };
    post.say(&PostVerdict::Refuse { ticket: ask.ticket, reply, reports });
    stage.logged("nor this one");
    stage.figure("messages", 0);
    assert!(deliver.is_idle(&mut stage));
}

#[test]
fn a_message_that_cannot_be_asked_about_keeps_no_other_waiting() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, false));
    let (mut message, body) = (stage.message(HOP), vec![b'x'; 2_000_000]);
    chunks(&mut filter, message.id, &body);
    message.body = Body::File(body.len() as u64);
    let large = filter.store(message);
    // Once rules have changed it, a question about it takes a file that is laid out for this once.
    let (ask, _) = post.hear();
    let field = Piece::Text(b"X-Rule: yes\r\n\r\n".to_vec());
    let pieces = vec![field, Piece::Original { offset: 0, len: body.len() as u64 }];
    post.say(&edit(&ask, pieces));
    deliver.serve(Result3::Deferred);
    stage.logged("event=deferred");
    stage.figure("commits_open", 0);
    std::fs::remove_dir_all(stage.folder.path().join("queue/staging")).unwrap();
    assert_eq!(stage.operator().changed(&Request::Requeue(Selection::One(large))), 1);
    stage.logged("event=not-asked");
    let message = stage.message(HOP);
    let id = filter.store(message);
    let (ask, _) = post.hear();
    assert_eq!(ask.id, id);
    post.say(&keep(&ask));
    assert_eq!(deliver.serve(Result3::Delivered).id, id);
    stage.figure("messages", 1);
    drop((filter, deliver, post));
    let mut stage = stage.kill_and_restart(&[]);
    let mut post = stage.post(true, false);
    let (ask, descriptors) = post.hear();
    assert_eq!((ask.id, ask.reroute), (large, true));
    assert!(octets(ask.body, descriptors).ends_with(&body));
}

#[test]
fn a_filter_that_answers_what_was_not_asked_is_dropped() {
    let mut stage = Stage::start(&[]);
    let mut filter = stage.filter();
    let message = stage.message(HOP);
    filter.store(message);
    let lies: [fn(u64, &vsmtp_ipc::edge::queue_filter::PostAsk) -> PostVerdict; 5] = [
        |ticket, _| PostVerdict::Keep { ticket: ticket + 1, is_final: false },
        |_, _| PostVerdict::Wanted { postq: false, delivery: false, delegates: None },
        |ticket, ask| PostVerdict::Edit {
            ticket,
            envelope: ask.envelope.clone(),
            expanded: Vec::new(),
            notices: Vec::new(),
            disposition: Disposition::Active,
            pieces: vec![Piece::Original { offset: 0, len: 10_000 }],
        },
        |ticket, _| PostVerdict::Refuse {
            ticket,
            reply: Reply { code: 5, enhanced: None, text: String::new() },
            reports: Reports::default(),
        },
        |ticket, _| PostVerdict::Refuse {
            ticket,
            reply: Reply { code: 554, enhanced: None, text: "no".to_owned() },
            reports: Reports { text: Some("a\0b".to_owned()), ..Reports::default() },
        },
    ];
    for lie in lies {
        let mut post = stage.post(true, false);
        let (ask, _) = post.hear();
        post.say(&lie(ask.ticket, &ask));
        assert!(post.is_dropped());
        stage.misbehaved(Role::FilterPost);
    }
}

/// While the first filter's edits are on their way to the disk, the messages still stand as those that wait for a verdict.
#[test]
fn what_one_filter_has_judged_is_not_asked_of_the_next() {
    const MESSAGES: usize = 40;
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut old) = (stage.filter(), stage.deliver(), stage.post(true, false));
    let mut asks = Vec::new();
    for _ in 0..MESSAGES {
        let message = stage.message(HOP);
        filter.store(message);
        asks.push(old.hear().0);
    }
    for ask in asks {
        old.say(&PostVerdict::Edit {
            ticket: ask.ticket,
            envelope: ask.envelope,
            expanded: Vec::new(),
            notices: Vec::new(),
            disposition: Disposition::Active,
            pieces: vec![Piece::Original { offset: 0, len: BODY.len() as u64 }],
        });
    }
    let mut new = stage.post(true, false);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..MESSAGES {
        assert!(seen.insert(deliver.serve(Result3::Delivered).id), "delivered twice");
    }
    stage.figure("messages", 0);
    assert!(deliver.is_idle(&mut stage));
    assert_eq!(stage.log().matches("verdict=edit").count(), MESSAGES);
    // The next question is about the next message.
    let message = stage.message(HOP);
    let id = filter.store(message);
    assert_eq!(new.hear().0.id, id);
}

#[test]
fn a_message_that_is_requeued_while_it_is_judged_is_judged_anew() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, false));
    for verdict in [keep, refuse, |ask: &PostAsk| edit(ask, Vec::new())] {
        let message = stage.message(HOP);
        let id = filter.store(message);
        let (ask, _) = post.hear();
        assert!(!ask.reroute);
        assert_eq!(stage.operator().changed(&Request::Requeue(Selection::One(id))), 1);
        post.say(&verdict(&ask));
        let (ask, _) = post.hear();
        assert_eq!((ask.id, ask.reroute), (id, true));
        post.say(&keep(&ask));
        assert_eq!(deliver.serve(Result3::Delivered).id, id);
    }
    stage.figure("messages", 0);
}

/// The order may be on its way to the disk when the verdict comes; then rules are asked once more.
#[test]
fn a_message_that_is_released_while_it_is_judged_goes_on() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, false));
    for _ in 0..10 {
        let message = stage.message(HOP);
        let id = filter.store(message);
        let (ask, _) = post.hear();
        let mut operator = stage.operator();
        assert_eq!(operator.changed(&Request::Hold(Selection::One(id))), 1);
        vsmtp_stage::say(&mut operator.0, &Request::Release(Selection::One(id)), Vec::new());
        post.say(&edit(&ask, Vec::new()));
        let until = Instant::now() + PATIENCE;
        let attempt = loop {
            if let Some(attempt) = deliver.attempt_if_any() {
                break attempt;
            }
            if let Some(received) = post.0.receive().unwrap() {
                post.say(&keep(&received.message));
            }
            assert!(Instant::now() < until, "it stays on hold");
            std::thread::sleep(Duration::from_millis(2));
        };
        assert_eq!(attempt.id, id);
        deliver.settle(&attempt, Result3::Delivered);
        assert!(matches!(next(&mut operator.0).unwrap().message, Answer::Changed(1)));
    }
    stage.figure("messages", 0);
}

#[test]
fn a_message_on_hold_is_not_refused() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, false));
    let message = stage.message(HOP);
    let id = filter.store(message);
    let (ask, _) = post.hear();
    let mut operator = stage.operator();
    assert_eq!(operator.changed(&Request::Hold(Selection::One(id))), 1);
    post.say(&refuse(&ask));
    // Whoever is asked about the next one has heard that.
    let message = stage.message(HOP);
    let other = filter.store(message);
    let (ask, _) = post.hear();
    assert_eq!(ask.id, other);
    post.say(&keep(&ask));
    assert_eq!(deliver.serve(Result3::Delivered).id, other);
    assert_eq!(operator.list(Some(State::Held))[0].id, id);
    assert_eq!(operator.changed(&Request::Release(Selection::One(id))), 1);
    let (ask, _) = post.hear();
    assert_eq!(ask.id, id);
    post.say(&keep(&ask));
    assert_eq!(deliver.serve(Result3::Delivered).id, id);
    stage.figure("messages", 0);
}

/// What the rules do besides, they would do again and again.
#[test]
fn rules_whose_verdict_cannot_be_written_are_not_asked_again_at_once() {
    let mut stage = Stage::start(&[]);
    let message = stage.message(HOP);
    let id = stage.filter().store(message);
    // Without the segment in reserve, new messages would be refused at once.
    stage.figure("store_free_segments", 1);
    let mut stage = stage.kill_and_restart(&[("queue.min_free", text("1024TiB"))]);
    // What is there already is filled, to the last few hundred octets.
    let mut filter = stage.filter();
    for size in [16_000, 500] {
        loop {
            let mut message = stage.message(HOP);
            message.disposition = Disposition::Hold("by a rule".to_owned());
            message.body = Body::Inline(vec![b'x'; size]);
            match filter.submit(message) {
                Receipt::Stored { .. } => {}
                Receipt::Refused { why: Refusal::Full, .. } => break,
                other => panic!("{other:?}"),
            }
        }
    }
    let mut post = stage.post(true, false);
    let (ask, _) = post.hear();
    assert_eq!(ask.id, id);
    let notice = Notice { to: "c@far.test".to_owned(), subject: "seen".to_owned(), text: "x\n".repeat(2000) };
    post.say(&PostVerdict::Edit {
        ticket: ask.ticket,
        envelope: ask.envelope,
        expanded: Vec::new(),
        notices: vec![notice],
        disposition: Disposition::Active,
        pieces: Vec::new(),
    });
    stage.logged("event=not-committed");
    // What a turn asks is said before its answers to operators.
    let mut operator = stage.operator();
    for _ in 0..3 {
        operator.figures();
    }
    assert!(post.0.receive().unwrap().is_none(), "asked again");
    drop((filter, post, operator));
    let mut stage = stage.kill_and_restart(&[]);
    let (mut post, mut deliver) = (stage.post(true, false), stage.deliver());
    let (ask, _) = post.hear();
    assert_eq!(ask.id, id);
    post.say(&keep(&ask));
    assert_eq!(deliver.serve(Result3::Delivered).id, id);
}

#[test]
fn what_an_old_filter_lies_about_is_asked_of_the_new_one() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut old) = (stage.filter(), stage.deliver(), stage.post(true, false));
    let message = stage.message(HOP);
    let id = filter.store(message);
    let (asked, _) = old.hear();
    let mut new = stage.post(true, false);
    let until = Instant::now() + PATIENCE;
    while stage.log().matches("event=edge-opened peer=filter-post.0").count() < 2 {
        assert!(Instant::now() < until, "the new one is not known");
        std::thread::sleep(Duration::from_millis(2));
    }
    // What it wants is there when its edge is opened, and is heard no later than this.
    let message = stage.message(HOP);
    let other = filter.store(message);
    let (ask, _) = new.hear();
    assert_eq!(ask.id, other);
    let lie = Reply { code: 5, enhanced: None, text: String::new() };
    old.say(&PostVerdict::Refuse { ticket: asked.ticket, reply: lie, reports: Reports::default() });
    assert!(old.is_dropped());
    stage.misbehaved(Role::FilterPost);
    assert_eq!(new.hear().0.id, id);
    new.say(&keep(&ask));
    assert_eq!(deliver.serve(Result3::Delivered).id, other);
}

#[test]
fn a_filter_that_answers_for_another_spoils_nothing() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut old) = (stage.filter(), stage.deliver(), stage.post(true, false));
    let message = stage.message(HOP);
    let id = filter.store(message);
    let (ask, _) = old.hear();
    let mut new = stage.post(true, false);
    new.say(&refuse(&ask));
    assert!(new.is_dropped());
    stage.misbehaved(Role::FilterPost);
    old.say(&keep(&ask));
    assert_eq!(deliver.serve(Result3::Delivered).id, id);
}

/// A pipe is no edge: nothing can be said on it.
#[test]
fn the_master_hears_of_an_edge_that_is_given_up_for_whatever_reason() {
    let mut stage = Stage::start(&[]);
    for role in [Role::FilterSession, Role::FilterPost, Role::DeliverSmtp] {
        let (_reader, writer) = std::io::pipe().unwrap();
        stage.tell(&ToChild::Peer(ProcessName { role, instance: 0 }), vec![writer.into()]);
        stage.misbehaved(role);
    }
}
