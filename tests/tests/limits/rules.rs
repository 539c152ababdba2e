//! What rules count, over all filters and their deaths.

use vsmtp_tests::{Client, Mta, Settings, signal, wait_until};

use crate::settings;

const RATE: &str = r##"#{
    mail: [ rule "not so fast" || ratelimit::check("mail", ctx::mail_from(), 3, 3600) ],
    postq: [ action "see" || logging::log("info", `left=${ratelimit::left("mail", ctx::mail_from(), 3, 3600)}`) ],
}"##;

fn kill(mta: &Mta, role: &str) {
    let victim = mta.pid_of(role);
    signal(&[victim], "KILL");
    wait_until("it is started again", || {
        let processes = mta.processes();
        processes.iter().all(|process| process.is_ready && process.pid != victim)
    });
}

#[test]
fn rates_of_rules_hold_for_all_filters_and_outlive_them() {
    let settings = Settings { filter: RATE.to_owned(), ..settings("") };
    let mta = Mta::start(&settings);
    let mail =
        |from: &str| Client::hello(mta.port()).mail(from, &["b@local.test"], "Subject: x\r\n\r\nx").code();
    assert_eq!(mail("a@src.test"), 250);
    wait_until("rules after the queue see the same count", || mta.log().contains("left=2"));
    kill(&mta, "filter-session");
    assert_eq!(mail("a@src.test"), 250);
    assert!(mta.ctl(&["reload"]).status.success());
    assert_eq!(mail("other@src.test"), 250);
    assert_eq!((mail("a@src.test"), mail("a@src.test"), mail("c@src.test")), (250, 450, 250));
    assert!(!mta.log().contains("event=limits-silent"), "{}", mta.log());
}

fn greylist(delay: u32) -> String {
    format!(
        r##"#{{
            rcpt: [ rule "greylist" || greylist::check(#{{ delay: {delay} }}) ],
            preq: [ rule "no junk" || if msg::get_header("Subject") == "junk" {{ state::reject("550 5.7.1 junk") }} else {{ state::next() }} ],
        }}"##
    )
}

/// One figure of the limiter.
fn figure(mta: &Mta, name: &str) -> u64 {
    mta.ctl_rows(&["limits"]).first().and_then(|row| row["figures"][name].as_u64()).unwrap_or_default()
}

#[test]
fn who_comes_again_is_let_in_over_a_restart_and_what_is_refused_later_leaves_no_trace() {
    let config = "config.server.relay_from = [];";
    let with = |delay| Settings { filter: greylist(delay), ..settings(config) };
    let mut mta = Mta::start(&with(1));
    let mail = |mta: &Mta, from: &str, subject: &str| {
        let text = format!("Subject: {subject}\r\n\r\nx");
        Client::hello(mta.port()).mail(from, &["b@local.test"], &text).code()
    };
    let mut client = Client::hello(mta.port());
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
    let refusal = client.say("RCPT TO:<b@local.test>");
    assert_eq!(refusal.0, "451 4.7.1 Greylisted, try again in 1 seconds");
    assert_eq!(mail(&mta, "", "hello"), 250, "the null sender never waits");
    wait_until("it has waited", || mail(&mta, "a@src.test", "junk") == 550);
    assert_eq!((figure(&mta, "greylist_waiting"), figure(&mta, "greylist_welcome")), (1, 0));
    assert_eq!(mail(&mta, "a@src.test", "hello"), 250);
    wait_until("that is noted", || figure(&mta, "greylist_welcome") == 1);
    assert_eq!(figure(&mta, "greylist_waiting"), 0);

    // All of it begins anew, and nobody could have waited so long.
    mta.stop();
    mta.write_configuration(&with(3_600));
    mta.launch();
    assert_eq!((mail(&mta, "a@src.test", "hello"), mail(&mta, "b@src.test", "hello")), (250, 451));
    assert!(!mta.log().contains("event=state-damaged"), "{}", mta.log());
}
