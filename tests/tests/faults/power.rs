//! The power fails under load. Killing processes leaves what the kernel holds; this does not: a 250 whose message was not on
//! stable storage shows here.

use vsmtp_tests::{Campaign, Disk, Mta, Settings, Strace, needs_programs, needs_root, say, wait_until};

use crate::{Gate, message, send};

/// How often the power fails.
const CUTS: usize = 6;
/// Accepted before the power fails that nobody was synced for.
const LETTERS: u64 = 30;

#[test]
fn a_power_cut_loses_nothing() {
    let test = "a_power_cut_loses_nothing";
    if !(needs_root(test) && needs_programs(test, &["mkfs.ext4", "python3"])) {
        return;
    }
    let (mut campaign, mut disk) =
        Campaign::start_on(5, |mta| Disk::mount(&mta.root().join("var/spool/vsmtp")));
    for _ in 0..CUTS {
        campaign.wait_for_a_moment();
        campaign.cut_power(&mut disk);
    }
    let (audit, text) = campaign.finish();
    say(&format!("power cut: {text}"));
    assert!(audit.is_clean(), "{audit:#?}");
    drop(disk);
}

/// The same with a queue-manager whose syncs do nothing: if this test finds no loss, the one above proves nothing.
#[test]
fn a_power_cut_shows_a_missing_sync() {
    let test = "a_power_cut_shows_a_missing_sync";
    if !(needs_root(test) && needs_programs(test, &["mkfs.ext4", "python3", "strace"])) {
        return;
    }
    let gate = Gate::closed();
    let mut mta = Mta::prepare(&Settings { config: gate.config(), ..Settings::default() });
    let mut disk = Disk::mount(&mta.root().join("var/spool/vsmtp"));
    mta.launch();
    let strace = Strace::inject(mta.pid_of("queue-manager"), &["fdatasync:retval=0", "fsync:retval=0"]);
    for number in 0..LETTERS {
        assert_eq!(send(&mta, "b@dst.test", &message(number, 1000)).code(), 250);
    }
    mta.freeze();
    disk.forget();
    mta.crash();
    drop(strace);
    disk.mount_again();
    mta.launch();
    gate.open();
    wait_until("the queue drains", || mta.queued() == 0);
    let left = gate.numbers().len() as u64;
    say(&format!("without syncs a power cut loses {} of {LETTERS}", LETTERS - left));
    assert!(left < LETTERS);
    mta.stop();
    drop(disk);
}
