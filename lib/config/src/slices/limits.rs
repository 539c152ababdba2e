//! What the limiter is told.

use std::time::Duration;

use bincode::{Decode, Encode};

use crate::by_text::ByText;
use crate::config::Config;
use crate::dnsbl::DnsblSite;

/// What the limiter is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LimitsSlice {
    /// Most sessions of one client at once; `None` for no limit.
    pub connections: Option<u32>,
    /// Most connections of one client in a window.
    pub connection_rate: Option<u32>,
    /// Most messages.
    pub message_rate: Option<u32>,
    /// Most recipients.
    pub recipient_rate: Option<u32>,
    /// Most errors.
    pub error_rate: Option<u32>,
    /// Most TLS handshakes.
    pub tls_rate: Option<u32>,
    /// Most refused passwords.
    pub auth_failure_rate: Option<u32>,
    /// Length of a window.
    pub window: Duration,
    /// The share of a rate, in percent, from which on replies are delayed.
    pub soft_percent: u32,
    /// By how much.
    pub delay: Duration,
    /// Leading bits of an IPv4 address that make one client.
    pub prefix_v4: u8,
    /// The same for IPv6.
    pub prefix_v6: u8,
    /// Tests before the greeting.
    pub screen: ScreenSlice,
}

/// Tests before the greeting.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ScreenSlice {
    /// How long a client waits for its greeting.
    pub greet_wait: Duration,
    /// What becomes of one that does not.
    pub greet_action: ScreenAction,
    /// Lists that are asked.
    pub sites: Vec<ByText<DnsblSite>>,
    /// The score from which on a client is unwanted.
    pub threshold: u32,
    /// What becomes of it then.
    pub dnsbl_action: ScreenAction,
    /// Watch clients until their first RCPT.
    pub deep: bool,
    /// How long a client that passed is remembered.
    pub cache: Duration,
    /// The same for one that was watched.
    pub deep_cache: Duration,
}

/// What becomes of a client that failed a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ScreenAction {
    /// The log says so.
    Ignore,
    /// It is greeted, and each of its recipients is refused.
    Enforce,
    /// It is refused in place of the greeting.
    Drop,
}

impl ScreenAction {
    pub(crate) const WORDS: &'static [(&'static str, Self)] =
        &[("ignore", ScreenAction::Ignore), ("enforce", ScreenAction::Enforce), ("drop", ScreenAction::Drop)];
}

impl Config {
    /// What the limiter is told.
    pub fn limits(&self) -> LimitsSlice {
        let keys = &self.limits;
        LimitsSlice {
            connections: keys.connections,
            connection_rate: keys.connection_rate,
            message_rate: keys.message_rate,
            recipient_rate: keys.recipient_rate,
            error_rate: keys.error_rate,
            tls_rate: keys.tls_rate,
            auth_failure_rate: keys.auth_failure_rate,
            window: keys.window,
            soft_percent: keys.soft_percent,
            delay: keys.delay,
            prefix_v4: u8::try_from(keys.prefix_v4).unwrap_or(32),
            prefix_v6: u8::try_from(keys.prefix_v6).unwrap_or(64),
            screen: ScreenSlice {
                greet_wait: keys.greet_wait,
                greet_action: keys.greet_action,
                sites: keys.dnsbl_sites.iter().cloned().map(ByText::from).collect(),
                threshold: keys.dnsbl_threshold,
                dnsbl_action: keys.dnsbl_action,
                deep: keys.deep,
                cache: keys.cache,
                deep_cache: keys.deep_cache,
            },
        }
    }
}
