//! From a next hop to a route: which questions the resolver is asked, and what its answers mean (RFC 5321 5.1, RFC 7505).
//! Pure. Answers come from strangers: names and addresses in them are checked before use.

mod exchangers;
mod proofs;

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
use crate::smtp::ourselves::Ourselves;
use crate::smtp::route::{MailHost, Route, RouteTarget, is_unusable};
use crate::smtp::security::{Security, Sts, Tlsa, asks_for_sts, bare, requires_sts, security, that_count};
use crate::smtp::tally::failure;
use proofs::End;

/// Most addresses kept of one host.
const MAX_HOST_ADDRESSES: usize = 16;

/// What mail hears that a policy keeps from every host.
pub const BY_POLICY: EnhancedCode = EnhancedCode(4, 7, 5);
/// What is said of an answer of another kind.
const MISFIT: &str = "answer does not fit its question";

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
    /// As in [`Route::incomplete`].
    incomplete: bool,
    /// Nobody knows now what the domain asks for.
    sts_unclear: bool,
    /// As in [`Route::sts_missed`].
    sts_missed: bool,
    /// Its sessions are counted.
    counted: bool,
    /// Which of too many equal hosts are asked for.
    chance: u64,
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
    /// Its addresses could not be looked up now.
    unclear: bool,
    /// DNSSEC vouches for its addresses.
    secure: bool,
    tlsa: Tlsa,
    /// Where its name leads, if that is another.
    end: Option<End>,
}

impl Candidate {
    fn new(preference: u16, name: &str, addresses: Vec<IpAddr>) -> Self {
        let security = Rc::new(Security::Clear);
        let host = MailHost { preference, name: name.into(), addresses, security, counted: None };
        Candidate { host, unclear: false, secure: false, tlsa: Tlsa::None, end: None }
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
    /// `chance` decides which of too many equal hosts count.
    pub fn begin(next_hop: &NextHop, policy: TlsPolicy, besides: Besides, chance: u64) -> (Self, Step) {
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
        let mut resolution =
            Resolution { host, port, protocol, mx, counted, chance, ..Self::nothing(policy) };
        let step = match resolution.host.as_literal() {
            Some(address) => {
                resolution.hosts = vec![Candidate::new(0, "", vec![address])];
                Step::Done(resolution.route())
            }
            None if mx => {
                let mut queries = vec![Query::Mx(resolution.host.to_string())];
                if mta_sts && asks_for_sts(&resolution.policy) || requires_sts(&resolution.policy) {
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
            incomplete: false,
            sts_unclear: false,
            sts_missed: false,
            counted: false,
            chance: 0,
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
                Ok(self.on_mx(records, us))
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
            (Query::Addresses(name), Err(error)) => {
                if let Some(found) = self.hosts.iter_mut().find(|found| *found.host.name == **name) {
                    found.unclear = matches!(error, DnsError::Temporary | DnsError::Bogus);
                }
                Ok(self.go_on(us))
            }
            (Query::StsPolicy(_), result) => self.on_sts(result).map(|()| self.go_on(us)),
            (Query::Tlsa(name), Ok(Records::Tlsa(records))) => {
                // Records that anybody can have written ask for nothing (RFC 7672 2.1.1).
                let found = if secure { Tlsa::of_records(&records) } else { Tlsa::None };
                self.on_tlsa(name, &found);
                Ok(self.go_on(us))
            }
            (Query::Tlsa(name), Err(error)) => {
                let is_absent = matches!(error, DnsError::NoSuchName | DnsError::NoRecords);
                let forged = error == DnsError::Bogus;
                self.on_tlsa(name, &if is_absent { Tlsa::None } else { Tlsa::Unclear { forged } });
                Ok(self.go_on(us))
            }
            (Query::Canonical(host), result) => {
                let step = self.on_canonical(host, Heard { result, secure })?;
                Ok(step.unwrap_or_else(|| self.go_on(us)))
            }
            _ => Err(MISFIT),
        }
    }

    fn on_sts(&mut self, result: Result<Records, DnsError>) -> Result<(), &'static str> {
        match result {
            Ok(Records::StsPolicy { mode, mx, max_age_s, .. }) => {
                let enforce = mode == StsMode::Enforce;
                let counts = enforce || mode == StsMode::Testing && self.counted;
                self.sts = counts.then_some(Sts { mx, enforce, max_age_s });
            }
            // As good as none, but the domain will want to know.
            Ok(Records::StsFault { fetched, why }) => {
                self.sts_missed = !fetched;
                let result =
                    if fetched { TlsResult::StsPolicyInvalid } else { TlsResult::StsPolicyFetchError };
                let found = Rc::new(counted::of_domain(PolicyKind::Sts, &self.host));
                self.note(found, failure(result, "", (None, None), &why));
            }
            // It may ask for proof, and the next answer comes from memory.
            Err(DnsError::Temporary | DnsError::Bogus) => self.sts_unclear = true,
            // Without a policy the domain asks for nothing (RFC 8461 3.1).
            Err(_) => {}
            Ok(_) => return Err(MISFIT),
        }
        Ok(())
    }

    /// When nothing is open any more: from addresses to proofs, and from there to the end.
    fn go_on(&mut self, us: &Ourselves) -> Step {
        match (self.open.is_empty(), self.located) {
            (true, false) => self.on_located(us),
            (true, true) => Step::Done(self.route()),
            _ => Step::Wait,
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
            return Err(Unroutable(Verdict::deferred(BY_POLICY, why)));
        }
        let (mut hosts, mut why) = (Vec::new(), String::new());
        for mut candidate in std::mem::take(&mut self.hosts) {
            let (tlsa, mut host) = (candidate.take_tlsa(), candidate.host);
            let name = if host.name.is_empty() { bare(&self.host) } else { host.name.clone() };
            host.counted = self.count(&name, &tlsa);
            match security(&self.policy, &self.host, &name, &tlsa, self.sts.as_ref()) {
                Ok(security) => {
                    host.security = security;
                    hosts.push(host);
                }
                Err(reason) => {
                    self.incomplete = true;
                    why = reason;
                }
            }
        }
        if hosts.is_empty() {
            return Err(Unroutable(Verdict::deferred(BY_POLICY, why)));
        }
        let target = RouteTarget::Hosts(hosts, self.port);
        let (sts_missed, incomplete) = (self.sts_missed, self.incomplete);
        Ok(Route { sts_missed, incomplete, ..Route::new(self.protocol, target) })
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
        let mut found = None;
        let that_count = that_count(&self.policy, tlsa, sts);
        // Records that do not count are wrong all the same.
        let useless = Some(tlsa).filter(|tlsa| *tlsa != that_count).map(|tlsa| (tlsa, None));
        for (tlsa, sts) in useless.into_iter().chain([(that_count, sts)]) {
            let policy = counted::policy_found(&self.policy, &self.host, host, tlsa, sts).map(Rc::new)?;
            let fault = counted::fault(&self.policy, &policy, host, tlsa, sts);
            if let Some((result, why)) = fault {
                self.faults.push((Rc::clone(&policy), failure(result, host, (None, None), why)));
            }
            found = Some(policy);
        }
        found
    }

    fn note(&mut self, found: Rc<PolicyFound>, failure: SessionFailure) {
        if self.counted {
            self.faults.push((found, failure));
        }
    }
}

fn fail(enhanced: EnhancedCode, text: String) -> Step {
    Step::Done(Err(Unroutable(Verdict::failed(enhanced, text))))
}

#[cfg(test)]
mod tests;
