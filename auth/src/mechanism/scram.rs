//! SCRAM-SHA-256 and -PLUS (RFC 5802, RFC 7677, channel binding of RFC 9266). The password never comes here: the client
//! proves that it knows it, and we prove that we know what is stored of it.
//!
//! SMTP has no place for a message with its success (RFC 4954 4), so our proof is one more challenge, which the client
//! answers with nothing.

use std::fmt;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Step, Surroundings, Talk};
use crate::secret::user;

/// Fewest iterations that are taken from a file (RFC 7677 4).
pub const MIN_ITERATIONS: u32 = 4096;
/// Longest nonce of a client, in octets.
const MAX_NONCE: usize = 256;
/// The one channel binding that there is here.
const BINDING: &str = "p=tls-exporter";

/// What is stored of a password (RFC 5803).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramSecret {
    /// Iterations of PBKDF2.
    pub iterations: u32,
    /// The salt.
    pub salt: Vec<u8>,
    /// Hash of what the client must know.
    pub stored_key: [u8; 32],
    /// What the server proves that it knows.
    pub server_key: [u8; 32],
}

impl fmt::Debug for ScramSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramSecret(..)")
    }
}

impl ScramSecret {
    /// Makes the secret of a password. Slow on purpose.
    pub fn new(password: &str, salt: &[u8], iterations: u32) -> Self {
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, iterations, &mut salted);
        ScramSecret {
            iterations,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(hmac(&salted, b"Client Key")).into(),
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    /// Reads `SCRAM-SHA-256$iterations:salt$stored:server` (RFC 5803 3).
    pub fn parse(text: &str) -> Option<Self> {
        let (count, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let ((iterations, salt), (stored, server)) = (count.split_once(':')?, keys.split_once(':')?);
        let key = |text: &str| <[u8; 32]>::try_from(BASE64.decode(text.as_bytes()).ok()?).ok();
        let iterations = iterations.parse().ok().filter(|count| *count >= MIN_ITERATIONS)?;
        let salt = BASE64.decode(salt.as_bytes()).ok().filter(|salt| !salt.is_empty())?;
        Some(ScramSecret { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
    }

    /// Whether this is the password: for mechanisms that send it. Slow on purpose.
    pub fn verifies(&self, password: &str) -> bool {
        let other = ScramSecret::new(password, &self.salt, self.iterations);
        other.stored_key.ct_eq(&self.stored_key).into()
    }
}

impl fmt::Display for ScramSecret {
    /// As [`ScramSecret::parse`] reads it. Whoever has it can pretend to be the server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |octets: &[u8]| BASE64.encode(octets);
        write!(
            f,
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            encode(&self.salt),
            encode(&self.stored_key),
            encode(&self.server_key)
        )
    }
}

/// The secret of a user that does not exist: always the same for the same name and seed, so that asking twice tells nothing,
/// and known to nobody.
pub fn decoy(seed: &[u8], name: &str, iterations: u32) -> ScramSecret {
    let derive = |what: &str| hmac(seed, format!("{what}\0{name}").as_bytes());
    ScramSecret {
        iterations,
        salt: derive("salt")[..16].to_vec(),
        stored_key: derive("stored"),
        server_key: derive("server"),
    }
}

/// What is awaited.
pub enum Scram {
    /// The client's first message.
    First {
        /// The mechanism is -PLUS.
        plus: bool,
    },
    /// Its proof.
    Proof(Awaited),
    /// Its last word, which is empty: everything was right.
    Last(String),
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scram(..)")
    }
}

/// What the proof is about.
pub struct Awaited {
    user: String,
    secret: ScramSecret,
    nonce: String,
    /// What `c=` must hold.
    binding: String,
    /// Both first messages, as they are signed.
    signed: String,
}

impl Scram {
    pub(super) fn step(self, message: &[u8], surroundings: &Surroundings<'_>) -> Step {
        match self {
            Scram::First { plus } => first(message, plus, surroundings).unwrap_or(Step::Malformed),
            Scram::Proof(awaited) => awaited.check(message).unwrap_or(Step::Malformed),
            Scram::Last(user) if message.is_empty() => Step::Granted(user),
            Scram::Last(_) => Step::Malformed,
        }
    }
}

/// `gs2-header "n=" name ",r=" nonce`.
fn first(message: &[u8], plus: bool, surroundings: &Surroundings<'_>) -> Option<Step> {
    let text = std::str::from_utf8(message).ok()?;
    let (flag, rest) = text.split_once(',')?;
    let (for_whom, bare) = rest.split_once(',')?;
    let header = format!("{flag},{for_whom},");
    let bound = match (flag, plus) {
        (BINDING, true) => surroundings.exporter?,
        ("n", false) => &[],
        // The client could bind and was told that we cannot. If that is not what we said, somebody stands between us.
        ("y", false) if !surroundings.plus_offered => &[],
        _ => return None,
    };
    let mut attributes = bare.split(',');
    // A first attribute `m=` would be an extension that must be understood.
    let name = unescape(attributes.next()?.strip_prefix("n=")?)?;
    let theirs = attributes.next()?.strip_prefix("r=")?;
    let is_nonce = |octet: u8| octet.is_ascii_graphic() && octet != b',';
    if theirs.is_empty() || theirs.len() > MAX_NONCE || !theirs.bytes().all(is_nonce) {
        return None;
    }
    if !for_whom.is_empty() && unescape(for_whom.strip_prefix("a=")?)? != name {
        return Some(Step::Wrong(Some(name)));
    }
    let secret = (surroundings.secret)(&name);
    let nonce = format!("{theirs}{}", surroundings.nonce);
    let ours = format!("r={nonce},s={},i={}", BASE64.encode(&secret.salt), secret.iterations);
    let awaited = Awaited {
        user: name,
        secret,
        nonce,
        binding: BASE64.encode(&[header.as_bytes(), bound].concat()),
        signed: format!("{bare},{ours}"),
    };
    Some(Step::Challenge(Talk::Scram(Box::new(Scram::Proof(awaited))), ours.into_bytes()))
}

impl Awaited {
    /// `"c=" binding ",r=" nonce ",p=" proof`.
    fn check(self, message: &[u8]) -> Option<Step> {
        let text = std::str::from_utf8(message).ok()?;
        let (unproved, proof) = text.rsplit_once(",p=")?;
        let mut attributes = unproved.split(',');
        let binding = attributes.next()?.strip_prefix("c=")?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let proof: [u8; 32] = BASE64.decode(proof.as_bytes()).ok()?.try_into().ok()?;
        let signed = format!("{},{unproved}", self.signed);
        let signature = hmac(&self.secret.stored_key, signed.as_bytes());
        let mut key = proof;
        key.iter_mut().zip(signature).for_each(|(octet, other)| *octet ^= other);
        let proved: bool = Sha256::digest(key).as_slice().ct_eq(&self.secret.stored_key).into();
        if !(proved && binding == self.binding && nonce == self.nonce) {
            return Some(Step::Wrong(Some(self.user)));
        }
        let ours = format!("v={}", BASE64.encode(&hmac(&self.secret.server_key, signed.as_bytes())));
        Some(Step::Challenge(Talk::Scram(Box::new(Scram::Last(self.user))), ours.into_bytes()))
    }
}

/// A name, in which `=2C` and `=3D` stand for `,` and `=` (RFC 5802 5.1).
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let rest = match part.get(..2)? {
            "2C" => {
                name.push(',');
                part.get(2..)?
            }
            "3D" => {
                name.push('=');
                part.get(2..)?
            }
            _ => return None,
        };
        name.push_str(rest);
    }
    user(name.as_bytes())
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of HMAC may have any length (RFC 2104 2)");
    mac.chain_update(text).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 3.
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const OURS: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
    const REPLY: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const LAST: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn secret() -> ScramSecret {
        ScramSecret::new("pencil", &BASE64.decode(SALT.as_bytes()).unwrap(), 4096)
    }

    fn with<T>(exporter: Option<&[u8]>, plus_offered: bool, act: impl FnOnce(&Surroundings<'_>) -> T) -> T {
        let find = |name: &str| if name == "user" { secret() } else { decoy(b"seed", name, 4096) };
        act(&Surroundings { secret: &find, nonce: OURS, exporter, plus_offered, certificate: None })
    }

    fn begin(message: &str, plus: bool, exporter: Option<&[u8]>, offered: bool) -> Step {
        with(exporter, offered, |s| Scram::First { plus }.step(message.as_bytes(), s))
    }

    fn go_on(step: Step, message: &str) -> Step {
        let Step::Challenge(Talk::Scram(scram), _) = step else { return Step::Malformed };
        with(None, false, |s| scram.step(message.as_bytes(), s))
    }

    #[test]
    fn the_exchange_of_rfc_7677() {
        let step = begin(FIRST, false, None, false);
        assert!(matches!(&step, Step::Challenge(_, said) if said == REPLY.as_bytes()));
        let step = go_on(step, PROOF);
        assert!(matches!(&step, Step::Challenge(_, said) if said == LAST.as_bytes()));
        assert!(matches!(go_on(step, ""), Step::Granted(name) if name == "user"));
    }

    #[test]
    fn another_proof_nonce_or_binding_is_wrong() {
        for (from, to) in [("dHzb", "dHzc"), ("k0,p", "k1,p"), ("c=biws", "c=eSws"), ("c=biws", "c=")] {
            let step = go_on(begin(FIRST, false, None, false), &PROOF.replace(from, to));
            assert!(matches!(step, Step::Wrong(Some(name)) if name == "user"), "{from} {to}");
        }
        let step = go_on(begin(FIRST, false, None, false), PROOF);
        assert!(matches!(go_on(step, "x"), Step::Malformed));
    }

    #[test]
    fn users_that_do_not_exist_look_like_others() {
        let first = FIRST.replace("n=user", "n=nobody");
        let said = |step| match step {
            Step::Challenge(_, said) => String::from_utf8(said).unwrap(),
            _ => panic!(),
        };
        let once = said(begin(&first, false, None, false));
        assert_eq!(once, said(begin(&first, false, None, false)));
        assert_eq!(once.len(), REPLY.len());
        assert!(matches!(go_on(begin(&first, false, None, false), PROOF), Step::Wrong(_)));
    }

    #[test]
    fn a_client_that_was_lied_to_about_the_binding_is_refused() {
        let y = FIRST.replacen('n', "y", 1);
        assert!(matches!(begin(&y, false, None, false), Step::Challenge(..)));
        assert!(matches!(begin(&y, false, Some(b"x"), true), Step::Malformed));
    }

    #[test]
    fn the_binding_is_that_of_this_connection() {
        let p = FIRST.replacen('n', BINDING, 1);
        assert!(matches!(begin(&p, true, None, false), Step::Malformed));
        assert!(matches!(begin(&p, false, Some(b"x"), true), Step::Malformed));
        assert!(matches!(begin(FIRST, true, Some(b"x"), true), Step::Malformed));
        let other = FIRST.replacen('n', "p=tls-unique", 1);
        assert!(matches!(begin(&other, true, Some(b"x"), true), Step::Malformed));
        for (bound, right) in [(&b"0123"[..], true), (b"4567", false)] {
            let Step::Challenge(Talk::Scram(scram), said) = begin(&p, true, Some(b"0123"), true) else {
                panic!()
            };
            let said = String::from_utf8(said).unwrap();
            let binding = BASE64.encode(&[b"p=tls-exporter,,", bound].concat());
            let unproved = format!("c={binding},r=rOprNGfwEbeRWgbNEkqO{OURS}");
            let signed = format!("n=user,r=rOprNGfwEbeRWgbNEkqO,{said},{unproved}");
            let mut salted = [0; 32];
            pbkdf2::pbkdf2_hmac::<Sha256>(b"pencil", &secret().salt, 4096, &mut salted);
            let key = hmac(&salted, b"Client Key");
            let signature = hmac(&Sha256::digest(key), signed.as_bytes());
            let proof: Vec<u8> = key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
            let last = format!("{unproved},p={}", BASE64.encode(&proof));
            let step = with(None, false, |s| scram.step(last.as_bytes(), s));
            assert_eq!(matches!(step, Step::Challenge(..)), right);
        }
    }

    #[test]
    fn what_is_no_first_message_is_refused() {
        for bad in [
            "",
            "n",
            "n,,",
            "n,,n=user",
            "n,,r=x,n=user",
            "n,,m=x,n=user,r=x",
            "n,,n=us=er,r=x",
            "n,,n=us=2cer,r=x",
            "n,,n=,r=x",
            "n,,n=user,r=",
            "n,,n=user,r=a b",
            "x,,n=user,r=x",
            "n,b,n=user,r=x",
        ] {
            assert!(matches!(begin(bad, false, None, false), Step::Malformed), "{bad}");
        }
        assert!(matches!(begin("n,a=root,n=user,r=x", false, None, false), Step::Wrong(_)));
        assert!(matches!(begin("n,a=a=2Cb=3D,n=a=2Cb=3D,r=x", false, None, false), Step::Challenge(..)));
    }

    #[test]
    fn secrets_are_read_as_they_are_written() {
        let secret = secret();
        assert_eq!(ScramSecret::parse(&secret.to_string()), Some(secret.clone()));
        assert!(secret.verifies("pencil") && !secret.verifies("Pencil"));
        assert_eq!(format!("{secret:?}"), "ScramSecret(..)");
        let few = secret.to_string().replace("$4096:", "$4095:");
        for bad in [&*few, "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:$x:y", "SCRAM-SHA-1$4096:a$b:c"] {
            assert_eq!(ScramSecret::parse(bad), None, "{bad}");
        }
    }
}
