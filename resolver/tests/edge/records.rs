//! What names have, and what they do not have.

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_resolver::proto::rr::rdata::{MX, TLSA};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use vsmtp_ipc::edge::client_resolver::{ClientName, DnsError, Query, Records};
use vsmtp_ipc::role::Role;

use crate::dns::{Asked, Dns, Say, a, aaaa, cname, mx as exchanger, name, ptr, record, say, txt};
use crate::harness::{Resolver, addresses, mx, text, tlsa};

fn resolver(script: impl Fn(&Asked) -> Vec<Say> + Send + Sync + 'static) -> (Dns, Resolver) {
    let dns = Dns::start(script);
    let resolver = Resolver::with(&[dns.address]);
    (dns, resolver)
}

fn hosts(list: &[(u16, &str)]) -> Result<Records, DnsError> {
    Ok(Records::Mx(list.iter().map(|(preference, host)| (*preference, (*host).to_owned())).collect()))
}

fn ips(list: &[&str]) -> Result<Records, DnsError> {
    Ok(Records::Addresses(list.iter().map(|text| text.parse().unwrap()).collect()))
}

#[test]
fn mail_exchangers_come_by_preference() {
    let (_dns, mut resolver) = resolver(|asked| {
        let strange = RData::MX(MX::new(2, Name::from_labels([b"a b".as_slice(), b"c"]).unwrap()));
        say(match asked.name().as_str() {
            "many.example" => asked.answer([
                exchanger(20, "B.Example"),
                exchanger(5, "z.example"),
                exchanger(20, "a.example"),
            ]),
            "null.example" => asked.answer([exchanger(10, ".")]),
            "half-null.example" => asked.answer([exchanger(0, "."), exchanger(10, "mx.example")]),
            "odd.example" => asked.answer([exchanger(1, "192.0.2.1"), strange, exchanger(3, "ok.example")]),
            "useless.example" => asked.answer([exchanger(1, "192.0.2.1")]),
            _ => asked.nothing(),
        })
    });
    let mut client = resolver.deliver();
    assert_eq!(
        client.result(mx("MANY.example")),
        hosts(&[(5, "z.example"), (20, "a.example"), (20, "b.example")])
    );
    assert_eq!(client.result(mx("null.example")), hosts(&[(0, "")]));
    assert_eq!(client.result(mx("half-null.example")), hosts(&[(10, "mx.example")]));
    assert_eq!(client.result(mx("odd.example")), hosts(&[(3, "ok.example")]));
    assert_eq!(client.result(mx("useless.example")), Err(DnsError::Temporary));
    assert_eq!(client.result(mx("none.example")), Err(DnsError::NoRecords));
}

#[test]
fn addresses_of_both_families_are_one_answer() {
    let (_dns, mut resolver) = resolver(|asked| {
        let is_a = asked.kind() == RecordType::A;
        say(match (asked.name().as_str(), is_a) {
            ("both.example", true) => asked.answer([a(1), a(2)]),
            ("both.example", false) => asked.answer([aaaa(1)]),
            ("four.example", true) => asked.answer([a(4)]),
            ("four.example", false) => asked.nothing(),
            ("six.example", true) => asked.empty(ResponseCode::ServFail),
            ("six.example", false) => asked.answer([aaaa(6)]),
            ("half.example", true) => asked.empty(ResponseCode::ServFail),
            ("none.example" | "half.example", _) => asked.nothing(),
            ("mixed.example", true) => asked.nothing(),
            _ => asked.absent(ResponseCode::NXDomain, 60),
        })
    });
    let mut client = resolver.deliver();
    assert_eq!(client.result(addresses("both.example")), ips(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]));
    assert_eq!(client.result(addresses("four.example")), ips(&["192.0.2.4"]));
    assert_eq!(client.result(addresses("six.example")), ips(&["2001:db8::6"]));
    assert_eq!(client.result(addresses("half.example")), Err(DnsError::Temporary));
    assert_eq!(client.result(addresses("none.example")), Err(DnsError::NoRecords));
    assert_eq!(client.result(addresses("mixed.example")), Err(DnsError::NoRecords));
    assert_eq!(client.result(addresses("gone.example")), Err(DnsError::NoSuchName));
}

#[test]
fn names_of_addresses_are_host_names_only() {
    let (_dns, mut resolver) = resolver(|asked| {
        let strange = Name::from_labels([b"a\\046b".as_slice(), b"evil\ncom", b"example"]).unwrap();
        say(match asked.name().as_str() {
            "1.2.0.192.in-addr.arpa" => asked.answer([ptr(name("Mail.Example.")), ptr(strange)]),
            "2.2.0.192.in-addr.arpa" => asked.answer([ptr(strange)]),
            other if other.ends_with(".8.b.d.0.1.0.0.2.ip6.arpa") => asked.answer([ptr(name("six.example"))]),
            _ => asked.absent(ResponseCode::NXDomain, 60),
        })
    });
    let mut client = resolver.deliver();
    let mut names = |address: &str| client.result(Query::Names(address.parse().unwrap()));
    assert_eq!(names("192.0.2.1"), Ok(Records::Names(vec!["mail.example".to_owned()])));
    assert_eq!(names("::ffff:192.0.2.1"), names("192.0.2.1"));
    assert_eq!(names("192.0.2.2"), Err(DnsError::NoRecords));
    assert_eq!(names("192.0.2.3"), Err(DnsError::NoSuchName));
    assert_eq!(names("2001:db8::1"), Ok(Records::Names(vec!["six.example".to_owned()])));
}

#[test]
fn texts_are_joined_and_any_octets_pass() {
    let odd: &[u8] = "v=spf1\u{200b} \0\u{feff}".as_bytes();
    let (_dns, mut resolver) = resolver(move |asked| {
        say(match asked.name().as_str() {
            "split.example" => asked.answer([txt(&[b"v=spf1 ", b"", b"-all"]), txt(&[b"other"])]),
            "odd.example" => asked.answer([txt(&[odd, b"\xff\xfe"])]),
            "empty.example" => asked.answer([txt(&[b""])]),
            // More than a frame holds.
            "huge.example" if asked.by_tcp => asked.answer([txt(&[[b'x'; 255].as_slice(); 230])]),
            "huge.example" => asked.empty(ResponseCode::NoError).truncate(),
            _ => asked.nothing(),
        })
    });
    let mut client = resolver.deliver();
    let texts = |list: &[&[u8]]| Ok(Records::Text(list.iter().map(|text| text.to_vec()).collect()));
    assert_eq!(client.result(text("split.example")), texts(&[b"v=spf1 -all", b"other"]));
    assert_eq!(client.result(text("odd.example")), texts(&[&[odd, b"\xff\xfe"].concat()]));
    assert_eq!(client.result(text("empty.example")), texts(&[b""]));
    assert_eq!(client.result(text("huge.example")), texts(&[&[b'x'; 255 * 230]]));
}

#[test]
fn certificate_associations_come_as_they_are() {
    let (_dns, mut resolver) = resolver(|asked| {
        let data = |octets: &[u8]| {
            RData::TLSA(TLSA::new(CertUsage::DaneEe, Selector::Spki, Matching::Sha256, octets.to_vec()))
        };
        say(asked.answer([data(&[7; 32]), data(&[]), data(&[1; 19])]))
    });
    let mut client = resolver.deliver();
    let expected = [vec![7; 32], vec![], vec![1; 19]].map(|data| (3, 1, 1, data)).to_vec();
    assert_eq!(client.result(tlsa("_25._tcp.mx.example")), Ok(Records::Tlsa(expected)));
}

#[test]
fn aliases_are_followed_within_an_answer_and_across() {
    let (dns, mut resolver) = resolver(|asked| {
        say(match asked.name().as_str() {
            "whole.example" => asked.records([
                record("b.example", 60, cname("C.example")),
                record("whole.example", 60, cname("b.example")),
                record("c.example", 60, exchanger(1, "mx.example")),
            ]),
            "first.example" => asked.answer([cname("second.example")]),
            "second.example" => asked.answer([exchanger(2, "mx.example")]),
            "dangling.example" => asked.answer([cname("gone.example")]),
            "gone.example" => asked.absent(ResponseCode::NXDomain, 60),
            "bare.example" => {
                let mut answer = asked.nothing();
                answer.add_answer(record("bare.example", 60, cname("x.example")));
                answer
            }
            other => asked.answer([exchanger(66, &format!("not-{other}"))]),
        })
    });
    let mut client = resolver.deliver();
    assert_eq!(client.result(mx("whole.example")), hosts(&[(1, "mx.example")]));
    assert_eq!(client.result(mx("first.example")), hosts(&[(2, "mx.example")]));
    assert_eq!(client.result(mx("dangling.example")), Err(DnsError::NoSuchName));
    assert_eq!(client.result(mx("bare.example")), Err(DnsError::NoRecords));
    assert_eq!(dns.asked().len(), 6);
}

#[test]
fn chains_and_circles_of_aliases_end() {
    // n8 is an alias of n7 and so on; n0 has an exchanger.
    let (dns, mut resolver) = resolver(|asked| {
        let name = asked.name();
        let number: Option<u32> =
            name.strip_prefix('n').and_then(|rest| rest.strip_suffix(".example")?.parse().ok());
        say(match number {
            Some(0) => asked.answer([exchanger(1, "mx.example")]),
            Some(number) => asked.answer([cname(&format!("n{}.example", number - 1))]),
            None if name == "self.example" => asked.answer([cname("self.example")]),
            None if name == "ping.example" => asked.answer([cname("pong.example")]),
            None if name == "pong.example" => asked.answer([cname("ping.example")]),
            None => asked.records(
                (0..20).map(|n| record(&format!("m{n}.example"), 60, cname(&format!("m{}.example", n + 1)))),
            ),
        })
    });
    let mut client = resolver.deliver();
    assert_eq!(client.result(mx("n8.example")), hosts(&[(1, "mx.example")]));
    assert_eq!(client.result(mx("n9.example")), Err(DnsError::Temporary));
    let before = dns.asked().len();
    assert_eq!(client.result(mx("self.example")), Err(DnsError::Temporary));
    assert_eq!(client.result(mx("m0.example")), Err(DnsError::Temporary));
    assert_eq!(dns.asked().len(), before + 2);
    assert_eq!(client.result(mx("ping.example")), Err(DnsError::Temporary));
    assert!(dns.asked().len() <= before + 2 + 9);
}

#[test]
fn what_needs_no_server_asks_none() {
    let (dns, mut resolver) = resolver(|asked| say(asked.answer([a(1)])));
    let mut client = resolver.deliver();
    assert_eq!(client.result(addresses("localhost")), ips(&["127.0.0.1", "::1"]));
    assert_eq!(client.result(mx("x.invalid")), Err(DnsError::NoSuchName));
    for bad in ["", "a..b", "192.0.2.1", "a b.example", "\u{200b}", &"a.".repeat(200)] {
        assert_eq!(client.result(text(bad)), Err(DnsError::BadName), "{bad}");
    }
    assert_eq!(dns.asked().len(), 0);
}

#[test]
fn receivers_may_ask_for_names_of_clients_and_nothing_else() {
    let (_dns, mut resolver) = resolver(|asked| {
        say(match (asked.name().as_str(), asked.kind()) {
            ("1.2.0.192.in-addr.arpa", _) => asked.answer([ptr(name("host.example"))]),
            ("2.2.0.192.in-addr.arpa", _) => asked.answer([ptr(name("liar.example"))]),
            ("host.example", RecordType::A) => asked.answer([a(1)]),
            ("liar.example", RecordType::A) => asked.answer([a(9)]),
            _ => asked.nothing(),
        })
    });
    let mut receiver = resolver.client(Role::Receiver, 0);
    let name_of = |address: &str| Query::ClientName(address.parse().unwrap());
    let is = |name: &str| Ok(Records::ClientName(ClientName::Is(name.to_owned())));
    let none = Ok(Records::ClientName(ClientName::None));
    assert_eq!(receiver.result(name_of("192.0.2.1")), is("host.example"));
    assert_eq!(receiver.result(name_of("::ffff:192.0.2.1")), is("host.example"));
    assert_eq!(receiver.result(name_of("192.0.2.2")), none);
    assert_eq!(receiver.result(name_of("192.0.2.3")), none);
    assert_eq!(receiver.result(name_of("127.0.0.1")), is("localhost"));
    receiver.say(text("what-i-heard.evil.example"));
    assert!(receiver.closed());
    resolver.logged("asks what it has no use for");
}
