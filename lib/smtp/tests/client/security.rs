//! STARTTLS and AUTH: nothing goes in clear that must not, and nothing heard in clear counts afterwards.

use vsmtp_smtp::{Awaiting, ClientSettings, ClientStep, Dialogue, HostFault, Protocol, UseTls};

use crate::stage::{Client, transaction};

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
        not_ourselves: false,
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
fn words_of_a_server_that_leaves_or_talks_while_we_say_who_we_are_go_nowhere() {
    for (reply, fault, code) in [
        ("421 4.7.0 you said AHVzZXIAc2VjcmV0\r\n", HostFault::Refused, "421 4.7.0"),
        ("421-AHVzZXIAc2VjcmV0\r\n421 bye\r\n", HostFault::Refused, "421"),
        ("235 ok\r\n421 4.7.0 AHVzZXIAc2VjcmV0\r\n", HostFault::Refused, "421 4.7.0"),
        ("235 ok\r\n250 2.0.0 AHVzZXIAc2VjcmV0\r\n", HostFault::Protocol, "250 2.0.0"),
        ("334 \r\n334 AHVzZXIAc2VjcmV0\r\n", HostFault::Protocol, "334"),
        ("535 AHVzZXIAc2VjcmV0\r\n421 AHVzZXIAc2VjcmV0\r\n", HostFault::Unauthenticated, "535"),
    ] {
        let mut client = authenticating("AUTH PLAIN");
        client.dialogue.auth_begin("PLAIN", Some(b"\0user\0secret"));
        client.sent();
        client.hear(reply);
        let error = client.error();
        assert_eq!(
            (error.fault, error.phase, error.is_permanent()),
            (fault, Awaiting::Auth, false),
            "{reply}"
        );
        let text = error.to_string();
        assert!(text.contains(&format!("({code})")) && !text.contains("AHVz"), "{text}");
    }
    // One that talks before we have said a word.
    let mut client = authenticating("AUTH PLAIN\r\n250 AHVzZXIAc2VjcmV0");
    assert!(!client.error().to_string().contains("AHVz"));
}

#[test]
fn nothing_is_said_of_who_we_are_in_clear() {
    let settings = ClientSettings {
        protocol: Protocol::Smtp,
        helo: "us.test".into(),
        not_ourselves: false,
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
