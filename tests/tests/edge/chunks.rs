//! CHUNKING and BINARYMIME (RFC 3030) from a client to a mailbox and to the next server: no octet changes on the way.

use vsmtp_tests::{Client, Mta, Settings, Sink, wait_until};

/// Octets without any pattern that a mail system knows, and with all of them.
fn noise(length: usize) -> Vec<u8> {
    let mut out: Vec<u8> = (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    out.extend_from_slice(b"\r\n.\r\nQUIT\r\n\n.\n\r.\r\0From \r");
    out
}

/// Sends a binary message in chunks of at most so many octets.
fn send(client: &mut Client, to: &str, message: &[u8], chunk: usize) {
    assert_eq!(client.say("MAIL FROM:<a@src.test> BODY=BINARYMIME").code(), 250);
    assert_eq!(client.say(&format!("RCPT TO:<{to}>")).code(), 250);
    let chunks: Vec<&[u8]> = message.chunks(chunk).collect();
    for (at, part) in chunks.iter().enumerate() {
        let last = if at + 1 == chunks.len() { " LAST" } else { "" };
        client.send(format!("BDAT {}{last}\r\n", part.len()).as_bytes());
        client.send(part);
        let reply = client.reply();
        assert_eq!(reply.code(), 250, "{reply:?}");
        assert_eq!(reply.0.contains("queued as"), !last.is_empty(), "{reply:?}");
    }
}

#[test]
fn a_binary_message_reaches_its_mailbox_octet_by_octet() {
    let mta = Mta::start(&Settings::default());
    let mut client = Client::connect(mta.port());
    client.reply();
    let hello = client.say("EHLO client.test").0;
    assert!(hello.contains("CHUNKING") && hello.contains("BINARYMIME"), "{hello}");
    // Inline, in one memory file, and in chunks to a staging file.
    for (at, (size, chunk)) in
        [(3000, 1000), (200_000, 200_100), (3_000_000, 300_000)].into_iter().enumerate()
    {
        let body = noise(size);
        let message = [&b"Subject: binary\r\nMIME-Version: 1.0\r\n\r\n"[..], &body].concat();
        let user = format!("user{at}");
        send(&mut client, &format!("{user}@local.test"), &message, chunk);
        mta.wait_for_mail("local.test", &user, 1);
        let arrived = mta.maildir_octets("local.test", &user).remove(0);
        assert!(arrived.ends_with(&[b"Subject: binary\nMIME-Version: 1.0\n\n", &body[..]].concat()));
    }
}

#[test]
fn the_queue_keeps_what_the_body_is() {
    let filter = "#{ rcpt: [ action \"hold\" || queue::hold() ] }".to_owned();
    let mut mta = Mta::start(&Settings { filter, ..Settings::default() });
    let body = noise(500);
    let message = [&b"Subject: binary\r\n\r\n"[..], &body].concat();
    send(&mut Client::hello(mta.port()), "b@local.test", &message, 300);
    mta.stop();
    mta.launch();
    assert!(mta.ctl(&["queue", "release", "--all"]).status.success());
    mta.wait_for_mail("local.test", "b", 1);
    assert!(mta.maildir_octets("local.test", "b")[0].ends_with(&body));
}

fn submit_binary(mta: &Mta, message: &[u8]) {
    let mut client = Client::hello(mta.port());
    assert_eq!(client.say("MAIL FROM:<sender@local.test> BODY=BINARYMIME").code(), 250);
    assert_eq!(client.say("RCPT TO:<b@far.test>").code(), 250);
    client.send(format!("BDAT {} LAST\r\n", message.len()).as_bytes());
    client.send(message);
    assert_eq!(client.reply().code(), 250);
}

#[test]
fn a_binary_message_goes_encoded_to_a_server_that_cannot_take_it() {
    let sink = Sink::start();
    let config = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port());
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let body = noise(500);
    submit_binary(&mta, &[&b"Subject: binary\r\n\r\n"[..], &body].concat());
    wait_until("it has arrived", || sink.count() == 1);
    let data = sink.messages().remove(0).data;
    let (header, text) = data.split_once("\r\n\r\n").expect("a header");
    assert!(header.contains("Content-Transfer-Encoding: base64"), "{header}");
    let file = mta.root().join("body.b64");
    std::fs::write(&file, text).expect("write the body");
    let decoded = std::process::Command::new("base64").arg("-di").arg(&file).output().expect("run base64");
    assert_eq!(decoded.stdout, body);
}

#[test]
fn eight_bits_are_readable_behind_a_server_of_the_old_kind() {
    let sink = Sink::scripted(|line| line.starts_with("EHLO").then(|| "250 sink.test".to_owned()));
    let config = format!("config.delivery.relayhost = \"[127.0.0.1]:{}\";", sink.port());
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let mut client = Client::hello(mta.port());
    assert_eq!(client.say("MAIL FROM:<a@local.test> BODY=8BITMIME").code(), 250);
    assert_eq!(client.say("RCPT TO:<b@far.test>").code(), 250);
    assert_eq!(client.say("DATA").code(), 354);
    client.send(
        "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n.\r\n"
            .as_bytes(),
    );
    assert_eq!(client.reply().code(), 250);
    wait_until("it has arrived", || sink.count() == 1);
    let data = sink.messages().remove(0).data;
    assert!(
        data.ends_with("\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n"),
        "{data}"
    );
}

#[test]
fn a_binary_message_is_not_bent_for_a_server_that_cannot_take_it() {
    let sink = Sink::start();
    let config = format!(
        "config.delivery.relayhost = \"[127.0.0.1]:{}\"; config.delivery.mime_conversion = false;",
        sink.port()
    );
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    submit_binary(&mta, &[&b"Subject: binary\r\n\r\n"[..], &noise(500)].concat());
    let report = mta.wait_for_mail("local.test", "sender", 1).remove(0);
    assert!(report.contains("5.6.3") && report.contains("b@far.test"), "{report}");
    assert!(sink.messages().is_empty());
}

#[test]
fn chunks_may_be_pipelined_with_everything_else() {
    let mta = Mta::start(&Settings::default());
    let mut client = Client::hello(mta.port());
    client.send(
        b"MAIL FROM:<a@src.test>\r\nRCPT TO:<b@local.test>\r\nBDAT 12\r\nSubject: x\r\nBDAT 5 LAST\r\n\r\n.\r\n\
          MAIL FROM:<a@src.test>\r\nBDAT 6 LAST\r\nQUIT\r\nRCPT TO:<c@local.test>\r\nBDAT 3 LAST\r\ny\r\nQUIT\r\n",
    );
    let codes: Vec<u16> = (0..9).map(|_| client.reply().code()).collect();
    assert_eq!(codes, [250, 250, 250, 250, 250, 503, 250, 250, 221]);
    assert!(mta.wait_for_mail("local.test", "b", 1)[0].ends_with("Subject: x\n\n.\n"));
    assert!(mta.wait_for_mail("local.test", "c", 1)[0].ends_with("\ny\n"));
    wait_until("the queue is empty", || mta.queued() == 0);
}

#[test]
fn a_connection_that_ends_within_a_chunk_leaves_nothing() {
    let mta = Mta::start(&Settings::default());
    for cut in [&b"BDAT 100 LAST\r\nSubject: half\r\n"[..], b"BDAT 17\r\nSubject: whole\r\n\r\n"] {
        let mut client = Client::hello(mta.port());
        assert_eq!(client.say("MAIL FROM:<a@src.test>").code(), 250);
        assert_eq!(client.say("RCPT TO:<b@local.test>").code(), 250);
        client.send(cut);
    }
    wait_until("both sessions are gone", || {
        mta.log().contains("event=up") && mta.ctl_json(&["queue", "stats"])["messages"] == 0
    });
    let mut client = Client::hello(mta.port());
    assert_eq!(client.mail("a@src.test", &["b@local.test"], "Subject: last\r\n\r\nx").code(), 250);
    mta.wait_for_mail("local.test", "b", 1);
    assert_eq!(mta.mail_count("local.test", "b"), 1);
}

#[test]
fn chunking_can_be_switched_off() {
    let config = "config.server.esmtp.chunking = false;".to_owned();
    let mta = Mta::start(&Settings { config, ..Settings::default() });
    let mut client = Client::connect(mta.port());
    client.reply();
    let hello = client.say("EHLO client.test").0;
    assert!(!hello.contains("CHUNKING") && !hello.contains("BINARYMIME"), "{hello}");
    client.send(b"BDAT 6 LAST\r\nQUIT\r\n");
    assert_eq!(client.reply().code(), 502);
    assert_eq!(client.say("NOOP").code(), 250);
}
