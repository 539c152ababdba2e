//! One message through all processes, and what a newcomer tries next.

use vsmtp_tests::{Client, Mta, Settings, Sink, wait_until};

const MESSAGE: &str = "From: a@src.test\r\nSubject: hello\r\n\r\nfirst light";

#[test]
fn a_message_reaches_its_maildir() {
    let mta = Mta::start(&Settings::default());
    let reply = Client::hello(mta.port()).mail("a@src.test", &["b@local.test"], MESSAGE);
    assert_eq!(reply.code(), 250, "{reply:?}");
    assert!(reply.0.contains("queued as"), "{reply:?}");
    let mail = &mta.wait_for_mail("local.test", "b", 1)[0];
    assert!(mail.starts_with("Return-Path: <a@src.test>"), "{mail}");
    assert!(mail.contains("\nReceived: from client.test"), "{mail}");
    assert!(mail.contains("Subject: hello"), "{mail}");
    wait_until("the queue is empty", || mta.queued() == 0);
}

#[test]
fn a_message_reaches_the_next_hop_byte_for_byte() {
    let sink = Sink::start();
    let config = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port());
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let message = format!("{MESSAGE}\r\n..stuffed\r\n\r\n");
    let reply = Client::hello(mta.port()).mail("a@src.test", &["b@dst.test", "c@dst.test"], &message);
    assert_eq!(reply.code(), 250, "{reply:?}");
    wait_until("the sink has it", || !sink.messages().is_empty());
    let got = &sink.messages()[0];
    assert_eq!(
        (got.from.as_str(), got.to.clone()),
        ("a@src.test", vec!["b@dst.test".into(), "c@dst.test".into()])
    );
    assert!(got.data.ends_with("\r\n\r\nfirst light\r\n.stuffed\r\n\r\n\r\n"), "{:?}", got.data);
    wait_until("the queue is empty", || mta.queued() == 0);
}

#[test]
fn strangers_cannot_relay_and_unknown_users_are_refused_at_rcpt() {
    let config =
        "config.server.relay_from = [\"192.0.2.0/24\"]; config.delivery.mailboxes = [\"b\"];".to_owned();
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let mut client = Client::hello(mta.port());
    assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
    assert_eq!(client.say("RCPT TO:<x@elsewhere.test>").code(), 554);
    assert_eq!(client.say("RCPT TO:<nobody@local.test>").code(), 550);
    assert_eq!(client.say("RCPT TO:<b@local.test>").code(), 250);
    assert_eq!(client.say("RCPT TO:<postmaster>").code(), 250);
}
