//! A real Postfix on both sides of us.

use vsmtp_tests::{Mta, Postfix, Settings, needs_programs, needs_root, run, said, wait_until};

use crate::{ends_with_message, with_lf};

fn can_run(test: &str) -> bool {
    needs_programs(test, &["postfix", "postcat", "smtp-source"]) && needs_root(test)
}

#[test]
fn postfix_sends_us_its_queue() {
    if !can_run("postfix_sends_us_its_queue") {
        return;
    }
    let mta = Mta::start(&Settings::default());
    let postfix = Postfix::relaying_to(mta.port());
    // With these fields Postfix has nothing to add behind our header.
    let message = b"From: a@src.test\nDate: Sun, 22 Nov 2026 07:00:00 +0000\nMessage-ID: <1@src.test>\n\
        Subject: from postfix\n\n.dot\n..dots\n\xff\xfe raw\n\nend\n";
    postfix.sendmail("a@src.test", &["b@local.test", "c@local.test"], message);
    for user in ["b", "c"] {
        let mail = mta.wait_for_mail("local.test", user, 1).remove(0);
        assert!(
            mail.contains("Subject: from postfix") && mail.contains("by postfix.test (Postfix"),
            "{mail}"
        );
        let octets = mta.maildir_octets("local.test", user).remove(0);
        assert!(ends_with_message(&octets, message), "{mail}");
    }
    let server = format!("127.0.0.1:{}", postfix.port());
    let words = ["-s", "10", "-m", "200", "-l", "3000", "-f", "a@src.test", "-t", "d@local.test", &server];
    said(&run("smtp-source", &words));
    mta.wait_for_mail("local.test", "d", 200);
    wait_until("postfix has sent all", || postfix.queued() == 0);
    assert_eq!(mta.maildir("local.test", "d").len(), 200);
}

#[test]
fn postfix_understands_our_refusals() {
    if !can_run("postfix_understands_our_refusals") {
        return;
    }
    let config = "config.delivery.mailboxes = [\"a\", \"b\"];".to_owned();
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let postfix = Postfix::relaying_to(mta.port());
    postfix.sendmail("a@local.test", &["b@local.test", "nobody@local.test"], b"Subject: two\n\nx\n");
    mta.wait_for_mail("local.test", "b", 1);
    // Its bounce comes back to us, for the one that we refused.
    let bounce = mta.wait_for_mail("local.test", "a", 1).remove(0);
    assert!(bounce.contains("Return-Path: <>"), "{bounce}");
    assert!(bounce.contains("nobody@local.test") && bounce.contains("5.1.1"), "{bounce}");
    wait_until("postfix has sent all", || postfix.queued() == 0);
}

#[test]
fn postfix_takes_what_we_relay() {
    if !can_run("postfix_takes_what_we_relay") {
        return;
    }
    let postfix = Postfix::holding();
    let config = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", postfix.port());
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let long = "x".repeat(998);
    let bodies = [
        b"plain\r\n".to_vec(),
        b".\r\n..\r\n.dot\r\n\r\n\r\n".to_vec(),
        b"\xff\xfe\x80 raw \xc3\xa9\r\n".to_vec(),
        format!("{long}\r\n.{}\r\n", &long[1..]).into_bytes(),
        vec![b'y'; 0],
    ];
    let mut client = vsmtp_tests::Client::hello(mta.port());
    for (at, body) in bodies.iter().enumerate() {
        assert_eq!(client.say("MAIL FROM:<a@src.test> BODY=8BITMIME").code(), 250);
        assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 250);
        assert_eq!(client.say("DATA").code(), 354);
        client.send(header(at).as_bytes());
        client.send(&stuffed(body));
        let reply = client.say(".");
        assert_eq!(reply.code(), 250, "{reply:?}");
    }
    wait_until("the queue is empty", || mta.queued() == 0);
    let held = postfix.wait_for_held(bodies.len());
    for (at, body) in bodies.iter().enumerate() {
        let message = with_lf(&[header(at).as_bytes(), body].concat());
        let found = held.iter().any(|held| ends_with_message(held, &message));
        assert!(found, "message {at} changed on its way: {:?}", String::from_utf8_lossy(&held.concat()));
    }
}

/// A header to which Postfix has nothing to add.
fn header(at: usize) -> String {
    format!(
        "From: a@src.test\r\nTo: b@dst.test\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\n\
         Message-ID: <{at}@src.test>\r\nSubject: {at}\r\n\r\n"
    )
}

/// A body as it is sent: a dot before each dot that begins a line.
fn stuffed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in body.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}
