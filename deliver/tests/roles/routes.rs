//! Finding the server: what the resolver's answers lead to.

use std::net::IpAddr;

use vsmtp_config::{SourceAddresses, Textual, TlsDestination};
use vsmtp_ipc::edge::client_resolver::{Answer, DnsError, Query, Records, ResolverEnd};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::queue_deliver::{Advice, Outcome, Reach, Result3};
use vsmtp_ipc::role::Role;
use vsmtp_stage::say;

use crate::harness::{Deliver, attempt, hear, inline, results, start};
use crate::peer::Peer;

const MESSAGE: &str = "A: b\r\n\r\nbody\r\n";

pub fn answer(resolver: &mut ResolverEnd, known: &[(Query, Result<Records, DnsError>)], questions: usize) {
    for _ in 0..questions {
        let question = hear(resolver);
        let (_, result) = known.iter().find(|(query, _)| *query == question.query).unwrap();
        say(resolver, &Answer { ticket: question.ticket, result: result.clone(), secure: false }, Vec::new());
    }
}

pub fn mx(domain: &str, hosts: &[(u16, &str)]) -> (Query, Result<Records, DnsError>) {
    let hosts = hosts.iter().map(|(preference, host)| (*preference, (*host).to_owned())).collect();
    (Query::Mx(domain.to_owned()), Ok(Records::Mx(hosts)))
}

pub fn a(host: &str, address: &str) -> (Query, Result<Records, DnsError>) {
    let address: IpAddr = address.parse().unwrap();
    (Query::Addresses(host.to_owned()), Ok(Records::Addresses(vec![address])))
}

fn no(query: Query, error: DnsError) -> (Query, Result<Records, DnsError>) {
    (query, Err(error))
}

fn one(deliver: &mut Deliver) -> (Outcome, Result3, (u8, u16, u16)) {
    let outcome = deliver.outcome();
    let (result, enhanced) = results(&outcome)[0];
    (outcome, result, enhanced)
}

#[test]
fn the_second_exchanger_takes_what_the_first_cannot() {
    let mut deliver = start(|_| {});
    let mut resolver = deliver.resolver();
    let busy = Peer::at("127.0.0.2:0");
    let port = busy.port();
    let good = Peer::at(&format!("127.0.0.3:{port}"));
    deliver.lease(&attempt(1, &format!("smtp:dst.test:{port}"), &["b@dst.test"], inline(MESSAGE)));
    // The best is not there at all, the next one is busy.
    let known = [
        mx("dst.test", &[(30, "good.test"), (10, "dead.test"), (20, "busy.test")]),
        a("dead.test", "127.0.0.4"),
        a("busy.test", "127.0.0.2"),
        a("good.test", "127.0.0.3"),
    ];
    answer(&mut resolver, &known, 4);
    busy.accept().say("421 4.3.2 busy\r\n");
    good.accept_greeted().take_message("250 ok\r\n");
    let (outcome, result, _) = one(&mut deliver);
    assert_eq!(result, Result3::Delivered);
    assert_eq!(outcome.remote, format!("good.test[127.0.0.3]:{port}"));
}

#[test]
fn what_names_say_decides_between_later_and_never() {
    let mut deliver = start(|slice| slice.own_addresses = vec!["127.0.0.1:25".parse().unwrap()]);
    let mut resolver = deliver.resolver();
    let query = || Query::Mx("dst.test".to_owned());
    for (known, questions, expected) in [
        (vec![mx("dst.test", &[(0, "")])], 1, (Result3::Failed, (5, 1, 10))),
        (vec![no(query(), DnsError::NoSuchName)], 1, (Result3::Failed, (5, 1, 2))),
        (vec![no(query(), DnsError::Temporary)], 1, (Result3::Deferred, (4, 4, 3))),
        (vec![no(query(), DnsError::Bogus)], 1, (Result3::Deferred, (4, 4, 3))),
        (vec![mx("dst.test", &[(0, "l.test")]), a("l.test", "127.0.0.1")], 2, (Result3::Failed, (5, 4, 6))),
    ] {
        deliver.lease(&attempt(1, "smtp:dst.test", &["b@dst.test"], inline(MESSAGE)));
        answer(&mut resolver, &known, questions);
        let (outcome, result, enhanced) = one(&mut deliver);
        assert_eq!((result, enhanced), expected);
        assert_eq!(outcome.reach, Reach::Unreachable);
    }
}

#[test]
fn an_operators_mistake_bounces_nobodys_mail() {
    let mut deliver = start(|_| {});
    let mut resolver = deliver.resolver();
    deliver.lease(&attempt(1, "smtp:relay.test", &["b@dst.test"], inline(MESSAGE)));
    answer(&mut resolver, &[no(Query::Mx("relay.test".to_owned()), DnsError::NoSuchName)], 1);
    assert_eq!(one(&mut deliver).1, Result3::Deferred);
}

#[test]
fn a_relay_that_refuses_us_bounces_nobodys_mail() {
    // Down for maintenance, says the greeting, or the answer to EHLO and HELO.
    for (greeting, hello) in
        [("554 5.3.2 down\r\n", ""), ("521 5.3.2 no mail\r\n", ""), ("220 x\r\n", "550 5.7.1 no\r\n")]
    {
        let (mut deliver, relay) = (start(|_| {}), Peer::new());
        for lease in 1..=2 {
            deliver.lease(&attempt(lease, &relay.next_hop(), &["b@dst.test"], inline(MESSAGE)));
        }
        let mut talk = relay.accept();
        talk.say(greeting);
        if !hello.is_empty() {
            talk.hear_say("EHLO", hello);
            talk.hear_say("HELO", hello);
        }
        for _ in 1..=2 {
            assert_eq!(one(&mut deliver).1, Result3::Deferred, "{greeting} {hello}");
        }
    }
}

#[test]
fn a_greeting_that_refuses_is_no_last_word_unless_it_says_that_there_is_never_mail() {
    let mut deliver = start(|_| {});
    let mut resolver = deliver.resolver();
    let first = Peer::at("127.0.0.2:0");
    let port = first.port();
    let second = Peer::at(&format!("127.0.0.3:{port}"));
    let known = [
        mx("dst.test", &[(10, "a.test"), (20, "b.test")]),
        a("a.test", "127.0.0.2"),
        a("b.test", "127.0.0.3"),
    ];
    for (greetings, expected) in [
        (["554 5.3.2 down\r\n", "554 5.3.2 down\r\n"], (Result3::Deferred, (4, 3, 2))),
        (["521 5.3.2 never\r\n", "554 5.3.2 down\r\n"], (Result3::Deferred, (4, 3, 2))),
        (["521 5.3.2 never\r\n", "521 5.3.2 never\r\n"], (Result3::Failed, (5, 3, 2))),
    ] {
        deliver.lease(&attempt(1, &format!("smtp:dst.test:{port}"), &["b@dst.test"], inline(MESSAGE)));
        answer(&mut resolver, &known, 3);
        first.accept().say(greetings[0]);
        second.accept().say(greetings[1]);
        let (_, result, enhanced) = one(&mut deliver);
        assert_eq!((result, enhanced), expected, "{greetings:?}");
    }
}

#[test]
fn without_a_resolver_names_are_deferred() {
    let mut deliver = start(|_| {});
    deliver.lease(&attempt(1, "smtp:dst.test", &["b@dst.test"], inline(MESSAGE)));
    assert_eq!(one(&mut deliver).2, (4, 4, 3));
    // One that dies with the question is as good as none, and a new one is asked again.
    let mut resolver = deliver.resolver();
    deliver.lease(&attempt(2, "smtp:dst.test", &["b@dst.test"], inline(MESSAGE)));
    hear(&mut resolver);
    drop(resolver);
    assert_eq!(one(&mut deliver).2, (4, 4, 3));
    let mut resolver = deliver.resolver();
    deliver.lease(&attempt(3, "smtp:dst.test", &["b@dst.test"], inline(MESSAGE)));
    answer(&mut resolver, &[mx("dst.test", &[(0, "")])], 1);
    assert_eq!(one(&mut deliver).2, (5, 1, 10));
}

#[test]
fn a_resolver_that_answers_something_else_is_reported() {
    let mut deliver = start(|_| {});
    let mut resolver = deliver.resolver();
    deliver.lease(&attempt(1, "smtp:dst.test", &["b@dst.test"], inline(MESSAGE)));
    let question = hear(&mut resolver);
    let answer = Answer { ticket: question.ticket, result: Ok(Records::Names(Vec::new())), secure: false };
    say(&mut resolver, &answer, Vec::new());
    assert!(matches!(deliver.told_master(), ToMaster::Misbehaved(name) if name.role == Role::Resolver));
    assert_eq!(one(&mut deliver).1, Result3::Deferred);
}

#[test]
fn a_host_that_keeps_failing_is_left_alone_by_all_next_hops_and_the_others_are_not_delayed() {
    let mut deliver = start(|slice| slice.reuse_idle = None);
    let mut resolver = deliver.resolver();
    let bad = Peer::at("127.0.0.2:0");
    let port = bad.port();
    let good = Peer::at(&format!("127.0.0.3:{port}"));
    // Each message has a domain of its own, so nothing but the host can be what is remembered.
    for n in 0..5u64 {
        let domain = format!("d{n}.test");
        let next_hop = format!("smtp:{domain}:{port}");
        deliver.lease(&attempt(n, &next_hop, &[&format!("b@{domain}")], inline(MESSAGE)));
        let known = [
            mx(&domain, &[(10, "bad.test"), (20, "good.test")]),
            a("bad.test", "127.0.0.2"),
            a("good.test", "127.0.0.3"),
        ];
        answer(&mut resolver, &known, 3);
        if n < 3 {
            // Silence without a greeting, and then nothing.
            drop(bad.accept());
        }
        let mut talk = good.accept_greeted();
        talk.take_message("250 ok\r\n");
        let (outcome, result, _) = one(&mut deliver);
        assert_eq!((result, outcome.advice), (Result3::Delivered, Advice::default()), "{n}");
    }
    assert!(bad.nobody_came());
    // Where there is nobody else, the mail waits without a connection, and it is said for how long.
    let next_hop = format!("smtp:[127.0.0.2]:{port}");
    deliver.lease(&attempt(9, &next_hop, &["b@dst.test"], inline(MESSAGE)));
    let (outcome, result, enhanced) = one(&mut deliver);
    assert_eq!((result, enhanced, outcome.reach), (Result3::Deferred, (4, 4, 1), Reach::Unreachable));
    assert!((30..=60).contains(&outcome.advice.retry_after_s), "{:?}", outcome.advice);
    assert!(outcome.settled[0].text.contains("left alone"), "{}", outcome.settled[0].text);
    assert!(bad.nobody_came());
    deliver.logged("event=host-left-alone");
    let log = deliver.log();
    assert_eq!(log.matches("event=host-left-alone").count(), 1, "{log}");
}

#[test]
fn addresses_that_are_left_alone_make_room_for_those_that_were_never_tried() {
    let mut deliver = start(|_| {});
    let mut resolver = deliver.resolver();
    let good = Peer::at("127.0.0.3:0");
    let next_hop = format!("smtp:dst.test:{}", good.port());
    let mut addresses: Vec<IpAddr> = (1..16).map(|n| IpAddr::from([127, 0, 1, n])).collect();
    addresses.push(IpAddr::from([127, 0, 0, 3]));
    let known = [
        mx("dst.test", &[(1, "mx.test")]),
        (Query::Addresses("mx.test".to_owned()), Ok(Records::Addresses(addresses))),
    ];
    for round in 1..=3 {
        deliver.lease(&attempt(round, &next_hop, &["b@dst.test"], inline(MESSAGE)));
        answer(&mut resolver, &known, 2);
        assert_eq!(one(&mut deliver).2, (4, 4, 1), "{round}");
    }
    deliver.lease(&attempt(4, &next_hop, &["b@dst.test"], inline(MESSAGE)));
    answer(&mut resolver, &known, 2);
    good.accept_greeted().take_message("250 ok\r\n");
    assert_eq!(one(&mut deliver).1, Result3::Delivered);
}

#[test]
fn what_fails_on_our_side_is_not_held_against_a_host() {
    let mut deliver = start(|slice| {
        let elsewhere = SourceAddresses::from_text("192.0.2.1").unwrap().into();
        slice.sources = vec![(TlsDestination::parse(".test").unwrap().into(), elsewhere)];
    });
    let mut resolver = deliver.resolver();
    let peer = Peer::new();
    for n in 0..5u64 {
        let domain = format!("d{n}.test");
        let next_hop = format!("smtp:{domain}:{}", peer.port());
        deliver.lease(&attempt(n, &next_hop, &[&format!("b@{domain}")], inline(MESSAGE)));
        answer(
            &mut resolver,
            &[mx(&domain, &[(1, &format!("mx.{domain}"))]), a(&format!("mx.{domain}"), "127.0.0.1")],
            2,
        );
        let (outcome, result, enhanced) = one(&mut deliver);
        assert_eq!((result, enhanced), (Result3::Deferred, (4, 4, 1)));
        assert!(outcome.settled[0].text.contains("from 192.0.2.1"), "{n}: {}", outcome.settled[0].text);
    }
    deliver.lease(&attempt(9, &peer.next_hop(), &["a@dst.test"], inline(MESSAGE)));
    peer.accept_greeted().take_message("250 ok\r\n");
    assert_eq!(one(&mut deliver).1, Result3::Delivered);
    assert!(!deliver.log().contains("event=host-left-alone"), "{}", deliver.log());
}

#[test]
fn what_servers_ask_for_reaches_the_queue() {
    let mut deliver = start(|_| {});
    let peer = Peer::new();
    deliver.lease(&attempt(1, &peer.next_hop(), &["a@dst.test", "b@dst.test"], inline(MESSAGE)));
    let mut talk = peer.accept_greeted();
    talk.hear_say("MAIL", "250 ok\r\n");
    talk.hear_say("RCPT", "450 4.2.0 Greylisted for 10 minutes\r\n");
    talk.hear_say("RCPT", "450 4.2.0 Greylisted for 2 minutes\r\n");
    talk.hear_say("DATA", "503 nobody\r\n");
    let outcome = deliver.outcome();
    assert_eq!(outcome.advice, Advice { retry_after_s: 600, ..Advice::default() });
    drop(talk);
    deliver.lease(&attempt(2, &peer.next_hop(), &["a@dst.test"], inline(MESSAGE)));
    peer.accept().say("421 4.7.0 too many connections from you\r\n");
    let outcome = deliver.outcome();
    assert_eq!((outcome.reach, outcome.advice.fewer), (Reach::Unreachable, true));
}

#[test]
fn what_is_said_at_mail_counts_for_the_next_hop_and_what_is_said_of_a_recipient_for_that_alone() {
    let slow_down = "450 4.7.1 <a@dst.test>: rate limit exceeded\r\n";
    for (lease, at_mail) in [(1, true), (2, false)] {
        let mut deliver = start(|_| {});
        let peer = Peer::new();
        deliver.lease(&attempt(lease, &peer.next_hop(), &["a@dst.test"], inline(MESSAGE)));
        let mut talk = peer.accept_greeted();
        talk.hear_say("MAIL", if at_mail { slow_down } else { "250 ok\r\n" });
        talk.hear_say("RCPT", if at_mail { "503 no sender\r\n" } else { slow_down });
        talk.hear_say("DATA", "503 nobody\r\n");
        let pause_s = if at_mail { 300 } else { 0 };
        let expected = Advice { retry_after_s: 300, fewer: at_mail, pause_s };
        assert_eq!(deliver.outcome().advice, expected, "at MAIL: {at_mail}");
    }
}

#[test]
fn a_further_connection_that_is_refused_makes_the_queue_send_fewer() {
    let mut deliver = start(|_| {});
    let peer = Peer::new();
    for lease in 1..=2 {
        deliver.lease(&attempt(lease, &peer.next_hop(), &["a@dst.test"], inline(MESSAGE)));
    }
    let mut first = peer.accept_greeted();
    peer.accept().say("421 4.7.0 too many connections from you\r\n");
    // The log tells when that was heard.
    deliver.logged("event=connect-failed");
    first.take_message("250 ok\r\n");
    assert!(deliver.outcome().advice.fewer);
    first.take_message("250 ok\r\n");
    assert!(!deliver.outcome().advice.fewer, "it is said once");
}

#[test]
fn connections_come_from_the_address_that_is_set_and_wait_if_it_is_not_ours() {
    let sources = |text: &str| SourceAddresses::from_text(text).unwrap().into();
    let mut deliver = start(|slice| {
        slice.source = sources("127.0.0.77");
        let row = |name: &str, source: &str| (TlsDestination::parse(name).unwrap().into(), sources(source));
        slice.sources = vec![row("[127.0.0.2]:2525", "192.0.2.1"), row(".test", "127.0.0.78")];
    });
    let mut resolver = deliver.resolver();
    let peer = Peer::new();
    deliver.lease(&attempt(1, &peer.next_hop(), &["a@dst.test"], inline(MESSAGE)));
    let mut talk = peer.accept_greeted();
    assert_eq!(talk.client(), "127.0.0.77".parse::<IpAddr>().unwrap());
    talk.take_message("250 ok\r\n");
    assert_eq!(one(&mut deliver).1, Result3::Delivered);
    // Its idle connection is not for a next hop that comes from elsewhere.
    let elsewhere = format!("smtp:other.test:{}", peer.port());
    deliver.lease(&attempt(2, &elsewhere, &["a@other.test"], inline(MESSAGE)));
    answer(&mut resolver, &[mx("other.test", &[(1, "mx.other.test")]), a("mx.other.test", "127.0.0.1")], 2);
    let mut talk = peer.accept_greeted();
    assert_eq!(talk.client(), "127.0.0.78".parse::<IpAddr>().unwrap());
    talk.take_message("250 ok\r\n");
    assert_eq!(one(&mut deliver).1, Result3::Delivered);
    deliver.lease(&attempt(3, "smtp:[127.0.0.2]:2525", &["a@dst.test"], inline(MESSAGE)));
    let (outcome, result, enhanced) = one(&mut deliver);
    assert_eq!((result, enhanced), (Result3::Deferred, (4, 4, 1)));
    assert!(outcome.settled[0].text.contains("from 192.0.2.1"), "{}", outcome.settled[0].text);
    deliver.logged("event=source-address-unusable address=192.0.2.1");
}
