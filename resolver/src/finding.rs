//! What one look-up brought, and what it is looked up by. Knows nothing of clients or servers.

use std::time::Duration;

use hickory_resolver::proto::rr::{Name, RecordType};
use vsmtp_ipc::edge::client_resolver::{DnsError, Records};

/// Longest time for which anything is remembered.
pub const MAX_KEEP: Duration = Duration::from_secs(3600);
/// How long a failure is remembered, so that a dead domain is not asked about without pause (RFC 9520 3.2).
pub const FAILURE_KEEP: Duration = Duration::from_secs(5);

/// Which records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Mail exchangers.
    Mx,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Names of an address.
    Ptr,
    /// Texts.
    Txt,
    /// Certificate associations.
    Tlsa,
    /// The name at the end of aliases.
    Canonical,
    /// The MTA-STS policy of a domain.
    StsPolicy,
}

impl Kind {
    /// Its number in the DNS.
    pub fn record_type(self) -> RecordType {
        match self {
            Kind::Mx => RecordType::MX,
            // Aliases are followed whatever is asked for, and servers have the addresses of hosts at hand.
            Kind::A | Kind::Canonical => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Ptr => RecordType::PTR,
            // A policy is announced by a text.
            Kind::Txt | Kind::StsPolicy => RecordType::TXT,
            Kind::Tlsa => RecordType::TLSA,
        }
    }
}

/// What is looked up: one kind of records of one name. Names compare without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Fully qualified.
    pub name: Name,
    /// Which records.
    pub kind: Kind,
}

/// The end of a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The records, or why there are none.
    pub result: Result<Records, DnsError>,
    /// All servers' answers that led here were marked authentic by servers that are trusted.
    pub secure: bool,
    /// How long this may be remembered.
    pub keep: Duration,
}

impl Finding {
    /// A look-up that failed for now.
    pub fn failed(error: DnsError) -> Self {
        Finding { result: Err(error), secure: false, keep: FAILURE_KEEP }
    }

    /// A look-up that was not even made; nothing to remember.
    pub fn refused() -> Self {
        Finding { keep: Duration::ZERO, ..Finding::failed(DnsError::Temporary) }
    }

    /// Octets that it takes in memory, about.
    pub fn octets(&self) -> usize {
        let each = size_of::<String>();
        size_of::<Self>()
            + match &self.result {
                Ok(Records::Mx(hosts)) => hosts.iter().map(|(_, host)| each + host.len()).sum(),
                Ok(Records::Addresses(addresses)) => size_of_val(addresses.as_slice()),
                Ok(Records::Names(names)) => names.iter().map(|name| each + name.len()).sum(),
                Ok(Records::Text(texts)) => texts.iter().map(|text| each + text.len()).sum(),
                Ok(Records::Tlsa(associations)) => associations.iter().map(|tlsa| each + tlsa.3.len()).sum(),
                Ok(Records::StsPolicy { mx, .. }) => mx.iter().map(|host| each + host.len()).sum(),
                // Never remembered.
                Ok(Records::Spf(_) | Records::ClientName(_) | Records::Signature(_) | Records::Dmarc(_)) => 0,
                Ok(Records::StsFault { why, .. }) => why.len(),
                Ok(Records::Posted) => 0,
                Err(_) => 0,
            }
    }
}
