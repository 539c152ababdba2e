//! The keys of an identity provider: a JSON Web Key Set (RFC 7517) in a file. Only public keys of kinds that can be used here
//! are kept; of the others it is remembered why not, and they verify nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaVerificationAlgorithm,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

/// Largest file, in octets.
const MAX_FILE: u64 = 256 * 1024;
/// Most keys that count: for a token that names none, each is tried.
const MAX_KEYS: usize = 32;
/// Shortest and longest modulus of RSA, in octets.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;
/// Longest public exponent of RSA, in octets: no more is verified with.
const MAX_EXPONENT: usize = 4;
/// How an uncompressed point begins (SEC 1).
const UNCOMPRESSED: u8 = 4;

/// How a token is signed (RFC 7518 3.1, RFC 8037): those that anybody can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// The same with SHA-384.
    Rs384,
    /// The same with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// Why a key is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is no key, or of a kind that is not known; a symmetric one among them.
    Unknown,
    /// It is the private one, which has no business here.
    Private,
    /// It is not for signatures.
    Use,
    /// It could never verify anything: numbers that make no key of RSA, a point that is not on its curve.
    Invalid,
    /// One too many.
    TooMany,
}

/// One public key.
#[derive(Debug)]
pub struct Key {
    id: Option<String>,
    /// The one algorithm that it is for, if it says so.
    only: Option<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The keys of one file.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    unfit: Vec<(Option<String>, Unfit)>,
}

impl KeySet {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is too large, or is no set of keys.
    pub fn read(file: OwnedFd) -> io::Result<Self> {
        let mut text = String::new();
        File::from(file).take(MAX_FILE + 1).read_to_string(&mut text)?;
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        if text.len() as u64 > MAX_FILE {
            return Err(invalid("file is too large"));
        }
        KeySet::parse(&text).ok_or_else(|| invalid("no set of keys (RFC 7517)"))
    }

    /// Reads the text of a file; `None` if it is no set of keys.
    pub fn parse(text: &str) -> Option<Self> {
        let Value::Object(whole) = serde_json::from_str(text).ok()? else { return None };
        let mut set = KeySet::default();
        for value in whole.get("keys")?.as_array()? {
            let id = value.get("kid").and_then(Value::as_str).map(str::to_owned);
            match value.as_object().ok_or(Unfit::Unknown).and_then(|key| Key::parse(key, id.clone())) {
                Ok(_) if set.keys.len() >= MAX_KEYS => set.refuse(id, Unfit::TooMany),
                Ok(key) => set.keys.push(key),
                Err(why) => set.refuse(id, why),
            }
        }
        Some(set)
    }

    fn refuse(&mut self, id: Option<String>, why: Unfit) {
        if self.unfit.len() < MAX_KEYS {
            self.unfit.push((id, why));
        }
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if none can.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Those that cannot, by their `kid`, and why.
    pub fn unfit(&self) -> &[(Option<String>, Unfit)] {
        &self.unfit
    }

    /// Keys that may have signed so: the one that is named, or all of the kind.
    pub fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.fits(algorithm) && (id.is_none() || key.id.as_deref() == id))
    }
}

impl Key {
    fn parse(key: &Map<String, Value>, id: Option<String>) -> Result<Self, Unfit> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        if key.contains_key("d") {
            return Err(Unfit::Private);
        }
        let is_for_verifying = match key.get("key_ops") {
            None => true,
            Some(list) => list.as_array().is_some_and(|list| list.iter().any(|one| one == "verify")),
        };
        if !is_for_verifying || key.get("use").is_some_and(|what| what != "sig") {
            return Err(Unfit::Use);
        }
        let octets = |name: &str| {
            let decoded = text(name).and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
            decoded.ok_or(Unfit::Unknown)
        };
        let point = |length: usize, how: &'static EcdsaVerificationAlgorithm| {
            let (x, y) = (octets("x")?, octets("y")?);
            if x.len() != length || y.len() != length {
                return Err(Unfit::Unknown);
            }
            let point = [&[UNCOMPRESSED][..], &x, &y].concat();
            match ParsedPublicKey::new(how, &point) {
                Ok(_) => Ok(point),
                Err(_) => Err(Unfit::Invalid),
            }
        };
        let material = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => {
                let (n, e) = (octets("n")?, octets("e")?);
                if !MODULUS.contains(&n.len()) {
                    return Err(Unfit::Unknown);
                }
                if !is_rsa(&n, &e) {
                    return Err(Unfit::Invalid);
                }
                Material::Rsa(RsaPublicKeyComponents { n, e })
            }
            (Some("EC"), Some("P-256")) => Material::P256(point(32, &ECDSA_P256_SHA256_FIXED)?),
            (Some("EC"), Some("P-384")) => Material::P384(point(48, &ECDSA_P384_SHA384_FIXED)?),
            (Some("OKP"), Some("Ed25519")) => {
                let key = octets("x")?;
                if key.len() != 32 {
                    return Err(Unfit::Unknown);
                }
                Material::Ed25519(key)
            }
            _ => return Err(Unfit::Unknown),
        };
        let only = match key.get("alg") {
            None => None,
            Some(name) => Some(name.as_str().and_then(Algorithm::parse).ok_or(Unfit::Unknown)?),
        };
        let key = Key { id, only: None, material };
        if only.is_some_and(|only| !key.fits(only)) {
            return Err(Unfit::Unknown);
        }
        Ok(Key { only, ..key })
    }

    /// True if this key can have signed by this algorithm.
    fn fits(&self, algorithm: Algorithm) -> bool {
        let is_of_the_kind = match &self.material {
            Material::Rsa(_) => algorithm.rsa().is_some(),
            Material::P256(_) => algorithm == Algorithm::Es256,
            Material::P384(_) => algorithm == Algorithm::Es384,
            Material::Ed25519(_) => algorithm == Algorithm::EdDsa,
        };
        is_of_the_kind && self.only.is_none_or(|only| only == algorithm)
    }

    /// True if this key has signed this text so.
    pub fn verifies(&self, algorithm: Algorithm, text: &[u8], signature: &[u8]) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        let by = |how: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(how, key).verify(text, signature).is_ok()
        };
        match &self.material {
            Material::Rsa(key) => algorithm.rsa().is_some_and(|how| key.verify(how, text, signature).is_ok()),
            Material::P256(point) => by(&ECDSA_P256_SHA256_FIXED, point),
            Material::P384(point) => by(&ECDSA_P384_SHA384_FIXED, point),
            Material::Ed25519(key) => by(&ED25519, key),
        }
    }
}

impl Algorithm {
    /// The algorithm of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Algorithm::Rs256,
            "RS384" => Algorithm::Rs384,
            "RS512" => Algorithm::Rs512,
            "PS256" => Algorithm::Ps256,
            "ES256" => Algorithm::Es256,
            "ES384" => Algorithm::Es384,
            // RFC 9864 gives it a name of its own.
            "EdDSA" | "Ed25519" => Algorithm::EdDsa,
            _ => return None,
        })
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
        }
    }
}

/// True if these can be the numbers of a key of RSA, written as RFC 7518 6.3.1 says: no zero comes first, both are odd, and the
/// modulus fills its octets if it has no more of them than it must.
fn is_rsa(n: &[u8], e: &[u8]) -> bool {
    let is_odd = |number: &[u8]| {
        number.first().is_some_and(|first| *first != 0) && number.last().is_some_and(|last| last & 1 == 1)
    };
    let is_long = n.len() > *MODULUS.start() || n.first().is_some_and(|first| first & 0x80 != 0);
    is_odd(n) && is_long && is_odd(e) && e.len() <= MAX_EXPONENT && e != [1]
}

/// Lets the library look at the machine, which it cannot do inside the jail.
pub fn warm_up() {
    let point = [UNCOMPRESSED; 65];
    // It is no point, and nothing is signed: the answer does not matter.
    let _ = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(b"", &[0; 64]);
}

impl Unfit {
    /// As the log says it.
    pub fn word(self) -> &'static str {
        match self {
            Unfit::Unknown => "not-known",
            Unfit::Private => "private",
            Unfit::Use => "not-for-signatures",
            Unfit::Invalid => "not-valid",
            Unfit::TooMany => "too-many",
        }
    }
}
