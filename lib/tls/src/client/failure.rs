//! Why a handshake failed, in kinds that reports count (RFC 8460 4.3) and words for the log.

use std::fmt;

use rustls::{CertificateError, Error};

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsFault {
    /// No certificate of a known authority, or none that the proof asks for.
    NotTrusted,
    /// The certificate is for other names.
    OtherName,
    /// It is not valid now.
    Expired,
    /// No TLSA record matches.
    NoAssociation,
    /// The two sides have no version, cipher or curve in common, or the server does not speak TLS.
    Protocol,
    /// The connection broke.
    Lost,
    /// It was our own doing.
    Local,
}

/// A failed handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFailure {
    /// Which kind.
    pub fault: TlsFault,
    /// In words.
    pub text: String,
}

impl TlsFailure {
    /// A failure of this kind.
    pub fn new(fault: TlsFault, text: impl Into<String>) -> Self {
        TlsFailure { fault, text: text.into() }
    }
}

impl From<Error> for TlsFailure {
    fn from(error: Error) -> Self {
        let fault = match &error {
            Error::InvalidCertificate(error) => match error {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => TlsFault::Expired,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    TlsFault::OtherName
                }
                CertificateError::ApplicationVerificationFailure => TlsFault::NoAssociation,
                _ => TlsFault::NotTrusted,
            },
            Error::NoCertificatesPresented | Error::UnsupportedNameType => TlsFault::NotTrusted,
            _ => TlsFault::Protocol,
        };
        let text = match &error {
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
                "no TLSA record or fingerprint matches the certificate".to_owned()
            }
            other => other.to_string(),
        };
        TlsFailure { fault, text }
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TlsFailure {}
