//! The public key of a signature, as its domain publishes it (RFC 6376 3.6.1), and whether the signature is right by it.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use vsmtp_ipc::edge::client_resolver::{
    SignatureAlgorithm, SignatureQuestion, SignatureResult, SignatureVerdict,
};
use vsmtp_mail::dkim::{Tags, decode_base64};

use crate::zone::{Judged, Zone, is_absent};

/// Keys under one name that are tried.
const MAX_KEYS: usize = 4;
const ED25519_KEY: usize = 32;

/// Whether a signature is right.
///
/// # Errors
/// Something must be looked up first.
pub fn check(question: &SignatureQuestion, zone: &mut dyn Zone) -> Judged<SignatureVerdict> {
    let name = format!("{}._domainkey.{}", question.selector, question.domain);
    let texts = match zone.texts(&name)? {
        Ok(texts) => texts,
        Err(error) if is_absent(error) => {
            return Ok(word(SignatureResult::PermError, "no key for signature"));
        }
        Err(_) => return Ok(word(SignatureResult::TempError, "key cannot be looked up")),
    };
    let verdicts = texts.iter().take(MAX_KEYS).map(|text| by_key(question, text));
    let best = verdicts.min_by_key(|verdict| match verdict.result {
        SignatureResult::Pass => 0,
        SignatureResult::Fail => 1,
        SignatureResult::TempError | SignatureResult::PermError => 2,
    });
    Ok(best.unwrap_or_else(|| word(SignatureResult::PermError, "no key for signature")))
}

fn word(result: SignatureResult, reason: &str) -> SignatureVerdict {
    SignatureVerdict { result, reason: reason.to_owned(), testing: false }
}

fn by_key(question: &SignatureQuestion, text: &[u8]) -> SignatureVerdict {
    let unusable = |reason: &str| word(SignatureResult::PermError, reason);
    let Some(key) = std::str::from_utf8(text).ok().and_then(Key::parse) else {
        return unusable("key cannot be read");
    };
    let testing = key.testing;
    let verdict = match key.usable_for(question) {
        Err(reason) => unusable(reason),
        Ok(()) if key.is_right(question) => word(SignatureResult::Pass, ""),
        Ok(()) => word(SignatureResult::Fail, "signature did not verify"),
    };
    SignatureVerdict { testing, ..verdict }
}

struct Key {
    algorithm: Option<SignatureAlgorithm>,
    octets: Vec<u8>,
    takes_sha256: bool,
    is_for_mail: bool,
    testing: bool,
    exact_only: bool,
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        let tags = Tags::parse(text)?;
        match tags.get("v") {
            Some("DKIM1") if tags.first() == Some("v") => {}
            None => {}
            Some(_) => return None,
        }
        let listed = |name: &str, all: &str, wanted: &str| {
            tags.get(name).is_none_or(|list| {
                list.split(':')
                    .map(str::trim_ascii)
                    .any(|word| word == wanted || (!all.is_empty() && word == all))
            })
        };
        let flag = |flag: &str| {
            tags.get("t").is_some_and(|list| list.split(':').any(|word| word.trim_ascii() == flag))
        };
        Some(Key {
            algorithm: match tags.get("k").unwrap_or("rsa") {
                "rsa" => Some(SignatureAlgorithm::RsaSha256),
                "ed25519" => Some(SignatureAlgorithm::Ed25519Sha256),
                _ => None,
            },
            octets: decode_base64(tags.get("p")?)?,
            takes_sha256: listed("h", "", "sha256"),
            is_for_mail: listed("s", "*", "email"),
            testing: flag("y"),
            exact_only: flag("s"),
        })
    }

    fn usable_for(&self, question: &SignatureQuestion) -> Result<(), &'static str> {
        if self.octets.is_empty() {
            return Err("key is revoked");
        }
        if self.algorithm != Some(question.algorithm) {
            return Err("key is of another kind");
        }
        if !self.takes_sha256 {
            return Err("key does not take this hash");
        }
        if !self.is_for_mail {
            return Err("key is not for mail");
        }
        if self.exact_only && !question.exact {
            return Err("key is not for this identity");
        }
        Ok(())
    }

    /// RSA keys of less than 1024 bits are no keys (RFC 8301 3.2).
    fn is_right(&self, question: &SignatureQuestion) -> bool {
        let right = match question.algorithm {
            SignatureAlgorithm::RsaSha256 => {
                UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, &self.octets)
                    .verify(&question.data, &question.signature)
            }
            // RFC 8463 3: what is signed is the hash.
            SignatureAlgorithm::Ed25519Sha256 if self.octets.len() == ED25519_KEY => {
                let hash = digest(&SHA256, &question.data);
                UnparsedPublicKey::new(&ED25519, &self.octets).verify(hash.as_ref(), &question.signature)
            }
            SignatureAlgorithm::Ed25519Sha256 => return false,
        };
        right.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::edge::client_resolver::{DnsError, Records};
    use vsmtp_mail::dkim::{Algorithm, Signature, signed_data};
    use vsmtp_mail::{HeaderBlock, header_end};

    use super::*;
    use crate::finding::Key as Asked;
    use crate::zone::Found;

    /// The examples of RFC 6376 (A.2) and RFC 8463 (A.3).
    const RFC_6376: &[u8] = include_bytes!("../../lib/mail/tests/data/rfc6376.eml");
    const RFC_8463: &[u8] = include_bytes!("../../lib/mail/tests/data/rfc8463.eml");
    const ED25519: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    const RSA: &str = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB";
    const OLD_RSA: &str = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB";

    struct Published<'a>(&'a str, &'a [&'a str]);

    impl Zone for Published<'_> {
        fn find(&mut self, key: Asked) -> Judged<Found> {
            if key.name.to_ascii().trim_end_matches('.') == self.0 {
                return Ok(Ok(Records::Text(self.1.iter().map(|text| text.as_bytes().to_vec()).collect())));
            }
            Ok(Err(DnsError::NoSuchName))
        }
    }

    fn question(message: &[u8], which: usize) -> SignatureQuestion {
        let header = HeaderBlock::parse(&message[..header_end(message)]);
        let field = header.named("DKIM-Signature").nth(which).unwrap();
        let signature = Signature::parse(std::str::from_utf8(field.value()).unwrap()).unwrap();
        SignatureQuestion {
            domain: signature.domain.clone(),
            selector: signature.selector.clone(),
            algorithm: match signature.algorithm {
                Algorithm::RsaSha256 => SignatureAlgorithm::RsaSha256,
                Algorithm::Ed25519Sha256 => SignatureAlgorithm::Ed25519Sha256,
            },
            exact: signature.is_exact(),
            data: signed_data(&header, &signature.names, signature.canon.0, field.raw()),
            signature: signature.signature,
        }
    }

    fn result(question: &SignatureQuestion, at: &str, texts: &[&str]) -> (SignatureResult, String) {
        let verdict = check(question, &mut Published(at, texts)).unwrap();
        (verdict.result, verdict.reason)
    }

    #[test]
    fn signatures_of_the_rfcs_are_right() {
        for (message, which, at, key) in [
            (RFC_8463, 0, "brisbane._domainkey.football.example.com", ED25519),
            (RFC_8463, 1, "test._domainkey.football.example.com", RSA),
            (RFC_6376, 0, "brisbane._domainkey.example.com", OLD_RSA),
        ] {
            let question = question(message, which);
            assert_eq!(result(&question, at, &[key]).0, SignatureResult::Pass, "{at}");
            // Several keys, one of which is right.
            assert_eq!(result(&question, at, &["nonsense", key]).0, SignatureResult::Pass, "{at}");
            let mut changed = question.clone();
            changed.data[0] ^= 1;
            assert_eq!(result(&changed, at, &[key]).0, SignatureResult::Fail, "{at}");
            let mut changed = question.clone();
            changed.signature.pop();
            assert_eq!(result(&changed, at, &[key]).0, SignatureResult::Fail, "{at}");
        }
    }

    #[test]
    fn a_key_that_is_not_for_it_is_no_key() {
        let at = "brisbane._domainkey.football.example.com";
        let good = question(RFC_8463, 0);
        let bad = |text: &str| {
            let (result, reason) = result(&good, at, &[text]);
            assert_eq!(result, SignatureResult::PermError, "{text}");
            reason
        };
        assert_eq!(bad(RSA), "key is of another kind");
        assert_eq!(bad("v=DKIM1; k=ed25519; p="), "key is revoked");
        assert_eq!(bad("v=DKIM2; k=ed25519; p=AAAA"), "key cannot be read");
        assert_eq!(bad("k=ed25519"), "key cannot be read");
        assert_eq!(bad(&ED25519.replace("; k", "; h=sha1; k")), "key does not take this hash");
        assert_eq!(bad(&ED25519.replace("; k", "; s=tlsrpt; k")), "key is not for mail");
        assert_eq!(result(&good, "elsewhere.test", &[ED25519]).1, "no key for signature");
        let below = SignatureQuestion { exact: false, ..good.clone() };
        let strict = ED25519.replace("; k", "; t=y:s; k");
        assert_eq!(result(&below, at, &[&strict]).1, "key is not for this identity");
        let verdict = check(&good, &mut Published(at, &[&strict])).unwrap();
        assert_eq!((verdict.result, verdict.testing), (SignatureResult::Pass, true));
        // The wrong length of a key of the right kind.
        assert_eq!(result(&good, at, &["k=ed25519; p=AAAA"]).0, SignatureResult::Fail);
    }
}
