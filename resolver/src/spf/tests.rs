//! What the suite does not ask: clients and domains of today, and those who mean ill.

use std::collections::HashMap;
use std::net::IpAddr;

use proptest::prelude::*;
use vsmtp_ipc::edge::client_resolver::{DnsError, Records, SpfResult, SpfVerdict};

use super::{Subject, check, check_unexplained};
use crate::finding::{Key, Kind};
use crate::zone::{Found, Judged, Missing, Zone};

/// What is published; all else does not exist.
#[derive(Default)]
struct World(HashMap<(String, Kind), Found>);

impl Zone for World {
    fn find(&mut self, key: Key) -> Judged<Found> {
        let name = key.name.to_ascii().trim_end_matches('.').to_owned();
        match self.0.get(&(name, key.kind)) {
            // Stands for what has not come yet.
            Some(Err(DnsError::Temporary)) => Err(Missing),
            Some(found) => Ok(found.clone()),
            None => Ok(Err(DnsError::NoSuchName)),
        }
    }
}

impl World {
    fn text(mut self, name: &str, text: &str) -> Self {
        let records = Records::Text(vec![text.as_bytes().to_vec()]);
        self.0.insert((name.to_owned(), Kind::Txt), Ok(records));
        self
    }

    fn exchangers(mut self, name: &str, hosts: &[&str]) -> Self {
        let hosts = hosts.iter().map(|host| (1, (*host).to_owned())).collect();
        self.0.insert((name.to_owned(), Kind::Mx), Ok(Records::Mx(hosts)));
        self
    }

    fn address(mut self, name: &str, address: &str) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let kind = if address.is_ipv4() { Kind::A } else { Kind::Aaaa };
        self.0.insert((name.to_owned(), kind), Ok(Records::Addresses(vec![address])));
        self
    }
}

fn subject(client: &str, local: &str) -> Subject {
    Subject {
        client: client.parse().unwrap(),
        helo: "helo.test".to_owned(),
        local: local.to_owned(),
        domain: "d.test".to_owned(),
        receiver: "mx.test".to_owned(),
        now_s: 1_800_000_000,
    }
}

fn verdict(mut world: World, client: &str, local: &str) -> SpfVerdict {
    check(&subject(client, local), &mut world).unwrap()
}

#[test]
fn an_explanation_of_a_stranger_can_be_cut_anywhere() {
    let explained = |text: &str, local: &str| {
        let world = World::default().text("d.test", "v=spf1 -all exp=e.test").text("e.test", text);
        let verdict = verdict(world, "192.0.2.1", local);
        assert_eq!(verdict.result, SpfResult::Fail);
        verdict.explanation
    };
    // Two octets each, on both sides of the cut.
    for local in ["é".repeat(300), format!("a{}", "é".repeat(300)), "é".to_owned()] {
        assert_eq!(explained("%{l}", &local), None, "{local}");
    }
    assert_eq!(explained("%{l} may not", "jane").as_deref(), Some("jane may not"));
    assert_eq!(explained("%{l}", &"j".repeat(600)), Some("j".repeat(500)));
}

#[test]
fn exchangers_that_have_only_addresses_of_the_other_family_are_no_fault() {
    let world = || {
        ["a.test", "b.test", "c.test", "e.test"].into_iter().fold(
            World::default()
                .text("d.test", "v=spf1 mx ip6:2001:db8::/32 -all")
                .exchangers("d.test", &["a.test", "b.test", "c.test", "e.test"]),
            |world, host| world.address(host, "192.0.2.1"),
        )
    };
    assert_eq!(verdict(world(), "2001:db8::1", "a").result, SpfResult::Pass);
    assert_eq!(verdict(world(), "2001:db9::1", "a").result, SpfResult::Fail);
    assert_eq!(verdict(world(), "192.0.2.1", "a").result, SpfResult::Pass);
    // Terms that find nothing at all count as ever.
    let void = World::default().text("d.test", "v=spf1 mx a:x.test exists:y.test -all");
    assert_eq!(verdict(void, "2001:db8::1", "a").result, SpfResult::PermError);
    let void = World::default().text("d.test", "v=spf1 mx a:x.test -all");
    assert_eq!(verdict(void, "2001:db8::1", "a").result, SpfResult::Fail);
}

#[test]
fn a_verdict_is_known_before_its_explanation() {
    let mut world = World::default().text("d.test", "v=spf1 -all exp=slow.test");
    world.0.insert(("slow.test".to_owned(), Kind::Txt), Err(DnsError::Temporary));
    let subject = subject("192.0.2.1", "a");
    assert_eq!(check(&subject, &mut world), Err(Missing));
    let reached = check_unexplained(&subject, &mut world).unwrap();
    assert_eq!((reached.result, reached.explanation), (SpfResult::Fail, None));
}

fn words(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..6).prop_map(|words| words.concat())
}

proptest! {
    /// Whoever writes, and whatever is published: there is an end, and what it shows of them fits into a reply.
    #[test]
    fn any_subject_and_any_texts_come_to_an_end(
        local in "\\PC{0,400}",
        helo in "\\PC{0,80}",
        domain in prop::option::of("\\PC{0,80}"),
        client in prop::sample::select(vec!["192.0.2.1", "2001:db8::1"]),
        terms in words(&[" mx", " a", " ptr", " exists:%{l}.%{ir}.x", " include:d.test", "/24", "//64", ":%{d2}",
            " redirect=%{h}", "%{s1r+-}", "é", "%", " ~all", "="]),
        explanation in words(&["%{l}", "%{S}", "%{h}", "%{p}", "%{lr-}", "%{o3}", "%{t}", "%_", "%%", "é", " no", "%{"]),
    ) {
        let mut world = World::default()
            .text("d.test", &format!("v=spf1{terms} -all exp=e.test"))
            .text("e.test", &explanation)
            .exchangers("d.test", &["a.test"])
            .address("a.test", "192.0.2.9");
        let subject = Subject { helo, domain: domain.unwrap_or("d.test".to_owned()), ..subject(client, &local) };
        let verdict = check(&subject, &mut world).unwrap();
        let shown = verdict.explanation.unwrap_or_default();
        prop_assert!(shown.len() <= 500 && shown.bytes().all(|octet| matches!(octet, b' '..=b'~')));
    }
}
