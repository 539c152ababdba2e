//! Plugins that crash, hang, leave, lie and try to get out.

use std::path::PathBuf;

use vsmtp_tests::{Client, Mta, native, wait_until};

use crate::{site, write};

const HOSTILE: &str = "tests/tests/plugins/hostile.c";
/// The plugin does what the sender is called.
const RULES: &str = r#"
import "plugins/hostile" as hostile;
#{
    rcpt: [
        action "call" || { hostile::act(ctx::mail_from().local_part); },
    ],
    preq: [
        action "tell" || { msg::append_header("X-Told", `${hostile::act(ctx::mail_from().local_part)}`); },
    ],
}
"#;

/// An MTA whose rules call it, not started.
fn with_hostile(more: &[&str], config: &str) -> Mta {
    let mta = site(RULES, config);
    let (made, root) = (native::place(&mta).join("built.so"), format!("-DROOT=\"{}\"", mta.root().display()));
    native::compile(&native::source(HOSTILE), &made, &[&[root.as_str()], more].concat());
    native::install(&mta, "hostile", &made);
    mta
}

/// The one in Rust.
fn sdk() -> PathBuf {
    let words = ["-p", "vsmtp-plugin", "--example", "vsmtp_hostile_sdk"];
    native::build(&words, "examples/libvsmtp_hostile_sdk.so")
}

fn send(mta: &Mta, from: &str) -> u16 {
    let mut client = Client::hello(mta.port());
    client.mail(&format!("{from}@src.test"), &["b@local.test"], "Subject: x\r\n\r\nx").code()
}

/// How often the filter of sessions was started again.
fn restarts(mta: &Mta) -> u64 {
    let processes = mta.processes();
    processes.iter().find(|one| one.name.starts_with("filter-session")).map_or(0, |one| one.restarts)
}

/// Mail goes on, once the filter is back.
fn goes_on(mta: &Mta, accepted: &mut usize) {
    wait_until("mail is accepted again", || match send(mta, "good") {
        250 => true,
        451 => false,
        other => panic!("mail was answered with {other}"),
    });
    *accepted += 1;
}

#[test]
fn a_plugin_that_ends_its_process_costs_what_is_under_way_a_451_and_nothing_else() {
    let mut mta = with_hostile(&[], "");
    mta.launch();
    let (mut accepted, mut ends) = (0, 0);
    goes_on(&mta, &mut accepted);
    for act in ["segfault", "abort", "exit", "overflow"] {
        // Another session is in the middle of a transaction.
        let mut other = Client::hello(mta.port());
        assert_eq!(other.say("MAIL FROM:<good@src.test>").code(), 250);
        assert_eq!(send(&mta, act), 451, "{act}");
        ends += 1;
        wait_until("the filter was started again", || restarts(&mta) == ends);
        assert_eq!(other.say("NOOP").code(), 250, "{act}: the session lives");
        goes_on(&mta, &mut accepted);
    }
    assert_eq!(
        mta.wait_for_mail("local.test", "b", accepted).len(),
        accepted,
        "all that was accepted arrived"
    );
    assert_eq!(mta.processes().iter().filter(|one| one.restarts > 0).count(), 1, "nobody else has died");
}

#[test]
fn a_message_on_which_filters_die_keeps_no_other_waiting() {
    let rules = r#"
        import "plugins/hostile" as hostile;
        #{ postq: [ action "call" || { hostile::act(ctx::mail_from().local_part); } ] }"#;
    let mut mta = with_hostile(&[], "");
    write(&mta, "filter.vsl", rules);
    mta.launch();
    assert_eq!(send(&mta, "segfault"), 250, "it is accepted before anybody dies of it");
    // Some of these are there when a filter dies, and none of them both times.
    for _ in 0..5 {
        assert_eq!(send(&mta, "good"), 250);
    }
    assert_eq!(mta.wait_for_mail("local.test", "b", 5).len(), 5);
    // What is in a mailbox leaves the queue a moment later.
    mta.logged_often("event=removed", 5);
    assert_eq!(mta.queued(), 1, "it waits, and is not lost");
    assert_eq!(restarts(&mta), 0, "the filter of sessions has seen nothing of it");
}

#[test]
fn a_call_that_does_not_end_ends_its_process_and_delays_nobody() {
    let mut mta = with_hostile(&[], "config.filter.timeout = \"1s\";");
    mta.launch();
    let mut accepted = 0;
    goes_on(&mta, &mut accepted);
    let port = mta.port();
    let stuck = std::thread::spawn(move || {
        let mut client = Client::hello(port);
        client.mail("forever@src.test", &["b@local.test"], "x").code()
    });
    wait_until("a worker is stuck", || {
        // Others are served meanwhile, by other threads.
        goes_on(&mta, &mut accepted);
        mta.log().contains("event=plugin-hangs")
    });
    assert!(accepted > 2, "mail went on before the process was ended");
    assert_eq!(stuck.join().expect("the client"), 451);
    wait_until("the filter was started again", || restarts(&mta) == 1);
    goes_on(&mta, &mut accepted);
    mta.logged("function=hostile::act");
    // One that was stored as its filter ended may have been answered with 451: it arrives, and nobody has promised it.
    assert!(mta.wait_for_mail("local.test", "b", accepted).len() >= accepted);
}

#[test]
fn an_object_that_does_not_end_ends_its_process() {
    let rules = r#"
        import "plugins/sdk" as sdk;
        #{ rcpt: [ action "make" || { if ctx::mail_from().local_part == "stuck" { sdk::stuck(); } } ] }"#;
    let mut mta = site(rules, "");
    native::install(&mta, "sdk", &sdk());
    mta.launch();
    assert_eq!(send(&mta, "stuck"), 451);
    assert!(mta.log().contains("event=plugin-hangs function=\"the end of an object of "), "{}", mta.log());
    wait_until("the filter was started again", || restarts(&mta) == 1);
    goes_on(&mta, &mut 0);
}

#[test]
fn a_plugin_that_fails_or_lies_costs_its_own_message() {
    let mut mta = with_hostile(&[], "");
    mta.launch();
    let says = [
        ("throw", "a tantrum"),
        ("silent", "it failed with 7, and did not say why"),
        ("latin", "caf"),
        ("handle", "no such handle"),
        ("octets", "refused"),
        ("length", "refused"),
        ("itself", "nested deeper than"),
    ];
    for (act, why) in says {
        assert_eq!(send(&mta, act), 451, "{act}");
        wait_until("it is in the log", || {
            let failed = |line: &&str| line.contains("event=script-failed") && line.contains(why);
            mta.log()
                .lines()
                .filter(failed)
                .any(|line| line.contains("filter.vsl:5") && line.contains("stage=rcpt"))
        });
    }
    for act in ["thread", "thread"] {
        assert_eq!(send(&mta, act), 250, "a thread that stays is nobody's concern");
    }
    assert_eq!(send(&mta, "good"), 250);
    assert_eq!(restarts(&mta), 0, "{}", mta.log());
}

#[test]
fn a_panic_in_a_plugin_in_rust_costs_its_own_message() {
    let rules = r#"
        import "plugins/sdk" as sdk;
        #{ rcpt: [ action "call" || {
            let act = `${ctx::mail_from().local_part}`;
            if act == "panics" { sdk::panics(); }
            if act == "indexes" { sdk::indexes([1]); }
            if act == "fails" { sdk::fails("on purpose, too"); }
            if act == "nameless" { sdk::nameless(); }
            if act == "wrong" { sdk::fails(7); }
        } ] }"#;
    let mut mta = site(rules, "");
    native::install(&mta, "sdk", &sdk());
    mta.launch();
    let says = [
        ("panics", "the plugin has panicked: on purpose"),
        ("indexes", "the plugin has panicked: index out of bounds"),
        ("fails", "sdk::fails: on purpose, too"),
        ("nameless", "has not named the type"),
        ("wrong", "sdk::fails takes a string as its argument 1, not i64"),
    ];
    for (act, why) in says {
        assert_eq!(send(&mta, act), 451, "{act}");
        wait_until("it is in the log", || mta.log().contains(why));
    }
    assert_eq!(send(&mta, "good"), 250);
    assert_eq!(restarts(&mta), 0);
}

#[test]
fn values_come_back_as_they_were() {
    let rules = r#"
        import "plugins/sdk" as sdk;
        fn check(what, holds) { if !holds { throw `wrong: ${what}`; } }
        #{ rcpt: [ action "call" || {
            let all = #{ a: [1, -2, 2.5, true, (), "ü", ""], b: #{ c: [], d: #{} } };
            check("map", `${sdk::echo(all)}` == `${all}`);
            check("unit", sdk::echo(()) == ());
            check("blob", sdk::echo(blob(3, 7)) == blob(3, 7));
            check("address", sdk::echo(ctx::mail_from()) == `${ctx::mail_from()}`);
            check("float", sdk::half(3) == 1.5);
            let five = sdk::echo([sdk::number(5)])[0];
            check("object", five.plus(sdk::number(2)).value() == 7);
            check("name", `${five}` == "hostile-sdk::number");
        } ] }"#;
    let mut mta = site(rules, "");
    native::install(&mta, "sdk", &sdk());
    mta.launch();
    assert_eq!(send(&mta, "good"), 250, "{}", mta.log());
}

#[test]
fn a_plugin_gets_out_neither_while_it_is_loaded_nor_later() {
    let mut mta = with_hostile(&["-DLOAD=try_all(at_load, sizeof at_load)"], "");
    mta.launch();
    for act in ["escape", "loaded", "code"] {
        assert_eq!(send(&mta, act), 250, "{}", mta.log());
    }
    let mail = mta.wait_for_mail("local.test", "b", 3);
    let told = |from: &str| {
        let mail =
            mail.iter().find(|mail| mail.contains(&format!("<{from}@src.test>"))).expect("the message");
        let told = mail.split("X-Told: ").nth(1).expect("a header").replace("\r\n ", " ");
        told.lines().next().unwrap_or_default().trim().to_owned()
    };
    for from in ["escape", "loaded"] {
        let told = told(from);
        let tries: Vec<&str> = told.split(' ').collect();
        assert_eq!(tries.len(), 9, "{from}: {told}");
        // EPERM, EACCES: all that it tried was forbidden.
        assert!(tries.iter().all(|one| one.ends_with("=1") || one.ends_with("=13")), "{from}: {told}");
    }
    // Nothing new can be executed once rules are loaded, nor can the configuration be read.
    assert_eq!(told("code"), "code=1 config=1");
    assert!(!std::path::Path::new("/tmp/vsmtp-hostile").exists());
}

#[test]
fn the_narrower_jail_holds_behind_the_queue_and_after_a_reload() {
    let rules = r#"
        import "plugins/hostile" as hostile;
        #{ postq: [ action "tell" || { msg::append_header("X-Told", hostile::act("code")); } ] }"#;
    let mut mta = with_hostile(&[], "");
    write(&mta, "filter.vsl", rules);
    mta.launch();
    for count in 1..=2 {
        assert_eq!(send(&mta, "good"), 250);
        let mail = mta.wait_for_mail("local.test", "b", count);
        assert!(mail.iter().all(|mail| mail.contains("X-Told: code=1 config=1")), "{mail:?}");
        assert!(mta.ctl(&["reload"]).status.success());
    }
}

#[test]
fn a_plugin_whose_loading_does_not_end_leaves_the_old_rules_at_work() {
    let mut mta = with_hostile(&[], "");
    mta.launch();
    let before = mta.processes();
    let endless = native::place(&mta).join("endless.so");
    let root = format!("-DROOT=\"{}\"", mta.root().display());
    native::compile(&native::source(HOSTILE), &endless, &[&root, "-DLOAD=for (;;) (void)getpid()"]);
    native::install(&mta, "hostile", &endless);
    assert!(!mta.ctl(&["reload"]).status.success(), "it is ended, and refused");
    assert_eq!(send(&mta, "good"), 250);
    assert_eq!(mta.processes(), before, "nothing has changed");
}

#[test]
fn a_plugin_that_crashes_while_it_is_loaded_leaves_the_old_rules_at_work() {
    let mut mta = with_hostile(&[], "");
    mta.launch();
    assert_eq!(send(&mta, "good"), 250);
    let before = mta.processes();
    let crashes = native::place(&mta).join("crashes.so");
    let root = format!("-DROOT=\"{}\"", mta.root().display());
    native::compile(&native::source(HOSTILE), &crashes, &[&root, "-DLOAD=abort()"]);
    native::install(&mta, "hostile", &crashes);
    let output = mta.ctl(&["reload"]);
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(send(&mta, "good"), 250);
    assert_eq!(mta.processes(), before, "nothing has changed");
    mta.logged("event=plugin-loading name=hostile");
    mta.stop();
    assert!(mta.try_launch().is_err(), "and a start is refused");
}
