//! What the auth helper is told, and what others are told of authentication.

use std::time::Duration;

use bincode::{Decode, Encode};

use crate::backend::AuthBackend;
use crate::by_text::ByText;
use crate::certificate::CertificatePattern;
use crate::config::Config;
use crate::network::Network;
use crate::pattern::AddressPattern;

/// The mechanisms where there is a back-end and none is named: those that every back-end can do, and those that tell the
/// password to nobody.
const USUAL: [&str; 4] = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"];

/// Those that take tokens.
const BY_TOKEN: [&str; 2] = ["XOAUTH2", "OAUTHBEARER"];

/// What the auth helper is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuthSlice {
    /// Who knows passwords, in this order. None: only rules can tell.
    pub backends: Vec<AuthBackend>,
    /// What is asked of tokens, where a back-end has keys for them.
    pub oauth: Option<OauthTerms>,
    /// Names of the mechanisms that are wanted, best first.
    pub mechanisms: Vec<String>,
    /// Certificates of clients, and their logins; ask [`crate::CertificateLogins`].
    pub certificates: Vec<(ByText<CertificatePattern>, String)>,
    /// Mechanisms that show the password are allowed in clear.
    pub in_clear: bool,
    /// Failures of one client; `None` for any number.
    pub failures_per_address: Option<u32>,
    /// Failures of one account; `None` for any number.
    pub failures_per_account: Option<u32>,
    /// How long failures count.
    pub failure_window: Duration,
    /// Proxies whose word about a login counts.
    pub proxies: Vec<ByText<Network>>,
    /// Clients whose failures do not count.
    pub trusted: Vec<ByText<Network>>,
}

/// What is asked of a token.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct OauthTerms {
    /// Who must have issued it.
    pub issuer: String,
    /// For one of whom it must be.
    pub audience: Vec<String>,
    /// The claim that is the login.
    pub user_claim: String,
    /// What it must allow.
    pub scope: Option<String>,
}

/// One row of `server.auth.sender_login`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SenderLogin {
    /// The sender.
    pub sender: ByText<AddressPattern>,
    /// Who may use it; none for nobody.
    pub logins: Vec<String>,
}

impl Config {
    /// What the auth helper is told.
    pub fn auth(&self) -> AuthSlice {
        let auth = &self.auth;
        AuthSlice {
            backends: self.auth_backends(),
            oauth: self.oauth(),
            mechanisms: self.auth_mechanisms(),
            certificates: self.certificates(),
            in_clear: auth.in_clear,
            failures_per_address: auth.failures_per_address,
            failures_per_account: auth.failures_per_account,
            failure_window: auth.failure_window,
            proxies: auth.proxies.iter().copied().map(ByText::from).collect(),
            trusted: self.server.relay_from.iter().copied().map(ByText::from).collect(),
        }
    }

    /// Whose certificate is whose.
    pub(super) fn certificates(&self) -> Vec<(ByText<CertificatePattern>, String)> {
        let rows = self.auth.certificates.iter();
        rows.map(|(pattern, login)| (pattern.clone().into(), login.clone())).collect()
    }

    /// The mechanisms that are wanted, best first; none where AUTH is not offered.
    pub(crate) fn auth_mechanisms(&self) -> Vec<String> {
        let named = &self.auth.mechanisms;
        let mut mechanisms = named.clone();
        if named.is_empty() {
            let backends = &self.auth.backends;
            let usual = if backends.iter().any(AuthBackend::knows_passwords) { &USUAL[..] } else { &[] };
            let has_keys = backends.iter().any(|backend| backend.key_file().is_some());
            let by_token = if has_keys { &BY_TOKEN[..] } else { &[] };
            let external = (!self.auth.certificates.is_empty()).then_some("EXTERNAL");
            mechanisms.extend(usual.iter().chain(by_token).copied().chain(external));
        }
        mechanisms.into_iter().map(str::to_owned).collect()
    }

    /// True if clients can authenticate, here or at a proxy.
    pub(crate) fn has_auth(&self) -> bool {
        let auth = &self.auth;
        !auth.proxies.is_empty()
            || !auth.mechanisms.is_empty()
            || !auth.backends.is_empty()
            || !auth.certificates.is_empty()
    }

    /// Files of passwords.
    pub(crate) fn password_files(&self) -> Vec<String> {
        self.auth_backends().iter().filter_map(AuthBackend::file).map(str::to_owned).collect()
    }

    /// Files of keys for tokens, which are no secret.
    pub(crate) fn token_keys(&self) -> Vec<String> {
        self.auth_backends().iter().filter_map(AuthBackend::key_file).map(str::to_owned).collect()
    }

    fn oauth(&self) -> Option<OauthTerms> {
        let auth = &self.auth;
        self.token_keys().first()?;
        Some(OauthTerms {
            issuer: auth.oauth_issuer.clone()?,
            audience: auth.oauth_audience.clone(),
            user_claim: auth.oauth_user_claim.clone()?,
            scope: auth.oauth_scope.clone(),
        })
    }

    fn auth_backends(&self) -> Vec<AuthBackend> {
        self.auth.backends.iter().map(|backend| backend.placed(|path| self.placed(path))).collect()
    }
}
