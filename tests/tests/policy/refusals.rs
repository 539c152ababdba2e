//! Rules that say no, and the same at every stage.

use vsmtp_tests::{Client, Sink, needs_programs, python, said, wait_until};

use crate::{start, start_with};

#[test]
fn a_client_is_refused_by_its_address() {
    if !needs_programs("a_client_is_refused_by_its_address", &["python3"]) {
        return;
    }
    let rules = r##"#{
        connect: [
            rule "blocked networks" || {
                if ctx::client_ip() in rg4("127.0.9.0/24") {
                    state::deny(code(554, "5.7.1", "Your network is blocked here"))
                } else { state::next() }
            },
        ],
    }"##;
    let mta = start(rules, &Sink::start());
    let script = "import smtplib, sys\n\
        def hello(ip): return smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=30, source_address=(ip, 0))\n\
        hello('127.0.8.9').quit()\n\
        try: hello('127.0.9.9')\n\
        except smtplib.SMTPConnectError as e:\n\
        \x20   assert e.smtp_code == 554 and e.smtp_error == b'5.7.1 Your network is blocked here', e\n\
        else: raise SystemExit('not refused')\n";
    said(&python(script, &[&mta.port().to_string()]));
    let line = wait_for_line(&mta, "directive=\"blocked networks\"");
    assert!(line.contains("client=127.0.9.9") && line.contains("stage=connect"), "{line}");
}

#[test]
fn senders_and_recipients_are_refused_and_the_session_goes_on() {
    let rules = r##"#{
        helo: [
            rule "no liars" || {
                if ctx::helo() == "mx.local.test" { state::reject(code(550, "5.7.1", "That is me")) } else { state::next() }
            },
        ],
        mail: [
            rule "unwanted sender" || {
                if ctx::mail_from() is "spammer@example.com" { state::reject(code(553, "5.1.8", "Not you")) }
                else { state::next() }
            },
            rule "unwanted domain" || {
                if ctx::mail_from().domain is "evil.test" { state::deny() } else { state::next() }
            },
        ],
        rcpt: [
            rule "retired address" || {
                if ctx::rcpt() is "old@local.test" { state::reject(code(550, "5.1.6", "Moved to new@local.test")) }
                else { state::next() }
            },
        ],
    }"##;
    let mta = start(rules, &Sink::start());
    let mut client = Client::connect(mta.port());
    assert_eq!(client.reply().code(), 220);
    assert_eq!(client.say("EHLO mx.local.test").0, "550 5.7.1 That is me");
    assert_eq!(client.say("EHLO client.test").code(), 250);
    assert_eq!(client.say("MAIL FROM:<spammer@example.com>").0, "553 5.1.8 Not you");
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
    assert_eq!(client.say("RCPT TO:<old@local.test>").0, "550 5.1.6 Moved to new@local.test");
    assert_eq!(client.say("RCPT TO:<new@local.test>").code(), 250);
    assert_eq!(client.say("DATA").code(), 354);
    assert_eq!(client.say("Subject: one\r\n\r\nx\r\n.").code(), 250);
    mta.wait_for_mail("local.test", "new", 1);
    assert_eq!(client.say("MAIL FROM:<x@evil.test>").code(), 554);
    assert_eq!(client.say("NOOP").code(), 0, "deny closes the connection");
    assert_eq!(mta.maildir("local.test", "old").len(), 0);
}

#[test]
fn a_message_is_refused_after_its_data() {
    let rules = r##"#{
        preq: [
            rule "no subject" || {
                if msg::has_header("Subject") { state::next() } else { state::reject(code(550, "5.6.0", "Say why you write")) }
            },
        ],
    }"##;
    let mta = start(rules, &Sink::start());
    let mut client = Client::hello(mta.port());
    assert_eq!(
        client.mail("a@src.test", &["b@local.test"], "From: a@src.test\r\n\r\nx").0,
        "550 5.6.0 Say why you write"
    );
    assert_eq!(client.mail("a@src.test", &["b@local.test"], "Subject: x\r\n\r\nx").code(), 250);
    let mail = mta.wait_for_mail("local.test", "b", 1);
    wait_until("the queue is empty", || mta.queued() == 0);
    assert_eq!(mail.len(), 1, "{mail:?}");
}

#[test]
fn messages_are_put_aside_by_name_and_released() {
    let rules = r##"#{
        preq: [
            rule "odd ones" || {
                let subject = msg::get_header("Subject");
                if subject.contains("virus") { state::quarantine("virus/zip") }
                else if subject.contains("wait") { queue::hold(); state::next() }
                else { state::next() }
            },
        ],
    }"##;
    let mta = start(rules, &Sink::start());
    let mut client = Client::hello(mta.port());
    for subject in ["a virus", "please wait", "usual"] {
        let reply = client.mail("a@src.test", &["b@local.test"], &format!("Subject: {subject}\r\n\r\nx"));
        assert_eq!(reply.code(), 250, "{reply:?}");
    }
    mta.wait_for_mail("local.test", "b", 1);
    wait_until("two are left", || mta.queued() == 2);
    let kept = mta.ctl_rows(&["queue", "list", "--state", "quarantined"]);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0]["quarantine"], "virus/zip");
    let held = mta.ctl_rows(&["queue", "list", "--state", "held"]);
    assert_eq!(held.len(), 1, "{held:?}");
    for row in [&kept[0], &held[0]] {
        let id = row["queue_id"].as_str().expect("a queue id");
        assert_eq!(mta.ctl_json(&["queue", "release", id])["changed"], 1);
    }
    let mail = mta.wait_for_mail("local.test", "b", 3).concat();
    assert!(mail.contains("a virus") && mail.contains("please wait"), "{mail}");
    wait_until("the queue is empty", || mta.queued() == 0);
}

fn wait_for_line(mta: &vsmtp_tests::Mta, needle: &str) -> String {
    let find = || mta.log().lines().find(|line| line.contains(needle)).map(str::to_owned);
    wait_until(&format!("the log has {needle}"), || find().is_some());
    find().expect("it was there")
}

#[test]
fn rules_word_the_report_of_a_failure_and_tell_others() {
    let rules = r##"#{
        preq: [
            action "words" || {
                bounce::text("Désolé.\nCall us instead.");
                bounce::from("help@local.test");
                notify::send("jane@local.test", "A message for the world", `from ${ctx::mail_from()}`);
            },
        ],
    }"##;
    let sink = Sink::scripted(|line| line.starts_with("RCPT ").then(|| "550 5.1.1 nobody".to_owned()));
    let mta = start(rules, &sink);
    let reply = Client::hello(mta.port()).mail("bob@local.test", &["b@dst.test"], "Subject: x\r\n\r\nx");
    assert_eq!(reply.code(), 250, "{reply:?}");
    let notice = mta.wait_for_mail("local.test", "jane", 1).remove(0);
    for part in ["Return-Path: <>", "Auto-Submitted: auto-generated", "from bob@local.test"] {
        assert!(notice.contains(part), "{part}: {notice}");
    }
    let report = mta.wait_for_mail("local.test", "bob", 1).remove(0);
    for part in ["<help@local.test>", "Désolé.", "Call us instead.", "Status: 5.1.1", "550 5.1.1 nobody"] {
        assert!(report.contains(part), "{part}: {report}");
    }
}

#[test]
fn clients_hear_the_words_of_the_operator_where_there_are_some() {
    let words = r#"config.server.smtp.codes.set("Greetings", "220 {name} at your service\r\n");
        config.server.smtp.codes.set("Help", #{ code: 214, text: "Ask\nJane" });
        config.server.smtp.codes = #{ Helo: "250 welcome", DataStart: "354 go on", Closing: "221 come again" } + config.server.smtp.codes;
        config.server.smtp.codes.Denied = "554 not at {name}";
        config.server.smtp.codes.Failure = "451 4.0.0 not today";
        config.server.smtp.codes.BadSequence = "503 5.5.0 one after the other";"#;
    let rules = r##"#{ rcpt: [
        rule "never" || if ctx::rcpt().local_part is "never" { state::deny() } else { state::next() },
        rule "later" || if ctx::rcpt().local_part is "later" { reject() } else { next() },
    ] }"##;
    let mta = start_with(rules, &Sink::start(), words);
    let mut client = Client::connect(mta.port());
    assert_eq!(client.reply().0, "220 mx.local.test at your service");
    assert_eq!(client.say("HELP").0, "214-2.0.0 Ask\n214 2.0.0 Jane");
    assert_eq!(client.say("HELO client.test").0, "250 mx.local.test welcome");
    // Extensions are what the server can do, whatever it says otherwise.
    assert!(client.say("EHLO client.test").0.contains("250-PIPELINING"));
    assert_eq!(client.say("RCPT TO:<bob@local.test>").0, "503 5.5.0 one after the other");
    assert_eq!(client.say("MAIL FROM:<a@src.test>").0, "250 2.1.0 Ok", "what nobody has changed");
    assert_eq!(client.say("RCPT TO:<later@local.test>").0, "451 4.0.0 not today");
    assert_eq!(client.say("RCPT TO:<bob@local.test>").code(), 250);
    assert_eq!(client.say("DATA").0, "354 go on");
    assert_eq!(client.say("Subject: x\r\n\r\nx\r\n.").code(), 250);
    client.say("MAIL FROM:<a@src.test>");
    assert_eq!(client.say("RCPT TO:<never@local.test>").0, "554 5.7.1 not at mx.local.test");
    let mut other = Client::hello(mta.port());
    assert_eq!(other.say("QUIT").0, "221 2.0.0 come again");
}

#[test]
fn nobody_sends_without_a_login_where_the_operator_says_so() {
    let config = "config.server.smtp.auth.must_be_authenticated = true;\n\
        config.server.smtp.auth.mechanisms = [\"PLAIN\", \"LOGIN\", \"CRAM-MD5\", \"ANONYMOUS\"];\n\
        config.server.smtp.auth.enable_dangerous_mechanism_in_clair = true;";
    let rules = r##"#{ authenticate: [
        rule "jane" || if auth::credentials().authid == "jane" { state::accept() } else { state::deny() },
    ] }"##;
    let mta = start_with(rules, &Sink::start(), config);
    let mut client = Client::connect(mta.port());
    client.reply();
    let offered = client.say("EHLO client.test").0;
    assert!(offered.contains("AUTH PLAIN LOGIN\n"), "{offered}");
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 530);
    // "\0jane\0secret"
    assert_eq!(client.say("AUTH PLAIN AGphbmUAc2VjcmV0").code(), 235);
    assert_eq!(client.mail("jane@local.test", &["bob@local.test"], "Subject: x\r\n\r\nx").code(), 250);
    mta.logged("CRAM-MD5 is not offered");
}
