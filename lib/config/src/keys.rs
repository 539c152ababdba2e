//! The table of keys, in groups; nothing else in the code may name a key, give a default or state a range.

mod auth;
mod delivery;
mod delivery_tls;
mod dns;
mod filter;
mod limits;
mod logs;
mod queue;
mod server;
mod smtp;
mod tls;

pub(crate) use auth::AuthKeys;
pub(crate) use delivery::DeliveryKeys;
pub(crate) use delivery_tls::DeliveryTlsKeys;
pub(crate) use dns::{DnsKeys, DnsType};
pub(crate) use filter::FilterKeys;
pub(crate) use limits::LimitsKeys;
pub(crate) use logs::{LogKeys, SyslogType, TargetChoice};
pub(crate) use queue::QueueKeys;
pub(crate) use server::ServerKeys;
pub(crate) use smtp::SmtpKeys;
pub(crate) use tls::TlsKeys;

use crate::table::Key;

/// The groups, in the order of the documentation.
pub(crate) const GROUPS: [(&str, &[Key]); 11] = [
    ("Server", ServerKeys::KEYS),
    ("SMTP sessions", SmtpKeys::KEYS),
    ("Limits and tests of clients", LimitsKeys::KEYS),
    ("Authentication", AuthKeys::KEYS),
    ("TLS", TlsKeys::KEYS),
    ("Rules", FilterKeys::KEYS),
    ("Delivery", DeliveryKeys::KEYS),
    ("TLS of deliveries", DeliveryTlsKeys::KEYS),
    ("Queue", QueueKeys::KEYS),
    ("DNS", DnsKeys::KEYS),
    ("Logs", LogKeys::KEYS),
];

/// Every key there is.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    GROUPS.into_iter().flat_map(|(_, keys)| keys)
}

/// The key of this name.
pub(crate) fn key(name: &str) -> Option<&'static Key> {
    keys().find(|key| key.name == name)
}
