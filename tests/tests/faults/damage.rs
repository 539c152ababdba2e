//! A spool that was damaged while nothing ran. What is whole is delivered, what is not is never delivered altered, and
//! the log says so.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use vsmtp_tests::{Client, Dice, Fate, Letter, Mta, Settings, send_letter, wait_until};

use crate::Gate;

/// Messages in the queue when it is damaged.
const COUNT: u64 = 30;

/// A stopped MTA with a queue that waits for its next hop, and the files of its log.
fn with_a_queue(gate: &Gate) -> (Mta, Vec<PathBuf>) {
    let config = format!("{} config.queue.segment_size = \"4MiB\";", gate.config());
    let mut mta = Mta::start(&Settings { config, ..Settings::default() });
    for nth in 0..COUNT {
        submit(&mta, nth);
    }
    mta.crash();
    let mut segments: Vec<PathBuf> =
        fs::read_dir(segments(&mta)).expect("the log").flatten().map(|entry| entry.path()).collect();
    segments.sort();
    (mta, segments)
}

/// The nth of those letters that go to the next hop alone.
fn letter(nth: u64) -> Letter {
    Letter { number: 8 * nth + 1, attempt: 1 }
}

fn submit(mta: &Mta, nth: u64) {
    assert_eq!(send_letter(&mut Client::hello(mta.port()), letter(nth), false), Fate::Accepted);
}

fn segments(mta: &Mta) -> PathBuf {
    mta.root().join("var/spool/vsmtp/queue/segments")
}

/// Starts on the damaged spool, and answers the numbers that are delivered, each whole and once.
fn what_is_delivered(mta: &mut Mta, gate: &Gate) -> Vec<u64> {
    mta.launch();
    gate.open();
    let is_settled = |mta: &Mta| {
        let stats = mta.ctl_json(&["queue", "stats"]);
        stats["messages"] == stats["dead"]
    };
    wait_until("the queue drains", || is_settled(mta));
    let mut numbers = Vec::new();
    for message in gate.sink.messages() {
        match Letter::read(&message.data, &[]) {
            Some((letter, true)) => numbers.push(letter.number / 8),
            torn => panic!("{torn:?}: {}", message.data),
        }
    }
    numbers.sort_unstable();
    let mut once = numbers.clone();
    once.dedup();
    assert_eq!(once, numbers, "delivered twice");
    // And it goes on as ever.
    let before = gate.sink.count();
    submit(mta, COUNT);
    wait_until("new mail is delivered", || gate.sink.count() > before);
    numbers
}

/// How often damage was reported: what recovery found and copied aside, and what was found at the first attempt and stays
/// in the queue as dead.
fn reports(mta: &Mta) -> usize {
    let notes = mta.log().matches("event=recovery-note").count();
    notes + mta.ctl_rows(&["queue", "list", "--state", "dead"]).len()
}

/// Where in which file this letter's own text begins.
fn find(segments: &[PathBuf], nth: u64) -> (PathBuf, u64) {
    let needle = format!("X-Load: {} 1\r\n\r\n", letter(nth).number).into_bytes();
    let at = |path: &PathBuf| {
        let octets = fs::read(path).expect("read a segment");
        octets.windows(needle.len()).rposition(|window| window == needle)
    };
    let found = segments.iter().find_map(|path| at(path).map(|offset| (path.clone(), offset as u64)));
    found.expect("the letter is in the log")
}

fn flip(path: &Path, offset: u64, bit: u32) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("open a segment");
    let mut octet = [0];
    file.read_exact_at(&mut octet, offset).expect("read an octet");
    octet[0] ^= 1 << bit;
    file.write_all_at(&octet, offset).expect("write an octet");
}

/// Not the last message: where nothing follows, damage cannot be told from a batch that was never acknowledged.
#[test]
fn flipped_bits_cost_the_messages_they_hit() {
    let gate = Gate::closed();
    let (mut mta, segments) = with_a_queue(&gate);
    for nth in [5, 11, 20] {
        let (path, offset) = find(&segments, nth);
        flip(&path, offset + 30, 3);
    }
    let delivered = what_is_delivered(&mut mta, &gate);
    let hit = [5, 11, 20];
    assert_eq!(delivered, (0..COUNT).filter(|number| !hit.contains(number)).collect::<Vec<_>>());
    assert_eq!(reports(&mta), hit.len());
}

#[test]
fn a_segment_that_was_cut_off_loses_only_what_is_behind_the_cut() {
    let gate = Gate::closed();
    let (mut mta, segments) = with_a_queue(&gate);
    let (path, offset) = find(&segments, 20);
    let file = OpenOptions::new().write(true).open(&path).expect("open a segment");
    file.set_len(offset + 10).expect("cut it off");
    drop(file);
    let delivered = what_is_delivered(&mut mta, &gate);
    assert!(delivered.starts_with(&(0..20).collect::<Vec<_>>()), "{delivered:?}");
    assert!(!delivered.contains(&20));
    assert!(reports(&mta) > 0, "it is said");
}

#[test]
fn what_does_not_belong_to_the_log_is_left_alone() {
    let gate = Gate::closed();
    let (mut mta, log) = with_a_queue(&gate);
    let folder = segments(&mta);
    let passwords = fs::read("/etc/passwd").expect("read a file");
    fs::write(folder.join("README"), "not a segment").expect("write");
    fs::write(folder.join("0000000077.seg"), vec![0xa5; 100_000]).expect("write");
    fs::write(folder.join("0000000078.seg"), "").expect("write");
    fs::create_dir(folder.join("0000000079.seg")).expect("make a folder");
    symlink("/etc/passwd", folder.join("0000000080.seg")).expect("link");
    // The header of a real one, and another number in its name.
    fs::copy(&log[0], folder.join("0000000081.seg")).expect("copy a segment");
    File::create(folder.join("../index/0000000001.idx")).expect("empty a sidecar");
    let delivered = what_is_delivered(&mut mta, &gate);
    assert_eq!(delivered, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(fs::read("/etc/passwd").expect("read it again"), passwords);
    assert_eq!(fs::read(folder.join("README")).expect("it is still there"), b"not a segment");
}

/// Bits flipped anywhere: it starts, and delivers nothing that is not as it was.
#[test]
fn wherever_the_damage_is_it_starts_and_alters_nothing() {
    for seed in 0..4 {
        let gate = Gate::closed();
        let (mut mta, segments) = with_a_queue(&gate);
        let (_, end) = find(&segments, COUNT - 1);
        let mut dice = Dice::new(seed);
        for _ in 0..30 {
            flip(&segments[0], dice.below(end), dice.below(8) as u32);
        }
        let delivered = what_is_delivered(&mut mta, &gate);
        vsmtp_tests::say(&format!(
            "30 bits flipped at random: {} of {COUNT} delivered whole",
            delivered.len()
        ));
        assert!(reports(&mta) > 0 || delivered.len() as u64 == COUNT);
    }
}
