//! The authorities that are believed.

use std::fmt;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Authorities.
#[derive(Debug)]
pub struct Roots(pub(super) RootCertStore);

/// Why there are no authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootsError {
    /// The text is not PEM.
    NotPem(String),
    /// No certificate in it can be an authority.
    Empty,
}

impl Roots {
    /// The authorities among these certificates, each as DER. One that cannot be an authority is left out.
    pub fn of_certificates(certificates: impl IntoIterator<Item = Vec<u8>>) -> Roots {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.into_iter().map(CertificateDer::from));
        Roots(roots)
    }

    /// The authorities of a PEM text.
    ///
    /// # Errors
    /// It is no such text.
    pub fn of_pem(pem: &[u8]) -> Result<Roots, RootsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| RootsError::NotPem(error.to_string()))?;
            // One that cannot be an authority is of no use and does no harm.
            let _ = roots.add(certificate);
        }
        if roots.is_empty() { Err(RootsError::Empty) } else { Ok(Roots(roots)) }
    }

    /// No authority at all.
    pub fn none() -> Roots {
        Roots(RootCertStore::empty())
    }

    /// True if nothing can be verified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RootsError::NotPem(why) => write!(f, "not a PEM file of certificates: {why}"),
            RootsError::Empty => f.write_str("no certificate of an authority"),
        }
    }
}

impl std::error::Error for RootsError {}
