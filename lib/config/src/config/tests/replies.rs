//! Replies in the operator's words.

use super::*;

fn own_reply(name: &str, enhanced: Option<(u8, u16, u16)>, text: &str) -> OwnReply {
    OwnReply { name: name.to_owned(), enhanced, text: text.to_owned() }
}

#[test]
fn own_replies_are_told_to_receivers_and_refusals_to_filters() {
    let config = with(&[
        ("server.smtp.codes.Closing", text("221 2.0.0 bye\r\n")),
        ("server.smtp.codes.BadSequence", text("503 5.5.0 later")),
        ("server.smtp.codes.TlsRequired", text("554 5.7.3 secure it")),
        ("server.smtp.codes.Denied", text("554 go away")),
    ])
    .unwrap();
    let replies = config.receiver().replies;
    for own in [
        own_reply("Closing", Some((2, 0, 0)), "bye"),
        own_reply("BadSequence", Some((5, 5, 0)), "later"),
        // Another code: only the text counts.
        own_reply("TlsRequired", None, "secure it"),
    ] {
        assert!(replies.contains(&own), "{replies:?}");
    }
    assert_eq!(config.filter().refusals, (Some(own_reply("Denied", None, "go away")), None));
}

#[test]
fn own_replies_and_refusals_say_the_name_of_the_server() {
    let config = with(&[
        ("server.name", text("mx.own.test")),
        ("server.smtp.codes.Closing", text("221 2.0.0 {name} closes {domain}")),
        ("server.smtp.codes.Denied", text("554 5.7.1 not at {name}")),
        ("server.smtp.codes.Failure", text("451 4.7.1 {domain} is busy")),
    ])
    .unwrap();
    let replies = config.receiver().replies;
    assert!(
        replies.contains(&own_reply("Closing", Some((2, 0, 0)), "mx.own.test closes mx.own.test")),
        "{replies:?}"
    );
    let said = (
        Some(own_reply("Denied", Some((5, 7, 1)), "not at mx.own.test")),
        Some(own_reply("Failure", Some((4, 7, 1)), "mx.own.test is busy")),
    );
    assert_eq!(config.filter().refusals, said);
}
