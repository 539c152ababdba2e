//! The course of transactions: commands, replies, and what each recipient gets of them.

use vsmtp_smtp::{Awaiting, ClientStep};

use crate::stage::Client;

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
