//! `--role tool`: makes a key for mail, or tells the public half of one, for vsmtpctl. In the key holder's jail, with one edge
//! and nothing else. Errors never hold anything of a key.

use std::io;
use std::process::ExitCode;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::{rand, rsa, signature};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use vsmtp_daemon::errand::{self, Answering};
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::ctl_keys::{Answer, KeyKind, MAX_KEY_FILE, Published, Request};

use crate::sandbox;

/// What stands before the 32 octets of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410 4).
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The whole process.
pub fn main() -> ExitCode {
    errand::answer_once("vsmtp-keys", EdgeId::CtlKeys, |request: Request| {
        crate::event::warm_up().map_err(io::Error::other)?;
        let answering: Answering<Answer> =
            Box::new(move || answer(&request).unwrap_or_else(|why| Answer::Failed(why.to_owned())));
        Ok((sandbox::profile(), answering))
    })
}

/// The answer to one request.
///
/// # Errors
/// Text for the operator.
fn answer(request: &Request) -> Result<Answer, &'static str> {
    match request {
        Request::Make(kind) => {
            let der = make(*kind).map_err(|_| "the key cannot be made")?;
            let public = public(&PrivatePkcs8KeyDer::from(der.as_slice()).into())?;
            Ok(Answer::Made(der, public))
        }
        Request::Publish(pem) if pem.len() > MAX_KEY_FILE => Err("is too large for a key"),
        Request::Publish(pem) => {
            let der = PrivateKeyDer::from_pem_slice(pem)
                .map_err(|_| "holds no private key in PEM, or one with a passphrase")?;
            public(&der).map(Answer::Published)
        }
    }
}

fn make(kind: KeyKind) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    let size = match kind {
        KeyKind::Ed25519 => {
            let made = signature::Ed25519KeyPair::generate_pkcs8v1(&rand::SystemRandom::new())?;
            return Ok(made.as_ref().to_vec());
        }
        KeyKind::Rsa2048 => KeySize::Rsa2048,
        KeyKind::Rsa3072 => KeySize::Rsa3072,
        KeyKind::Rsa4096 => KeySize::Rsa4096,
    };
    let der = rsa::KeyPair::generate(size)?.as_der()?;
    Ok(der.as_ref().to_vec())
}

/// What is published of a key: of RSA the SubjectPublicKeyInfo, of Ed25519 the bare key.
fn public(key: &PrivateKeyDer<'_>) -> Result<Published, &'static str> {
    let wrong =
        "is a private key that mail is not signed with: RSA of 2048 bits or more, or Ed25519 is needed";
    let key = any_supported_type(key).map_err(|_| wrong)?;
    let can = |scheme| key.choose_scheme(&[scheme]).is_some();
    let info = key.public_key().ok_or(wrong)?;
    if can(SignatureScheme::RSA_PKCS1_SHA256) {
        return Ok(Published { algorithm: "rsa".to_owned(), key: info.as_ref().to_vec() });
    }
    let bare = info.as_ref().strip_prefix(ED25519_PREFIX.as_slice());
    let bare = bare.filter(|_| can(SignatureScheme::ED25519)).ok_or(wrong)?;
    Ok(Published { algorithm: "ed25519".to_owned(), key: bare.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_made_is_one_that_mail_is_signed_with() {
        for (kind, algorithm, octets) in [(KeyKind::Rsa2048, "rsa", 294), (KeyKind::Ed25519, "ed25519", 32)] {
            let Ok(Answer::Made(der, public)) = answer(&Request::Make(kind)) else { panic!("{kind:?}") };
            assert_eq!((public.algorithm.as_str(), public.key.len()), (algorithm, octets));
            let again = self::public(&PrivatePkcs8KeyDer::from(der.as_slice()).into()).unwrap();
            assert_eq!(again, public);
        }
    }

    #[test]
    fn what_is_no_key_for_mail_is_refused() {
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        for (text, words) in [
            ("nonsense".to_owned(), "holds no private key"),
            (other, "that mail is not signed with"),
            ("x".repeat(MAX_KEY_FILE + 1), "too large"),
        ] {
            let why = answer(&Request::Publish(text.into_bytes())).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}
