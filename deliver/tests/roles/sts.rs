//! MTA-STS: what the resolver says of a domain's policy, and which servers then get mail.

use vsmtp_config::TlsPolicy;
use vsmtp_ipc::edge::client_resolver::{Answer, DnsError, Query, Records, ResolverEnd, StsMode};
use vsmtp_ipc::edge::queue_deliver::{Reach, Result3};
use vsmtp_stage::say;

use crate::harness::{Deliver, attempt, hear, inline, results, start};
use crate::peer::{EHLO, Peer};
use crate::tls_peer::{Authority, OFFERS};

const MESSAGE: &str = "A: b\r\n\r\nbody\r\n";

fn deliver(authority: &Authority) -> (Deliver, ResolverEnd, tempfile::NamedTempFile) {
    with(authority, "may", true)
}

fn with(
    authority: &Authority,
    level: &str,
    mta_sts: bool,
) -> (Deliver, ResolverEnd, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, authority.pem.as_bytes()).unwrap();
    let mut deliver = start(|slice| {
        slice.tls.level = TlsPolicy::parse(level).unwrap().into();
        slice.tls.mta_sts = mta_sts;
        slice.tls.ca_file = Some(file.path().to_str().unwrap().to_owned());
    });
    let resolver = deliver.resolver();
    (deliver, resolver, file)
}

fn send_one(deliver: &mut Deliver, peer: &Peer) {
    let next_hop = format!("smtp:dst.test:{}", peer.port());
    deliver.lease(&attempt(1, &next_hop, &["b@dst.test"], inline(MESSAGE)));
}

/// Answers for two hosts at two addresses, and this policy.
fn answer(resolver: &mut ResolverEnd, policy: &Result<Records, DnsError>) {
    for _ in 0..4 {
        let question = hear(resolver);
        let address = |text: &str| Ok(Records::Addresses(vec![text.parse().unwrap()]));
        let result = match &question.query {
            Query::Mx(_) => Ok(Records::Mx(vec![(1, "evil.test".to_owned()), (2, "mx.dst.test".to_owned())])),
            Query::Addresses(name) if name == "evil.test" => address("127.0.0.2"),
            Query::Addresses(_) => address("127.0.0.1"),
            Query::StsPolicy(domain) => {
                assert_eq!(domain, "dst.test");
                policy.clone()
            }
            other => panic!("{other:?}"),
        };
        say(resolver, &Answer { ticket: question.ticket, result, secure: false }, Vec::new());
    }
}

fn policy(mode: StsMode, mx: &[&str]) -> Result<Records, DnsError> {
    Ok(Records::StsPolicy {
        mode,
        mx: mx.iter().map(|host| (*host).to_owned()).collect(),
        max_age_s: 86_400,
        age_s: 0,
    })
}

#[test]
fn only_hosts_of_the_policy_get_mail_and_only_with_their_certificate() {
    let authority = Authority::new();
    let (mut deliver, mut resolver, _file) = deliver(&authority);
    let peer = Peer::new();
    let evil = Peer::at(&format!("127.0.0.2:{}", peer.port()));
    send_one(&mut deliver, &peer);
    answer(&mut resolver, &policy(StsMode::Enforce, &["*.dst.test"]));
    let mut talk = peer.accept();
    let stream = authority.identity(&["mx.dst.test"]).start_tls(&mut talk);
    assert_eq!(stream.name().as_deref(), Some("mx.dst.test"));
    talk.take_message("250 ok\r\n");
    let outcome = deliver.outcome();
    assert!(outcome.tls.starts_with("verified") && outcome.remote.starts_with("mx.dst.test["), "{outcome:?}");
    assert!(evil.nobody_came());
}

#[test]
fn a_wrong_certificate_no_tls_or_no_host_of_the_policy_defers_the_mail() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let peer = Peer::new();
    let enforced = policy(StsMode::Enforce, &["mx.dst.test"]);
    for identity in [authority.identity(&["dst.test"]), stranger.identity(&["mx.dst.test"])] {
        let (mut deliver, mut resolver, _file) = deliver(&authority);
        send_one(&mut deliver, &peer);
        answer(&mut resolver, &enforced);
        let mut talk = peer.accept();
        talk.greet(OFFERS);
        talk.hear_say("STARTTLS", "220 go on\r\n");
        identity.wrap(&mut talk);
        assert!(talk.ended());
        let outcome = deliver.outcome();
        assert_eq!(results(&outcome)[0], (Result3::Deferred, (4, 7, 5)));
        assert_eq!(outcome.reach, Reach::Reached, "what is held to less is not held up by this");
    }
    let (mut deliver, mut resolver, _file) = deliver(&authority);
    send_one(&mut deliver, &peer);
    answer(&mut resolver, &enforced);
    peer.accept().greet(EHLO);
    let outcome = deliver.outcome();
    assert_eq!((results(&outcome)[0], outcome.reach), ((Result3::Deferred, (4, 7, 4)), Reach::Reached));
    send_one(&mut deliver, &peer);
    answer(&mut resolver, &policy(StsMode::Enforce, &["other.test"]));
    let outcome = deliver.outcome();
    assert_eq!((results(&outcome)[0], outcome.reach), ((Result3::Deferred, (4, 7, 5)), Reach::Reached));
    assert!(outcome.settled[0].text.contains("MTA-STS policy of dst.test"), "{}", outcome.settled[0].text);
    assert!(peer.nobody_came());
}

#[test]
fn a_policy_that_only_tests_and_no_policy_at_all_change_nothing() {
    let authority = Authority::new();
    for found in
        [policy(StsMode::Testing, &["other.test"]), policy(StsMode::None, &[]), Err(DnsError::NoRecords)]
    {
        let (mut deliver, mut resolver, _file) = deliver(&authority);
        let peer = Peer::at("127.0.0.2:0");
        send_one(&mut deliver, &peer);
        answer(&mut resolver, &found);
        peer.accept_greeted().take_message("250 ok\r\n");
        assert_eq!(deliver.outcome().tls, "none");
    }
}

#[test]
fn a_sender_who_waives_tls_is_not_held_to_the_policy_of_the_domain() {
    let authority = Authority::new();
    let (mut deliver, mut resolver, _file) = deliver(&authority);
    let peer = Peer::at("127.0.0.2:0");
    let next_hop = format!("smtp:dst.test:{}", peer.port());
    let waived = "A: b\r\nTLS-Required: No\r\n\r\nbody\r\n";
    deliver.lease(&attempt(1, &next_hop, &["b@dst.test"], inline(waived)));
    // The policy is not even asked for.
    for _ in 0..2 {
        let question = hear(&mut resolver);
        let result = match &question.query {
            Query::Mx(_) => Err(DnsError::NoRecords),
            Query::Addresses(_) => Ok(Records::Addresses(vec!["127.0.0.2".parse().unwrap()])),
            other => panic!("{other:?}"),
        };
        say(&mut resolver, &Answer { ticket: question.ticket, result, secure: false }, Vec::new());
    }
    let mut talk = peer.accept_greeted();
    assert_eq!(talk.take_message("250 ok\r\n"), waived, "the field goes on");
    assert_eq!(deliver.outcome().tls, "none");
    // The next message, whose sender says nothing, does not follow over the open connection.
    deliver.lease(&attempt(2, &next_hop, &["b@dst.test"], inline(MESSAGE)));
    answer(&mut resolver, &policy(StsMode::Enforce, &["other.test"]));
    assert_eq!(results(&deliver.outcome())[0], (Result3::Deferred, (4, 7, 5)));
    assert!(peer.nobody_came());
}

#[test]
fn while_nobody_knows_what_the_domain_asks_for_its_mail_waits() {
    let authority = Authority::new();
    let (mut deliver, mut resolver, _file) = deliver(&authority);
    let peer = Peer::at("127.0.0.2:0");
    send_one(&mut deliver, &peer);
    answer(&mut resolver, &Err(DnsError::Temporary));
    let outcome = deliver.outcome();
    assert_eq!((outcome.settled[0].result, outcome.settled[0].enhanced), (Result3::Deferred, (4, 7, 5)));
}

#[test]
fn where_the_operator_wants_a_policy_of_the_domain_nothing_goes_without_one_that_is_enforced() {
    let authority = Authority::new();
    // Also where policies of others are not asked for, and whatever the sender waives.
    let (mut deliver, mut resolver, _file) = with(&authority, "sts", false);
    let peer = Peer::new();
    let next_hop = format!("smtp:dst.test:{}", peer.port());
    let waived = "A: b\r\nTLS-Required: No\r\n\r\nbody\r\n";
    for (lease, found) in [
        policy(StsMode::Testing, &["mx.dst.test"]),
        policy(StsMode::None, &[]),
        Err(DnsError::NoRecords),
        Ok(Records::StsFault { fetched: false, why: "timeout".to_owned() }),
        Err(DnsError::Temporary),
    ]
    .iter()
    .enumerate()
    {
        deliver.lease(&attempt(lease as u64, &next_hop, &["b@dst.test"], inline(waived)));
        answer(&mut resolver, found);
        let outcome = deliver.outcome();
        assert_eq!((results(&outcome)[0], outcome.reach), ((Result3::Deferred, (4, 7, 5)), Reach::Reached));
    }
    assert!(peer.nobody_came());
    let peer = Peer::new();
    send_one(&mut deliver, &peer);
    answer(&mut resolver, &policy(StsMode::Enforce, &["mx.dst.test"]));
    let mut talk = peer.accept();
    authority.identity(&["mx.dst.test"]).start_tls(&mut talk);
    talk.take_message("250 ok\r\n");
    assert!(deliver.outcome().tls.starts_with("verified"));
}

#[test]
fn where_the_operator_does_not_want_it_the_policy_of_a_domain_is_not_even_asked_for() {
    let (mut deliver, mut resolver, _file) = with(&Authority::new(), "may no-sts", true);
    let peer = Peer::new();
    send_one(&mut deliver, &peer);
    for _ in 0..2 {
        let question = hear(&mut resolver);
        let result = match &question.query {
            Query::Mx(_) => Err(DnsError::NoRecords),
            Query::Addresses(_) => Ok(Records::Addresses(vec!["127.0.0.1".parse().unwrap()])),
            other => panic!("{other:?}"),
        };
        say(&mut resolver, &Answer { ticket: question.ticket, result, secure: false }, Vec::new());
    }
    peer.accept_greeted().take_message("250 ok\r\n");
    assert_eq!(deliver.outcome().tls, "none");
}
