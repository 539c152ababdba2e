//! Which hosts a next hop has, and what each of them needs, by the answers of a resolver that is played.

use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_tls::client::Proof;

use super::*;

type Answer = Result<Records, DnsError>;

const NEITHER: Besides = Besides { mta_sts: false, counted: false };
const BOTH: Besides = Besides { mta_sts: true, counted: true };

fn us() -> Ourselves {
    let listeners = ["192.0.2.99:25".parse().unwrap()];
    Ourselves::new(Domain::parse("us.test").unwrap(), &listeners, &[], Vec::new())
}

fn may() -> TlsPolicy {
    TlsPolicy::parse("may").unwrap()
}

#[test]
fn answers_to_questions_of_an_earlier_resolution_do_not_count() {
    let next_hop = NextHop::parse("smtp:dst.test").unwrap();
    let (mut resolution, _) = Resolution::begin(&next_hop, TlsPolicy::parse("dane").unwrap(), BOTH, 0);
    let heard = |result| Heard { result, secure: true };
    let mx = Query::Mx("dst.test".to_owned());
    let step = resolution.on_answer(&mx, heard(Ok(Records::Mx(vec![(0, "mx.test".to_owned())]))), &us());
    assert!(matches!(step, Ok(Step::Ask(_))), "{step:?}");
    let address = Query::Addresses("mx.test".to_owned());
    let found = Records::Addresses(vec!["192.0.2.1".parse().unwrap()]);
    assert_eq!(resolution.on_answer(&address, heard(Ok(found)), &us()), Ok(Step::Wait));
    let sts = Query::StsPolicy("dst.test".to_owned());
    let none = || heard(Err(DnsError::NoRecords));
    let step = resolution.on_answer(&sts, none(), &us());
    let proofs = [Query::Tlsa("_25._tcp.mx.test".to_owned()), Query::Canonical("mx.test".to_owned())];
    assert_eq!(step, Ok(Step::Ask(proofs.to_vec())));
    assert_eq!(resolution.on_answer(&sts, none(), &us()), Ok(Step::Wait), "that was asked before");
}

/// Asks until the end: what `answer` says to each question, and whether DNSSEC vouches for it.
fn run(
    next_hop: &str,
    policy: &str,
    besides: Besides,
    answer: impl Fn(&Query) -> (Answer, bool),
) -> (Resolution, Result<Route, Unroutable>) {
    let next_hop = NextHop::parse(next_hop).unwrap();
    let (mut resolution, mut step) =
        Resolution::begin(&next_hop, TlsPolicy::parse(policy).unwrap(), besides, 0);
    let mut asked = Vec::new();
    loop {
        step = match step {
            Step::Done(result) => return (resolution, result),
            Step::Ask(queries) => {
                asked.extend(queries);
                Step::Wait
            }
            Step::Wait => {
                let query = asked.remove(0);
                let (result, secure) = answer(&query);
                resolution.on_answer(&query, Heard { result, secure }, &us()).unwrap()
            }
        };
    }
}

/// Nothing is signed, and only names and addresses are asked for.
fn resolve(next_hop: &str, mx: Answer, addresses: &[(&str, Answer)]) -> Result<Route, Unroutable> {
    let answer = |query: &Query| match query {
        Query::Addresses(name) => addresses.iter().find(|(known, _)| known == name).unwrap().1.clone(),
        _ => mx.clone(),
    };
    run(next_hop, "may", NEITHER, |query| (answer(query), false)).1
}

fn mx(records: &[(u16, &str)]) -> Answer {
    Ok(Records::Mx(records.iter().map(|(preference, name)| (*preference, (*name).to_owned())).collect()))
}

fn a(address: &str) -> Answer {
    Ok(Records::Addresses(vec![address.parse().unwrap()]))
}

fn names(route: &Route) -> Vec<&str> {
    let RouteTarget::Hosts(hosts, _) = &route.target else { panic!() };
    hosts.iter().map(|host| &*host.name).collect()
}

fn verdict(result: Result<Route, Unroutable>) -> (Result3, EnhancedCode) {
    let Unroutable(verdict) = result.unwrap_err();
    (verdict.result, verdict.enhanced)
}

#[test]
fn exchangers_come_by_preference_and_dead_ones_fall_out() {
    let route = resolve(
        "smtp:dst.test",
        mx(&[(20, "b.test"), (10, "a.test"), (30, "c.test"), (5, "*bad*"), (40, "a.test")]),
        &[("a.test", a("192.0.2.1")), ("b.test", Err(DnsError::NoSuchName)), ("c.test", a("192.0.2.3"))],
    );
    assert_eq!(names(&route.unwrap()), ["a.test", "c.test"]);
}

#[test]
fn without_exchangers_the_domain_itself_is_the_host() {
    let route = resolve("smtp:dst.test", Err(DnsError::NoRecords), &[("dst.test", a("192.0.2.1"))]);
    assert_eq!(names(&route.unwrap()), ["dst.test"]);
}

#[test]
fn what_can_never_work_fails_and_the_rest_is_deferred() {
    let no_a = [("dst.test", Err(DnsError::NoRecords))];
    let dead = [("a.test", Err(DnsError::NoSuchName)), ("dst.test", a("192.0.2.1"))];
    let sick = [("a.test", Err(DnsError::Bogus)), ("b.test", Err(DnsError::NoSuchName))];
    for (answer, addresses, expected) in [
        (mx(&[(0, "")]), &no_a[..], (Result3::Failed, EnhancedCode(5, 1, 10))),
        (Err(DnsError::NoSuchName), &no_a, (Result3::Failed, EnhancedCode(5, 1, 2))),
        (Err(DnsError::Temporary), &no_a, (Result3::Deferred, EnhancedCode(4, 4, 3))),
        (Err(DnsError::Bogus), &no_a, (Result3::Deferred, EnhancedCode(4, 4, 3))),
        (Err(DnsError::NoRecords), &no_a, (Result3::Failed, EnhancedCode(5, 4, 4))),
        // The A record of a domain with MX records is no mail server.
        (mx(&[(1, "a.test")]), &dead, (Result3::Failed, EnhancedCode(5, 4, 4))),
        (mx(&[(1, "a.test"), (2, "b.test")]), &sick, (Result3::Deferred, EnhancedCode(4, 4, 3))),
    ] {
        assert_eq!(verdict(resolve("smtp:dst.test", answer.clone(), addresses)), expected, "{answer:?}");
    }
}

#[test]
fn a_null_mx_beside_others_is_a_mistake_and_not_a_null_mx() {
    let route = resolve("smtp:dst.test", mx(&[(0, ""), (1, "a.test")]), &[("a.test", a("192.0.2.1"))]);
    assert_eq!(names(&route.unwrap()), ["a.test"]);
}

#[test]
fn a_name_counts_once_and_ours_is_found_among_any_number() {
    let many: Vec<(u16, String)> = (0..20).map(|n| (7, format!("mx{n}.test"))).collect();
    let records = [(5, "a.test".to_owned()), (7, "us.test".to_owned()), (9, "a.test".to_owned())];
    let records = Ok(Records::Mx(many.into_iter().chain(records).collect()));
    let asked = std::cell::RefCell::new(Vec::new());
    let answer = |query: &Query| match query {
        Query::Addresses(name) => {
            asked.borrow_mut().push(name.clone());
            (a("192.0.2.1"), false)
        }
        _ => (records.clone(), false),
    };
    let route = run("smtp:dst.test", "may", NEITHER, answer).1.unwrap();
    assert_eq!(names(&route), ["a.test"], "all others are no better than ourselves");
    assert_eq!(asked.borrow().iter().filter(|name| *name == "a.test").count(), 1);
}

#[test]
fn mail_that_would_come_back_fails() {
    let best = resolve(
        "smtp:dst.test",
        mx(&[(1, "us.test"), (2, "b.test")]),
        &[("us.test", a("192.0.2.50")), ("b.test", a("192.0.2.2"))],
    );
    assert_eq!(verdict(best), (Result3::Failed, EnhancedCode(5, 4, 6)));
    let backup = resolve(
        "smtp:dst.test",
        mx(&[(1, "a.test"), (2, "alias.test"), (3, "b.test")]),
        &[("a.test", a("192.0.2.1")), ("alias.test", a("192.0.2.99")), ("b.test", a("192.0.2.2"))],
    );
    assert_eq!(names(&backup.unwrap()), ["a.test"]);
}

#[test]
fn brackets_and_literals_need_no_exchanger() {
    let route =
        resolve("smtp:[mx.test]:2525", Err(DnsError::Temporary), &[("mx.test", a("192.0.2.1"))]).unwrap();
    assert!(matches!(&route.target, RouteTarget::Hosts(hosts, 2525) if &*hosts[0].name == "mx.test"));
    for literal in ["smtp:[127.0.0.1]:2525", "lmtp:[::1]:24", "lmtp:unix:/run/lmtp"] {
        assert!(resolve(literal, Err(DnsError::Temporary), &[]).is_ok(), "{literal}");
    }
    let missing =
        resolve("smtp:[mx.test]", Err(DnsError::Temporary), &[("mx.test", Err(DnsError::NoSuchName))]);
    assert_eq!(verdict(missing), (Result3::Deferred, EnhancedCode(4, 4, 4)));
}

#[test]
fn an_answer_to_another_question_is_noticed() {
    let (mut resolution, _) = Resolution::begin(&NextHop::parse("smtp:dst.test").unwrap(), may(), NEITHER, 0);
    let heard = Heard { result: a("192.0.2.1"), secure: false };
    assert!(resolution.on_answer(&Query::Mx("dst.test".into()), heard, &us()).is_err());
}

#[test]
fn addresses_that_are_no_host_are_left_out() {
    let bad = Ok(Records::Addresses(vec!["0.0.0.0".parse().unwrap(), "ff02::1".parse().unwrap()]));
    let result = resolve("smtp:dst.test", mx(&[(1, "a.test")]), &[("a.test", bad)]);
    assert_eq!(verdict(result), (Result3::Failed, EnhancedCode(5, 4, 4)));
}

/// What the route needs of each host, with these answers to the questions for records; MX and addresses are signed
/// as said.
fn needs(
    level: &str,
    signed: (bool, bool),
    tlsa: &[(&str, Answer, bool)],
) -> Result<Vec<String>, EnhancedCode> {
    let answer = |query: &Query| match query {
        Query::Mx(_) => (mx(&[(1, "a.test"), (2, "b.test")]), signed.0),
        Query::Addresses(_) => (a("192.0.2.1"), signed.1),
        Query::Tlsa(name) => {
            let host = name.strip_prefix("_25._tcp.").unwrap();
            let (_, result, secure) = tlsa.iter().find(|(known, ..)| *known == host).unwrap();
            (result.clone(), *secure)
        }
        Query::Canonical(name) => (Ok(Records::Names(vec![name.clone()])), true),
        other => panic!("{other:?}"),
    };
    match run("smtp:dst.test", level, NEITHER, answer).1 {
        Ok(route) => {
            let RouteTarget::Hosts(hosts, _) = route.target else { panic!() };
            Ok(hosts.iter().map(|host| format!("{} {}", host.name, host.security)).collect())
        }
        Err(Unroutable(verdict)) => {
            assert_eq!(verdict.result, Result3::Deferred);
            Err(verdict.enhanced)
        }
    }
}

#[test]
fn tlsa_records_count_only_where_dnssec_vouches_for_all() {
    let good = || Ok(Records::Tlsa(vec![(3, 1, 1, vec![7; 32])]));
    let useless = || Ok(Records::Tlsa(vec![(1, 1, 1, vec![7; 32])]));
    let no = |error| (Err(error), true);
    let show = |a: &str, b: &str| Ok(vec![format!("a.test {a}"), format!("b.test {b}")]);
    let both =
        |of_a: (Answer, bool), of_b: (Answer, bool)| [("a.test", of_a.0, of_a.1), ("b.test", of_b.0, of_b.1)];
    let fine = || both((good(), true), (useless(), true));
    assert_eq!(needs("dane", (true, true), &fine()), show("dane", "encrypted"));
    let only = needs("dane-only", (true, true), &fine());
    assert_eq!(only, Ok(vec!["a.test dane".to_owned()]), "the other proves nothing");
    // Nothing is even asked where MX or addresses are not signed.
    for signed in [(false, true), (true, false)] {
        assert_eq!(needs("dane", signed, &[]), show("encrypted", "encrypted"));
        assert_eq!(needs("dane-only", signed, &[]), Err(EnhancedCode(4, 7, 5)));
    }
    // Records that are not signed are none.
    let unsigned = both((good(), false), no(DnsError::NoSuchName));
    assert_eq!(needs("dane-only", (true, true), &unsigned), Err(EnhancedCode(4, 7, 5)));
    // A host whose records cannot be looked up gets nothing, and never in clear; another may.
    for error in [DnsError::Temporary, DnsError::Bogus, DnsError::BadName] {
        let half = both(no(error), (good(), true));
        assert_eq!(needs("dane", (true, true), &half), Ok(vec!["b.test dane".to_owned()]));
        let none = both(no(error), no(error));
        assert_eq!(needs("dane", (true, true), &none), Err(EnhancedCode(4, 7, 5)));
    }
    assert_eq!(needs("may", (true, true), &[]), show("encrypted", "encrypted"));
}

/// What is needed of a host whose name leads to `end.test`, with these records there and at its own name.
fn of_alias(end: (Answer, bool), there: Answer, own: Answer) -> Result<Security, EnhancedCode> {
    let answer = |query: &Query| match query {
        Query::Mx(_) => (mx(&[(1, "a.test")]), true),
        Query::Canonical(name) => {
            assert_eq!(name, "a.test");
            end.clone()
        }
        Query::Tlsa(name) if name == "_25._tcp.end.test" => (there.clone(), true),
        Query::Tlsa(_) => (own.clone(), true),
        _ => (a("192.0.2.1"), true),
    };
    match run("smtp:dst.test", "dane", NEITHER, answer).1 {
        Ok(Route { target: RouteTarget::Hosts(hosts, _), .. }) => Ok((*hosts[0].security).clone()),
        Ok(other) => panic!("{other:?}"),
        Err(Unroutable(verdict)) => Err(verdict.enhanced),
    }
}

#[test]
fn records_where_the_aliases_of_a_host_end_come_before_its_own() {
    let records = |octet| Ok(Records::Tlsa(vec![(3, 1, 1, vec![octet; 32])]));
    let none = || Err(DnsError::NoSuchName);
    let leads_to = |name: &str| (Ok(Records::Names(vec![name.to_owned()])), true);
    let octet = |needs: Result<Security, EnhancedCode>| {
        let Security::Always { name, proof: Proof::Dane(records, _), .. } = needs.unwrap() else { panic!() };
        format!("{name} {}", &records[0].to_text()[..8])
    };
    assert_eq!(octet(of_alias(leads_to("end.test"), records(7), none())), "end.test 3 1 1 07");
    assert_eq!(octet(of_alias(leads_to("END.test"), records(7), records(9))), "end.test 3 1 1 07");
    assert_eq!(octet(of_alias(leads_to("end.test"), none(), records(9))), "a.test 3 1 1 09");
    assert_eq!(octet(of_alias(leads_to("A.test"), records(7), records(9))), "a.test 3 1 1 09");
    // A way that nobody vouches for leads nowhere.
    let unsigned = (leads_to("end.test").0, false);
    assert_eq!(octet(of_alias(unsigned, records(7), records(9))), "a.test 3 1 1 09");
    // Nobody can hide records by keeping us from them, or from the way there.
    for error in [DnsError::Temporary, DnsError::Bogus] {
        let late = of_alias(leads_to("end.test"), Err(error), records(9));
        assert_eq!(late, Err(EnhancedCode(4, 7, 5)));
        assert_eq!(of_alias((Err(error), false), records(7), none()), Err(EnhancedCode(4, 7, 5)));
    }
}

/// What the report of the domain would say without any session, and under which policies sessions are counted.
fn counted(level: &str, sts: Answer, tlsa: Answer) -> (Vec<TlsResult>, Vec<PolicyKind>) {
    let answer = |query: &Query| match query {
        Query::Mx(_) => mx(&[(1, "a.test")]),
        Query::StsPolicy(_) => sts.clone(),
        Query::Tlsa(_) => tlsa.clone(),
        Query::Canonical(name) => Ok(Records::Names(vec![name.clone()])),
        _ => a("192.0.2.1"),
    };
    let (mut resolution, result) = run("smtp:dst.test", level, BOTH, |query| (answer(query), true));
    let results = resolution.take_faults().into_iter().map(|(_, why)| why.result).collect();
    let hosts = match result.map(|route| route.target) {
        Ok(RouteTarget::Hosts(hosts, _)) => hosts,
        _ => Vec::new(),
    };
    let kinds = hosts.iter().filter_map(|host| Some(host.counted.as_ref()?.kind));
    (results, kinds.collect())
}

#[test]
fn what_a_domain_publishes_wrongly_is_counted_for_its_report() {
    let none = || Err(DnsError::NoRecords);
    let fault = |fetched| Ok(Records::StsFault { fetched, why: "timeout".to_owned() });
    let policy =
        |mode, host: &str| Ok(Records::StsPolicy { mode, mx: vec![host.to_owned()], max_age_s: 9, age_s: 0 });
    let only = |result| vec![result];
    assert_eq!(counted("may", none(), none()), (vec![], vec![PolicyKind::NotFound]));
    assert_eq!(
        counted("may", fault(false), none()),
        (only(TlsResult::StsPolicyFetchError), vec![PolicyKind::NotFound])
    );
    assert_eq!(counted("may", fault(true), none()).0, only(TlsResult::StsPolicyInvalid));
    assert_eq!(counted("may", policy(StsMode::Testing, "a.test"), none()), (vec![], vec![PolicyKind::Sts]));
    // One that is only tested stops nothing.
    let unlisted = only(TlsResult::ValidationFailure);
    let tested = counted("may", policy(StsMode::Testing, "b.test"), none());
    assert_eq!(tested, (unlisted.clone(), vec![PolicyKind::Sts]));
    assert_eq!(counted("may", policy(StsMode::Enforce, "b.test"), none()), (unlisted, vec![]));
    let forged = counted("dane", none(), Err(DnsError::Bogus));
    assert_eq!(forged, (only(TlsResult::DnssecInvalid), vec![]));
    // Records of no use do not stand for the policy that is enforced, but are told of.
    let useless = || Ok(Records::Tlsa(vec![(1, 1, 1, vec![7; 32])]));
    let invalid = only(TlsResult::TlsaInvalid);
    assert_eq!(counted("dane", none(), useless()), (invalid.clone(), vec![PolicyKind::Tlsa]));
    let enforced = counted("dane", policy(StsMode::Enforce, "a.test"), useless());
    assert_eq!(enforced, (invalid, vec![PolicyKind::Sts]));
    assert_eq!(counted("encrypt", none(), none()), (vec![], vec![]));
}
