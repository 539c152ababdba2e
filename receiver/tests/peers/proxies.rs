//! Clients behind load balancers and proxies: who they are to the filter, and who may say so.

use std::io::Read;
use std::net::SocketAddr;

use vsmtp_config::{ByText, Network, ReceiverSlice};
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision};

use crate::stage::{Stage, slice};

fn loopback() -> Vec<ByText<Network>> {
    vec![ByText::from(Network::parse("127.0.0.0/8").unwrap())]
}

/// A receiver with one door, which balancers of these networks reach.
fn behind(proxies: Vec<ByText<Network>>) -> Stage {
    Stage::start_with(|address: SocketAddr| ReceiverSlice { proxied: vec![address], proxies, ..slice() })
}

#[test]
fn a_balancer_tells_who_the_client_is() {
    let mut stage = behind(loopback());
    let mut filter = stage.introduce((true, false, false));
    for (header, client) in [
        (&b"PROXY TCP4 192.0.2.1 198.51.100.2 4000 25\r\n"[..], "192.0.2.1:4000"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x0f\xa0\0\x19", "192.0.2.1:4000"),
    ] {
        // However it is cut, and with the first command right behind it.
        for cut in [1, header.len() - 1, header.len()] {
            let mut session = stage.connect();
            session.send(&header[..cut]);
            std::thread::sleep(std::time::Duration::from_millis(20));
            session.send(&header[cut..]);
            session.send("EHLO client.test\r\n");
            let (Ask::Connect(facts), _) = filter.hear() else { panic!("no connect") };
            let (ip, port) = facts.client.unwrap();
            assert_eq!(SocketAddr::new(ip, port).to_string(), client);
            assert_eq!(facts.server.unwrap().0.to_string(), "198.51.100.2");
            filter.decide(facts.session, Decision::Accept(None));
            assert_eq!(session.reply(), "220 mx.test ESMTP");
            assert!(session.reply().starts_with("250-mx.test"));
            drop(session);
            filter.expect_forget();
        }
    }
    let mut own = stage.connect();
    own.send("PROXY UNKNOWN\r\n");
    let (Ask::Connect(facts), _) = filter.hear() else { panic!("no connect") };
    assert_eq!(facts.client.unwrap().0.to_string(), "127.0.0.1");
}

#[test]
fn without_a_header_nothing_is_said() {
    let mut stage = behind(loopback());
    let _filter = stage.introduce((false, false, false));
    for bad in ["EHLO client.test\r\n", "PROXY TCP4 a b c d\r\n"] {
        let mut session = stage.connect();
        session.send(bad);
        let mut said = Vec::new();
        let _ = session.stream.read_to_end(&mut said);
        assert_eq!(said, b"", "{bad}");
    }
    stage.logged("event=proxy-refused");
    // One that says nothing at all goes too, in time.
    let mut silent = stage.connect();
    let mut said = Vec::new();
    let _ = silent.stream.read_to_end(&mut said);
    assert_eq!(said, b"");
    stage.logged("reason=\"no header in time\"");
}

#[test]
fn others_than_balancers_are_not_let_in_there() {
    let mut stage = behind(vec![ByText::from(Network::parse("192.0.2.0/24").unwrap())]);
    let mut session = stage.connect();
    let _ = std::io::Write::write_all(&mut session.stream, b"PROXY TCP4 192.0.2.1 198.51.100.2 4000 25\r\n");
    let mut said = Vec::new();
    let _ = session.stream.read_to_end(&mut said);
    assert_eq!(said, b"");
    stage.logged("reason=\"not a proxy\"");
}

#[test]
fn on_another_door_the_header_is_a_bad_command() {
    let (stage, _filter) = Stage::with_filter();
    let mut session = stage.connect();
    assert_eq!(session.reply(), "220 mx.test ESMTP");
    assert!(session.ask("PROXY TCP4 192.0.2.1 198.51.100.2 4000 25").starts_with("500 "));
}

#[test]
fn xclient_begins_another_session_with_the_filter() {
    let mut stage =
        Stage::start(&ReceiverSlice { xclient_from: loopback(), xforward_from: loopback(), ..slice() });
    let mut filter = stage.introduce((true, false, false));
    let mut session = stage.connect();
    let accept = |filter: &mut crate::stage::Filter| {
        let (Ask::Connect(facts), _) = filter.hear() else { panic!("no connect") };
        filter.decide(facts.session, Decision::Accept(None));
        facts.client.unwrap().0.to_string()
    };
    assert_eq!(accept(&mut filter), "127.0.0.1");
    session.reply();
    assert!(session.ask("EHLO proxy.test").contains("XCLIENT NAME ADDR"));
    for client in ["192.0.2.1", "2001:db8::1"] {
        let tag = if client.contains(':') { "IPV6:" } else { "" };
        session.say(&format!("XCLIENT ADDR={tag}{client} PORT=99 NAME=[UNAVAILABLE]"));
        filter.expect_forget();
        assert_eq!(accept(&mut filter), client);
        assert_eq!(session.reply(), "220 mx.test ESMTP");
        assert!(session.ask("EHLO client.test").contains("XCLIENT"));
    }
    assert!(session.ask("XFORWARD ADDR=203.0.113.9 IDENT=AB12").starts_with("250 "));
    let facts = session.begin(&mut filter);
    assert_eq!(facts.client.unwrap(), ("2001:db8::1".parse().unwrap(), 99));
    assert!(session.ask("DATA").starts_with("354"));
    session.send("x\r\n.\r\n");
    let message = String::from_utf8(filter.accept_message()).unwrap();
    assert!(message.starts_with("Received: from client.test ([IPv6:2001:db8::1])"), "{message}");
    assert!(session.reply().starts_with("250"));
    stage.logged("forwarded=\"addr=203.0.113.9 ident=AB12\"");
    stage.logged("event=xclient");
}

#[test]
fn what_xforward_says_holds_for_one_transaction() {
    let mut stage = Stage::start(&ReceiverSlice { xforward_from: loopback(), ..slice() });
    let mut filter = stage.introduce((false, false, false));
    let mut session = stage.greeted();
    let send = |filter: &mut crate::stage::Filter, session: &mut crate::stage::Client| {
        session.begin(filter);
        assert!(session.ask("DATA").starts_with("354"));
        session.send("x\r\n.\r\n");
        filter.accept_message();
        assert!(session.reply().starts_with("250"));
    };
    // Several commands tell of one message, and the last word counts.
    assert!(session.ask("XFORWARD NAME=first.test ADDR=203.0.113.1").starts_with("250 "));
    assert!(session.ask("XFORWARD NAME=[UNAVAILABLE] IDENT=ONE").starts_with("250 "));
    send(&mut filter, &mut session);
    // Of the next one nothing is said, and of the one after it something that comes to nothing.
    send(&mut filter, &mut session);
    assert!(session.ask("XFORWARD ADDR=203.0.113.3 IDENT=THREE").starts_with("250 "));
    session.begin(&mut filter);
    assert!(session.ask("RSET").starts_with("250"));
    filter.expect_reset();
    assert!(session.ask("XFORWARD HELO=four.test").starts_with("250 "));
    send(&mut filter, &mut session);
    assert!(session.ask("QUIT").starts_with("221"));
    stage.logged("helo=four.test");
    let log = stage.log();
    let accepted: Vec<_> = log.lines().filter(|line| line.contains("event=accepted")).collect();
    let said: Vec<_> = accepted
        .iter()
        .map(|line| line.split_once(" forwarded=").map(|(_, rest)| rest.trim_matches('"').to_owned()))
        .collect();
    assert_eq!(accepted.len(), 3, "{log}");
    assert!(
        said[0].as_deref().is_some_and(|said| said.starts_with("addr=203.0.113.1 ident=ONE")),
        "{said:?}"
    );
    assert_eq!(said[1], None);
    assert!(said[2].as_deref().is_some_and(|said| said.starts_with("helo=four.test")), "{said:?}");
}

#[test]
fn what_xforward_says_of_a_transaction_that_never_begins_is_forgotten() {
    let mut stage = Stage::start(&ReceiverSlice { xforward_from: loopback(), ..slice() });
    let mut filter = stage.introduce((false, false, false));
    let mut session = stage.greeted();
    session.ask("EHLO proxy.test");
    for (at, (command, said)) in
        [("RSET", "250"), ("MAIL FROM:a b", "501"), ("EHLO proxy.test", "250"), ("NOOP", "250")]
            .into_iter()
            .enumerate()
    {
        assert!(session.ask(&format!("XFORWARD IDENT=NO{at}")).starts_with("250 "));
        assert!(session.ask(command).starts_with(said), "{command}");
        session.begin(&mut filter);
        assert!(session.ask("DATA").starts_with("354"));
        session.send("x\r\n.\r\n");
        filter.accept_message();
        assert!(session.reply().starts_with("250"));
    }
    assert!(session.ask("QUIT").starts_with("221"));
    stage.logged("ident=NO3");
    let log = stage.log();
    for forgotten in ["ident=NO0", "ident=NO1", "ident=NO2"] {
        assert!(!log.contains(forgotten), "{forgotten}: {log}");
    }
}

#[test]
fn xclient_is_refused_to_all_others() {
    let (stage, _filter) = Stage::with_filter();
    let mut session = stage.greeted();
    assert!(session.ask("XCLIENT ADDR=192.0.2.1").starts_with("550 "));
    assert!(session.ask("XFORWARD ADDR=192.0.2.1").starts_with("550 "));
}
