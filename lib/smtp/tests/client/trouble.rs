//! Servers that are lost, close, refuse to serve or talk nonsense: whatever is unclear is deferred, and nothing is
//! delivered by noise.

use proptest::prelude::*;
use vsmtp_smtp::{Awaiting, ClientStep, HostFault, Outcome, Protocol};

use crate::stage::Client;

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
            let fault = if timeout { HostFault::Silent } else { HostFault::Lost };
            assert_eq!(client.error().fault, fault);
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

proptest! {
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
