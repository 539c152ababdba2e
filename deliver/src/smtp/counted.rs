//! Under which policy the sessions with a server are counted, and what is wrong with it before any session. Pure.

use vsmtp_config::{TlsLevel, TlsPolicy};
use vsmtp_ipc::edge::queue_deliver::{MAX_POLICY_LINES, PolicyFound, PolicyKind, TlsResult};
use vsmtp_ipc::wire::MAX_TEXT;
use vsmtp_mail::Domain;

use crate::smtp::security::{Sts, Tlsa};

/// The policy that a host of a mail domain is held to; `None` where the operator's word alone decides.
pub fn policy_found(
    policy: &TlsPolicy,
    domain: &Domain,
    host: &str,
    tlsa: &Tlsa,
    sts: Option<&Sts>,
) -> Option<PolicyFound> {
    let by_records = || match (&policy.level, tlsa) {
        (TlsLevel::Dane, Tlsa::None) => false,
        (level, _) => matches!(level, TlsLevel::Dane | TlsLevel::DaneOnly),
    };
    if !is_counted(policy) {
        return None;
    }
    if by_records() {
        let lines = match tlsa {
            // One that holds a whole certificate is longer than a line of a report needs to be, and is left out.
            Tlsa::Usable(records, _) => {
                let lines = records.iter().map(|record| record.to_text());
                lines.filter(|line| line.len() <= MAX_TEXT).take(MAX_POLICY_LINES).collect()
            }
            Tlsa::None | Tlsa::Unusable | Tlsa::Unclear { .. } => Vec::new(),
        };
        // Records are a host's, but it is the domain that reads of it.
        let mx = vec![host.to_owned()];
        return Some(PolicyFound { lines, mx, ..of_domain(PolicyKind::Tlsa, domain) });
    }
    Some(match sts {
        None => of_domain(PolicyKind::NotFound, domain),
        Some(sts) => {
            let mode = if sts.enforce { "enforce" } else { "testing" };
            let mx: Vec<String> = sts.mx.iter().take(MAX_POLICY_LINES - 3).cloned().collect();
            let mut lines = vec!["version: STSv1".to_owned(), format!("mode: {mode}")];
            lines.extend(mx.iter().map(|host| format!("mx: {host}")));
            lines.push(format!("max_age: {}", sts.max_age_s));
            PolicyFound { lines, mx, ..of_domain(PolicyKind::Sts, domain) }
        }
    })
}

/// True if sessions under this policy are counted: if what the domain asks for has a part in it.
pub fn is_counted(policy: &TlsPolicy) -> bool {
    matches!(policy.level, TlsLevel::May | TlsLevel::Dane | TlsLevel::DaneOnly | TlsLevel::Sts)
}

/// A policy of a domain of which nothing more is known.
pub fn of_domain(kind: PolicyKind, domain: &Domain) -> PolicyFound {
    PolicyFound { kind, domain: domain.to_string(), lines: Vec::new(), mx: Vec::new() }
}

/// What keeps a host from doing what the policy asks for, before anybody has talked to it.
pub fn fault(
    policy: &TlsPolicy,
    found: &PolicyFound,
    host: &str,
    tlsa: &Tlsa,
    sts: Option<&Sts>,
) -> Option<(TlsResult, &'static str)> {
    match (found.kind, tlsa) {
        (PolicyKind::Tlsa, Tlsa::Unusable) => Some((TlsResult::TlsaInvalid, "no record can be used")),
        (PolicyKind::Tlsa, Tlsa::Unclear { forged: true }) => {
            Some((TlsResult::DnssecInvalid, "TLSA records are bogus"))
        }
        (PolicyKind::Tlsa, Tlsa::None) if policy.level == TlsLevel::DaneOnly => {
            Some((TlsResult::DaneRequired, "no TLSA records that DNSSEC vouches for"))
        }
        (PolicyKind::Sts, _) if sts.is_some_and(|sts| !sts.lists(host)) => {
            Some((TlsResult::ValidationFailure, "the policy does not list this host"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sts(enforce: bool) -> Sts {
        Sts { mx: vec!["mx.dst.test".to_owned()], enforce, max_age_s: 86_400 }
    }

    fn found(level: &str, tlsa: &Tlsa, sts: Option<&Sts>) -> Option<(PolicyFound, Option<TlsResult>)> {
        let policy = TlsPolicy::parse(level).unwrap();
        let domain = Domain::parse("dst.test").unwrap();
        let found = policy_found(&policy, &domain, "mx.other.test", tlsa, sts)?;
        let fault = fault(&policy, &found, "mx.other.test", tlsa, sts).map(|(result, _)| result);
        Some((found, fault))
    }

    #[test]
    fn records_come_before_the_policy_of_the_domain_and_that_before_none() {
        let kind = |level: &str, tlsa: &Tlsa, sts: Option<&Sts>| {
            found(level, tlsa, sts).map(|(found, fault)| {
                assert_eq!(found.domain, "dst.test");
                assert_eq!(
                    found.mx.first().is_some_and(|host| host == "mx.other.test"),
                    found.kind == PolicyKind::Tlsa
                );
                (found.kind, fault)
            })
        };
        let usable = Tlsa::of_records(&[(3, 1, 1, vec![7; 32])]);
        let enforced = sts(true);
        let unlisted = Some(TlsResult::ValidationFailure);
        assert_eq!(kind("dane", &usable, Some(&enforced)), Some((PolicyKind::Tlsa, None)));
        assert_eq!(kind("dane", &Tlsa::None, Some(&enforced)), Some((PolicyKind::Sts, unlisted)));
        assert_eq!(kind("may", &Tlsa::None, None), Some((PolicyKind::NotFound, None)));
        for (tlsa, result) in [
            (Tlsa::Unusable, Some(TlsResult::TlsaInvalid)),
            (Tlsa::Unclear { forged: true }, Some(TlsResult::DnssecInvalid)),
            (Tlsa::Unclear { forged: false }, None),
        ] {
            assert_eq!(kind("dane", &tlsa, None), Some((PolicyKind::Tlsa, result)));
        }
        let required = Some(TlsResult::DaneRequired);
        assert_eq!(kind("dane-only", &Tlsa::None, None), Some((PolicyKind::Tlsa, required)));
        for own in ["none", "encrypt", "verify"] {
            assert_eq!(kind(own, &Tlsa::None, None), None, "{own}");
        }
    }

    #[test]
    fn policies_are_told_as_they_are_written() {
        let (policy, _) = found("may", &Tlsa::None, Some(&sts(false))).unwrap();
        assert_eq!(policy.lines, ["version: STSv1", "mode: testing", "mx: mx.dst.test", "max_age: 86400"]);
        let usable = Tlsa::of_records(&[(3, 0, 0, vec![1; MAX_TEXT]), (3, 1, 1, vec![0xab; 32])]);
        let (policy, _) = found("dane", &usable, None).unwrap();
        assert_eq!(policy.lines, [format!("3 1 1 {}", "AB".repeat(32))]);
    }
}
