//! One stored password: which kinds there are, and whether a password is it. Slow on purpose, and bounded: a line of a file
//! must not take the memory of the whole machine.

use std::sync::{Condvar, Mutex, PoisonError};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use sha_crypt::ShaCrypt;
use yescrypt::Yescrypt;

use crate::mechanism::ScramSecret;
use crate::secret::Password;

/// Hashes that are computed at once: each may take as much memory as its parameters say.
pub const HASHES_AT_ONCE: u32 = 4;
/// Most memory of one argon2 hash, in KiB.
const MAX_ARGON2_KIB: u32 = 256 * 1024;
/// Most passes of one argon2 hash.
const MAX_ARGON2_PASSES: u32 = 64;
/// Highest cost of bcrypt: two to this power.
const MAX_BCRYPT_COST: u32 = 16;

/// A stored password.
#[derive(Clone)]
pub enum Hash {
    /// `$argon2id$`, `$argon2i$`, `$argon2d$`.
    Argon2(Box<str>),
    /// `$2a$`, `$2b$`, `$2y$`.
    Bcrypt(Box<str>),
    /// `$y$`.
    Yescrypt(Box<str>),
    /// `$5$`, `$6$`.
    ShaCrypt(Box<str>),
    /// `SCRAM-SHA-256$`.
    Scram(ScramSecret),
}

impl Hash {
    /// Reads a stored password; `None` if it is of no kind that we know, or costs more than any should.
    pub fn parse(text: &str) -> Option<Self> {
        let kind = text.strip_prefix('$').and_then(|rest| rest.split('$').next());
        match kind {
            Some("argon2id" | "argon2i" | "argon2d") => {
                let hash = PasswordHash::new(text).ok()?;
                let params = Params::try_from(&hash).ok()?;
                let fits = params.m_cost() <= MAX_ARGON2_KIB && params.t_cost() <= MAX_ARGON2_PASSES;
                fits.then(|| Hash::Argon2(text.into()))
            }
            Some("2a" | "2b" | "2y") => {
                let cost = text.split('$').nth(2)?.parse::<u32>().ok()?;
                let fits = cost <= MAX_BCRYPT_COST && text.len() == 60;
                fits.then(|| Hash::Bcrypt(text.into()))
            }
            Some("y") => Some(Hash::Yescrypt(text.into())),
            Some("5" | "6") => Some(Hash::ShaCrypt(text.into())),
            _ => ScramSecret::parse(text).map(Hash::Scram),
        }
    }

    /// Whether this is the password. Blocks while [`HASHES_AT_ONCE`] others are computed.
    pub fn verifies(&self, password: &str) -> bool {
        let _slot = Slot::take();
        let octets = password.as_bytes();
        match self {
            Hash::Argon2(text) => PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(octets, &hash).is_ok()),
            Hash::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Hash::Yescrypt(text) => Yescrypt::default().verify_password(octets, &**text).is_ok(),
            Hash::ShaCrypt(text) => ShaCrypt::default().verify_password(octets, &**text).is_ok(),
            Hash::Scram(secret) => secret.verifies(password),
        }
    }
}

/// A way to store a new password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `$argon2id$`: for PLAIN and LOGIN.
    Argon2id,
    /// `SCRAM-SHA-256$`: for all mechanisms.
    Scram,
}

/// Iterations of new secrets of SCRAM.
const NEW_ITERATIONS: u32 = 16_384;

/// Stores a password in a new way; `None` if the salt is of no use.
pub fn make(scheme: Scheme, password: &Password, salt: &[u8]) -> Option<String> {
    let password = password.expose();
    match scheme {
        Scheme::Argon2id => {
            let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), salt).ok()?;
            Some(hash.to_string())
        }
        Scheme::Scram => Some(ScramSecret::new(password, salt, NEW_ITERATIONS).to_string()),
    }
}

static FREE: Mutex<u32> = Mutex::new(HASHES_AT_ONCE);
static FREED: Condvar = Condvar::new();

/// The right to compute one hash.
struct Slot;

impl Slot {
    fn take() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = FREED.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        FREED.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the reference implementation's tests; the others are of "pencil", by the C library.
    const PASSWORD: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    const PENCIL: [&str; 5] = [
        "$2b$05$abcdefghijklmnopqrstuu680Yiaj5hFUaJTH/rTAcbA2PQEGfiZu",
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$rPeawue/nS.5CE6nTU9GpACAbn46u5ZGm.W6wf1Q.RD",
        "$6$rounds=1000$saltstring$Dst5SzMCiLiSWQN0EnEgf8DNbHOJRybf7gWFoq4HhaAWnZcpnsBwYgTSajPGyhfsjkr51qmiDafX//8bUiGTO1",
        "$5$rounds=1000$saltstring$IDMRVjjzM7pxdq5saV3T0Syncing1KAt3iS2GewFZH1",
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
    ];

    #[test]
    fn each_kind_knows_its_password() {
        for text in PENCIL {
            let hash = Hash::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert!(hash.verifies("pencil"), "{text}");
            assert!(!hash.verifies("Pencil") && !hash.verifies("pencil "), "{text}");
        }
        let hash = Hash::parse(PASSWORD).unwrap();
        assert!(hash.verifies("password") && !hash.verifies("Password"));
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused() {
        for text in [
            "",
            "pencil",
            "!",
            "*",
            "$1$salt$qJH7.N4xYta3aEG/dfqo/0",
            "$argon2id$v=19$m=1048576,t=1,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "$argon2id$v=19$m=19456,t=100,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "$2b$31$abcdefghijklmnopqrstuuKEDF9Z1Rk9JRy2dcJvJPVp5V5GxoX1y",
        ] {
            assert!(Hash::parse(text).is_none(), "{text}");
        }
    }
}
