//! The filter dies, or says what nobody may say.

use std::io::IoSlice;

use crate::stage::{FILTER, Stage, reply, slice};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Kept, Verdict};

const UNAVAILABLE: &str = "451 4.3.0 Temporary failure, try again later";

#[test]
fn an_open_command_gets_451_and_the_session_lives_with_the_next_filter() {
    let mut stage = Stage::start(&slice());
    let mut filter = stage.introduce((true, true, true));
    let mut client = stage.connect();
    for command in ["", "EHLO client.test", "MAIL FROM:<a@x.test>"] {
        if !command.is_empty() {
            client.say(command);
        }
        let (Ask::Connect(facts) | Ask::Helo(facts) | Ask::Mail(facts, _)) = filter.hear().0 else {
            panic!()
        };
        filter.decide(facts.session, Decision::Accept(None));
        client.reply();
    }
    client.say("RCPT TO:<b@mx.test>");
    let Ask::Recipients { .. } = filter.hear().0 else { panic!() };
    drop(filter);
    assert_eq!(client.reply(), UNAVAILABLE);

    let mut filter = stage.introduce((true, true, true));
    assert_eq!(client.ask("RCPT TO:<b@mx.test>"), UNAVAILABLE, "the new filter has not heard MAIL");
    assert!(client.ask("RSET").starts_with("250"));
    client.say("MAIL FROM:<a@x.test>");
    let Ask::Connect(facts) = filter.hear().0 else { panic!("connect first") };
    filter.decide(facts.session, Decision::Accept(None));
    let Ask::Helo(facts) = filter.hear().0 else { panic!("then helo") };
    assert_eq!(facts.helo.as_deref(), Some("client.test"));
    filter.decide(facts.session, Decision::Accept(None));
    let Ask::Mail(facts, _) = filter.hear().0 else { panic!("then mail") };
    filter.decide(facts.session, Decision::Accept(None));
    assert!(client.reply().starts_with("250"));
    client.say("RCPT TO:<b@mx.test>");
    filter.accept_recipients();
    client.reply();
    client.ask("DATA");
    client.send("x\r\n.\r\n");
    filter.accept_message();
    assert!(client.reply().starts_with("250 2.0.0 queued as"));
}

#[test]
fn a_new_filter_may_refuse_a_client_that_the_old_one_let_in() {
    let (mut stage, filter) = Stage::with_filter();
    let mut client = stage.greeted();
    drop(filter);
    let mut filter = stage.introduce((true, false, false));
    client.say("MAIL FROM:<>");
    let Ask::Connect(facts) = filter.hear().0 else { panic!() };
    filter.decide(facts.session, Decision::Refuse(reply("554 5.7.1 no")));
    assert_eq!(client.reply(), "554 5.7.1 no");
    assert!(client.is_closed());
}

#[test]
fn a_filter_that_dies_with_the_message_costs_a_451() {
    let (mut stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    client.begin(&mut filter);
    client.ask("DATA");
    client.send("x\r\n.\r\n");
    filter.take_message();
    drop(filter);
    assert_eq!(client.reply(), UNAVAILABLE);
    let mut filter = stage.introduce((false, false, false));
    assert!(client.ask("DATA").starts_with("503"));
    client.begin(&mut filter);
    client.ask("DATA");
    client.send("x\r\n.\r\n");
    filter.accept_message();
    assert!(client.reply().starts_with("250"));
}

#[test]
fn a_filter_that_dies_between_the_commands_costs_a_451_before_the_data() {
    let (mut stage, mut filter) = Stage::with_filter();
    let (mut one, mut other) = (stage.greeted(), stage.greeted());
    one.begin(&mut filter);
    other.begin(&mut filter);
    other.ask("DATA");
    other.send("half a mess");
    drop(filter);
    assert_eq!(one.ask("DATA"), UNAVAILABLE);
    assert!(one.ask("DATA").starts_with("503"), "the transaction is over");
    let mut filter = stage.introduce((false, false, false));
    other.send("age\r\n.\r\n");
    assert_eq!(other.reply(), UNAVAILABLE);
    one.begin(&mut filter);
}

#[test]
fn while_there_is_no_filter_clients_wait() {
    let mut stage = Stage::start(&slice());
    let mut client = stage.connect();
    stage.figure("asks_waiting", 1);
    let mut filter = stage.introduce((false, false, false));
    assert!(client.reply().starts_with("220"));
    client.ask("EHLO client.test");
    drop(filter);
    stage.logged("event=filter-lost");
    client.say("MAIL FROM:<>");
    stage.figure("asks_waiting", 1);
    filter = stage.introduce((false, false, false));
    assert!(client.reply().starts_with("250"));
    client.say("RCPT TO:<b@mx.test>");
    filter.accept_recipients();
}

/// What a mad filter says after it was asked about two recipients of this session.
fn mad(session: u64, way: usize) -> Vec<Verdict> {
    let accept = || Decision::Accept(None);
    match way {
        0 => vec![Verdict::Decided { session, decision: accept() }],
        1 => vec![Verdict::Recipients { session, decisions: vec![accept()] }],
        2 => vec![Verdict::Recipients { session, decisions: vec![accept(); 3] }],
        3 => vec![Verdict::Recipients { session: session + 1, decisions: vec![accept(); 2] }],
        4 => vec![Verdict::Recipients { session: u64::MAX, decisions: vec![accept(); 2] }],
        5 => vec![Verdict::ChunkStored { session, kept: Kept::Stored }],
        6 => vec![Verdict::Recipients { session, decisions: vec![Decision::Refuse(reply("250 ok")); 2] }],
        7 => vec![Verdict::Wanted { connect: true, helo: true, authenticate: false, mail: true }],
        _ => {
            vec![Verdict::Recipients { session, decisions: vec![Decision::Accept(Some(reply("550 no"))); 2] }]
        }
    }
}

#[test]
fn a_filter_that_misbehaves_is_dropped_and_reported() {
    let mut stage = Stage::start(&slice());
    for way in 0..10 {
        let mut filter = stage.introduce((false, false, false));
        let mut client = stage.greeted();
        client.send("MAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\nRCPT TO:<b@mx.test>\r\n");
        let Ask::Recipients { facts, .. } = filter.hear().0 else { panic!() };
        if way == 9 {
            vsmtp_sys::seqpacket::send(filter.0.socket(), &[IoSlice::new(b"garbage")], &[]).unwrap();
        } else {
            mad(facts.session, way).iter().for_each(|verdict| filter.say(verdict));
        }
        assert!(client.reply().starts_with("250"));
        assert_eq!(
            (client.reply(), client.reply()),
            (UNAVAILABLE.to_owned(), UNAVAILABLE.to_owned()),
            "way {way}"
        );
        stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(name) if *name == FILTER));
        assert!(filter.is_dropped());
    }
}

#[test]
fn an_answer_that_nobody_asked_for_is_misbehaviour_too() {
    let (mut stage, mut filter) = Stage::with_filter();
    filter.decide(1 << 32, Decision::Accept(None));
    stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(name) if *name == FILTER));
    assert!(filter.is_dropped());
}

#[test]
fn a_second_filter_of_the_same_name_replaces_the_first() {
    let (mut stage, mut old) = Stage::with_filter();
    let mut client = stage.greeted();
    client.send("MAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\n");
    let Ask::Recipients { .. } = old.hear().0 else { panic!() };
    let mut new = stage.introduce((false, false, false));
    assert!(client.reply().starts_with("250"));
    assert_eq!(client.reply(), UNAVAILABLE);
    assert!(old.is_dropped());
    client.ask("RSET");
    client.begin(&mut new);
}
