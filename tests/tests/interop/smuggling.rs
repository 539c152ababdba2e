//! S8 and S9 through us into other people's servers: what a client hides in a message stays in that message. Each attack is
//! one message here, refused or accepted; behind us it is one message or none, whatever the next server thinks of line ends.

use vsmtp_tests::{Client, Exim, Mta, Postfix, Settings, needs_programs, needs_root, wait_until};

const BREAKS: [&[u8]; 5] = [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\0"];

/// How many of the attacks are messages that we take: those without a lone CR or LF, or all. To the next server they go by
/// BDAT, if that is wanted, or by DATA.
const TAKEN: [(&str, bool, usize); 3] =
    [("refuse", false, 7), ("normalise", false, 48), ("normalise", true, 48)];

/// What stands in the message: to a server that takes its middle for an end, three commands and a second message.
fn attack(before: &[u8], after: &[u8]) -> Vec<u8> {
    [
        &b"Subject: attack\r\n\r\ntext"[..],
        before,
        b".",
        after,
        b"MAIL FROM:<smuggled@src.test>\r\nRCPT TO:<victim@dst.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n",
    ]
    .concat()
}

/// Sends all attacks; how many messages were accepted, and none of them was two.
fn attack_through(mta: &Mta) -> usize {
    let mut accepted = 0;
    for (before, after) in BREAKS.into_iter().flat_map(|before| BREAKS.map(|after| (before, after))) {
        let is_an_end = before.ends_with(b"\r\n") && after == b"\r\n";
        for by_chunks in [false, true] {
            // By DATA this one is no attack: that is how a message ends.
            if is_an_end && !by_chunks {
                continue;
            }
            let mut client = Client::hello(mta.port());
            assert_eq!(client.say("MAIL FROM:<first@src.test>").code(), 250);
            assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 250);
            let message = attack(before, after);
            if by_chunks {
                // The chunks part where it hurts most.
                let (begin, end) = message.split_at(message.len() / 4);
                client.send(&[format!("BDAT {}\r\n", begin.len()).as_bytes(), begin].concat());
                assert!(client.reply().code() > 0);
                client.send(&[format!("BDAT {} LAST\r\n", end.len()).as_bytes(), end].concat());
            } else {
                assert_eq!(client.say("DATA").code(), 354);
                client.send(&[&message[..], b".\r\n"].concat());
            }
            let reply = client.reply();
            accepted += usize::from(reply.code() == 250);
            assert!(reply.code() == 250 || reply.code() >= 500, "{before:?} {after:?}: {reply:?}");
            // The session is where it was: no command of the message has been taken for one.
            assert_eq!(client.say("RCPT TO:<b@dst.test>").code(), 503, "{before:?} {after:?}");
            assert_eq!(client.say("QUIT").code(), 221);
        }
    }
    wait_until("the queue is empty", || mta.queued() == 0);
    accepted
}

fn relay(port: u16, bare_newline: &str, by_bdat: bool) -> Mta {
    let config = format!(
        "config.delivery.relayhost = \"[127.0.0.1]:{port}\"; config.server.smtp.bare_newline = \"{bare_newline}\";\n\
         config.delivery.chunking = {by_bdat};"
    );
    Mta::start(&Settings { config, ..Settings::default() })
}

/// Each accepted message has arrived whole, and nothing else has.
fn check(messages: &[Vec<u8>], accepted: usize) {
    assert_eq!(messages.len(), accepted, "a message has become two, or none");
    for message in messages {
        let text = String::from_utf8_lossy(message);
        assert!(text.contains("Subject: attack"), "{text}");
        assert!(text.contains("evil"), "it was cut: {text}");
    }
}

#[test]
fn nothing_is_smuggled_through_us_into_postfix() {
    const TEST: &str = "nothing_is_smuggled_through_us_into_postfix";
    if !(needs_programs(TEST, &["postfix", "postcat"]) && needs_root(TEST)) {
        return;
    }
    for (bare_newline, by_bdat, taken) in TAKEN {
        let postfix = Postfix::holding();
        let accepted = attack_through(&relay(postfix.port(), bare_newline, by_bdat));
        assert_eq!(accepted, taken, "{bare_newline}");
        let held = postfix.wait_for_held(accepted);
        check(&held, accepted);
        assert!(!postfix.log().contains("from=<smuggled@src.test>"), "{}", postfix.log());
    }
}

#[test]
fn nothing_is_smuggled_through_us_into_exim() {
    if !crate::exim::can_run("nothing_is_smuggled_through_us_into_exim") {
        return;
    }
    for (bare_newline, by_bdat, taken) in TAKEN {
        let exim = Exim::keeping();
        let accepted = attack_through(&relay(exim.port(), bare_newline, by_bdat));
        assert_eq!(accepted, taken, "{bare_newline}");
        wait_until("exim has them all", || exim.kept().len() >= accepted);
        check(&exim.kept(), accepted);
        assert!(!exim.log().contains("<= smuggled@src.test"), "{}", exim.log());
    }
}
