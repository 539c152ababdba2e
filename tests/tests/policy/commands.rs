//! Rules that run programs: what these are given, what becomes of those that hang or print without end, and that nobody else
//! waits for them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vsmtp_tests::{Client, Mta, Sink, needs_root, signal, wait_until};

use crate::settings;

/// Reads a message and judges it, as a scanner for viruses would.
const SCAN: &str = "#!/bin/sh\nif grep -q EICAR; then printf 'Eicar-Test'; exit 1; fi\nprintf clean\n";
/// Prints what it is given, each argument in brackets.
const STAMP: &str = "#!/bin/sh\nfor word in \"$@\"; do printf '[%s]' \"$word\"; done\n";
/// Waits until it may go on.
const WAIT: &str = "#!/bin/sh\nwhile [ ! -e \"$1/go\" ]; do sleep 0.05; done\n";

/// An MTA whose rules are made of the folder with its programs.
fn prepare(rules: impl Fn(&str) -> String, sink: &Sink) -> Mta {
    let mta = Mta::prepare(&settings("", sink, ""));
    let programs = mta.root().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::set_permissions(&programs, fs::Permissions::from_mode(0o777)).unwrap();
    for (name, script) in [("scan", SCAN), ("stamp", STAMP), ("wait", WAIT)] {
        fs::write(programs.join(name), script).unwrap();
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let patient = "config.filter.timeout = \"5m\";";
    mta.write_configuration(&settings(&rules(programs.to_str().unwrap()), sink, patient));
    mta
}

fn send(mta: &Mta, from: &str, message: &str) -> String {
    Client::hello(mta.port()).mail(from, &["b@dst.test"], message).0
}

#[test]
fn a_command_judges_messages_and_says_what_a_field_is_to_say() {
    let rules = |programs: &str, stamp: &str| {
        format!(
            r##"
            const scan = cmd::build(#{{ command: "{programs}/scan", args: ["ignored"], timeout: "20s" }});
            service stamp cmd = #{{ command: "{programs}/stamp", args: [{stamp}] }};
            #{{
                preq: [
                    rule "scan" || {{
                        let end = scan.run_with(msg());
                        switch end.code {{
                            0 => state::next(),
                            1 => state::deny(`554 5.7.1 ${{end.stdout}} found`),
                            _ => throw `${{end}}`,
                        }}
                    }},
                    action "stamp" || {{
                        msg::append_header("X-Declared", stamp.run().stdout);
                        msg::append_header("X-Given", stamp.run(["a b", "$(id)", ctx::mail_from()]).stdout);
                    }},
                ],
                postq: [ action "later" || msg::append_header("X-Later", stamp.run(["postq"]).stdout) ],
            }}"##
        )
    };
    let sink = Sink::start();
    let mut mta = prepare(|programs| rules(programs, "\"one\", \"\""), &sink);
    mta.launch();
    let eicar = send(&mta, "a@src.test", "Subject: x\r\n\r\nX5O EICAR\r\n");
    assert_eq!(eicar, "554 5.7.1 Eicar-Test found");
    assert!(send(&mta, "a@src.test", "Subject: x\r\n\r\nhello\r\n").starts_with("250"), "{}", mta.log());
    wait_until("the clean message has arrived", || sink.count() == 1);
    let text = sink.messages()[0].data.clone();
    for field in ["X-Declared: [one][]\r\n", "X-Given: [a b][$(id)][a@src.test]\r\n", "X-Later: [postq]\r\n"]
    {
        assert!(text.contains(field), "{field} in {text}");
    }
    // What is new is run after a reload.
    let programs = mta.root().join("programs").display().to_string();
    mta.write_configuration(&settings(&rules(&programs, "\"two\""), &sink, ""));
    assert!(mta.ctl(&["reload"]).status.success(), "{}", mta.log());
    wait_until("the new rules count", || {
        assert!(send(&mta, "a@src.test", "Subject: x\r\n\r\nhello\r\n").starts_with("250"), "{}", mta.log());
        sink.messages().iter().any(|message| message.data.contains("X-Declared: [two]\r\n"))
    });
    assert!(!mta.log().contains("event=script-failed"), "{}", mta.log());
}

#[test]
fn a_command_that_waits_hangs_or_prints_without_end_costs_its_own_session_and_nobody_else() {
    let rules = |programs: &str| {
        format!(
            r##"
            const wait = cmd::build(#{{ command: "{programs}/wait", args: ["{programs}"], timeout: "4m" }});
            const hang = cmd::build(#{{ command: "sleep", args: ["86399"], timeout: "300ms" }});
            const endless = cmd::build(#{{ command: "yes", timeout: "4m" }});
            fn late() {{ cmd::build(#{{ command: "sleep", args: ["0"] }}) }}
            #{{ mail: [ rule "run" || switch ctx::mail_from().local_part {{
                "wait" => if wait.run().code == 0 {{ state::next() }} else {{ state::reject("550 5.7.1 no") }},
                "hang" => {{
                    let end = hang.run();
                    if end.timed_out && end.signal == 9 && !end.has_code {{ state::reject("550 5.7.1 out of time") }}
                    else {{ throw `${{end}}` }}
                }},
                "endless" => {{
                    let end = endless.run();
                    if end.truncated && end.signal == 9 && !end.timed_out && end.stdout.len() == 65536 {{
                        state::reject("550 5.7.1 too much")
                    }} else {{ throw `${{end.truncated}} ${{end.signal}} ${{end.stdout.len()}}` }}
                }},
                "late" => if late().run().code == 0 {{ state::next() }} else {{ state::reject("550 5.7.1 no") }},
                _ => state::next(),
            }} ] }}"##
        )
    };
    let sink = Sink::start();
    let mut mta = prepare(rules, &sink);
    mta.launch();
    let programs = mta.root().join("programs");
    let script = programs.join("wait");
    let begin = |mta: &Mta| {
        let mut waiting = Client::hello(mta.port());
        waiting.send(b"MAIL FROM:<wait@src.test>\r\n");
        wait_until("the command has begun", || is_run(&script));
        waiting
    };
    let mut waiting = begin(&mta);
    assert!(send(&mta, "a@src.test", "Subject: x\r\n\r\nx\r\n").starts_with("250"), "{}", mta.log());
    fs::write(programs.join("go"), "").unwrap();
    assert_eq!(waiting.reply().code(), 250, "{}", mta.log());
    assert_eq!(send(&mta, "hang@src.test", ""), "550 5.7.1 out of time", "{}", mta.log());
    assert_eq!(send(&mta, "endless@src.test", ""), "550 5.7.1 too much", "{}", mta.log());
    assert!(!mta.log().contains("event=script-failed"), "{}", mta.log());
    // What no script has declared while it was loaded does not run.
    assert!(send(&mta, "late@src.test", "").starts_with("451"), "{}", mta.log());
    mta.logged("it is not declared so");
    // A runner that dies takes its commands with it, and the next one runs others.
    fs::remove_file(programs.join("go")).unwrap();
    let mut waiting = begin(&mta);
    signal(&[mta.pid_of("runner.0")], "KILL");
    assert_eq!(waiting.reply().code(), 451, "{}", mta.log());
    wait_until("its command is gone", || !is_run(&script));
    fs::write(programs.join("go"), "").unwrap();
    wait_until("there is a runner again", || {
        send(&mta, "wait@src.test", "Subject: x\r\n\r\nx\r\n").starts_with("250")
    });
}

/// Some process has this script as an argument.
fn is_run(script: &Path) -> bool {
    let script = script.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| line.split(|octet| *octet == 0).any(|word| word == script.as_bytes()))
}

#[test]
fn commands_run_as_a_user_of_their_own_and_only_where_there_are_any() {
    let rules = r##"
        const id = cmd::build(#{ command: "id", args: ["-u"] });
        const bound = cmd::build(#{ command: "grep", args: ["-m", "1", "Max processes", "/proc/self/limits"] });
        #{ mail: [ rule "id" || {
            let who = id.run().stdout;
            who.trim();
            if ctx::mail_from().local_part == "bound" { who = bound.run().stdout; who.trim(); }
            state::reject(`550 5.7.1 ${who}`)
        } ] }"##;
    let sink = Sink::start();
    let mut mta = Mta::prepare(&settings("", &sink, ""));
    mta.launch();
    assert!(mta.processes().iter().all(|process| !process.name.starts_with("runner")), "nobody wants it");
    mta.write_configuration(&settings(rules, &sink, ""));
    assert!(mta.ctl(&["reload"]).status.success(), "{}", mta.log());
    let mut uid = None;
    wait_until("the new rules count", || {
        let said = send(&mta, "a@src.test", "Subject: x\r\n\r\nx\r\n");
        uid = said
            .strip_prefix("550 5.7.1 ")
            .map(|uid| uid.parse::<u64>().unwrap_or_else(|_| panic!("{said}")));
        uid.is_some()
    });
    let uid = uid.unwrap();
    let declared = mta.ctl(&["sandbox", "--declared"]).stdout;
    let declared = String::from_utf8(declared).unwrap();
    assert!(declared.lines().any(|line| line.trim().starts_with("each program: ")), "{declared}");
    let wrong = settings("const a = cmd::build(#{ command: \"id\", user: \"root\" }); #{}", &sink, "");
    mta.write_configuration(&wrong);
    assert!(!mta.ctl(&["reload"]).status.success(), "{}", mta.log());
    if !needs_root("commands_run_as_a_user_of_their_own_and_only_where_there_are_any") {
        return;
    }
    // It is nobody else's, so its processes can be counted.
    let bound = send(&mta, "bound@src.test", "Subject: x\r\n\r\nx\r\n");
    let bound = bound.split_whitespace().nth(4).and_then(|bound| bound.parse::<u32>().ok());
    assert!(bound.is_some_and(|bound| bound < 10_000), "{bound:?}");
    let rows = mta.ctl_rows(&["sandbox"]);
    let uids = |is_runner: bool| {
        let rows = rows.iter().filter(move |row| {
            row["process"].as_str().is_some_and(|name| name.starts_with("runner")) == is_runner
        });
        rows.map(|row| row["uids"][0].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(uids(true), [uid]);
    assert!(uid != 0 && !uids(false).contains(&uid));
}
