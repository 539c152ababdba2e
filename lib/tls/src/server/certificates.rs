//! Which certificate a client is shown: the one for the name that it asks for, or else the default.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, sign::SigningKey};

use super::remote_key::{NoKey, Oracle, RemoteKey};

/// A certificate chain and the number of its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The oracle's number of the private key.
    pub key: u32,
    /// DER, the server's own certificate first.
    pub chain: Vec<Vec<u8>>,
    /// DNS names in lower case; `*.` at the beginning stands for one label.
    pub names: Vec<String>,
    /// What the key can do, as numbers of the TLS registry, the preferred one first.
    pub schemes: Vec<u16>,
    /// Shown to clients that ask for no name, or for one that nobody has.
    pub is_default: bool,
}

/// All certificates. Never changed: new ones make a new value.
#[derive(Debug)]
pub struct Certificates {
    all: Vec<Arc<CertifiedKey>>,
    by_name: HashMap<String, Vec<usize>>,
    default: Vec<usize>,
}

impl Certificates {
    /// Takes certificates whose keys `oracle` holds.
    pub fn new(list: &[Certificate], oracle: &Arc<dyn Oracle>) -> Self {
        let mut certificates = Certificates { all: Vec::new(), by_name: HashMap::new(), default: Vec::new() };
        for (place, certificate) in list.iter().enumerate() {
            for name in &certificate.names {
                certificates.by_name.entry(name.to_ascii_lowercase()).or_default().push(place);
            }
            if certificate.is_default {
                certificates.default.push(place);
            }
            certificates.all.push(Arc::new(certificate.certified(oracle)));
        }
        certificates
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The best one for a name and for what the client can verify.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let places = name.and_then(|name| self.named(name)).unwrap_or(&self.default);
        let candidates = || places.iter().filter_map(|place| self.all.get(*place));
        let fits = |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(schemes).is_some();
        candidates().find(fits).or_else(|| candidates().next()).cloned()
    }

    fn named(&self, name: &str) -> Option<&Vec<usize>> {
        let name = name.to_ascii_lowercase();
        let exact = self.by_name.get(name.trim_end_matches('.'));
        exact.or_else(|| self.by_name.get(&format!("*.{}", name.trim_end_matches('.').split_once('.')?.1)))
    }
}

impl Certificate {
    fn certified(&self, oracle: &Arc<dyn Oracle>) -> CertifiedKey {
        let key: Arc<dyn SigningKey> = Arc::new(RemoteKey {
            number: self.key,
            schemes: self.schemes.iter().copied().map(SignatureScheme::from).collect(),
            oracle: Arc::clone(oracle),
        });
        CertifiedKey::new(self.chain.iter().cloned().map(CertificateDer::from).collect(), key)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

/// The same certificates without their keys: whoever needs a signature is refused at once.
#[derive(Debug)]
pub(super) struct Keyless(pub Arc<Certificates>);

impl ResolvesServerCert for Keyless {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certified = self.0.resolve(hello)?;
        Some(Arc::new(CertifiedKey::new(certified.cert.clone(), Arc::new(NoKey(Arc::clone(&certified.key))))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl Oracle for Nobody {
        fn sign(&self, _: u32, _: u16, _: &[u8]) -> Option<Vec<u8>> {
            None
        }
    }

    const ECDSA: u16 = 0x0403;
    const RSA: u16 = 0x0804;

    fn certificate(mark: u8, names: &[&str], scheme: u16, is_default: bool) -> Certificate {
        Certificate {
            key: mark.into(),
            chain: vec![vec![mark]],
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            schemes: vec![scheme],
            is_default,
        }
    }

    fn mark(certificates: &Certificates, name: Option<&str>, schemes: &[u16]) -> Option<u8> {
        let schemes: Vec<SignatureScheme> = schemes.iter().copied().map(SignatureScheme::from).collect();
        let chosen = certificates.choose(name, &schemes)?;
        chosen.cert.first().and_then(|der| der.as_ref().first().copied())
    }

    fn all() -> Certificates {
        let oracle: Arc<dyn Oracle> = Arc::new(Nobody);
        Certificates::new(
            &[
                certificate(1, &["mx.test"], ECDSA, true),
                certificate(2, &["a.test", "*.a.test"], ECDSA, false),
                certificate(3, &["a.test"], RSA, false),
            ],
            &oracle,
        )
    }

    #[test]
    fn the_name_decides_and_strangers_get_the_default() {
        let all = all();
        for (name, expected) in [
            (None, 1),
            (Some("mx.test"), 1),
            (Some("A.Test"), 2),
            (Some("a.test."), 2),
            (Some("x.a.test"), 2),
            (Some("x.y.a.test"), 1),
            (Some("other.test"), 1),
            (Some(""), 1),
        ] {
            assert_eq!(mark(&all, name, &[ECDSA, RSA]), Some(expected), "{name:?}");
        }
    }

    #[test]
    fn of_two_for_one_name_the_client_gets_the_one_that_it_can_verify() {
        assert_eq!(mark(&all(), Some("a.test"), &[RSA]), Some(3));
        assert_eq!(mark(&all(), Some("a.test"), &[0x0807]), Some(2), "none fits: the handshake says why");
    }

    #[test]
    fn without_certificates_there_is_none() {
        let oracle: Arc<dyn Oracle> = Arc::new(Nobody);
        assert_eq!(mark(&Certificates::new(&[], &oracle), Some("a.test"), &[ECDSA]), None);
    }
}
