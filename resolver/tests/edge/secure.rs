//! Whom we believe that an answer is authentic.

use std::net::SocketAddr;

use hickory_resolver::proto::op::{Edns, ResponseCode};
use hickory_resolver::proto::rr::rdata::opt::EdnsOption;
use vsmtp_ipc::edge::client_resolver::DnsError;

use crate::dns::{Asked, Dns, Say, a, cname, mx as exchanger, say};
use crate::harness::{Resolver, addresses, mx, slice};

/// Not on this host, and never reached: the first server always answers.
const ELSEWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 53);

fn script(asked: &Asked) -> Vec<Say> {
    let mut answer = match asked.name().as_str() {
        "alias.example" | "bad-alias.example" => asked.answer([cname(&format!("to-{}", asked.name()))]),
        "absent.example" => asked.absent(ResponseCode::NXDomain, 60),
        _ if asked.kind() == hickory_resolver::proto::rr::RecordType::MX => {
            asked.answer([exchanger(1, "mx.example")])
        }
        _ => asked.answer([a(1)]),
    };
    answer.metadata.authentic_data =
        !["plain.example", "to-bad-alias.example"].contains(&asked.name().as_str());
    say(answer)
}

#[test]
fn every_question_asks_for_the_ad_bit_and_servers_on_this_host_are_believed() {
    let dns = Dns::start(script);
    let mut resolver = Resolver::with(&[dns.address]);
    let mut client = resolver.deliver();
    assert!(client.ask(mx("signed.example")).secure);
    assert!(client.ask(mx("signed.example")).secure, "from memory");
    assert!(client.ask(mx("alias.example")).secure);
    assert!(client.ask(mx("absent.example")).secure);
    assert!(!client.ask(mx("plain.example")).secure);
    assert!(!client.ask(mx("bad-alias.example")).secure, "the end of an alias counts");
    assert!(!client.ask(addresses("localhost")).secure);
    for asked in dns.asked() {
        let header = &asked.message.metadata;
        assert!(header.authentic_data && header.recursion_desired && !header.checking_disabled);
        assert!(
            asked.message.edns.is_some_and(|edges| !edges.flags().dnssec_ok && edges.max_payload() == 1232)
        );
    }
}

#[test]
fn servers_elsewhere_are_believed_only_if_configuration_says_so() {
    let dns = Dns::start(script);
    for trust_ad in [false, true] {
        let mut resolver =
            Resolver::start(&vsmtp_config::ResolverSlice { trust_ad, ..slice(&[dns.address, ELSEWHERE]) });
        let mut client = resolver.deliver();
        assert_eq!(client.ask(mx("signed.example")).secure, trust_ad);
        assert_eq!(client.ask(mx("absent.example")).secure, trust_ad);
    }
}

#[test]
fn what_a_trusted_server_calls_bogus_is_never_an_answer() {
    let bogus = Dns::start(|asked| {
        let mut answer = asked.empty(ResponseCode::ServFail);
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Unknown(15, b"\x00\x06no signature".to_vec()));
        answer.set_edns(edns);
        say(answer)
    });
    let careless = Dns::start(|asked| say(asked.answer([a(66)])));
    let mut resolver = Resolver::with(&[bogus.address, careless.address]);
    let answer = resolver.deliver().ask(addresses("forged.example"));
    assert_eq!((answer.result, answer.secure), (Err(DnsError::Bogus), false));
    assert_eq!(careless.asked().len(), 0);
}
