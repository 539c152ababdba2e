//! TLS towards servers that have it, have it not, have the wrong one, or lie about it.

use std::io::{IoSlice, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use vsmtp_config::{DeliverSlice, TlsDestination, TlsPolicy};
use vsmtp_ipc::edge::client_resolver::{Answer, DnsError, Query, Records};
use vsmtp_ipc::edge::queue_deliver::{Outcome, Reach, Result3};
use vsmtp_ipc::wire::Body;
use vsmtp_stage::say;
use vsmtp_sys::memfd::Sealed;

use crate::harness::{Deliver, attempt, hear, inline, results, start};
use crate::peer::{EHLO, Peer};
use crate::sharing::last_words_count;
use crate::tls_peer::{Authority, Identity, OFFERS};

const MESSAGE: &str = "A: b\r\n\r\nbody\r\n";
const TO: &[&str] = &["b@dst.test"];

fn policy(text: &str) -> TlsPolicy {
    TlsPolicy::parse(text).unwrap()
}

/// A deliver process with this usual policy, which believes that authority.
fn with(level: &str, authority: &Authority) -> (Deliver, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(authority.pem.as_bytes()).unwrap();
    let deliver = start(|slice: &mut DeliverSlice| {
        slice.tls.level = policy(level).into();
        slice.tls.ca_file = Some(file.path().to_str().unwrap().to_owned());
    });
    (deliver, file)
}

fn sealed(text: &str) -> (Body, OwnedFd) {
    let sealed = Sealed::create(c"body", &[IoSlice::new(text.as_bytes())]).unwrap();
    (Body::Memfd(sealed.len()), sealed.into_fd())
}

fn only(outcome: &Outcome) -> (Result3, String) {
    let (result, (class, subject, detail)) = results(outcome)[0];
    (result, format!("{class}.{subject}.{detail}"))
}

fn fingerprint(identity: &Identity) -> String {
    let digest = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let rustls::SupportedCipherSuite::Tls13(suite) = digest else { panic!() };
    let hash = suite.common.hash_provider.hash(&identity.key);
    hash.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn a_server_that_offers_tls_gets_the_message_through_it() {
    let authority = Authority::new();
    let (mut deliver, _file) = with("may", &authority);
    let (peer, identity) = (Peer::new(), authority.identity(&["x.test"]));
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept();
    identity.start_tls(&mut talk);
    assert_eq!(talk.take_message("250 ok\r\n"), MESSAGE);
    let outcome = deliver.outcome();
    assert_eq!(only(&outcome).0, Result3::Delivered);
    assert!(outcome.tls.starts_with("encrypted TLSv1.3 TLS_"), "{}", outcome.tls);
    // The connection is used again, and a message that fills many records goes over it.
    let large = "line of a large message\r\n".repeat(40_000);
    let (body, descriptor) = sealed(&large);
    deliver.lease_with(&attempt(2, &peer.next_hop(), TO, body), descriptor);
    assert_eq!(talk.take_message("250 ok\r\n"), large);
    assert_eq!(deliver.outcome().lease, 2);
    assert!(peer.nobody_came());
}

#[test]
fn a_reply_through_tls_counts_although_the_end_of_an_old_connection_comes_with_it() {
    let authority = Authority::new();
    let (mut deliver, _file) = with("may", &authority);
    let (peer, identity) = (Peer::new(), authority.identity(&["x.test"]));
    last_words_count(&mut deliver, &peer, &peer.next_hop(), |peer| {
        let mut talk = peer.accept();
        identity.start_tls(&mut talk);
        talk
    });
}

#[test]
fn a_failed_handshake_is_tried_again_in_clear_on_a_new_connection_only_if_the_policy_may() {
    let authority = Authority::new();
    for (level, again) in [("may", true), ("encrypt", false)] {
        let (mut deliver, _file) = with(level, &authority);
        let peer = Peer::new();
        deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
        let mut talk = peer.accept();
        talk.greet(OFFERS);
        talk.hear_say("STARTTLS", "220 go on\r\n");
        talk.hear_something();
        talk.say("this is no handshake at all, whatever it looks like\r\n");
        if again {
            let mut talk = peer.accept();
            talk.greet(OFFERS);
            assert_eq!(talk.take_message("250 ok\r\n"), MESSAGE);
            let outcome = deliver.outcome();
            assert_eq!((only(&outcome).0, outcome.tls.as_str()), (Result3::Delivered, "none"));
            deliver.logged("action=retry-in-clear");
            // The clear connection serves the next message of this next hop.
            deliver.lease(&attempt(2, &peer.next_hop(), TO, inline(MESSAGE)));
            talk.take_message("250 ok\r\n");
            assert_eq!(deliver.outcome().lease, 2);
        } else {
            let outcome = deliver.outcome();
            assert_eq!(only(&outcome), (Result3::Deferred, "4.7.5".to_owned()));
            assert!(peer.nobody_came());
        }
    }
}

#[test]
fn a_server_that_ends_right_behind_the_handshake_is_tried_again_in_clear_only_if_the_policy_may() {
    let authority = Authority::new();
    let identity = authority.identity(&["x.test"]);
    let secured = |peer: &Peer| {
        let mut talk = peer.accept();
        talk.greet(OFFERS);
        talk.hear_say("STARTTLS", "220 go on\r\n");
        identity.wrap(&mut talk);
        // As one that wants a certificate of the client and did not get it.
        talk.hear("EHLO us.test");
    };
    let (mut deliver, _file) = with("may", &authority);
    let peer = Peer::new();
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    secured(&peer);
    let mut talk = peer.accept();
    talk.greet(OFFERS);
    assert_eq!(talk.take_message("250 ok\r\n"), MESSAGE);
    let outcome = deliver.outcome();
    assert_eq!((only(&outcome).0, outcome.tls.as_str()), (Result3::Delivered, "none"));
    deliver.logged("action=retry-in-clear");

    // More often than a host may fail that is dead: this one is not.
    let (mut deliver, _file) = with("encrypt", &authority);
    let peer = Peer::new();
    for n in 1..5 {
        deliver.lease(&attempt(n, &peer.next_hop(), TO, inline(MESSAGE)));
        secured(&peer);
        let outcome = deliver.outcome();
        assert_eq!(only(&outcome), (Result3::Deferred, "4.4.2".to_owned()));
        assert_eq!(outcome.reach, Reach::Reached, "a policy that asks for less would do");
    }
    assert!(peer.nobody_came());
}

/// A process with this policy and this patience before the first message.
fn patient(level: &str, greeting: Duration) -> Deliver {
    start(|slice: &mut DeliverSlice| {
        slice.tls.level = policy(level).into();
        slice.timeouts.greeting = greeting;
    })
}

#[test]
fn a_server_that_is_silent_or_refuses_us_behind_the_handshake_has_not_failed_at_tls() {
    let identity = Authority::new().identity(&["x.test"]);
    for silent in [true, false] {
        // Long enough for a handshake, whatever else the machine does.
        let mut deliver = patient("may", Duration::from_secs(if silent { 2 } else { 60 }));
        let peer = Peer::new();
        deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
        let mut talk = peer.accept();
        talk.greet(OFFERS);
        talk.hear_say("STARTTLS", "220 go on\r\n");
        identity.wrap(&mut talk);
        talk.hear("EHLO us.test");
        if !silent {
            talk.say("502 5.5.1 no\r\n");
            talk.hear("HELO us.test");
            drop(talk);
        }
        let outcome = deliver.outcome();
        assert_eq!(only(&outcome), (Result3::Deferred, "4.4.2".to_owned()));
        assert_eq!(outcome.reach, Reach::Unreachable, "silent: {silent}");
        assert!(peer.nobody_came() && !deliver.log().contains("tls-failed"), "{}", deliver.log());
    }
}

#[test]
fn a_server_that_hangs_in_the_handshake_is_left_alone_where_nothing_else_will_do() {
    let mut deliver = patient("encrypt", Duration::from_secs(1));
    let peer = Peer::new();
    for n in 1..=3 {
        deliver.lease(&attempt(n, &peer.next_hop(), TO, inline(MESSAGE)));
        let mut silent = peer.accept();
        silent.greet(OFFERS);
        silent.hear_say("STARTTLS", "220 go on\r\n");
        assert_eq!(only(&deliver.outcome()), (Result3::Deferred, "4.4.2".to_owned()));
    }
    deliver.logged("event=host-left-alone");
}

#[test]
fn a_host_that_is_left_alone_and_answers_is_tried_again_in_clear_after_a_failed_handshake() {
    let authority = Authority::new();
    let (mut deliver, _file) = with("may", &authority);
    let peer = Peer::new();
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept();
    // While it takes its time to greet, others find that nobody is there, each by a way of its own.
    for n in 2..5 {
        let next_hop = format!("lmtp:[127.0.0.1]:{}", peer.port());
        deliver.lease(&attempt(n, &next_hop, TO, inline(MESSAGE)));
        drop(peer.accept());
        assert_eq!(only(&deliver.outcome()).0, Result3::Deferred);
    }
    // The log tells when the last of them was heard.
    deliver.logged("event=host-left-alone");
    talk.greet(OFFERS);
    talk.hear_say("STARTTLS", "220 go on\r\n");
    talk.hear_something();
    talk.say("this is no handshake at all, whatever it looks like\r\n");
    let mut talk = peer.accept();
    talk.greet(OFFERS);
    assert_eq!(talk.take_message("250 ok\r\n"), MESSAGE);
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
}

#[test]
fn where_tls_is_a_must_a_server_without_it_gets_nothing() {
    let authority = Authority::new();
    for level in ["encrypt", "verify", &format!("fingerprint sha256:{}", "00".repeat(32))] {
        let (mut deliver, _file) = with(level, &authority);
        let peer = Peer::new();
        deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
        let mut talk = peer.accept();
        talk.greet(EHLO);
        let outcome = deliver.outcome();
        assert_eq!(only(&outcome), (Result3::Deferred, "4.7.4".to_owned()), "{level}");
        assert!(talk.ended() && peer.nobody_came());
    }
}

#[test]
fn a_certificate_must_prove_what_the_policy_asks_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = authority.identity(&["127.0.0.1", "mx.dst.test"]);
    let print = fingerprint(&good);
    for (level, identity, reached) in [
        ("verify match=nexthop".to_owned(), &good, Ok("verified")),
        ("verify match=mx.dst.test".to_owned(), &good, Ok("verified")),
        ("verify match=.dst.test".to_owned(), &good, Ok("verified")),
        ("verify match=other.test".to_owned(), &good, Err("4.7.5")),
        ("verify match=hostname".to_owned(), &stranger.identity(&["127.0.0.1"]), Err("4.7.5")),
        (format!("fingerprint sha256:{print}"), &good, Ok("fingerprint")),
        (format!("fingerprint sha256:{print}"), &authority.identity(&["127.0.0.1"]), Err("4.7.5")),
    ] {
        let (mut deliver, _file) = with(&level, &authority);
        let peer = Peer::new();
        deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
        let mut talk = peer.accept();
        talk.greet(OFFERS);
        talk.hear_say("STARTTLS", "220 go on\r\n");
        let stream = identity.wrap(&mut talk);
        match reached {
            Ok(word) => {
                talk.hear_say("EHLO us.test", EHLO);
                // An address is never sent as a name.
                assert_eq!(stream.name(), None);
                talk.take_message("250 ok\r\n");
                let outcome = deliver.outcome();
                assert!(outcome.tls.starts_with(word), "{level}: {}", outcome.tls);
            }
            Err(status) => {
                // Nothing is said to a server that did not prove itself.
                assert!(talk.ended(), "{level}");
                let outcome = deliver.outcome();
                assert_eq!(only(&outcome), (Result3::Deferred, status.to_owned()), "{level}");
                assert!(peer.nobody_came());
            }
        }
    }
}

#[test]
fn clear_text_behind_the_answer_to_starttls_is_never_taken_for_the_servers() {
    let authority = Authority::new();
    let (mut deliver, _file) = with("may", &authority);
    let peer = Peer::new();
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept();
    talk.greet(OFFERS);
    talk.hear_say("STARTTLS", "220 go on\r\n250-forged\r\n250 AUTH PLAIN\r\n");
    assert!(talk.ended());
    let outcome = deliver.outcome();
    assert_eq!(only(&outcome).0, Result3::Deferred);
    assert!(outcome.settled[0].text.contains("clear text behind"), "{}", outcome.settled[0].text);
}

#[test]
fn tls_from_the_start() {
    let authority = Authority::new();
    let (mut deliver, _file) = with("verify wrapper", &authority);
    let (peer, identity) = (Peer::new(), authority.identity(&["127.0.0.1"]));
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut talk = peer.accept();
    identity.wrap(&mut talk);
    talk.greet(OFFERS);
    talk.take_message("250 ok\r\n");
    assert!(deliver.outcome().tls.starts_with("verified "));
}

#[test]
fn one_domains_policy_neither_weakens_nor_delays_another_at_the_same_server() {
    // P1: both next hops lead to one server, whose certificate is good for neither name.
    let authority = Authority::new();
    let peer = Peer::new();
    let (lax, strict) = (peer.next_hop(), format!("lmtp:[127.0.0.1]:{}", peer.port()));
    let mut deliver = start(|slice: &mut DeliverSlice| {
        let row = TlsDestination::parse(&strict).unwrap();
        slice.tls.policies = vec![(row.into(), policy("verify match=dst.test").into())];
    });
    let identity = authority.identity(&["x.test"]);
    deliver.lease(&attempt(1, &lax, TO, inline(MESSAGE)));
    let mut open = peer.accept();
    identity.start_tls(&mut open);
    open.take_message("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
    // The open connection does not serve the strict one, and the strict one's failure ends no lax delivery.
    deliver.lease(&attempt(2, &strict, TO, inline(MESSAGE)));
    let mut talk = peer.accept();
    talk.say("220 peer.test\r\n");
    talk.hear_say("LHLO", OFFERS);
    talk.hear_say("STARTTLS", "220 go on\r\n");
    identity.wrap(&mut talk);
    assert!(talk.ended());
    assert_eq!(only(&deliver.outcome()), (Result3::Deferred, "4.7.5".to_owned()));
    deliver.lease(&attempt(3, &lax, TO, inline(MESSAGE)));
    open.take_message("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
}

#[test]
fn a_connection_that_never_tried_tls_serves_no_policy_that_would_have() {
    let authority = Authority::new();
    let peer = Peer::new();
    let (none, may) = (format!("smtp:dst.test:{}", peer.port()), peer.next_hop());
    let mut deliver = start(|slice: &mut DeliverSlice| {
        let row = TlsDestination::parse(none.strip_prefix("smtp:").unwrap()).unwrap();
        slice.tls.policies = vec![(row.into(), policy("none").into())];
    });
    let mut resolver = deliver.resolver();
    deliver.lease(&attempt(1, &none, TO, inline(MESSAGE)));
    for _ in 0..2 {
        let question = hear(&mut resolver);
        let result = match &question.query {
            Query::Mx(_) => Err(DnsError::NoRecords),
            _ => Ok(Records::Addresses(vec!["127.0.0.1".parse().unwrap()])),
        };
        say(&mut resolver, &Answer { ticket: question.ticket, result, secure: false }, Vec::new());
    }
    let mut clear = peer.accept();
    clear.greet(OFFERS);
    clear.take_message("250 ok\r\n");
    assert_eq!(deliver.outcome().tls, "none");
    // The same server, which offers TLS, for a next hop that wants it.
    deliver.lease(&attempt(2, &may, TO, inline(MESSAGE)));
    let mut talk = peer.accept();
    authority.identity(&["x.test"]).start_tls(&mut talk);
    talk.take_message("250 ok\r\n");
    assert!(deliver.outcome().tls.starts_with("encrypted"));
    // The clear one is kept for its own.
    deliver.lease(&attempt(3, &none, TO, inline(MESSAGE)));
    clear.take_message("250 ok\r\n");
    assert_eq!(deliver.outcome().tls, "none");
}

#[test]
fn a_server_that_falls_silent_in_the_handshake_costs_its_time_and_no_more() {
    let authority = Authority::new();
    let mut deliver = start(|slice: &mut DeliverSlice| {
        slice.timeouts.greeting = Duration::from_millis(200);
    });
    let _ = authority;
    let peer = Peer::new();
    deliver.lease(&attempt(1, &peer.next_hop(), TO, inline(MESSAGE)));
    let mut silent = peer.accept();
    silent.greet(OFFERS);
    silent.hear_say("STARTTLS", "220 go on\r\n");
    let mut talk = peer.accept();
    talk.greet(OFFERS);
    talk.take_message("250 ok\r\n");
    assert_eq!(deliver.outcome().tls, "none");
}

#[test]
fn a_message_that_requires_tls_goes_only_to_a_server_that_proved_itself_and_will_pass_it_on_so() {
    let authority = Authority::new();
    let identity = authority.identity(&["127.0.0.1"]);
    let required = |lease, peer: &Peer| {
        let mut attempt = attempt(lease, &peer.next_hop(), TO, inline(MESSAGE));
        attempt.demands.requiretls = true;
        attempt
    };
    let (mut strict, _file) = with("verify", &authority);
    let peer = Peer::new();
    strict.lease(&required(1, &peer));
    let mut talk = peer.accept();
    talk.greet(OFFERS);
    talk.hear_say("STARTTLS", "220 go on\r\n");
    identity.wrap(&mut talk);
    talk.hear_say("EHLO us.test", "250-peer.test\r\n250 REQUIRETLS\r\n");
    talk.hear_say("MAIL FROM:<sender@src.test> REQUIRETLS", "250 ok\r\n");
    talk.hear_say("RCPT", "250 ok\r\n");
    talk.hear_say("DATA", "354 go on\r\n");
    talk.message();
    talk.say("250 ok\r\n");
    assert_eq!(only(&strict.outcome()).0, Result3::Delivered);
    // One that only encrypts, and one that does not know the word.
    for (level, offer) in [("may", "250-peer.test\r\n250 REQUIRETLS\r\n"), ("verify", EHLO)] {
        let (mut deliver, _file) = with(level, &authority);
        let peer = Peer::new();
        deliver.lease(&required(1, &peer));
        let mut talk = peer.accept();
        talk.greet(OFFERS);
        talk.hear_say("STARTTLS", "220 go on\r\n");
        identity.wrap(&mut talk);
        talk.hear_say("EHLO us.test", offer);
        assert_eq!(only(&deliver.outcome()), (Result3::Failed, "5.7.30".to_owned()), "{level}");
    }
}
