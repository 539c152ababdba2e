//! A real Exim on both sides of us, under TLS.

use vsmtp_tests::{
    Client, EXIM, Exim, Mta, Settings, make_certificate, needs_programs, needs_root, wait_until,
};

use crate::{ends_with_message, with_lf};

pub fn can_run(test: &str) -> bool {
    needs_programs(test, &[EXIM, "unshare", "openssl"]) && needs_root(test)
}

#[test]
fn exim_sends_us_its_queue_in_chunks_under_tls() {
    if !can_run("exim_sends_us_its_queue_in_chunks_under_tls") {
        return;
    }
    let config = "config.server.tls.certificate = \"mx.pem\"; config.server.tls.private_key = \"mx.key\";\n\
                  config.delivery.mailboxes = [\"b\", \"c\"];"
        .to_owned();
    let mut mta = Mta::prepare(&Settings { config, ..Settings::default() });
    make_certificate(&mta.root().join("etc/vsmtp"), "mx", &["mx.local.test"]);
    mta.launch();
    let exim = Exim::relaying_to(mta.port());
    let message = b"From: a@src.test\nDate: Sun, 22 Nov 2026 07:00:00 +0000\nMessage-ID: <1@src.test>\n\
        Subject: from exim\n\n.dot\n..dots\n\xff\xfe raw\n\nend\n";
    let large = [&message[..], "and so on and so on\n".repeat(100_000).as_bytes()].concat();
    exim.sendmail("a@local.test", &["b@local.test", "c@local.test", "nobody@local.test"], message);
    exim.sendmail("a@src.test", &["b@local.test"], &large);
    mta.wait_for_mail("local.test", "b", 2);
    mta.wait_for_mail("local.test", "c", 1);
    for (user, messages) in [("b", &[message, large.as_slice()][..]), ("c", &[message])] {
        let arrived = mta.maildir_octets("local.test", user);
        for message in messages {
            let whole = arrived.iter().any(|mail| ends_with_message(mail, message));
            assert!(whole, "{} octets changed on their way to {user}", message.len());
        }
        for mail in arrived {
            let text = String::from_utf8_lossy(&mail).into_owned();
            let trace = text.replace("\n\t", " ");
            assert!(trace.contains("from exim.test") && trace.contains(" with ESMTPS id "), "{text:.2000}");
        }
    }
    // It has understood who was refused, and has used what we offer.
    wait_until("exim has heard the refusal", || exim.log().contains("550 5.1.1"));
    let log = exim.log();
    let delivered: Vec<&str> =
        log.lines().filter(|line| line.contains(" T=send ") && line.contains("=>")).collect();
    assert!(delivered.iter().all(|line| line.contains("X=TLS1.3:") && line.contains(" K ")), "{log}");
    assert!(!delivered.is_empty(), "{log}");
}

#[test]
fn exim_takes_what_we_relay_under_tls() {
    if !can_run("exim_takes_what_we_relay_under_tls") {
        return;
    }
    let exim = Exim::keeping();
    let hop = format!("[127.0.0.1]:{}", exim.port());
    let config = format!(
        "config.delivery.relayhost = \"{hop}\";\nconfig.delivery.tls.policy = #{{ \"{hop}\": \"encrypt\" }};"
    );
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let long = "x".repeat(997);
    let bodies = [
        b"plain\r\n".to_vec(),
        b".\r\n..\r\n.dot\r\n\r\n\r\n".to_vec(),
        b"\xff\xfe\x80 raw \xc3\xa9\r\n".to_vec(),
        format!("{long}\r\n.{}\r\n", &long[1..]).into_bytes(),
        "over and over again\r\n".repeat(100_000).into_bytes(),
    ];
    let mut client = Client::hello(mta.port());
    let message = |at: usize| {
        let header = format!(
            "From: a@src.test\r\nMessage-ID: <{at}@src.test>\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\n\r\n"
        );
        [header.as_bytes(), &bodies[at]].concat()
    };
    for at in 0..bodies.len() {
        assert_eq!(client.say("MAIL FROM:<a@src.test> BODY=8BITMIME").code(), 250);
        assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 250);
        let message = message(at);
        client.send(format!("BDAT {} LAST\r\n", message.len()).as_bytes());
        client.send(&message);
        let reply = client.reply();
        assert_eq!(reply.code(), 250, "{reply:?}");
    }
    wait_until("the queue is empty", || mta.queued() == 0);
    wait_until("exim has them all", || exim.kept().len() >= bodies.len());
    let kept = exim.kept();
    assert_eq!(kept.len(), bodies.len());
    for at in 0..bodies.len() {
        let message = with_lf(&message(at));
        assert!(kept.iter().any(|mail| ends_with_message(mail, &message)), "message {at} changed on its way");
    }
    // All came under TLS; in chunks, which `K` stands for, but for the large one, whose lines we do not look at before.
    let log = exim.log();
    let received: Vec<&str> = log.lines().filter(|line| line.contains("<= a@src.test")).collect();
    assert_eq!(received.len(), bodies.len(), "{log}");
    for line in received {
        assert!(line.contains("P=esmtps X=TLS1.3"), "{line}");
        assert_eq!(line.contains(" K "), !line.contains("id=4@src.test"), "{line}");
    }
}
