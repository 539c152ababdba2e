//! What rules count, with a limiter that keeps no time.

use std::collections::HashMap;
use std::sync::Mutex;

use vsmtp_ipc::edge::filter_limits::{Taken, Taking, Terms, Triple};

use super::*;
use crate::limiter::Limiter;

/// Counts for ever. Rates named `away` have no answer.
#[derive(Debug, Default)]
pub struct Counter(Mutex<HashMap<(String, String), u32>>);

impl Limiter for Counter {
    fn take(&self, taking: Taking) -> Option<Taken> {
        taking.check().unwrap();
        if taking.name == "away" {
            return None;
        }
        let mut counts = self.0.lock().unwrap();
        let counted = counts.entry((taking.name, taking.key)).or_default();
        let granted = *counted + taking.count <= taking.limit;
        *counted += if granted { taking.count } else { 0 };
        Some(Taken { granted, left: taking.limit - *counted })
    }

    /// All wait for as long as the terms say, but who writes as `known`; the domain `away.test` has no answer.
    fn greylist(&self, triple: Triple, terms: Terms) -> Option<u32> {
        triple.check().and_then(|()| terms.check()).unwrap();
        match triple.sender.split_once('@') {
            Some((_, "away.test")) => None,
            Some(("known", _)) => Some(0),
            _ => Some(terms.delay_s),
        }
    }
}

#[test]
fn a_rate_grants_what_its_limit_allows() {
    let engine = engine();
    for expression in [
        "ratelimit::take(\"a\", \"k\", 2, 60) && ratelimit::take(\"a\", \"k\", 2, 60) && !ratelimit::take(\"a\", \"k\", 2, 60)",
        "ratelimit::take(\"a\", \"other\", 2, 60) && ratelimit::take(\"b\", \"k\", 2, 60)",
        // Whatever a key is made of.
        "ratelimit::take(\"c\", ctx::client_ip(), 1, 60) && !ratelimit::take(\"c\", \"192.168.1.7\", 1, 60)",
        "ratelimit::take(\"c\", address(\"a@b.c\"), 1, 60) && !ratelimit::take(\"c\", \"a@b.c\", 1, 60)",
        "ratelimit::take(\"c\", 7, 1, 60) && !ratelimit::take(\"c\", \"7\", 1, 60)",
        // Several: all or none.
        "ratelimit::take(\"d\", \"k\", 5, 60, 4) && !ratelimit::take(\"d\", \"k\", 5, 60, 2) && ratelimit::left(\"d\", \"k\", 5, 60) == 1",
        "ratelimit::left(\"d\", \"new\", 5, 60) == 5",
        "ratelimit::check(\"e\", \"k\", 1, 60) is state::next()",
        "ratelimit::check(\"e\", \"k\", 1, 60) is state::reject(\"450 4.7.1 Too many of these, try again later\")",
        // Nobody answers.
        "ratelimit::take(\"away\", \"k\", 1, 60) && ratelimit::left(\"away\", \"k\", 3, 60) == 3",
        "ratelimit::check(\"away\", \"k\", 1, 60) is state::next()",
    ] {
        holds(&engine, Stage::Connect, expression);
    }
}

#[test]
fn what_cannot_be_counted_is_refused_with_the_reason() {
    let engine = engine();
    let long = "x".repeat(600);
    for (body, words) in [
        ("ratelimit::take(\"\", \"k\", 1, 60)", "1 to 64 octets"),
        (&*format!("ratelimit::take(\"{}\", \"k\", 1, 60)", &long[..65]), "1 to 64 octets"),
        (&*format!("ratelimit::check(\"n\", \"{long}\", 1, 60)"), "at most 512 octets"),
        ("ratelimit::take(\"n\", \"k\", 0, 60)", "the limit must be from 1 to 1000000000, not 0"),
        ("ratelimit::left(\"n\", \"k\", 1, 604801)", "the period must be from 1 to 604800"),
        ("ratelimit::take(\"n\", \"k\", 1, 60, -1)", "the count must be from 0"),
        ("ratelimit::take(\"n\", [1], 1, 60)", "cannot be the key of a rate"),
        ("ratelimit::take(\"n\", (), 1, 60)", "cannot be the key of a rate"),
    ] {
        fails(&engine, Stage::Connect, body, words);
    }
}

fn from(sender: &str) -> Transaction {
    let mut t = at(Stage::Rcpt);
    t.set_sender(ReversePath::parse(sender).unwrap());
    t
}

#[test]
fn whoever_writes_for_the_first_time_comes_again() {
    let engine = engine();
    let waits = |seconds: u32| {
        let text = format!("451 4.7.1 Greylisted, try again in {seconds} seconds");
        Ok(Status::Reject(vsmtp_mail::Reply::parse(&text).unwrap()))
    };
    let (new, known) = ("new@src.test", "known@src.test");
    for (sender, call, expected, noted) in [
        (new, "greylist::check()", waits(300), 0),
        (known, "greylist::check()", Ok(Status::Next), 1),
        (known, "greylist::check(); greylist::wait(); greylist::check()", Ok(Status::Next), 1),
        (new, "greylist::check(#{ delay: 60, window: 90 })", waits(60), 0),
        (new, "greylist::check(#{ except: rg4(\"192.168.0.0/16\") })", Ok(Status::Next), 0),
        (new, "greylist::check(#{ except: [\"10.0.0.1\", ip4(\"192.168.1.7\")] })", Ok(Status::Next), 0),
        (new, "greylist::check(#{ except: [] })", waits(300), 0),
        ("", "greylist::check()", Ok(Status::Next), 0),
        // Nobody answers: nobody waits.
        ("a@away.test", "greylist::check()", Ok(Status::Next), 1),
    ] {
        let (result, mut after) = run(&engine, from(sender), call);
        assert_eq!((result, after.take_waited().len()), (expected, noted), "{sender}: {call}");
    }
    let mut friend = from(new);
    friend.identify(Some(jane()));
    assert_eq!(run(&engine, friend, "greylist::check()").0, Ok(Status::Next));
    let mut local = from(new);
    local.peer = Arc::new(Peer { client: None, ..Peer::clone(&local.peer) });
    assert_eq!(run(&engine, local, "greylist::check()").0, Ok(Status::Next));
    // What is noted is gone with its message.
    let (_, mut after) = run(&engine, from(known), "greylist::check()");
    after.reset();
    assert!(after.take_waited().is_empty());
}

#[test]
fn senders_that_differ_in_numbers_only_are_one() {
    let engine = engine();
    let noted = |sender: &str, options: &str| {
        let (_, mut after) = run(&engine, from(sender), &format!("greylist::check({options})"));
        after.take_waited().pop().unwrap().0
    };
    let triple = noted("Known+x7-2@SRC.test", "");
    assert_eq!(triple.sender, "known@src.test");
    assert_eq!((&*triple.recipient, triple.client), ("joe@example.net", "192.168.1.0".parse().unwrap()));
    assert_eq!(noted("bounce-123-45a@away.test", "").sender, "bounce-#-#a@away.test");
    assert_eq!(noted("+1@away.test", "").sender, "+#@away.test");
    assert_eq!(
        noted("known@a.test", "#{ prefix_v4: 32 }").client,
        "192.168.1.7".parse::<std::net::IpAddr>().unwrap()
    );
    assert_eq!(
        noted("known@a.test", "#{ prefix_v4: 8 }").client,
        "192.0.0.0".parse::<std::net::IpAddr>().unwrap()
    );
}

#[test]
fn addresses_that_grow_are_still_what_the_limiter_takes() {
    let engine = engine();
    let label = "d".repeat(63);
    // 189 octets: with 64 before the `@` as long as an address may be.
    let domain = format!("{label}.{label}.{}", &label[2..]);
    let mut grown = Vec::new();
    for local in
        ["\u{130}".repeat(32), format!("\"{}\"", "\\\"".repeat(64)), format!("\"{}\"", "\\\\".repeat(64))]
    {
        let address = address(&format!("{local}@{domain}"));
        assert_eq!(address.local_part().len() + 1 + address.domain().as_str().len(), 254);
        let mut t = from("new@src.test");
        t.current = Some(Object::Address(Arc::new(address.clone())));
        t.set_sender(ReversePath::Address(address));
        // Nobody waits for one whose triple the limiter would not take; the counter panics at it.
        let (result, _) = run(&engine, t.clone(), "greylist::check()");
        assert!(matches!(result, Ok(Status::Reject(_))), "{result:?}");
        t.set_sender(ReversePath::parse("known@src.test").unwrap());
        grown.push(run(&engine, t, "greylist::check()").1.take_waited().pop().unwrap().0.recipient.len());
    }
    assert_eq!(grown, [286, 320, 320]);
}

#[test]
fn greylisting_is_for_recipients_and_its_options_have_ranges() {
    let engine = engine();
    for (stage, body, words) in [
        (Stage::Mail, "greylist::check()", "from the stage 'rcpt' on"),
        (Stage::Preq, "greylist::check()", "for the stage 'rcpt', not for 'preq'"),
        (Stage::Rcpt, "greylist::check(#{ patience: 1 })", "no option 'patience'"),
        (Stage::Rcpt, "greylist::check(#{ delay: 0 })", "'delay' must be a whole number from 1 to 86400"),
        (Stage::Rcpt, "greylist::check(#{ delay: \"5m\" })", "not 5m"),
        (Stage::Rcpt, "greylist::check(#{ prefix_v4: 33 })", "from 1 to 32"),
        (Stage::Rcpt, "greylist::wait(#{ delay: 600, window: 600 })", "nobody can come again"),
        (Stage::Rcpt, "greylist::check(#{ except: 7 })", "cannot be a member of a group"),
    ] {
        fails(&engine, stage, body, words);
    }
}
