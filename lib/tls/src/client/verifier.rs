//! Judges the certificate of a server by the proof that is asked for. One verifier serves one connection.
//!
//! With a proof, the server must also sign the handshake with the key of the certificate that it showed. Without one,
//! any certificate will do, also one that cannot be read.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, Der, ServerName, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use webpki::EndEntityCert;

use super::{Association, CertificateName, Matching, Proof, Selector, TlsFailure, Usage};

/// Most certificates above the server's that are looked at.
const MAX_CHAIN: usize = 16;

/// See the file's header.
pub(super) struct Verifier {
    proof: Proof,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Failures are noted here, the first of them, and stop nothing.
    doubt: Option<Arc<OnceLock<TlsFailure>>>,
}

/// What a server showed.
struct Shown<'a> {
    server: &'a CertificateDer<'a>,
    /// Those above it, as it sent them.
    chain: &'a [CertificateDer<'a>],
    now: UnixTime,
}

impl Verifier {
    pub(super) fn new(proof: Proof, roots: Arc<RootCertStore>, provider: &CryptoProvider) -> Self {
        Verifier { proof, roots, algorithms: provider.signature_verification_algorithms, doubt: None }
    }

    /// The same, but failures are noted there and stop nothing.
    pub(super) fn only_noting(self, doubt: Arc<OnceLock<TlsFailure>>) -> Self {
        Verifier { doubt: Some(doubt), ..self }
    }

    /// What is wrong counts, unless it is only to be noted; `fine` is what to say otherwise.
    fn weigh<T>(&self, judged: Result<T, Error>, fine: impl FnOnce() -> T) -> Result<T, Error> {
        match (judged, &self.doubt) {
            (Err(error), Some(doubt)) => {
                // The first failure says most.
                let _ = doubt.set(error.into());
                Ok(fine())
            }
            (judged, _) => judged,
        }
    }

    fn judge(&self, shown: &Shown<'_>) -> Result<(), Error> {
        match &self.proof {
            Proof::Nothing => Ok(()),
            Proof::Authority(names) => {
                self.is_signed_by(shown, &self.roots)?;
                is_for_one_of(shown.server, names)
            }
            Proof::Fingerprint(prints) => {
                let matches = |part: &[u8]| {
                    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, part);
                    prints.iter().any(|print| print == digest.as_ref())
                };
                let key = key_of(shown.server);
                let found = matches(shown.server) || key.is_some_and(|key| matches(&key));
                if found { Ok(()) } else { Err(no_match()) }
            }
            Proof::Dane(records, names) => self.judge_by_records(shown, records, names),
        }
    }

    /// RFC 7672 3.1: the usages are alternatives, and one record that matches is enough.
    fn judge_by_records(
        &self,
        shown: &Shown<'_>,
        records: &[Association],
        names: &[CertificateName],
    ) -> Result<(), Error> {
        let key = key_of(shown.server).unwrap_or_default();
        let of = |usage| records.iter().filter(move |record| record.usage == usage);
        // DANE-EE: neither names nor dates count (RFC 7672 3.1.1).
        if of(Usage::Server).any(|record| record.matches(shown.server, &key)) {
            return Ok(());
        }
        // The reason of a chain that was found and is not valid says more than that nothing matches.
        let mut why = no_match();
        for record in of(Usage::Authority) {
            for anchor in anchors(record, shown.server, shown.chain) {
                let roots = RootCertStore { roots: vec![anchor] };
                let judged =
                    self.is_signed_by(shown, &roots).and_then(|()| is_for_one_of(shown.server, names));
                match judged {
                    Ok(()) => return Ok(()),
                    Err(error) => why = error,
                }
            }
        }
        Err(why)
    }

    fn is_signed_by(&self, shown: &Shown<'_>, roots: &RootCertStore) -> Result<(), Error> {
        let certificate = ParsedCertificate::try_from(shown.server)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            roots,
            shown.chain,
            shown.now,
            self.algorithms.all,
        )
    }
}

/// What a DANE-TA record lets us believe: the certificates of the chain that it matches (from depth 1 on), or the whole
/// certificate or key that it holds, whether the server sends it or not.
fn anchors(
    record: &Association,
    server: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
) -> Vec<TrustAnchor<'static>> {
    let matched = chain
        .iter()
        .filter(|certificate| key_of(certificate).is_some_and(|key| record.matches(certificate, &key)))
        .filter_map(anchor_of);
    let mut anchors: Vec<TrustAnchor<'static>> = matched.collect();
    match (record.selector, record.matching) {
        (Selector::Certificate, Matching::Whole) => {
            anchors.extend(anchor_of(&CertificateDer::from(&*record.data)));
        }
        (Selector::Key, Matching::Whole) => {
            // A bare key signs whatever names somebody as its issuer; webpki wants the key without its outer frame.
            let Some(key) = content_of_sequence(&record.data) else { return anchors };
            let issuers = std::iter::once(server).chain(chain).filter_map(|certificate| {
                let certificate = EndEntityCert::try_from(certificate).ok()?;
                Some(certificate.issuer().to_vec())
            });
            anchors.extend(issuers.map(|issuer| TrustAnchor {
                subject: Der::from(issuer),
                subject_public_key_info: Der::from(key.to_vec()),
                name_constraints: None,
            }));
        }
        _ => {}
    }
    anchors
}

fn anchor_of(certificate: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    webpki::anchor_from_trusted_cert(certificate).ok().map(|anchor| anchor.to_owned())
}

/// SubjectPublicKeyInfo as DER; `None` if the certificate cannot be read.
fn key_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    EndEntityCert::try_from(certificate).ok().map(|read| read.subject_public_key_info().to_vec())
}

/// What is inside a DER SEQUENCE that fills the text.
fn content_of_sequence(der: &[u8]) -> Option<&[u8]> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, content) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => {
            let [high, low] = *rest.first_chunk()?;
            (usize::from(high) << 8 | usize::from(low), rest.get(2..)?)
        }
        _ => return None,
    };
    (tag == 0x30 && content.len() == length).then_some(content)
}

fn is_for_one_of(certificate: &CertificateDer<'_>, names: &[CertificateName]) -> Result<(), Error> {
    let mut why = Error::InvalidCertificate(CertificateError::NotValidForName);
    for name in names {
        let judged = match name {
            CertificateName::Exact(name) => is_for(certificate, name),
            CertificateName::Below(domain) => is_below(certificate, domain),
        };
        match judged {
            Ok(()) => return Ok(()),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn is_for(certificate: &CertificateDer<'_>, name: &str) -> Result<(), Error> {
    let not_for = || Error::InvalidCertificate(CertificateError::NotValidForName);
    let name = ServerName::try_from(name).map_err(|_| not_for())?;
    verify_server_name(&ParsedCertificate::try_from(certificate)?, &name)
}

fn is_below(certificate: &CertificateDer<'_>, domain: &str) -> Result<(), Error> {
    let not_for = || Error::InvalidCertificate(CertificateError::NotValidForName);
    let certificate = EndEntityCert::try_from(certificate).map_err(|_| not_for())?;
    let below = |name: &str| {
        let (name, domain) = (name.to_ascii_lowercase(), domain.to_ascii_lowercase());
        name.strip_suffix(&*domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    };
    if certificate.valid_dns_names().any(below) { Ok(()) } else { Err(not_for()) }
}

fn no_match() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.proof.fmt(f)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = chain.get(..chain.len().min(MAX_CHAIN)).unwrap_or_default();
        let judged = self.judge(&Shown { server, chain, now }).map(|()| ServerCertVerified::assertion());
        self.weigh(judged, ServerCertVerified::assertion)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.proof == Proof::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let judged = verify_tls12_signature(message, certificate, signature, &self.algorithms);
        self.weigh(judged, HandshakeSignatureValid::assertion)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.proof == Proof::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let judged = verify_tls13_signature(message, certificate, signature, &self.algorithms);
        self.weigh(judged, HandshakeSignatureValid::assertion)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
