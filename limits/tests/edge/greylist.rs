//! Who has waited, over the life of the process.

use std::fs::File;
use std::os::unix::fs::FileExt;

use vsmtp_ipc::edge::filter_limits::{Ask, MAX_ADDRESS, MAX_TRIPLES, Terms, Triple};
use vsmtp_ipc::edge::master_child::ToChild;
use vsmtp_ipc::role::Role;

use crate::stage::*;

const TERMS: Terms = Terms { delay_s: 3_000, window_s: 90_000, lifetime_s: 90_000, known_after: 0 };

fn triple(sender: &str) -> Triple {
    Triple { client: ip("192.0.2.0"), sender: sender.into(), recipient: "b@dst.test".into() }
}

fn files() -> [File; 2] {
    [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()]
}

fn start(files: &[File; 2]) -> (Stage, Filter) {
    let copies = [files[0].try_clone().unwrap(), files[1].try_clone().unwrap()];
    let mut stage = Stage::start_with(&slice(), copies);
    let filter = stage.filter(Role::FilterSession, 0);
    (stage, filter)
}

/// Ends it as a stop does, and waits for its end.
fn end(mut stage: Stage) {
    stage.tell(&ToChild::Drain { deadline_ms: 5_000 }, Vec::new());
    stage.is_gone();
}

#[test]
fn what_was_learned_is_known_to_the_next_one() {
    let files = files();
    let (stage, mut filter) = start(&files);
    assert_eq!(filter.greylist(&triple("a"), TERMS), 3_000);
    assert_eq!(filter.greylist(&triple("b"), TERMS), 3_000);
    filter.accepted(vec![(triple("b"), TERMS)]);
    end(stage);
    let (stage, mut filter) = start(&files);
    assert_eq!(filter.greylist(&triple("b"), TERMS), 0);
    let left = filter.greylist(&triple("a"), TERMS);
    assert!((1..=3_000).contains(&left));
    stage.process.logged("event=state-read waiting=1 welcome=1 clients=1");
    end(stage);
}

#[test]
fn a_damaged_file_is_as_one_that_is_empty_and_is_said() {
    let files = files();
    let (stage, mut filter) = start(&files);
    filter.greylist(&triple("a"), TERMS);
    filter.accepted(vec![(triple("a"), TERMS)]);
    end(stage);
    for file in &files {
        file.write_all_at(b"damaged", 20).unwrap();
    }
    let (stage, mut filter) = start(&files);
    assert_eq!(filter.greylist(&triple("a"), TERMS), 3_000);
    stage.process.logged("event=state-damaged");
    assert_eq!(stage.log().matches("event=state-damaged").count(), 2, "{}", stage.log());
    end(stage);
    let (stage, _) = start(&files);
    stage.process.logged("waiting=1 welcome=0");
}

#[test]
fn nonsense_of_a_filter_costs_its_edge_only() {
    let (mut stage, mut post) = start(&files());
    let nul = Triple { sender: "a\0b".into(), ..triple("a") };
    let long = Triple { recipient: "x".repeat(MAX_ADDRESS + 1), ..triple("a") };
    for wrong in [
        Ask::Greylist { ticket: 1, triple: nul.clone(), terms: TERMS },
        Ask::Greylist { ticket: 1, triple: long, terms: TERMS },
        Ask::Greylist { ticket: 1, triple: triple("a"), terms: Terms { lifetime_s: u32::MAX, ..TERMS } },
        Ask::Accepted { ticket: 1, triples: vec![(nul, TERMS)] },
        Ask::Accepted { ticket: 1, triples: vec![(triple("a"), TERMS); MAX_TRIPLES + 1] },
    ] {
        let mut filter = stage.filter(Role::FilterPost, 0);
        filter.say(&wrong);
        assert!(filter.is_dropped());
        assert_eq!(stage.misbehaved().role, Role::FilterPost);
    }
    assert_eq!(post.greylist(&triple("a"), TERMS), 3_000);
}
