//! Tokens, whoever judges them.

use std::os::unix::net::UnixStream;

use super::*;
use crate::backend::dovecot;
use crate::token::KeySet;

const TOKEN: &[u8] = b"user=tim\x01auth=Bearer a.b.c\x01\x01";

/// A desk whose clients may fail as often as they like, with accounts that may fail three times.
fn with_keys_and_no_brake_on_addresses() -> Desk {
    let slice = AuthSlice { failures_per_address: None, ..slice(&[AuthBackend::Oauth("/keys".to_owned())]) };
    let mut desk = Desk::new(&slice, random);
    desk.meet_receiver(RECEIVER, NAME);
    desk.meet_filter(FILTER);
    desk
}

#[test]
fn whoever_brings_a_token_that_counts_for_nothing_is_told_so_and_has_failed_whatever_he_answers() {
    let mut desk = desk(&[AuthBackend::Oauth("/keys".to_owned())]);
    assert_eq!(desk.offered(), [Mechanism::XOauth2, Mechanism::OauthBearer, Mechanism::External]);
    let token = b"n,a=tim,\x01auth=Bearer a.b.c\x01\x01";
    for answered in [true, false] {
        let acts = desk.ask(0, RECEIVER, begin(1, "OAUTHBEARER", Some(token))).unwrap();
        let acts = desk.done(1, work(&acts), Outcome::No(None));
        let Some(Answer::Refused { challenge, .. }) = heard(&acts) else { panic!("{acts:?}") };
        assert_eq!(challenge.0, br#"{"scope":"smtp","status":"invalid_token"}"#);
        if answered {
            let response = Blob(b"\x01".to_vec());
            let acts = desk.ask(2, RECEIVER, Ask::Continue { exchange: 1, response }).unwrap();
            assert_eq!(denied(&acts), Some(Denied::Credentials));
        } else {
            assert!(desk.ask(2, RECEIVER, Ask::Cancel { exchange: 1 }).unwrap().is_empty());
        }
    }
    assert_eq!((desk.open(), desk.tally().denied), (0, 2));
    // Two failures are the limit: who gives up has failed as well.
    let acts = desk.ask(3, RECEIVER, begin(1, "OAUTHBEARER", Some(token))).unwrap();
    assert_eq!(denied(&acts), Some(Denied::Throttled));
}

#[test]
fn tokens_and_certificates_shut_nobody_out_who_is_named_with_them() {
    let mut desk = with_keys_and_no_brake_on_addresses();
    for exchange in 0..10 {
        let acts = desk.ask(0, RECEIVER, begin(exchange, "XOAUTH2", Some(TOKEN))).unwrap();
        desk.done(1, work(&acts), Outcome::No(None));
        desk.ask(0, RECEIVER, begin(100 + exchange, "EXTERNAL", Some(b"tim"))).unwrap();
    }
    assert!(!desk.brakes.stops_account(2, "tim"));
    // Nor does whoever guesses her password, from the one whose token is good.
    for _ in 0..3 {
        desk.brakes.count(2, None, Some("tim"));
    }
    let acts = desk.ask(3, RECEIVER, begin(200, "XOAUTH2", Some(TOKEN))).unwrap();
    granted(&desk.done(3, work(&acts), Outcome::Yes("tim".to_owned())));
}

#[test]
fn a_token_that_comes_too_late_or_too_early_is_refused_and_counts_nowhere() {
    let mut desk = desk(&[AuthBackend::Oauth("/keys".to_owned())]);
    for exchange in 0..10 {
        let acts = desk.ask(0, RECEIVER, begin(exchange, "XOAUTH2", Some(TOKEN))).unwrap();
        let acts = desk.done(1, work(&acts), Outcome::NoGuess);
        assert!(matches!(heard(&acts), Some(Answer::Refused { .. })), "{acts:?}");
    }
    let acts = desk.ask(2, RECEIVER, begin(10, "XOAUTH2", Some(TOKEN))).unwrap();
    granted(&desk.done(3, work(&acts), Outcome::Yes("tim".to_owned())));
}

#[test]
fn a_token_that_counts_is_a_grant_and_one_that_nobody_can_judge_is_for_later() {
    let mut desk = desk(&[AuthBackend::Oauth("/keys".to_owned())]);
    let token = b"user=tim\x01auth=Bearer a.b.c\x01\x01";
    let acts = desk.ask(0, RECEIVER, begin(1, "XOAUTH2", None)).unwrap();
    assert!(matches!(heard(&acts), Some(Answer::Challenge { challenge, .. }) if challenge.0.is_empty()));
    let response = Blob(token.to_vec());
    let acts = desk.ask(0, RECEIVER, Ask::Continue { exchange: 1, response }).unwrap();
    let acts = desk.done(1, work(&acts), Outcome::Yes("tim".to_owned()));
    assert_eq!(confirm(&mut desk, granted(&acts)).unwrap().mechanism, "XOAUTH2");
    let acts = desk.ask(2, RECEIVER, begin(2, "XOAUTH2", Some(token))).unwrap();
    let found = desk
        .backends()
        .judge(&crate::secret::Bearer { user: None, token: crate::secret::Token::new("a.b.c").unwrap() }, 0);
    assert_eq!(found, Finding::Unknown, "the file has not come");
    let acts = desk.done(3, work(&acts), found.into());
    assert_eq!(denied(&acts), Some(Denied::Temporary));
}

#[test]
fn a_file_without_any_key_that_can_be_used_replaces_no_good_ones() {
    let mut desk = desk(&[AuthBackend::Oauth("/keys".to_owned())]);
    let judged = |desk: &Desk| {
        let token = crate::secret::Token::new("eyJhbGciOiJFZERTQSJ9.e30.e30").unwrap();
        desk.backends().judge(&crate::secret::Bearer { user: None, token }, 0)
    };
    let parse = |text: &str| KeySet::parse(text).unwrap();
    let none = r#"{"keys":[{"kty":"oct","k":"AA"}]}"#;
    assert!(!desk.backends_mut().take_keys(parse(none)));
    assert_eq!(judged(&desk), Finding::Unknown, "nobody can tell");
    let x = "A".repeat(43);
    let one = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#);
    assert!(desk.backends_mut().take_keys(parse(&one)));
    assert_eq!(judged(&desk), Finding::No);
    assert!(!desk.backends_mut().take_keys(parse(none)));
    assert_eq!(judged(&desk), Finding::No, "the key is still there");
}

#[test]
fn whoever_gives_up_after_dovecot_has_refused_a_token_has_failed() {
    let mut desk = desk(&[AuthBackend::Dovecot("/dovecot".to_owned())]);
    assert!(desk.set_relayed(vec![Mechanism::XOauth2]));
    let mut said = |initial: Option<&[u8]>, message: &[u8]| {
        let acts = desk.ask(0, RECEIVER, begin(1, "XOAUTH2", initial)).unwrap();
        let Some(Act::Work(number, Work::Relay(..))) = acts.into_iter().next() else { return None };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let relay = dovecot::Exchange::over(ours);
        let acts = desk.done(1, number, Outcome::Challenge(relay, message.to_vec()));
        assert!(matches!(heard(&acts), Some(Answer::Challenge { .. })), "{acts:?}");
        assert!(desk.ask(2, RECEIVER, Ask::Cancel { exchange: 1 }).unwrap().is_empty());
        drop(theirs);
        Some(desk.tally().denied)
    };
    // Who leaves before it has shown anything has not failed.
    for _ in 0..5 {
        assert_eq!(said(None, b""), Some(0));
    }
    let refusal = br#"{"status":"invalid_token"}"#;
    assert_eq!(said(Some(TOKEN), refusal), Some(1));
    assert_eq!(said(Some(TOKEN), refusal), Some(2));
    assert_eq!(said(Some(TOKEN), refusal), None, "two failures are the limit");
    assert_eq!((desk.open(), desk.tally().denied), (0, 3));
}
