//! Servers that fail, lie, mumble or say nothing.

use std::net::UdpSocket;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, Query as DnsQuery, ResponseCode};
use hickory_resolver::proto::rr::rdata::NS;
use hickory_resolver::proto::rr::{RData, RecordType};
use vsmtp_config::ResolverSlice;
use vsmtp_ipc::edge::client_resolver::{DnsError, MAX_RECORDS, Records};
use vsmtp_ipc::role::Role;

use crate::dns::{Asked, Dns, Say, a, aaaa, mx as exchanger, name, record, say};
use crate::harness::{Resolver, addresses, mx, slice, text, tlsa};

fn one_host() -> Result<Records, DnsError> {
    Ok(Records::Mx(vec![(1, "mx.example".to_owned())]))
}

fn good(asked: &Asked) -> Vec<Say> {
    say(asked.answer([exchanger(1, "mx.example")]))
}

#[test]
fn failures_are_temporary_and_the_next_server_is_asked() {
    let bad = Dns::start(|asked| {
        say(match asked.name().as_str() {
            "servfail.example" => asked.empty(ResponseCode::ServFail),
            "refused.example" => asked.empty(ResponseCode::Refused),
            "notimp.example" => asked.empty(ResponseCode::NotImp),
            "odd.example" => asked.empty(ResponseCode::YXDomain),
            // Records and their absence at once.
            "both.example" => {
                let mut answer = asked.answer([exchanger(66, "mx.example")]);
                answer.metadata.response_code = ResponseCode::NXDomain;
                answer
            }
            "referral.example" => {
                let mut answer = asked.empty(ResponseCode::NoError);
                answer.add_authority(record("example", 60, RData::NS(NS(name("ns.example")))));
                answer
            }
            "no-recursion.example" => {
                let mut answer = asked.empty(ResponseCode::NoError);
                answer.metadata.recursion_available = false;
                answer
            }
            _ => asked.nothing(),
        })
    });
    let well = Dns::start(good);
    let names = ["servfail", "refused", "notimp", "odd", "both", "referral", "no-recursion"];
    let (mut alone, mut together) =
        (Resolver::with(&[bad.address]), Resolver::with(&[bad.address, well.address]));
    let (mut one, mut two) = (alone.deliver(), together.deliver());
    for name in names.map(|name| format!("{name}.example")) {
        assert_eq!(one.result(mx(&name)), Err(DnsError::Temporary), "{name}");
        assert_eq!(two.result(mx(&name)), one_host(), "{name}");
    }
    assert_eq!(bad.asked().len(), 2 * names.len(), "a clear word is not asked for twice");
}

#[test]
fn answers_with_a_wrong_id_or_question_are_not_heard() {
    let dns = Dns::start(|asked| {
        let mut wrong_id = asked.answer([exchanger(66, "evil.example")]);
        wrong_id.metadata.id = wrong_id.metadata.id.wrapping_add(1);
        let mut wrong_question = asked.answer([exchanger(66, "evil.example")]);
        wrong_question.queries = vec![DnsQuery::query(name("other.example"), RecordType::MX)];
        let mut no_question = asked.answer([exchanger(66, "evil.example")]);
        no_question.queries.clear();
        let forged = [wrong_id, wrong_question, no_question].map(Say::Message);
        [Say::Octets(vec![0])].into_iter().chain(forged).chain(good(asked)).collect()
    });
    let mut resolver = Resolver::with(&[dns.address]);
    assert_eq!(resolver.deliver().result(mx("victim.example")), one_host());
    assert_eq!(dns.asked().len(), 1);
}

#[test]
fn records_of_other_names_do_not_count() {
    let dns =
        Dns::start(|asked| say(asked.records([record("other.example", 60, exchanger(66, "evil.example"))])));
    let mut resolver = Resolver::with(&[dns.address]);
    assert_eq!(resolver.deliver().result(mx("victim.example")), Err(DnsError::NoRecords));
}

#[test]
fn what_does_not_fit_comes_by_tcp_and_no_more_than_needed_is_used() {
    let dns = Dns::start(|asked| {
        if !asked.by_tcp {
            return say(asked.empty(ResponseCode::NoError).truncate());
        }
        // Close to the 65,535 octets of the longest message.
        say(match asked.kind() {
            RecordType::A => asked.answer((0..4000u32).map(|n| a(n as u8))),
            _ => asked.answer((0..2300u16).map(aaaa)),
        })
    });
    let mut resolver = Resolver::with(&[dns.address]);
    let Ok(Records::Addresses(found)) = resolver.deliver().result(addresses("many.example")) else {
        panic!()
    };
    assert_eq!(found.len(), MAX_RECORDS);
    assert_eq!(dns.asked().iter().filter(|asked| asked.by_tcp).count(), 2);
}

#[test]
fn lies_by_tcp_are_not_heard_either() {
    let dns = Dns::start(|asked| {
        let mut answer = asked.answer([exchanger(66, "evil.example")]);
        if asked.by_tcp {
            answer.queries = vec![DnsQuery::query(name("other.example"), RecordType::MX)];
        } else {
            answer.metadata.truncation = true;
        }
        say(answer)
    });
    let mut resolver = Resolver::with(&[dns.address]);
    assert_eq!(resolver.deliver().result(mx("victim.example")), Err(DnsError::Temporary));
}

/// The message with its only record's data replaced, and the length of the data said to be `said`.
fn with_data(message: &Message, data: &[u8], said: usize) -> Vec<u8> {
    let mut octets = message.to_vec().unwrap();
    let whole = octets.len();
    // Data of one A record, with its length before it, and the eleven octets of the OPT record behind it.
    octets.splice(
        whole - 11 - 6..whole - 11,
        [(said >> 8) as u8, said as u8].into_iter().chain(data.iter().copied()),
    );
    octets
}

#[test]
fn garbage_is_temporary() {
    let dns = Dns::start(|asked| {
        let kind = asked.kind();
        let mut message = asked.answer([]);
        let mut fake = record("x", 60, a(1));
        fake.name = asked.message.queries[0].name().clone();
        message.add_answer(fake);
        let mut octets = match (asked.name().as_str(), kind) {
            ("short.example", _) => message.to_vec().unwrap()[..20].to_vec(),
            ("noise.example", _) => [&message.to_vec().unwrap()[..12], &[0xff; 200]].concat(),
            ("tlsa0.example", _) => with_data(&message, &[], 0),
            ("tlsa1.example", _) => with_data(&message, &[3], 1),
            ("tlsa2.example", _) => with_data(&message, &[3, 1], 2),
            ("mx1.example", _) => with_data(&message, &[0], 1),
            ("mx2.example", _) => with_data(&message, &[0, 1], 2),
            ("mx-good.example", _) => with_data(&message, &[0, 1, 1, b'm', 0], 5),
            ("tlsa-good.example", _) => with_data(&message, &[3, 1, 1], 3),
            ("txt.example", _) => with_data(&message, &[200, b'x'], 2),
            _ => with_data(&message, &[1, 2, 3, 4], 4000),
        };
        // The record's type is the sixth octet before the time to live; set it to what was asked.
        let at = message.to_vec().unwrap().len() - 11 - 6 - 8;
        if let Some(place) = octets.get_mut(at + 1) {
            *place = u16::from(kind) as u8;
        }
        vec![Say::Octets(octets)]
    });
    let mut resolver = Resolver::with(&[dns.address]);
    let mut client = resolver.deliver();
    for name in ["short", "noise", "mx1", "mx2", "liar"].map(|name| format!("{name}.example")) {
        assert_eq!(client.result(mx(&name)), Err(DnsError::Temporary), "{name}");
    }
    for name in ["tlsa0", "tlsa1", "tlsa2"].map(|name| format!("{name}.example")) {
        assert_eq!(client.result(tlsa(&name)), Err(DnsError::Temporary), "{name}");
    }
    assert_eq!(client.result(text("txt.example")), Err(DnsError::Temporary));
    // What is not garbage shows that the rest of the message was in order.
    assert_eq!(client.result(mx("mx-good.example")), Ok(Records::Mx(vec![(1, "m".to_owned())])));
    assert_eq!(client.result(tlsa("tlsa-good.example")), Ok(Records::Tlsa(vec![(3, 1, 1, vec![])])));
}

#[test]
fn a_server_that_has_never_heard_of_edns_is_asked_without() {
    let dns = Dns::start(|asked| {
        if asked.message.edns.is_none() {
            return good(asked);
        }
        let mut answer = asked.empty(ResponseCode::FormErr);
        answer.edns = None;
        say(answer)
    });
    let mut resolver = Resolver::with(&[dns.address]);
    assert_eq!(resolver.deliver().result(mx("old.example")), one_host());
}

#[test]
fn a_server_that_is_silent_or_absent_is_passed_over() {
    let silent = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let absent = silent().local_addr().unwrap();
    let (first, second) = (silent(), silent());
    let well = Dns::start(good);
    let servers = [absent, first.local_addr().unwrap(), well.address];
    let timeout = Duration::from_millis(300);
    let mut resolver = Resolver::start(&ResolverSlice { timeout, attempts: 5, ..slice(&servers) });
    assert_eq!(resolver.deliver().result(mx("a.example")), one_host());

    let servers = [second.local_addr().unwrap()];
    let mut alone = Resolver::start(&ResolverSlice { timeout, attempts: 3, ..slice(&servers) });
    assert_eq!(alone.deliver().result(mx("b.example")), Err(DnsError::Temporary));
    second.set_nonblocking(true).unwrap();
    assert_eq!(std::iter::from_fn(|| second.recv(&mut [0; 512]).ok()).count(), 3);
}

#[test]
fn every_question_is_answered_by_its_deadline() {
    let silent = Dns::start(|asked| {
        if asked.kind() == RecordType::A && asked.name() == "half.example" {
            say(asked.answer([a(1)]))
        } else {
            vec![]
        }
    });
    let mut resolver = Resolver::with(&[silent.address]);
    let mut client = resolver.deliver();
    // The look-ups themselves go on for a minute.
    for deadline in [0, 1, 50] {
        client.say_by(mx("dead.example"), deadline);
        assert_eq!(client.hear().result, Err(DnsError::Temporary));
    }
    // One family does not wait for the other to the end.
    assert_eq!(
        client.result(addresses("half.example")),
        Ok(Records::Addresses(vec!["192.0.2.1".parse().unwrap()]))
    );
}

#[test]
fn a_thousand_dead_domains_delay_nobody() {
    let dns = Dns::start(|asked| if asked.name().starts_with("dead") { vec![] } else { good(asked) });
    let mut resolver = Resolver::with(&[dns.address]);
    let mut clients: Vec<_> = (0..4).map(|instance| resolver.client(Role::DeliverSmtp, instance)).collect();
    for n in 0..250 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.say(mx(&format!("dead-{number}-{n}.example")));
        }
        // Not more at a time than the kernel holds for the name server.
        dns.wait_for((n + 1) * clients.len());
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let ticket = client.say(mx(&format!("healthy-{number}.example")));
        let answer = client.hear();
        assert_eq!((answer.ticket, answer.result), (ticket, one_host()), "before all that came earlier");
    }
}
