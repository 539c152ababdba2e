//! The limiter's word, its silence and its death.

use std::time::{Duration, Instant};

use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::receiver_filter::{self, Decision, Verdict};
use vsmtp_ipc::edge::receiver_limits::{Answer, Ask, Entry, Kind, Spent, Wanted};

use crate::stage::{Client, Filter, LIMITS, Limiter, Stage, reply, slice};

pub const DOOR: Wanted = Wanted {
    connect: true,
    messages: false,
    recipients: false,
    errors: false,
    handshakes: false,
    auth_failures: false,
};
pub const ALL: Wanted = Wanted {
    connect: true,
    messages: true,
    recipients: true,
    errors: true,
    handshakes: true,
    auth_failures: true,
};
pub const GO: Entry = Entry::Go { delay_ms: 0 };

fn stage(wanted: Wanted) -> (Stage, Filter, Limiter) {
    let mut strict = slice();
    strict.exempt.clear();
    let mut stage = Stage::start(&strict);
    let limiter = stage.introduce_limiter(wanted);
    let filter = stage.introduce((false, false, false));
    (stage, filter, limiter)
}

/// A client that was let in and has said EHLO, and its ticket.
fn greeted(stage: &Stage, limiter: &mut Limiter) -> (Client, u64) {
    let mut client = stage.connect();
    let ticket = limiter.at_the_door();
    limiter.entry(ticket, GO);
    assert_eq!(client.reply(), "220 mx.test ESMTP");
    assert!(client.ask("EHLO client.test").contains("250-mx.test"));
    (client, ticket)
}

pub fn spent(limiter: &mut Limiter, kind: Kind, count: u32, spent: Spent) -> u64 {
    match limiter.hear() {
        Ask::Spend { ticket, client, kind: asked, count: wished } => {
            assert_eq!((client.to_string().as_str(), asked, wished), ("127.0.0.1", kind, count));
            limiter.say(&Answer::Spent { ticket, spent });
            ticket
        }
        other => panic!("expected to hear of {kind:?}, not {other:?}"),
    }
}

pub fn granted(count: u32) -> Spent {
    Spent { granted: count, delay_ms: 0, refusal: None }
}

#[test]
fn a_client_that_is_refused_at_the_door_hears_why_and_is_not_open() {
    let (mut stage, _filter, mut limiter) = stage(DOOR);
    let mut client = stage.connect();
    let ticket = limiter.at_the_door();
    limiter.entry(ticket, Entry::Refuse(reply("421 4.7.0 Too many")));
    assert_eq!(client.reply(), "421 4.7.0 Too many");
    assert!(client.is_closed());
    stage.figure("turned_away", 1);
    stage.figure("sessions_open", 0);
    assert_eq!(limiter.hear(), Ask::Left { ticket });
    let (client, ticket) = greeted(&stage, &mut limiter);
    drop(client);
    assert_eq!(limiter.hear(), Ask::Left { ticket });
}

#[test]
fn exempt_clients_and_those_of_whom_nobody_wants_to_hear_cost_nothing() {
    let mut stage = Stage::start(&slice());
    let mut limiter = stage.introduce_limiter(ALL);
    let mut filter = stage.introduce((false, false, false));
    stage.greeted().begin(&mut filter);
    let (ours, mut strict) = (Wanted::default(), slice());
    strict.exempt.clear();
    let mut other = Stage::start(&strict);
    let mut silent = other.introduce_limiter(ours);
    let mut other_filter = other.introduce((false, false, false));
    other.greeted().begin(&mut other_filter);
    for limiter in [&mut limiter, &mut silent] {
        assert!(limiter.0.receive().unwrap().is_none(), "nothing was said");
    }
}

#[test]
fn mail_and_recipients_are_spent_and_a_part_may_be_granted() {
    let (mut stage, mut filter, mut limiter) = stage(Wanted { errors: false, ..ALL });
    let (mut client, _) = greeted(&stage, &mut limiter);
    client.say("MAIL FROM:<a@client.test>");
    let refusal = Some(reply("450 4.7.1 Too many messages"));
    spent(&mut limiter, Kind::Messages, 1, Spent { granted: 0, delay_ms: 0, refusal });
    assert_eq!(client.reply(), "450 4.7.1 Too many messages");
    client.say("MAIL FROM:<a@client.test>");
    spent(&mut limiter, Kind::Messages, 1, granted(1));
    assert!(client.reply().starts_with("250"));
    client.send("RCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\nRCPT TO:<d@mx.test>\r\n");
    let refusal = Some(reply("452 4.7.1 Too many recipients"));
    spent(&mut limiter, Kind::Recipients, 3, Spent { granted: 2, delay_ms: 0, refusal });
    assert_eq!(filter.accept_recipients().1, 2, "the filter hears of those that are granted");
    assert!(client.reply().starts_with("250") && client.reply().starts_with("250"));
    assert_eq!(client.reply(), "452 4.7.1 Too many recipients");
    client.say("RCPT TO:<e@mx.test>");
    let refusal = Some(reply("452 4.7.1 Too many recipients"));
    spent(&mut limiter, Kind::Recipients, 1, Spent { granted: 0, delay_ms: 0, refusal });
    assert_eq!(client.reply(), "452 4.7.1 Too many recipients");
    client.say("DATA");
    assert!(client.reply().starts_with("354"), "two recipients were accepted");
    stage.logged("event=refused stage=rcpt");
}

#[test]
fn when_the_filter_dies_those_beyond_the_limit_are_answered_too() {
    let (mut stage, mut filter, mut limiter) = stage(Wanted { errors: false, messages: false, ..ALL });
    let (mut client, _) = greeted(&stage, &mut limiter);
    client.send("MAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\n");
    let refusal = Some(reply("452 4.7.1 Too many recipients"));
    spent(&mut limiter, Kind::Recipients, 2, Spent { granted: 1, delay_ms: 0, refusal });
    filter.hear();
    drop(filter);
    assert!(client.reply().starts_with("250"));
    assert!(client.reply().starts_with("451") && client.reply().starts_with("451"));
    let mut filter = stage.introduce((false, false, false));
    assert!(client.ask("RSET").starts_with("250"));
    client.send("MAIL FROM:<>\r\nRCPT TO:<b@mx.test>\r\n");
    spent(&mut limiter, Kind::Recipients, 1, granted(1));
    filter.accept_recipients();
    assert!(client.reply().starts_with("250"));
    assert!(client.reply().starts_with("250"));
    drop(client);
}

#[test]
fn a_reply_may_come_late_and_others_are_served_meanwhile() {
    let (stage, mut filter, mut limiter) = stage(Wanted { errors: false, recipients: false, ..ALL });
    let (mut slow, _) = greeted(&stage, &mut limiter);
    let began = Instant::now();
    slow.say("MAIL FROM:<>");
    spent(&mut limiter, Kind::Messages, 1, Spent { granted: 1, delay_ms: 400, refusal: None });
    let (mut quick, _) = greeted(&stage, &mut limiter);
    quick.say("MAIL FROM:<>");
    spent(&mut limiter, Kind::Messages, 1, granted(1));
    assert!(quick.reply().starts_with("250"));
    quick.say("RCPT TO:<b@mx.test>");
    filter.accept_recipients();
    assert!(quick.reply().starts_with("250"));
    assert!(slow.reply().starts_with("250"));
    assert!(began.elapsed() >= Duration::from_millis(400));
}

#[test]
fn errors_are_noted() {
    let (stage, _filter, mut limiter) = stage(ALL);
    let (mut client, _) = greeted(&stage, &mut limiter);
    client.ask("BOGUS");
    match limiter.hear() {
        Ask::Note { client, kind: Kind::Errors, count: 1 } => assert_eq!(client.to_string(), "127.0.0.1"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_silent_limiter_delays_a_client_by_a_second_and_no_more() {
    let (mut stage, mut filter, mut limiter) = stage(ALL);
    let mut client = stage.connect();
    let ticket = limiter.at_the_door();
    assert_eq!(client.reply(), "220 mx.test ESMTP");
    stage.figure("limits_missed", 1);
    stage.logged("event=limits-silent");
    assert!(client.ask("EHLO client.test").starts_with("250"));
    // It owes an answer: nothing is asked before it came, and what it says then is of no interest.
    client.begin(&mut filter);
    limiter.entry(ticket, Entry::Refuse(reply("421 4.7.0 Too late")));
    assert!(client.ask("NOOP").starts_with("250"));
    assert!(client.ask("RSET").starts_with("250"));
    client.say("MAIL FROM:<>");
    spent(&mut limiter, Kind::Messages, 1, granted(1));
    assert!(client.reply().starts_with("250"));
}

#[test]
fn without_a_limiter_clients_go_on_and_the_next_one_hears_of_all() {
    let (mut stage, _filter, mut limiter) = stage(DOOR);
    let (mut first, _) = greeted(&stage, &mut limiter);
    let mut second = stage.connect();
    let ticket = limiter.at_the_door();
    drop(limiter);
    assert_eq!(second.reply(), "220 mx.test ESMTP", "{ticket}");
    stage.logged("event=limits-lost");
    let mut third = stage.connect();
    assert_eq!(third.reply(), "220 mx.test ESMTP");
    let mut limiter = stage.introduce_limiter(DOOR);
    let mut present = Vec::new();
    for _ in 0..3 {
        match limiter.hear() {
            Ask::Present { ticket, client } => present.push((ticket, client.to_string())),
            other => panic!("{other:?}"),
        }
    }
    assert!(present.iter().all(|(_, client)| client == "127.0.0.1"));
    assert!(present.iter().any(|(open, _)| *open == ticket));
    assert!(first.ask("NOOP").starts_with("250"));
    drop(second);
    assert_eq!(limiter.hear(), Ask::Left { ticket });
    let (_fourth, _) = greeted(&stage, &mut limiter);
}

#[test]
fn who_keeps_quiet_is_greeted_after_the_wait() {
    let (stage, _filter, mut limiter) = stage(DOOR);
    let began = Instant::now();
    let mut client = stage.connect();
    let ticket = limiter.at_the_door();
    limiter.entry(ticket, Entry::Screen { wait_ms: 300 });
    assert_eq!(limiter.hear(), Ask::Waited { ticket, early: false });
    assert!(began.elapsed() >= Duration::from_millis(300));
    limiter.entry(ticket, GO);
    assert_eq!(client.reply(), "220 mx.test ESMTP");
}

#[test]
fn who_speaks_before_the_greeting_is_found_at_once() {
    for said_before in [true, false] {
        let (mut stage, mut filter, mut limiter) = stage(DOOR);
        let mut client = stage.connect();
        if said_before {
            client.say("EHLO client.test");
        }
        let ticket = limiter.at_the_door();
        limiter.entry(ticket, Entry::Screen { wait_ms: 60_000 });
        if !said_before {
            client.say("EHLO client.test");
        }
        assert_eq!(limiter.hear(), Ask::Waited { ticket, early: true });
        limiter.entry(ticket, Entry::Condemn(reply("550 5.5.1 Too hasty")));
        assert_eq!(client.reply(), "220 mx.test ESMTP");
        assert!(client.reply().starts_with("250-"), "what it said too early is heard now");
        client.send("MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nRCPT TO:<c@mx.test>\r\nDATA\r\n");
        let replies: Vec<String> = (0..4).map(|_| client.reply()).collect();
        assert_eq!(replies[1..3], ["550 5.5.1 Too hasty", "550 5.5.1 Too hasty"]);
        assert!(replies[0].starts_with("250") && replies[3].starts_with("554"), "{replies:?}");
        stage.logged("from=<a@client.test> to=<b@mx.test> count=2");
        drop(client);
        assert_eq!(limiter.hear(), Ask::Left { ticket });
        // Nothing of this has reached it.
        assert!(filter.hear_soon(Duration::ZERO).is_none());
    }
}

#[test]
fn a_client_that_goes_while_it_waits_is_gone() {
    let (mut stage, _filter, mut limiter) = stage(DOOR);
    let client = stage.connect();
    let ticket = limiter.at_the_door();
    limiter.entry(ticket, Entry::Screen { wait_ms: 60_000 });
    drop(client);
    assert_eq!(limiter.hear(), Ask::Left { ticket });
    stage.figure("sessions_open", 0);
}

#[test]
fn who_is_watched_and_does_well_must_come_again() {
    let (stage, _filter, mut limiter) = stage(DOOR);
    let mut client = stage.connect();
    let ticket = limiter.at_the_door();
    limiter.entry(ticket, Entry::Screen { wait_ms: 0 });
    assert_eq!(limiter.hear(), Ask::Waited { ticket, early: false });
    limiter.entry(ticket, Entry::Test);
    assert_eq!(client.reply(), "220 mx.test ESMTP");
    assert!(!client.ask("EHLO client.test").contains("PIPELINING"));
    assert!(client.ask("MAIL FROM:<a@client.test>").starts_with("250"));
    assert_eq!(client.ask("RCPT TO:<b@mx.test>"), "450 4.3.2 First contact, please try again in a moment");
    assert_eq!(limiter.hear(), Ask::Passed { ticket });
    assert!(client.ask("QUIT").starts_with("221"));
    assert_eq!(limiter.hear(), Ask::Left { ticket });
}

#[test]
fn who_is_watched_and_breaks_the_protocol_is_refused() {
    for (said, fault) in [
        ("EHLO x\r\nMAIL FROM:<>\r\n", "pipelining"),
        ("EHLO x\n", "bare-newline"),
        ("GET / HTTP/1.0\r\n", "not-smtp"),
    ] {
        let (mut stage, _filter, mut limiter) = stage(DOOR);
        let mut client = stage.connect();
        let ticket = limiter.at_the_door();
        limiter.entry(ticket, Entry::Screen { wait_ms: 0 });
        limiter.hear();
        limiter.entry(ticket, Entry::Test);
        assert_eq!(client.reply(), "220 mx.test ESMTP");
        client.send(said);
        assert_eq!(client.reply(), "554 5.5.1 Protocol error, closing connection", "{fault}");
        assert!(client.is_closed());
        stage.logged(&format!("fault={fault}"));
        assert_eq!(limiter.hear(), Ask::Left { ticket });
    }
}

#[test]
fn a_limiter_that_says_what_nobody_may_say_is_dropped_and_reported() {
    let nonsense: [fn(u64) -> Answer; 5] = [
        |ticket| Answer::Entered { ticket, entry: Entry::Refuse(reply("250 2.0.0 Fine")) },
        |ticket| Answer::Entered { ticket, entry: Entry::Condemn(reply("354 Go on")) },
        |ticket| Answer::Entered {
            ticket,
            entry: Entry::Refuse(vsmtp_ipc::wire::Reply { code: 999, enhanced: None, text: "x".into() }),
        },
        |ticket| Answer::Spent { ticket, spent: granted(2) },
        |ticket| Answer::Spent { ticket, spent: granted(0) },
    ];
    for (at, nonsense) in nonsense.into_iter().enumerate() {
        let (mut stage, mut filter, mut limiter) = stage(Wanted { errors: false, recipients: false, ..ALL });
        let mut client = stage.connect();
        let mut ticket = limiter.at_the_door();
        if at >= 3 {
            limiter.entry(ticket, GO);
            assert_eq!(client.reply(), "220 mx.test ESMTP");
            client.ask("EHLO client.test");
            client.say("MAIL FROM:<>");
            let Ask::Spend { ticket: asked, .. } = limiter.hear() else { panic!() };
            ticket = asked;
        }
        limiter.say(&nonsense(ticket));
        assert!(limiter.is_dropped());
        stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(name) if *name == LIMITS));
        // The client does not notice.
        if at < 3 {
            assert_eq!(client.reply(), "220 mx.test ESMTP", "{at}");
            client.ask("EHLO client.test");
            client.say("MAIL FROM:<>");
        }
        assert!(client.reply().starts_with("250"), "{at}");
        client.say("RCPT TO:<b@mx.test>");
        filter.accept_recipients();
        assert!(client.reply().starts_with("250"));
    }
    let (_stage, _filter, mut limiter) = stage(DOOR);
    limiter.entry(77, GO);
    assert!(limiter.is_dropped(), "nobody asked");
}

#[test]
fn clients_that_are_early_wait_until_the_limiter_has_said_what_it_wants() {
    let mut strict = slice();
    strict.exempt.clear();
    let mut stage = Stage::start(&strict);
    let _filter = stage.introduce((false, false, false));
    let mut limiter = stage.introduce_silent_limiter();
    let mut clients = [stage.connect(), stage.connect()];
    std::thread::sleep(Duration::from_millis(50));
    limiter.say(&Answer::Wanted(DOOR));
    for _ in 0..2 {
        let ticket = limiter.at_the_door();
        limiter.entry(ticket, Entry::Refuse(reply("421 4.7.0 Too many")));
    }
    for client in &mut clients {
        assert_eq!(client.reply(), "421 4.7.0 Too many");
    }
}

#[test]
fn the_filter_is_asked_after_the_limiter() {
    let mut strict = slice();
    strict.exempt.clear();
    let mut stage = Stage::start(&strict);
    let mut limiter = stage.introduce_limiter(DOOR);
    let mut filter = stage.introduce((true, false, false));
    let mut client = stage.connect();
    let ticket = limiter.at_the_door();
    assert!(filter.hear_soon(Duration::from_millis(50)).is_none());
    limiter.entry(ticket, GO);
    let receiver_filter::Ask::Connect(facts) = filter.hear().0 else { panic!() };
    filter.say(&Verdict::Decided { session: facts.session, decision: Decision::Accept(None) });
    assert_eq!(client.reply(), "220 mx.test ESMTP");
}
