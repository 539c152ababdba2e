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
/// Most memory that the passes of one argon2 hash go over, in KiB.
const MAX_ARGON2_WORK: u64 = 4 * 1024 * 1024;
/// Highest cost of bcrypt: two to this power.
const MAX_BCRYPT_COST: u32 = 15;
/// Most memory of one yescrypt hash, in octets.
const MAX_YESCRYPT_MEMORY: u64 = 256 * 1024 * 1024;
/// Longest parameters of a yescrypt hash, in octets: flags, N and r, and none of those that multiply the time or name a
/// table that is not here.
const MAX_YESCRYPT_PARAMETERS: usize = 4;
/// Most rounds of a hash of SHA-crypt.
const MAX_SHA_CRYPT_ROUNDS: u32 = 1_000_000;
/// Most iterations of a secret of SCRAM.
const MAX_SCRAM_ITERATIONS: u32 = 1_000_000;

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

/// Why a stored password is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is none: the account is locked, or has none.
    Locked,
    /// It is broken, or of no kind that we know.
    Unknown,
    /// To check it costs more than any should.
    TooCostly,
}

impl Hash {
    /// Reads a stored password.
    ///
    /// # Errors
    /// It can let nobody in.
    pub fn parse(text: &str) -> Result<Self, Unfit> {
        if text.is_empty() || text.starts_with(['!', '*']) {
            return Err(Unfit::Locked);
        }
        let kind = text.strip_prefix('$').and_then(|rest| rest.split('$').next());
        let (hash, fits) = match kind {
            Some("argon2id" | "argon2i" | "argon2d") => (Hash::Argon2(text.into()), fits_argon2(text)),
            Some("2a" | "2b" | "2y") => (Hash::Bcrypt(text.into()), fits_bcrypt(text)),
            Some("y") => (Hash::Yescrypt(text.into()), fits_yescrypt(text)),
            Some("5" | "6") => (Hash::ShaCrypt(text.into()), fits_sha_crypt(text)),
            _ => {
                let secret = ScramSecret::parse(text).ok_or(Unfit::Unknown)?;
                let fits = secret.iterations <= MAX_SCRAM_ITERATIONS;
                (Hash::Scram(secret), Some(fits))
            }
        };
        match fits {
            Some(true) => Ok(hash),
            Some(false) => Err(Unfit::TooCostly),
            None => Err(Unfit::Unknown),
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

// Whether a hash costs no more than any should; `None` if it cannot be read.

fn fits_argon2(text: &str) -> Option<bool> {
    let params = Params::try_from(&PasswordHash::new(text).ok()?).ok()?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    Some(params.m_cost() <= MAX_ARGON2_KIB && work <= MAX_ARGON2_WORK)
}

fn fits_bcrypt(text: &str) -> Option<bool> {
    let cost = text.split('$').nth(2)?.parse::<u32>().ok()?;
    (text.len() == 60).then_some(cost <= MAX_BCRYPT_COST)
}

fn fits_yescrypt(text: &str) -> Option<bool> {
    let parameters = text.split('$').nth(2)?;
    let params: yescrypt::Params = parameters.parse().ok()?;
    let memory = params.n().checked_mul(u64::from(params.r()) * 128);
    let fits = memory.is_some_and(|memory| memory <= MAX_YESCRYPT_MEMORY);
    Some(fits && parameters.len() <= MAX_YESCRYPT_PARAMETERS)
}

fn fits_sha_crypt(text: &str) -> Option<bool> {
    let field = text.split('$').nth(2)?;
    let Some(rounds) = field.strip_prefix("rounds=") else { return Some(true) };
    let digits = !rounds.is_empty() && rounds.bytes().all(|b| b.is_ascii_digit());
    // More digits than any number of rounds can have are too many rounds, too.
    digits.then(|| rounds.parse::<u32>().is_ok_and(|rounds| rounds <= MAX_SHA_CRYPT_ROUNDS))
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
            let hash = Hash::parse(text).unwrap_or_else(|why| panic!("{text}: {why:?}"));
            assert!(hash.verifies("pencil"), "{text}");
            assert!(!hash.verifies("Pencil") && !hash.verifies("pencil "), "{text}");
        }
        let hash = Hash::parse(PASSWORD).unwrap();
        assert!(hash.verifies("password") && !hash.verifies("Password"));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in
            ["", "!", "*", "!!", "!$5$rounds=1000$saltstring$IDMRVjjzM7pxdq5saV3T0Syncing1KAt3iS2GewFZH1"]
        {
            assert_eq!(Hash::parse(text).err(), Some(Unfit::Locked), "{text}");
        }
        for text in [
            "pencil",
            "x",
            "$1$salt$qJH7.N4xYta3aEG/dfqo/0",
            "$y$",
            "$y$j9$salt$hash",
            "$6$rounds=$salt$hash",
            "$6$rounds=-5$salt$hash",
            "$2b$05$short",
        ] {
            assert_eq!(Hash::parse(text).err(), Some(Unfit::Unknown), "{text}");
        }
    }

    #[test]
    fn what_costs_too_much_is_refused() {
        for text in [
            "$argon2id$v=19$m=1048576,t=1,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "$argon2id$v=19$m=19456,t=300,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "$argon2id$v=19$m=262144,t=17,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "$2b$31$abcdefghijklmnopqrstuuKEDF9Z1Rk9JRy2dcJvJPVp5V5GxoX1y",
            // 2^22 blocks of 4 KiB, and the usual memory many times over.
            "$y$jJT$F5Jx5fExrKuPp53xLKQ..1$rPeawue/nS.5CE6nTU9GpACAbn46u5ZGm.W6wf1Q.RD",
            "$y$j9T/0$F5Jx5fExrKuPp53xLKQ..1$rPeawue/nS.5CE6nTU9GpACAbn46u5ZGm.W6wf1Q.RD",
            "$6$rounds=999999999$saltstring$Dst5SzMCiLiSWQN0EnEgf8DNbHOJRybf7gWFoq4HhaAWnZcpnsBwYgTSajPGyhfsjkr51qmiDafX//8bUiGTO1",
            "$5$rounds=99999999999999999999$saltstring$IDMRVjjzM7pxdq5saV3T0Syncing1KAt3iS2GewFZH1",
            "SCRAM-SHA-256$4000000000:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        ] {
            assert_eq!(Hash::parse(text).err(), Some(Unfit::TooCostly), "{text}");
        }
    }
}
