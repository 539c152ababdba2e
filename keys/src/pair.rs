//! One certificate with its private key: read from PEM, checked that they belong together. Errors are text for the
//! operator and never hold anything of a key.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use webpki::EndEntityCert;

use crate::files::Content;

/// Longest chain, in certificates.
const MAX_CHAIN: usize = 16;
/// Most authorities for certificates of clients.
const MAX_AUTHORITIES: usize = 1024;

/// Schemes that keys are tried with, the preferred one first. Not among them is what TLS 1.2 and 1.3 forbid.
const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// A certificate with its private key.
#[derive(Debug)]
pub struct Pair {
    /// DER, the server's own certificate first.
    pub chain: Vec<Vec<u8>>,
    /// DNS names in the certificate, in lower case.
    pub names: Vec<String>,
    /// What the key can do, the preferred one first.
    pub schemes: Vec<SignatureScheme>,
    /// The key.
    pub key: Arc<dyn SigningKey>,
    /// Where the certificate came from.
    pub path: String,
}

impl Pair {
    /// Reads both files.
    ///
    /// # Errors
    /// One of them does not hold what it should, or they do not belong together: says which, and what.
    pub fn read(certificate: &Content, private_key: &Content) -> Result<Pair, String> {
        let in_chain = |text: String| format!("{}: {text}", certificate.file.path);
        let in_key = |text: String| format!("{}: {text}", private_key.file.path);
        let chain = certificates(&certificate.octets, MAX_CHAIN).map_err(in_chain)?;
        let own = chain.first().ok_or_else(|| in_chain("holds no certificate".to_owned()))?;
        let names = names(own).map_err(in_chain)?;
        let der = PrivateKeyDer::from_pem_slice(&private_key.octets)
            .map_err(|_| in_key("holds no private key in PEM, or one with a passphrase".to_owned()))?;
        let key = any_supported_type(&der).map_err(|_| {
            in_key("is a private key of a kind that is not supported: RSA of 2048 bits or more, ECDSA or Ed25519".to_owned())
        })?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| {
            in_key(format!("does not belong to the certificate in {}", certificate.file.path))
        })?;
        let CertifiedKey { cert, key, .. } = certified;
        let schemes = SCHEMES.into_iter().filter(|scheme| key.choose_scheme(&[*scheme]).is_some()).collect();
        let chain = cert.iter().map(|certificate| certificate.to_vec()).collect();
        Ok(Pair { chain, names, schemes, key, path: certificate.file.path.clone() })
    }

    /// The signature, if the key can do this.
    pub fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Option<Vec<u8>> {
        self.key.choose_scheme(&[scheme])?.sign(message).ok()
    }

    /// True if a client that asks for this name finds it in the certificate.
    pub fn is_for(&self, name: &str) -> bool {
        let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.names.iter().any(|known| known == name || Some(known) == wildcard.as_ref())
    }
}

/// The authorities in a file.
///
/// # Errors
/// It holds none, or something else.
pub fn authorities(file: &Content) -> Result<Vec<Vec<u8>>, String> {
    let found = certificates(&file.octets, MAX_AUTHORITIES).and_then(|found| match found.is_empty() {
        true => Err("holds no certificate".to_owned()),
        false => Ok(found.iter().map(|certificate| certificate.to_vec()).collect()),
    });
    found.map_err(|text| format!("{}: {text}", file.file.path))
}

fn certificates(pem: &[u8], most: usize) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .take(most + 1)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is not PEM: {error}"))?;
    if found.len() > most { Err(format!("holds more than {most} certificates")) } else { Ok(found) }
}

fn names(own: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let certificate = EndEntityCert::try_from(own).map_err(|error| format!("is no certificate: {error}"))?;
    Ok(certificate.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

#[cfg(test)]
mod tests {
    use vsmtp_config::{KeyFile, KeyFileUse};

    use super::*;

    fn content(path: &str, use_for: KeyFileUse, text: &str) -> Content {
        Content { file: KeyFile { path: path.to_owned(), use_for }, octets: text.as_bytes().to_vec() }
    }

    fn made(names: &[&str]) -> (Content, Content) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (
            content("c.pem", KeyFileUse::Certificate, &made.cert.pem()),
            content("k.pem", KeyFileUse::PrivateKey, &made.signing_key.serialize_pem()),
        )
    }

    #[test]
    fn a_pair_that_fits_signs_and_knows_its_names() {
        let (certificate, key) = made(&["MX.test", "*.a.test"]);
        let pair = Pair::read(&certificate, &key).unwrap();
        assert_eq!(pair.names, ["mx.test", "*.a.test"]);
        assert_eq!(pair.schemes, [SignatureScheme::ECDSA_NISTP256_SHA256]);
        assert!(pair.sign(SignatureScheme::ECDSA_NISTP256_SHA256, b"x").is_some());
        assert!(pair.sign(SignatureScheme::ED25519, b"x").is_none());
        assert!(pair.is_for("mx.test") && pair.is_for("b.a.test"));
        assert!(!pair.is_for("a.test") && !pair.is_for("c.b.a.test") && !pair.is_for("test"));
    }

    #[test]
    fn errors_name_the_file_and_hold_nothing_of_a_key() {
        let (certificate, key) = made(&["mx.test"]);
        let (_, other) = made(&["mx.test"]);
        let text = |pem: &Content| String::from_utf8(pem.octets.clone()).unwrap();
        for (chain, private, expected) in [
            (text(&certificate), text(&other), "k.pem: does not belong to the certificate in c.pem"),
            (String::new(), text(&key), "c.pem: holds no certificate"),
            (text(&key), text(&key), "c.pem: holds no certificate"),
            (text(&certificate), text(&certificate), "k.pem: holds no private key"),
            (text(&certificate).repeat(17), text(&key), "c.pem: holds more than 16"),
            (text(&certificate).replace("-----END", "--END"), text(&key), "c.pem: is not PEM"),
        ] {
            let chain = content("c.pem", KeyFileUse::Certificate, &chain);
            let private = content("k.pem", KeyFileUse::PrivateKey, &private);
            let error = Pair::read(&chain, &private).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            let body = text(&key);
            let secret = body.lines().nth(1).unwrap();
            assert!(!error.contains(secret.get(..20).unwrap()), "{error}");
        }
    }
}
