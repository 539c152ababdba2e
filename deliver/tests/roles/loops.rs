//! Mail that would come back to us: by our addresses, and by our name in the words of the server that answers.

use std::net::IpAddr;

use vsmtp_config::{DeliverSlice, Family, Network, TlsPolicy};
use vsmtp_ipc::edge::client_resolver::{Answer, DnsError, Query, Records, ResolverEnd, StsMode};
use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_stage::say;

use crate::harness::{Deliver, attempt, hear, inline, only, start};
use crate::peer::{EHLO, Peer};
use crate::routes::{a, answer, mx};

const MESSAGE: &str = "A: b\r\n\r\nbody\r\n";
const LOOPS: (Result3, (u8, u16, u16)) = (Result3::Failed, (5, 4, 6));

/// Offers mail for `dst.test` at that port, and answers what is asked of its exchangers.
fn offer(deliver: &mut Deliver, resolver: &mut ResolverEnd, port: u16, exchangers: &[(u16, &str, &str)]) {
    deliver.lease(&attempt(1, &format!("smtp:dst.test:{port}"), &["b@dst.test"], inline(MESSAGE)));
    let records: Vec<(u16, &str)> = exchangers.iter().map(|(at, name, _)| (*at, *name)).collect();
    let mut known = vec![mx("dst.test", &records)];
    known.extend(exchangers.iter().map(|(_, name, address)| a(name, address)));
    answer(resolver, &known, known.len());
}

#[test]
fn every_address_of_an_interface_is_ours_behind_a_wildcard() {
    let addresses = vsmtp_sys::interfaces::addresses().unwrap();
    // A host that has nothing but loopback proves less.
    let has_neighbours = |address: &&IpAddr| address.is_ipv4() && !address.is_loopback();
    let own = addresses.iter().find(has_neighbours).copied().unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let mut deliver = start(|slice| slice.own_addresses = vec!["0.0.0.0:2599".parse().unwrap()]);
    let mut resolver = deliver.resolver();
    offer(&mut deliver, &mut resolver, 2599, &[(20, "backup.test", &own.to_string())]);
    assert_eq!(only(&deliver.outcome()), LOOPS);
    // At another port somebody else listens, or nobody.
    offer(&mut deliver, &mut resolver, 2598, &[(20, "backup.test", &own.to_string())]);
    assert_eq!(only(&deliver.outcome()), (Result3::Deferred, (4, 4, 1)));
}

#[test]
fn an_address_in_front_of_us_is_ours_at_every_port() {
    let outside = |text: &str| Network::parse(text).unwrap().into();
    let mut deliver =
        start(|slice| slice.public_addresses = vec![outside("127.0.0.66"), outside("2001:db8::/64")]);
    let mut resolver = deliver.resolver();
    for own in ["127.0.0.66", "2001:db8::7"] {
        offer(&mut deliver, &mut resolver, 2597, &[(20, "backup.test", own)]);
        assert_eq!(only(&deliver.outcome()), LOOPS, "{own}");
    }
}

/// A process that listens at that port too, somewhere else than its peers.
fn listening(port: u16) -> Deliver {
    start(|slice| slice.own_addresses = vec![([192, 0, 2, 9], port).into()])
}

#[test]
fn a_server_that_has_our_name_is_us_and_what_is_no_better_gets_nothing() {
    let greetings = [
        ("220 US.test ESMTP\r\n", None),
        ("220-us.test.\r\n220 hello\r\n", None),
        ("220 mx ESMTP\r\n", Some("250-us.test hello\r\n250 PIPELINING\r\n")),
    ];
    for (greeting, ehlo) in greetings {
        let us = Peer::at("127.0.0.2:0");
        let port = us.port();
        let worse = Peer::at(&format!("127.0.0.4:{port}"));
        let mut deliver = listening(port);
        let mut resolver = deliver.resolver();
        let exchangers =
            [(10, "gone.test", "127.0.0.5"), (20, "us2.test", "127.0.0.2"), (30, "worse.test", "127.0.0.4")];
        // The primary is away: the mail waits for it.
        offer(&mut deliver, &mut resolver, port, &exchangers);
        let mut talk = us.accept();
        talk.say(greeting);
        if let Some(ehlo) = ehlo {
            talk.hear_say("EHLO us.test", ehlo);
        }
        let outcome = deliver.outcome();
        assert_eq!(only(&outcome), (Result3::Deferred, (4, 4, 6)), "{greeting}");
        assert!(outcome.settled[0].text.contains("loops back"), "{}", outcome.settled[0].text);
        assert!(talk.ended(), "no message for ourselves");
        // Nobody is better.
        offer(
            &mut deliver,
            &mut resolver,
            port,
            &[(20, "us2.test", "127.0.0.2"), (30, "worse.test", "127.0.0.4")],
        );
        let mut talk = us.accept();
        talk.say(greeting);
        if let Some(ehlo) = ehlo {
            talk.hear_say("EHLO us.test", ehlo);
        }
        assert_eq!(only(&deliver.outcome()), LOOPS, "{greeting}");
        assert!(worse.nobody_came());
    }
}

#[test]
fn a_server_of_our_name_gets_mail_where_it_cannot_be_us() {
    // At a port at which we do not listen, and where an operator has named the host.
    let peer = Peer::at("127.0.0.2:0");
    let port = peer.port();
    let elsewhere = if port == 2596 { 2595 } else { 2596 };
    for (listens, next_hop) in
        [(elsewhere, format!("smtp:dst.test:{port}")), (port, format!("smtp:[127.0.0.2]:{port}"))]
    {
        let mut deliver = listening(listens);
        let mut resolver = deliver.resolver();
        deliver.lease(&attempt(1, &next_hop, &["b@dst.test"], inline(MESSAGE)));
        if next_hop.starts_with("smtp:dst") {
            answer(&mut resolver, &[mx("dst.test", &[(1, "twin.test")]), a("twin.test", "127.0.0.2")], 2);
        }
        let mut talk = peer.accept();
        talk.say("220 us.test ESMTP\r\n");
        talk.hear_say("EHLO us.test", &EHLO.replace("peer.test", "us.test"));
        talk.take_message("250 ok\r\n");
        assert_eq!(only(&deliver.outcome()).0, Result3::Delivered, "{next_hop}");
    }
}

#[test]
fn an_operators_relay_that_is_ourselves_bounces_nobodys_mail() {
    let us = Peer::at("127.0.0.2:0");
    let mut deliver = listening(us.port());
    let mut resolver = deliver.resolver();
    deliver.lease(&attempt(1, &format!("smtp:relay.test:{}", us.port()), &["b@dst.test"], inline(MESSAGE)));
    answer(&mut resolver, &[mx("relay.test", &[(1, "x.test")]), a("x.test", "127.0.0.2")], 2);
    us.accept().say("220 us.test ESMTP\r\n");
    assert_eq!(only(&deliver.outcome()), (Result3::Deferred, (4, 4, 6)));
}

/// Mail for a domain whose backup we are, by our greeting, while its primary host gets nothing for this reason.
fn behind(
    change: impl FnOnce(&mut DeliverSlice),
    primary: Result<Records, DnsError>,
    policy: Result<Records, DnsError>,
    questions: usize,
) -> (Result3, (u8, u16, u16)) {
    let us = Peer::at("127.0.0.2:0");
    let mut deliver = start(|slice| {
        slice.own_addresses = vec![([192, 0, 2, 9], us.port()).into()];
        change(slice);
    });
    let mut resolver = deliver.resolver();
    deliver.lease(&attempt(1, &format!("smtp:dst.test:{}", us.port()), &["b@dst.test"], inline(MESSAGE)));
    for _ in 0..questions {
        let question = hear(&mut resolver);
        let (result, secure) = match &question.query {
            Query::Mx(_) => (mx("", &[(10, "primary.test"), (20, "us2.test")]).1, true),
            Query::Addresses(name) if name == "us2.test" => (a("", "127.0.0.2").1, false),
            Query::Addresses(_) => (primary.clone(), true),
            Query::StsPolicy(_) => (policy.clone(), false),
            _ => (Err(DnsError::Temporary), false),
        };
        say(&mut resolver, &Answer { ticket: question.ticket, result, secure }, Vec::new());
    }
    us.accept().say("220 us.test ESMTP\r\n");
    only(&deliver.outcome())
}

#[test]
fn mail_waits_at_its_backup_while_the_primary_host_could_not_be_asked() {
    const WAITS: (Result3, (u8, u16, u16)) = (Result3::Deferred, (4, 4, 6));
    let none = || Err(DnsError::NoRecords);
    let at = |address: &str| a("", address).1;
    assert_eq!(behind(|_| {}, Err(DnsError::Temporary), none(), 3), WAITS, "its address");
    assert_eq!(behind(|_| {}, Err(DnsError::Bogus), none(), 3), WAITS, "a forged address");
    assert_eq!(behind(|_| {}, Err(DnsError::NoSuchName), none(), 3), LOOPS, "there is no such host");
    let dane = |slice: &mut DeliverSlice| slice.tls.level = TlsPolicy::parse("dane").unwrap().into();
    assert_eq!(behind(dane, at("127.0.0.5"), none(), 5), WAITS, "its TLSA records");
    let mx = vec!["us2.test".to_owned()];
    let listed = Ok(Records::StsPolicy { mode: StsMode::Enforce, mx, max_age_s: 86_400, age_s: 0 });
    assert_eq!(behind(|slice| slice.tls.mta_sts = true, at("127.0.0.5"), listed, 4), WAITS, "the policy");
    let ipv4 = |slice: &mut DeliverSlice| slice.family = Family::Ipv4;
    assert_eq!(behind(ipv4, at("2001:db8::5"), none(), 3), WAITS, "its family");
}
