//! The desk as its edges see it.

use std::time::Duration;

use vsmtp_config::{AuthBackend, ByText, CertificatePattern, OauthTerms};
use vsmtp_ipc::edge::filter_auth::{Answer as Reply, Ask as About, Verified};
use vsmtp_ipc::edge::receiver_auth::{
    Answer, Ask, Begin, CREDITS, Denied, MAX_NAME, MAX_NAMES, Tls, Vouch, WRONG_MS,
};
use vsmtp_ipc::role::Role;
use vsmtp_ipc::wire::{Blob, Grant};

use super::*;
use crate::backend::table::Table;

mod tokens;

const RECEIVER: Edge = 10;
const FILTER: Edge = 20;
const NAME: ProcessName = ProcessName { role: Role::Receiver, instance: 0 };
const PLAIN: &[u8] = b"\0tim\0pencil";

fn slice(backends: &[AuthBackend]) -> AuthSlice {
    AuthSlice {
        backends: backends.to_vec(),
        oauth: backends.iter().any(|backend| backend.key_file().is_some()).then(|| OauthTerms {
            issuer: "https://id.test/".to_owned(),
            audience: vec!["mail".to_owned()],
            user_claim: "email".to_owned(),
            scope: Some("smtp".to_owned()),
        }),
        mechanisms: Mechanism::ALL.iter().map(|one| one.name().to_owned()).collect(),
        certificates: [(&*format!("sha256:{}", "07".repeat(32)), "tim"), ("email:*@own.test", "*")]
            .map(|(text, login)| (CertificatePattern::parse(text).unwrap().into(), login.to_owned()))
            .to_vec(),
        in_clear: false,
        failures_per_address: Some(2),
        failures_per_account: Some(3),
        failure_window: Duration::from_secs(60),
        proxies: vec![ByText::from(Network::parse("198.51.100.0/24").unwrap())],
        trusted: vec![ByText::from(Network::parse("127.0.0.0/8").unwrap())],
    }
}

/// Numbers that differ are all that is needed here.
fn random(octets: &mut [u8]) -> io::Result<()> {
    vsmtp_sys::random::fill(octets)
}

fn desk(backends: &[AuthBackend]) -> Desk {
    let mut desk = Desk::new(&slice(backends), random);
    desk.meet_receiver(RECEIVER, NAME);
    desk.meet_filter(FILTER);
    desk
}

fn with_file() -> Desk {
    let mut desk = desk(&[AuthBackend::File("/users".to_owned())]);
    let secret = crate::mechanism::ScramSecret::new("pencil", b"salt", 4096);
    assert!(desk.backends_mut().take_file("/users", Table::parse(&format!("tim:{secret}\n"))));
    desk
}

fn begin(exchange: u64, mechanism: &str, initial: Option<&[u8]>) -> Ask {
    Ask::Begin(Begin {
        exchange,
        mechanism: mechanism.to_owned(),
        initial: initial.map(|octets| Blob(octets.to_vec())),
        client: Some([192, 0, 2, 1].into()),
        server: None,
        tls: Some(Tls { exporter: None, certificate: None, names: Vec::new() }),
    })
}

/// What the receiver hears of these acts.
fn heard(acts: &[Act]) -> Option<&Answer> {
    acts.iter().find_map(|act| match act {
        Act::Answer(RECEIVER, answer) => Some(answer),
        _ => None,
    })
}

fn denied(acts: &[Act]) -> Option<Denied> {
    match heard(acts) {
        Some(Answer::Denied { why, .. }) => Some(*why),
        _ => None,
    }
}

/// How long the client waits to hear that, in milliseconds.
fn waits(acts: &[Act]) -> u32 {
    match heard(acts) {
        Some(Answer::Denied { wait_ms, .. }) => *wait_ms,
        other => panic!("{other:?} in {acts:?}"),
    }
}

fn granted(acts: &[Act]) -> Grant {
    match heard(acts) {
        Some(Answer::Granted { grant, identity, .. }) if identity == "tim" => *grant,
        other => panic!("{other:?} in {acts:?}"),
    }
}

fn work(acts: &[Act]) -> u64 {
    acts.iter()
        .find_map(|act| match act {
            Act::Work(number, _) => Some(*number),
            _ => None,
        })
        .unwrap()
}

/// Lets the timers of these acts fire.
fn later(desk: &mut Desk, acts: &[Act]) -> Vec<Act> {
    let timers: Vec<(u64, u64)> = acts
        .iter()
        .filter_map(|act| match act {
            Act::Timer(at, number) => Some((*at, *number)),
            _ => None,
        })
        .collect();
    timers.into_iter().flat_map(|(at, number)| desk.due(at, number)).collect()
}

fn confirm(desk: &mut Desk, grant: Grant) -> Option<vsmtp_ipc::edge::filter_auth::Identity> {
    let acts = desk.ask_about(0, FILTER, About::Confirm { ticket: 1, receiver: NAME, grant }).unwrap();
    match acts.as_slice() {
        [Act::Reply(FILTER, Reply::Confirmed { ticket: 1, identity })] => identity.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_password_that_is_right_makes_a_grant_for_this_receiver_until_its_end() {
    let mut desk = with_file();
    let acts = desk.ask(0, RECEIVER, begin(1, "PLAIN", Some(PLAIN))).unwrap();
    assert!(heard(&acts).is_none());
    let acts = desk.done(1, work(&acts), Outcome::Yes("tim".to_owned()));
    let grant = granted(&acts);
    let identity = confirm(&mut desk, grant).unwrap();
    assert_eq!((identity.name.as_str(), identity.mechanism.as_str()), ("tim", "PLAIN"));
    assert!(identity.vouched && !identity.settled);
    let other = ProcessName { role: Role::Receiver, instance: 1 };
    let acts = desk.ask_about(0, FILTER, About::Confirm { ticket: 1, receiver: other, grant }).unwrap();
    assert!(matches!(&acts[..], [Act::Reply(_, Reply::Confirmed { identity: None, .. })]));
    assert_eq!(confirm(&mut desk, Grant([0; 16])), None);
    // Nobody else ends it.
    desk.meet_receiver(11, other);
    desk.ask(0, 11, Ask::End { grant }).unwrap();
    assert!(confirm(&mut desk, grant).is_some());
    desk.ask(0, RECEIVER, Ask::End { grant }).unwrap();
    assert_eq!(confirm(&mut desk, grant), None);
    assert_eq!((desk.open(), desk.granted()), (0, 0));
}

#[test]
fn a_proxy_that_is_listed_is_believed_and_nobody_else() {
    let mut desk = desk(&[]);
    let vouch = |exchange, proxy: [u8; 4], login: &str| {
        let (proxy, login) = (proxy.into(), login.to_owned());
        Ask::Vouch(Vouch { exchange, proxy, login, client: Some([192, 0, 2, 1].into()) })
    };
    let acts = desk.ask(0, RECEIVER, vouch(1, [198, 51, 100, 7], "tim")).unwrap();
    let identity = confirm(&mut desk, granted(&acts)).unwrap();
    assert_eq!((identity.name.as_str(), identity.mechanism.as_str()), ("tim", "XCLIENT"));
    assert!(identity.vouched && !identity.settled);
    let acts = desk.ask(0, RECEIVER, vouch(1, [192, 0, 2, 1], "tim")).unwrap();
    assert_eq!((denied(&acts), desk.open()), (Some(Denied::Unsupported), 0));
    for nobody in ["", "a\nb", &"x".repeat(256)] {
        assert!(desk.ask(0, RECEIVER, vouch(1, [198, 51, 100, 7], nobody)).is_err(), "{nobody}");
    }
    // Nor is it a mechanism that a client could name.
    let acts = desk.ask(0, RECEIVER, begin(1, "XCLIENT", Some(b"tim"))).unwrap();
    assert_eq!(denied(&acts), Some(Denied::Unsupported));
}

#[test]
fn a_login_that_a_proxy_states_neither_meets_the_brakes_nor_fills_them() {
    let mut desk = desk(&[]);
    for _ in 0..3 {
        desk.brakes.count(0, None, Some("tim"));
    }
    for exchange in 0..5 {
        let vouch = Vouch {
            exchange,
            proxy: [198, 51, 100, 7].into(),
            login: "tim".to_owned(),
            client: Some([192, 0, 2, 1].into()),
        };
        let acts = desk.ask(1, RECEIVER, Ask::Vouch(vouch)).unwrap();
        let grant = granted(&acts);
        desk.ask_about(1, FILTER, About::Settle { grant, accepted: false }).unwrap();
    }
    assert!(!desk.brakes.stops_client(2, Some([192, 0, 2, 1].into())));
    assert!(desk.brakes.stops_account(59_999, "tim") && !desk.brakes.stops_account(60_000, "tim"));
}

#[test]
fn grants_end_with_the_edge_of_their_receiver() {
    let mut desk = with_file();
    let acts = desk.ask(0, RECEIVER, begin(1, "PLAIN", Some(PLAIN))).unwrap();
    let grant = granted(&desk.done(1, work(&acts), Outcome::Yes("tim".to_owned())));
    desk.lose(RECEIVER);
    assert_eq!(confirm(&mut desk, grant), None);
}

#[test]
fn whoever_is_wrong_waits_and_whoever_is_wrong_too_often_is_not_heard() {
    let mut desk = with_file();
    for exchange in 0..2 {
        let acts = desk.ask(0, RECEIVER, begin(exchange, "PLAIN", Some(PLAIN))).unwrap();
        let acts = desk.done(1, work(&acts), Outcome::No(None));
        assert_eq!((denied(&acts), waits(&acts)), (Some(Denied::Credentials), WRONG_MS));
    }
    let acts = desk.ask(2, RECEIVER, begin(3, "PLAIN", Some(PLAIN))).unwrap();
    assert!(!acts.iter().any(|act| matches!(act, Act::Work(..))), "not even looked at");
    assert_eq!((denied(&acts), waits(&acts)), (Some(Denied::Throttled), THROTTLED_MS));
    assert_eq!(desk.open(), 0);
    // Another client may go on, until the account has failed too often.
    let elsewhere = |exchange| match begin(exchange, "PLAIN", Some(PLAIN)) {
        Ask::Begin(begin) => Ask::Begin(Begin { client: Some([192, 0, 2, 2].into()), ..begin }),
        other => other,
    };
    let acts = desk.ask(3, RECEIVER, elsewhere(4)).unwrap();
    desk.done(4, work(&acts), Outcome::No(None));
    let acts = desk.ask(5, RECEIVER, elsewhere(5)).unwrap();
    assert_eq!(denied(&acts), Some(Denied::Throttled));
    // And after a while everybody may.
    let acts = desk.ask(60_001, RECEIVER, begin(6, "PLAIN", Some(PLAIN))).unwrap();
    assert!(acts.iter().any(|act| matches!(act, Act::Work(..))));
}

#[test]
fn those_who_were_wrong_keep_nobody_else_from_asking() {
    let mut desk = with_file();
    // The first ones are wrong, the others are not heard any more.
    for exchange in 0..2 * u64::from(CREDITS) {
        let acts = desk.ask(0, RECEIVER, begin(exchange, "PLAIN", Some(PLAIN))).unwrap();
        if let Some(number) = acts.iter().find_map(|act| match act {
            Act::Work(number, _) => Some(*number),
            _ => None,
        }) {
            desk.done(0, number, Outcome::No(None));
        }
    }
    assert_eq!(desk.open(), 0);
    let Ask::Begin(honest) = begin(1 << 20, "PLAIN", Some(PLAIN)) else { unreachable!() };
    let honest = Begin { client: Some([192, 0, 2, 2].into()), ..honest };
    let acts = desk.ask(0, RECEIVER, Ask::Begin(honest)).unwrap();
    granted(&desk.done(0, work(&acts), Outcome::Yes("tim".to_owned())));
}

#[test]
fn what_nobody_can_tell_in_time_is_temporary() {
    let mut desk = with_file();
    let acts = desk.ask(0, RECEIVER, begin(1, "PLAIN", Some(PLAIN))).unwrap();
    let number = work(&acts);
    assert_eq!(denied(&later(&mut desk, &acts)), Some(Denied::Temporary));
    // Too late.
    assert!(desk.done(WORK_MS + 1, number, Outcome::Yes("tim".to_owned())).is_empty());
    assert_eq!((desk.open(), desk.granted()), (0, 0));
}

#[test]
fn a_finding_about_an_exchange_that_was_given_up_counts_for_no_other() {
    let mut desk = with_file();
    let old = work(&desk.ask(0, RECEIVER, begin(1, "PLAIN", Some(PLAIN))).unwrap());
    desk.ask(0, RECEIVER, Ask::Cancel { exchange: 1 }).unwrap();
    assert_eq!(desk.open(), 0);
    let new = work(&desk.ask(0, RECEIVER, begin(1, "PLAIN", Some(b"\0root\0x"))).unwrap());
    assert!(desk.done(1, old, Outcome::Yes("tim".to_owned())).is_empty());
    let acts = desk.done(1, new, Outcome::No(None));
    assert_eq!(denied(&acts), Some(Denied::Credentials));
}

#[test]
fn secrets_are_not_asked_for_in_clear() {
    let mut desk = with_file();
    let in_clear = |mechanism| match begin(1, mechanism, None) {
        Ask::Begin(begin) => Ask::Begin(Begin { tls: None, ..begin }),
        other => other,
    };
    for mechanism in ["PLAIN", "LOGIN"] {
        let acts = desk.ask(0, RECEIVER, in_clear(mechanism)).unwrap();
        assert_eq!(denied(&acts), Some(Denied::NeedsTls));
    }
    let acts = desk.ask(0, RECEIVER, in_clear("SCRAM-SHA-256")).unwrap();
    assert!(matches!(heard(&acts), Some(Answer::Challenge { .. })));
}

#[test]
fn what_is_not_offered_is_not_done() {
    let mut desk = with_file();
    assert_eq!(
        desk.offer(),
        Answer::Offer(
            ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "EXTERNAL"].map(str::to_owned).to_vec()
        )
    );
    for mechanism in ["XOAUTH2", "CRAM-MD5", "", "ANONYMOUS"] {
        let acts = desk.ask(0, RECEIVER, begin(1, mechanism, None)).unwrap();
        assert_eq!(denied(&acts), Some(Denied::Unsupported), "{mechanism}");
    }
    assert_eq!(desk.open(), 0);
}

#[test]
fn without_a_back_end_the_rules_judge_and_may_ask_about_the_password() {
    let mut desk = desk(&[]);
    let acts = desk.ask(0, RECEIVER, begin(1, "PLAIN", Some(PLAIN))).unwrap();
    let grant = granted(&acts);
    let identity = confirm(&mut desk, grant).unwrap();
    assert!(!identity.vouched && !identity.settled);
    let acts = desk.ask_about(0, FILTER, About::Verify { ticket: 7, grant }).unwrap();
    assert!(matches!(&acts[0], Act::Work(_, Work::Verify(c)) if c.user == "tim"));
    let acts = desk.done(1, work(&acts), Outcome::Yes("tim".to_owned()));
    let right = |acts: &[Act]| {
        matches!(acts, [Act::Reply(FILTER, Reply::Verified { ticket: 7, verified: Verified::Right })])
    };
    assert!(right(&acts));
    desk.ask_about(2, FILTER, About::Settle { grant, accepted: true }).unwrap();
    assert!(confirm(&mut desk, grant).unwrap().settled);
    // The password is gone with that.
    let acts = desk.ask_about(0, FILTER, About::Verify { ticket: 7, grant }).unwrap();
    assert!(matches!(&acts[..], [Act::Reply(_, Reply::Verified { verified: Verified::Unavailable, .. })]));
}

#[test]
fn a_password_does_not_wait_for_ever() {
    let mut desk = desk(&[]);
    let acts = desk.ask(0, RECEIVER, begin(1, "PLAIN", Some(PLAIN))).unwrap();
    let grant = granted(&acts);
    later(&mut desk, &acts);
    let acts = desk.ask_about(0, FILTER, About::Verify { ticket: 7, grant }).unwrap();
    assert!(matches!(&acts[..], [Act::Reply(_, Reply::Verified { verified: Verified::Unavailable, .. })]));
}

#[test]
fn what_the_rules_refuse_is_void_and_counts() {
    let mut desk = desk(&[]);
    for exchange in 0..2 {
        let acts = desk.ask(0, RECEIVER, begin(exchange, "PLAIN", Some(PLAIN))).unwrap();
        let grant = granted(&acts);
        desk.ask_about(0, FILTER, About::Settle { grant, accepted: false }).unwrap();
        assert_eq!(confirm(&mut desk, grant), None);
    }
    let acts = desk.ask(1, RECEIVER, begin(3, "PLAIN", Some(PLAIN))).unwrap();
    assert_eq!(denied(&acts), Some(Denied::Throttled));
}

#[test]
fn scram_is_led_here_and_its_user_is_known_by_its_proof() {
    use crate::mechanism::ScramSecret;
    let mut desk = with_file();
    let acts = desk.ask(0, RECEIVER, begin(1, "SCRAM-SHA-256", Some(b"n,,n=tim,r=abc"))).unwrap();
    let Some(Answer::Challenge { challenge, .. }) = heard(&acts) else { panic!("{acts:?}") };
    let first = String::from_utf8(challenge.0.clone()).unwrap();
    assert!(first.starts_with("r=abc"), "{first}");
    let wrong =
        format!("c=biws,{},p={}", first.split(',').next().unwrap(), data_encoding::BASE64.encode(&[0; 32]));
    let response = Blob(wrong.into_bytes());
    let acts = desk.ask(0, RECEIVER, Ask::Continue { exchange: 1, response }).unwrap();
    assert_eq!(denied(&acts), Some(Denied::Credentials));
    assert!(ScramSecret::parse("x").is_none());
}

#[test]
fn exchanges_that_dovecot_leads_are_bounded_over_all_receivers() {
    use crate::backend::dovecot::MAX_RELAYED;
    let mut desk = desk(&[AuthBackend::Dovecot("/dovecot".to_owned())]);
    assert!(desk.set_relayed(vec![Mechanism::XOauth2]));
    let per_edge = CREDITS as usize;
    let mut under_way = Vec::new();
    for number in 0..MAX_RELAYED {
        let edge = 100 + number / per_edge;
        if number % per_edge == 0 {
            desk.meet_receiver(edge, NAME);
        }
        let acts = desk.ask(0, edge, begin(number as u64, "XOAUTH2", Some(b"x"))).unwrap();
        assert!(matches!(&acts[..], [Act::Work(_, Work::Relay(..)), _]), "{number}: {acts:?}");
        under_way.push(acts);
    }
    let acts = desk.ask(0, RECEIVER, begin(1, "XOAUTH2", Some(b"x"))).unwrap();
    assert_eq!(denied(&acts), Some(Denied::Temporary));
    // A connection that is closed makes room.
    under_way.pop();
    let acts = desk.ask(0, RECEIVER, begin(1, "XOAUTH2", Some(b"x"))).unwrap();
    assert!(matches!(&acts[..], [Act::Work(_, Work::Relay(..)), _]), "{acts:?}");
}

#[test]
fn a_certificate_that_is_somebodys_is_a_login_as_that_user_and_no_other() {
    let with = |exchange, certificate: Option<[u8; 32]>, initial: &[u8]| {
        let Ask::Begin(mut begin) = begin(exchange, "EXTERNAL", Some(initial)) else { unreachable!() };
        begin.tls = Some(Tls { exporter: None, certificate, names: vec!["email:joe@own.test".to_owned()] });
        Ask::Begin(begin)
    };
    let mut desk = desk(&[]);
    // A name in it, where its fingerprint has no row.
    for (exchange, initial) in [(10, &b""[..]), (11, b"joe@own.test")] {
        let acts = desk.ask(0, RECEIVER, with(exchange, Some([8; 32]), initial)).unwrap();
        let [Act::Answer(_, Answer::Granted { grant, .. })] = &acts[..] else { panic!("{acts:?}") };
        assert_eq!(confirm(&mut desk, *grant).unwrap().name, "joe@own.test");
    }
    // It is remembered until the client answers.
    let Ask::Begin(mut asks_first) = with(12, Some([8; 32]), b"") else { unreachable!() };
    asks_first.initial = None;
    let acts = desk.ask(0, RECEIVER, Ask::Begin(asks_first)).unwrap();
    assert!(matches!(heard(&acts), Some(Answer::Challenge { .. })), "{acts:?}");
    let acts = desk.ask(0, RECEIVER, Ask::Continue { exchange: 12, response: Blob(Vec::new()) }).unwrap();
    assert!(matches!(heard(&acts), Some(Answer::Granted { identity, .. }) if identity == "joe@own.test"));
    for (exchange, initial) in [(1, &b""[..]), (2, b"tim")] {
        let acts = desk.ask(0, RECEIVER, with(exchange, Some([7; 32]), initial)).unwrap();
        let identity = confirm(&mut desk, granted(&acts)).unwrap();
        assert_eq!((identity.mechanism.as_str(), identity.vouched), ("EXTERNAL", true));
    }
    for (exchange, certificate, initial) in [(3, Some([7; 32]), &b"joe"[..]), (4, Some([8; 32]), b"tim")] {
        let acts = desk.ask(0, RECEIVER, with(exchange, certificate, initial)).unwrap();
        assert_eq!(denied(&acts), Some(Denied::Credentials));
    }
    let mut desk = with_file();
    let acts = desk.ask(0, RECEIVER, with(5, None, b"")).unwrap();
    assert_eq!(denied(&acts), Some(Denied::Credentials));
}

#[test]
fn what_nobody_may_say_costs_the_edge() {
    let response = || Blob(b"x".to_vec());
    let mut desk = with_file();
    desk.ask(0, RECEIVER, begin(1, "LOGIN", None)).unwrap();
    let with_names = |mechanism, number, len| {
        let Ask::Begin(mut begin) = begin(3, mechanism, None) else { unreachable!() };
        let names = vec!["x".repeat(len); number];
        begin.tls = Some(Tls { exporter: None, certificate: None, names });
        Ask::Begin(begin)
    };
    for bad in [
        begin(1, "PLAIN", None),
        Ask::Continue { exchange: 2, response: response() },
        begin(3, "PLAIN", Some(&[b'x'; 12_289])),
        with_names("EXTERNAL", MAX_NAMES + 1, 0),
        with_names("EXTERNAL", 1, MAX_NAME + 1),
        with_names("LOGIN", 1, MAX_NAME + 1),
    ] {
        assert!(desk.ask(0, RECEIVER, bad).is_err());
    }
    desk.ask(0, RECEIVER, with_names("LOGIN", MAX_NAMES, MAX_NAME)).unwrap();
    desk.ask(0, RECEIVER, begin(4, "PLAIN", Some(PLAIN))).unwrap();
    assert!(desk.ask(0, RECEIVER, Ask::Continue { exchange: 4, response: response() }).is_err());
    for n in 0..u64::from(CREDITS) - 1 {
        desk.ask(0, RECEIVER, begin(100 + n, "PLAIN", Some(PLAIN))).unwrap();
    }
    assert!(desk.ask(0, RECEIVER, begin(1000, "PLAIN", Some(PLAIN))).is_err());
    assert!(desk.ask(0, 99, begin(1, "PLAIN", None)).is_err());
    assert!(desk.ask_about(0, 99, About::Settle { grant: Grant([0; 16]), accepted: true }).is_err());
}
