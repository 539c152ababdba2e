//! What the auth helper hears: SASL messages of clients, and the answers of Dovecot and saslauthd. Nothing panics, nobody is
//! granted anything by bytes alone, and what goes on goes on with bounded words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vsmtp_auth::backend::dovecot::{Greeting, Reply};
use vsmtp_auth::backend::table::Table;
use vsmtp_auth::backend::{Finding, saslauthd};
use vsmtp_auth::mechanism::{self, Mechanism, ScramSecret, Step, Surroundings, decoy};
use vsmtp_auth::secret::{Credentials, MAX_USER, Password, Token};
use vsmtp_auth::token::{self, Algorithm, KeySet};
use vsmtp_config::OauthTerms;

/// Longest exchange of any mechanism, in messages.
const MAX_STEPS: usize = 4;

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 12 {
        kind @ 0..7 => exchange(Mechanism::ALL[usize::from(kind)], rest),
        7 => dovecot(rest),
        8 => {
            let mut from = rest;
            if let Ok(Finding::Yes(user)) = saslauthd::read_answer(&mut from, "tim") {
                assert!(user == "tim" && rest.get(2..4) == Some(b"OK"));
            }
        }
        9 => file(rest),
        10 => token(rest),
        _ => keys(rest),
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
            (Step::Bearer(bearer), _) => {
                assert!(bearer.user.is_none_or(|user| !user.is_empty() && user.len() <= MAX_USER));
                assert!(!bearer.token.expose().is_empty());
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

/// Keys of which nobody has the other half.
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

fn token(input: &[u8]) {
    let Some(text) = std::str::from_utf8(input).ok().and_then(Token::new) else { return };
    let set = KeySet::parse(KEYS).expect("a set of keys");
    let terms = OauthTerms {
        issuer: "https://id.test/".to_owned(),
        audience: vec!["mail".to_owned()],
        user_claim: "email".to_owned(),
        scope: None,
    };
    assert!(token::judge(text.expose(), None, &set, &terms, 1_700_000_000).is_err(), "nobody has signed it");
}

fn keys(input: &[u8]) {
    let Some(set) = std::str::from_utf8(input).ok().and_then(KeySet::parse) else { return };
    for algorithm in ["RS256", "PS256", "ES256", "ES384", "EdDSA"].map(|name| Algorithm::parse(name).expect("known")) {
        for key in set.candidates(None, algorithm) {
            assert!(!key.verifies(algorithm, b"text", &[1; 64]));
        }
    }
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
