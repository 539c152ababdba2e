//! Who an authenticated client is, as the auth helper has said it, and the way to ask that one about the password.

use std::fmt;
use std::sync::Arc;

use vsmtp_ipc::edge::filter_auth::Verified;
use vsmtp_ipc::wire::Grant;

/// Longest name, in octets.
pub const MAX_NAME: usize = 255;

/// Asks whether a password is the one of a user of this system. Blocks; hands the loop on before.
pub trait Verifier: Send + Sync {
    /// About the password that came with this grant.
    fn verify(&self, grant: Grant) -> Verified;
}

/// An authenticated client.
#[derive(Clone)]
pub struct Identity {
    /// The name that was authenticated.
    pub name: Box<str>,
    /// The SASL mechanism.
    pub mechanism: Box<str>,
    /// By which the helper knows it.
    pub grant: Grant,
    /// Whom to ask about the password.
    pub verifier: Option<Arc<dyn Verifier>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?}, {})", self.name, self.mechanism)
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.mechanism, self.grant) == (&other.name, &other.mechanism, other.grant)
    }
}

impl Eq for Identity {}
