//! Death at a system call of one's choice: before the write, before the sync, before the answer, at each process.

use vsmtp_tests::{Campaign, needs_programs, needs_root, say};

/// The steps of a message's way, each with the process that takes it.
const STEPS: [(&str, &str); 14] = [
    ("receiver", "sendmsg"),
    ("receiver", "sendto"),
    ("filter-session", "recvmsg"),
    ("filter-session", "sendmsg"),
    ("queue-manager", "recvmsg"),
    ("queue-manager", "pwritev"),
    ("queue-manager", "fdatasync"),
    ("queue-manager", "sendmsg"),
    ("filter-post", "sendmsg"),
    ("deliver-smtp", "sendto"),
    ("deliver-smtp", "sendmsg"),
    ("deliver-mailbox", "fdatasync"),
    ("deliver-mailbox", "renameat2"),
    ("deliver-mailbox", "sendmsg"),
];

#[test]
fn death_at_any_step_of_a_message_loses_nothing() {
    let test = "death_at_any_step_of_a_message_loses_nothing";
    if !(needs_root(test) && needs_programs(test, &["strace"])) {
        return;
    }
    let mut campaign = Campaign::start(4);
    for (victim, call) in STEPS {
        campaign.kill_at(victim, call);
        campaign.kill_at(victim, call);
    }
    let (audit, text) = campaign.finish();
    say(&format!("killed at system calls: {text}"));
    assert!(audit.is_clean(), "{audit:#?}");
}
