//! TLS towards servers whose protocols we speak ourselves. Nothing falls back to clear text, and no certificate is taken that is
//! not for the host of the URL.

use std::io;

use vsmtp_config::{Database, DatabaseUrl, LdapTls};
use vsmtp_tls::client::{CertificateName, Client, ClientSession, Proof, Roots};

/// What the connections to one database begin TLS with, or why they cannot.
#[derive(Debug, Clone)]
pub struct Tls {
    host: String,
    client: Result<Client, String>,
}

impl Tls {
    /// That of a database, if its connections are to be encrypted. Reads files, so this is for before the jail.
    pub fn of(database: &Database) -> Option<Self> {
        let DatabaseUrl::Ldap(url) = &database.url else { return None };
        let host = url.place.host().filter(|_| url.tls != LdapTls::None)?.to_owned();
        Some(Tls { host, client: roots(url.ca_file.as_deref()).map(Client::new) })
    }

    /// Why no connection can be made.
    pub fn trouble(&self) -> Option<&str> {
        self.client.as_ref().err().map(String::as_str)
    }

    /// A new connection.
    ///
    /// # Errors
    /// There is nobody to believe, or the host cannot be named in TLS.
    pub fn session(&self) -> io::Result<ClientSession> {
        let client = self.client.as_ref().map_err(|why| io::Error::other(why.clone()))?;
        let proof = Proof::Authority(vec![CertificateName::Exact(self.host.as_str().into())]);
        client.session(&proof, &self.host).map_err(|failure| io::Error::other(failure.to_string()))
    }
}

/// The authorities that a certificate may be of.
fn roots(ca_file: Option<&str>) -> Result<Roots, String> {
    let Some(path) = ca_file else {
        let known = rustls_native_certs::load_native_certs().certs;
        return Ok(Roots::of_certificates(known.iter().map(|known| known.to_vec())));
    };
    let pem = std::fs::read(path).map_err(|error| format!("cafile {path}: {error}"))?;
    Roots::of_pem(&pem).map_err(|error| format!("cafile {path}: {error}"))
}
