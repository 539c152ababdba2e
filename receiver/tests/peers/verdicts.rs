//! What the filter decides, as the client hears it; and what the filter is told to forget.

use crate::stage::{Client, Filter, Stage, reply, slice};
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Verdict};
use vsmtp_ipc::wire;

fn stage_with_all() -> (Stage, Filter) {
    let mut stage = Stage::start(&slice());
    let filter = stage.introduce((true, true, true));
    (stage, filter)
}

/// Answers the next question, whatever it is.
fn decide(filter: &mut Filter, decision: Decision) {
    let session = match filter.hear().0 {
        Ask::Connect(facts) | Ask::Helo(facts) | Ask::Mail(facts, _) | Ask::Message { facts, .. } => {
            facts.session
        }
        Ask::Recipients { facts, recipients, .. } => {
            let decisions = vec![decision; recipients.len()];
            return filter.say(&Verdict::Recipients { session: facts.session, decisions });
        }
        other => panic!("no question: {other:?}"),
    };
    filter.decide(session, decision);
}

fn accept(filter: &mut Filter) {
    decide(filter, Decision::Accept(None));
}

fn greeted(stage: &Stage, filter: &mut Filter) -> Client {
    let mut client = stage.connect();
    accept(filter);
    client.reply();
    client.say("EHLO client.test");
    accept(filter);
    client.reply();
    client
}

#[test]
fn a_client_refused_at_connect_is_sent_away() {
    let (stage, mut filter) = stage_with_all();
    for decision in [Decision::Refuse, Decision::Close] {
        let mut client = stage.connect();
        decide(&mut filter, decision(reply("554 5.7.1 go away")));
        assert_eq!(client.reply(), "554 5.7.1 go away");
        assert!(client.is_closed());
        filter.expect_forget();
    }
}

#[test]
fn each_stage_can_refuse_and_the_session_goes_on() {
    let (mut stage, mut filter) = stage_with_all();
    let mut client = stage.connect();
    accept(&mut filter);
    client.reply();
    client.say("EHLO bad.test");
    decide(&mut filter, Decision::Refuse(reply("550 5.7.1 bad name")));
    assert_eq!(client.reply(), "550 5.7.1 bad name");
    assert!(client.ask("MAIL FROM:<>").starts_with("503"));
    client.say("EHLO good.test");
    accept(&mut filter);
    client.reply();
    client.say("MAIL FROM:<bad@x.test>");
    decide(&mut filter, Decision::Refuse(reply("451-4.7.1 wait\n451 4.7.1 a while")));
    assert_eq!(client.reply(), "451-4.7.1 wait\n451 4.7.1 a while");
    filter.expect_reset();
    client.say("MAIL FROM:<good@x.test>");
    decide(&mut filter, Decision::Accept(Some(reply("250 2.1.0 welcome"))));
    assert_eq!(client.reply(), "250 2.1.0 welcome");
    client.say("RCPT TO:<nobody@mx.test>");
    decide(&mut filter, Decision::Refuse(reply("550 5.1.1 nobody")));
    assert_eq!(client.reply(), "550 5.1.1 nobody");
    assert!(client.ask("DATA").starts_with("554"));
    client.say("RCPT TO:<b@mx.test>");
    accept(&mut filter);
    client.reply();
    client.ask("DATA");
    client.send("x\r\n.\r\n");
    decide(&mut filter, Decision::Refuse(reply("554 5.7.1 spam")));
    assert_eq!(client.reply(), "554 5.7.1 spam");
    assert!(client.ask("DATA").starts_with("503"), "the transaction is over");
    client.say("MAIL FROM:<again@x.test>");
    assert!(matches!(filter.hear().0, Ask::Mail(..)), "a decided message needs no reset");
    stage.logged("event=refused stage=rcpt");
}

#[test]
fn each_stage_can_close() {
    let (stage, mut filter) = stage_with_all();
    let closing = || Decision::Close(reply("421 4.7.0 enough"));
    for stop_at in 0..4 {
        let mut client = greeted(&stage, &mut filter);
        let steps = ["EHLO again.test", "MAIL FROM:<a@x.test>", "RCPT TO:<b@mx.test>", "x\r\n."];
        for (step, command) in steps.iter().enumerate().take(stop_at + 1).skip(usize::from(stop_at > 0)) {
            if step == 3 {
                assert!(client.ask("DATA").starts_with("354"));
            }
            client.say(command);
            if step == stop_at {
                decide(&mut filter, closing());
                assert_eq!(client.reply(), "421 4.7.0 enough", "{command}");
                assert!(client.is_closed());
            } else {
                accept(&mut filter);
                client.reply();
            }
        }
        loop {
            match filter.hear().0 {
                Ask::Reset { .. } => {}
                Ask::Forget { .. } => break,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn one_recipient_of_many_is_refused() {
    let (stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    client.send("MAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\nRCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\n");
    let Ask::Recipients { facts, mail, recipients } = filter.hear().0 else { panic!() };
    let asked: Vec<_> = recipients.iter().map(|rcpt| rcpt.address.as_str()).collect();
    assert_eq!((mail.reverse_path.as_str(), asked), ("", vec!["a@mx.test", "b@mx.test", "c@mx.test"]));
    let decisions = vec![
        Decision::Refuse(reply("550 5.1.1 no")),
        Decision::Accept(None),
        Decision::Refuse(reply("452 4.2.2 full")),
    ];
    filter.say(&Verdict::Recipients { session: facts.session, decisions });
    let replies: Vec<_> = (0..4).map(|_| client.reply()).collect();
    assert_eq!(replies, ["250 2.1.0 Ok", "550 5.1.1 no", "250 2.1.5 Ok", "452 4.2.2 full"]);
    client.ask("DATA");
    client.send("x\r\n.\r\n");
    let bytes = String::from_utf8(filter.accept_message()).unwrap();
    assert!(bytes.contains("for <b@mx.test>"), "{bytes}");
    assert!(client.reply().starts_with("250"));
}

#[test]
fn what_is_given_up_is_reset_and_what_is_over_is_forgotten() {
    let (stage, mut filter) = Stage::with_filter();
    let mut client = stage.greeted();
    for give_up in ["RSET", "EHLO client.test"] {
        client.begin(&mut filter);
        client.ask(give_up);
        filter.expect_reset();
    }
    // The filter does not know of this transaction, so it need not forget it.
    client.ask("MAIL FROM:<>");
    client.ask("RSET");
    client.begin(&mut filter);
    drop(client);
    filter.expect_reset();
    filter.expect_forget();
    // Nor of this session.
    drop(stage.greeted());
    let mut client = stage.greeted();
    client.begin(&mut filter);
}

#[test]
fn replies_of_rules_have_enhanced_codes_but_in_the_greeting_and_the_answer_to_ehlo() {
    let (mut stage, mut filter) = stage_with_all();
    let mut client = stage.connect();
    decide(&mut filter, Decision::Refuse(reply("554 go away")));
    assert_eq!(client.reply(), "554 go away");
    filter.expect_forget();
    let mut client = stage.connect();
    accept(&mut filter);
    client.reply();
    client.say("EHLO bad.test");
    decide(&mut filter, Decision::Refuse(reply("550 bad name")));
    assert_eq!(client.reply(), "550 bad name");
    client.say("EHLO client.test");
    accept(&mut filter);
    client.reply();
    // As rules make them of a code and a text.
    let worded = |code, text: &str| wire::Reply { code, enhanced: None, text: text.to_owned() };
    for (decision, said) in [
        (Decision::Refuse(reply("550 no")), "550 5.7.1 no"),
        (Decision::Refuse(reply("450 not now")), "450 4.7.1 not now"),
        (Decision::Refuse(reply("550 5.1.8 nowhere")), "550 5.1.8 nowhere"),
        (Decision::Refuse(worded(550, "5.7.27 no")), "550 5.7.27 no"),
        (Decision::Refuse(worded(450, "5.7.27 no")), "450 4.7.1 5.7.27 no"),
        (Decision::Accept(Some(reply("250 fine"))), "250 2.0.0 fine"),
    ] {
        client.say("MAIL FROM:<a@client.test>");
        decide(&mut filter, decision);
        assert_eq!(client.reply(), said);
        if !said.starts_with('2') {
            filter.expect_reset();
        }
    }
    client.say("RCPT TO:<b@mx.test>");
    decide(&mut filter, Decision::Refuse(reply("550 no")));
    assert_eq!(client.reply(), "550 5.7.1 no");
    client.say("RCPT TO:<b@mx.test>");
    decide(&mut filter, Decision::Accept(Some(reply("250 welcome"))));
    assert_eq!(client.reply(), "250 2.0.0 welcome");
    assert!(client.ask("DATA").starts_with("354"));
    client.say("Subject: x\r\n\r\n.");
    decide(&mut filter, Decision::Close(reply("421 enough")));
    assert_eq!(client.reply(), "421 4.7.1 enough");
    stage.logged("reply=\"450 4.7.1 not now\"");
}
