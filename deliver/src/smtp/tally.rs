//! What the daily reports of mail domains (RFC 8460) are to say of our sessions with their servers: counted here, and given
//! to the queue-manager with the next outcomes. Pure. Only domains that want reports are counted; what is too much is
//! dropped, for a report is a courtesy.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use vsmtp_ipc::edge::client_resolver::{DnsError, Records};
use vsmtp_ipc::edge::queue_deliver::{
    MAX_REPORT_URIS, MAX_TLS_SESSIONS, PolicyFound, SessionFailure, TlsResult, TlsSessions,
};
use vsmtp_mail::NextHop;
use vsmtp_tls::client::{TlsFailure, TlsFault};

use crate::smtp::way::Way;

/// Below this name a domain says where it wants reports (RFC 8460 3).
const PREFIX: &str = "_smtp._tls.";
/// How such a record begins.
const VERSION: &[u8] = b"v=TLSRPTv1;";
/// Longest place for reports, in octets.
const MAX_URI: usize = 512;
/// Most domains of which it is known whether they want reports.
const MAX_DOMAINS: usize = 4096;
/// Most different things that are counted and not given away.
const MAX_OPEN: usize = 1024;
/// Most octets of the reason of a failure.
const MAX_REASON: usize = 256;

/// The counts.
#[derive(Debug, Default)]
pub struct Tally {
    wanted: bool,
    /// Where domains want reports; `None` for those that want none.
    places: HashMap<Box<str>, Option<Rc<[String]>>>,
    open: HashMap<Counted, u32>,
}

/// One thing that is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Counted {
    domain: Box<str>,
    policy: Rc<PolicyFound>,
    failure: Option<SessionFailure>,
}

impl Tally {
    /// Counts, or does nothing at all.
    pub fn new(wanted: bool) -> Self {
        Tally { wanted, ..Tally::default() }
    }

    /// The name of the record that says whether a domain wants reports, if mail by this way is counted.
    pub fn question(&self, way: &Way) -> Option<String> {
        self.domain(way).map(|domain| format!("{PREFIX}{domain}"))
    }

    /// Takes the answer to it.
    pub fn on_record(&mut self, name: &str, found: &Result<Records, DnsError>) {
        let Some(domain) = name.strip_prefix(PREFIX) else { return };
        let places = match found {
            Ok(Records::Text(texts)) => places(texts),
            // What was known before still holds.
            Err(DnsError::Temporary | DnsError::Bogus) if self.places.contains_key(domain) => return,
            _ => None,
        };
        if self.places.len() >= MAX_DOMAINS && !self.places.contains_key(domain) {
            self.places.clear();
        }
        if places.is_none() {
            self.open.retain(|counted, _| *counted.domain != *domain);
        }
        self.places.insert(domain.into(), places);
    }

    /// Counts one session, or one server that could not even get one.
    pub fn note(&mut self, way: &Way, policy: &Rc<PolicyFound>, failure: Option<SessionFailure>) {
        let Some(domain) = self.domain(way) else { return };
        if matches!(self.places.get(domain), Some(None)) {
            return;
        }
        let counted = Counted { domain: domain.into(), policy: Rc::clone(policy), failure };
        if let Some(count) = self.open.get_mut(&counted) {
            *count = count.saturating_add(1);
        } else if self.open.len() < MAX_OPEN {
            self.open.insert(counted, 1);
        }
    }

    /// What can be given away now, at most so much as goes with one outcome.
    pub fn take(&mut self) -> Vec<TlsSessions> {
        if self.open.is_empty() {
            return Vec::new();
        }
        let is_known = |counted: &&Counted| matches!(self.places.get(&counted.domain), Some(Some(_)));
        let ready: Vec<Counted> = self.open.keys().filter(is_known).take(MAX_TLS_SESSIONS).cloned().collect();
        ready
            .into_iter()
            .filter_map(|counted| {
                let count = self.open.remove(&counted)?;
                let rua = self.places.get(&counted.domain)?.as_ref()?.to_vec();
                let Counted { domain, policy, failure } = counted;
                Some(TlsSessions { domain: domain.into(), rua, policy: (*policy).clone(), failure, count })
            })
            .collect()
    }

    /// The domain whose report a way counts for: mail that goes by its MX records, and is held to what it asks for.
    fn domain<'a>(&self, way: &'a Way) -> Option<&'a str> {
        match &way.next_hop {
            NextHop::Smtp { host, mx: true, .. }
                if self.wanted && !way.lenient && host.as_literal().is_none() =>
            {
                Some(host.as_str())
            }
            _ => None,
        }
    }
}

/// A failure of a session with that server.
pub fn failure(
    result: TlsResult,
    host: &str,
    (local, remote): (Option<IpAddr>, Option<IpAddr>),
    why: &str,
) -> SessionFailure {
    let mut reason: String = why.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    SessionFailure { result, local, host: host.to_owned(), remote, reason }
}

/// The words of RFC 8460 for a handshake that failed; `None` if it was our own doing.
pub fn result_of(failure: &TlsFailure) -> Option<TlsResult> {
    match failure.fault {
        TlsFault::NotTrusted => Some(TlsResult::CertificateNotTrusted),
        TlsFault::OtherName => Some(TlsResult::CertificateHostMismatch),
        TlsFault::Expired => Some(TlsResult::CertificateExpired),
        TlsFault::NoAssociation | TlsFault::Protocol | TlsFault::Lost => Some(TlsResult::ValidationFailure),
        TlsFault::Local => None,
    }
}

/// Where reports go by the one record there may be (RFC 8460 3).
fn places(texts: &[Vec<u8>]) -> Option<Rc<[String]>> {
    let mut records = texts.iter().filter(|text| text.starts_with(VERSION));
    let (Some(record), None) = (records.next(), records.next()) else { return None };
    let text = std::str::from_utf8(record).ok()?;
    let rua = text.split(';').find_map(|field| field.trim().strip_prefix("rua="))?;
    let is_good = |uri: &&str| {
        let known = ["mailto:", "https:"].iter().any(|scheme| uri.starts_with(scheme));
        known && uri.len() <= MAX_URI && uri.bytes().all(|octet| octet.is_ascii_graphic())
    };
    let places: Vec<String> =
        rua.split(',').map(str::trim).filter(is_good).take(MAX_REPORT_URIS).map(str::to_owned).collect();
    (!places.is_empty()).then(|| places.into())
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::edge::queue_deliver::PolicyKind;

    use super::*;

    fn way(next_hop: &str, lenient: bool) -> Way {
        Way { lenient, ..Way::to(NextHop::parse(next_hop).unwrap()) }
    }

    fn policy() -> Rc<PolicyFound> {
        let kind = PolicyKind::NotFound;
        Rc::new(PolicyFound { kind, domain: "dst.test".to_owned(), lines: Vec::new(), mx: Vec::new() })
    }

    fn record(text: &str) -> Result<Records, DnsError> {
        Ok(Records::Text(vec![text.as_bytes().to_vec()]))
    }

    #[test]
    fn only_domains_that_want_reports_are_counted() {
        let (mut tally, dst) = (Tally::new(true), way("smtp:dst.test", false));
        assert_eq!(tally.question(&dst).as_deref(), Some("_smtp._tls.dst.test"));
        let slow = || Some(failure(TlsResult::StartTlsNotSupported, "mx", (None, None), "a\nb"));
        for why in [None, slow(), None] {
            tally.note(&dst, &policy(), why);
        }
        // Nobody knows yet where to.
        assert!(tally.take().is_empty());
        tally.on_record("_smtp._tls.dst.test", &record("v=TLSRPTv1; rua=mailto:r@dst.test"));
        let mut taken = tally.take();
        taken.sort_by_key(|sessions| sessions.count);
        let short: Vec<_> = taken.iter().map(|s| (s.count, s.failure.is_some(), s.rua[0].as_str())).collect();
        assert_eq!(short, [(1, true, "mailto:r@dst.test"), (2, false, "mailto:r@dst.test")]);
        assert_eq!(taken[0].failure.as_ref().unwrap().reason, "a?b");
        assert!(tally.take().is_empty());
        // What is known outlives a name server that does not answer.
        tally.on_record("_smtp._tls.dst.test", &Err(DnsError::Temporary));
        tally.note(&dst, &policy(), None);
        assert_eq!(tally.take().len(), 1);
        tally.note(&dst, &policy(), None);
        tally.on_record("_smtp._tls.dst.test", &Err(DnsError::NoSuchName));
        tally.note(&dst, &policy(), None);
        assert!(tally.take().is_empty() && tally.open.is_empty());
    }

    #[test]
    fn mail_that_is_not_held_to_the_domains_wishes_is_not_counted() {
        let mut off = Tally::new(false);
        assert_eq!(off.question(&way("smtp:dst.test", false)), None);
        off.note(&way("smtp:dst.test", false), &policy(), None);
        assert!(off.open.is_empty());
        let on = Tally::new(true);
        for other in
            [way("smtp:dst.test", true), way("smtp:[mx.test]", false), way("lmtp:[mx.test]:24", false)]
        {
            assert_eq!(on.question(&other), None);
        }
    }

    #[test]
    fn the_number_of_things_is_bounded_and_they_leave_in_portions() {
        let (mut tally, dst) = (Tally::new(true), way("smtp:dst.test", false));
        for n in 0..MAX_OPEN + 9 {
            let why = failure(TlsResult::ValidationFailure, &n.to_string(), (None, None), "");
            tally.note(&dst, &policy(), Some(why));
        }
        tally.on_record("_smtp._tls.dst.test", &record("v=TLSRPTv1;rua=https://dst.test/r"));
        let mut seen = 0;
        loop {
            let taken = tally.take();
            assert!(taken.len() <= MAX_TLS_SESSIONS);
            if taken.is_empty() {
                break;
            }
            seen += taken.len();
        }
        assert_eq!(seen, MAX_OPEN);
        for n in 0..MAX_DOMAINS + 5 {
            tally.on_record(&format!("_smtp._tls.{n}.test"), &Err(DnsError::NoRecords));
        }
        assert!(tally.places.len() <= MAX_DOMAINS);
    }

    #[test]
    fn one_record_says_where_to() {
        let of = |texts: &[&str]| {
            let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
            places(&texts).map(|places| places.join(" "))
        };
        let good = "v=TLSRPTv1; rua=mailto:a@b.test, https://c.test/x ,ftp:d;";
        assert_eq!(of(&["other", good]).as_deref(), Some("mailto:a@b.test https://c.test/x"));
        for bad in
            [&["v=TLSRPTv1"][..], &["v=TLSRPTv1; rua=ftp:x"], &[good, good], &["x v=TLSRPTv1;rua=mailto:a@b"]]
        {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }
}
