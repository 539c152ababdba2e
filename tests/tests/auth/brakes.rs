//! Brakes on guessing.

use crate::{PENCIL, WITH_FILE, log_in, stage};

#[test]
fn a_client_that_fails_too_often_is_not_heard_any_more() {
    let more = format!("{WITH_FILE} config.server.auth.failures_per_address = 2;");
    let stage = stage(&format!("tim:{PENCIL}\n"), &more, "");
    for _ in 0..2 {
        assert_eq!(log_in(stage.submission, "tim", "wrong").1.code(), 535);
    }
    let reply = log_in(stage.submission, "tim", "pencil").1;
    assert_eq!(reply.0, "454 4.7.0 Too many failures, try again later");
    stage.mta.logged("event=auth-failed why=throttled");
}

#[test]
fn an_account_that_is_tried_too_often_is_closed_for_a_while() {
    let more = format!(
        "{WITH_FILE} config.server.auth.failures_per_account = 1; config.server.auth.failure_window = \"3s\";"
    );
    let stage = stage(&format!("tim:{PENCIL}\njoe:{PENCIL}\n"), &more, "");
    assert_eq!(log_in(stage.submission, "TIM", "wrong").1.code(), 535);
    assert_eq!(log_in(stage.submission, "joe", "pencil").1.code(), 235);
    assert_eq!(log_in(stage.submission, "tim", "pencil").1.code(), 454);
    vsmtp_tests::wait_until("the window is over", || {
        log_in(stage.submission, "tim", "pencil").1.code() == 235
    });
}

#[test]
fn operators_see_who_fails_and_have_it_forgotten() {
    let more = format!(
        "{WITH_FILE} config.server.auth.failures_per_address = 2; config.server.auth.failures_per_account = 2;"
    );
    let stage = stage(&format!("tim:{PENCIL}\n"), &more, "");
    for _ in 0..2 {
        assert_eq!(log_in(stage.submission, "tim", "wrong").1.code(), 535);
    }
    let rows = stage.mta.ctl_rows(&["limits"]);
    let has = |kind: &str, name: &str| rows.iter().any(|row| row[kind] == name && row["failed_logins"] == 2);
    assert!(has("client", "127.0.0.1") && has("account", "tim"), "{rows:?}");
    let table = String::from_utf8(stage.mta.ctl(&["limits"]).stdout).expect("UTF-8");
    assert!(table.contains("logins: window=10m clients=1 accounts=1 "), "{table}");
    assert_eq!(log_in(stage.submission, "tim", "pencil").1.code(), 454);
    // For the client first: the account is guarded still.
    assert!(stage.mta.ctl(&["limits", "reset", "127.0.0.1"]).status.success());
    assert_eq!(log_in(stage.submission, "tim", "pencil").1.code(), 454);
    assert!(stage.mta.ctl(&["limits", "reset", "tim"]).status.success());
    assert_eq!(log_in(stage.submission, "tim", "pencil").1.code(), 235);
}

#[test]
fn a_session_that_fails_too_often_ends() {
    let more = format!("{WITH_FILE} config.server.esmtp.auth.attempt_count_max = 2;");
    let stage = stage(&format!("tim:{PENCIL}\n"), &more, "");
    let (mut client, reply) = log_in(stage.submission, "tim", "wrong");
    assert_eq!(reply.code(), 535);
    assert_eq!(client.say(&crate::plain("tim", "wrong")).code(), 535);
    assert_eq!(client.reply().code(), 421);
}
