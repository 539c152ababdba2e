//! The names of clients: who waits for them, who hears them, and what a resolver can do wrong.

use std::time::{Duration, Instant};

use vsmtp_config::{ByText, Network, ReceiverSlice};
use vsmtp_ipc::edge::client_resolver::{Answer, ClientName, DnsError, Query, Question, Records, ResolverEnd};
use vsmtp_ipc::edge::master_child::{ToChild, ToMaster};
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{ChannelError, EdgeId};
use vsmtp_sys::seqpacket;

use crate::stage::{Stage, next, slice};

const RESOLVER: ProcessName = ProcessName { role: Role::Resolver, instance: 0 };

/// The resolver's end of one edge.
struct Resolver(ResolverEnd);

impl Resolver {
    fn introduce(stage: &mut Stage) -> Self {
        let (ours, theirs) = seqpacket::pair().unwrap();
        stage.tell(&ToChild::Peer(RESOLVER), vec![theirs]);
        Resolver(ResolverEnd::new(ours, EdgeId::ClientResolver))
    }

    /// Expects the question about the one client that there is; its ticket.
    fn asked(&mut self) -> u64 {
        let Question { ticket, query, .. } = next(&mut self.0).expect("the receiver keeps the edge").message;
        assert_eq!(query, Query::ClientName([127, 0, 0, 1].into()));
        ticket
    }

    fn say(&mut self, ticket: u64, result: Result<Records, DnsError>) {
        self.0.send(&Answer { ticket, result, secure: false }, Vec::new()).unwrap();
        assert_eq!(self.0.flush().unwrap(), vsmtp_ipc::Flushed::All);
    }

    fn name(&mut self, ticket: u64, name: &str) {
        self.say(ticket, Ok(Records::ClientName(ClientName::Is(name.to_owned()))));
    }

    fn hears_nothing(&mut self) -> bool {
        self.0.receive().unwrap().is_none()
    }
}

#[test]
fn a_client_is_greeted_at_once_and_the_filter_hears_its_name() {
    let (mut stage, mut filter) = Stage::with_filter();
    let mut resolver = Resolver::introduce(&mut stage);
    let mut client = stage.greeted();
    let ticket = resolver.asked();
    assert!(client.ask("MAIL FROM:<a@client.test>").starts_with("250"));
    client.say("RCPT TO:<b@mx.test>");
    assert!(filter.hear_soon(Duration::from_millis(100)).is_none(), "it waits for the name");
    resolver.name(ticket, "host.client.test");
    let facts = filter.accept_recipients().0;
    assert_eq!(facts.client_name.as_deref(), Some("host.client.test"));
    assert!(client.reply().starts_with("250"));
    assert!(client.ask("DATA").starts_with("354"));
    client.send("Subject: x\r\n\r\nx\r\n.\r\n");
    let message = String::from_utf8(filter.accept_message()).unwrap();
    assert!(
        message.starts_with("Received: from client.test (host.client.test [127.0.0.1])\r\n"),
        "{message}"
    );
    assert!(client.reply().starts_with("250"));
    stage.logged("client_name=host.client.test");
    // The next one is known already.
    let facts = stage.greeted().begin(&mut filter);
    assert_eq!(facts.client_name.as_deref(), Some("host.client.test"));
    assert!(resolver.hears_nothing());
}

#[test]
fn where_rules_judge_the_connection_the_greeting_waits_and_sessions_share_a_question() {
    let mut stage = Stage::start(&slice());
    let mut filter = stage.introduce((true, false, false));
    let mut resolver = Resolver::introduce(&mut stage);
    let mut clients = [stage.connect(), stage.connect()];
    let ticket = resolver.asked();
    // The second may come a moment after the first.
    assert!(filter.hear_soon(Duration::from_millis(300)).is_none());
    resolver.name(ticket, "host.client.test");
    for _ in 0..2 {
        let (Ask::Connect(facts), _) = filter.hear() else { panic!("no connect") };
        assert_eq!(facts.client_name.as_deref(), Some("host.client.test"));
        filter.decide(facts.session, Decision::Accept(None));
    }
    for client in &mut clients {
        assert_eq!(client.reply(), "220 mx.test ESMTP");
    }
    assert!(resolver.hears_nothing());
}

#[test]
fn no_name_no_answer_and_no_resolver_are_no_name() {
    for answer in [
        Err(DnsError::Temporary),
        Ok(Records::ClientName(ClientName::Unknown)),
        Ok(Records::ClientName(ClientName::None)),
        Ok(Records::ClientName(ClientName::Is("not a host".to_owned()))),
    ] {
        let (mut stage, mut filter) = Stage::with_filter();
        let mut resolver = Resolver::introduce(&mut stage);
        let mut client = stage.greeted();
        let ticket = resolver.asked();
        resolver.say(ticket, answer);
        assert_eq!(client.begin(&mut filter).client_name, None);
    }
    // Silence is not waited for longer than four seconds, from the connection on.
    let (mut stage, mut filter) = Stage::with_filter();
    let mut resolver = Resolver::introduce(&mut stage);
    let began = Instant::now();
    let mut client = stage.greeted();
    let ticket = resolver.asked();
    assert_eq!(client.begin(&mut filter).client_name, None);
    let waited = began.elapsed();
    assert!((Duration::from_millis(3_900)..Duration::from_secs(15)).contains(&waited), "{waited:?}");
    // What comes late counts for those that come later.
    resolver.name(ticket, "late.test");
    while stage.greeted().begin(&mut filter).client_name.as_deref() != Some("late.test") {
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    // One that dies takes nobody with it.
    let (mut stage, mut filter) = Stage::with_filter();
    let mut resolver = Resolver::introduce(&mut stage);
    let mut client = stage.greeted();
    resolver.asked();
    assert!(client.ask("MAIL FROM:<a@client.test>").starts_with("250"));
    client.say("RCPT TO:<b@mx.test>");
    drop(resolver);
    assert_eq!(filter.accept_recipients().0.client_name, None);
    assert!(client.reply().starts_with("250"));
    stage.logged("event=resolver-lost");
    assert_eq!(stage.greeted().begin(&mut filter).client_name, None);
}

#[test]
fn the_next_resolver_is_asked_what_the_last_one_owes() {
    let (mut stage, mut filter) = Stage::with_filter();
    let mut resolver = Resolver::introduce(&mut stage);
    let mut client = stage.greeted();
    resolver.asked();
    let mut next = Resolver::introduce(&mut stage);
    let ticket = next.asked();
    next.name(ticket, "host.test");
    assert_eq!(client.begin(&mut filter).client_name.as_deref(), Some("host.test"));
}

#[test]
fn a_resolver_that_says_what_nobody_may_say_is_reported() {
    for bad in [
        Answer { ticket: 77, result: Err(DnsError::Temporary), secure: false },
        Answer { ticket: 1, result: Ok(Records::Text(Vec::new())), secure: false },
        Answer { ticket: 1, result: Ok(Records::Names(vec!["a.test".to_owned()])), secure: false },
    ] {
        let (mut stage, mut filter) = Stage::with_filter();
        let mut resolver = Resolver::introduce(&mut stage);
        let mut client = stage.greeted();
        resolver.asked();
        resolver.0.send(&bad, Vec::new()).unwrap();
        let _ = resolver.0.flush();
        stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(RESOLVER)));
        assert!(matches!(next(&mut resolver.0), Err(ChannelError::Closed)));
        assert_eq!(client.begin(&mut filter).client_name, None);
    }
}

#[test]
fn nobody_is_asked_where_names_are_not_wanted() {
    let mut stage = Stage::start(&ReceiverSlice { client_names: false, ..slice() });
    let mut filter = stage.introduce((false, false, false));
    let mut resolver = Resolver::introduce(&mut stage);
    assert_eq!(stage.greeted().begin(&mut filter).client_name, None);
    assert!(resolver.hears_nothing());
}

#[test]
fn a_proxy_names_its_client_and_what_it_does_not_say_is_looked_up() {
    let mut trusting = slice();
    trusting.xclient_from = vec![ByText::from(Network::parse("127.0.0.0/8").unwrap())];
    let mut stage = Stage::start(&trusting);
    let mut filter = stage.introduce((false, false, false));
    let mut resolver = Resolver::introduce(&mut stage);
    let become_client = |stage: &Stage, words: &str| {
        let mut client = stage.greeted();
        assert!(client.ask(&format!("XCLIENT ADDR=192.0.2.7 {words}")).starts_with("220"));
        assert!(client.ask("EHLO other.test").starts_with("250"));
        client
    };
    let mut client = become_client(&stage, "NAME=said.test");
    let ticket = resolver.asked();
    resolver.name(ticket, "proxy.test");
    assert_eq!(client.begin(&mut filter).client_name.as_deref(), Some("said.test"));
    let mut client = become_client(&stage, "NAME=[UNAVAILABLE]");
    assert_eq!(client.begin(&mut filter).client_name, None);
    let mut client = become_client(&stage, "PORT=25");
    let asked = next(&mut resolver.0).unwrap().message;
    assert_eq!(asked.query, Query::ClientName([192, 0, 2, 7].into()));
    resolver.name(asked.ticket, "found.test");
    assert_eq!(client.begin(&mut filter).client_name.as_deref(), Some("found.test"));
}

#[test]
fn a_resolver_that_owes_all_that_it_may_owe_is_reported_and_the_next_one_is_asked() {
    let mut trusting = slice();
    trusting.xclient_from = vec![ByText::from(Network::parse("127.0.0.0/8").unwrap())];
    let mut stage = Stage::start(&trusting);
    let mut filter = stage.introduce((false, false, false));
    let mut silent = Resolver::introduce(&mut stage);
    for last in 1..=vsmtp_ipc::edge::client_resolver::CREDITS {
        let mut client = stage.greeted();
        assert!(client.ask(&format!("XCLIENT ADDR=192.0.{}.{}", last / 256, last % 256)).starts_with("220"));
    }
    let began = Instant::now();
    while !stage.log().contains("event=resolver-lost") {
        assert!(began.elapsed() < Duration::from_secs(20), "it is left alone");
        drop(stage.greeted());
        std::thread::sleep(Duration::from_millis(100));
    }
    stage.hear_master(|said| matches!(said, ToMaster::Misbehaved(RESOLVER)));
    while next(&mut silent.0).is_ok() {}
    let mut resolver = Resolver::introduce(&mut stage);
    let mut client = stage.greeted();
    let ticket = resolver.asked();
    resolver.name(ticket, "host.test");
    assert_eq!(client.begin(&mut filter).client_name.as_deref(), Some("host.test"));
}
