//! Too few descriptors.

use std::fs;
use std::time::Instant;

use vsmtp_tests::{Client, Mta, Settings, Strace, needs_programs, needs_root, say, wait_until};

use crate::{SLOWEST, message, send};

/// More connections than there are descriptors for.
const CONNECTIONS: usize = 150;
/// A process that waits uses less than this part of one core.
const MOST_CPU: f64 = 0.2;
/// Clock ticks a second: what Linux tells programs, whatever it runs at.
const TICKS: f64 = 100.0;

/// Seconds of CPU that a process has used.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(')').expect("its fields");
    let fields: Vec<f64> =
        fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse().ok()).collect();
    fields.iter().sum::<f64>() / TICKS
}

#[test]
fn a_receiver_that_cannot_accept_waits_and_serves_those_it_has() {
    let test = "a_receiver_that_cannot_accept_waits_and_serves_those_it_has";
    if !(needs_root(test) && needs_programs(test, &["strace"])) {
        return;
    }
    let config = "config.server.receivers = 1;".to_owned();
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let mut old = Client::hello(mta.port());
    let receiver = mta.pid_of("receiver");
    let strace = Strace::inject(receiver, &["accept4:error=EMFILE"]);
    let (began, used) = (Instant::now(), cpu(receiver));
    let mut new = Client::connect(mta.port());
    wait_until("it has tried often", || mta.log().matches("event=accept-failed").count() >= 5);
    assert_eq!(old.mail("a@src.test", &["b@local.test"], &message(1, 1000)).code(), 250);
    let busy = (cpu(receiver) - used) / began.elapsed().as_secs_f64();
    say(&format!("a receiver without descriptors uses {:.1} % of a core", busy * 100.0));
    assert!(busy < MOST_CPU, "{busy}");
    drop(strace);
    assert_eq!(new.reply().code(), 220, "whoever waited is greeted");
}

/// The real thing: all processes have 64 descriptors each. A receiver that sees clients one by one turns those away for
/// whom it keeps no descriptors, which it says at debug; one that sees a crowd finds none left for the next.
#[test]
fn more_clients_than_descriptors_are_served_in_turn() {
    let config = "config.server.logs.level = [\"info\", \"receiver=debug\"];".to_owned();
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    mta.set_limits(&["--nofile=64:64"]);
    mta.launch();
    let pids: Vec<u32> = mta.processes().iter().map(|process| process.pid).collect();
    let crowd: Vec<Client> = (0..CONNECTIONS).map(|_| Client::connect(mta.port())).collect();
    wait_until("descriptors run out", || {
        let log = mta.log();
        log.contains("event=accept-failed") || log.contains("limit=all")
    });
    drop(crowd);
    let began = Instant::now();
    wait_until("a client is served", || send(&mta, "b@local.test", &message(1, 1000)).code() == 250);
    assert!(began.elapsed() < SLOWEST, "{:?}", began.elapsed());
    mta.wait_for_mail("local.test", "b", 1);
    assert_eq!(mta.processes().iter().map(|process| process.pid).collect::<Vec<_>>(), pids, "nobody died");
}
