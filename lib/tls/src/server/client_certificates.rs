//! Certificates of clients: not asked for, asked for, or required. Whoever shows one has proved to hold its key; whether
//! it leads to a trusted authority is another question.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::TermsError;

/// What a listener wants of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// Nothing.
    #[default]
    None,
    /// They are asked, and may show any or none.
    Ask,
    /// They must show one that leads to a trusted authority.
    Require,
}

/// Judges what clients show.
#[derive(Debug)]
pub(super) struct Judge {
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    is_required: bool,
}

impl Judge {
    /// `authorities` in DER. One that cannot be read is an error, and so is to require certificates and to trust nobody.
    pub fn new(
        wanted: ClientCertificates,
        authorities: &[Vec<u8>],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<Self>>, TermsError> {
        let is_required = match wanted {
            ClientCertificates::None => return Ok(None),
            ClientCertificates::Ask => false,
            ClientCertificates::Require => true,
        };
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            let der = CertificateDer::from_slice(authority).into_owned();
            roots.add(der).map_err(|error| TermsError(format!("authority for clients: {error}")))?;
        }
        let verifier = match roots.is_empty() {
            true if is_required => return Err(TermsError("no authority for clients".to_owned())),
            true => None,
            false => {
                let builder =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
                Some(builder.build().map_err(|error| TermsError(error.to_string()))?)
            }
        };
        let algorithms = provider.signature_verification_algorithms;
        Ok(Some(Arc::new(Judge { authorities: verifier, algorithms, is_required })))
    }

    /// True if the chain leads to a trusted authority, now.
    pub fn is_verified(&self, chain: &[CertificateDer<'_>]) -> bool {
        match (&self.authorities, chain.split_first()) {
            (Some(authorities), Some((own, others))) => {
                authorities.verify_client_cert(own, others, UnixTime::now()).is_ok()
            }
            _ => false,
        }
    }
}

impl ClientCertVerifier for Judge {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // One that is only asked may show what we know by its fingerprint.
        match &self.authorities {
            Some(authorities) if self.is_required => authorities.root_hint_subjects(),
            _ => &[],
        }
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match &self.authorities {
            Some(authorities) if self.is_required => authorities.verify_client_cert(own, others, now),
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
