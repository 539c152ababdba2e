//! What a server must prove about itself before it gets a message.

use super::Association;

/// SHA-256 of a certificate or of its public key.
pub type Fingerprint = [u8; 32];

/// A proof that a policy asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Proof {
    /// None: encryption with whoever answers.
    Nothing,
    /// A certificate of a known authority for one of these names.
    Authority(Vec<CertificateName>),
    /// One of these certificates, or one with one of these keys, whoever made it and until whenever.
    Fingerprint(Vec<Fingerprint>),
    /// What TLSA records say (RFC 7672): at least one record, and the names that count for DANE-TA.
    Dane(Vec<Association>, Vec<CertificateName>),
}

/// A name that a certificate may be for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// This host or address; a wildcard in the certificate may cover it.
    Exact(Box<str>),
    /// Any name below this domain.
    Below(Box<str>),
}
