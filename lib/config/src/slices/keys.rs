//! What the key holder is told.

use bincode::{Decode, Encode};
use vsmtp_mail::Domain;

use crate::config::Config;

/// What the key holder is told. The files themselves come as open descriptors, in the order of [`KeysSlice::files`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct KeysSlice {
    /// Certificates with their keys.
    pub pairs: Vec<KeyPair>,
    /// Authorities for certificates of clients: an absolute path.
    pub client_ca: Option<String>,
    /// Keys that mail is signed with.
    pub mail_keys: Vec<MailKey>,
}

/// A certificate and its key: absolute paths, which may be the same.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct KeyPair {
    /// The chain in PEM.
    pub certificate: String,
    /// The key in PEM.
    pub private_key: String,
    /// The domain that it is for; `None` for the default.
    pub domain: Option<String>,
}

/// A key that mail of a domain is signed with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MailKey {
    /// The domain, in lower case.
    pub domain: String,
    /// The key in PEM: an absolute path.
    pub path: String,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFileUse {
    /// A certificate chain.
    Certificate,
    /// A private key: a secret.
    PrivateKey,
    /// Authorities for certificates of clients.
    ClientAuthorities,
}

/// A file that is opened for the key holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// Absolute path.
    pub path: String,
    /// What it holds.
    pub use_for: KeyFileUse,
}

impl KeysSlice {
    /// The files that it reads, in the order in which they are handed over.
    pub fn files(&self) -> Vec<KeyFile> {
        let file = |path: &String, use_for| KeyFile { path: path.clone(), use_for };
        let pair = |pair: &KeyPair| {
            [
                file(&pair.certificate, KeyFileUse::Certificate),
                file(&pair.private_key, KeyFileUse::PrivateKey),
            ]
        };
        let authorities = self.client_ca.iter().map(|path| file(path, KeyFileUse::ClientAuthorities));
        let mail_keys = self.mail_keys.iter().map(|key| file(&key.path, KeyFileUse::PrivateKey));
        self.pairs.iter().flat_map(pair).chain(authorities).chain(mail_keys).collect()
    }
}

impl Config {
    /// What the key holder is told.
    pub fn keys(&self) -> KeysSlice {
        let pair = |certificate: &String, key: &Option<String>, domain| KeyPair {
            certificate: self.placed(certificate),
            private_key: self.placed(key.as_ref().unwrap_or(certificate)),
            domain,
        };
        let default = self.tls.certificate.iter().map(|own| pair(own, &self.tls.private_key, None));
        let by_domain = self.tls.virtual_domains.iter().filter_map(|(domain, own)| {
            let tls = own.tls.as_ref()?;
            Some(pair(&tls.certificate, &tls.private_key, Some(domain.to_string())))
        });
        KeysSlice {
            pairs: default.chain(by_domain).collect(),
            client_ca: self.tls.client_ca.as_ref().map(|path| self.placed(path)),
            mail_keys: self.mail_keys(),
        }
    }

    /// Keys that mail is signed with: of domains, then the server's own.
    pub(super) fn mail_keys(&self) -> Vec<MailKey> {
        let key = |domain: &Domain, path: &String| MailKey {
            domain: domain.to_string().to_ascii_lowercase(),
            path: self.placed(path),
        };
        let by_domain = self
            .tls
            .virtual_domains
            .iter()
            .flat_map(|(domain, own)| own.dkim.iter().map(move |path| key(domain, path)));
        let own = self.filter.dkim_key.iter().map(|path| key(&self.server.name, path));
        by_domain.chain(own).collect()
    }
}
