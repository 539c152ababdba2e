//! From a next hop to a route: which questions the resolver is asked, and what its answers mean (RFC 5321 5.1, RFC 7505).
//! Pure. Answers come from strangers: names and addresses in them are checked before use.

use std::net::IpAddr;
use std::rc::Rc;

use vsmtp_config::TlsPolicy;
use vsmtp_ipc::edge::client_resolver::{DnsError, Query, Records, StsMode};
use vsmtp_ipc::edge::queue_deliver::{PolicyFound, PolicyKind, SessionFailure, TlsResult};
use vsmtp_mail::{Domain, EnhancedCode, LmtpTarget, NextHop};
use vsmtp_smtp::Protocol;

use crate::lease::Verdict;
use crate::smtp::counted;
use crate::smtp::lookup::Heard;
use crate::smtp::route::{MailHost, Ourselves, Route, RouteTarget, is_unusable};
use crate::smtp::security::{Security, Sts, Tlsa, asks_for_sts, asks_for_tlsa, bare, security};
use crate::smtp::tally::failure;

/// Most mail exchangers whose addresses are asked for; the best ones.
const MAX_HOSTS: usize = 8;
/// Most addresses kept of one host.
const MAX_HOST_ADDRESSES: usize = 16;

/// Why there is no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unroutable(pub Verdict);

/// A resolution under way.
#[derive(Debug)]
pub struct Resolution {
    host: Domain,
    port: u16,
    protocol: Protocol,
    policy: TlsPolicy,
    mx: bool,
    /// The domain's own policy, if mail is to be held to it.
    sts: Option<Sts>,
    /// Every host has its addresses, or none.
    located: bool,
    /// DNSSEC vouches for the names of the hosts.
    secure: bool,
    /// Hosts whose addresses are known, or not yet.
    hosts: Vec<Candidate>,
    /// Questions without an answer. Answers to those of an earlier resolution of the same next hop count for nothing.
    open: Vec<Query>,
    /// At least one host could not be looked up now.
    temporary: bool,
    /// Nobody knows now what the domain asks for.
    sts_unclear: bool,
    /// Its sessions are counted.
    counted: bool,
    faults: Vec<Fault>,
}

/// What the domain's report is to say although there was no session.
pub type Fault = (Rc<PolicyFound>, SessionFailure);

/// What is asked besides names, addresses and TLSA records.
#[derive(Debug, Clone, Copy)]
pub struct Besides {
    /// The policy of the mail domain.
    pub mta_sts: bool,
    /// Sessions are counted: a policy that is only tested makes a difference.
    pub counted: bool,
}

/// A host that mail may go to.
#[derive(Debug)]
struct Candidate {
    host: MailHost,
    /// DNSSEC vouches for its addresses.
    secure: bool,
    tlsa: Tlsa,
}

impl Candidate {
    fn new(preference: u16, name: &str, addresses: Vec<IpAddr>) -> Self {
        let security = Rc::new(Security::Clear);
        let host = MailHost { preference, name: name.into(), addresses, security, counted: None };
        Candidate { host, secure: false, tlsa: Tlsa::None }
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask these.
    Ask(Vec<Query>),
    /// Nothing until the next answer.
    Wait,
    /// The end.
    Done(Result<Route, Unroutable>),
}

impl Resolution {
    /// Begins, with the policy of the next hop, and with that of the mail domain if that is asked for. Without names
    /// nothing needs to be asked.
    pub fn begin(next_hop: &NextHop, policy: TlsPolicy, besides: Besides) -> (Self, Step) {
        let (host, port, protocol, mx) = match next_hop {
            NextHop::Smtp { host, port, mx } => (host.clone(), *port, Protocol::Smtp, *mx),
            NextHop::Lmtp(LmtpTarget::Tcp(host, port)) => (host.clone(), *port, Protocol::Lmtp, false),
            NextHop::Lmtp(LmtpTarget::Unix(path)) => {
                let target = RouteTarget::Unix(path.clone());
                return (Self::nothing(policy), Step::Done(Ok(Route::new(Protocol::Lmtp, target))));
            }
            NextHop::Mailbox(_) => {
                let verdict = Verdict::deferred(EnhancedCode(4, 3, 5), "next hop is a mailbox");
                return (Self::nothing(policy), Step::Done(Err(Unroutable(verdict))));
            }
        };
        let Besides { mta_sts, counted } = besides;
        let mut resolution = Resolution { host, port, protocol, mx, counted, ..Self::nothing(policy) };
        let step = match resolution.host.as_literal() {
            Some(address) => {
                resolution.hosts = vec![Candidate::new(0, "", vec![address])];
                Step::Done(resolution.route())
            }
            None if mx => {
                let mut queries = vec![Query::Mx(resolution.host.to_string())];
                if mta_sts && asks_for_sts(&resolution.policy) {
                    queries.push(Query::StsPolicy(resolution.host.to_string()));
                }
                resolution.open.clone_from(&queries);
                Step::Ask(queries)
            }
            None => resolution.ask_addresses(vec![(0, resolution.host.to_string())]),
        };
        (resolution, step)
    }

    fn nothing(policy: TlsPolicy) -> Self {
        Resolution {
            host: Domain::literal(IpAddr::from([0, 0, 0, 0])),
            port: 0,
            protocol: Protocol::Smtp,
            policy,
            mx: false,
            sts: None,
            located: false,
            secure: true,
            hosts: Vec::new(),
            open: Vec::new(),
            temporary: false,
            sts_unclear: false,
            counted: false,
            faults: Vec::new(),
        }
    }

    /// What was wrong with what the domain publishes; to be asked once, at the end.
    pub fn take_faults(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.faults)
    }

    /// Takes the answer to one of the questions. `Err` if it is no answer to such a question.
    pub fn on_answer(&mut self, query: &Query, heard: Heard, us: &Ourselves) -> Result<Step, &'static str> {
        let Some(at) = self.open.iter().position(|open| open == query) else { return Ok(Step::Wait) };
        self.open.swap_remove(at);
        let Heard { result, secure } = heard;
        match (query, result) {
            (Query::Mx(_), Ok(Records::Mx(records))) => {
                self.secure &= secure;
                Ok(self.on_mx(records))
            }
            (Query::Mx(_), Err(error)) => {
                self.secure &= secure;
                Ok(self.on_no_mx(error))
            }
            (Query::Addresses(name), Ok(Records::Addresses(addresses))) => {
                let usable = addresses.into_iter().filter(|address| !is_unusable(*address));
                let usable: Vec<IpAddr> = usable.take(MAX_HOST_ADDRESSES).collect();
                if let Some(found) = self.hosts.iter_mut().find(|found| *found.host.name == **name) {
                    found.host.addresses = usable;
                    found.secure = secure;
                }
                Ok(self.go_on(us))
            }
            (Query::StsPolicy(_), Ok(Records::StsPolicy { mode, mx, max_age_s, .. })) => {
                let enforce = mode == StsMode::Enforce;
                let counts = enforce || mode == StsMode::Testing && self.counted;
                self.sts = counts.then_some(Sts { mx, enforce, max_age_s });
                Ok(self.go_on(us))
            }
            // As good as none, but the domain will want to know.
            (Query::StsPolicy(_), Ok(Records::StsFault { fetched, why })) => {
                let result =
                    if fetched { TlsResult::StsPolicyInvalid } else { TlsResult::StsPolicyFetchError };
                let found = Rc::new(counted::of_domain(PolicyKind::Sts, &self.host));
                self.note(found, failure(result, "", (None, None), &why));
                Ok(self.go_on(us))
            }
            // It may ask for proof, and the next answer comes from memory.
            (Query::StsPolicy(_), Err(DnsError::Temporary | DnsError::Bogus)) => {
                self.sts_unclear = true;
                Ok(self.go_on(us))
            }
            // Without a policy the domain asks for nothing (RFC 8461 3.1).
            (Query::StsPolicy(_), Err(_)) => Ok(self.go_on(us)),
            (Query::Tlsa(name), Ok(Records::Tlsa(records))) => {
                // Records that anybody can have written ask for nothing (RFC 7672 2.1.1).
                let found = if secure { Tlsa::of_records(&records) } else { Tlsa::None };
                self.on_tlsa(name, found);
                Ok(self.go_on(us))
            }
            (Query::Tlsa(name), Err(error)) => {
                let is_absent = matches!(error, DnsError::NoSuchName | DnsError::NoRecords);
                let forged = error == DnsError::Bogus;
                self.on_tlsa(name, if is_absent { Tlsa::None } else { Tlsa::Unclear { forged } });
                Ok(self.go_on(us))
            }
            (Query::Addresses(_), Err(error)) => {
                self.temporary |= matches!(error, DnsError::Temporary | DnsError::Bogus);
                Ok(self.go_on(us))
            }
            _ => Err("answer does not fit its question"),
        }
    }

    fn on_mx(&mut self, records: Vec<(u16, String)>) -> Step {
        if matches!(&records[..], [(_, name)] if name.is_empty() || name == ".") {
            return fail(EnhancedCode(5, 1, 10), format!("{} takes no mail (null MX)", self.host));
        }
        let mut hosts: Vec<(u16, String)> = records
            .into_iter()
            .filter_map(|(preference, name)| {
                Domain::parse(&name).ok().map(|name| (preference, name.to_string()))
            })
            .collect();
        hosts.sort();
        hosts.dedup_by(|later, first| later.1 == first.1);
        hosts.truncate(MAX_HOSTS);
        if hosts.is_empty() {
            // There are MX records, so the address of the domain itself does not count.
            return fail(EnhancedCode(5, 4, 4), format!("mail servers of {} have no valid names", self.host));
        }
        self.ask_addresses(hosts)
    }

    fn on_no_mx(&mut self, error: DnsError) -> Step {
        match error {
            DnsError::NoRecords => {
                // The implicit MX (RFC 5321 5.1).
                self.ask_addresses(vec![(0, self.host.to_string())])
            }
            DnsError::NoSuchName | DnsError::BadName => {
                fail(EnhancedCode(5, 1, 2), format!("domain {} does not exist", self.host))
            }
            DnsError::Temporary | DnsError::Bogus => self.defer(),
        }
    }

    fn ask_addresses(&mut self, hosts: Vec<(u16, String)>) -> Step {
        let questions: Vec<Query> = hosts.iter().map(|(_, name)| Query::Addresses(name.clone())).collect();
        self.open.extend(questions.iter().cloned());
        self.hosts = hosts
            .into_iter()
            .map(|(preference, name)| Candidate::new(preference, &name, Vec::new()))
            .collect();
        Step::Ask(questions)
    }

    /// When nothing is open any more: from addresses to proofs, and from there to the end.
    fn go_on(&mut self, us: &Ourselves) -> Step {
        match (self.open.is_empty(), self.located) {
            (true, false) => self.on_located(us),
            (true, true) => Step::Done(self.route()),
            _ => Step::Wait,
        }
    }

    fn on_located(&mut self, us: &Ourselves) -> Step {
        self.located = true;
        // A host that an operator named may well be ourselves on purpose.
        if self.mx {
            let best = us.best_of(self.hosts.iter().map(|found| &found.host), self.port);
            self.hosts.retain(|found| best.is_none_or(|ours| found.host.preference < ours));
            if best.is_some() && self.hosts.is_empty() {
                return fail(
                    EnhancedCode(5, 4, 6),
                    format!("mail for {} loops back to this server", self.host),
                );
            }
        }
        self.hosts.retain(|found| !found.host.addresses.is_empty());
        if !self.hosts.is_empty() {
            return self.ask_proofs();
        }
        if self.temporary {
            return self.defer();
        }
        let text = format!("no address of a mail server for {}", self.host);
        if self.mx {
            return fail(EnhancedCode(5, 4, 4), text);
        }
        // The operator's own setting: a mistake there must not bounce everybody's mail.
        Step::Done(Err(Unroutable(Verdict::deferred(EnhancedCode(4, 4, 4), text))))
    }

    /// Asks for the TLSA records of the hosts whose names and addresses DNSSEC vouches for (RFC 7672 2.2.2), if the
    /// policy wants them.
    fn ask_proofs(&mut self) -> Step {
        let vouched = asks_for_tlsa(&self.policy) && self.secure;
        let asked: Vec<Query> = self
            .hosts
            .iter()
            .filter(|found| vouched && found.secure)
            .map(|found| Query::Tlsa(tlsa_name(self.port, &found.host.name)))
            .collect();
        self.open.clone_from(&asked);
        if asked.is_empty() { Step::Done(self.route()) } else { Step::Ask(asked) }
    }

    fn on_tlsa(&mut self, name: &str, tlsa: Tlsa) {
        let port = self.port;
        if let Some(found) = self.hosts.iter_mut().find(|found| tlsa_name(port, &found.host.name) == name) {
            found.tlsa = tlsa;
        }
    }

    fn defer(&self) -> Step {
        let text = format!("names of {} cannot be resolved now", self.host);
        Step::Done(Err(Unroutable(Verdict::deferred(EnhancedCode(4, 4, 3), text))))
    }

    /// The hosts that may get mail, each with what it needs.
    fn route(&mut self) -> Result<Route, Unroutable> {
        if self.sts_unclear {
            let why = format!("the MTA-STS policy of {} is not known now", self.host);
            return Err(Unroutable(Verdict::deferred(EnhancedCode(4, 7, 5), why)));
        }
        let (mut hosts, mut why) = (Vec::new(), String::new());
        for Candidate { mut host, tlsa, .. } in std::mem::take(&mut self.hosts) {
            let name = if host.name.is_empty() { bare(&self.host) } else { host.name.clone() };
            host.counted = self.count(&name, &tlsa);
            match security(&self.policy, &self.host, &name, &tlsa, self.sts.as_ref()) {
                Ok(security) => {
                    host.security = security;
                    hosts.push(host);
                }
                Err(reason) => why = reason,
            }
        }
        if hosts.is_empty() {
            return Err(Unroutable(Verdict::deferred(EnhancedCode(4, 7, 5), why)));
        }
        Ok(Route::new(self.protocol, RouteTarget::Hosts(hosts, self.port)))
    }
}

// The reports of domains.
impl Resolution {
    /// The policy under which sessions with a host are counted; what is wrong with it is noted.
    fn count(&mut self, host: &str, tlsa: &Tlsa) -> Option<Rc<PolicyFound>> {
        if !self.counted {
            return None;
        }
        let sts = self.sts.as_ref();
        let found = counted::policy_found(&self.policy, &self.host, host, tlsa, sts).map(Rc::new)?;
        if let Some((result, why)) = counted::fault(&self.policy, &found, host, tlsa, sts) {
            self.note(Rc::clone(&found), failure(result, host, (None, None), why));
        }
        Some(found)
    }

    fn note(&mut self, found: Rc<PolicyFound>, failure: SessionFailure) {
        if self.counted {
            self.faults.push((found, failure));
        }
    }
}

/// Where the TLSA records of a server are (RFC 6698 3).
fn tlsa_name(port: u16, host: &str) -> String {
    format!("_{port}._tcp.{host}")
}

fn fail(enhanced: EnhancedCode, text: String) -> Step {
    Step::Done(Err(Unroutable(Verdict::failed(enhanced, text))))
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::edge::queue_deliver::Result3;

    use super::*;

    type Answer = Result<Records, DnsError>;

    const NEITHER: Besides = Besides { mta_sts: false, counted: false };
    const BOTH: Besides = Besides { mta_sts: true, counted: true };

    fn us() -> Ourselves {
        Ourselves { name: Domain::parse("us.test").unwrap(), listen: vec!["192.0.2.99:25".parse().unwrap()] }
    }

    fn may() -> TlsPolicy {
        TlsPolicy::parse("may").unwrap()
    }

    #[test]
    fn answers_to_questions_of_an_earlier_resolution_do_not_count() {
        let next_hop = NextHop::parse("smtp:dst.test").unwrap();
        let (mut resolution, _) = Resolution::begin(&next_hop, TlsPolicy::parse("dane").unwrap(), BOTH);
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
        assert_eq!(step, Ok(Step::Ask(vec![Query::Tlsa("_25._tcp.mx.test".to_owned())])));
        assert_eq!(resolution.on_answer(&sts, none(), &us()), Ok(Step::Wait), "that was asked before");
    }

    /// Answers questions by name until the end; the same name may be asked for MX and for addresses.
    fn resolve(next_hop: &str, mx: Answer, addresses: &[(&str, Answer)]) -> Result<Route, Unroutable> {
        let (mut resolution, mut step) =
            Resolution::begin(&NextHop::parse(next_hop).unwrap(), may(), NEITHER);
        let mut asked = Vec::new();
        loop {
            step = match step {
                Step::Done(result) => return result,
                Step::Ask(queries) => {
                    asked.extend(queries);
                    Step::Wait
                }
                Step::Wait => {
                    let query = asked.remove(0);
                    let answer = match &query {
                        Query::Addresses(name) => addresses
                            .iter()
                            .find(|(known, _)| known == name)
                            .map(|(_, answer)| answer.clone())
                            .unwrap(),
                        _ => mx.clone(),
                    };
                    resolution.on_answer(&query, Heard { result: answer, secure: false }, &us()).unwrap()
                }
            };
        }
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
        let (mut resolution, _) =
            Resolution::begin(&NextHop::parse("smtp:dst.test").unwrap(), may(), NEITHER);
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
        let policy = TlsPolicy::parse(level).unwrap();
        let (mut resolution, mut step) =
            Resolution::begin(&NextHop::parse("smtp:dst.test").unwrap(), policy, NEITHER);
        let mut asked = Vec::new();
        loop {
            step = match step {
                Step::Done(Ok(route)) => {
                    let RouteTarget::Hosts(hosts, _) = route.target else { panic!() };
                    let show = |host: &MailHost| format!("{} {}", host.name, host.security);
                    return Ok(hosts.iter().map(show).collect());
                }
                Step::Done(Err(Unroutable(verdict))) => {
                    assert_eq!(verdict.result, Result3::Deferred);
                    return Err(verdict.enhanced);
                }
                Step::Ask(queries) => {
                    asked.extend(queries);
                    Step::Wait
                }
                Step::Wait => {
                    let query = asked.remove(0);
                    let (result, secure) = match &query {
                        Query::Mx(_) => (mx(&[(1, "a.test"), (2, "b.test")]), signed.0),
                        Query::Addresses(_) => (a("192.0.2.1"), signed.1),
                        Query::Tlsa(name) => {
                            let host = name.strip_prefix("_25._tcp.").unwrap();
                            let (_, result, secure) = tlsa.iter().find(|(known, ..)| *known == host).unwrap();
                            (result.clone(), *secure)
                        }
                        other => panic!("{other:?}"),
                    };
                    resolution.on_answer(&query, Heard { result, secure }, &us()).unwrap()
                }
            };
        }
    }

    #[test]
    fn tlsa_records_count_only_where_dnssec_vouches_for_all() {
        let good = || Ok(Records::Tlsa(vec![(3, 1, 1, vec![7; 32])]));
        let useless = || Ok(Records::Tlsa(vec![(1, 1, 1, vec![7; 32])]));
        let no = |error| (Err(error), true);
        let show = |a: &str, b: &str| Ok(vec![format!("a.test {a}"), format!("b.test {b}")]);
        let both = |of_a: (Answer, bool), of_b: (Answer, bool)| {
            [("a.test", of_a.0, of_a.1), ("b.test", of_b.0, of_b.1)]
        };
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

    /// What the report of the domain would say without any session, and under which policies sessions are counted.
    fn counted(level: &str, sts: Answer, tlsa: Answer) -> (Vec<TlsResult>, Vec<PolicyKind>) {
        let policy = TlsPolicy::parse(level).unwrap();
        let (mut resolution, mut step) =
            Resolution::begin(&NextHop::parse("smtp:dst.test").unwrap(), policy, BOTH);
        let mut asked = Vec::new();
        loop {
            step = match step {
                Step::Done(result) => {
                    let results = resolution.take_faults().into_iter().map(|(_, why)| why.result).collect();
                    let hosts = match result.map(|route| route.target) {
                        Ok(RouteTarget::Hosts(hosts, _)) => hosts,
                        _ => Vec::new(),
                    };
                    let kinds = hosts.iter().filter_map(|host| Some(host.counted.as_ref()?.kind));
                    return (results, kinds.collect());
                }
                Step::Ask(queries) => {
                    asked.extend(queries);
                    Step::Wait
                }
                Step::Wait => {
                    let query = asked.remove(0);
                    let result = match &query {
                        Query::Mx(_) => mx(&[(1, "a.test")]),
                        Query::StsPolicy(_) => sts.clone(),
                        Query::Tlsa(_) => tlsa.clone(),
                        _ => a("192.0.2.1"),
                    };
                    resolution.on_answer(&query, Heard { result, secure: true }, &us()).unwrap()
                }
            };
        }
    }

    #[test]
    fn what_a_domain_publishes_wrongly_is_counted_for_its_report() {
        let none = || Err(DnsError::NoRecords);
        let fault = |fetched| Ok(Records::StsFault { fetched, why: "timeout".to_owned() });
        let policy = |mode, host: &str| {
            Ok(Records::StsPolicy { mode, mx: vec![host.to_owned()], max_age_s: 9, age_s: 0 })
        };
        let only = |result| vec![result];
        assert_eq!(counted("may", none(), none()), (vec![], vec![PolicyKind::NotFound]));
        assert_eq!(
            counted("may", fault(false), none()),
            (only(TlsResult::StsPolicyFetchError), vec![PolicyKind::NotFound])
        );
        assert_eq!(counted("may", fault(true), none()).0, only(TlsResult::StsPolicyInvalid));
        assert_eq!(
            counted("may", policy(StsMode::Testing, "a.test"), none()),
            (vec![], vec![PolicyKind::Sts])
        );
        // One that is only tested stops nothing.
        let unlisted = only(TlsResult::ValidationFailure);
        let tested = counted("may", policy(StsMode::Testing, "b.test"), none());
        assert_eq!(tested, (unlisted.clone(), vec![PolicyKind::Sts]));
        assert_eq!(counted("may", policy(StsMode::Enforce, "b.test"), none()), (unlisted, vec![]));
        let forged = counted("dane", none(), Err(DnsError::Bogus));
        assert_eq!(forged, (only(TlsResult::DnssecInvalid), vec![]));
        assert_eq!(counted("encrypt", none(), none()), (vec![], vec![]));
    }
}
