//! A disk that fails.

use vsmtp_tests::{
    Audit, Campaign, Client, Mta, Settings, Strace, needs_programs, needs_root, say, wait_until,
};

use crate::{Gate, message, send};

fn can_inject(test: &str) -> bool {
    needs_root(test) && needs_programs(test, &["strace"])
}

/// A failed sync: its batch is refused, never acknowledged and never synced again; the next message goes to a new segment.
#[test]
fn a_failed_sync_is_451_and_never_250() {
    if !can_inject("a_failed_sync_is_451_and_never_250") {
        return;
    }
    let gate = Gate::closed();
    let mut mta = Mta::start(&Settings { config: gate.config(), ..Settings::default() });
    assert_eq!(send(&mta, "b@dst.test", &message(0, 1000)).code(), 250);
    let (mut taken, mut refused) = (vec![0], Vec::new());
    // A failure costs up to three more syncs, for new segments: with fewer between two, all of a message's could fail.
    let strace = Strace::inject(mta.pid_of("queue-manager"), &["fdatasync:error=EIO:when=1+7"]);
    for number in 1..=30 {
        let reply = send(&mta, "b@dst.test", &message(number, 1000));
        match reply.code() {
            250 => taken.push(number),
            451 => refused.push(number),
            _ => panic!("{reply:?}"),
        }
    }
    let failed = strace.injected();
    drop(strace);
    assert!(failed >= 3 && !refused.is_empty() && taken.len() > 3, "{failed} {taken:?} {refused:?}");
    mta.logged("event=store-alarm");
    mta.crash();
    mta.launch();
    gate.open();
    wait_until("the queue drains", || mta.queued() == 0);
    assert_eq!(gate.numbers(), taken, "refused: {refused:?}");
}

#[test]
fn while_every_sync_fails_nothing_is_accepted_and_then_it_recovers() {
    if !can_inject("while_every_sync_fails_nothing_is_accepted_and_then_it_recovers") {
        return;
    }
    let gate = Gate::closed();
    let mta = Mta::start(&Settings { config: gate.config(), ..Settings::default() });
    let strace = Strace::inject(mta.pid_of("queue-manager"), &["fdatasync:error=EIO"]);
    let mut client = Client::hello(mta.port());
    for number in 1..=10 {
        let reply = client.mail("a@src.test", &["b@dst.test"], &message(number, 1000));
        assert_eq!(reply.code() / 10, 45, "{reply:?}");
    }
    drop(strace);
    wait_until("mail is taken again", || send(&mta, "b@dst.test", &message(99, 1000)).code() == 250);
    gate.open();
    wait_until("the queue drains", || mta.queued() == 0);
    assert_eq!(gate.numbers(), [99]);
}

#[test]
fn failed_writes_are_refused_and_interrupted_ones_repeated() {
    if !can_inject("failed_writes_are_refused_and_interrupted_ones_repeated") {
        return;
    }
    let gate = Gate::closed();
    let mut mta = Mta::start(&Settings { config: gate.config(), ..Settings::default() });
    let mut taken = Vec::new();
    let mut number = 0;
    for rule in
        ["pwritev:error=ENOSPC:when=1+4", "pwritev:error=EIO:when=2+4", "pwritev:error=EINTR:when=1+2"]
    {
        let strace = Strace::inject(mta.pid_of("queue-manager"), &[rule]);
        for _ in 0..12 {
            number += 1;
            match send(&mta, "b@dst.test", &message(number, 1000)) {
                reply if reply.code() == 250 => taken.push(number),
                reply => assert!(reply.code() / 10 == 45 && !rule.contains("EINTR"), "{rule}: {reply:?}"),
            }
        }
        assert!(strace.injected() > 2, "{rule}");
    }
    mta.crash();
    mta.launch();
    gate.open();
    wait_until("the queue drains", || mta.queued() == 0);
    assert_eq!(gate.numbers(), taken);
}

/// Beyond its limit on the length of files a process gets short writes, and then none: the real thing, which strace
/// cannot make.
#[test]
fn short_writes_tear_nothing() {
    let gate = Gate::closed();
    let mut mta = Mta::start(&Settings { config: gate.config(), ..Settings::default() });
    assert_eq!(send(&mta, "b@dst.test", &message(0, 1000)).code(), 250);
    mta.stop();
    mta.set_limits(&["--fsize=1000000:unlimited"]);
    mta.launch();
    let mut taken = vec![0];
    for number in 1..=40 {
        let reply = send(&mta, "b@dst.test", &message(number, 90_000));
        match reply.code() {
            250 => taken.push(number),
            code => assert_eq!(code / 10, 45, "{reply:?}"),
        }
    }
    assert!(taken.len() > 5 && taken.len() < 40, "{taken:?}");
    mta.crash();
    mta.set_limits(&[]);
    mta.launch();
    gate.open();
    wait_until("the queue drains", || mta.queued() == 0);
    assert_eq!(gate.numbers(), taken);
    assert_eq!(send(&mta, "b@dst.test", &message(50, 90_000)).code(), 250);
}

/// Syncs that fail now and then under load, and a crash at the end.
#[test]
fn a_failing_disk_under_load_loses_nothing() {
    if !can_inject("a_failing_disk_under_load_loses_nothing") {
        return;
    }
    let mut campaign = Campaign::start(3);
    for rule in
        ["fdatasync:error=EIO:when=5+7", "pwritev:error=ENOSPC:when=9+11", "fdatasync:delay_enter=300000"]
    {
        let before = campaign.traffic.accepted();
        let strace = Strace::inject(campaign.mta.pid_of("queue-manager"), &[rule]);
        wait_until("the disk fails and letters are accepted", || {
            strace.injected() > 5 && campaign.traffic.accepted() > before + 50
        });
    }
    campaign.kill("system");
    let (audit, text): (Audit, String) = campaign.finish();
    say(&format!("failing disk: {text}"));
    assert!(audit.is_clean(), "{audit:#?}");
}
