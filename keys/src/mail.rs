//! The keys that domains sign their mail with: read from PEM, and used for signatures of mail and for nothing else. Errors
//! are text for the operator and never hold anything of a key.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SigningKey;
use vsmtp_config::MailKey;
use vsmtp_ipc::edge::client_resolver::SignatureAlgorithm;
use vsmtp_ipc::edge::filter_keys::MAX_DATA;
use vsmtp_mail::dkim::Tags;

use crate::files::Content;

/// Fields that hold signatures of messages, in lower case (RFC 6376 3.5, RFC 8617 4.1.2).
const MESSAGE_FIELDS: [&str; 2] = ["dkim-signature", "arc-message-signature"];
/// The field that holds a signature of a chain, in lower case (RFC 8617 4.1.3).
const SEAL_FIELD: &str = "arc-seal";

/// All keys by domain.
#[derive(Debug, Default)]
pub struct MailKeys(BTreeMap<String, Vec<Key>>);

#[derive(Debug)]
struct Key {
    algorithm: SignatureAlgorithm,
    key: Arc<dyn SigningKey>,
}

impl MailKeys {
    /// Reads them; the files stand in the order of `named`.
    ///
    /// # Errors
    /// The first file that is bad: text for the operator.
    pub fn read(named: &[MailKey], files: &[Content]) -> Result<Self, String> {
        let mut keys: BTreeMap<String, Vec<Key>> = BTreeMap::new();
        for (named, file) in named.iter().zip(files) {
            keys.entry(named.domain.clone()).or_default().push(Key::read(file)?);
        }
        Ok(MailKeys(keys))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// What the keys of a domain sign with, in their order.
    pub fn algorithms(&self, domain: &str) -> Vec<SignatureAlgorithm> {
        self.0.get(domain).into_iter().flatten().map(|key| key.algorithm).collect()
    }

    /// The signature of these fields, if the last of them is one of that domain, and they are not too many.
    pub fn sign(&self, domain: &str, number: u32, data: &[u8]) -> Option<Vec<u8>> {
        if data.len() > MAX_DATA {
            return None;
        }
        let key = self.0.get(domain)?.get(usize::try_from(number).ok()?)?;
        if !is_signature_of(data, domain, key.algorithm) {
            return None;
        }
        match key.algorithm {
            SignatureAlgorithm::RsaSha256 => {
                key.key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?.sign(data).ok()
            }
            // RFC 8463 3: what is signed is the hash.
            SignatureAlgorithm::Ed25519Sha256 => {
                let hash = digest(&SHA256, data);
                key.key.choose_scheme(&[SignatureScheme::ED25519])?.sign(hash.as_ref()).ok()
            }
        }
    }
}

impl Key {
    fn read(file: &Content) -> Result<Self, String> {
        let wrong = |text: &str| format!("{}: {text}", file.file.path);
        let der = PrivateKeyDer::from_pem_slice(&file.octets)
            .map_err(|_| wrong("holds no private key in PEM, or one with a passphrase"))?;
        let key = any_supported_type(&der).map_err(|_| {
            wrong("is a private key of a kind that is not supported: RSA of 2048 bits or more, or Ed25519")
        })?;
        let can = |scheme| key.choose_scheme(&[scheme]).is_some();
        let algorithm = if can(SignatureScheme::RSA_PKCS1_SHA256) {
            SignatureAlgorithm::RsaSha256
        } else if can(SignatureScheme::ED25519) {
            SignatureAlgorithm::Ed25519Sha256
        } else {
            return Err(wrong("is a private key that mail is not signed with: RSA or Ed25519 is needed"));
        };
        Ok(Key { algorithm, key })
    }
}

/// True if the last field is a signature of that domain, or of one below it, that is still to be made with this algorithm,
/// and one that covers what such a signature must: the whole body and the author, or the chain.
fn is_signature_of(data: &[u8], domain: &str, algorithm: SignatureAlgorithm) -> bool {
    let Some((name, value)) =
        std::str::from_utf8(last_field(data)).ok().and_then(|field| field.split_once(':'))
    else {
        return false;
    };
    let is = |field: &&str| name.trim_ascii().eq_ignore_ascii_case(field);
    let Some(tags) = Tags::parse(value) else { return false };
    let says = |tag: &str| tags.get(tag).is_some_and(|value| !value.is_empty());
    let names = tags.squeezed("h").unwrap_or_default();
    let has_author = names.split(':').any(|name| name.eq_ignore_ascii_case("from"));
    let covers = if MESSAGE_FIELDS.iter().any(&is) {
        has_author && says("bh") && tags.get("l").is_none()
    } else {
        is(&SEAL_FIELD) && tags.get("h").is_none() && tags.get("bh").is_none()
    };
    if !covers || !says("s") {
        return false;
    }
    let said = tags.squeezed("d").unwrap_or_default().to_ascii_lowercase();
    let within = said == domain || said.strip_suffix(domain).is_some_and(|below| below.ends_with('.'));
    let word = match algorithm {
        SignatureAlgorithm::RsaSha256 => "rsa-sha256",
        SignatureAlgorithm::Ed25519Sha256 => "ed25519-sha256",
    };
    within && tags.get("b") == Some("") && tags.squeezed("a").as_deref() == Some(word)
}

/// What stands behind the last line end that does not fold.
fn last_field(data: &[u8]) -> &[u8] {
    let mut start = 0;
    for (at, window) in data.windows(3).enumerate() {
        if let [b'\r', b'\n', next] = window
            && !matches!(next, b' ' | b'\t')
        {
            start = at + 2;
        }
    }
    data.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use vsmtp_config::{KeyFile, KeyFileUse};

    use super::*;

    fn keys(algorithm: &'static rcgen::SignatureAlgorithm) -> Result<MailKeys, String> {
        let pem = rcgen::KeyPair::generate_for(algorithm).unwrap().serialize_pem();
        let file = KeyFile { path: "k.pem".to_owned(), use_for: KeyFileUse::PrivateKey };
        let named = MailKey { domain: "example.com".to_owned(), path: "k.pem".to_owned() };
        MailKeys::read(&[named], &[Content { file, octets: pem.into_bytes() }])
    }

    #[test]
    fn a_key_signs_mail_of_its_domain_and_nothing_else() {
        let keys = keys(&rcgen::PKCS_ED25519).unwrap();
        assert_eq!(keys.algorithms("example.com"), [SignatureAlgorithm::Ed25519Sha256]);
        assert!(keys.algorithms("example.org").is_empty());
        let good = "from:a@example.com\r\ndkim-signature:v=1; a=ed25519-sha256; d=example.com; s=s; h=from; bh=AA==; b=";
        let signed = |data: &str| keys.sign("example.com", 0, data.as_bytes()).is_some();
        assert!(signed(good));
        assert!(signed(&good.replace("d=example", "d=mail.example")));
        assert!(signed(&good.replace("; s=s", ";\r\n\ts=s")));
        assert!(signed(&good.replace("dkim-signature", "ARC-Message-Signature")));
        let seal = "arc-seal:i=1; a=ed25519-sha256; cv=none; d=example.com; s=s; b=";
        assert!(signed(seal));
        for bad in [
            good.replace("dkim-signature", "ARC-Seal"),
            seal.replace("s=s; ", ""),
            seal.replace("s=s", "s=s; h=from"),
            seal.replace("arc-seal", "arc-message-signature"),
            good.replace("h=from", "h=to"),
            good.replace("h=from; ", ""),
            good.replace("bh=AA==; ", ""),
            good.replace("s=s; ", ""),
            good.replace("s=s", "s=s; l=0"),
            // More than is signed at once.
            "x:y\r\n".repeat(MAX_DATA / 4) + good,
            good.replace("d=example.com", "d=example.org"),
            good.replace("d=example.com", "d=badexample.com"),
            good.replace("a=ed25519-sha256", "a=rsa-sha256"),
            good.replace("dkim-signature", "subject"),
            good.replace("; b=", "; b=AAAA"),
            format!("{good}\r\nx:y"),
            String::new(),
            " ".repeat(64) + "TLS 1.3, server CertificateVerify",
        ] {
            assert!(!signed(&bad), "{bad}");
        }
        assert!(keys.sign("example.com", 1, good.as_bytes()).is_none());
        assert!(keys.sign("example.org", 0, good.as_bytes()).is_none());
    }

    #[test]
    fn keys_of_another_kind_are_named() {
        let error = keys(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap_err();
        assert!(error.starts_with("k.pem: is a private key that mail is not signed with"), "{error}");
    }
}
