//! No room on the spool's disk.

use std::fs;

use vsmtp_tests::{Client, Mta, Settings, Tmpfs, needs_root, wait_until};

use crate::{Gate, message, send};

/// More messages than the disk has room for.
const MANY: u64 = 400;
const LENGTH: usize = 200_000;

/// Sends until the queue refuses; how many it took, and its refusal.
fn fill(mta: &Mta) -> (u64, String) {
    let mut client = Client::hello(mta.port());
    for number in 0..MANY {
        let reply = client.mail("a@src.test", &["b@dst.test"], &message(number, LENGTH));
        if reply.code() != 250 {
            return (number, reply.0);
        }
    }
    panic!("the disk does not fill");
}

fn refuses_drains_and_recovers(test: &str, min_free: &str) {
    if !needs_root(test) {
        return;
    }
    let gate = Gate::closed();
    let config = format!(
        "{} config.queue.segment_size = \"4MiB\"; config.queue.min_free = \"{min_free}\";",
        gate.config()
    );
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    let disk = Tmpfs::mount(&mta.root().join("var/spool/vsmtp"), "size=40m");
    mta.launch();
    let (taken, refusal) = fill(&mta);
    assert!(taken > 20 && refusal.starts_with("452 4.3.1"), "after {taken}: {refusal}");
    assert_eq!(mta.queued(), taken);
    // An operator can make room on a full disk.
    let first = mta.ctl_rows(&["queue", "list", "--limit", "1"])[0]["queue_id"].as_str().unwrap().to_owned();
    let deleted = mta.ctl(&["queue", "delete", &first]);
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    // A crash on the full disk changes nothing either.
    mta.crash();
    mta.launch();
    gate.open();
    wait_until("the queue drains", || mta.queued() == 0);
    let numbers = gate.numbers();
    assert_eq!(numbers.len() as u64, taken - 1, "{numbers:?}");
    wait_until("mail is taken again", || send(&mta, "b@dst.test", &message(MANY, 100)).code() == 250);
    wait_until("and delivered", || gate.numbers().contains(&MANY));
    mta.stop();
    drop(disk);
}

#[test]
fn below_the_free_space_asked_for_new_mail_is_refused_and_the_queue_drains() {
    refuses_drains_and_recovers(
        "below_the_free_space_asked_for_new_mail_is_refused_and_the_queue_drains",
        "12MiB",
    );
}

#[test]
fn on_a_full_disk_new_mail_is_refused_and_the_queue_drains() {
    refuses_drains_and_recovers("on_a_full_disk_new_mail_is_refused_and_the_queue_drains", "0");
}

/// Others fill the disk, and make room again.
#[test]
fn when_others_give_the_room_back_the_service_recovers() {
    if !needs_root("when_others_give_the_room_back_the_service_recovers") {
        return;
    }
    let gate = Gate::closed();
    let config =
        format!("{} config.queue.segment_size = \"4MiB\"; config.queue.min_free = \"0\";", gate.config());
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    let disk = Tmpfs::mount(&mta.root().join("var/spool/vsmtp"), "size=40m");
    mta.launch();
    assert_eq!(send(&mta, "b@dst.test", &message(MANY, LENGTH)).code(), 250);
    let ballast = disk.fill();
    let (taken, refusal) = fill(&mta);
    assert!(refusal.starts_with("452 4.3.1"), "{refusal}");
    fs::remove_file(ballast).expect("remove the ballast");
    wait_until("mail is taken again", || send(&mta, "b@dst.test", &message(taken, LENGTH)).code() == 250);
    gate.open();
    wait_until("the queue drains", || mta.queued() == 0);
    assert_eq!(gate.numbers(), (0..=taken).chain([MANY]).collect::<Vec<_>>());
    mta.stop();
    drop(disk);
}

#[test]
fn without_inodes_large_messages_are_refused_until_there_are_some() {
    if !needs_root("without_inodes_large_messages_are_refused_until_there_are_some") {
        return;
    }
    let gate = Gate::closed();
    let config = format!("{} config.queue.min_free = \"0\";", gate.config());
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    let disk = Tmpfs::mount(&mta.root().join("var/spool/vsmtp"), "size=256m,nr_inodes=60");
    mta.launch();
    assert_eq!(send(&mta, "b@dst.test", &message(0, 100)).code(), 250);
    let ballast = disk.fill_inodes();
    let large = send(&mta, "b@dst.test", &message(1, 3_000_000));
    assert!(large.0.starts_with("452 4.3.1"), "{large:?}");
    assert_eq!(send(&mta, "b@dst.test", &message(2, 100)).code(), 250, "a segment has room");
    fs::remove_dir_all(ballast).expect("remove the ballast");
    wait_until("large mail is taken again", || {
        send(&mta, "b@dst.test", &message(3, 3_000_000)).code() == 250
    });
    gate.open();
    wait_until("the queue drains", || mta.queued() == 0);
    assert_eq!(gate.numbers(), [0, 2, 3]);
    mta.stop();
    drop(disk);
}
