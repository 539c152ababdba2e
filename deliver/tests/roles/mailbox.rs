//! The mailbox role from lease to file.

use std::fs;
use std::io::{IoSlice, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use vsmtp_config::MailboxSlice;
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::queue_deliver::{Ask, Result3, Said};
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::Body;
use vsmtp_sys::memfd::Sealed;

use crate::harness::{Deliver, attempt, inline, results, slice};

const MESSAGE: &str = "From: a@src.test\r\nSubject: hi\r\n\r\nFrom here\r\n.\r\n";

struct Bench {
    deliver: Deliver,
    root: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let slice = slice(&MailboxSlice {
            mail_root: root.path().to_str().unwrap().to_owned(),
            recipient_delimiter: "+".to_owned(),
        });
        Bench { deliver: Deliver::start(Role::DeliverMailbox, slice), root }
    }

    fn deliver(&mut self, next_hop: &str, recipients: &[&str], body: Body) -> Vec<(Result3, (u8, u16, u16))> {
        self.deliver.lease(&attempt(1, next_hop, recipients, body));
        results(&self.deliver.outcome())
    }

    fn messages(&self, maildir: &str) -> Vec<String> {
        let folder = self.root.path().join(maildir).join("new");
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn a_message_lands_in_a_maildir_of_its_user_alone() {
    let mut bench = Bench::new();
    let delivered = (Result3::Delivered, (2, 0, 0));
    let to = ["Jane+lists@dst.test", "joe@dst.test"];
    assert_eq!(bench.deliver("maildir", &to, inline(MESSAGE)), [delivered, delivered]);
    assert_eq!(
        bench.messages("dst.test/jane"),
        ["Return-Path: <sender@src.test>\nDelivered-To: Jane+lists@dst.test\n\
          From: a@src.test\nSubject: hi\n\nFrom here\n.\n"]
    );
    assert_eq!(bench.messages("dst.test/joe").len(), 1);
    let folder = bench.root.path().join("dst.test/jane");
    assert!(is_empty(&folder.join("tmp")) && is_empty(&folder.join("cur")));
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let file = fs::read_dir(folder.join("new")).unwrap().next().unwrap().unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(file.file_name().to_str().unwrap().ends_with(&format!(",S={}", metadata.len())));
}

#[test]
fn bodies_come_by_descriptor_too() {
    let mut bench = Bench::new();
    let big = format!("A: b\r\n\r\n{}", "0123456789abcdef\r\n".repeat(40_000));
    let sealed = Sealed::create(c"body", &[IoSlice::new(big.as_bytes())]).unwrap();
    let lease = attempt(1, "maildir", &["a@dst.test"], Body::Memfd(sealed.len()));
    bench.deliver.lease_with(&lease, sealed.into_fd());
    assert_eq!(results(&bench.deliver.outcome()), [(Result3::Delivered, (2, 0, 0))]);

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(big.as_bytes()).unwrap();
    let lease = attempt(2, "maildir", &["b@dst.test"], Body::File(big.len() as u64));
    bench.deliver.lease_with(&lease, fs::File::open(file.path()).unwrap().into());
    assert_eq!(results(&bench.deliver.outcome()), [(Result3::Delivered, (2, 0, 0))]);

    let expected = big.replace("\r\n", "\n");
    for user in ["a", "b"] {
        assert!(bench.messages(&format!("dst.test/{user}"))[0].ends_with(&expected));
    }
}

#[test]
fn mbox_messages_follow_each_other_and_are_quoted() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        assert_eq!(
            bench.deliver("mbox", &["jane@dst.test"], inline(MESSAGE)),
            [(Result3::Delivered, (2, 0, 0))]
        );
    }
    let mbox = fs::read_to_string(bench.root.path().join("dst.test/jane.mbox")).unwrap();
    let borders: Vec<_> = mbox.lines().filter(|line| line.starts_with("From ")).collect();
    assert_eq!(borders.len(), 2, "{mbox}");
    assert!(borders[0].starts_with("From sender@src.test "), "{mbox}");
    assert_eq!(mbox.matches("\n\n>From here\n.\n\n").count(), 2, "{mbox}");
    assert!(!bench.root.path().join("dst.test/jane.mbox.lock").exists());
}

#[test]
fn a_lock_of_another_program_is_waited_for() {
    let mut bench = Bench::new();
    let domain = bench.root.path().join("dst.test");
    fs::create_dir(&domain).unwrap();
    let lock = domain.join("jane.mbox.lock");
    fs::write(&lock, "").unwrap();
    bench.deliver.lease(&attempt(1, "mbox", &["jane@dst.test"], inline(MESSAGE)));
    // Others are not kept waiting.
    bench.deliver.lease(&attempt(2, "mbox", &["joe@dst.test"], inline(MESSAGE)));
    assert_eq!(bench.deliver.outcome().lease, 2);
    assert!(!domain.join("jane.mbox").exists());
    fs::remove_file(&lock).unwrap();
    assert_eq!(results(&bench.deliver.outcome()), [(Result3::Delivered, (2, 0, 0))]);
}

#[test]
fn nothing_is_written_through_a_link_or_outside_the_root() {
    let mut bench = Bench::new();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(outside.path().join("victim/new")).unwrap();
    symlink(outside.path(), bench.root.path().join("dst.test")).unwrap();
    for format in ["maildir", "mbox"] {
        assert_eq!(bench.deliver(format, &["victim@dst.test"], inline(MESSAGE))[0].0, Result3::Deferred);
    }
    assert_eq!(
        bench.deliver("maildir", &[r#""../../etc"@other.test"#], inline(MESSAGE))[0].0,
        Result3::Delivered
    );
    assert_eq!(bench.messages("other.test/%2E.%2F..%2Fetc").len(), 1);
    assert!(is_empty(&outside.path().join("victim/new")));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_loop_ends_here_and_others_of_the_lease_are_served() {
    let mut bench = Bench::new();
    let message = format!("Delivered-To: jane@dst.test\r\n{MESSAGE}");
    assert_eq!(
        bench.deliver("maildir", &["jane@dst.test", "joe@dst.test"], inline(&message)),
        [(Result3::Failed, (5, 4, 6)), (Result3::Delivered, (2, 0, 0))]
    );
}

#[test]
fn a_foreign_next_hop_is_deferred() {
    let mut bench = Bench::new();
    assert_eq!(bench.deliver("smtp:dst.test", &["a@dst.test"], inline(MESSAGE))[0].0, Result3::Deferred);
}

#[test]
fn a_bad_lease_closes_the_edge_and_the_next_edge_works() {
    let mut bench = Bench::new();
    bench.deliver.lease(&attempt(1, "maildir", &["not an address"], inline(MESSAGE)));
    let said = bench.deliver.told_master();
    assert!(matches!(said, ToMaster::Misbehaved(name) if name.role == Role::QueueManager), "{said:?}");
    bench.deliver.renew_queue();
    assert_eq!(bench.deliver("maildir", &["a@dst.test"], inline(MESSAGE))[0].0, Result3::Delivered);
}

#[test]
fn a_drained_process_does_not_end_before_its_outcomes_are_taken() {
    let mut bench = Bench::new();
    bench.deliver.narrow_queue();
    outcomes_outlast_the_drain(&mut bench.deliver, "smtp:dst.test");
}

/// Many recipients for a next hop that fails at once; nobody reads the outcomes before the process might have ended.
pub fn outcomes_outlast_the_drain(deliver: &mut Deliver, next_hop: &str) {
    const LEASES: u64 = 60;
    let recipients: Vec<String> = (0..100).map(|number| format!("user{number}@dst.test")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    for lease in 1..=LEASES {
        deliver.lease(&attempt(lease, next_hop, &recipients, inline(MESSAGE)));
    }
    let figure = |said: &ToMaster, name: &str, value: u64| match said {
        ToMaster::Beat(figures) => figures.iter().any(|figure| figure.name == name && figure.value == value),
        _ => false,
    };
    deliver.process.hear_master(|said| figure(said, "leases", LEASES));
    deliver.drain(30_000);
    assert!(!deliver.ends_within(Duration::from_millis(300)), "outcomes are lost");
    let mut seen: Vec<u64> = (0..LEASES).map(|_| deliver.outcome().lease).collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=LEASES).collect::<Vec<_>>());
    assert!(deliver.ended().success());
}

#[test]
fn who_is_to_end_says_so_and_hands_back_what_comes_later() {
    let mut bench = Bench::new();
    hands_back_what_comes_later(&mut bench.deliver);
}

pub fn hands_back_what_comes_later(deliver: &mut Deliver) {
    deliver.stop_accepting();
    assert!(matches!(deliver.try_said(), Ok(Said::NoMore)));
    for lease in [7, 8] {
        deliver.lease(&attempt(lease, "maildir", &["a@dst.test"], inline(MESSAGE)));
        assert!(matches!(deliver.try_said(), Ok(Said::Back(number)) if number == lease));
    }
    // The next queue-manager is told, too.
    deliver.renew_queue();
    assert!(matches!(deliver.try_said(), Ok(Said::NoMore)));
    // That many cannot have been on their way.
    for lease in 0..300 {
        let lease = attempt(lease, "maildir", &["a@dst.test"], inline(MESSAGE));
        deliver.queue.send(&Ask::Attempt(lease), Vec::new()).unwrap();
    }
    let _ = deliver.queue.flush();
    let said = deliver.told_master();
    assert!(matches!(said, ToMaster::Misbehaved(name) if name.role == Role::QueueManager), "{said:?}");
    deliver.drain(5000);
    assert!(deliver.ended().success());
}

#[test]
fn a_drained_process_finishes_its_leases_and_ends() {
    let mut bench = Bench::new();
    for lease in 1..=100 {
        let user = format!("user{}@dst.test", lease % 7);
        bench.deliver.lease(&attempt(lease, "maildir", &[&user], inline(MESSAGE)));
    }
    let first = bench.deliver.outcome();
    assert_eq!(first.settled[0].result, Result3::Delivered);
    bench.deliver.drain(5000);
    assert!(bench.deliver.ended().success());
}
