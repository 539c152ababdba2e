//! TLS sessions by day and mail domain, as deliver has counted them. Pure and bounded: what is too much is left out, for
//! a report is a courtesy.

use std::collections::{BTreeMap, BTreeSet};

use vsmtp_ipc::edge::queue_deliver::{
    MAX_POLICY_LINES, MAX_REPORT_URIS, MAX_TLS_SESSIONS, PolicyFound, SessionFailure, TlsSessions,
};
use vsmtp_ipc::wire::{MAX_TEXT, WireError};
use vsmtp_mail::Domain;

/// A day, in milliseconds.
pub const DAY_MS: u64 = 86_400_000;
/// Reports leave at any time within so long after the hour from which on they are due, each domain's always at the same
/// (RFC 8460 4.1), so that not all the world reports at once.
const SPREAD_MS: u64 = 2 * 3_600_000;
/// Counts that could not be reported for so many days are dropped.
const KEEP_DAYS: u64 = 7;
/// Most domains and days that are counted.
const MAX_DOMAINS: usize = 10_000;
/// Most policies of one domain and day.
pub const MAX_POLICIES: usize = 32;
/// Most different failures under one policy; the rest is only counted.
pub const MAX_FAILURES: usize = 100;

/// What was counted for one domain on one day.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sheet {
    /// Where the domain wants its report.
    pub rua: Vec<String>,
    /// By policy.
    pub policies: Vec<OfPolicy>,
}

/// What was counted under one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfPolicy {
    /// Which.
    pub found: PolicyFound,
    /// Sessions that did what it asks for.
    pub good: u64,
    /// Sessions that did not.
    pub bad: u64,
    /// Why they did not, and how many for each reason.
    pub failures: Vec<(SessionFailure, u64)>,
}

/// All counts.
#[derive(Debug, Default)]
pub struct Tally {
    sheets: BTreeMap<(u64, String), Sheet>,
    /// When each is due, the hour of the configuration left out.
    due: BTreeSet<(u64, u64, String)>,
}

impl Tally {
    /// Adds what deliver has counted, on that day since 1970.
    pub fn add(&mut self, day: u64, sessions: &TlsSessions) {
        let key = (day, sessions.domain.clone());
        if !self.sheets.contains_key(&key) {
            self.drop_old(day);
            if self.sheets.len() >= MAX_DOMAINS {
                return;
            }
        }
        let sheet = self.sheets.entry(key).or_default();
        // The last word of the domain counts.
        sheet.rua.clone_from(&sessions.rua);
        sheet.add(sessions);
        self.due.insert(due(day, &sessions.domain));
    }

    /// Puts back what was read from a file.
    pub fn restore(&mut self, day: u64, domain: String, sheet: Sheet) {
        if self.sheets.len() < MAX_DOMAINS {
            self.due.insert(due(day, &domain));
            self.sheets.insert((day, domain), sheet);
        }
    }

    /// When the first report is due, in milliseconds since 1970, if they begin at that hour.
    pub fn next_ms(&self, hour: u32) -> Option<u64> {
        self.due.first().map(|(base_ms, ..)| base_ms + u64::from(hour) * 3_600_000)
    }

    /// Takes the first sheet that is due: day, domain, counts.
    pub fn take_due(&mut self, now_ms: u64, hour: u32) -> Option<(u64, String, Sheet)> {
        if self.next_ms(hour)? > now_ms {
            return None;
        }
        let (_, day, domain) = self.due.pop_first()?;
        let sheet = self.sheets.remove(&(day, domain.clone()))?;
        Some((day, domain, sheet))
    }

    /// All sheets: day, domain, counts.
    pub fn sheets(&self) -> impl Iterator<Item = (u64, &str, &Sheet)> {
        self.sheets.iter().map(|((day, domain), sheet)| (*day, domain.as_str(), sheet))
    }

    fn drop_old(&mut self, today: u64) {
        let oldest = today.saturating_sub(KEEP_DAYS);
        self.sheets.retain(|(day, _), _| *day >= oldest);
        self.due.retain(|(_, day, _)| *day >= oldest);
    }
}

impl Sheet {
    fn add(&mut self, sessions: &TlsSessions) {
        let known = self.policies.iter().position(|one| one.found == sessions.policy);
        let at = match known {
            Some(at) => at,
            None if self.policies.len() < MAX_POLICIES => {
                let found = sessions.policy.clone();
                self.policies.push(OfPolicy { found, good: 0, bad: 0, failures: Vec::new() });
                self.policies.len() - 1
            }
            None => return,
        };
        let Some(policy) = self.policies.get_mut(at) else { return };
        let count = u64::from(sessions.count);
        let Some(failure) = &sessions.failure else {
            policy.good = policy.good.saturating_add(count);
            return;
        };
        policy.bad = policy.bad.saturating_add(count);
        if let Some((_, total)) = policy.failures.iter_mut().find(|(known, _)| known == failure) {
            *total = total.saturating_add(count);
        } else if policy.failures.len() < MAX_FAILURES {
            policy.failures.push((failure.clone(), count));
        }
    }
}

/// Checks what deliver says; it quotes strangers.
pub fn check(all: &[TlsSessions]) -> Result<(), WireError> {
    if all.len() > MAX_TLS_SESSIONS || !all.iter().all(is_good) {
        return Err(WireError("TLS sessions"));
    }
    Ok(())
}

/// True if every text of it is bounded and harmless.
pub fn is_good(one: &TlsSessions) -> bool {
    let is_line = |text: &str| text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
    let are_lines = |list: &[String]| list.len() <= MAX_POLICY_LINES && list.iter().all(|text| is_line(text));
    let failure = one.failure.as_ref();
    Domain::parse(&one.domain).is_ok_and(|domain| domain.as_str() == one.domain)
        && !one.rua.is_empty()
        && one.rua.len() <= MAX_REPORT_URIS
        && one.rua.iter().all(|uri| is_line(uri))
        && is_line(&one.policy.domain)
        && are_lines(&one.policy.lines)
        && are_lines(&one.policy.mx)
        && failure.is_none_or(|failure| is_line(&failure.host) && is_line(&failure.reason))
}

fn due(day: u64, domain: &str) -> (u64, u64, String) {
    let spread = u64::from(crc32c::crc32c(domain.as_bytes())) % SPREAD_MS;
    ((day + 1) * DAY_MS + spread, day, domain.to_owned())
}

#[cfg(test)]
pub mod tests {
    use vsmtp_ipc::edge::queue_deliver::{PolicyKind, TlsResult};

    use super::*;

    /// Sessions of a domain with MTA-STS in mode testing.
    pub fn sessions(domain: &str, failure: Option<TlsResult>, count: u32) -> TlsSessions {
        TlsSessions {
            domain: domain.to_owned(),
            rua: vec![format!("mailto:reports@{domain}")],
            policy: PolicyFound {
                kind: PolicyKind::Sts,
                domain: domain.to_owned(),
                lines: vec!["version: STSv1".to_owned(), "mode: testing".to_owned()],
                mx: vec![format!("*.{domain}")],
            },
            failure: failure.map(|result| SessionFailure {
                result,
                local: Some([192, 0, 2, 1].into()),
                host: format!("mx.{domain}"),
                remote: Some([192, 0, 2, 25].into()),
                reason: "why".to_owned(),
            }),
            count,
        }
    }

    #[test]
    fn sessions_that_ended_alike_are_one_number() {
        let mut tally = Tally::default();
        for (failure, count) in [
            (None, 2),
            (Some(TlsResult::CertificateExpired), 1),
            (None, 3),
            (Some(TlsResult::CertificateExpired), 4),
        ] {
            tally.add(7, &sessions("a.test", failure, count));
        }
        tally.add(8, &sessions("a.test", None, 1));
        let all: Vec<_> =
            tally.sheets().map(|(day, domain, sheet)| (day, domain.to_owned(), sheet.clone())).collect();
        assert_eq!(all.len(), 2);
        let policy = &all[0].2.policies[0];
        assert_eq!((policy.good, policy.bad, policy.failures.len(), policy.failures[0].1), (5, 5, 1, 5));
    }

    #[test]
    fn a_day_is_due_when_it_is_over_and_the_hour_has_come() {
        let mut tally = Tally::default();
        tally.add(7, &sessions("a.test", None, 1));
        tally.add(7, &sessions("b.test", None, 1));
        let end = 8 * DAY_MS;
        let first = tally.next_ms(3).unwrap();
        assert!((end + 3 * 3_600_000..end + 5 * 3_600_000).contains(&first));
        assert!(tally.take_due(first - 1, 3).is_none());
        assert!(tally.take_due(first, 3).is_some_and(|(day, ..)| day == 7));
        assert!(tally.take_due(end + DAY_MS, 3).is_some() && tally.take_due(end + DAY_MS, 3).is_none());
        assert_eq!(tally.next_ms(3), None);
    }

    #[test]
    fn everything_is_bounded() {
        let mut tally = Tally::default();
        for n in 0..MAX_DOMAINS + 10 {
            tally.add(7, &sessions(&format!("{n}.test"), None, 1));
        }
        assert_eq!((tally.sheets.len(), tally.due.len()), (MAX_DOMAINS, MAX_DOMAINS));
        // What nobody could be told for a week makes room.
        tally.add(7 + KEEP_DAYS + 1, &sessions("new.test", None, 1));
        assert_eq!((tally.sheets.len(), tally.due.len()), (1, 1));
        let mut sheet = Sheet::default();
        for n in 0..MAX_FAILURES + 10 {
            let mut one = sessions("a.test", Some(TlsResult::ValidationFailure), 1);
            one.failure.as_mut().unwrap().reason = n.to_string();
            sheet.add(&one);
            one.policy.domain = n.to_string();
            sheet.add(&one);
        }
        assert_eq!(sheet.policies.len(), MAX_POLICIES);
        assert_eq!((sheet.policies[0].failures.len(), sheet.policies[0].bad), (MAX_FAILURES, 110));
    }

    #[test]
    fn what_deliver_says_is_checked() {
        let good = || sessions("a.test", Some(TlsResult::ValidationFailure), 1);
        assert!(check(&[good()]).is_ok() && check(&vec![good(); MAX_TLS_SESSIONS + 1]).is_err());
        let bad: [fn(&mut TlsSessions); 6] = [
            |s| s.domain = "a b".to_owned(),
            |s| s.rua.clear(),
            |s| s.rua[0] = "mailto:a\r\nBcc: b".to_owned(),
            |s| s.policy.lines = vec![String::new(); MAX_POLICY_LINES + 1],
            |s| s.policy.mx[0] = "x".repeat(MAX_TEXT + 1),
            |s| s.failure.as_mut().unwrap().reason = "\n".to_owned(),
        ];
        for (at, spoil) in bad.iter().enumerate() {
            let mut one = good();
            spoil(&mut one);
            assert!(check(&[one]).is_err(), "{at}");
        }
    }
}
