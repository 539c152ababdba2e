//! A spool as the release before terms has written it: the octets are its own, cut where a power cut might have come.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use vsmtp_mail::Priority;

use super::*;

/// The header of the segment in 128 octets, then its records.
const SEGMENT: &[u8] = include_bytes!("version_1.seg");
const HEADER_LEN: usize = 128;
const SEGMENT_LEN: u64 = 64 << 20;

fn lay_out(dir: &Path) {
    for area in Area::ALL {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(dir.join(area.name())).unwrap();
    }
    let path = dir.join("segments/0000000001.seg");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(&SEGMENT[..HEADER_LEN]).unwrap();
    file.write_all_at(&SEGMENT[HEADER_LEN..], layout::SEGMENT_BLOCK).unwrap();
    file.set_len(SEGMENT_LEN).unwrap();
}

fn open(dir: &Path) -> (Store, Vec<Summary>) {
    let options = Options { segment_bytes: SEGMENT_LEN, ..OPTIONS };
    let (store, summaries, report) = Unrecovered::open(dir, options).unwrap().recover_inline().unwrap();
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    (store, summaries.collect())
}

fn check_old(store: &Store, known: &[Summary]) {
    let (first, second) = (&known[0], &known[1]);
    assert_eq!((first.timing, second.timing), (Timing::default(), Timing::default()));
    let (message, parts) = store.message_and_body(first.id).unwrap();
    assert_eq!(message.state.envelope.envid.as_deref(), Some("e1"));
    assert_eq!(message.state.envelope.terms, vsmtp_mail::Terms::default());
    assert!(matches!(message.state.progress[0], RecipientState::Delivered(Some(_))));
    assert_eq!(message.state.progress[1], RecipientState::FRESH);
    assert!(octets(&parts).ends_with(b"Subject: one\r\n\r\nfirst\r\n"));
    let (message, parts) = store.message_and_body(second.id).unwrap();
    assert_eq!(message.state.origin.helo.as_str(), "client.example");
    assert!(octets(&parts).ends_with(b"Subject: two\r\n\r\nsecond\r\n"));
}

#[test]
fn a_spool_of_the_release_before_opens_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    lay_out(dir.path());
    let (mut store, mut known) = open(dir.path());
    known.sort_by_key(|summary| summary.id);
    assert_eq!(known.len(), 2);
    check_old(&store, &known);
    // What is written behind it stands in the same segment.
    let mut state = record::test_state(1);
    state.envelope.terms =
        vsmtp_mail::Terms { priority: Priority::MOST, lifetime_s: Some(60), ..Default::default() };
    let body = NewBody::Inline(vec![Chunk::from(body(1, 100))]);
    commit(&mut store, vec![Change::Accept { id: id(9), state: Arc::new(state.clone()), body }]);
    drop(store);
    for _ in 0..2 {
        // From the segment itself first, and then from its sidecar.
        let (store, mut known) = open(dir.path());
        known.sort_by_key(|summary| summary.id);
        let new = known.iter().position(|summary| summary.id == id(9)).unwrap();
        assert_eq!(known.remove(new).timing, Timing::new(&state.envelope.terms, state.arrival_ms));
        check_old(&store, &known);
        assert_eq!(store.message(id(9)).unwrap().state, state);
        store.close();
    }
    assert_eq!(
        File::open(dir.path().join("segments/0000000001.seg")).unwrap().metadata().unwrap().len(),
        SEGMENT_LEN
    );
}
