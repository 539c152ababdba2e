//! What a server offers, and what is therefore said to it, or not sent there at all.

use vsmtp_mail::{BodyType, Notify, OriginalRecipient, Ret};
use vsmtp_smtp::{Awaiting, ClientStep, Protocol, RequireTls, Transaction};

use crate::stage::{Client, show, transaction};

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

#[test]
fn a_refused_chunk_counts_whenever_it_is_refused_and_the_next_message_begins_anew() {
    let refused = |reply: &str, is_early: bool| {
        let mut client = Client::ready("CHUNKING");
        let size = client.body.len() as u64;
        let chunk = || Transaction { chunked: true, size, ..transaction(&["a@b"]) };
        client.dialogue.start(chunk()).unwrap();
        client.sent();
        client.hear("250 ok\r\n");
        client.sent();
        client.hear("250 ok\r\n");
        if !is_early {
            client.sent();
        }
        client.hear(reply);
        let outcomes = client.outcomes();
        let next = client.dialogue.start(chunk()).map(|()| client.sent());
        (outcomes, next.ok())
    };
    for (reply, outcome) in [
        ("552 5.3.4 too large\r\n", "fail remote 552 5.3.4 too large"),
        ("452 4.3.1 full\r\n", "defer remote 452 4.3.1 full"),
    ] {
        // Before the server has all of it: the rest is not sent, so the connection is over.
        assert_eq!(refused(reply, true), (vec![outcome.to_owned()], None));
        assert_eq!(refused(reply, false), (vec![outcome.to_owned()], Some("RSET\r\n".to_owned())));
    }
    let (outcomes, next) = refused("250 2.0.0 queued\r\n", false);
    assert!(outcomes[0].starts_with("delivered") && next.is_some_and(|next| next.starts_with("MAIL")));
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
