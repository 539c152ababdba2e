//! What the auth helper hears: SASL messages of clients, and the answers of Dovecot and saslauthd. Nothing panics, nobody is
//! granted anything by bytes alone, and what goes on goes on with bounded words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_auth::backend::dovecot::{Greeting, Reply};
use vsmtp_auth::backend::table::Table;
use vsmtp_auth::backend::{Finding, saslauthd};
use vsmtp_auth::mechanism::{self, Mechanism, ScramSecret, Step, Surroundings, decoy};
use vsmtp_auth::secret::{Credentials, MAX_USER, Password};

/// Longest exchange of any mechanism, in messages.
const MAX_STEPS: usize = 4;

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 10 {
        kind @ 0..7 => exchange(Mechanism::ALL[usize::from(kind)], rest),
        7 => dovecot(rest),
        8 => {
            let mut from = rest;
            if let Ok(Finding::Yes(user)) = saslauthd::read_answer(&mut from, "tim") {
                assert!(user == "tim" && rest.get(2..4) == Some(b"OK"));
            }
        }
        _ => file(rest),
    }
});

/// Messages are divided by line feeds; the first is the initial response.
fn exchange(mechanism: Mechanism, input: &[u8]) {
    let find = |name: &str| decoy(b"seed", name, 4096);
    let around = Surroundings {
        secret: &find,
        nonce: "ours",
        exporter: Some(b"exporter"),
        plus_offered: true,
        certificate: Some("tim"),
    };
    let mut messages = input.split(|octet| *octet == b'\n');
    let Some(mut step) = mechanism::begin(mechanism, messages.next(), &around) else { return };
    for _ in 0..MAX_STEPS {
        step = match (step, messages.next()) {
            (Step::Challenge(talk, _), Some(message)) => talk.step(message, &around),
            (Step::Challenge(..), None) => return,
            (Step::Check(Credentials { user, password }), _) => {
                assert!(!user.is_empty() && user.len() <= MAX_USER && !user.contains(char::is_control));
                assert!(!password.expose().is_empty());
                return;
            }
            // Nobody knows the secrets that there are here, and the certificate names one.
            (Step::Granted(user), _) => return assert!(mechanism == Mechanism::External && user == "tim"),
            (Step::Wrong(_) | Step::Malformed, _) => return,
        };
    }
    panic!("an exchange does not end");
}

fn dovecot(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut greeting = Greeting::default();
    for line in text.lines() {
        let _ = greeting.take(line);
        if let Ok(Reply::Ok(user)) = Reply::parse(line, 1) {
            assert!(!user.is_empty() && user.len() <= MAX_USER && !user.contains(char::is_control));
            assert!(line.starts_with("OK\t"));
        }
    }
    assert!(greeting.mechanisms.len() <= Mechanism::ALL.len());
}

fn file(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let table = Table::parse(text);
    assert!(table.len() + table.locked() + table.unusable() <= text.lines().count());
    assert!(Password::new(b"").is_none());
    if let Some(secret) = ScramSecret::parse(text) {
        assert_eq!(ScramSecret::parse(&secret.to_string()), Some(secret));
    }
}
