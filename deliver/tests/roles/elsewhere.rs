//! A server that lacks what a message needs: another one of the same next hop may have it.

use vsmtp_ipc::edge::client_resolver::{Answer, DnsError, Query, Records, ResolverEnd};
use vsmtp_ipc::edge::queue_deliver::{Attempt, Reach, Result3};
use vsmtp_stage::say;

use crate::harness::{Deliver, MESSAGE, TO, attempt, hear, inline, only, results, start};
use crate::peer::{EHLO, Peer};
use crate::routes::{a, answer, mx};

/// Takes nothing that is longer than three octets.
const SMALL: &str = "250-small.test\r\n250 SIZE 3\r\n";

/// Two exchangers at the same port, the first one preferred, and that a message for `dst.test` goes there.
fn two() -> (Peer, Peer, String) {
    let first = Peer::at("127.0.0.2:0");
    let port = first.port();
    (first, Peer::at(&format!("127.0.0.3:{port}")), format!("smtp:dst.test:{port}"))
}

fn offer(deliver: &mut Deliver, resolver: &mut ResolverEnd, attempt: &Attempt) {
    deliver.lease(attempt);
    let known = [
        mx("dst.test", &[(10, "a.test"), (20, "b.test")]),
        a("a.test", "127.0.0.2"),
        a("b.test", "127.0.0.3"),
    ];
    answer(resolver, &known, 3);
}

#[test]
fn what_one_exchanger_does_not_take_the_next_one_may() {
    let mut deliver = start(|_| {});
    let mut resolver = deliver.resolver();
    let (small, large, next_hop) = two();
    offer(&mut deliver, &mut resolver, &attempt(1, &next_hop, TO, inline(MESSAGE)));
    let mut first = small.accept();
    first.greet(SMALL);
    let mut second = large.accept_greeted();
    second.take_message("250 2.0.0 ok\r\n");
    let outcome = deliver.outcome();
    assert_eq!(only(&outcome), (Result3::Delivered, (2, 0, 0)));
    assert!(outcome.remote.starts_with("b.test"), "{}", outcome.remote);
    deliver.logged("event=tried-elsewhere");
    // What the first one does take goes there, over the connection that is still open.
    deliver.lease(&attempt(2, &next_hop, TO, inline("\r\n")));
    first.hear_say("MAIL FROM:<sender@src.test> SIZE=2", "250 ok\r\n");
    first.hear_say("RCPT", "250 ok\r\n");
    first.hear_say("DATA", "354 go\r\n");
    first.message();
    first.say("250 ok\r\n");
    assert_eq!(only(&deliver.outcome()).0, Result3::Delivered);
}

#[test]
fn it_fails_if_each_of_them_lacks_it_and_waits_if_one_could_not_be_asked() {
    let mut deliver = start(|_| {});
    let mut resolver = deliver.resolver();
    let (first, second, next_hop) = two();
    for (greeting, expected) in
        [("", (Result3::Failed, (5, 3, 4))), ("421 4.3.2 busy\r\n", (Result3::Deferred, (4, 3, 2)))]
    {
        offer(&mut deliver, &mut resolver, &attempt(1, &next_hop, TO, inline(MESSAGE)));
        let mut talk = first.accept();
        talk.greet(SMALL);
        let mut other = second.accept();
        if greeting.is_empty() {
            other.greet(SMALL)
        } else {
            other.say(greeting)
        }
        let outcome = deliver.outcome();
        assert_eq!((only(&outcome), outcome.reach), (expected, Reach::Reached), "the first one has answered");
        deliver = start(|_| {});
        resolver = deliver.resolver();
    }
}

#[test]
fn a_recipient_whom_this_server_cannot_be_told_waits_for_one_that_can() {
    let mut deliver = start(|_| {});
    let mut resolver = deliver.resolver();
    let (old, new, next_hop) = two();
    let utf8 = "jos\u{e9}@dst.test";
    offer(&mut deliver, &mut resolver, &attempt(1, &next_hop, &["b@dst.test", utf8], inline(MESSAGE)));
    let mut talk = old.accept_greeted();
    talk.take_message("250 2.0.0 ok\r\n");
    assert_eq!(
        results(&deliver.outcome()),
        [(Result3::Delivered, (2, 0, 0)), (Result3::Deferred, (4, 6, 7))]
    );
    deliver.lease(&attempt(2, &next_hop, &[utf8], inline(MESSAGE)));
    let mut talk = new.accept();
    talk.greet(&EHLO.replace("PIPELINING", "SMTPUTF8"));
    talk.take_message("250 2.0.0 ok\r\n");
    assert_eq!(only(&deliver.outcome()), (Result3::Delivered, (2, 0, 0)));
}

#[test]
fn what_requires_tls_waits_while_nobody_knows_whether_the_domain_has_a_policy() {
    let missed = Ok(Records::StsFault { fetched: false, why: "timeout".to_owned() });
    for (policy, expected) in
        [(missed, (Result3::Deferred, (4, 7, 30))), (Err(DnsError::NoRecords), (Result3::Failed, (5, 7, 30)))]
    {
        let mut deliver = start(|slice| slice.tls.mta_sts = true);
        let mut resolver = deliver.resolver();
        let peer = Peer::new();
        let mut secret = attempt(1, &format!("smtp:dst.test:{}", peer.port()), TO, inline(MESSAGE));
        secret.demands.requiretls = true;
        deliver.lease(&secret);
        for _ in 0..3 {
            let question = hear(&mut resolver);
            let result = match &question.query {
                Query::Mx(_) => mx("", &[(1, "mx.test")]).1,
                Query::Addresses(_) => a("", "127.0.0.1").1,
                _ => policy.clone(),
            };
            say(&mut resolver, &Answer { ticket: question.ticket, result, secure: false }, Vec::new());
        }
        let mut talk = peer.accept_greeted();
        assert_eq!(only(&deliver.outcome()), expected);
        drop(deliver);
        assert!(talk.ended());
    }
}

#[test]
fn it_waits_while_another_server_has_no_address_that_can_be_looked_up_now() {
    let away = |name: &str| (Query::Addresses(name.to_owned()), Err(DnsError::Temporary));
    // What the first one lacks, the second one may have.
    let (mut deliver, (first, _second, next_hop)) = (start(|_| {}), two());
    let mut resolver = deliver.resolver();
    deliver.lease(&attempt(1, &next_hop, TO, inline(MESSAGE)));
    let hosts = mx("dst.test", &[(10, "a.test"), (20, "b.test")]);
    answer(&mut resolver, &[hosts.clone(), a("a.test", "127.0.0.2"), away("b.test")], 3);
    let mut talk = first.accept();
    talk.greet(SMALL);
    assert_eq!(only(&deliver.outcome()), (Result3::Deferred, (4, 3, 4)));
    // The second one never takes mail, the first one may.
    let (mut deliver, (_first, second, next_hop)) = (start(|_| {}), two());
    let mut resolver = deliver.resolver();
    deliver.lease(&attempt(1, &next_hop, TO, inline(MESSAGE)));
    answer(&mut resolver, &[hosts, away("a.test"), a("b.test", "127.0.0.3")], 3);
    second.accept().say("521 5.3.2 no mail here\r\n");
    assert_eq!(only(&deliver.outcome()), (Result3::Deferred, (4, 3, 2)));
}

#[test]
fn what_the_first_one_lacks_is_what_the_sender_hears_if_the_next_one_is_ourselves() {
    let (first, second, next_hop) = two();
    let mut deliver = start(|slice| slice.own_addresses = vec![([192, 0, 2, 9], first.port()).into()]);
    let mut resolver = deliver.resolver();
    offer(&mut deliver, &mut resolver, &attempt(1, &next_hop, TO, inline(MESSAGE)));
    let mut talk = first.accept();
    talk.greet(SMALL);
    second.accept().say("220 us.test ESMTP\r\n");
    let outcome = deliver.outcome();
    assert_eq!(only(&outcome), (Result3::Failed, (5, 3, 4)), "{outcome:?}");
    assert_eq!(outcome.reach, Reach::Reached);
}
