//! Rules that go wrong harm the one message they judge; rules that do not compile are never taken up.

use std::time::{Duration, Instant};

use vsmtp_tests::{Client, Mta, Sink, wait_until};

use crate::{settings, start, start_with};

/// Each sender's name chooses what goes wrong.
const MISCHIEF: &str = r##"
fn deeper(n) { deeper(n + 1) }

#{
    mail: [
        rule "mischief" || {
            switch ctx::mail_from().local_part {
                "throw" => throw "on purpose",
                "loop" => loop { },
                "deep" => deeper(0),
                "big" => { let text = "x"; loop { text += text; } },
                "type" => 1 + "one".no_such_method(),
                "index" => [1][7],
                "status" => 42,
                _ => (),
            }
            state::next()
        },
    ],
    preq: [
        rule "later mischief" || {
            if msg::get_header("Subject") == "throw" { throw "in preq"; }
            state::next()
        },
    ],
}
"##;

#[test]
fn a_rule_that_goes_wrong_refuses_its_message_and_nothing_else() {
    let sink = Sink::start();
    let mta = start_with(MISCHIEF, &sink, "config.filter.timeout = \"2s\";");
    let pid = mta.pid_of("filter-session");
    for sender in ["throw", "loop", "deep", "big", "type", "index"] {
        let mut client = Client::hello(mta.port());
        let began = Instant::now();
        let reply = client.say(&format!("MAIL FROM:<{sender}@src.test>"));
        assert_eq!(reply.code(), 451, "{sender}: {reply:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "{sender} took {:?}", began.elapsed());
        // The same session can send another.
        let reply = client.mail("fine@src.test", &["b@local.test"], "Subject: x\r\n\r\nx");
        assert_eq!(reply.code(), 250, "after {sender}: {reply:?}");
    }
    let mut client = Client::hello(mta.port());
    assert_eq!(client.mail("fine@src.test", &["b@local.test"], "Subject: throw\r\n\r\nx").code(), 451);
    mta.wait_for_mail("local.test", "b", 6);
    assert_eq!(mta.pid_of("filter-session"), pid, "the filter lives");
    let log = mta.logged_often("event=script-failed", 7);
    let failures: Vec<&str> = log.lines().filter(|line| line.contains("event=script-failed")).collect();
    assert_eq!(failures.len(), 7, "{failures:#?}");
    for line in &failures {
        assert!(line.contains("filter.vsl:") && line.contains("directive="), "file and line: {line}");
        assert!(line.contains("stage=mail") || line.contains("stage=preq"), "{line}");
    }
    let thrown = failures.iter().find(|line| line.contains("on purpose")).expect("the text of throw");
    let at = 1 + MISCHIEF.lines().position(|line| line.contains("on purpose")).expect("its line");
    assert!(thrown.contains(&format!("filter.vsl:{at}:")), "{thrown}");
}

#[test]
fn an_operator_may_have_failures_refused_for_good() {
    let sink = Sink::start();
    let mta = start_with(MISCHIEF, &sink, "config.filter.on_error = \"deny\";");
    assert_eq!(Client::hello(mta.port()).say("MAIL FROM:<throw@src.test>").code(), 554);
}

#[test]
fn rules_that_loop_hold_nobody_else() {
    let sink = Sink::start();
    let settings = "config.filter.timeout = \"3s\"; config.filter.max_operations = 1000000000;";
    let mta = start_with(MISCHIEF, &sink, settings);
    let mut stuck: Vec<Client> = (0..8).map(|_| Client::hello(mta.port())).collect();
    for client in &mut stuck {
        client.send(b"MAIL FROM:<loop@src.test>\r\n");
    }
    let reply = Client::hello(mta.port()).mail("fine@src.test", &["b@local.test"], "Subject: x\r\n\r\nx");
    assert_eq!(reply.code(), 250, "{reply:?}");
    for client in &mut stuck {
        assert_eq!(client.reply().code(), 451);
    }
}

fn banner(text: &str) -> String {
    format!("#{{ mail: [ rule \"all\" || state::reject(code(550, \"5.7.1\", \"{text}\")) ] }}")
}

#[test]
fn a_reload_takes_new_rules_up_and_drops_no_session() {
    let sink = Sink::start();
    let mta = start(&banner("old rules"), &sink);
    let mut old = Client::hello(mta.port());
    assert_eq!(old.say("MAIL FROM:<a@src.test>").0, "550 5.7.1 old rules");
    // Enough that each receiver of the old generation stays for one of them.
    let held: Vec<Client> = (0..6).map(|_| Client::hello(mta.port())).collect();
    mta.write_configuration(&settings(&banner("new rules"), &sink, ""));
    assert!(mta.ctl(&["reload"]).status.success());
    wait_until("new sessions have the new rules", || {
        Client::hello(mta.port()).say("MAIL FROM:<a@src.test>").0 == "550 5.7.1 new rules"
    });
    for _ in 0..6 {
        assert_eq!(Client::hello(mta.port()).say("MAIL FROM:<a@src.test>").0, "550 5.7.1 new rules");
    }
    drop(held);
    assert_eq!(old.say("MAIL FROM:<a@src.test>").0, "550 5.7.1 old rules", "an open session keeps its rules");
    assert_eq!(old.say("QUIT").code(), 221);
    wait_until("the old generation is gone", || generations(&mta) == 1);
}

fn generations(mta: &Mta) -> usize {
    let rows = mta.ctl_rows(&["status"]);
    let of = |role: &str| rows.iter().filter(|row| row["role"] == role).count();
    of("filter-session")
}

#[test]
fn rules_that_do_not_compile_are_refused_by_file_and_line() {
    let sink = Sink::start();
    let mta = start(&banner("old rules"), &sink);
    for (rules, expected) in [
        ("#{\n    mail: [\n        rule \"x\" || {\n    ]\n}", "filter.vsl:"),
        ("#{\n    maill: []\n}", "maill"),
        ("#{ mail: [ rule \"x\" || state::deny() ] }\nlet x = 1 +;", "filter.vsl:2"),
    ] {
        mta.write_configuration(&settings(rules, &sink, ""));
        let output = mta.ctl(&["reload"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
        let check = mta.ctl(&["config", "check"]);
        assert_eq!(check.status.code(), Some(1));
        assert_eq!(Client::hello(mta.port()).say("MAIL FROM:<a@src.test>").0, "550 5.7.1 old rules");
    }
    assert_eq!(generations(&mta), 1);
}

#[test]
fn the_configuration_is_a_script_too() {
    let sink = Sink::start();
    let mta = start("#{}", &sink);
    let etc = mta.root().join("etc/vsmtp");
    let main = std::fs::read_to_string(etc.join("vsmtp.vsl")).expect("read vsmtp.vsl");
    std::fs::create_dir_all(etc.join("conf.d")).expect("make conf.d");
    std::fs::write(etc.join("conf.d/names.vsl"), "fn name() { \"mx\" + 2.to_string() + \".local.test\" }\n")
        .expect("write a module");
    let main = main.replace("fn on_config", "import \"conf.d/names\" as names;\nfn on_config").replace(
        "\nconfig\n}",
        "\nif names::name().len > 3 { config.server.name = names::name(); }\nconfig\n}",
    );
    std::fs::write(etc.join("vsmtp.vsl"), main).expect("write vsmtp.vsl");
    assert!(mta.ctl(&["reload"]).status.success(), "{}", mta.log());
    wait_until("the greeting has the new name", || {
        Client::connect(mta.port()).reply().0.starts_with("220 mx2.local.test ")
    });
}
