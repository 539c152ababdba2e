//! What rules count, with a limiter that keeps no time.

use std::collections::HashMap;
use std::sync::Mutex;

use vsmtp_ipc::edge::filter_limits::{Taken, Taking};

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
