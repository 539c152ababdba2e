//! `check_host()` (RFC 7208 4): the record of a domain, its mechanisms in order, and what the limits make of it.

use std::net::IpAddr;

use vsmtp_ipc::edge::client_resolver::{DnsError, Records, SpfQuestion, SpfResult, SpfVerdict};

use super::expand::{expand, expand_name, is_within, proven_names};
use super::macros::{Place, Template, parse};
use super::record::{Lengths, Mechanism, Qualifier, Record, is_record};
use crate::finding::Kind;
use crate::zone::{Judged, Zone, is_absent};

/// Terms that ask the DNS (4.6.4).
const MAX_TERMS: u32 = 10;
/// Look-ups that find nothing (4.6.4).
const MAX_VOID: u32 = 2;
/// Mail exchangers of one term (4.6.4).
const MAX_EXCHANGERS: usize = 10;
/// Longest explanation, in octets.
const MAX_EXPLANATION: usize = 500;
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 253;

/// Who wants to use which domain.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The host, an IPv4 address as such.
    pub client: IpAddr,
    /// What it said in HELO.
    pub helo: String,
    /// Local part of the sender; `postmaster` if it has none.
    pub local: String,
    /// The domain that is checked first.
    pub domain: String,
    /// Our name, for explanations.
    pub receiver: String,
    /// Seconds since 1970, for explanations.
    pub now_s: u64,
}

impl Subject {
    /// As the question has it: the sender, or the name of HELO if there is none (2.4).
    pub fn of(question: &SpfQuestion, now_s: u64) -> Self {
        let (local, domain) = match &question.sender {
            Some((local, domain)) => (local.as_str(), domain.as_str()),
            None => ("", question.helo.as_str()),
        };
        Subject {
            client: question.client.to_canonical(),
            helo: question.helo.clone(),
            local: if local.is_empty() { "postmaster" } else { local }.to_owned(),
            domain: domain.to_owned(),
            receiver: question.receiver.clone(),
            now_s,
        }
    }
}

/// The word about a subject.
///
/// # Errors
/// Something must be looked up first.
pub fn check(subject: &Subject, zone: &mut dyn Zone) -> Judged<SpfVerdict> {
    let Reached { verdict, explained_by } = reach(subject, zone)?;
    let explanation = match explained_by {
        Some((template, domain)) => explanation(&template, subject, &domain, zone)?,
        None => None,
    };
    Ok(SpfVerdict { explanation, ..verdict })
}

/// The same without the domain's explanation, which may be slow to come when all else is known.
///
/// # Errors
/// As of [`check`].
pub fn check_unexplained(subject: &Subject, zone: &mut dyn Zone) -> Judged<SpfVerdict> {
    reach(subject, zone).map(|reached| reached.verdict)
}

/// A verdict, and which text of which domain explains it.
struct Reached {
    verdict: SpfVerdict,
    explained_by: Option<(Template, String)>,
}

fn reach(subject: &Subject, zone: &mut dyn Zone) -> Judged<Reached> {
    let mut check = Check { subject, zone, terms: 0, void: 0, deepest: None };
    let ended = check.host(&subject.domain)?;
    let explained_by = check.deepest.filter(|_| matches!(ended, Ok((SpfResult::Fail, _))));
    let (result, by) = match ended {
        Ok((result, by)) => (result, by),
        Err(Stop::Temporary(about)) => (SpfResult::TempError, about),
        Err(Stop::Permanent(about)) => (SpfResult::PermError, about),
    };
    Ok(Reached { verdict: SpfVerdict { result, by, explanation: None }, explained_by })
}

/// What the domain has to say about a failure; `None` if there is nothing that can be shown.
fn explanation(
    template: &Template,
    subject: &Subject,
    domain: &str,
    zone: &mut dyn Zone,
) -> Judged<Option<String>> {
    let target = expand_name(template, subject, domain, zone)?;
    let Ok(texts) = zone.texts(&target)? else { return Ok(None) };
    let [text] = texts.as_slice() else { return Ok(None) };
    let text = std::str::from_utf8(text).ok().and_then(|text| parse(text, Place::Explanation));
    let Some(template) = text else { return Ok(None) };
    let mut text = expand(&template, subject, domain, zone)?;
    if !text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return Ok(None);
    }
    // Octets are characters by now: it can be cut anywhere.
    text.truncate(MAX_EXPLANATION);
    Ok(Some(text))
}

/// Why a check cannot go on.
enum Stop {
    Temporary(String),
    Permanent(String),
}

type Ended = Result<(SpfResult, String), Stop>;

/// Ends the check with what stopped it.
macro_rules! go_on {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(stop) => return Ok(Err(stop)),
        }
    };
}

struct Check<'a> {
    subject: &'a Subject,
    zone: &'a mut dyn Zone,
    terms: u32,
    void: u32,
    /// The explanation of the record that decided, and its domain.
    deepest: Option<(Template, String)>,
}

impl Check<'_> {
    fn host(&mut self, domain: &str) -> Judged<Ended> {
        if !is_domain(domain) {
            return Ok(Ok((SpfResult::None, "no domain to ask".to_owned())));
        }
        let record = match self.record(domain)? {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Ok((SpfResult::None, format!("{domain} has no record")))),
            Err(stop) => return Ok(Err(stop)),
        };
        self.evaluate(&record, domain)
    }

    fn record(&mut self, domain: &str) -> Judged<Result<Option<Record>, Stop>> {
        let texts = match self.zone.texts(domain)? {
            Ok(texts) => texts,
            Err(error) if is_absent(error) => return Ok(Ok(None)),
            Err(_) => return Ok(Err(Stop::Temporary(format!("{domain} cannot be looked up")))),
        };
        let mut records = texts.iter().filter(|text| is_record(text));
        Ok(match (records.next(), records.next()) {
            (None, _) => Ok(None),
            (Some(text), None) => match Record::parse(text) {
                Some(record) => Ok(Some(record)),
                None => Err(Stop::Permanent(format!("the record of {domain} cannot be read"))),
            },
            (Some(_), Some(_)) => Err(Stop::Permanent(format!("{domain} has several records"))),
        })
    }

    fn evaluate(&mut self, record: &Record, domain: &str) -> Judged<Ended> {
        for directive in &record.directives {
            if go_on!(self.matches(&directive.mechanism, domain)?) {
                self.deepest = record.explanation.clone().map(|template| (template, domain.to_owned()));
                return Ok(Ok((result_of(directive.qualifier), directive.text.clone())));
            }
        }
        let Some(redirect) = &record.redirect else {
            return Ok(Ok((SpfResult::Neutral, "nothing matches".to_owned())));
        };
        go_on!(self.term());
        let target = expand_name(redirect, self.subject, domain, self.zone)?;
        Ok(match self.host(&target)? {
            Ok((SpfResult::None, _)) => Err(Stop::Permanent(format!("redirect={target} has no record"))),
            ended => ended,
        })
    }

    /// Counts a term that asks the DNS.
    fn term(&mut self) -> Result<(), Stop> {
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(Stop::Permanent(format!("more than {MAX_TERMS} terms ask the DNS")));
        }
        Ok(())
    }

    /// Takes what the look-up of a term found; nothing found is counted, once for each term.
    fn took<T>(&mut self, about: &str, found: Result<Vec<T>, DnsError>) -> Result<Vec<T>, Stop> {
        match found {
            Err(DnsError::NoSuchName | DnsError::NoRecords) => {
                self.void += 1;
                match self.void > MAX_VOID {
                    true => Err(Stop::Permanent(format!("more than {MAX_VOID} look-ups find nothing"))),
                    false => Ok(Vec::new()),
                }
            }
            found => took_uncounted(about, found),
        }
    }

    fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Judged<Result<bool, Stop>> {
        match mechanism {
            Mechanism::All => return Ok(Ok(true)),
            Mechanism::Ip(network, bits) => return Ok(Ok(is_in(self.subject.client, *network, *bits))),
            _ => go_on!(self.term()),
        }
        match mechanism {
            Mechanism::Include(target) => {
                let target = expand_name(target, self.subject, domain, self.zone)?;
                self.include(&target)
            }
            Mechanism::A(target, lengths) => {
                let host = self.target(target.as_ref(), domain)?;
                self.has_address(&host, *lengths)
            }
            Mechanism::Mx(target, lengths) => {
                let host = self.target(target.as_ref(), domain)?;
                self.has_exchanger(&host, *lengths)
            }
            Mechanism::Ptr(target) => {
                let target = self.target(target.as_ref(), domain)?;
                self.has_name(&target)
            }
            Mechanism::Exists(target) => {
                let host = expand_name(target, self.subject, domain, self.zone)?;
                let found = self.zone.addresses(&host, IpAddr::from([0, 0, 0, 0]))?;
                Ok(self.took(&host, found).map(|found| !found.is_empty()))
            }
            Mechanism::All | Mechanism::Ip(..) => Ok(Ok(false)),
        }
    }

    fn target(&mut self, target: Option<&Template>, domain: &str) -> Judged<String> {
        target.map_or(Ok(domain.to_owned()), |target| expand_name(target, self.subject, domain, self.zone))
    }

    fn include(&mut self, target: &str) -> Judged<Result<bool, Stop>> {
        let before = self.deepest.take();
        let ended = self.host(target)?;
        // Explanations of an included record are not used (6.2).
        self.deepest = before;
        Ok(match ended {
            Ok((SpfResult::Pass, _)) => Ok(true),
            Ok((SpfResult::None, _)) => Err(Stop::Permanent(format!("include:{target} has no record"))),
            Ok(_) => Ok(false),
            Err(stop) => Err(stop),
        })
    }

    fn has_address(&mut self, host: &str, lengths: Lengths) -> Judged<Result<bool, Stop>> {
        let found = self.zone.addresses(host, self.subject.client)?;
        Ok(self.took(host, found).map(|found| self.is_among(&found, lengths)))
    }

    fn is_among(&self, found: &[IpAddr], lengths: Lengths) -> bool {
        let client = self.subject.client;
        let bits = if client.is_ipv4() { lengths.v4 } else { lengths.v6 };
        found.iter().any(|address| is_in(client, *address, bits))
    }

    fn has_exchanger(&mut self, host: &str, lengths: Lengths) -> Judged<Result<bool, Stop>> {
        let found = self.zone.at(host, Kind::Mx)?.map(|records| match records {
            Records::Mx(hosts) => hosts,
            _ => Vec::new(),
        });
        let hosts = go_on!(self.took(host, found));
        if hosts.len() > MAX_EXCHANGERS {
            let about = format!("{host} has more than {MAX_EXCHANGERS} mail exchangers");
            return Ok(Err(Stop::Permanent(about)));
        }
        // All are asked before the first that is missing ends this turn.
        for (_, host) in &hosts {
            let _ = self.zone.addresses(host, self.subject.client);
        }
        for (_, host) in hosts.iter().filter(|(_, host)| !host.is_empty()) {
            // Exchangers without addresses of the client's family are common: the term has found something, and a domain
            // is not to fail for hosts that have only the other family.
            let found = go_on!(took_uncounted(host, self.zone.addresses(host, self.subject.client)?));
            if self.is_among(&found, lengths) {
                return Ok(Ok(true));
            }
        }
        Ok(Ok(false))
    }

    fn has_name(&mut self, target: &str) -> Judged<Result<bool, Stop>> {
        let names = self.zone.names(self.subject.client)?;
        if let Err(error) = names {
            // Whatever goes wrong here, it is no match (5.5); but nothing found counts.
            return Ok(match is_absent(error) {
                true => self.took::<String>(target, Err(error)).map(|_| false),
                false => Ok(false),
            });
        }
        let names = proven_names(self.subject, self.zone)?.unwrap_or_default();
        Ok(Ok(names.iter().any(|name| is_within(name, target))))
    }
}

/// Takes what a look-up found; nothing found is nothing.
fn took_uncounted<T>(about: &str, found: Result<Vec<T>, DnsError>) -> Result<Vec<T>, Stop> {
    match found {
        Ok(found) => Ok(found),
        Err(error) if is_absent(error) => Ok(Vec::new()),
        Err(_) => Err(Stop::Temporary(format!("{about} cannot be looked up"))),
    }
}

fn result_of(qualifier: Qualifier) -> SpfResult {
    match qualifier {
        Qualifier::Pass => SpfResult::Pass,
        Qualifier::Fail => SpfResult::Fail,
        Qualifier::SoftFail => SpfResult::SoftFail,
        Qualifier::Neutral => SpfResult::Neutral,
    }
}

/// True if the first bits of both are the same.
fn is_in(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let shift = width.saturating_sub(bits.into());
        a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

/// A name of at least two labels that can be asked (4.3).
fn is_domain(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let labels = || name.split('.');
    let fits = labels().all(|label| (1..=MAX_LABEL).contains(&label.len()));
    fits && name.len() <= MAX_NAME && labels().count() > 1 && !name.starts_with('[')
}
