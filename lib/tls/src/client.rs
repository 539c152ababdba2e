//! The client's side of TLS: what a server must prove, and connections on which it has proved it. Bytes move through
//! whatever stream the caller has; nothing here waits, connects or resolves.
//!
//! On failure: a handshake that does not prove what was asked for ends with a reason, and never with a connection.

mod association;
mod failure;
mod proof;
mod roots;
mod session;
mod verifier;

use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

pub use association::{Association, MAX_ASSOCIATIONS, Matching, Selector, Usage};
pub use failure::{TlsFailure, TlsFault};
pub use proof::{CertificateName, Fingerprint, Proof};
pub use roots::{Roots, RootsError};
pub use session::{ClientSession, Secured};
use verifier::Verifier;

/// Makes connections; holds what they share.
#[derive(Debug, Clone)]
pub struct Client {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
}

impl Client {
    /// A client that believes these authorities, where a proof asks for one.
    pub fn new(roots: Roots) -> Self {
        Client { provider: crate::provider(&[]), roots: Arc::new(roots.0) }
    }

    /// A connection that still has to be made: the name is sent to the server (SNI) unless it is an address.
    ///
    /// # Errors
    /// The name is neither a name nor an address, or TLS cannot be had at all.
    pub fn session(&self, proof: &Proof, name: &str) -> Result<ClientSession, TlsFailure> {
        let verifier = Verifier::new(proof.clone(), Arc::clone(&self.roots), &self.provider);
        Ok(ClientSession::new(self.connection(verifier, name)?, None))
    }

    /// As [`Client::session`], but only looks whether the server could prove it: whatever it shows will do, and
    /// [`ClientSession::doubt`] says what was wrong with it.
    ///
    /// # Errors
    /// As there.
    pub fn trial(&self, proof: &Proof, name: &str) -> Result<ClientSession, TlsFailure> {
        let doubt = Arc::new(OnceLock::new());
        let verifier = Verifier::new(proof.clone(), Arc::clone(&self.roots), &self.provider);
        let verifier = verifier.only_noting(Arc::clone(&doubt));
        Ok(ClientSession::new(self.connection(verifier, name)?, Some(doubt)))
    }

    fn connection(&self, verifier: Verifier, name: &str) -> Result<ClientConnection, TlsFailure> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| TlsFailure::new(TlsFault::Local, format!("{name} cannot be named in TLS")))?;
        // One configuration per connection: what one server proved must never count for another.
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsFailure::from)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let mut config = config;
        config.resumption = Resumption::disabled();
        ClientConnection::new(Arc::new(config), name).map_err(TlsFailure::from)
    }
}
