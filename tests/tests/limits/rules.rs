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
