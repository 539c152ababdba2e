//! Services that see messages and give them back: a content filter of Debian, and what stands for one here.

use vsmtp_tests::{Client, Mta, Proxsmtp, Settings, Sink, free_port, needs_programs, signal, wait_until};

const FIELD: &str = "X-VSMTP-DELEGATION";

/// Rules that have a service see what is accepted; `more` is what else the service is told.
fn settings(service: u16, receiver: u16, more: &str) -> Settings {
    let filter = format!(
        r##"
        service scanner smtp = #{{
            delegator: #{{ address: "127.0.0.1:{service}", timeout: "60s" }},
            receiver: "127.0.0.1:{receiver}",
            {more}
        }};
        #{{
            postq: [
                action "before" || msg::append_header("X-Before", "yes"),
                delegate scanner "scan" || {{
                    if msg::get_header("X-Virus-Status") == "infected" {{
                        state::quarantine("virus")
                    }} else {{
                        msg::append_header("X-Body", "yes");
                        state::next()
                    }}
                }},
            ],
            delivery: [ action "after" || msg::append_header("X-After", "yes") ],
        }}"##
    );
    // What has come in by the other door must not be taken for what comes back.
    let config = format!("config.server.interfaces.addr.push(\"127.0.0.1:{receiver}\");");
    Settings { config, filter }
}

fn send(port: u16, text: &str) -> String {
    Client::hello(port).mail("a@local.test", &["b@local.test", "c@local.test"], text).0
}

/// Brings back what the service has got.
fn bring(receiver: u16, text: &str) -> String {
    Client::hello(receiver).mail("a@local.test", &["b@local.test"], text.trim_end_matches("\r\n")).0
}

fn listed(mta: &Mta) -> Vec<serde_json::Value> {
    mta.ctl_rows(&["queue", "list", "--state", "delegated"])
}

/// Each rule has run once on it, and nobody learns of the secret.
fn is_whole(mail: &str) {
    for field in ["X-Before: yes", "X-Body: yes", "X-After: yes"] {
        assert_eq!(mail.matches(field).count(), 1, "{field} in {mail}");
    }
    assert!(!mail.to_ascii_uppercase().contains(FIELD), "{mail}");
}

#[test]
fn a_content_filter_sees_every_message_and_what_it_says_counts() {
    if !needs_programs("a_content_filter_sees_every_message_and_what_it_says_counts", &[Proxsmtp::PROGRAM]) {
        return;
    }
    let (service, receiver) = (free_port(), free_port());
    let mta = Mta::start(&settings(service, receiver, ""));
    let _proxy = Proxsmtp::start(&mta.root().join("proxsmtp"), service, receiver);
    let forged =
        format!("{FIELD}: sent; id=\"x\"; token=y\r\nSubject: clean\r\n\r\n..dot and 8-bit \u{e9}\r\n");
    assert!(send(mta.port(), &forged).starts_with("250"), "{}", mta.log());
    for to in ["b", "c"] {
        let mail = mta.wait_for_mail("local.test", to, 1);
        is_whole(&mail[0]);
        assert!(
            mail[0].contains("X-Virus-Status: clean") && mail[0].contains("\n.dot and 8-bit \u{e9}\n"),
            "{mail:?}"
        );
    }
    assert!(send(mta.port(), "Subject: x\r\n\r\nEICAR\r\n").starts_with("250"), "{}", mta.log());
    wait_until("it is in quarantine", || {
        mta.ctl_rows(&["queue", "list"]).iter().any(|row| row["quarantine"] == "virus")
    });
    // What it refuses for good fails, and the sender is told in its words.
    assert!(send(mta.port(), "Subject: x\r\n\r\nREFUSE\r\n").starts_with("250"), "{}", mta.log());
    let report = mta.wait_for_mail("local.test", "a", 1);
    assert!(report[0].contains("not this one"), "{report:?}");
    // More than the filter takes inside a message: it goes by files, there and back.
    let large =
        format!("Subject: large\r\n\r\n{}", "0123456789012345678901234567890123456789\r\n".repeat(40_000));
    assert!(send(mta.port(), &large).starts_with("250"), "{}", mta.log());
    let mail = mta.wait_for_mail("local.test", "b", 2);
    let mail = mail.iter().find(|mail| mail.contains("Subject: large")).expect("the large one");
    is_whole(mail);
    mta.wait_for_mail("local.test", "c", 2);
    assert!(mail.lines().count() > large.lines().count() && mail.contains("X-Virus-Status: clean"));
    assert_eq!((mta.mail_count("local.test", "b"), mta.mail_count("local.test", "c")), (2, 2));
    assert!(listed(&mta).is_empty());
}

#[test]
fn what_is_away_survives_the_death_of_all_and_comes_back_once() {
    let sink = Sink::start();
    let receiver = free_port();
    let mut mta = Mta::start(&settings(sink.port(), receiver, ""));
    assert!(send(mta.port(), "Subject: x\r\n\r\nbody\r\n").starts_with("250"), "{}", mta.log());
    wait_until("the service has it", || sink.count() > 0);
    let given = sink.messages()[0].clone();
    assert!(given.data.starts_with(FIELD) && given.data.contains("X-Before: yes"), "{}", given.data);
    assert_eq!(given.to, ["b@local.test", "c@local.test"]);
    wait_until("the answer of the service is written down", || mta.log().contains("event=delegated "));
    wait_until("it is listed as delegated", || listed(&mta).len() == 1);
    assert_eq!(listed(&mta)[0]["recipients"].as_array().map(Vec::len), Some(2));
    assert_eq!(mta.ctl_json(&["queue", "stats"])["delegated"], 1);
    let queue = mta.pid_of("queue-manager");
    signal(&[queue], "KILL");
    wait_until("there is another queue-manager", || {
        mta.processes()
            .iter()
            .any(|one| one.name.starts_with("queue-manager") && one.is_ready && one.pid != queue)
    });
    wait_until("it is still away", || listed(&mta).len() == 1);
    mta.crash();
    mta.launch();
    wait_until("it is away after a start", || listed(&mta).len() == 1);
    assert_eq!(mta.mail_count("local.test", "b"), 0);
    let back = format!("X-Virus-Status: clean\r\n{}", given.data);
    assert!(bring(receiver, &back).starts_with("250"), "{}", mta.log());
    for to in ["b", "c"] {
        let mail = mta.wait_for_mail("local.test", to, 1);
        is_whole(&mail[0]);
        assert!(mail[0].contains("X-Virus-Status: clean"), "{mail:?}");
    }
    // Once more: nobody gets it twice.
    assert!(bring(receiver, &back).starts_with("250"), "{}", mta.log());
    wait_until("nothing is left", || mta.queued() == 0);
    assert_eq!(mta.mail_count("local.test", "b"), 1);
    for event in ["delegated", "delegation-returned", "delegation-repeated"] {
        mta.logged(&format!("event={event} "));
    }
}

#[test]
fn nobody_else_can_bring_anything_back() {
    let sink = Sink::start();
    let receiver = free_port();
    let mta = Mta::start(&settings(sink.port(), receiver, "return_within: \"1s\","));
    let plain = "Subject: x\r\n\r\nbody\r\n";
    assert!(bring(receiver, plain).starts_with("554 5.7.1"), "{}", mta.log());
    mta.logged("event=delegation-unknown");
    assert!(send(mta.port(), plain).starts_with("250"), "{}", mta.log());
    wait_until("the service has it", || sink.count() > 0);
    let first = sink.messages()[0].data.clone();
    let (before, token) = first.split_once("token=").expect("a token");
    let wrong = if token.starts_with('0') { "1" } else { "0" };
    let forged = format!("{before}token={wrong}{}", &token[1..]);
    assert!(bring(receiver, &forged).starts_with("554 5.7.1"), "{}", mta.log());
    // It is sent again when its time is over. A service that was only slow brings the first copy, and that counts; the second
    // one is dropped.
    wait_until("the service has it again", || sink.count() > 1);
    mta.logged("event=delegation-expired");
    wait_until("it is back", || bring(receiver, &first).starts_with("250"));
    is_whole(&mta.wait_for_mail("local.test", "b", 1)[0]);
    let second = sink.messages().pop().expect("a message").data;
    assert!(bring(receiver, &second).starts_with("250"), "{}", mta.log());
    mta.logged("event=delegation-repeated");
    wait_until("nothing is left", || mta.queued() == 0);
    assert_eq!(mta.mail_count("local.test", "b"), 1);
}

#[test]
fn what_a_service_that_fails_costs_is_what_the_rules_say() {
    let receiver = free_port();
    // Nobody listens there.
    let mut mta = Mta::start(&settings(free_port(), receiver, "fail: \"open\","));
    assert!(send(mta.port(), "Subject: open\r\n\r\nbody\r\n").starts_with("250"), "{}", mta.log());
    let mail = mta.wait_for_mail("local.test", "b", 1);
    assert!(mail[0].contains("X-After: yes") && !mail[0].contains("X-Body"), "{mail:?}");
    mta.logged("event=delegation-skipped");
    // Without that word it waits, and goes on when the service is there again.
    let service = free_port();
    mta.stop();
    mta.write_configuration(&settings(service, receiver, ""));
    mta.launch();
    assert!(send(mta.port(), "Subject: defer\r\n\r\nbody\r\n").starts_with("250"), "{}", mta.log());
    // The first one was deferred as well, before it was done without.
    wait_until("the failure is written down", || mta.log().matches("event=delegation-deferred").count() == 2);
    assert_eq!((listed(&mta).len(), mta.mail_count("local.test", "b")), (1, 1));
    // A receiver that nobody listens on is a mistake that shows at the start.
    mta.stop();
    let mut wrong = settings(service, receiver, "");
    wrong.config.clear();
    mta.write_configuration(&wrong);
    let said = mta.try_launch().unwrap_err();
    assert!(said.contains("delegate 'scan'") && said.contains("does not listen"), "{said}");
}
