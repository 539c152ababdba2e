//! DANE: what the resolver says of TLSA records, and what a server must then prove.

use vsmtp_config::TlsPolicy;
use vsmtp_ipc::edge::client_resolver::{Answer, DnsError, Query, Records, ResolverEnd};
use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_stage::say;

use crate::harness::{Deliver, attempt, hear, inline, results, start};
use crate::peer::{EHLO, Peer};
use crate::tls_peer::{Authority, Identity, OFFERS};

const MESSAGE: &str = "A: b\r\n\r\nbody\r\n";

type Found = (Result<Records, DnsError>, bool);

fn deliver(level: &str) -> (Deliver, ResolverEnd) {
    let mut deliver = start(|slice| slice.tls.level = TlsPolicy::parse(level).unwrap().into());
    let resolver = deliver.resolver();
    (deliver, resolver)
}

fn send_one(deliver: &mut Deliver, peer: &Peer) {
    let next_hop = format!("smtp:dst.test:{}", peer.port());
    deliver.lease(&attempt(1, &next_hop, &["b@dst.test"], inline(MESSAGE)));
}

/// Answers for one signed host, and these TLSA records.
fn answer(resolver: &mut ResolverEnd, port: u16, tlsa: Found) {
    for _ in 0..4 {
        let question = hear(resolver);
        let (result, secure) = match &question.query {
            Query::Mx(_) => (Ok(Records::Mx(vec![(1, "mx.test".to_owned())])), true),
            Query::Addresses(_) => (Ok(Records::Addresses(vec!["127.0.0.1".parse().unwrap()])), true),
            Query::Tlsa(name) => {
                assert_eq!(*name, format!("_{port}._tcp.mx.test"));
                tlsa.clone()
            }
            Query::Canonical(name) => (Ok(Records::Names(vec![name.clone()])), true),
            other => panic!("{other:?}"),
        };
        say(resolver, &Answer { ticket: question.ticket, result, secure }, Vec::new());
    }
}

fn of_key(identity: &Identity) -> Found {
    (Ok(Records::Tlsa(vec![(3, 1, 0, identity.key.clone())])), true)
}

#[test]
fn a_server_with_the_key_of_its_record_gets_the_message() {
    let (mut deliver, mut resolver) = deliver("dane");
    // The certificate is for no name of it, and no authority is known.
    let (peer, identity) = (Peer::new(), Authority::new().identity(&["elsewhere.test"]));
    send_one(&mut deliver, &peer);
    answer(&mut resolver, peer.port(), of_key(&identity));
    let mut talk = peer.accept();
    let stream = identity.start_tls(&mut talk);
    assert_eq!(stream.name().as_deref(), Some("mx.test"));
    talk.take_message("250 ok\r\n");
    let outcome = deliver.outcome();
    assert!(outcome.tls.starts_with("dane TLSv1.3"), "{}", outcome.tls);
}

#[test]
fn a_server_without_the_key_of_its_record_gets_nothing_also_not_in_clear() {
    let authority = Authority::new();
    let (identity, other) = (authority.identity(&["mx.test"]), authority.identity(&["mx.test"]));
    let (mut deliver, mut resolver) = deliver("dane");
    let peer = Peer::new();
    send_one(&mut deliver, &peer);
    answer(&mut resolver, peer.port(), of_key(&other));
    let mut talk = peer.accept();
    talk.greet(OFFERS);
    talk.hear_say("STARTTLS", "220 go on\r\n");
    identity.wrap(&mut talk);
    assert!(talk.ended());
    let outcome = deliver.outcome();
    assert_eq!(results(&outcome)[0], (Result3::Deferred, (4, 7, 5)));
    assert!(outcome.settled[0].text.contains("no TLSA record"), "{}", outcome.settled[0].text);
    assert!(peer.nobody_came());
}

#[test]
fn records_that_nobody_can_use_still_make_tls_a_must() {
    let useless = || (Ok(Records::Tlsa(vec![(1, 1, 1, vec![0; 32])])), true);
    let (mut deliver, mut resolver) = deliver("dane");
    let (peer, identity) = (Peer::new(), Authority::new().identity(&["x.test"]));
    send_one(&mut deliver, &peer);
    answer(&mut resolver, peer.port(), useless());
    peer.accept().greet(EHLO);
    assert_eq!(results(&deliver.outcome())[0], (Result3::Deferred, (4, 7, 4)));
    send_one(&mut deliver, &peer);
    answer(&mut resolver, peer.port(), useless());
    let mut talk = peer.accept();
    identity.start_tls(&mut talk);
    talk.take_message("250 ok\r\n");
    assert!(deliver.outcome().tls.starts_with("encrypted"));
}

#[test]
fn records_that_cannot_be_looked_up_or_are_forged_defer_the_mail() {
    for error in [DnsError::Temporary, DnsError::Bogus] {
        let (mut deliver, mut resolver) = deliver("dane");
        let peer = Peer::new();
        send_one(&mut deliver, &peer);
        answer(&mut resolver, peer.port(), (Err(error), false));
        assert_eq!(results(&deliver.outcome())[0], (Result3::Deferred, (4, 7, 5)));
        assert!(peer.nobody_came());
    }
}

#[test]
fn without_records_dane_is_opportunistic_and_dane_only_is_not() {
    let none = || (Err(DnsError::NoSuchName), true);
    let (mut lax, mut resolver) = deliver("dane");
    let peer = Peer::new();
    send_one(&mut lax, &peer);
    answer(&mut resolver, peer.port(), none());
    peer.accept_greeted().take_message("250 ok\r\n");
    assert_eq!(lax.outcome().tls, "none");
    let (mut strict, mut resolver) = deliver("dane-only");
    send_one(&mut strict, &peer);
    answer(&mut resolver, peer.port(), none());
    assert_eq!(results(&strict.outcome())[0], (Result3::Deferred, (4, 7, 5)));
}

#[test]
fn a_sender_who_waives_tls_is_not_held_to_the_records_of_the_server() {
    let (mut deliver, mut resolver) = deliver("dane");
    let peer = Peer::new();
    let next_hop = format!("smtp:dst.test:{}", peer.port());
    let waived = "A: b\r\nTLS-Required: No\r\n\r\nbody\r\n";
    deliver.lease(&attempt(1, &next_hop, &["b@dst.test"], inline(waived)));
    for _ in 0..2 {
        let question = hear(&mut resolver);
        let result = match &question.query {
            Query::Mx(_) => Ok(Records::Mx(vec![(1, "mx.test".to_owned())])),
            Query::Addresses(_) => Ok(Records::Addresses(vec!["127.0.0.1".parse().unwrap()])),
            other => panic!("{other:?}"),
        };
        say(&mut resolver, &Answer { ticket: question.ticket, result, secure: true }, Vec::new());
    }
    peer.accept_greeted().take_message("250 ok\r\n");
    assert_eq!(results(&deliver.outcome())[0].0, Result3::Delivered);
    // Whoever demands it gets it, whatever the header says.
    let mut demanded = attempt(2, &next_hop, &["b@dst.test"], inline(waived));
    demanded.demands.requiretls = true;
    deliver.lease(&demanded);
    let other = Authority::new().identity(&["mx.test"]);
    answer(&mut resolver, peer.port(), of_key(&other));
    let mut talk = peer.accept();
    talk.greet(EHLO);
    assert_eq!(results(&deliver.outcome())[0], (Result3::Deferred, (4, 7, 4)));
}
