//! Finding the server: what the resolver's answers lead to.

use std::net::IpAddr;

use vsmtp_ipc::edge::client_resolver::{Answer, DnsError, Query, Records, ResolverEnd};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::queue_deliver::{Outcome, Reach, Result3};
use vsmtp_ipc::role::Role;

use crate::harness::{Deliver, attempt, inline, receive, results, send};
use crate::peer::Peer;
use crate::smtp::start;

const MESSAGE: &str = "A: b\r\n\r\nbody\r\n";

fn answer(resolver: &mut ResolverEnd, known: &[(Query, Result<Records, DnsError>)], questions: usize) {
    for _ in 0..questions {
        let question = receive(resolver, Role::DeliverSmtp);
        let (_, result) = known.iter().find(|(query, _)| *query == question.query).unwrap();
        send(
            resolver,
            &Answer { ticket: question.ticket, result: result.clone(), secure: false },
            Vec::new(),
        );
    }
}

fn mx(domain: &str, hosts: &[(u16, &str)]) -> (Query, Result<Records, DnsError>) {
    let hosts = hosts.iter().map(|(preference, host)| (*preference, (*host).to_owned())).collect();
    (Query::Mx(domain.to_owned()), Ok(Records::Mx(hosts)))
}

fn a(host: &str, address: &str) -> (Query, Result<Records, DnsError>) {
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
fn without_a_resolver_names_are_deferred() {
    let mut deliver = start(|_| {});
    deliver.lease(&attempt(1, "smtp:dst.test", &["b@dst.test"], inline(MESSAGE)));
    assert_eq!(one(&mut deliver).2, (4, 4, 3));
    // One that dies with the question is as good as none, and a new one is asked again.
    let mut resolver = deliver.resolver();
    deliver.lease(&attempt(2, "smtp:dst.test", &["b@dst.test"], inline(MESSAGE)));
    receive(&mut resolver, Role::DeliverSmtp);
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
    let question = receive(&mut resolver, Role::DeliverSmtp);
    let answer = Answer { ticket: question.ticket, result: Ok(Records::Names(Vec::new())), secure: false };
    send(&mut resolver, &answer, Vec::new());
    assert!(matches!(deliver.told_master(), ToMaster::Misbehaved(name) if name.role == Role::Resolver));
    assert_eq!(one(&mut deliver).1, Result3::Deferred);
}
