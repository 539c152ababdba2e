//! One answer of two findings: the addresses of a host in both families. Pure.

use std::net::IpAddr;

use vsmtp_ipc::edge::client_resolver::{DnsError, MAX_RECORDS, Records};

use crate::finding::Finding;

/// What is known of a host; `None` for what is still being looked up.
#[derive(Clone, Copy)]
pub struct Addresses<'a> {
    /// Its IPv4 addresses.
    pub v4: Option<&'a Finding>,
    /// Its IPv6 addresses.
    pub v6: Option<&'a Finding>,
}

/// Addresses of either family are an answer; there are none only if both families are known to have none. Secure if
/// everything that counts is.
pub fn join(addresses: Addresses<'_>) -> (Result<Records, DnsError>, bool) {
    let both = [addresses.v4, addresses.v6];
    let settled = both.iter().flatten().filter(|finding| !is_failure(finding));
    let secure = settled.clone().count() > 0 && settled.clone().all(|finding| finding.secure);
    let mut found: Vec<IpAddr> = settled
        .filter_map(|finding| match &finding.result {
            Ok(Records::Addresses(addresses)) => Some(addresses),
            _ => None,
        })
        .flatten()
        .copied()
        .collect();
    if !found.is_empty() {
        found.truncate(MAX_RECORDS);
        return (Ok(Records::Addresses(found)), secure);
    }
    let errors = both.map(|finding| finding.map_or(DnsError::Temporary, error));
    let error = match errors {
        [DnsError::Bogus, _] | [_, DnsError::Bogus] => DnsError::Bogus,
        [DnsError::NoSuchName, DnsError::NoSuchName] => DnsError::NoSuchName,
        [DnsError::NoSuchName | DnsError::NoRecords, DnsError::NoSuchName | DnsError::NoRecords] => {
            DnsError::NoRecords
        }
        _ => DnsError::Temporary,
    };
    let is_known = matches!(error, DnsError::NoSuchName | DnsError::NoRecords);
    (Err(error), secure && is_known)
}

fn error(finding: &Finding) -> DnsError {
    finding.result.as_ref().err().copied().unwrap_or(DnsError::Temporary)
}

fn is_failure(finding: &Finding) -> bool {
    matches!(finding.result, Err(DnsError::Temporary | DnsError::Bogus | DnsError::BadName))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::MAX_KEEP;

    fn of(result: Result<&[&str], DnsError>, secure: bool) -> Finding {
        let addresses =
            |list: &[&str]| Records::Addresses(list.iter().map(|text| text.parse().unwrap()).collect());
        Finding { result: result.map(addresses), secure, keep: MAX_KEEP }
    }

    fn joined(v4: &Finding, v6: Option<&Finding>) -> (Result<Records, DnsError>, bool) {
        join(Addresses { v4: Some(v4), v6 })
    }

    #[test]
    fn one_family_is_enough_and_failures_of_the_other_do_not_count() {
        let four = of(Ok(&["192.0.2.1"]), true);
        let only = (four.result.clone(), true);
        for error in [DnsError::Temporary, DnsError::Bogus] {
            assert_eq!(joined(&four, Some(&of(Err(error), false))), only);
            assert_eq!(join(Addresses { v4: Some(&of(Err(error), false)), v6: Some(&four) }), only);
        }
        assert_eq!(joined(&four, None), only);
        assert_eq!(joined(&four, Some(&of(Err(DnsError::NoRecords), true))), only);
    }

    #[test]
    fn an_answer_is_as_secure_as_its_weaker_half() {
        let (four, six) = (of(Ok(&["192.0.2.1"]), true), of(Ok(&["2001:db8::1"]), false));
        let (result, secure) = joined(&four, Some(&six));
        assert_eq!((result, secure), (of(Ok(&["192.0.2.1", "2001:db8::1"]), false).result, false));
        assert!(!joined(&four, Some(&of(Err(DnsError::NoRecords), false))).1);
    }

    #[test]
    fn absence_must_be_known_of_both() {
        use DnsError::{Bogus, NoRecords, NoSuchName, Temporary};
        for (v4, v6, expected, secure) in [
            (NoSuchName, NoSuchName, NoSuchName, true),
            (NoRecords, NoRecords, NoRecords, true),
            (NoSuchName, NoRecords, NoRecords, true),
            (NoSuchName, Temporary, Temporary, false),
            (Temporary, NoRecords, Temporary, false),
            (NoRecords, Bogus, Bogus, false),
            (Temporary, Temporary, Temporary, false),
        ] {
            assert_eq!(joined(&of(Err(v4), true), Some(&of(Err(v6), true))), (Err(expected), secure));
        }
        assert_eq!(joined(&of(Err(NoSuchName), true), None), (Err(Temporary), false));
    }
}
