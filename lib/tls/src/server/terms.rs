//! What the handshakes of one listener go by. Made anew whenever certificates or ticket secrets change; handshakes that
//! are under way keep the terms under which they began.

use std::fmt;
use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, WantsServerCert};
use rustls::{ConfigBuilder, Connection, HandshakeKind, ServerConfig};

use super::certificates::{Certificates, Keyless};
use super::client_certificates::{ClientCertificates, Judge};
use super::tickets::Tickets;
use crate::facts::{Facts, PeerCertificate, cipher_name, protocol_name};
use crate::provider::{Version, provider};
use crate::stream::Stream;

/// What an operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Versions that are spoken.
    pub versions: Vec<Version>,
    /// Suites by their IANA numbers; empty for all.
    pub suites: Vec<u16>,
    /// The order of `suites` counts rather than the client's.
    pub own_order: bool,
    /// Certificates of clients.
    pub client_certificates: ClientCertificates,
    /// Authorities that certificates of clients may lead to, in DER.
    pub client_authorities: Vec<Vec<u8>>,
}

/// Why no handshake is possible: text for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermsError(pub String);

impl fmt::Display for TermsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TermsError {}

/// What the handshakes of one listener go by.
#[derive(Debug, Clone)]
pub struct Terms {
    config: Arc<ServerConfig>,
    /// The same without a key, for sessions that go on: nothing waits for a signature under it. `None` without tickets.
    keyless: Option<Arc<ServerConfig>>,
    judge: Option<Arc<Judge>>,
}

impl Terms {
    /// Puts them together. Tickets are left out where certificates of clients are required: each session then shows its
    /// own.
    ///
    /// # Errors
    /// The parts do not go together, such as suites of one version and another version.
    pub fn new(
        policy: &Policy,
        certificates: &Arc<Certificates>,
        tickets: Option<Tickets>,
    ) -> Result<Self, TermsError> {
        let provider = provider(&policy.suites);
        let judge = Judge::new(policy.client_certificates, &policy.client_authorities, &provider)?;
        let versions: Vec<_> = policy.versions.iter().map(|version| version.supported()).collect();
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| TermsError(format!("protocol versions and cipher suites: {error}")))?;
        let builder: ConfigBuilder<ServerConfig, WantsServerCert> = match &judge {
            Some(judge) => builder.with_client_cert_verifier(Arc::clone(judge) as _),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(certificates) as _);
        // A session lives in its ticket and nowhere else, so that every receiver can go on with it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ignore_client_order = policy.own_order;
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        let mut keyless = None;
        if let Some(tickets) = tickets.filter(|_| policy.client_certificates != ClientCertificates::Require) {
            config.ticketer = Arc::new(tickets);
            config.send_tls13_tickets = 1;
            let mut same = config.clone();
            same.cert_resolver = Arc::new(Keyless(Arc::clone(certificates)));
            keyless = Some(Arc::new(same));
        }
        Ok(Terms { config: Arc::new(config), keyless, judge })
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// For a client with this ticket, if it is one of ours: with this configuration its session goes on, or else its
    /// handshake fails at once instead of waiting for a signature.
    pub(super) fn keyless_for(&self, ticket: &[u8]) -> Option<Arc<ServerConfig>> {
        self.keyless.as_ref().filter(|config| config.ticketer.decrypt(ticket).is_some()).cloned()
    }

    /// What both sides agreed on.
    pub fn facts(&self, stream: &Stream) -> Facts {
        let connection = stream.connection();
        let sni = match connection {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        };
        let peer = connection.peer_certificates().and_then(|chain| {
            let verified = self.judge.as_ref().is_some_and(|judge| judge.is_verified(chain));
            chain.first().map(|own| PeerCertificate::new(own, verified))
        });
        Facts {
            protocol: protocol_name(connection.protocol_version()),
            cipher: cipher_name(connection.negotiated_cipher_suite()),
            sni,
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            peer,
        }
    }
}
