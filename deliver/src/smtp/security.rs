//! How much TLS a server needs before it gets a message, from the policy of the *next hop* and what is known of the
//! server. Pure. Two next hops that share a server and not their needs do not share connections.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use vsmtp_config::{DeliverTls, TlsDestination, TlsLevel, TlsName, TlsPolicy};
use vsmtp_mail::{Domain, NextHop};
use vsmtp_smtp::UseTls;
use vsmtp_tls::client::{
    Association, CertificateName, Client, ClientSession, MAX_ASSOCIATIONS, Proof, Secured, TlsFailure,
};

/// The port of SMTP over TLS (RFC 8314 3.3).
const SMTPS_PORT: u16 = 465;

/// What a connection to one server needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Security {
    /// No TLS.
    Clear,
    /// No TLS, because a handshake with this server failed under a policy that can do without. Not [`Security::Clear`]:
    /// there nobody has tried.
    ClearAfterFailure,
    /// TLS if the server offers it.
    IfOffered {
        /// Name for the server (SNI).
        name: Box<str>,
        /// What it would have to prove if its domain did not only test its policy; a failure is counted and stops nothing.
        test: Option<Proof>,
    },
    /// TLS, or no message.
    Always {
        /// Name for the server (SNI).
        name: Box<str>,
        /// What the server must prove.
        proof: Proof,
        /// From the first octet on.
        wrapper: bool,
        /// The next hop as which we have an account there. It makes connections of its own.
        account: Option<NextHop>,
    },
}

impl Security {
    /// When the dialogue is to begin TLS.
    pub fn use_tls(&self) -> UseTls {
        match self {
            Security::Clear | Security::ClearAfterFailure => UseTls::Never,
            Security::IfOffered { .. } => UseTls::IfOffered,
            Security::Always { wrapper: false, .. } => UseTls::Always,
            Security::Always { wrapper: true, .. } => UseTls::FromStart,
        }
    }

    /// A session that asks for the proof. `None` if there is to be no TLS.
    ///
    /// # Errors
    /// The name of the server is none that TLS can use.
    pub fn session(&self, tls: &Client) -> Option<Result<ClientSession, TlsFailure>> {
        match self {
            Security::Clear | Security::ClearAfterFailure => None,
            Security::IfOffered { name, test: None } => Some(tls.session(&Proof::Nothing, name)),
            Security::IfOffered { name, test: Some(proof) } => Some(tls.trial(proof, name)),
            Security::Always { name, proof, .. } => Some(tls.session(proof, name)),
        }
    }

    /// The next hop as which we have an account there.
    pub fn account(&self) -> Option<&NextHop> {
        match self {
            Security::Always { account, .. } => account.as_ref(),
            Security::Clear | Security::ClearAfterFailure | Security::IfOffered { .. } => None,
        }
    }

    /// What a new connection to the same server needs after a handshake has failed; `None` if the policy wants TLS.
    pub fn after_failure(&self) -> Option<Security> {
        matches!(self, Security::IfOffered { .. }).then_some(Security::ClearAfterFailure)
    }

    /// True if a connection that was made for the needs `made_for` serves these.
    pub fn is_met_by(&self, made_for: &Security) -> bool {
        self == made_for || self.after_failure().as_ref() == Some(made_for)
    }

    /// True if a finished handshake has proved who the server is.
    pub fn is_proof(&self) -> bool {
        matches!(self, Security::Always { proof, .. } if *proof != Proof::Nothing)
    }

    /// How the log calls what a finished handshake has shown.
    fn reached(&self) -> &'static str {
        match self {
            Security::Clear | Security::ClearAfterFailure => "none",
            Security::IfOffered { .. } | Security::Always { proof: Proof::Nothing, .. } => "encrypted",
            Security::Always { proof: Proof::Authority(_), .. } => "verified",
            Security::Always { proof: Proof::Fingerprint(_), .. } => "fingerprint",
            Security::Always { proof: Proof::Dane(..), .. } => "dane",
        }
    }

    /// Words for the log: `none`, or what was reached and agreed on.
    pub fn describe(&self, secured: Option<&Secured>) -> String {
        match secured {
            None => "none".to_owned(),
            Some(Secured { protocol, cipher }) => format!("{} {protocol} {cipher}", self.reached()),
        }
    }
}

/// What is known of the TLSA records of a server (RFC 7672 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tlsa {
    /// There are none, or nobody vouches for those that there are.
    None,
    /// There are, and mail can use none of them: TLS is a must, and nothing can be proved.
    Unusable,
    /// At least one, and the name that they belong to where that is not the one that the MX record has.
    Usable(Vec<Association>, Option<Box<str>>),
    /// They cannot be looked up now: such a server gets nothing.
    Unclear {
        /// Because DNSSEC says that the answer is forged.
        forged: bool,
    },
}

impl Tlsa {
    /// Sorts records that DNSSEC vouches for: usage, selector, matching type, data.
    pub fn of_records(records: &[(u8, u8, u8, Vec<u8>)]) -> Self {
        let usable = records.iter().filter_map(|(usage, selector, matching, data)| {
            Association::new(*usage, *selector, *matching, data)
        });
        let usable: Vec<Association> = usable.take(MAX_ASSOCIATIONS).collect();
        match (records.is_empty(), usable.is_empty()) {
            (true, _) => Tlsa::None,
            (false, true) => Tlsa::Unusable,
            (false, false) => Tlsa::Usable(usable, None),
        }
    }

    /// The same as records of the name where the aliases of a host's name end (RFC 7672 2.2.2).
    pub fn belonging_to(self, base: &str) -> Self {
        match self {
            Tlsa::Usable(records, _) => Tlsa::Usable(records, Some(base.into())),
            other => other,
        }
    }
}

/// What a mail domain says of its servers (RFC 8461).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sts {
    /// Hosts that may serve it: names, or `*.` and a domain for one label more.
    pub mx: Vec<String>,
    /// Mail is held to it; otherwise failures are only counted.
    pub enforce: bool,
    /// Seconds for which it counts.
    pub max_age_s: u32,
}

impl Sts {
    /// True if it lists the host (RFC 8461 4.1).
    pub fn lists(&self, host: &str) -> bool {
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            None => pattern.eq_ignore_ascii_case(host),
            Some(domain) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain)),
        })
    }
}

/// The policies of the configuration.
#[derive(Debug, Clone)]
pub struct Policies {
    usual: TlsPolicy,
    by_next_hop: HashMap<NextHop, TlsPolicy>,
    below: HashMap<Domain, TlsPolicy>,
}

impl Policies {
    /// Sorts what the slice says.
    pub fn new(slice: &DeliverTls) -> Self {
        let mut policies =
            Policies { usual: (*slice.level).clone(), by_next_hop: HashMap::new(), below: HashMap::new() };
        for (destination, policy) in &slice.policies {
            match &**destination {
                TlsDestination::NextHop(next_hop) => {
                    policies.by_next_hop.insert(next_hop.clone(), (**policy).clone());
                }
                TlsDestination::Below(domain) => {
                    policies.below.insert(domain.clone(), (**policy).clone());
                }
            }
        }
        policies
    }

    /// The policy of a next hop: its own, that of the nearest domain above it, the usual one. LMTP servers, which are
    /// near, have only their own.
    pub fn of(&self, next_hop: &NextHop) -> TlsPolicy {
        let mut policy = self.named(next_hop).unwrap_or_else(|| self.unnamed(next_hop)).clone();
        if matches!(next_hop, NextHop::Smtp { mx: false, .. }) && requires_sts(&policy) {
            // A server that the operator has named has no policy of MTA-STS: its mail would wait for ever. What such a policy
            // would say of it is that it has a certificate for its name.
            policy.level = TlsLevel::Verify(vec![TlsName::NextHop]);
        }
        if matches!(next_hop, NextHop::Smtp { port: SMTPS_PORT, .. }) && policy.level != TlsLevel::None {
            policy.wrapper = true;
            if policy.level == TlsLevel::May {
                policy.level = TlsLevel::Encrypt;
            }
        }
        policy
    }

    fn named(&self, next_hop: &NextHop) -> Option<&TlsPolicy> {
        self.by_next_hop.get(next_hop).or_else(|| {
            let NextHop::Smtp { host, .. } = next_hop else { return None };
            parents(host).find_map(|parent| self.below.get(&parent))
        })
    }

    fn unnamed(&self, next_hop: &NextHop) -> &TlsPolicy {
        const NONE: TlsPolicy = TlsPolicy { level: TlsLevel::None, wrapper: false, no_sts: false };
        if matches!(next_hop, NextHop::Smtp { .. }) { &self.usual } else { &NONE }
    }
}

/// A policy strong enough for a server that is to learn a password: it must prove itself, unless the operator has said
/// that encryption is enough.
pub fn for_account(mut policy: TlsPolicy, unverified: bool) -> TlsPolicy {
    policy.level = match policy.level {
        TlsLevel::None | TlsLevel::May | TlsLevel::Encrypt | TlsLevel::Dane if unverified => {
            TlsLevel::Encrypt
        }
        TlsLevel::None | TlsLevel::May | TlsLevel::Encrypt | TlsLevel::Dane => {
            TlsLevel::Verify(vec![TlsName::NextHop, TlsName::BelowNextHop])
        }
        strong => strong,
    };
    policy
}

/// The policy without what it lets the domain itself ask for, for mail whose sender waives that.
pub fn lenient(mut policy: TlsPolicy) -> TlsPolicy {
    if policy.level == TlsLevel::Dane {
        policy.level = TlsLevel::May;
    }
    policy
}

/// The same needs on connections of its own, for a next hop at which we have an account.
pub fn with_account(security: &Rc<Security>, next_hop: &NextHop) -> Rc<Security> {
    match &**security {
        Security::Always { name, proof, wrapper, .. } => Rc::new(Security::Always {
            name: name.clone(),
            proof: proof.clone(),
            wrapper: *wrapper,
            account: Some(next_hop.clone()),
        }),
        Security::Clear | Security::ClearAfterFailure | Security::IfOffered { .. } => Rc::clone(security),
    }
}

/// The domains above one, the nearest first.
fn parents(domain: &Domain) -> impl Iterator<Item = Domain> {
    let text = domain.as_str();
    text.match_indices('.').filter_map(|(dot, _)| Domain::parse(text.get(dot + 1..)?).ok())
}

/// True if the domain's own policy counts, if it has one.
pub fn asks_for_sts(policy: &TlsPolicy) -> bool {
    matches!(policy.level, TlsLevel::May | TlsLevel::Dane) && !policy.no_sts
}

/// True if the operator wants the domain to have a policy of its own, whatever else is configured.
pub fn requires_sts(policy: &TlsPolicy) -> bool {
    policy.level == TlsLevel::Sts
}

/// True if a policy asks for TLSA records.
pub fn asks_for_tlsa(policy: &TlsPolicy) -> bool {
    matches!(policy.level, TlsLevel::Dane | TlsLevel::DaneOnly)
}

/// The TLSA records that decide. Where none can be used they give no DANE that would come before the domain's own policy
/// (RFC 8461 2): if that is enforced it holds, and asks for more than the mere TLS that such records do.
pub fn that_count<'a>(policy: &TlsPolicy, tlsa: &'a Tlsa, sts: Option<&Sts>) -> &'a Tlsa {
    match tlsa {
        Tlsa::Unusable if policy.level == TlsLevel::Dane && sts.is_some_and(|sts| sts.enforce) => &Tlsa::None,
        tlsa => tlsa,
    }
}

/// What a server of a next hop needs. `host` is the name of the server, or its address if it has none.
///
/// # Errors
/// It gets no mail for this next hop; says why.
pub fn security(
    policy: &TlsPolicy,
    next_hop: &Domain,
    host: &str,
    tlsa: &Tlsa,
    sts: Option<&Sts>,
) -> Result<Rc<Security>, String> {
    let wrapper = policy.wrapper;
    let always = |proof| Security::Always { name: host.into(), proof, wrapper, account: None };
    let own_name = || Proof::Authority(vec![CertificateName::Exact(host.into())]);
    let if_offered = || match sts {
        Some(sts) if sts.enforce && sts.lists(host) => Ok(always(own_name())),
        Some(sts) if sts.enforce => Err(format!("the MTA-STS policy of {next_hop} does not list {host}")),
        // A server that begins with TLS never asks for it.
        _ if wrapper => Ok(always(Proof::Nothing)),
        tested => {
            let test = tested.filter(|sts| sts.lists(host)).map(|_| own_name());
            Ok(Security::IfOffered { name: host.into(), test })
        }
    };
    Ok(Rc::new(match &policy.level {
        TlsLevel::None => Security::Clear,
        TlsLevel::May => if_offered()?,
        TlsLevel::Sts if sts.is_some_and(|sts| sts.enforce) => if_offered()?,
        TlsLevel::Sts => return Err(format!("{next_hop} has no MTA-STS policy that is enforced")),
        TlsLevel::Encrypt => always(Proof::Nothing),
        TlsLevel::Dane | TlsLevel::DaneOnly => match that_count(policy, tlsa, sts) {
            Tlsa::Usable(records, base) => {
                // The name that the records belong to is the one that is asked for (RFC 7672 8.1). For DANE-TA it counts,
                // and so do the host's own and the next hop (RFC 7672 3.2.2).
                let base = base.as_deref().unwrap_or(host);
                let mut names = vec![base.into(), bare(next_hop)];
                if base != host {
                    names.push(host.into());
                }
                let names = names.into_iter().map(CertificateName::Exact).collect();
                let proof = Proof::Dane(records.clone(), names);
                Security::Always { name: base.into(), proof, wrapper, account: None }
            }
            Tlsa::Unusable if policy.level == TlsLevel::DaneOnly => {
                return Err(format!("{host} has no TLSA records that mail can use"));
            }
            Tlsa::Unusable => always(Proof::Nothing),
            Tlsa::Unclear { .. } => return Err(format!("TLSA records of {host} cannot be looked up now")),
            Tlsa::None if policy.level == TlsLevel::DaneOnly => {
                return Err(format!("{host} has no TLSA records that DNSSEC vouches for"));
            }
            Tlsa::None => if_offered()?,
        },
        TlsLevel::Fingerprint(prints) => always(Proof::Fingerprint(prints.clone())),
        TlsLevel::Verify(names) => {
            let names = names.iter().map(|name| certificate_name(name, next_hop, host)).collect();
            always(Proof::Authority(names))
        }
    }))
}

fn certificate_name(name: &TlsName, next_hop: &Domain, host: &str) -> CertificateName {
    match name {
        TlsName::HostName => CertificateName::Exact(host.into()),
        TlsName::NextHop => CertificateName::Exact(bare(next_hop)),
        TlsName::BelowNextHop => CertificateName::Below(bare(next_hop)),
        TlsName::Exact(domain) => CertificateName::Exact(domain.as_str().into()),
        TlsName::Below(domain) => CertificateName::Below(domain.as_str().into()),
    }
}

/// A name, or an address without brackets.
pub fn bare(domain: &Domain) -> Box<str> {
    domain.as_literal().map_or_else(|| domain.as_str().into(), |address| address.to_string().into())
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reached())
    }
}

#[cfg(test)]
mod tests;
