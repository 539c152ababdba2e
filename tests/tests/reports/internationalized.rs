//! Mail whose addresses and header are not ASCII (RFC 6530 to 6533).

use vsmtp_tests::{Client, Mta, Settings, Sink, needs_programs, wait_until};

use crate::{commands, offering, relaying_to, report, send};

const MESSAGE: &str = "From: j\u{f6}rg@local.test\r\nSubject: gr\u{fc}\u{df}e\r\n\r\nhallo";
const PLAIN: &str = "From: a@local.test\r\nSubject: plain\r\n\r\nhallo";

#[test]
fn addresses_that_are_not_ascii_need_the_parameter_and_must_be_utf8() {
    let mta = Mta::start(&Settings::default());
    let mut client = Client::connect(mta.port());
    client.reply();
    assert!(client.say("EHLO client.test").0.contains("SMTPUTF8"));
    let refused = client.say("MAIL FROM:<j\u{f6}rg@src.test>");
    assert!(refused.code() == 553 && refused.0.contains("5.6.7"), "{refused:?}");
    client.send(b"MAIL FROM:<j\xf6rg@src.test> SMTPUTF8\r\n");
    assert_eq!(client.reply().code(), 501);
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
    let refused = client.say("RCPT TO:<j\u{f6}rg@local.test>");
    assert!(refused.code() == 553 && refused.0.contains("5.6.7"), "{refused:?}");
    client.say("RSET");
    assert_eq!(client.say("MAIL FROM:<j\u{f6}rg@src.test> SMTPUTF8").code(), 250);
    client.send(b"RCPT TO:<j\xc3\x28rg@local.test>\r\n");
    assert_eq!(client.reply().code(), 501);
    assert_eq!(client.say("VRFY j\u{f6}rg").code(), 553);
    assert_eq!(client.say("RCPT TO:<j\u{f6}rg@local.test>").code(), 250);
    // Whoever offers it must take eight bits too.
    for off in ["smtputf8", "eightbitmime"] {
        let config = format!("config.server.esmtp.{off} = false;");
        let mta = Mta::start(&Settings { config, ..Settings::default() });
        let mut client = Client::hello(mta.port());
        assert!(!client.say("EHLO client.test").0.contains("SMTPUTF8"), "{off}");
        assert_eq!(client.say("MAIL FROM:<a@src.test> SMTPUTF8").code(), 555, "{off}");
    }
}

#[test]
fn mailboxes_and_aliases_have_names_in_any_script() {
    let config = "config.delivery.mailboxes = [\"j\u{f6}rg\", \"\u{7528}\u{6237}@b\u{fc}cher.test\"]; \
        config.server.domains = [\"local.test\", \"b\u{fc}cher.test\"]; \
        config.delivery.aliases = #{ \"\u{e9}quipe@local.test\": [\"j\u{f6}rg@local.test\"] };";
    let mta = Mta::start(&Settings { config: config.into(), ..Settings::default() });
    // Composed and decomposed, upper and lower case, U-label and A-label.
    let to = [
        "<J\u{d6}rg@local.test>",
        "<jo\u{308}rg@local.test>",
        "<\u{7528}\u{6237}@xn--bcher-kva.test>",
        "<\u{e9}quipe@LOCAL.test>",
    ];
    for to in to {
        send(&mta, "<a@src.test> SMTPUTF8", &[to], MESSAGE);
    }
    let mail = mta.wait_for_mail("local.test", "j\u{f6}rg", 3);
    assert!(mail[0].contains("with UTF8SMTP id"), "{}", mail[0]);
    assert!(mail[0].contains("Subject: gr\u{fc}\u{df}e"), "{}", mail[0]);
    mta.wait_for_mail("xn--bcher-kva.test", "\u{7528}\u{6237}", 1);
    let mut client = Client::hello(mta.port());
    assert_eq!(client.say("MAIL FROM:<a@src.test> SMTPUTF8").code(), 250);
    assert_eq!(client.say("RCPT TO:<j\u{f8}rg@local.test>").code(), 550);
}

#[test]
fn a_next_hop_without_it_gets_only_what_is_ascii() {
    let test = "a_next_hop_without_it_gets_only_what_is_ascii";
    if !needs_programs(test, &["python3"]) {
        return;
    }
    let (sink, said) = offering("250-DSN\r\n");
    let mta = relaying_to(sink.port(), "");
    // The parameter alone does not matter: domains are sent as A-labels.
    send(&mta, "<a@local.test> SMTPUTF8", &["<b@b\u{fc}cher.test>"], PLAIN);
    wait_until("it was taken", || sink.count() == 1);
    assert_eq!(commands(&said, "RCPT"), ["RCPT TO:<b@xn--bcher-kva.test>"]);
    assert!(!commands(&said, "MAIL")[0].contains("SMTPUTF8"));
    // The header needs it.
    send(&mta, "<a@local.test> SMTPUTF8", &["<b@dst.test>"], MESSAGE);
    let told = report(&mta, "a", 0);
    assert_eq!(told["recipients"][0]["Status"], "5.6.7", "{told}");
    assert_eq!(told["types"][2], "message/global", "{told}");
    assert!(told["returned"].to_string().contains("gr\u{fc}\u{df}e"), "{told}");
    // An address needs it.
    let orcpt = "ORCPT=utf-8;\\x{7528}\\x{6237}@old.test";
    send(
        &mta,
        "<j\u{f6}rg@local.test> SMTPUTF8 RET=HDRS",
        &[&format!("<\u{7528}\u{6237}@dst.test> {orcpt}")],
        MESSAGE,
    );
    let told = report(&mta, "j\u{f6}rg", 0);
    assert_eq!(told["types"][1], "message/global-delivery-status", "{told}");
    assert_eq!(told["types"][2], "message/global-headers", "{told}");
    assert_eq!(told["recipients"][0]["Final-Recipient"], "utf-8; \u{7528}\u{6237}@dst.test");
    assert_eq!(told["recipients"][0]["Original-Recipient"], "utf-8; \u{7528}\u{6237}@old.test");
    assert_eq!(told["recipients"][0]["Status"], "5.6.7");
    assert_eq!(sink.count(), 1);
}

#[test]
fn a_next_hop_with_it_gets_the_parameter_where_it_is_needed() {
    let (sink, said) = offering("250-SMTPUTF8\r\n250-DSN\r\n");
    let mta = relaying_to(sink.port(), "");
    let orcpt = "<\u{7528}@dst.test> ORCPT=utf-8;\\x{7528}+2B@old.test";
    send(&mta, "<j\u{f6}rg@local.test> SMTPUTF8", &[orcpt], MESSAGE);
    send(&mta, "<a@local.test> SMTPUTF8", &["<b@dst.test>"], PLAIN);
    wait_until("both were taken", || sink.count() == 2);
    let mail = commands(&said, "MAIL");
    assert!(
        mail.iter()
            .any(|line| line.starts_with("MAIL FROM:<j\u{f6}rg@local.test>") && line.contains(" SMTPUTF8")),
        "{mail:?}"
    );
    assert!(
        mail.iter().any(|line| line.starts_with("MAIL FROM:<a@local.test>") && !line.contains(" SMTPUTF8")),
        "{mail:?}"
    );
    let rcpt = commands(&said, "RCPT");
    assert!(rcpt.iter().any(|line| line.starts_with("RCPT TO:<\u{7528}@dst.test> ORCPT=utf-8;")), "{rcpt:?}");
}

#[test]
fn a_sender_without_it_is_told_in_ascii() {
    let test = "a_sender_without_it_is_told_in_ascii";
    if !needs_programs(test, &["python3"]) {
        return;
    }
    let sink = Sink::start();
    let aliases = "config.delivery.aliases = #{ \"info\": [\"j\u{f6}rg@dst.test\", \"b@dst.test\"] };";
    let mta = relaying_to(sink.port(), aliases);
    send(&mta, "<a@local.test>", &["<info@local.test>"], PLAIN);
    let told = report(&mta, "a", 0);
    assert_eq!(told["types"][1], "message/delivery-status", "{told}");
    assert_eq!(told["recipients"][0]["Final-Recipient"], "utf-8; j\\x{F6}rg@dst.test");
    assert_eq!(told["recipients"][0]["Original-Recipient"], "rfc822; info@local.test");
    wait_until("the other one has it", || sink.count() == 1);
    assert_eq!(sink.messages()[0].to, ["b@dst.test"]);
}
