//! Processes die, stop and turn over under load, at random moments; nothing that was accepted is lost, torn, or doubled
//! without a reason. `tests/load/crash.rs` does the same for as long as one likes.

use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

use vsmtp_tests::{
    CHILDREN, Campaign, Client, Fate, MASTER, Mta, SYSTEM, Settings, is_alive, say, wait_until,
};

/// Repeats a run's choices; its moments are those of the machine.
const SEED: u64 = 2;
/// How long a stop may take by the contract.
const STOP: Duration = Duration::from_secs(5);
/// How long children outlive a killed master by the contract.
const ORPHANED: Duration = Duration::from_secs(2);
/// What a loaded machine may add to either before a poll sees it.
const SLACK: Duration = Duration::from_secs(10);

fn settle(test: &str, campaign: Campaign) {
    let (audit, text) = campaign.finish();
    say(&format!("{test}: {text}"));
    assert!(audit.is_clean(), "{audit:#?}");
}

#[test]
fn killing_any_child_loses_nothing() {
    let mut campaign = Campaign::start(SEED);
    campaign.kill_each(&CHILDREN, 6);
    settle("children killed", campaign);
}

#[test]
fn killing_the_master_or_everything_loses_nothing() {
    let mut campaign = Campaign::start(SEED);
    campaign.kill_each(&[MASTER, SYSTEM], 4);
    settle("master and system killed", campaign);
}

#[test]
fn two_deaths_at_once_lose_nothing() {
    let mut campaign = Campaign::start(SEED);
    campaign.kill_pairs(&CHILDREN, 10);
    settle("pairs of children killed", campaign);
}

#[test]
fn a_child_that_stands_still_for_a_while_loses_nothing() {
    let mut campaign = Campaign::start(SEED);
    for role in CHILDREN {
        campaign.wait_for_a_moment();
        campaign.pause(role, Duration::from_secs(1));
    }
    let (audit, text) = campaign.finish();
    say(&format!("children paused: {text}"));
    assert!(audit.is_clean() && audit.repeated == 0 && audit.refused_and_delivered == 0, "{audit:#?}");
}

#[test]
fn children_that_hang_are_replaced() {
    let mut campaign = Campaign::start(SEED);
    campaign.hang(&CHILDREN);
    settle("children that hang", campaign);
}

/// Three stops, each with a client in the middle of its message that will never go on.
#[test]
fn a_stop_under_load_takes_five_seconds_and_loses_nothing() {
    let mut campaign = Campaign::start(SEED);
    for _ in 0..3 {
        campaign.wait_for_a_moment();
        let mut stuck = Client::hello(campaign.mta.port());
        for command in ["MAIL FROM:<a@src.test>", "RCPT TO:<b@local.test>", "DATA"] {
            stuck.say(command);
        }
        stuck.send(b"Subject: half a message\r\n");
        let took = campaign.mta.stop();
        say(&format!("stopped under load after {} ms", took.as_millis()));
        assert!(took < STOP + SLACK, "{took:?}\n{}", campaign.mta.log());
        campaign.mta.launch();
    }
    let (audit, text) = campaign.finish();
    say(&format!("stopped under load: {text}"));
    // An orderly stop leaves nobody without an answer, and delivers nothing twice.
    assert!(audit.is_clean() && audit.repeated == 0 && audit.refused_and_delivered == 0, "{audit:#?}");
}

#[test]
fn a_stop_in_the_middle_of_a_reload_is_as_quick() {
    let mut mta = Mta::start(&Settings::default());
    for pause_ms in [0, 5, 20, 40, 60, 80, 120] {
        mta.hang_up();
        std::thread::sleep(Duration::from_millis(pause_ms));
        let took = mta.stop();
        assert!(took < STOP + SLACK, "{took:?} when {pause_ms} ms behind the reload\n{}", mta.log());
        mta.launch();
    }
}

#[test]
fn reloads_under_load_drop_no_session() {
    let campaign = Campaign::start(SEED);
    let mta = &campaign.mta;
    let mut old = Client::hello(mta.port());
    assert_eq!(old.say("MAIL FROM:<a@src.test>").code(), 250);
    for round in 1..=10 {
        mta.hang_up();
        wait_until("the reload is done", || mta.log().matches("event=reloaded").count() >= round);
    }
    // Begun ten generations ago, and still served by the processes that it knows.
    assert_eq!(old.say("RCPT TO:<b@local.test>").code(), 250);
    assert_eq!(old.say("DATA").code(), 354);
    assert_eq!(old.say("Subject: old\r\n\r\nold\r\n.").code(), 250);
    mta.wait_for_mail("local.test", "b", 1);
    assert_eq!(campaign.traffic.turned_away(), 0);
    let fates = campaign.traffic.fates();
    assert!(fates.iter().all(|fate| *fate == Fate::Accepted), "{fates:?}");
    let (audit, text) = campaign.finish();
    say(&format!("reloaded 10 times: {text}"));
    assert!(audit.is_clean() && audit.repeated == 0, "{audit:#?}");
}

#[test]
fn a_bad_configuration_changes_nothing() {
    let mta = Mta::start(&Settings::default());
    let before = mta.processes();
    let config = "config.server.smtp.rcpt_cuont_max = 5;".to_owned();
    mta.write_configuration(&Settings { config, ..Settings::default() });
    mta.hang_up();
    wait_until("the reload is refused", || mta.log().contains("event=reload-refused"));
    mta.logged("rcpt_count_max");
    assert_eq!(mta.processes(), before);
    assert_eq!(Client::hello(mta.port()).mail("a@src.test", &["b@local.test"], "x").code(), 250);
}

#[test]
fn the_children_end_when_the_master_is_gone() {
    let mut mta = Mta::start(&Settings::default());
    let _session = Client::hello(mta.port());
    let children = mta.kill_master();
    assert!(children.len() >= 7, "{children:?}");
    let began = Instant::now();
    wait_until("the children have ended", || !children.iter().any(|pid| is_alive(*pid)));
    assert!(began.elapsed() < ORPHANED + SLACK, "{:?}", began.elapsed());
}

#[test]
fn a_second_instance_is_refused() {
    let mta = Mta::start(&Settings::default());
    let second = mta.master_command().stderr(Stdio::piped()).output().expect("run vsmtp");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another vsmtp holds"), "{said}");
    assert_eq!(Client::hello(mta.port()).mail("a@src.test", &["b@local.test"], "x").code(), 250);
}

/// A root of its own does not help: the spool itself is locked.
#[test]
fn a_second_instance_on_the_same_spool_is_refused() {
    let mut first = Mta::start(&Settings::default());
    let mut second = Mta::prepare(&Settings::default());
    std::fs::create_dir_all(second.root().join("var")).expect("make var");
    symlink(first.root().join("var/spool"), second.root().join("var/spool")).expect("link the spool");
    let said = second.try_launch().expect_err("the spool is in use");
    assert!(said.contains("is in use by process"), "{said}");
    let reply = Client::hello(first.port()).mail("a@src.test", &["b@local.test"], "x");
    assert_eq!(reply.code(), 250, "{reply:?}");
    first.wait_for_mail("local.test", "b", 1);
    // And when the first has stopped, the second takes over.
    first.stop();
    second.launch();
}
