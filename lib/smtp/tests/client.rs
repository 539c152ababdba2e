//! The client's side against a scripted server, and against our own server's side.
#![allow(missing_docs, reason = "a test has no public items")]

use std::sync::Arc;

use proptest::prelude::*;
use vsmtp_mail::{Address, BodyType, Domain, Notify, OriginalRecipient, Reply, Ret, ReversePath};
use vsmtp_smtp::{
    Awaiting, ClientSettings, ClientStep, Dialogue, Extension, HostError, HostFault, Outcome, Protocol,
    Question, RemoteRecipient, RequireTls, Session, Settings, Step, Transaction, UseTls, Verdict, Why,
};

struct Client {
    dialogue: Dialogue,
    body: Vec<u8>,
}

impl Client {
    fn new(protocol: Protocol) -> Self {
        Self::with(protocol, UseTls::Never)
    }

    fn with(protocol: Protocol, tls: UseTls) -> Self {
        let settings =
            ClientSettings { protocol, helo: "us.test".into(), pipelining: true, tls, authenticate: false };
        Client { dialogue: Dialogue::new(settings), body: b"Subject: x\r\n\r\n.body".to_vec() }
    }

    /// An idle connection to a server with these EHLO keywords.
    fn ready(keywords: &str) -> Self {
        let mut client = Client::new(Protocol::Smtp);
        client.hear("220 them\r\n");
        assert_eq!(client.sent(), "EHLO us.test\r\n");
        let lines: Vec<_> = keywords.split_whitespace().map(|word| format!("250-{word}\r\n")).collect();
        client.hear(&format!("250-them\r\n{}250 HELP\r\n", lines.concat().replace('=', " ")));
        assert_eq!(client.step(), ClientStep::Idle);
        client
    }

    fn lmtp() -> Self {
        let mut client = Client::new(Protocol::Lmtp);
        client.hear("220 them\r\n");
        assert_eq!(client.sent(), "LHLO us.test\r\n");
        client.hear("250-them\r\n250 PIPELINING\r\n");
        assert_eq!(client.step(), ClientStep::Idle);
        client
    }

    fn start(&mut self, recipients: &[&str]) {
        let transaction = transaction(recipients);
        self.dialogue.start(transaction).unwrap();
    }

    fn hear(&mut self, text: &str) {
        self.dialogue.on_bytes(text.as_bytes());
    }

    /// What was sent since the last call; the body goes out when it is wanted.
    fn sent(&mut self) -> String {
        if self.dialogue.awaiting() == Awaiting::Block {
            self.dialogue.body(&self.body);
            self.dialogue.body_end();
        }
        let text = String::from_utf8(self.dialogue.output().to_vec()).unwrap();
        self.dialogue.sent(text.len());
        text
    }

    fn step(&mut self) -> ClientStep {
        self.dialogue.step()
    }

    fn outcomes(&mut self) -> Vec<String> {
        match self.step() {
            ClientStep::Done(outcomes) => outcomes.iter().map(show).collect(),
            other => panic!("not done: {other:?}"),
        }
    }

    fn error(&mut self) -> HostError {
        match self.step() {
            ClientStep::Closed(Some(error)) => error,
            other => panic!("not closed: {other:?}"),
        }
    }
}

fn show(outcome: &Outcome) -> String {
    let who = |why: &Why| if matches!(why, Why::Local(_)) { "local" } else { "remote" };
    match outcome {
        Outcome::Delivered(reply) => format!("delivered {reply}"),
        Outcome::Defer(why) => format!("defer {} {}", who(why), why.reply()),
        Outcome::Fail(why) => format!("fail {} {}", who(why), why.reply()),
    }
}

fn transaction(recipients: &[&str]) -> Transaction {
    let recipient = |text: &&str| RemoteRecipient {
        address: Address::parse(text).unwrap(),
        notify: None,
        original: None,
    };
    Transaction {
        reverse_path: ReversePath::parse("me@us.test").unwrap(),
        body: BodyType::SevenBit,
        needs_smtputf8: false,
        ret: None,
        envid: None,
        require_tls: RequireTls::No,
        priority: vsmtp_mail::Priority::default(),
        by: None,
        chunked: false,
        size: 100,
        recipients: recipients.iter().map(recipient).collect(),
    }
}

/// A client that has greeted a server with STARTTLS and heard its answer.
fn securing(tls: UseTls, reply: &str) -> Client {
    let mut client = Client::with(Protocol::Smtp, tls);
    client.hear("220 them\r\n");
    assert_eq!(client.sent(), "EHLO us.test\r\n");
    client.hear("250-them\r\n250-SIZE 1000\r\n250 STARTTLS\r\n");
    assert_eq!((client.sent().as_str(), client.dialogue.awaiting()), ("STARTTLS\r\n", Awaiting::StartTls));
    client.hear(reply);
    client
}

#[test]
fn after_starttls_all_begins_again() {
    for tls in [UseTls::IfOffered, UseTls::Always] {
        let mut client = securing(tls, "220 go\r\n");
        assert_eq!((client.step(), client.dialogue.awaiting()), (ClientStep::StartTls, Awaiting::Handshake));
        client.dialogue.tls_started();
        assert_eq!(client.sent(), "EHLO us.test\r\n");
        assert_eq!(client.dialogue.capabilities().size, None);
        // It may offer STARTTLS again, and is not believed.
        client.hear("250-them\r\n250-SIZE 7\r\n250 STARTTLS\r\n");
        assert_eq!((client.step(), client.sent().as_str()), (ClientStep::Idle, ""));
        assert_eq!(client.dialogue.capabilities().size, Some(7));
    }
}

#[test]
fn clear_text_behind_the_answer_to_starttls_ends_the_connection() {
    for (answer, rest) in [
        ("220 go\r\n250-forged\r\n250 AUTH PLAIN\r\n", ""),
        ("220 go\r\n2", ""),
        ("220 go\r\n", "250 forged\r\n"),
    ] {
        let mut client = securing(UseTls::IfOffered, answer);
        client.hear(rest);
        assert_eq!(client.error().fault, HostFault::Protocol, "{answer:?}");
        client.dialogue.tls_started();
        assert!(matches!(client.step(), ClientStep::Closed(Some(_))) && client.sent().is_empty());
    }
}

#[test]
fn a_server_without_tls_is_used_only_where_that_may_be() {
    let clear = |tls| {
        let mut client = Client::with(Protocol::Smtp, tls);
        client.hear("220 them\r\n250 them\r\n");
        client
    };
    assert_eq!(clear(UseTls::IfOffered).step(), ClientStep::Idle);
    let error = clear(UseTls::Always).error();
    assert_eq!(
        (error.fault, error.why.reply().enhanced().unwrap().to_string().as_str()),
        (HostFault::Insecure, "4.7.4")
    );
    // One that knows no EHLO either.
    let old = |tls| {
        let mut client = Client::with(Protocol::Smtp, tls);
        client.hear("220 them\r\n500 what\r\n250 hello\r\n");
        client
    };
    assert_eq!(old(UseTls::IfOffered).step(), ClientStep::Idle);
    assert_eq!(old(UseTls::Always).error().fault, HostFault::Insecure);
    // One that offers it and has none now.
    assert_eq!(securing(UseTls::IfOffered, "454 not now\r\n").step(), ClientStep::Idle);
    let error = securing(UseTls::Always, "454 4.7.0 not now\r\n").error();
    assert!(error.fault == HostFault::Insecure && error.to_string().contains("454 4.7.0 not now"), "{error}");
}

#[test]
fn a_handshake_that_fails_says_so_and_nothing_else_is_sent() {
    let mut client = securing(UseTls::IfOffered, "220 go\r\n");
    client.dialogue.tls_failed("wrong certificate");
    let error = client.error();
    assert_eq!((error.phase, error.fault), (Awaiting::Handshake, HostFault::Insecure));
    assert!(error.to_string().contains("4.7.5 wrong certificate"), "{error}");
    for end in [Dialogue::on_lost, Dialogue::on_timeout] {
        let mut client = securing(UseTls::IfOffered, "220 go\r\n");
        end(&mut client.dialogue);
        assert_eq!(client.error().phase, Awaiting::Handshake);
    }
}

#[test]
fn tls_from_the_start_comes_before_the_greeting() {
    let mut client = Client::with(Protocol::Smtp, UseTls::FromStart);
    assert_eq!(client.step(), ClientStep::StartTls);
    client.dialogue.tls_started();
    assert_eq!((client.step(), client.dialogue.awaiting()), (ClientStep::NeedInput, Awaiting::Greeting));
    client.hear("220 them\r\n");
    assert_eq!(client.sent(), "EHLO us.test\r\n");
    client.hear("250-them\r\n250 STARTTLS\r\n");
    assert_eq!((client.step(), client.sent().as_str()), (ClientStep::Idle, ""));
    // A greeting in clear is none.
    let mut client = Client::with(Protocol::Smtp, UseTls::FromStart);
    client.hear("220 them\r\n");
    assert_eq!(client.error().fault, HostFault::Protocol);
}

/// A client that wants to say who it is, behind TLS.
fn authenticating(offer: &str) -> Client {
    let settings = ClientSettings {
        protocol: Protocol::Smtp,
        helo: "us.test".into(),
        pipelining: true,
        tls: UseTls::FromStart,
        authenticate: true,
    };
    let mut client = Client { dialogue: Dialogue::new(settings), body: Vec::new() };
    client.dialogue.tls_started();
    client.hear("220 them\r\n");
    client.sent();
    client.hear(&format!("250-them\r\n250 {offer}\r\n"));
    client
}

#[test]
fn auth_in_one_word_and_in_many() {
    let mut client = authenticating("AUTH PLAIN LOGIN");
    assert_eq!(
        (client.step(), client.dialogue.start(transaction(&["a@b"]))),
        (ClientStep::Authenticate, Err(vsmtp_smtp::NotIdle))
    );
    client.dialogue.auth_begin("PLAIN", Some(b"\0user\0secret"));
    assert_eq!(client.sent(), "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n");
    assert_eq!((client.step(), client.dialogue.awaiting()), (ClientStep::NeedInput, Awaiting::Auth));
    client.hear("235 2.7.0 welcome\r\n");
    assert_eq!(client.step(), ClientStep::Authenticated);
    client.dialogue.auth_accepted();
    assert_eq!(client.step(), ClientStep::Idle);

    let mut client = authenticating("AUTH LOGIN");
    client.dialogue.auth_begin("LOGIN", None);
    assert_eq!(client.sent(), "AUTH LOGIN\r\n");
    client.hear("334 VXNlcm5hbWU6\r\n");
    assert_eq!(client.step(), ClientStep::Challenge(b"Username:".to_vec()));
    client.dialogue.auth_respond(b"user");
    assert_eq!(client.sent(), "dXNlcg==\r\n");
    client.hear("334 \r\n");
    assert_eq!(client.step(), ClientStep::Challenge(Vec::new()));
    client.dialogue.auth_respond(b"");
    assert_eq!(client.sent(), "\r\n");
}

#[test]
fn a_server_that_does_not_know_us_gets_no_mail_and_its_words_go_nowhere() {
    for reply in ["535 5.7.8 you said AHVzZXIAc2VjcmV0\r\n", "454 4.7.0 later\r\n", "501 what\r\n"] {
        let mut client = authenticating("AUTH PLAIN");
        client.dialogue.auth_begin("PLAIN", Some(b""));
        assert_eq!(client.sent(), "AUTH PLAIN =\r\n");
        client.hear(reply);
        let error = client.error();
        assert_eq!((error.fault, error.is_permanent()), (HostFault::Unauthenticated, false));
        assert!(error.to_string().contains(&reply[..3]) && !error.to_string().contains("AHVz"), "{error}");
    }
    let mut client = authenticating("AUTH PLAIN");
    client.dialogue.auth_begin("PLAIN", None);
    client.hear("334 not base64!\r\n");
    assert_eq!(client.error().fault, HostFault::Protocol);
    let mut client = authenticating("SIZE");
    client.dialogue.auth_failed("no mechanism in common");
    assert!(client.error().to_string().contains("no mechanism"));
}

#[test]
fn nothing_is_said_of_who_we_are_in_clear() {
    let settings = ClientSettings {
        protocol: Protocol::Smtp,
        helo: "us.test".into(),
        pipelining: true,
        tls: UseTls::IfOffered,
        authenticate: true,
    };
    let mut client = Client { dialogue: Dialogue::new(settings), body: Vec::new() };
    client.hear("220 them\r\n");
    client.sent();
    client.hear("250-them\r\n250 AUTH PLAIN\r\n");
    assert_eq!((client.error().fault, client.sent().as_str()), (HostFault::Unauthenticated, ""));
}

#[test]
fn how_urgent_a_message_is_is_told_where_it_is_understood() {
    let mail = |offer: &str, number| {
        let mut client = Client::ready(offer);
        let priority = vsmtp_mail::Priority::new(number).unwrap();
        client.dialogue.start(Transaction { priority, ..transaction(&["a@b"]) }).unwrap();
        client.step();
        client.sent()
    };
    assert!(mail("MT-PRIORITY MIXER", -3).contains(" MT-PRIORITY=-3"));
    assert!(mail("MT-PRIORITY", 9).contains(" MT-PRIORITY=9"));
    assert!(!mail("MT-PRIORITY", 0).contains("PRIORITY"));
    assert!(!mail("SIZE", 9).contains("PRIORITY"));
}

#[test]
fn by_when_a_message_is_to_be_delivered_is_told_and_what_fails_then_goes_only_where_it_will() {
    let outcome = |offer: &str, seconds, returns, traced| {
        let mut client = Client::ready(offer);
        let by = vsmtp_mail::DeliverBy { seconds, returns, traced };
        client.dialogue.start(Transaction { by: Some(by), ..transaction(&["a@b"]) }).unwrap();
        match client.step() {
            ClientStep::Done(outcomes) => show(&outcomes[0]),
            _ => client.sent(),
        }
    };
    assert!(outcome("DELIVERBY=60", 61, true, true).contains(" BY=61;RT"));
    assert!(outcome("DELIVERBY", 1, true, false).contains(" BY=1;R"));
    assert!(outcome("DELIVERBY=60,x", -5, false, false).contains(" BY=-5;N\r\n"));
    assert!(
        outcome("SIZE", 5, false, true).starts_with("MAIL ")
            && !outcome("SIZE", 5, false, true).contains("BY=")
    );
    for (offer, seconds) in [("SIZE", 600), ("DELIVERBY=60", 59), ("DELIVERBY", 0), ("DELIVERBY=-9", -1)] {
        assert!(outcome(offer, seconds, true, true).contains("5.4.7"), "{offer} {seconds}");
    }
}

#[test]
fn a_message_that_requires_tls_goes_only_where_it_stays_protected() {
    let outcome = |offer: &str, require_tls| {
        let mut client = Client::ready(offer);
        client.dialogue.start(Transaction { require_tls, ..transaction(&["a@b"]) }).unwrap();
        match client.step() {
            ClientStep::Done(outcomes) => show(&outcomes[0]),
            _ => client.sent(),
        }
    };
    assert!(outcome("REQUIRETLS", RequireTls::Proven).contains("> REQUIRETLS\r\n"));
    assert!(outcome("SIZE", RequireTls::Proven).starts_with("fail local 550 5.7.30"));
    assert!(outcome("REQUIRETLS", RequireTls::Unproven).starts_with("fail local 550 5.7.30"));
    assert!(!outcome("REQUIRETLS", RequireTls::No).contains("REQUIRETLS"));
}

#[test]
fn a_binary_message_goes_as_one_chunk_and_only_to_those_that_take_it() {
    let binary = |offer: &str, recipients: &[&str]| {
        let mut client = Client::ready(offer);
        client.body = b"A: b\r\n\r\n.\r\n\0lone\rlone\n".to_vec();
        let size = client.body.len() as u64;
        let body = BodyType::BinaryMime;
        client.dialogue.start(Transaction { body, size, ..transaction(recipients) }).unwrap();
        client
    };
    for pipelining in ["", "PIPELINING"] {
        let mut client = binary(&format!("{pipelining} CHUNKING BINARYMIME"), &["a@b", "c@d"]);
        let mut sent = client.sent();
        assert!(sent.starts_with("MAIL FROM:<me@us.test> BODY=BINARYMIME\r\n"), "{sent}");
        for reply in ["250 ok\r\n", "550 5.1.1 no\r\n", "250 ok\r\n"] {
            client.hear(reply);
            sent = client.sent();
        }
        assert_eq!(sent, "BDAT 22 LAST\r\nA: b\r\n\r\n.\r\n\0lone\rlone\n");
        assert_eq!(client.dialogue.awaiting(), Awaiting::Dot);
        client.hear("250 2.0.0 queued\r\n");
        assert_eq!(client.outcomes(), ["fail remote 550 5.1.1 no", "delivered 250 2.0.0 queued"]);
        assert_eq!(client.step(), ClientStep::Idle);
    }
    // Nobody gets it: no chunk is sent.
    let mut client = binary("PIPELINING CHUNKING BINARYMIME", &["a@b"]);
    client.sent();
    client.hear("250 ok\r\n550 5.1.1 no\r\n");
    assert_eq!((client.outcomes().len(), client.sent().as_str()), (1, ""));
    for offer in ["8BITMIME", "CHUNKING 8BITMIME", "BINARYMIME"] {
        assert!(binary(offer, &["a@b"]).outcomes()[0].starts_with("fail local 554 5.6.3"), "{offer}");
    }
    // A message that changes its length on the way is never completed.
    for body in [&b"short"[..], &[b'x'; 100]] {
        let mut client = binary("CHUNKING BINARYMIME", &["a@b"]);
        client.sent();
        client.hear("250 ok\r\n");
        client.sent();
        client.hear("250 ok\r\n");
        client.body = body.to_vec();
        client.sent();
        assert!(client.outcomes()[0].starts_with("defer local 451 4.3.0"));
        assert_eq!(client.step(), ClientStep::Closed(None));
    }
}

#[test]
fn pipelined_commands_go_out_together() {
    let mut client = Client::ready("PIPELINING SIZE=1000");
    client.start(&["a@b", "c@d", "e@f"]);
    assert_eq!(
        client.sent(),
        "MAIL FROM:<me@us.test> SIZE=100\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n"
    );
    client.hear("250 ok\r\n250 ok\r\n550 5.1.1 no\r\n450 4.2.0 later\r\n354 go\r\n");
    assert_eq!(client.sent(), "Subject: x\r\n\r\n..body\r\n.\r\n");
    assert_eq!(client.dialogue.awaiting(), Awaiting::Dot);
    client.hear("250 2.0.0 queued\r\n");
    assert_eq!(
        client.outcomes(),
        ["delivered 250 2.0.0 queued", "fail remote 550 5.1.1 no", "defer remote 450 4.2.0 later"]
    );
    assert_eq!(client.step(), ClientStep::Idle);
    client.start(&["a@b"]);
    assert!(client.sent().starts_with("MAIL"), "no RSET after a message");
}

#[test]
fn without_pipelining_one_command_at_a_time() {
    let mut client = Client::ready("");
    client.start(&["a@b", "c@d"]);
    for (command, reply) in [
        ("MAIL FROM:<me@us.test>\r\n", "250 ok\r\n"),
        ("RCPT TO:<a@b>\r\n", "251 ok\r\n"),
        ("RCPT TO:<c@d>\r\n", "550 no\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        ("Subject: x\r\n\r\n..body\r\n.\r\n", "250 yes\r\n"),
    ] {
        assert_eq!(client.sent(), command);
        client.hear(reply);
    }
    assert_eq!(client.outcomes(), ["delivered 250 yes", "fail remote 550 no"]);
}

#[test]
fn without_recipients_there_is_no_data_and_the_next_transaction_resets() {
    let mut client = Client::ready("");
    client.start(&["a@b"]);
    client.sent();
    client.hear("250 ok\r\n");
    client.sent();
    client.hear("550 no\r\n");
    assert_eq!(client.outcomes(), ["fail remote 550 no"]);
    client.start(&["a@b"]);
    assert_eq!(client.sent(), "RSET\r\n");
    client.hear("250 ok\r\n");
    assert_eq!(client.sent(), "MAIL FROM:<me@us.test>\r\n");
}

#[test]
fn a_message_that_nobody_gets_is_a_lone_dot() {
    let mut client = Client::ready("PIPELINING");
    client.start(&["a@b"]);
    client.sent();
    client.hear("250 ok\r\n550 no\r\n354 go\r\n");
    assert_eq!(client.sent(), ".\r\n");
    client.hear("554 no recipients\r\n");
    assert_eq!(client.outcomes(), ["fail remote 550 no"]);
    assert_eq!(client.step(), ClientStep::Idle);
}

#[test]
fn a_refused_sender_settles_all() {
    let mut client = Client::ready("PIPELINING");
    client.start(&["a@b", "c@d"]);
    client.sent();
    client.hear("450 4.7.1 greylisted\r\n503 x\r\n503 x\r\n503 x\r\n");
    assert_eq!(client.outcomes(), ["defer remote 450 4.7.1 greylisted"; 2]);
    client.start(&["a@b"]);
    assert!(client.sent().starts_with("RSET\r\nMAIL"));
    client.hear("250 ok\r\n250 ok\r\n250 ok\r\n554 not this\r\n");
    assert_eq!(client.outcomes(), ["fail remote 554 not this"]);
}

#[test]
fn replies_at_the_end_of_the_message() {
    for (reply, wanted) in [
        ("452 4.3.1 full\r\n", "defer remote 452 4.3.1 full"),
        ("554 5.7.1 spam\r\n", "fail remote 554 5.7.1 spam"),
        ("299 fine\r\n", "delivered 299 fine"),
        ("399 what\r\n", "defer remote 399 what"),
        ("599 no\r\n", "fail remote 599 no"),
    ] {
        let mut client = Client::ready("PIPELINING");
        client.start(&["a@b"]);
        client.sent();
        client.hear("250 ok\r\n250 ok\r\n354 go\r\n");
        client.sent();
        client.hear(reply);
        assert_eq!(client.outcomes(), [wanted]);
    }
}

#[test]
fn too_many_recipients_is_temporary_and_a_full_mailbox_is_not() {
    let mut client = Client::ready("PIPELINING");
    client.start(&["a@b", "c@d", "e@f"]);
    client.sent();
    client.hear("250 ok\r\n552 too many\r\n552 5.2.2 full\r\n250 ok\r\n354 go\r\n");
    client.sent();
    client.hear("250 ok\r\n");
    let wanted = ["defer remote 552 too many", "fail remote 552 5.2.2 full", "delivered 250 ok"];
    assert_eq!(client.outcomes(), wanted);
}

#[test]
fn lmtp_answers_each_accepted_recipient() {
    let mut client = Client::lmtp();
    client.start(&["a@b", "c@d", "e@f"]);
    client.sent();
    client.hear("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n");
    client.sent();
    client.hear("250 one\r\n");
    assert_eq!(client.step(), ClientStep::NeedInput);
    client.hear("452 4.2.2 full\r\n");
    assert_eq!(client.outcomes(), ["delivered 250 one", "fail remote 550 no", "defer remote 452 4.2.2 full"]);
    assert_eq!(client.step(), ClientStep::Idle);
}

#[test]
fn lmtp_that_stops_half_way_defers_the_rest() {
    let mut client = Client::lmtp();
    client.start(&["a@b", "c@d"]);
    client.sent();
    client.hear("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    client.sent();
    client.hear("250 one\r\n");
    client.dialogue.on_lost();
    let outcomes = client.outcomes();
    assert_eq!(outcomes[0], "delivered 250 one");
    assert!(outcomes[1].starts_with("defer local 451 4.4.2 connection lost"), "{outcomes:?}");
}

#[test]
fn a_lost_connection_defers_and_says_where() {
    let replies = ["250 ok\r\n", "250 ok\r\n", "354 go\r\n"];
    let places = ["MAIL", "RCPT", "DATA", "may have been delivered"];
    for (count, place) in places.iter().enumerate() {
        for timeout in [false, true] {
            let mut client = Client::ready("");
            client.start(&["a@b"]);
            for reply in &replies[..count] {
                client.sent();
                client.hear(reply);
            }
            client.sent();
            if timeout {
                client.dialogue.on_timeout()
            } else {
                client.dialogue.on_lost()
            }
            let outcomes = client.outcomes();
            assert!(
                outcomes[0].starts_with("defer local 451 4.4.2 ") && outcomes[0].contains(place),
                "{outcomes:?}"
            );
            assert_eq!(client.error().fault, HostFault::Lost);
        }
    }
}

#[test]
fn a_connection_lost_within_the_body_defers() {
    let mut client = Client::ready("PIPELINING");
    client.start(&["a@b"]);
    client.sent();
    client.hear("250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!((client.step(), client.dialogue.awaiting()), (ClientStep::WantBody, Awaiting::Block));
    client.dialogue.body(b"half");
    client.dialogue.on_lost();
    assert!(client.outcomes()[0].starts_with("defer local"));
}

#[test]
fn a_body_that_cannot_be_read_never_gets_its_dot() {
    let mut client = Client::ready("PIPELINING");
    client.start(&["a@b"]);
    client.sent();
    client.hear("250 ok\r\n250 ok\r\n354 go\r\n");
    client.dialogue.body(b"half");
    client.dialogue.body_failed("cannot read the spool");
    assert!(client.dialogue.output().is_empty());
    assert_eq!(client.outcomes(), ["defer local 451 4.3.0 cannot read the spool"]);
    assert_eq!(client.step(), ClientStep::Closed(None));
}

#[test]
fn the_server_may_close_at_any_time() {
    let replies = ["250 ok\r\n", "250 ok\r\n", "354 go\r\n"];
    for count in 0..=replies.len() {
        let mut client = Client::ready("PIPELINING");
        client.start(&["a@b"]);
        client.sent();
        replies[..count].iter().for_each(|reply| client.hear(reply));
        client.hear("421 4.3.2 bye\r\n");
        assert_eq!(client.outcomes(), ["defer remote 421 4.3.2 bye"]);
        assert_eq!(client.error().fault, HostFault::Refused);
    }
    let mut client = Client::ready("");
    client.hear("421 idle\r\n");
    assert_eq!(client.error().fault, HostFault::Refused);
}

#[test]
fn a_reply_that_nobody_asked_for_ends_the_connection_without_a_verdict() {
    let mut client = Client::ready("PIPELINING");
    client.start(&["a@b"]);
    client.sent();
    client.hear("250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 already yours\r\n");
    assert!(client.outcomes()[0].starts_with("defer local 451 4.5.0"));
    let mut client = Client::ready("PIPELINING");
    client.start(&["a@b"]);
    client.sent();
    client.hear("250 ok\r\n250 ok\r\n250 taken before it was sent\r\n");
    assert!(client.outcomes()[0].starts_with("defer local 451 4.5.0"));
    assert_eq!(client.error().fault, HostFault::Protocol);
}

#[test]
fn nobody_can_answer_a_dot_that_was_not_sent() {
    let mut client = Client::ready("PIPELINING");
    client.start(&["a@b"]);
    client.sent();
    client.hear("250 ok\r\n250 ok\r\n354 go\r\n");
    client.dialogue.body(b"all of it");
    client.dialogue.body_end();
    client.dialogue.sent(5);
    client.hear("250 2.0.0 yours\r\n");
    assert!(client.outcomes()[0].starts_with("defer local 451 4.5.0"));
}

#[test]
fn garbage_defers() {
    for garbage in ["HTTP/1.1 400 Bad Request\r\n", "250-a\r\n550 b\r\n", "\r\n", "250\u{0}ok\r\n"] {
        let mut client = Client::ready("PIPELINING");
        client.start(&["a@b"]);
        client.hear(garbage);
        assert!(client.outcomes()[0].starts_with("defer local 451 4.5.0"), "{garbage}");
        assert_eq!(client.error().fault, HostFault::Protocol);
    }
}

#[test]
fn greetings_that_refuse() {
    for (greeting, permanent) in
        [("554 no mail here\r\n", true), ("521 no\r\n", true), ("450 later\r\n", false)]
    {
        let mut client = Client::new(Protocol::Smtp);
        client.hear(greeting);
        let error = client.error();
        assert_eq!((error.phase, error.fault), (Awaiting::Greeting, HostFault::Refused));
        assert_eq!(error.is_permanent(), permanent);
    }
    let mut client = Client::new(Protocol::Smtp);
    client.hear("220-hello\r\n220 world\r\n");
    assert_eq!(client.sent(), "EHLO us.test\r\n");
    client.hear("450 4.7.0 later\r\n");
    assert_eq!(client.error().phase, Awaiting::Hello);
}

#[test]
fn old_servers_get_helo() {
    let mut client = Client::new(Protocol::Smtp);
    client.hear("220 old\r\n");
    client.sent();
    client.hear("502 what\r\n");
    assert_eq!(client.sent(), "HELO us.test\r\n");
    client.hear("250 old\r\n");
    assert_eq!(client.step(), ClientStep::Idle);
    client.start(&["a@b"]);
    assert_eq!(client.sent(), "MAIL FROM:<me@us.test>\r\n");
}

#[test]
fn what_the_server_cannot_take_is_not_sent() {
    type Change = fn(&mut Transaction);
    let cases: [(Change, &str); 3] = [
        (|t| t.size = 1001, "fail local 552 5.3.4"),
        (|t| t.needs_smtputf8 = true, "fail local 553 5.6.7"),
        (|t| t.body = BodyType::EightBitMime, "fail local 554 5.6.3"),
    ];
    for (change, wanted) in cases {
        let mut client = Client::ready("SIZE=1000");
        let mut transaction = transaction(&["a@b"]);
        change(&mut transaction);
        client.dialogue.start(transaction).unwrap();
        assert_eq!(client.sent(), "");
        let outcomes = client.outcomes();
        assert!(outcomes[0].starts_with(wanted), "{outcomes:?}");
        assert_eq!(client.step(), ClientStep::Idle);
    }
}

#[test]
fn a_recipient_that_needs_smtputf8_does_not_take_the_others_with_it() {
    let all = ["\u{e9}@b", "c@d", "\u{fc}@b", "e@f"];
    for offer in ["PIPELINING", ""] {
        let mut client = Client::ready(offer);
        client.dialogue.start(transaction(&all)).unwrap();
        let mut sent = client.sent();
        while !sent.ends_with("DATA\r\n") {
            client.hear("250 2.1.0 ok\r\n");
            sent += &client.sent();
        }
        assert_eq!(sent, "MAIL FROM:<me@us.test>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n", "{offer}");
        client.dialogue.on_lost();
        let outcomes = client.outcomes();
        let lost: Vec<bool> =
            outcomes.iter().map(|outcome| outcome.starts_with("fail local 553 5.6.7")).collect();
        assert_eq!(lost, [true, false, true, false], "{outcomes:?}");
    }
    let mut client = Client::ready("SMTPUTF8");
    client.dialogue.start(transaction(&all)).unwrap();
    assert_eq!(client.sent(), "MAIL FROM:<me@us.test> SMTPUTF8\r\n");
}

#[test]
fn parameters_follow_what_is_offered() {
    let mut transaction = transaction(&["a@b", "c@d"]);
    transaction.body = BodyType::EightBitMime;
    transaction.needs_smtputf8 = true;
    transaction.ret = Some(Ret::Headers);
    transaction.envid = Some("x+y".into());
    transaction.recipients[0].notify =
        Some(Notify { success: true, failure: true, delay: false, stated: true });
    transaction.recipients[0].original =
        Some(OriginalRecipient { kind: "rfc822".into(), address: "a=b c@d".into() });
    transaction.recipients[1].notify = Some(Notify::NEVER);
    let mut client = Client::ready("PIPELINING SIZE DSN 8BITMIME SMTPUTF8");
    client.dialogue.start(transaction.clone()).unwrap();
    assert_eq!(
        client.sent(),
        "MAIL FROM:<me@us.test> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By\r\n\
         RCPT TO:<a@b> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+3Db+20c@d\r\nRCPT TO:<c@d> NOTIFY=NEVER\r\nDATA\r\n"
    );
    let mut client = Client::ready("8BITMIME SMTPUTF8");
    client.dialogue.start(transaction).unwrap();
    assert_eq!(client.sent(), "MAIL FROM:<me@us.test> BODY=8BITMIME SMTPUTF8\r\n");
}

#[test]
fn goodbye() {
    let mut client = Client::ready("");
    client.dialogue.quit();
    assert_eq!(client.sent(), "QUIT\r\n");
    assert_eq!(client.dialogue.awaiting(), Awaiting::Quit);
    client.dialogue.on_lost();
    assert_eq!(client.step(), ClientStep::Closed(None));
    let mut client = Client::ready("PIPELINING");
    client.start(&["a@b"]);
    client.dialogue.quit();
    assert_eq!(client.outcomes(), ["defer local 451 4.3.2 delivery was stopped"]);
}

/// Our server's side with a policy that refuses `no@`, and defers `later@`.
struct Server {
    session: Session,
    body: Vec<u8>,
    stored: Vec<Vec<u8>>,
}

impl Server {
    fn new(protocol: Protocol, extensions: &[Extension]) -> Self {
        let mut settings = Settings::new(Domain::parse("mx.test").unwrap());
        settings.protocol = protocol;
        settings.extensions = vsmtp_smtp::Extensions::of(extensions);
        Server { session: Session::new(Arc::new(settings)), body: Vec::new(), stored: Vec::new() }
    }

    fn exchange(&mut self, input: &[u8]) -> Vec<u8> {
        let mut input = input;
        loop {
            match self.session.advance(std::mem::take(&mut input), &mut self.body) {
                Step::NeedInput | Step::Close => break,
                Step::Dropped(_) => self.body.clear(),
                Step::Ask(Question::Recipients(list)) => {
                    let verdict = |rcpt: &vsmtp_smtp::RcptRequest| match rcpt.address.local_part() {
                        "no" => Verdict::Refuse(Reply::parse("550 5.1.1 no").unwrap()),
                        "later" => Verdict::Unavailable,
                        _ => Verdict::Accept,
                    };
                    self.session.answer_each(list.iter().map(verdict).collect()).unwrap();
                }
                Step::Ask(Question::Message(_)) => {
                    self.stored.push(std::mem::take(&mut self.body));
                    self.session.answer(Verdict::Accept).unwrap();
                }
                Step::Ask(_) => self.session.answer(Verdict::Accept).unwrap(),
                Step::Flush | Step::AwaitAnswer | Step::AuthCancelled | Step::StartTls => {}
                Step::XClient(_) | Step::XForward(_) => {}
            }
        }
        let output = self.session.output().to_vec();
        self.session.sent(output.len());
        output
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Client and server agree on every message, however the bytes are cut, with and without pipelining, SMTP and LMTP.
    #[test]
    fn our_two_sides_agree(
        bodies in proptest::collection::vec("[.a\r\n]{0,60}", 1..4),
        locals in proptest::collection::vec("yes|no|later", 1..6),
        cut in 1usize..80,
        pipelining: bool,
        lmtp: bool,
    ) {
        let protocol = if lmtp { Protocol::Lmtp } else { Protocol::Smtp };
        let mut extensions = vec![Extension::Size];
        extensions.extend(pipelining.then_some(Extension::Pipelining));
        let mut server = Server::new(protocol, &extensions);
        let mut client = Client::new(protocol);
        let recipients: Vec<_> = locals.iter().map(|local| format!("{local}@b")).collect();
        let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
        let (mut waiting, mut settled) = (bodies.iter(), 0);
        client.hear(&String::from_utf8(server.exchange(b"")).unwrap());
        for _ in 0..10_000 {
            match client.dialogue.step() {
                ClientStep::Idle => match waiting.next() {
                    Some(body) => {
                        client.body = body.clone().into_bytes();
                        client.start(&recipients);
                    }
                    None => client.dialogue.quit(),
                },
                ClientStep::StartTls
                | ClientStep::Authenticate
                | ClientStep::Challenge(_)
                | ClientStep::Authenticated => prop_assert!(false, "not asked for"),
                ClientStep::WantBody => {
                    for piece in client.body.chunks(cut) {
                        client.dialogue.body(piece);
                    }
                    client.dialogue.body_end();
                }
                ClientStep::Done(outcomes) => {
                    settled += 1;
                    for (outcome, local) in outcomes.iter().zip(&locals) {
                        let wanted = match &**local { "yes" => "delivered", "no" => "fail", _ => "defer" };
                        prop_assert!(show(outcome).starts_with(wanted), "{} {}", local, show(outcome));
                    }
                }
                ClientStep::Closed(error) => {
                    prop_assert_eq!(error, None);
                    break;
                }
                ClientStep::NeedInput => {
                    let output = client.dialogue.output().to_vec();
                    client.dialogue.sent(output.len());
                    for piece in output.chunks(cut) {
                        let replies = server.exchange(piece);
                        for piece in replies.chunks(cut) {
                            client.dialogue.on_bytes(piece);
                        }
                    }
                }
            }
        }
        prop_assert_eq!(settled, bodies.len());
        let accepted = locals.iter().any(|local| local == "yes");
        let canonical = |body: &String| {
            let mut text = body.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
            if !text.is_empty() && !text.ends_with("\r\n") { text.push_str("\r\n"); }
            text.into_bytes()
        };
        let wanted: Vec<_> = if accepted { bodies.iter().map(canonical).collect() } else { Vec::new() };
        prop_assert_eq!(&server.stored, &wanted);
    }

    #[test]
    fn no_server_can_make_us_panic_or_deliver_by_noise(
        noise in "([245][0-9]{2}[ -][a-z]{0,5}\r\n){0,12}|\\PC{0,80}",
        cut in 1usize..20,
    ) {
        let mut client = Client::ready("PIPELINING");
        client.start(&["a@b", "c@d"]);
        for piece in noise.as_bytes().chunks(cut) {
            client.dialogue.on_bytes(piece);
        }
        client.dialogue.on_lost();
        // The body never went out, so nothing can have been delivered.
        if let ClientStep::Done(outcomes) = client.dialogue.step() {
            prop_assert!(outcomes.iter().all(|outcome| !matches!(outcome, Outcome::Delivered(_))));
        } else {
            prop_assert!(false, "no outcomes");
        }
    }
}

#[test]
fn a_message_of_lines_goes_as_one_chunk_where_that_is_wanted_and_offered() {
    let start = |offer: &str, chunked: bool| {
        let mut client = Client::ready(offer);
        client.body = b"A: b\r\n\r\n.\r\n".to_vec();
        let size = client.body.len() as u64;
        client.dialogue.start(Transaction { chunked, size, ..transaction(&["a@b", "c@d"]) }).unwrap();
        client
    };
    for pipelining in ["", "PIPELINING"] {
        let mut client = start(&format!("{pipelining} CHUNKING"), true);
        let mut sent = client.sent();
        assert!(sent.starts_with("MAIL FROM:<me@us.test>\r\n"), "{sent}");
        for reply in ["250 ok\r\n", "250 ok\r\n", "550 5.1.1 no\r\n"] {
            client.hear(reply);
            sent = client.sent();
        }
        assert_eq!(sent, "BDAT 11 LAST\r\nA: b\r\n\r\n.\r\n", "no dot is doubled, and nothing is waited for");
        client.hear("250 2.0.0 queued\r\n");
        assert_eq!(client.outcomes(), ["delivered 250 2.0.0 queued", "fail remote 550 5.1.1 no"]);
        assert_eq!(client.step(), ClientStep::Idle);
    }
    for (offer, chunked) in [("PIPELINING", true), ("PIPELINING CHUNKING", false)] {
        assert!(start(offer, chunked).sent().ends_with("DATA\r\n"), "{offer}");
    }
}
