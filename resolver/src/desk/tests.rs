//! The desk, with the clock and the look-ups in our hands.

use vsmtp_ipc::edge::client_resolver::{ClientName, SpfQuestion, SpfResult};

use super::*;
use crate::finding::MAX_KEEP;

const ONE: ClientId = 8;
const TWO: ClientId = 9;

fn asker(client: ClientId, ticket: u64) -> Asker {
    Asker { client, ticket }
}

fn desk() -> Desk {
    Desk::new(Local::default(), 100)
}

fn key(text: &str, kind: Kind) -> Key {
    Key { name: name::parse(text).unwrap(), kind }
}

fn mx(text: &str) -> Query {
    Query::Mx(text.to_owned())
}

fn addresses(text: &str) -> Query {
    Query::Addresses(text.to_owned())
}

fn found(address: &str) -> Finding {
    let result = Ok(Records::Addresses(vec![address.parse().unwrap()]));
    Finding { result, secure: true, keep: MAX_KEEP }
}

#[test]
fn equal_questions_share_a_look_up_and_are_answered_together() {
    let mut desk = desk();
    let first = desk.ask(0, asker(ONE, 1), &mx("a.example"), 1000);
    assert_eq!(first, [Act::LookUp(key("a.example", Kind::Mx)), Act::Timer(1000, 1)]);
    assert_eq!(desk.ask(5, asker(TWO, 1), &mx("A.Example."), 2000), [Act::Timer(2000, 2)]);
    let finding = Finding::failed(DnsError::NoRecords);
    let answers = desk.found(10, &key("a.example", Kind::Mx), finding);
    let no = |client| Act::Answer(asker(client, 1), Err(DnsError::NoRecords), false);
    assert_eq!(answers, [no(ONE), no(TWO)]);
    assert_eq!((desk.open(), desk.running()), (0, 0));
    assert_eq!(
        desk.ask(11, asker(ONE, 2), &mx("a.example"), 1000),
        [Act::Answer(asker(ONE, 2), Err(DnsError::NoRecords), false)]
    );
    assert_eq!(desk.due(1000, 1), None, "its timer comes too late");
}

#[test]
fn a_question_is_answered_at_its_deadline_and_not_again() {
    let mut desk = desk();
    desk.ask(0, asker(ONE, 1), &mx("a.example"), 1000);
    assert_eq!(desk.due(999, 1), None);
    assert_eq!(desk.due(1000, 1), Some(Act::Answer(asker(ONE, 1), Err(DnsError::Temporary), false)));
    assert_eq!(desk.due(1001, 1), None);
    // The look-up goes on, and a new question joins it.
    assert_eq!(desk.ask(1002, asker(ONE, 2), &mx("a.example"), 3000), [Act::Timer(3000, 2)]);
    assert_eq!(desk.found(1003, &key("a.example", Kind::Mx), Finding::failed(DnsError::NoSuchName)).len(), 1);
    assert_eq!(desk.found(1004, &key("a.example", Kind::Mx), Finding::failed(DnsError::NoSuchName)), []);
}

#[test]
fn one_family_waits_for_the_other_only_a_little() {
    let mut desk = desk();
    let acts = desk.ask(0, asker(ONE, 1), &addresses("h.example"), 60_000);
    let look_ups = [Kind::A, Kind::Aaaa].map(|kind| Act::LookUp(key("h.example", kind)));
    assert_eq!(acts[..2], look_ups);
    let acts = desk.found(100, &key("h.example", Kind::A), found("192.0.2.1"));
    assert_eq!(acts, [Act::Timer(1100, 1)]);
    assert_eq!(desk.due(1099, 1), None);
    let result = found("192.0.2.1").result;
    assert_eq!(desk.due(1100, 1), Some(Act::Answer(asker(ONE, 1), result, true)));
    // Without an address there is nothing to be quick about.
    desk.ask(0, asker(ONE, 2), &addresses("i.example"), 60_000);
    assert_eq!(desk.found(100, &key("i.example", Kind::A), Finding::failed(DnsError::NoRecords)), []);
    assert_eq!(desk.due(59_999, 2), None);
    // A nearer deadline stays.
    desk.ask(0, asker(ONE, 3), &addresses("j.example"), 500);
    assert_eq!(desk.found(100, &key("j.example", Kind::Aaaa), found("::1")), []);
    assert_eq!(desk.due(500, 3), Some(Act::Answer(asker(ONE, 3), found("::1").result, true)));
}

#[test]
fn a_client_has_a_share_of_the_look_ups_and_no_more() {
    let mut desk = desk();
    for n in 0..MAX_LOOK_UPS_PER_CLIENT as u64 {
        let acts = desk.ask(0, asker(ONE, n), &mx(&format!("n{n}.example")), 1);
        assert_eq!(acts.len(), 2);
        assert!(desk.due(1, n + 1).is_some());
    }
    assert_eq!((desk.open(), desk.running()), (0, MAX_LOOK_UPS_PER_CLIENT));
    let temporary = Act::Answer(asker(ONE, 1), Err(DnsError::Temporary), false);
    assert_eq!(desk.ask(2, asker(ONE, 1), &mx("more.example"), 9), [temporary]);
    // Others are not concerned, and may join.
    assert_eq!(desk.ask(2, asker(TWO, 1), &mx("more.example"), 9).len(), 2);
    assert_eq!(desk.ask(2, asker(ONE, 2), &mx("more.example"), 9).len(), 1);
    desk.found(3, &key("n0.example", Kind::Mx), Finding::failed(DnsError::Temporary));
    assert_eq!(desk.ask(4, asker(ONE, 3), &mx("again.example"), 9).len(), 2);
}

#[test]
fn nothing_is_left_of_a_client_that_went() {
    let mut desk = desk();
    desk.ask(0, asker(ONE, 1), &mx("a.example"), 1000);
    desk.ask(0, asker(ONE, 2), &addresses("b.example"), 1000);
    desk.ask(0, asker(TWO, 1), &mx("a.example"), 1000);
    desk.forget(ONE);
    assert_eq!((desk.open(), desk.running()), (1, 3));
    assert_eq!(desk.found(1, &key("a.example", Kind::Mx), Finding::failed(DnsError::NoRecords)).len(), 1);
    assert_eq!(desk.found(1, &key("b.example", Kind::A), found("192.0.2.1")), []);
    assert_eq!(desk.found(1, &key("b.example", Kind::Aaaa), found("::1")), []);
    assert_eq!((desk.open(), desk.running(), desk.shares.len()), (0, 0, 0));
    assert_eq!(desk.due(1000, 1), None);
}

#[test]
fn what_was_refused_is_not_remembered() {
    let mut desk = desk();
    desk.ask(0, asker(ONE, 1), &mx("a.example"), 1000);
    assert_eq!(desk.found(0, &key("a.example", Kind::Mx), Finding::refused()).len(), 1);
    assert_eq!(desk.ask(0, asker(ONE, 2), &mx("a.example"), 1000).len(), 2);
}

#[test]
fn a_client_has_the_name_that_leads_back_to_its_address() {
    let mut desk = desk();
    let address = "192.0.2.1".parse().unwrap();
    let ptr = Key { name: name::of_address(address), kind: Kind::Ptr };
    let names = |names: &[&str]| {
        let result = Ok(Records::Names(names.iter().map(|name| (*name).to_owned()).collect()));
        Finding { result, secure: true, keep: MAX_KEEP }
    };
    let acts = desk.ask(0, asker(ONE, 7), &Query::ClientName(address), 1000);
    assert_eq!(acts, [Act::LookUp(ptr.clone()), Act::Timer(1000, 1)]);
    let acts = desk.found(1, &ptr, names(&["liar.example", "right.example"]));
    assert_eq!(acts, [Act::LookUp(key("liar.example", Kind::A))]);
    let acts = desk.found(2, &key("liar.example", Kind::A), found("192.0.2.2"));
    assert_eq!(acts, [Act::LookUp(key("right.example", Kind::A))]);
    let is = |name: &str| Ok(Records::ClientName(ClientName::Is(name.to_owned())));
    let acts = desk.found(5, &key("right.example", Kind::A), found("192.0.2.1"));
    assert_eq!(acts, [Act::Answer(asker(ONE, 7), is("right.example"), true)]);
    // From memory all steps are one.
    let acts = desk.ask(6, asker(ONE, 8), &Query::ClientName(address), 1000);
    assert_eq!(acts, [Act::Answer(asker(ONE, 8), is("right.example"), true)]);
    assert_eq!((desk.open(), desk.running()), (0, 0));
}

#[test]
fn a_client_without_a_confirmed_name_has_none_and_one_that_may_have_one_is_unknown() {
    let none = Records::ClientName(ClientName::None);
    let unknown = Records::ClientName(ClientName::Unknown);
    let address = "2001:db8::1".parse().unwrap();
    let ptr = Key { name: name::of_address(address), kind: Kind::Ptr };
    for (found_of_name, answer) in [
        (found("2001:db8::2"), &none),
        (Finding::failed(DnsError::NoSuchName), &none),
        (Finding::failed(DnsError::Temporary), &unknown),
    ] {
        let mut desk = desk();
        desk.ask(0, asker(ONE, 7), &Query::ClientName(address), 1000);
        let result = Ok(Records::Names(vec!["a.example".to_owned()]));
        let acts = desk.found(1, &ptr, Finding { result, secure: false, keep: MAX_KEEP });
        assert_eq!(acts, [Act::LookUp(key("a.example", Kind::Aaaa))]);
        let acts = desk.found(2, &key("a.example", Kind::Aaaa), found_of_name);
        assert_eq!(acts, [Act::Answer(asker(ONE, 7), Ok(answer.clone()), false)]);
    }
    for (finding, answer) in [(DnsError::NoSuchName, &none), (DnsError::Temporary, &unknown)] {
        let mut desk = desk();
        desk.ask(0, asker(ONE, 7), &Query::ClientName(address), 1000);
        let acts = desk.found(1, &ptr, Finding::failed(finding));
        assert_eq!(acts, [Act::Answer(asker(ONE, 7), Ok(answer.clone()), false)]);
    }
    let mut desk = desk();
    desk.ask(0, asker(ONE, 7), &Query::ClientName(address), 1000);
    assert_eq!(desk.due(1000, 1), Some(Act::Answer(asker(ONE, 7), Ok(unknown), false)));
}

fn spf(client: &str, domain: &str) -> Query {
    Query::Spf(SpfQuestion {
        client: client.parse().unwrap(),
        helo: "helo.example".to_owned(),
        sender: Some(("a".to_owned(), domain.to_owned())),
        receiver: "mx.example".to_owned(),
    })
}

fn text(text: &str) -> Finding {
    Finding { result: Ok(Records::Text(vec![text.as_bytes().to_vec()])), secure: true, keep: MAX_KEEP }
}

fn verdict(acts: &[Act]) -> (SpfResult, bool) {
    match acts {
        [Act::Answer(_, Ok(Records::Spf(verdict)), secure)] => (verdict.result, *secure),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_judgement_looks_up_what_it_needs_and_remembers_it() {
    let mut desk = desk();
    let record = key("a.example", Kind::Txt);
    let acts = desk.ask(0, asker(ONE, 1), &spf("192.0.2.1", "a.example"), 9000);
    assert_eq!(acts, [Act::LookUp(record.clone()), Act::Timer(9000, 1)]);
    // Addresses of one family come soon or late: a judgement waits for all.
    let acts = desk.found(1, &record, text("v=spf1 mx a -all"));
    let exchangers = key("a.example", Kind::Mx);
    assert_eq!(acts, [Act::LookUp(exchangers.clone())]);
    let hosts = Records::Mx(vec![(1, "b.example".to_owned()), (2, "c.example".to_owned())]);
    let acts = desk.found(2, &exchangers, Finding { result: Ok(hosts), ..found("192.0.2.9") });
    assert_eq!(acts, ["b.example", "c.example"].map(|host| Act::LookUp(key(host, Kind::A))));
    assert_eq!(desk.found(3, &key("b.example", Kind::A), found("192.0.2.9")), []);
    let acts = desk.found(3, &key("c.example", Kind::A), found("192.0.2.1"));
    assert_eq!(verdict(&acts), (SpfResult::Pass, true));
    // The next one needs one name more.
    let acts = desk.ask(4, asker(TWO, 1), &spf("192.0.2.2", "a.example"), 9000);
    assert_eq!(acts, [Act::LookUp(key("a.example", Kind::A)), Act::Timer(9000, 2)]);
    let acts = desk.found(5, &key("a.example", Kind::A), found("192.0.2.3"));
    assert_eq!(verdict(&acts), (SpfResult::Fail, true));
    assert_eq!((desk.open(), desk.running()), (0, 0));
}

#[test]
fn a_judgement_without_time_is_a_temporary_error() {
    let mut desk = desk();
    desk.ask(0, asker(ONE, 1), &spf("192.0.2.1", "a.example"), 1000);
    let act = desk.due(1000, 1).unwrap();
    assert_eq!(verdict(&[act]), (SpfResult::TempError, false));
    assert_eq!(desk.found(1001, &key("a.example", Kind::Txt), text("v=spf1 -all")), []);
}

#[test]
fn a_verdict_waits_for_its_explanation_a_little_and_is_not_lost_with_it() {
    let refused = |act: &Act| match act {
        Act::Answer(_, Ok(Records::Spf(verdict)), _) => (verdict.result, verdict.explanation.clone()),
        other => panic!("{other:?}"),
    };
    let record = key("a.example", Kind::Txt);
    let words = key("why.example", Kind::Txt);
    // The question has a minute.
    let mut desk = desk();
    desk.ask(0, asker(ONE, 1), &spf("192.0.2.1", "a.example"), 60_000);
    let acts = desk.found(100, &record, text("v=spf1 -all exp=why.example"));
    assert_eq!(acts, [Act::LookUp(words.clone()), Act::Timer(2_100, 1)]);
    assert_eq!(desk.due(2_099, 1), None);
    assert_eq!(refused(&desk.due(2_100, 1).unwrap()), (SpfResult::Fail, None));
    assert_eq!(desk.found(2_200, &words, text("go away")), []);
    // With words that come, and with a deadline that is nearer.
    let acts = desk.ask(3_000, asker(ONE, 2), &spf("192.0.2.1", "a.example"), 60_000);
    assert_eq!(refused(&acts[0]), (SpfResult::Fail, Some("go away".to_owned())));
    let mut desk = self::desk();
    desk.ask(0, asker(ONE, 1), &spf("192.0.2.1", "a.example"), 1_000);
    assert_eq!(desk.found(100, &record, text("v=spf1 -all exp=why.example")), [Act::LookUp(words)]);
    assert_eq!(refused(&desk.due(1_000, 1).unwrap()), (SpfResult::Fail, None));
}

#[test]
fn a_judgement_that_panics_is_answered_as_one_without_time() {
    let mut desk = desk();
    let unknown = Ok(Records::ClientName(ClientName::Unknown));
    assert_eq!(
        desk.begin(0, asker(ONE, 7), Task::Panics, 1000),
        [Act::Answer(asker(ONE, 7), unknown, false)]
    );
    assert_eq!((desk.open(), desk.due(1000, 1)), (0, None));
    assert_eq!(desk.ask(0, asker(ONE, 8), &spf("192.0.2.1", "a.example"), 1000).len(), 2, "it goes on");
}
