//! What is known of a connection once its handshake is done: for the log, the Received field and policy.

use std::fmt;

use aws_lc_rs::digest;
use rustls::ProtocolVersion;

use crate::provider::suite_name;

/// A finished handshake, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: &'static str,
    /// IANA name of the cipher suite.
    pub cipher: &'static str,
    /// The server's name as the client asked for it.
    pub sni: Option<String>,
    /// An earlier session went on.
    pub resumed: bool,
    /// The other side's certificate, if it showed one.
    pub peer: Option<PeerCertificate>,
}

/// A certificate whose key the other side has proved to hold.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// SHA-256 of the certificate (its DER form).
    pub fingerprint: [u8; 32],
    /// It leads to an authority that configuration trusts.
    pub is_verified: bool,
    /// The certificate itself, in DER.
    pub der: Vec<u8>,
}

impl PeerCertificate {
    pub(crate) fn new(der: &[u8], is_verified: bool) -> Self {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        PeerCertificate { fingerprint, is_verified, der: der.to_vec() }
    }

    /// The fingerprint in hexadecimal, in lower case and without colons.
    pub fn hex(&self) -> String {
        self.fingerprint.iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCertificate")
            .field("sha256", &self.hex())
            .field("verified", &self.is_verified)
            .finish()
    }
}

pub(crate) fn protocol_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "unknown",
    }
}

pub(crate) fn cipher_name(suite: Option<rustls::SupportedCipherSuite>) -> &'static str {
    suite.map_or("unknown", |suite| suite_name(suite.suite().into()))
}
