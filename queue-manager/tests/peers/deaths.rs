//! Post-queue filters that die: who is asked about next, and who waits.

use std::time::{Duration, Instant};

use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_ipc::edge::queue_filter::{PostStage, PostVerdict};

use crate::post::{HOP, keep};
use crate::stage::{PATIENCE, Stage};

#[test]
fn questions_of_a_dead_filter_are_asked_again() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver, mut post) = (stage.filter(), stage.deliver(), stage.post(true, false));
    let message = stage.message(HOP);
    let id = filter.store(message);
    post.hear();
    drop(post);
    stage.logged("event=edge-closed");
    assert!(deliver.is_idle(&mut stage));
    let mut post = stage.post(true, false);
    let (ask, _) = post.hear();
    assert_eq!(ask.id, id);
    post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
    deliver.serve(Result3::Delivered);
}

/// Waits until the end of so many filters was seen.
fn have_died(stage: &Stage, count: usize) {
    let until = Instant::now() + PATIENCE;
    while stage.log().matches("event=edge-closed").count() < count {
        assert!(Instant::now() < until, "its end was not seen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_message_with_which_filters_die_keeps_no_other_waiting() {
    let mut stage = Stage::start(&[]);
    let mut filter = stage.filter();
    let message = stage.message(HOP);
    let id = filter.store(message);
    for deaths in 1..=2 {
        let mut post = stage.post(true, false);
        assert_eq!(post.hear().0.id, id, "the first time it may have been any of them");
        drop(post);
        have_died(&stage, deaths);
    }
    let message = stage.message(HOP);
    let other = filter.store(message);
    let mut post = stage.post(true, false);
    assert_eq!(post.hear().0.id, other);
    stage.figure("messages", 2);
}

#[test]
fn a_message_with_which_filters_die_at_the_last_stage_keeps_no_other_waiting() {
    let mut stage = Stage::start(&[]);
    let mut filter = stage.filter();
    let message = stage.message(HOP);
    let id = filter.store(message);
    for deaths in 1..=2 {
        let mut post = stage.post(true, true);
        let (ask, _) = post.hear();
        assert_eq!((ask.id, ask.stage), (id, PostStage::Postq));
        post.say(&keep(&ask));
        assert_eq!(post.hear().0.stage, PostStage::Delivery);
        drop(post);
        have_died(&stage, deaths);
    }
    let message = stage.message(HOP);
    let other = filter.store(message);
    let mut post = stage.post(true, true);
    assert_eq!(post.hear().0.id, other);
    stage.figure("messages", 2);
}

#[test]
fn of_those_with_which_a_filter_has_died_one_is_asked_about_at_once() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver) = (stage.filter(), stage.deliver());
    let mut store = |stage: &mut Stage| {
        let message = stage.message(HOP);
        filter.store(message)
    };
    let mut post = stage.post(true, false);
    let two = [store(&mut stage), store(&mut stage)];
    assert_eq!([post.hear().0.id, post.hear().0.id], two);
    drop(post);
    have_died(&stage, 1);
    // One of the two is asked about, and beside it only what nothing is held against.
    let mut post = stage.post(true, false);
    let fatal = post.hear().0.id;
    let innocent = two.into_iter().find(|id| *id != fatal).unwrap();
    let third = store(&mut stage);
    assert_eq!(post.hear().0.id, third);
    drop(post);
    have_died(&stage, 2);
    // The other has not died with it, and is put off as little as who came later.
    let mut post = stage.post(true, false);
    for id in [innocent, third] {
        let (ask, _) = post.hear();
        assert_eq!(ask.id, id);
        post.say(&keep(&ask));
        assert_eq!(deliver.serve(Result3::Delivered).id, id);
    }
    stage.figure("messages", 1);
}

#[test]
fn where_there_are_no_rules_any_more_nobody_waits_for_its_turn() {
    let mut stage = Stage::start(&[]);
    let (mut filter, mut deliver) = (stage.filter(), stage.deliver());
    let mut post = stage.post(true, false);
    let two: Vec<_> = (0..2)
        .map(|_| {
            let message = stage.message(HOP);
            filter.store(message)
        })
        .collect();
    assert_eq!([post.hear().0.id, post.hear().0.id].as_slice(), two);
    drop(post);
    have_died(&stage, 1);
    let mut post = stage.post(true, false);
    let (ask, _) = post.hear();
    stage.no_rules();
    // Nobody has asked about this one.
    assert_ne!(deliver.serve(Result3::Delivered).id, ask.id);
    post.say(&keep(&ask));
    assert_eq!(deliver.serve(Result3::Delivered).id, ask.id);
    stage.figure("messages", 0);
}
