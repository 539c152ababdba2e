//! What rules ask of the queue and of reports about the message, and what they want said.

use super::*;

fn postq(bench: &Bench, envelope: vsmtp_mail::Envelope) -> PostJudged {
    bench.judge.post(PostMessage {
        id: QueueIdMint::new(1, 1).next(1),
        stage: Some(Stage::Postq),
        is_report: false,
        reroute: false,
        envelope,
        peer: peer(Some("203.0.113.5")),
        helo: "client.test".to_owned(),
        arrived_ms: 0,
        resume: None,
        content: Arc::new(Inline(Arc::new(MESSAGE.to_vec()))),
    })
}

#[test]
fn what_rules_ask_of_the_queue_goes_with_the_message_and_rules_behind_it_see_it() {
    let bench = bench(
        "#{ helo: [ action \"h\" || queue::hold(\"look\\n at it\") ],
            mail: [ action \"m\" || { queue::priority(-4); queue::expire_after(\"2h\") } ],
            postq: [ action \"p\" || if queue::priority() == -4 { queue::priority(9); queue::hold(\"again\") } ] }",
    );
    assert_eq!(show(&bench.judge.command(&bench.shared, Stage::Helo)), "accept");
    bench.shared.lock().keep_for_session();
    bench.begin();
    bench.rcpt("jane@example.com");
    let Stored { envelope, disposition, .. } = only(bench.message(MESSAGE));
    assert_eq!(disposition, Disposition::Hold("look? at it".to_owned()));
    assert_eq!((envelope.terms.priority.number(), envelope.terms.lifetime_s), (-4, Some(7200)));
    let PostJudged::Edit(edit) = postq(&bench, envelope) else { panic!("not edited") };
    assert_eq!(edit.disposition, Disposition::Hold("again".to_owned()));
    assert_eq!((edit.envelope.terms.priority.number(), edit.envelope.terms.lifetime_s), (9, Some(7200)));
    assert_eq!(postq(&bench, edit.envelope), PostJudged::Keep { is_final: false });
    // A client may say how urgent its message is; a rule has the last word.
    let release = Some(vsmtp_mail::Release::After(60));
    let by = vsmtp_mail::DeliverBy::new(600, true, false);
    let urgent = vsmtp_mail::Wishes { priority: vsmtp_mail::Priority::MOST, release, by };
    let silent =
        self::bench("#{ preq: [ rule \"p\" || if queue::priority() == 9 { accept() } else { deny() } ] }");
    silent.begin();
    let mail = silent.shared.lock().mail.clone().unwrap();
    silent.shared.lock().begin(MailSpec { wishes: urgent, ..mail });
    silent.rcpt("jane@example.com");
    let terms = only(silent.message(MESSAGE)).envelope.terms;
    assert_eq!(terms.by, by);
    assert_eq!((terms.priority, terms.not_before_s, terms.release), (urgent.priority, Some(60), release));
    // The next message of the session is held too, and is as urgent as its own rules say.
    bench.shared.lock().reset();
    assert_eq!(bench.shared.lock().terms, vsmtp_mail::Terms::default());
    assert!(bench.shared.lock().hold.is_some());
}

#[test]
fn a_rule_keeps_a_message_back_or_lets_it_go_whatever_its_client_has_asked_for() {
    let until = vsmtp_mail::Release::At(7200);
    for (rule, at_ms, release, expected) in [
        ("queue::deliver_after(\"10m\")", 60_000, None, Some(660)),
        ("queue::deliver_after(\"10m\")", 60_000, Some(until), Some(660)),
        ("queue::deliver_after(\"0s\")", 60_000, Some(until), None),
        ("0", 60_000, Some(until), Some(7200)),
        // No time of release is further away than any may be.
        ("0", 0, Some(vsmtp_mail::Release::At(u64::MAX)), Some(vsmtp_mail::MAX_WAIT_S.into())),
    ] {
        let bench = bench(&format!("#{{ preq: [ action \"p\" || {{ {rule} }} ] }}"));
        bench.begin();
        let mail = bench.shared.lock().mail.clone().unwrap();
        let wishes = vsmtp_mail::Wishes { release, ..Default::default() };
        bench.shared.lock().begin(MailSpec { wishes, at_ms, ..mail });
        bench.rcpt("jane@example.com");
        let Stored { envelope, .. } = only(bench.message(MESSAGE));
        assert_eq!(envelope.terms.not_before_s, expected, "{rule} {release:?}");
        // Who judges it behind the queue knows it too, and leaves it as it is.
        let kept = postq(&bench, envelope);
        assert_eq!(kept, PostJudged::Keep { is_final: false }, "{rule} {release:?}");
    }
}

#[test]
fn what_a_rule_wants_said_is_said_once_and_never_to_a_program() {
    let script = "#{ mail: [ action \"m\" || { notify::send(\"admin@example.com\", \"early\", \"x\") } ],
        preq: [ action \"p\" || { if !notify::send(\"admin@example.com\", \"late\", \"y\") {
            msg::append_header(\"X-Silent\", \"1\") } } ],
        postq: [ action \"q\" || { notify::send(\"admin@example.com\", \"later\", \"z\") } ] }";
    let subjects = |stored: &[vsmtp_ipc::wire::Notice]| {
        stored.iter().map(|notice| notice.subject.clone()).collect::<Vec<_>>().join(" ")
    };
    for (sender, field, expected) in [
        ("a@client.test", "", "early late"),
        ("a@client.test", "Auto-Submitted: no\r\n", "early late"),
        ("a@client.test", "Auto-Submitted: auto-replied\r\n", ""),
        ("", "", ""),
    ] {
        let bench = bench(script);
        bench.begin_as(sender);
        bench.rcpt("jane@example.com");
        let stored = only(bench.message(format!("{field}Subject: x\r\n\r\nx\r\n").as_bytes()));
        assert_eq!(subjects(&stored.notices), expected, "{sender} {field}");
        assert_eq!(stored.pieces.is_empty(), !expected.is_empty(), "the rule knows");
        match postq(&bench, stored.envelope) {
            PostJudged::Edit(edit) => {
                assert_eq!((subjects(&edit.notices), sender), ("later".into(), "a@client.test"))
            }
            other => assert_eq!((other, sender), (PostJudged::Keep { is_final: false }, "")),
        }
        bench.shared.lock().reset();
        assert!(bench.shared.lock().notices.is_empty());
    }
}

#[test]
fn a_message_whose_reports_a_rule_suppresses_has_none_wanted_and_words_go_with_the_others() {
    let bench = bench(
        "#{ mail: [ action \"m\" || { bounce::text(\"a\\r\\nb\"); bounce::from(\"help@example.com\") } ],
            preq: [ action \"p\" || { if ctx::mail_from() == \"b@client.test\" { bounce::suppress() } } ] }",
    );
    for (from, expected) in [("b@client.test", Notify::NEVER), ("a@client.test", Notify::default())] {
        bench.begin_as(from);
        bench.rcpt("jane@example.com");
        let Stored { envelope, .. } = only(bench.message(MESSAGE));
        assert_eq!(envelope.recipients[0].notify, expected, "{from}");
        assert_eq!(envelope.terms.report_text.as_deref(), Some("a\nb"));
        let from = envelope.terms.report_from.map(|address| address.to_string());
        assert_eq!(from.as_deref(), Some("help@example.com"));
    }
}

#[test]
fn rules_behind_the_queue_that_refuse_say_what_reports_say() {
    let words = "bounce::text(\"late\"); bounce::from(\"help@example.com\")";
    for rules in [
        format!("postq: [ rule \"q\" || {{ {words}; deny() }} ]"),
        format!("postq: [ action \"q\" || {{ {words} }} ], delivery: [ rule \"d\" || deny() ]"),
        "preq: [ action \"p\" || bounce::text(\"early\") ], \
         postq: [ rule \"q\" || { bounce::suppress(); state::deny() } ]"
            .to_owned(),
    ] {
        let bench = bench(&format!("#{{ {rules} }}"));
        bench.begin();
        bench.rcpt("jane@example.com");
        let PostJudged::Refuse(_, reports) = postq(&bench, only(bench.message(MESSAGE)).envelope) else {
            panic!("not refused: {rules}")
        };
        let said = (reports.text.as_deref(), reports.from.as_deref(), reports.suppressed);
        let is_early = rules.starts_with("preq");
        let expected = if is_early {
            (Some("early"), None, true)
        } else {
            (Some("late"), Some("help@example.com"), false)
        };
        assert_eq!(said, expected, "{rules}");
    }
}
