//! Equal questions are asked once, and answers are remembered for as long as they hold.

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use vsmtp_ipc::edge::client_resolver::{DnsError, Records};
use vsmtp_ipc::role::Role;

use crate::dns::{Dns, Say, a, mx as exchanger, record, say};
use crate::harness::{Resolver, addresses, mx, slice};

#[test]
fn equal_questions_of_all_clients_are_one_question() {
    let dns = Dns::start(|asked| {
        let answer = if asked.kind() == RecordType::A { asked.answer([a(1)]) } else { asked.nothing() };
        vec![Say::Later(answer)]
    });
    let mut resolver = Resolver::with(&[dns.address]);
    let mut clients: Vec<_> = (0..4).map(|instance| resolver.client(Role::FilterSession, instance)).collect();
    for client in &mut clients {
        for _ in 0..20 {
            client.say(addresses("same.example"));
        }
        client.say(addresses("SAME.example."));
        // Answered from here; so the questions before it have been read.
        client.say(addresses("localhost"));
        assert_eq!(client.hear().ticket, 22);
    }
    dns.wait_for(2);
    dns.say_now();
    for client in &mut clients {
        let mut tickets: Vec<u64> = (0..21)
            .map(|_| client.hear())
            .map(|answer| {
                assert_eq!(answer.result, Ok(Records::Addresses(vec!["192.0.2.1".parse().unwrap()])));
                answer.ticket
            })
            .collect();
        tickets.sort_unstable();
        assert_eq!(tickets, (1..=21).collect::<Vec<u64>>());
    }
    assert_eq!(dns.asked().len(), 2);
}

#[test]
fn what_was_found_is_remembered_for_as_long_as_it_holds() {
    let dns = Dns::start(|asked| {
        say(match asked.name().as_str() {
            "kept.example" => asked.answer([exchanger(1, "mx.example")]),
            "brief.example" => asked.records([
                record("brief.example", 60, exchanger(1, "mx.example")),
                record("brief.example", 0, exchanger(2, "mx2.example")),
            ]),
            "negative-ttl.example" => {
                asked.records([record("negative-ttl.example", u32::MAX, exchanger(1, "mx.example"))])
            }
            "gone.example" => asked.absent(ResponseCode::NXDomain, 60),
            "empty.example" => asked.nothing(),
            "vague.example" => asked.empty(ResponseCode::NXDomain),
            "never.example" => asked.absent(ResponseCode::NXDomain, 0),
            _ => asked.empty(ResponseCode::ServFail),
        })
    });
    let mut resolver = Resolver::with(&[dns.address]);
    let mut client = resolver.deliver();
    for (name, times) in [
        ("kept.example", 1),
        ("brief.example", 3),
        ("negative-ttl.example", 3),
        ("gone.example", 1),
        ("empty.example", 1),
        ("vague.example", 3),
        ("never.example", 3),
        ("dead.example", 1),
    ] {
        let results: Vec<_> = (0..3).map(|_| client.result(mx(name))).collect();
        assert!(results[0] == results[1] && results[1] == results[2], "{name}");
        assert_eq!(dns.count(name, RecordType::MX), times, "{name}");
    }
}

#[test]
fn without_room_nothing_is_remembered() {
    let dns = Dns::start(|asked| say(asked.answer([exchanger(1, "mx.example")])));
    let mut resolver =
        Resolver::start(&vsmtp_config::ResolverSlice { cache_size: 0, ..slice(&[dns.address]) });
    let mut client = resolver.deliver();
    (0..3).for_each(|_| assert!(client.result(mx("kept.example")).is_ok()));
    assert_eq!(dns.asked().len(), 3);
}

#[test]
fn an_answer_after_its_deadline_serves_the_next_question() {
    let dns = Dns::start(|asked| vec![Say::Later(asked.answer([exchanger(1, "mx.example")]))]);
    let mut resolver = Resolver::with(&[dns.address]);
    let mut client = resolver.deliver();
    client.say_by(mx("slow.example"), 10);
    assert_eq!(client.hear().result, Err(DnsError::Temporary));
    dns.wait_for(1);
    dns.say_now();
    assert!(client.result(mx("slow.example")).is_ok());
    assert_eq!(dns.asked().len(), 1);
}
