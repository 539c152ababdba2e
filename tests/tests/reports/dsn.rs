//! Delivery reports that a sender asked for (RFC 3461), and the wishes that travel on to a next hop that knows of them.

use vsmtp_tests::{Client, Mta, Postfix, Settings, Sink, needs_programs, needs_root, wait_until};

use crate::{commands, offering, relaying_to, report, send};

const MESSAGE: &str = "From: a@local.test\r\nSubject: a question\r\n\r\nthe whole text";

fn can_read(test: &str) -> bool {
    needs_programs(test, &["python3"])
}

#[test]
fn success_in_a_mailbox_is_delivered() {
    if !can_read("success_in_a_mailbox_is_delivered") {
        return;
    }
    let mta = Mta::start(&Settings::default());
    let to = ["<b@local.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;B+2Bx@old.test", "<c@local.test>"];
    send(&mta, "<a@local.test> RET=FULL ENVID=QQ+2B31+3D4", &to, MESSAGE);
    let report = report(&mta, "a", 0);
    assert_eq!(report["message"]["Original-Envelope-Id"], "QQ+31=4", "{report}");
    let [b] = report["recipients"].as_array().expect("a list").as_slice() else { panic!("{report}") };
    assert_eq!(b["Original-Recipient"], "rfc822; B+x@old.test");
    assert_eq!(b["Final-Recipient"], "rfc822; b@local.test");
    assert_eq!(b["Action"], "delivered");
    assert!(b["Status"].as_str().is_some_and(|status| status.starts_with("2.")), "{b}");
    assert_eq!(report["types"][2], "text/rfc822-headers", "success returns the header, whatever RET says");
    assert!(!report["returned"].to_string().contains("the whole text"), "{report}");
    mta.wait_for_mail("local.test", "c", 1);
    wait_until("the queue is empty", || mta.queued() == 0);
    assert_eq!(mta.maildir("local.test", "a").len(), 1);
}

#[test]
fn success_at_a_next_hop_that_knows_no_reports_is_relayed() {
    if !can_read("success_at_a_next_hop_that_knows_no_reports_is_relayed") {
        return;
    }
    let (sink, said) = offering("");
    let mta = relaying_to(sink.port(), "");
    let to = [
        "<b@dst.test> NOTIFY=SUCCESS",
        "<c@dst.test> NOTIFY=SUCCESS ORCPT=rfc822;x@y",
        "<d@dst.test> NOTIFY=NEVER",
    ];
    send(&mta, "<a@local.test> ENVID=e", &to, MESSAGE);
    let report = report(&mta, "a", 0);
    let recipients = report["recipients"].as_array().expect("a list");
    assert_eq!(recipients.len(), 2, "one report for both: {report}");
    for one in recipients {
        assert_eq!(
            (one["Action"].as_str(), one["Remote-MTA"].as_str()),
            (Some("relayed"), Some("dns; [127.0.0.1]")),
            "{one}"
        );
    }
    assert!(commands(&said, "RCPT").iter().all(|line| line.ends_with('>')), "{:?}", said.lock());
    wait_until("the queue is empty", || mta.queued() == 0);
    assert_eq!(mta.maildir("local.test", "a").len(), 1);
}

#[test]
fn a_next_hop_that_knows_reports_gets_the_wishes_and_the_duty() {
    let (sink, said) = offering("250-DSN\r\n");
    let mta = relaying_to(sink.port(), "");
    let to = [
        "<b@dst.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+2Bx+20y@old.test",
        "<c@dst.test>",
        "<d@dst.test> NOTIFY=NEVER",
        "<e@dst.test> NOTIFY=FAILURE,DELAY",
    ];
    send(&mta, "<a@local.test> RET=HDRS ENVID=a+3Db", &to, MESSAGE);
    wait_until("it was taken", || sink.count() == 1);
    wait_until("the queue is empty", || mta.queued() == 0);
    let mail = commands(&said, "MAIL").remove(0);
    assert!(mail.contains(" RET=HDRS") && mail.contains(" ENVID=a+3Db"), "{mail}");
    let rcpt = commands(&said, "RCPT");
    assert_eq!(rcpt[0], "RCPT TO:<b@dst.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+2Bx+20y@old.test");
    assert_eq!(rcpt[1], "RCPT TO:<c@dst.test>");
    assert_eq!(rcpt[2], "RCPT TO:<d@dst.test> NOTIFY=NEVER");
    assert_eq!(rcpt[3], "RCPT TO:<e@dst.test> NOTIFY=FAILURE,DELAY");
    assert_eq!(mta.mail_count("local.test", "a"), 0, "the duty went on with the message");
    assert!(!mta.log().contains("event=reported"));
}

#[test]
fn lmtp_is_final() {
    if !can_read("lmtp_is_final") {
        return;
    }
    let sink = Sink::start();
    let config = format!(
        "config.delivery.local = \"lmtp:[127.0.0.1]:{}\"; config.delivery.relayhost = \"[127.0.0.1]:{}\";",
        sink.port(),
        sink.port()
    );
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    send(&mta, "<a@elsewhere.test>", &["<b@local.test> NOTIFY=SUCCESS"], MESSAGE);
    wait_until("the message and its report were taken", || sink.count() == 2);
    let told = sink.messages().into_iter().find(|message| message.from.is_empty()).expect("a report").data;
    assert!(told.contains("Action: delivered"), "{told}");
}

#[test]
fn who_said_never_hears_nothing_and_ret_is_kept() {
    if !can_read("who_said_never_hears_nothing_and_ret_is_kept") {
        return;
    }
    let sink =
        Sink::scripted(|line| line.starts_with("RCPT TO:<no").then(|| "550 5.1.1 no such user".to_owned()));
    let mta = relaying_to(sink.port(), "");
    send(&mta, "<never@local.test>", &["<no@dst.test> NOTIFY=NEVER"], MESSAGE);
    send(&mta, "<success@local.test>", &["<no@dst.test> NOTIFY=SUCCESS"], MESSAGE);
    for (user, ret, content) in [
        ("default", "", "message/rfc822"),
        ("full", " RET=FULL", "message/rfc822"),
        ("hdrs", " RET=HDRS", "text/rfc822-headers"),
    ] {
        send(&mta, &format!("<{user}@local.test>{ret}"), &["<no@dst.test> NOTIFY=FAILURE"], MESSAGE);
        let report = report(&mta, user, 0);
        assert_eq!(report["types"][2], content, "{report}");
        assert_eq!(report["recipients"][0]["Action"], "failed");
        assert_eq!(
            report["returned"].to_string().contains("the whole text"),
            content == "message/rfc822",
            "{report}"
        );
    }
    wait_until("the queue is empty", || mta.queued() == 0);
    for user in ["never", "success"] {
        assert_eq!(mta.mail_count("local.test", user), 0, "{user}");
    }
}

#[test]
fn an_alias_for_several_is_reported_as_expanded() {
    if !can_read("an_alias_for_several_is_reported_as_expanded") {
        return;
    }
    let (sink, said) = offering("250-DSN\r\n");
    let aliases = "config.delivery.aliases = #{ \"team@local.test\": [\"b@local.test\", \"c@dst.test\"], \"one@local.test\": \"d@dst.test\" };";
    let mta = relaying_to(sink.port(), aliases);
    let to = [
        "<team@local.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;T@old.test",
        "<one@local.test> NOTIFY=SUCCESS",
    ];
    send(&mta, "<a@local.test> ENVID=e1", &to, MESSAGE);
    let report = report(&mta, "a", 0);
    let [team] = report["recipients"].as_array().expect("a list").as_slice() else { panic!("{report}") };
    assert_eq!(
        (team["Action"].as_str(), team["Final-Recipient"].as_str()),
        (Some("expanded"), Some("rfc822; team@local.test"))
    );
    assert_eq!(
        (team["Original-Recipient"].as_str(), report["message"]["Original-Envelope-Id"].as_str()),
        (Some("rfc822; T@old.test"), Some("e1"))
    );
    assert!(report["returned"].to_string().contains("a question"), "{report}");
    mta.wait_for_mail("local.test", "b", 1);
    wait_until("the queue is empty", || mta.queued() == 0);
    let mut rcpt = commands(&said, "RCPT");
    rcpt.sort();
    assert_eq!(
        rcpt,
        [
            "RCPT TO:<c@dst.test> NOTIFY=FAILURE ORCPT=rfc822;T@old.test",
            "RCPT TO:<d@dst.test> NOTIFY=SUCCESS ORCPT=rfc822;one@local.test"
        ]
    );
    assert_eq!(mta.maildir("local.test", "a").len(), 1, "the members of the alias are not reported");
}

#[test]
fn wishes_that_hold_what_no_header_may_are_refused() {
    let mta = Mta::start(&Settings::default());
    let mut client = Client::hello(mta.port());
    for bad in
        ["ENVID=+00", "ENVID=a+0D+0Ab", "ENVID=+", "ENVID=a+b", "RET=ALL", "RET=FULL RET=FULL", "ENVID="]
    {
        assert_eq!(client.say(&format!("MAIL FROM:<a@src.test> {bad}")).code(), 501, "{bad}");
    }
    assert_eq!(client.say("MAIL FROM:<a@src.test> NOTIFY=NEVER").code(), 555);
    assert_eq!(client.say("MAIL FROM:<a@src.test> ENVID=ok RET=hdrs").code(), 250);
    for bad in [
        "NOTIFY=NEVER,SUCCESS",
        "NOTIFY=",
        "ORCPT=rfc822;+00",
        "ORCPT=rfc822;a+0D+0Ab",
        "ORCPT=a@b",
        "ORCPT=utf-8;\\x{0}",
    ] {
        assert_eq!(client.say(&format!("RCPT TO:<b@local.test> {bad}")).code(), 501, "{bad}");
    }
    assert_eq!(client.say("RCPT TO:<b@local.test> NOTIFY=never ORCPT=rfc822;+2B").code(), 250);
    assert_eq!(client.say("QUIT").code(), 221);
    let mta =
        Mta::start(&Settings { config: "config.server.esmtp.dsn = false;".into(), ..Settings::default() });
    let mut client = Client::connect(mta.port());
    client.reply();
    assert!(!client.say("EHLO c").0.contains("DSN"));
    assert_eq!(client.say("MAIL FROM:<a@src.test> RET=HDRS").code(), 555);
}

#[test]
fn postfix_takes_the_duty_over() {
    let test = "postfix_takes_the_duty_over";
    if !needs_programs(test, &["postfix", "postcat", "python3"]) || !needs_root(test) {
        return;
    }
    let sink = Sink::start();
    let strict = Sink::scripted(|line| line.starts_with("RCPT").then(|| "550 5.1.1 nobody".to_owned()));
    let mut mta = Mta::prepare(&Settings::default());
    let postfix = Postfix::start(&format!(
        "relayhost = [127.0.0.1]:{}\ntransport_maps = inline:{{ dst.test=smtp:[127.0.0.1]:{}, bad.test=smtp:[127.0.0.1]:{} }}",
        mta.port(),
        sink.port(),
        strict.port()
    ));
    let config = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", postfix.port());
    mta.write_configuration(&Settings { config, ..Settings::default() });
    mta.launch();
    send(
        &mta,
        "<s@local.test> ENVID=one+2Btwo",
        &["<b@dst.test> NOTIFY=SUCCESS ORCPT=rfc822;B@old.test"],
        MESSAGE,
    );
    let told = mta.wait_for_mail("local.test", "s", 1).remove(0);
    assert!(told.contains("Action: relayed") && told.contains("Reporting-MTA: dns; postfix.test"), "{told}");
    assert!(told.contains("Original-Recipient: rfc822;B@old.test"), "{told}");
    assert!(told.contains("Original-Envelope-Id: one+two"), "{told}");
    send(&mta, "<f@local.test> RET=HDRS", &["<b@bad.test>", "<c@bad.test> NOTIFY=NEVER"], MESSAGE);
    let told = mta.wait_for_mail("local.test", "f", 1).remove(0);
    assert!(
        told.contains("b@bad.test") && !told.contains("c@bad.test") && !told.contains("the whole text"),
        "{told}"
    );
    wait_until("all queues are empty", || postfix.queued() == 0 && mta.queued() == 0);
    assert!(!mta.log().contains("event=reported"), "we reported nothing ourselves");
}
