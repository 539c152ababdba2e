//! A private key that is somewhere else: it can be used here and never read.

use std::fmt;
use std::sync::Arc;

use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

/// Who signs. Called from the threads that run [`super::Work`]; may block, for a bounded time.
pub trait Oracle: fmt::Debug + Send + Sync {
    /// The signature of `message` by that key in that scheme (a number of the TLS registry); `None` if there is none to
    /// be had, for whatever reason.
    fn sign(&self, key: u32, scheme: u16, message: &[u8]) -> Option<Vec<u8>>;
}

/// One key of the oracle's.
#[derive(Debug, Clone)]
pub(super) struct RemoteKey {
    pub number: u32,
    /// In the order of preference.
    pub schemes: Vec<SignatureScheme>,
    pub oracle: Arc<dyn Oracle>,
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = self.schemes.iter().find(|scheme| offered.contains(scheme)).copied()?;
        Some(Box::new(RemoteSigner { key: self.number, scheme, oracle: Arc::clone(&self.oracle) }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.schemes.first() {
            Some(
                SignatureScheme::ECDSA_NISTP256_SHA256
                | SignatureScheme::ECDSA_NISTP384_SHA384
                | SignatureScheme::ECDSA_NISTP521_SHA512,
            ) => SignatureAlgorithm::ECDSA,
            Some(SignatureScheme::ED25519) => SignatureAlgorithm::ED25519,
            _ => SignatureAlgorithm::RSA,
        }
    }
}

#[derive(Debug)]
struct RemoteSigner {
    key: u32,
    scheme: SignatureScheme,
    oracle: Arc<dyn Oracle>,
}

impl Signer for RemoteSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.oracle
            .sign(self.key, self.scheme.into(), message)
            .ok_or_else(|| Error::General("the key holder did not sign".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// A key of which everything is known but how to sign with it.
#[derive(Debug)]
pub(super) struct NoKey(pub Arc<dyn SigningKey>);

impl SigningKey for NoKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.0.choose_scheme(offered)?;
        Some(Box::new(NoSigner(signer.scheme())))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

#[derive(Debug)]
struct NoSigner(SignatureScheme);

impl Signer for NoSigner {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Err(Error::General("no signature is to be had here".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}
