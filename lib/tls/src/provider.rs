//! The cryptography of all connections: aws-lc, and which of its suites and versions may be used. The one place where a
//! provider is chosen, so that no default of the process ever counts.

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The suites that may be used, by their IANA names and numbers, the preferred one first. All have forward secrecy and
/// authenticate what they encrypt. AES-128 comes before AES-256: it is as far out of reach, and SHA-256, which goes with it,
/// is what processors do by themselves.
pub const SUITES: [(&str, u16); 9] = [
    ("TLS_AES_128_GCM_SHA256", 0x1301),
    ("TLS_AES_256_GCM_SHA384", 0x1302),
    ("TLS_CHACHA20_POLY1305_SHA256", 0x1303),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02b),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 0xc02c),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca9),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xc02f),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 0xc030),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca8),
];

/// A version of the protocol. Older ones do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// RFC 5246, with the extended master secret.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Version {
    pub(crate) fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Version::Tls12 => &rustls::version::TLS12,
            Version::Tls13 => &rustls::version::TLS13,
        }
    }
}

/// The provider with these suites, by their IANA numbers and in this order of preference; empty for all. What is not in
/// [`SUITES`] is left out.
pub fn provider(suites: &[u16]) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if !suites.is_empty() {
        let known = std::mem::take(&mut provider.cipher_suites);
        let find = |number: &u16| known.iter().find(|suite| u16::from(suite.suite()) == *number).copied();
        provider.cipher_suites = suites.iter().filter_map(find).collect();
    }
    Arc::new(provider)
}

/// The IANA name of a suite.
pub(crate) fn suite_name(number: u16) -> &'static str {
    SUITES.iter().find(|(_, known)| *known == number).map_or("unknown", |(name, _)| name)
}

/// Has the library look at its surroundings (processor, source of randomness) now: a jail may forbid it later.
///
/// # Errors
/// There is no randomness.
pub fn warm_up() -> Result<(), std::io::Error> {
    let mut bytes = [0; 32];
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| std::io::Error::other("no random bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_of_the_table_exists_and_no_other() {
        let all = provider(&[]);
        let known: Vec<u16> = all.cipher_suites.iter().map(|suite| suite.suite().into()).collect();
        assert_eq!(known.len(), SUITES.len());
        for (name, number) in SUITES {
            assert!(known.contains(&number), "{name}");
            assert_eq!(provider(&[number]).cipher_suites.len(), 1, "{name}");
            assert_eq!(suite_name(number), name);
        }
    }

    #[test]
    fn the_order_of_suites_is_the_callers() {
        let two = provider(&[0xc02f, 0x1301, 0xffff]);
        let numbers: Vec<u16> = two.cipher_suites.iter().map(|suite| suite.suite().into()).collect();
        assert_eq!(numbers, [0xc02f, 0x1301]);
    }
}
