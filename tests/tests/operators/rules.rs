//! Rules are checked and tried before they are in force, while nothing runs.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use vsmtp_tests::{Mta, Settings, binary};

use crate::{ctl, refused};

/// The page that says how it is done, with an example that must work.
const PAGE: &str = include_str!("../../../docs/vsl/testing.md");

/// The blocks of code of a page.
fn blocks(page: &str) -> Vec<&str> {
    let inside = page.split("\n```").skip(1).step_by(2);
    inside.filter_map(|block| block.strip_prefix("js\n")).collect()
}

fn site(filter: &str) -> Mta {
    Mta::prepare(&Settings { filter: filter.to_owned(), ..Settings::default() })
}

fn etc(mta: &Mta) -> std::path::PathBuf {
    mta.root().join("etc/vsmtp")
}

fn said(mta: &Mta, words: &[&str]) -> (i32, String) {
    let output = mta.ctl(words);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

fn path(of: &Path) -> &str {
    of.to_str().expect("paths of tests are UTF-8")
}

#[test]
fn what_would_test_nothing_is_refused() {
    let mta = site("#{ rcpt: [ rule \"a\" || state::next() ] }");
    let file = |name: &str, text: &str| {
        let file = etc(&mta).join(name);
        fs::write(&file, text).expect("write a script");
        file
    };
    let rules = file("mail.vsl", "fn a() { 1 }");
    let (code, text) = said(&mta, &["vsl", "test", path(&rules)]);
    assert!(code != 0, "it is no file of tests: {text}");
    let tests = file("mail.test.vsl", "fn a() { 1 }");
    assert_eq!(said(&mta, &["vsl", "test", path(&tests)]).0, 1, "there is no test in it");
    file("mail.test.vsl", "test \"a\" || { expect(1, 1) };");
    assert_eq!(said(&mta, &["vsl", "test", path(&tests)]).0, 0);
    let (code, text) = said(&mta, &["vsl", "test", "--rcpt", "a@b.test", path(&tests)]);
    assert!(code != 0 && text.contains("about one message"), "{text}");
}

#[test]
fn a_check_tells_everything_that_is_wrong_with_rules() {
    let mta = site("#{ rcpt: [ rule \"a\" || state::next() ] }");
    assert_eq!(said(&mta, &["vsl", "check"]), (0, "no problems\n".to_owned()));
    let rules = "#{ rcpt: [\n rule \"a\" || { msg::size(); deny() },\n rule \"b\" || { clientip(); next() },\n\
                 rule \"c\" || { msg::append_header(\"X\", 5); next() } ] }";
    fs::write(etc(&mta).join("filter.vsl"), rules).expect("write rules");
    let expected = "filter.vsl:2:16: msg::size is available from the stage 'preq' on, not at 'rcpt' (move the rule to 'preq', or to a later stage)\n\
                    filter.vsl:3:7: this rule never runs at the stage 'rcpt' ('a' before it always ends the stage)\n\
                    filter.vsl:3:16: there is no function clientip (did you mean client_ip?)\n\
                    filter.vsl:4:6: this rule never runs at the stage 'rcpt' ('a' before it always ends the stage)\n\
                    filter.vsl:4:15: msg::append_header takes no int as its argument 2 (docs/vsl/msg.md says what it takes)\n\
                    vsmtpctl: 5 problems\n";
    // By the root, by the folder, by the file, by a way that leads up.
    let folder = etc(&mta);
    let (file, up) = (folder.join("vsmtp.vsl"), folder.join("../vsmtp"));
    for words in [
        vec!["vsl", "check"],
        vec!["vsl", "check", path(&folder)],
        vec!["vsl", "check", path(&file)],
        vec!["vsl", "check", path(&up)],
    ] {
        assert_eq!(said(&mta, &words), (1, expected.to_owned()), "{words:?}");
    }
    let output = mta.ctl(&["vsl", "check", "--json"]);
    let rows = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let first: serde_json::Value =
        serde_json::from_str(rows.lines().next().expect("a row")).expect("an object");
    assert_eq!((rows.lines().count(), &first["line"], &first["column"]), (5, &2.into(), &16.into()));
    // The configuration itself.
    mta.write_configuration(&Settings {
        config: "config.server.naem = 1;".to_owned(),
        ..Settings::default()
    });
    let (code, text) = said(&mta, &["vsl", "check"]);
    assert!(code == 1 && text.contains("vsmtp.vsl:9:1: server.naem"), "{text}");
    assert_eq!(refused(&mta, &["vsl", "check", "/nonexistent"]).0, 2);
}

#[test]
fn the_tests_of_the_page_about_tests_pass_and_fail_if_the_rules_change() {
    let [rules, tests] = blocks(PAGE)[..] else { panic!("{} examples", blocks(PAGE).len()) };
    let mta = site(rules);
    assert_eq!(refused(&mta, &["vsl", "test"]).0, 2, "there is no test yet");
    let file = etc(&mta).join("filter.test.vsl");
    fs::write(&file, tests).expect("write tests");
    let text = ctl(&mta, &["vsl", "test"]);
    assert!(text.contains("ok    filter.test.vsl: a retired address is refused"), "{text}");
    assert!(text.ends_with("3 passed, 0 failed\n"), "{text}");
    assert_eq!(said(&mta, &["vsl", "check"]).0, 0);

    fs::write(etc(&mta).join("filter.vsl"), rules.replace("old@local.test", "other@local.test"))
        .expect("write rules");
    for words in
        [vec!["vsl", "test"], vec!["vsl", "test", path(&file)], vec!["vsl", "test", path(&etc(&mta))]]
    {
        let (code, text) = said(&mta, &words);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("FAIL  filter.test.vsl: a retired address is refused"), "{text}");
        assert!(text.contains(": expected 550, found 250"), "{text}");
        assert!(text.contains("2 passed, 1 failed"), "{text}");
    }
    let output = mta.ctl(&["vsl", "test", "--json"]);
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let rows: Vec<serde_json::Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(rows.iter().map(|row| row["ok"] == true).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_message_is_tried_and_each_verdict_and_edit_is_shown() {
    let mta = site(
        "#{ rcpt: [ action \"copy\" || { log(\"info\", \"copying\"); envelop::add_rcpt(\"archive@local.test\"); } ],
            preq: [ rule \"name\" || if ctx::client_name() is \"mx.example.net\" { next() } else { deny(\"550 5.7.1 who\") },
                    action \"mark\" || msg::append_header(\"X-Checked\", \"yes\") ] }",
    );
    let (message, dns) = (mta.root().join("m.eml"), mta.root().join("dns"));
    fs::write(&message, "Subject: hello\n\nGood morning.\n").expect("write a message");
    fs::write(&dns, "192.0.2.1 PTR mx.example.net\n").expect("write records");
    let words = ["vsl", "test", path(&message), "--client-ip", "192.0.2.1", "--from", "ann@example.net"];
    let to = ["--rcpt", "jane@local.test", "--rcpt", "x@elsewhere.test"];
    let words = [&words[..], &to].concat();
    let known = [&words[..], &["--dns", path(&dns)]].concat();
    let text = ctl(&mta, &known);
    for line in [
        "rcpt",
        "  action \"copy\" filter.vsl:1: next",
        "    recipient <archive@local.test> added",
        "    log info event=script-log text=copying",
        "  rule \"name\" filter.vsl:2: next",
        "    header +X-Checked: yes",
        "  rcpt to:<x@elsewhere.test>: 554 5.7.1 Relay access denied",
        "message from <ann@example.net>: deliver",
        "  to <archive@local.test> by maildir",
        "  to <jane@local.test> by maildir",
        "  +X-Checked: yes",
    ] {
        assert!(text.lines().any(|shown| shown.starts_with(line)), "{line}: {text}");
    }
    let row = mta.ctl_json(&words);
    let last = row["replies"].as_array().and_then(|replies| replies.last()).cloned().unwrap_or_default();
    assert_eq!((&last["command"], &last["reply"]), (&"data".into(), &"550 5.7.1 who".into()));
    assert_eq!(row["messages"].as_array().map(Vec::len), Some(0));
    let (code, said) = refused(&mta, &["vsl", "test", path(&message)]);
    assert!(code == 64 && said.contains("--from and --rcpt"), "{said}");
}

#[test]
fn editors_get_a_definition_of_every_function() {
    let mta = site("");
    let folder = mta.root().join("definitions");
    ctl(&mta, &["vsl", "definitions", "--out", path(&folder)]);
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file of definitions");
    assert!(read("ctx.d.rhai").contains("\nfn client_ip() -> ?;\n"));
    assert!(read("__static__.d.rhai").contains("\nfn client_ip() -> ?;\n"));
}

#[test]
fn an_error_writes_nothing_to_the_terminal_but_text() {
    let mta = site("#{ rcpt: [ rule \"a\" || state::next() ] }");
    let message = mta.root().join("m.eml");
    fs::write(&message, "Subject: x\n\n").expect("write a message");
    let words = [
        "vsl",
        "test",
        path(&message),
        "--from",
        "a@b.test",
        "--rcpt",
        "c@d.test",
        "--stage",
        "\x1b[2Jrcpt\x07",
    ];
    let (code, text) = said(&mta, &words);
    assert_eq!((code, text.as_str()), (2, "vsmtpctl: there is no stage '?[2Jrcpt?'\n"));
}

/// What `vsmtpctl vsl repl` says to these lines.
fn talked(mta: &Mta, words: &[&str], lines: &str) -> (i32, String) {
    let mut command = Command::new(binary("vsmtpctl"));
    command.arg("--root").arg(mta.root()).args(["vsl", "repl"]).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("run vsmtpctl");
    let mut stdin = child.stdin.take().expect("its input");
    // Whom the configuration stops reads nothing, and may be gone already.
    if let Err(error) = stdin.write_all(lines.as_bytes()) {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    }
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

#[test]
fn the_language_is_talked_with_in_a_jail() {
    let mta = site("#{ rcpt: [ rule \"a\" || state::next() ] }");
    fs::write(etc(&mta).join("lib.vsl"), "fn shout(x) { x.to_upper() }").expect("write a script");
    let message = mta.root().join("m.eml");
    fs::write(&message, "From: <x@y.test>\nSubject: from a file\n\nhello\n").expect("write a message");
    let lines = format!(
        "let a = 20;\nfn more(x) {{\n  x + 1\n}}\nmore(a)\nimport \"lib\" as lib;\nlib::shout(\"b\")\n\
         :stage preq\n:message {}\nmsg::get_header(\"Subject\")\nmsg::append_header(\"X-New\", \"1\")\n\
         :client 198.51.100.7\nctx::client_ip()\nlog(\"info\", \"noted\")\n:quit\nnot reached\n",
        message.display()
    );
    let expected =
        "21\n\"B\"\n\"from a file\"\n  header +X-New: 1\n\"198.51.100.7\"\n  log info event=script";
    let (code, text) = talked(&mta, &[], &lines);
    assert!(code == 0 && text.starts_with(expected), "{code} {text}");
    // What fails says where, stops nothing, and makes the exit status.
    let (code, text) = talked(&mta, &[], "1 +\n 2\nnope\nloop { }\n:message /nowhere\n[1,\n");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((code, lines.len(), lines[0]), (1, 6, "3"), "{text}");
    assert!(lines[1].starts_with("line:1:1: ") && lines[2].starts_with("line:1:"), "{text}");
    assert!(lines[2].contains("operations") || lines[2].contains("time limit"), "{text}");
    assert!(lines[3].starts_with("/nowhere: ") && lines[4].starts_with("line:"), "{text}");
    assert_eq!(lines[5], "vsmtpctl: 4 statements failed");
    // Nothing outside the folder of the configuration is reached.
    let (_, text) =
        talked(&mta, &["--json"], "csv::open(\"/etc/passwd\", \",\")\nnetset::file(\"/etc/passwd\")\n");
    let all: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(all.len() == 2 && all.iter().all(|row| row["ok"] == Value::Bool(false)), "{text}");
    assert!(!text.contains("root:"), "{text}");
    fs::write(etc(&mta).join("vsmtp.vsl"), "fn on_config(config) { config.nope = 1; config }")
        .expect("write");
    let (code, text) = talked(&mta, &[], "1\n");
    assert!(code == 1 && text.contains("nope"), "{code} {text}");
}
