//! What each status means at each stage, and how long a verdict lasts.

use super::*;

#[test]
fn every_status_at_every_stage() {
    // Status; then what the client hears at connect, helo, mail, rcpt, and what becomes of the message at preq.
    for (status, [connect, helo, mail, rcpt, preq]) in [
        ("next()", ["accept", "accept", "accept", "accept", "Active 1 recipients 0 pieces"]),
        ("accept()", ["accept", "accept", "accept", "accept", "Active 1 recipients 0 pieces"]),
        (
            "accept(\"250 2.0.0 fine\")",
            [
                "accept 220 mx.example.com fine",
                "accept",
                "accept 250 2.0.0 fine",
                "accept 250 2.0.0 fine",
                "Active 1 recipients 0 pieces",
            ],
        ),
        ("faccept()", ["accept", "accept", "accept", "accept", "Active 1 recipients 0 pieces"]),
        ("reject()", ["close 421", "refuse 451", "refuse 451", "refuse 451", "refuse 451"]),
        ("reject(\"550 no\")", ["close 550", "refuse 550", "refuse 550", "refuse 550", "refuse 550"]),
        ("info(\"450 no\")", ["close 421", "refuse 450", "refuse 450", "refuse 450", "refuse 450"]),
        ("deny()", ["close 554", "close 554", "close 554", "close 554", "close 554"]),
        ("deny(\"421 bye\")", ["close 421", "close 421", "close 421", "close 421", "close 421"]),
        (
            "quarantine(\"q/1\")",
            ["accept", "accept", "accept", "accept", "Quarantine(\"q/1\") 1 recipients 0 pieces"],
        ),
        ("throw \"x\"", ["close 421", "refuse 451", "refuse 451", "refuse 451", "refuse 451"]),
        ("5", ["close 421", "refuse 451", "refuse 451", "refuse 451", "refuse 451"]),
        (
            "ctx::rcpt_list(); nothing()",
            ["close 421", "refuse 451", "refuse 451", "refuse 451", "refuse 451"],
        ),
    ] {
        let rule = |stage: &str| bench(&format!("#{{ {stage}: [ rule \"r\" || {{ {status} }} ] }}"));
        let command = |bench: &Bench, stage| show(&bench.judge.command(&bench.shared, stage));
        assert_eq!(command(&rule("connect"), Stage::Connect), connect, "connect {status}");
        assert_eq!(command(&rule("helo"), Stage::Helo), helo, "helo {status}");
        assert_eq!(show(&rule("mail").begin()), mail, "mail {status}");
        let at_rcpt = rule("rcpt");
        at_rcpt.begin();
        assert_eq!(at_rcpt.rcpt("jane@example.com"), rcpt, "rcpt {status}");
        let kept = if rcpt.starts_with("accept") { "jane@example.com" } else { "" };
        assert_eq!(at_rcpt.recipients(), kept, "{status}");
        let at_preq = rule("preq");
        at_preq.begin();
        at_preq.rcpt("jane@example.com");
        assert_eq!(show_message(&at_preq.message(MESSAGE)), preq, "preq {status}");
    }
}

#[test]
fn sticky_verdicts_end_with_the_transaction_or_last_as_long_as_the_session() {
    let script = "#{ mail: [ rule \"m\" || faccept() ], rcpt: [ rule \"r\" || deny() ], preq: [ rule \"p\" || deny() ] }";
    let bench_mail = bench(script);
    bench_mail.begin();
    assert_eq!(bench_mail.rcpt("jane@example.com"), "accept");
    assert_eq!(show_message(&bench_mail.message(MESSAGE)), "Active 1 recipients 0 pieces");

    let once = bench(
        "#{ rcpt: [ rule \"r\" || if ctx::rcpt() is \"jane@example.com\" { quarantine(\"q\") } else { next() } ] }",
    );
    once.begin();
    once.rcpt("jane@example.com");
    assert_eq!(show_message(&once.message(MESSAGE)), "Quarantine(\"q\") 1 recipients 0 pieces");
    once.begin();
    once.rcpt("joe@example.org");
    assert_eq!(show_message(&once.message(MESSAGE)), "Active 1 recipients 0 pieces");

    let session = bench(
        "#{ connect: [ rule \"c\" || { queue::hold(); quarantine(\"s\") } ], preq: [ rule \"p\" || deny() ] }",
    );
    assert_eq!(session.judge.command(&session.shared, Stage::Connect), Decision::Accept(None));
    for _ in 0..2 {
        session.begin();
        session.rcpt("jane@example.com");
        assert_eq!(show_message(&session.message(MESSAGE)), "Quarantine(\"s\") 1 recipients 0 pieces");
    }
}

#[test]
fn only_a_rule_that_accepts_the_recipient_itself_opens_the_relay() {
    for (script, expected) in [
        ("#{}", "refuse 554"),
        ("#{ rcpt: [ rule \"r\" || next() ] }", "refuse 554"),
        ("#{ rcpt: [ action \"r\" || accept() ] }", "refuse 554"),
        ("#{ rcpt: [ rule \"r\" || accept() ] }", "accept"),
        ("#{ rcpt: [ rule \"r\" || faccept() ] }", "accept"),
        ("#{ rcpt: [ rule \"r\" || quarantine(\"q\") ] }", "refuse 554"),
        ("#{ mail: [ rule \"r\" || faccept() ] }", "refuse 554"),
        ("#{ mail: [ rule \"r\" || accept() ] }", "refuse 554"),
        ("#{ rcpt: [ action \"r\" || envelop::rw_rcpt(ctx::rcpt(), \"jane@example.com\") ] }", "accept"),
        ("#{ rcpt: [ action \"r\" || throw \"x\" ] }", "refuse 451"),
    ] {
        let bench = bench(script);
        bench.begin();
        assert_eq!(bench.rcpt("x@elsewhere.example"), expected, "{script}");
    }
    let accepting = bench("#{ rcpt: [ rule \"r\" || faccept() ] }");
    accepting.begin();
    assert_eq!(accepting.rcpt("jane@example.com"), "accept");
    assert_eq!(
        accepting.rcpt("x@elsewhere.example"),
        "refuse 554",
        "the first recipient's verdict is not the second's"
    );
    assert_eq!(accepting.rcpt("nobody@example.com"), "refuse 550");
}

#[test]
fn only_a_final_accept_skips_the_rules_after_the_queue() {
    for (script, judged) in [
        ("#{ preq: [ rule \"r\" || next() ] }", false),
        ("#{ preq: [ rule \"r\" || accept() ] }", false),
        ("#{ preq: [ rule \"r\" || faccept() ] }", true),
        ("#{ rcpt: [ rule \"r\" || faccept() ] }", true),
        ("#{ mail: [ rule \"r\" || faccept() ] }", true),
        ("#{ connect: [ rule \"r\" || faccept(\"220 hello\") ] }", true),
    ] {
        let bench = bench(script);
        bench.judge.command(&bench.shared, Stage::Connect);
        bench.begin();
        assert_eq!(bench.rcpt("jane@example.com"), "accept");
        assert_eq!(only(bench.message(MESSAGE)).judged, judged, "{script}");
    }
}

#[test]
fn the_reply_of_a_final_accept_is_said_once() {
    let bench = bench("#{ mail: [ rule \"r\" || faccept(\"250 2.1.0 trusted\") ] }");
    assert_eq!(show(&bench.begin()), "accept 250 2.1.0 trusted");
    assert_eq!(bench.rcpt("jane@example.com"), "accept");
    let Judged::Store { reply, .. } = bench.message(MESSAGE) else { panic!() };
    assert_eq!(reply, None);
}
