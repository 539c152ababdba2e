//! A good spool with damage: octets changed, files cut, swapped or gone. The store starts; a message that can be read is
//! one that was written, whole; the store goes on working, and loses nothing more at its next start.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vsmtp_fuzz::cut::Fields;
use vsmtp_fuzz::disk::MemoryDisk;
use vsmtp_fuzz::spool::{accept, body, commit, id, octets, open, state};
use vsmtp_mail::EnhancedCode;
use vsmtp_queue_manager::store::{
    Area, Change, Diagnostic, Disk, Disposition, Message, MessageState, RecipientState, RemoveReason,
    StateChange, Store,
};

/// Most damages of one input.
const MAX_DAMAGES: usize = 16;
const MESSAGES: u8 = 24;
const BODY: usize = 6000;

fuzz_target!(|input: &[u8]| {
    let disk = SPOOL.copy();
    damage(&disk, Fields(input));
    let (mut store, _) = open(&disk);
    let before = readable(&store);
    commit(&mut store, accept(200, 100));
    store.close();
    let (store, _) = open(&disk);
    let (message, parts) = store.message_and_body(id(200)).expect("what was committed");
    assert_eq!((octets(&parts), message.state), (body(200, 100), state(200)));
    assert_eq!(readable(&store), before);
});

static SPOOL: LazyLock<MemoryDisk> = LazyLock::new(|| {
    let disk = MemoryDisk::default();
    let (mut store, _) = open(&disk);
    for n in 0..MESSAGES {
        commit(&mut store, accept(n, BODY));
        for change in history(n) {
            commit(&mut store, change);
        }
    }
    store.close();
    disk
});

/// What happened to a message after it was accepted.
fn history(n: u8) -> Vec<Change> {
    let id = id(n);
    match n % 6 {
        1 => vec![Change::Outcome { id, results: results() }],
        2 => vec![Change::State { id, change: hold() }, Change::Outcome { id, results: results() }],
        3 => vec![Change::Revise { id, state: Box::new(revised(n)) }],
        4 => vec![Change::Remove { id, reason: RemoveReason::Deleted }],
        _ => vec![],
    }
}

fn results() -> Vec<(u32, RecipientState)> {
    let said =
        Diagnostic { status: EnhancedCode(4, 4, 1), remote: Some("mx.b.test".into()), text: "421 no".into() };
    vec![
        (0, RecipientState::Delivered(None)),
        (2, RecipientState::Waiting { attempts: 3, until: 99, last: Some(said) }),
    ]
}

fn hold() -> StateChange {
    StateChange::Disposition(Disposition::Hold("why".into()))
}

fn revised(n: u8) -> MessageState {
    let mut state = state(n);
    state.marks.judged = true;
    state.envelope.recipients.truncate(1);
    state.progress.truncate(1);
    state
}

/// All states that a message may be found in: changes that are lost are lost, but there is no other.
fn possible(n: u8) -> Vec<MessageState> {
    let (mut held, mut settled, mut both) = (state(n), state(n), state(n));
    held.change(&hold());
    settled.apply(&results());
    both.change(&hold());
    both.apply(&results());
    match n % 6 {
        1 => vec![state(n), settled],
        2 => vec![state(n), held, settled, both],
        3 => vec![state(n), revised(n)],
        _ => vec![state(n)],
    }
}

fn is_possible(n: u8, found: &MessageState) -> bool {
    let mut found = found.clone();
    possible(n).into_iter().any(|known| {
        // Where a change is lost that others followed, an operator is asked.
        if matches!(&found.disposition, Disposition::Hold(why) if why.as_str() == "part of its history is damaged") {
            found.disposition.clone_from(&known.disposition);
        }
        known == found
    })
}

fn readable(store: &Store) -> BTreeMap<u8, Message> {
    let mut found = BTreeMap::new();
    for n in (0..MESSAGES).filter(|n| store.contains(id(*n))) {
        let Ok((message, parts)) = store.message_and_body(id(n)) else { continue };
        assert_eq!(octets(&parts), body(n, BODY), "another body");
        assert!(is_possible(n, &message.state), "a state that never was: {:?}", message.state);
        found.insert(n, message);
    }
    found
}

fn damage(disk: &MemoryDisk, mut fields: Fields<'_>) {
    let files = disk.names();
    for _ in 0..MAX_DAMAGES {
        if fields.is_empty() {
            return;
        }
        let (area, name) = &files[usize::from(fields.octet()) % files.len()];
        let kind = fields.octet();
        let at = usize::from(fields.short());
        match kind % 8 {
            0 | 1 => disk.edit(*area, name, |octets| {
                if let Some(octet) = octets.get_mut(at) {
                    *octet ^= 1 << (kind >> 3 & 7);
                }
            }),
            2 => {
                let new = fields.counted();
                disk.edit(*area, name, |octets| {
                    for (to, from) in octets.iter_mut().skip(at).zip(new) {
                        *to = *from;
                    }
                });
            }
            3 => {
                let len = usize::from(fields.short());
                disk.edit(*area, name, |octets| {
                    octets.iter_mut().skip(at).take(len).for_each(|octet| *octet = 0)
                });
            }
            4 => disk.edit(*area, name, |octets| octets.truncate(at)),
            5 => drop(disk.remove(*area, name)),
            6 => {
                let (other_area, other) = &files[at % files.len()];
                disk.put(*area, name, disk.octets(*other_area, other));
            }
            _ => disk.put(Area::Segments, &format!("{:010}.seg", 700 + at % 8), disk.octets(*area, name)),
        }
    }
}
