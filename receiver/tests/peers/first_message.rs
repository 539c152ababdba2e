//! A message from a client to the filter's yes.

use crate::stage::{Stage, slice};
use vsmtp_config::ReceiverSlice;
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision};

#[test]
fn one_message_arrives_with_our_trace_field_first() {
    let (stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    assert_eq!(client.ask("MAIL FROM:<a@client.test> SIZE=20 BODY=8BITMIME"), "250 2.1.0 Ok");
    client.say("RCPT TO:<b@mx.test>");
    let (facts, count) = filter.accept_recipients();
    assert_eq!((count, facts.helo.as_deref(), facts.esmtp, facts.uid), (1, Some("client.test"), true, None));
    assert_eq!(facts.client.unwrap().0.to_string(), "127.0.0.1");
    assert_eq!(facts.server.unwrap().1, stage.address.port());
    assert_eq!(client.reply(), "250 2.1.5 Ok");
    assert!(client.ask("DATA").starts_with("354"));
    client.send("Subject: x\r\n\r\n..dot\r\n.\r\n");
    let bytes = String::from_utf8(filter.accept_message()).unwrap();
    let reply = client.reply();
    let id = reply.strip_prefix("250 2.0.0 queued as ").unwrap();
    assert!(
        bytes.starts_with("Received: from client.test ([127.0.0.1])\r\n\tby mx.test (vSMTP) with ESMTP id ")
    );
    assert!(bytes.contains(id) && bytes.contains("for <b@mx.test>"), "{bytes}");
    assert!(bytes.ends_with("\r\nSubject: x\r\n\r\n.dot\r\n"), "{bytes}");
    assert_eq!(client.ask("QUIT"), "221 2.0.0 Bye");
    assert!(client.is_closed());
    assert!(matches!(filter.hear().0, Ask::Forget { session } if session == facts.session));
}

#[test]
fn pipelined_recipients_share_one_question_and_a_second_message_needs_all_again() {
    let (stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    for _ in 0..2 {
        client.send(
            "MAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\nRCPT TO:<Postmaster>\r\nDATA\r\n",
        );
        assert_eq!(filter.accept_recipients().1, 3);
        let replies: Vec<_> = (0..5).map(|_| client.reply()[..3].to_owned()).collect();
        assert_eq!(replies, ["250", "250", "250", "250", "354"]);
        client.send("x\r\n.\r\n");
        let bytes = String::from_utf8(filter.accept_message()).unwrap();
        assert!(!bytes.contains("for <"), "blind copies: {bytes}");
        assert!(client.reply().starts_with("250 2.0.0 queued as "));
        assert!(client.ask("DATA").starts_with("503"));
    }
}

#[test]
fn no_message_goes_on_with_our_trace_field() {
    let (stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    for (said, expected) in [
        (" by forged.test; it is so\r\n.\r\n", "\r\n\r\n by forged.test; it is so\r\n"),
        ("\tx\r\n y\r\n.\r\n", "\r\n\r\n\tx\r\n y\r\n"),
        ("Subject: a\r\n b\r\n.\r\n", "\r\nSubject: a\r\n b\r\n"),
    ] {
        client.begin(&mut filter);
        client.ask("DATA");
        client.send(said);
        let bytes = String::from_utf8(filter.accept_message()).unwrap();
        assert!(bytes.starts_with("Received: ") && bytes.ends_with(expected), "{bytes}");
        client.reply();
    }
}

#[test]
fn a_filter_is_asked_only_the_stages_that_it_wants() {
    let mut stage = Stage::start(&slice());
    let mut filter = stage.introduce((true, true, true));
    let mut client = stage.connect();
    let Ask::Connect(facts) = filter.hear().0 else { panic!() };
    assert_eq!(facts.helo, None);
    filter.decide(facts.session, Decision::Accept(None));
    assert!(client.reply().starts_with("220"));
    client.say("HELO old.test");
    assert!(
        matches!(filter.hear().0, Ask::Helo(facts) if facts.helo.as_deref() == Some("old.test") && !facts.esmtp)
    );
    filter.decide(facts.session, Decision::Accept(None));
    assert_eq!(client.reply(), "250 mx.test");
    client.say("MAIL FROM:<a@client.test>");
    assert!(matches!(filter.hear().0, Ask::Mail(_, mail) if mail.reverse_path == "a@client.test"));
    filter.decide(facts.session, Decision::Accept(None));
    assert!(client.reply().starts_with("250"));
    client.say("RSET");
    filter.expect_reset();
    assert!(client.reply().starts_with("250"));
}

#[test]
fn the_log_has_one_line_per_message() {
    let (mut stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    client.begin(&mut filter);
    client.ask("DATA");
    client.send("x\r\n.\r\n");
    filter.accept_message();
    client.reply();
    stage.figure("accepted", 1);
    stage.logged("event=accepted");
    let log = stage.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("event=accepted")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("from=<a@client.test> recipients=1 size=3 ms="), "{log}");
}

#[test]
fn what_ehlo_lists_can_be_used() {
    // BODY= comes with 8BITMIME, so without it nobody may be told of BINARYMIME.
    let mut stage = Stage::start(&ReceiverSlice { discard: vec!["8BITMIME".to_owned()], ..slice() });
    let _filter = stage.introduce((false, false, false));
    let mut client = stage.connect();
    client.reply();
    let offered = client.ask("EHLO client.test");
    assert!(offered.contains("CHUNKING") && !offered.contains("8BITMIME"), "{offered}");
    assert!(!offered.contains("BINARYMIME") && !offered.contains("SMTPUTF8"), "{offered}");
    assert!(client.ask("MAIL FROM:<a@client.test> BODY=BINARYMIME").starts_with("555"));
}
