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
