//! Rules of a small site, tried by tests of their own and by messages from files.

use std::net::IpAddr;

use vsmtp_ipc::edge::ctl_filter::{Trial, Tried};

use super::*;
use crate::policy::tests::slice;
use crate::rehearsal::trial;

const RULES: &str = r#"
#{
    connect: [
        rule "blocked" || if ctx::client_ip() in rg4("203.0.113.0/24") { deny("554 5.7.1 blocked") } else { next() },
    ],
    mail: [
        rule "spf" || if spf::check_raw().result == "fail" { deny("550 5.7.23 not yours") } else { next() },
    ],
    rcpt: [
        rule "grey" || if ctx::helo() is "new.test" { greylist::check() } else { next() },
        rule "rate" || if ratelimit::take("rcpt", ctx::rcpt(), 2, 60) { next() } else { reject("450 4.7.1 slow") },
        action "copy" || { if ctx::rcpt() is "older@example.com" { envelop::bcc("joe@example.org"); } },
        rule "older" || if ctx::rcpt() is "older@example.com" { reject("550 5.1.6 moved") } else { next() },
        rule "old" || if ctx::rcpt() is "old@example.com" { reject("550 5.1.6 moved") } else { next() },
        action "archive" || { if ctx::rcpt() is "jane@example.com" { envelop::add_rcpt("joe@example.org"); } },
        action "away" || { if ctx::rcpt() is "sales@example.com" { transport::lmtp(ctx::rcpt(), "unix:/run/x"); } },
    ],
    preq: [
        action "mark" || { log("info", "marking"); fs::write("seen"); fs::dump("seen"); msg::prepend_header("X-Seen", ctx::client_ip()); },
        rule "virus" || if msg::get_header("Subject") is "virus" { quarantine("virus") } else { next() },
        rule "broken" || if msg::get_header("Subject") is "broken" { throw "oh" } else { next() },
    ],
    postq: [ action "late" || msg::append_header("X-Late", "yes") ],
    delivery: [ rule "no" || if msg::get_header("Subject") is "late" { deny("550 5.7.1 too late") } else { next() } ],
}"#;

fn scene(folder: &Path) -> Scene {
    fs::write(folder.join("filter.vsl"), RULES).unwrap();
    let slice = vsmtp_config::FilterSlice {
        config_dir: folder.display().to_string(),
        filter_path: folder.join("filter.vsl").display().to_string(),
        timeout: ONE,
        ..slice(&[])
    };
    Scene::load(&slice, &Surroundings::default(), Vec::new).unwrap()
}

/// What each test says.
fn results(tests: &str) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let scene = scene(dir.path());
    fs::create_dir(dir.path().join("deep")).unwrap();
    fs::write(dir.path().join("deep/mail.test.vsl"), tests).unwrap();
    fs::write(dir.path().join("spam.eml"), "Subject: virus\n\nx\n").unwrap();
    let results = run(&scene, dir.path(), &[], &Surroundings::default()).unwrap();
    let failure =
        |test: &Tested| test.failure.as_ref().map(|f| format!("{}:{}: {}", f.file, f.line, f.message));
    results.iter().map(|test| (test.name.clone(), failure(test).unwrap_or_default())).collect()
}

#[test]
fn tests_beside_the_rules_pass_where_the_rules_do_what_they_say() {
    let all = results(
        r#"
        fn sent(t, subject) { t.helo("a.test"); t.mail("a@b.test"); t.rcpt("jane@example.com"); t.data(`Subject: ${subject}

hello`) }
        test "blocked" || {
            let t = session("203.0.113.9");
            expect(t.code(), 554);
            expect(t.is_closed());
            expect(t.reply(), "554 5.7.1 blocked");
        };
        test "whole way" || {
            let t = session(ip4("192.0.2.1"));
            expect(sent(t, "hi"), 250);
            expect(t.recipients(), ["jane@example.com", "joe@example.org"]);
            expect(t.header("X-Seen"), "192.0.2.1");
            expect(t.header("X-Late"), "yes");
            expect(t.fate(), "deliver");
            expect(t.messages(), 1);
            expect(t.sender(), "a@b.test");
            expect(t.ran().len() > 4 && "mark" in t.ran());
            expect(t.verdict("old"), "next");
            expect(t.text().contains("\r\n\r\nhello\r\n"));
        };
        test "quarantine" || { let t = session("192.0.2.1"); sent(t, "virus"); expect(t.fate(), "quarantine virus"); };
        test "too late" || { let t = session("192.0.2.1"); expect(sent(t, "late"), 250); expect(t.fate(), "refuse 550 5.7.1 too late"); };
        test "a rule that fails" || { let t = session("192.0.2.1"); expect(sent(t, "broken"), 451); expect(t.verdict("broken"), "failed"); };
        test "next hops" || {
            let t = session("198.51.100.9");
            t.helo("a.test"); t.mail("");
            expect(t.rcpt("sales@example.com"), 250);
            expect(t.rcpt("old@example.com"), 550);
            expect(t.rcpt("x@elsewhere.test"), 554);
            t.data("Subject: x\n\n");
            expect(t.next_hop("sales@example.com"), "lmtp:unix:/run/x");
        };
        test "the DNS says what it is told" || {
            dns("bad.test", "SPF", "fail");
            let t = session("192.0.2.1");
            t.helo("a.test");
            expect(t.mail("a@bad.test"), 550);
        };
        test "and forgets it" || { let t = session("192.0.2.1"); t.helo("a.test"); expect(t.mail("a@bad.test"), 250); };
        test "a file" || {
            let t = session("192.0.2.1");
            t.helo("a.test"); t.mail("a@b.test"); t.rcpt("jane@example.com"); t.data(read("spam.eml"));
            expect(t.fate(), "quarantine virus");
        };
        test "rates" || {
            let t = session("192.0.2.1");
            t.helo("a.test"); t.mail("a@b.test");
            expect([t.rcpt("jane@example.com"), t.rcpt("jane@example.com"), t.rcpt("jane@example.com")], [250, 250, 450]);
        };
        test "who is new waits" || {
            let first = session("198.51.100.9");
            first.helo("new.test"); first.mail("a@b.test");
            expect(first.rcpt("jane@example.com"), 451);
            expect(first.verdict("grey"), "reject");
            let again = session("198.51.100.9");
            again.helo("new.test"); again.mail("a@b.test");
            expect(again.rcpt("jane@example.com"), 250);
            let other = session("198.51.100.9");
            other.helo("new.test"); other.mail("other@b.test");
            expect(other.rcpt("jane@example.com"), 451);
        };
        test "nobody is known in another test" || {
            let t = session("198.51.100.9");
            t.helo("new.test"); t.mail("a@b.test");
            expect(t.rcpt("jane@example.com"), 451);
        };
        test "a copy alone is no message" || {
            let t = session("192.0.2.1");
            t.helo("a.test"); t.mail("a@b.test");
            expect(t.rcpt("older@example.com"), 550);
            expect(t.data("Subject: x\n\n"), 554);
            expect(t.messages(), 0);
        };
        test "users" || { let t = session("192.0.2.1"); t.submission(); t.helo("a"); expect(t.auth("jane"), 235); };
        "#,
    );
    assert_eq!(all.len(), 14);
    for (name, failure) in all {
        assert_eq!(failure, "", "{name}");
    }
}

#[test]
fn tests_that_fail_say_where_and_stop_nobody() {
    let all = results(
        "test \"code\" || {\n let t = session(\"192.0.2.1\");\n expect(t.helo(\"x\"), 550);\n};\n\
         test \"order\" || {\n session(\"192.0.2.1\").rcpt(\"a@b.test\");\n};\n\
         test \"address\" || { session(\"nowhere\") };\n\
         test \"holds\" || { expect(1 == 2) };\n\
         test \"for ever\" || { loop { } };\n\
         test \"text\" || { expect(\"a\", \"b\") };\n\
         test \"record\" || { dns(\"a.test\", \"A\", \"x\") };\n\
         test \"object\" || { expect(ip4(\"192.0.2.1\"), ip4(\"192.0.2.2\")) };\n\
         test \"list\" || { expect([1, fqdn(\"a.test\")], [1, fqdn(\"b.test\")]) };\n\
         test \"type\" || { expect(1, \"1\") };\n\
         test \"function\" || { let f = || 1; expect(f, f) };\n\
         test \"twice\" || { let t = session(\"192.0.2.1\"); t.helo(\"a.test\"); t.mail(\"a@b.test\"); t.mail(\"a@b.test\") };\n\
         test \"again\" || { let t = session(\"192.0.2.1\"); t.helo(\"a.test\"); t.mail(\"a@b.test\"); t.helo(\"a.test\"); t.rcpt(\"jane@example.com\") };\n\
         test \"good\" || { expect([#{ a: ip4(\"192.0.2.1\") }], [#{ a: ip4(\"192.0.2.1\") }]) };",
    );
    let shown: Vec<String> = all.iter().map(|(name, failure)| format!("{name}: {failure}")).collect();
    for (at, words) in [
        "code: deep/mail.test.vsl:3: expected 550, found 250",
        "order: deep/mail.test.vsl:6: RCPT comes behind a MAIL that was accepted",
        "address: deep/mail.test.vsl:8: 'nowhere' is no address",
        "holds: deep/mail.test.vsl:9: it does not hold",
        "for ever: deep/mail.test.vsl:10: Too many operations",
        "text: deep/mail.test.vsl:11: expected \"b\", found \"a\"",
        "record: deep/mail.test.vsl:12: 'a.test A x' is no record of that kind",
        "object: deep/mail.test.vsl:13: expected 192.0.2.2, found 192.0.2.1",
        "list: deep/mail.test.vsl:14: expected [1, b.test], found [1, a.test]",
        "type: deep/mail.test.vsl:15: expected \"1\", found 1",
        "function: deep/mail.test.vsl:16: Fn cannot be compared",
        "twice: deep/mail.test.vsl:17: MAIL comes once in a transaction",
        "again: deep/mail.test.vsl:18: RCPT comes behind a MAIL that was accepted",
        "good: ",
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(shown[at], words);
    }
}

#[test]
fn files_that_do_not_load_and_folders_without_tests_are_told() {
    let all = results("test \"x\"");
    assert_eq!(all.len(), 1);
    assert!(all[0].0.is_empty() && all[0].1.starts_with("deep/mail.test.vsl:1"), "{all:?}");
    let dir = tempfile::tempdir().unwrap();
    let none = run(&scene(dir.path()), dir.path(), &[], &Surroundings::default()).unwrap_err();
    assert!(none.0.contains("there is no file *.test.vsl"), "{}", none.0);
}

fn tried(client: Option<&str>, from: &str, to: &[&str], subject: &str, change: impl Fn(&mut Trial)) -> Tried {
    let dir = tempfile::tempdir().unwrap();
    let mut trial = Trial {
        client: client.map(|ip| ip.parse::<IpAddr>().unwrap()),
        user: None,
        helo: "client.test".to_owned(),
        from: from.to_owned(),
        recipients: to.iter().map(|to| (*to).to_owned()).collect(),
        message: format!("Subject: {subject}\n\nbody\n").into_bytes(),
        until: None,
        dns: String::new(),
    };
    change(&mut trial);
    trial::run(&scene(dir.path()), &trial).unwrap()
}

#[test]
fn a_trial_shows_each_directive_with_its_verdict_and_edits() {
    let done = tried(Some("192.0.2.1"), "a@b.test", &["jane@example.com", "old@example.com"], "hi", |_| {});
    let steps: Vec<String> = done
        .steps
        .iter()
        .map(|step| {
            format!("{} {} {} [{}]", step.stage, step.directive, step.verdict, step.changes.join("; "))
        })
        .collect();
    for step in [
        "connect blocked next []",
        "mail spf next []",
        "rcpt archive next [recipient <joe@example.org> added]",
        "rcpt old reject []",
        "preq mark next [header +X-Seen: 192.0.2.1]",
        "postq late next [header +X-Late: yes]",
    ] {
        assert!(steps.iter().any(|shown| shown == step), "{step}: {steps:#?}");
    }
    let heard: Vec<&str> = done.heard.iter().map(|heard| &heard.reply[..3]).collect();
    assert_eq!(heard, ["220", "250", "250", "250", "550", "250"]);
    let [kept] = done.kept.as_slice() else { panic!("{:?}", done.kept) };
    assert_eq!((kept.fate.as_str(), kept.from.as_str()), ("deliver", "a@b.test"));
    assert_eq!(kept.recipients.len(), 2);
    assert_eq!(kept.diff, ["+X-Seen: 192.0.2.1", "+X-Late: yes"]);
}

#[test]
fn a_trial_ends_where_it_is_told_and_where_it_is_refused() {
    let blocked = tried(Some("203.0.113.1"), "a@b.test", &["jane@example.com"], "hi", |_| {});
    assert_eq!((blocked.heard.len(), blocked.heard[0].reply.as_str()), (1, "554 5.7.1 blocked"));
    let early = tried(Some("192.0.2.1"), "a@b.test", &["jane@example.com"], "hi", |trial| {
        trial.until = Some("rcpt".into())
    });
    assert!(early.kept.is_empty() && early.steps.iter().all(|step| step.stage != "preq"));
    let preq = tried(Some("192.0.2.1"), "a@b.test", &["jane@example.com"], "hi", |trial| {
        trial.until = Some("preq".into())
    });
    assert!(preq.kept.len() == 1 && preq.steps.iter().all(|step| step.stage != "postq"));
    let spf = |trial: &mut Trial| trial.dns = "b.test SPF fail\n".into();
    let forged = tried(Some("192.0.2.1"), "a@b.test", &["jane@example.com"], "hi", spf);
    assert_eq!(forged.heard.last().unwrap().reply, "550 5.7.23 not yours");
}
