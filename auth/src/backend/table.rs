//! A file of passwords: `name:password` a line, in the form of the system's shadow file or shorter. It is read once, from a
//! descriptor; what cannot be used is counted, told with its line and left out, and never lets anybody in.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Finding;
use super::hash::{Hash, Unfit};
use crate::mechanism::ScramSecret;
use crate::secret::{Credentials, user};

/// Refused lines that are told one by one; of more, only their number.
const MAX_TOLD: usize = 20;
/// Largest file, in octets.
const MAX_FILE: u64 = 32 << 20;
/// Milliseconds of a day: the shadow file counts in days.
const DAY_MS: u64 = 86_400_000;

/// The users of one file.
pub struct Table {
    users: HashMap<String, Entry>,
    /// Verified for users that are not there, so that they take as long as others.
    decoy: Option<Hash>,
    seed: [u8; 32],
    locked: usize,
    unusable: usize,
    told: Vec<Refused>,
}

/// A line that is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Counted from 1.
    pub line: usize,
    /// Whose it is, if that can be read.
    pub user: Option<String>,
    /// Why.
    pub why: Unfit,
}

struct Entry {
    hash: Hash,
    /// The first day, counted from 1970, on which it is not good any more.
    ends: Option<u64>,
}

impl Table {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is too large, or is no text.
    pub fn read(file: OwnedFd) -> io::Result<Self> {
        let mut text = Zeroizing::new(String::new());
        File::from(file).take(MAX_FILE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "file is too large"));
        }
        Ok(Table::parse(&text))
    }

    /// Reads the text of a file. Of two lines for one name the first counts.
    pub fn parse(text: &str) -> Self {
        let mut table = Table {
            users: HashMap::new(),
            decoy: None,
            // The file is a secret, and stays the same over restarts.
            seed: Sha256::digest(text).into(),
            locked: 0,
            unusable: 0,
            told: Vec::new(),
        };
        for (at, line) in text.lines().enumerate() {
            if !line.trim().is_empty() && !line.starts_with('#') {
                table.take(at + 1, line);
            }
        }
        table
    }

    fn take(&mut self, number: usize, line: &str) {
        let (name, rest) = line.trim_end().split_once(':').unwrap_or((line, ""));
        let name = user(name.as_bytes());
        match (name, Entry::parse(rest)) {
            (_, Err(Unfit::Locked)) => self.locked += 1,
            (Some(name), Ok(entry)) => {
                if self.decoy.is_none() {
                    self.decoy = Some(entry.hash.clone());
                }
                self.users.entry(name).or_insert(entry);
            }
            (user, parsed) => {
                self.unusable += 1;
                if self.told.len() < MAX_TOLD {
                    let why = parsed.err().unwrap_or(Unfit::Unknown);
                    self.told.push(Refused { line: number, user, why });
                }
            }
        }
    }

    /// How many users can be checked.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// True if nobody can.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Lines of accounts that are locked, or have no password.
    pub fn locked(&self) -> usize {
        self.locked
    }

    /// Lines that are of no use though they should be: no name, a kind of hash that we do not know, or one that costs too
    /// much.
    pub fn unusable(&self) -> usize {
        self.unusable
    }

    /// The first of these.
    pub fn told(&self) -> &[Refused] {
        &self.told
    }

    /// Whether the password is that of the user. Blocks.
    pub fn check(&self, credentials: &Credentials) -> Finding {
        let entry = self.users.get(&credentials.user);
        let hash = entry.map(|entry| &entry.hash).or(self.decoy.as_ref());
        let is_right = hash.is_some_and(|hash| hash.verifies(credentials.password.expose()));
        match entry {
            Some(entry) if is_right && entry.is_good() => Finding::Yes(credentials.user.clone()),
            _ => Finding::No,
        }
    }

    /// The secret of a user, if it is one of SCRAM.
    pub fn scram_secret(&self, name: &str) -> Option<&ScramSecret> {
        self.users.get(name).filter(|entry| entry.is_good())?.hash.scram()
    }

    /// Any secret of SCRAM, for its parameters.
    pub fn any_scram_secret(&self) -> Option<&ScramSecret> {
        self.users.values().find_map(|entry| entry.hash.scram())
    }

    /// What decoys are made of.
    pub fn seed(&self) -> &[u8] {
        &self.seed
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} users)", self.users.len())
    }
}

impl Hash {
    fn scram(&self) -> Option<&ScramSecret> {
        match self {
            Hash::Scram(secret) => Some(secret),
            _ => None,
        }
    }
}

impl Entry {
    /// Reads what stands behind the name.
    fn parse(text: &str) -> Result<Self, Unfit> {
        // A secret of SCRAM has colons of its own.
        if text.starts_with("SCRAM-") {
            return Ok(Entry { hash: Hash::parse(text)?, ends: None });
        }
        let fields: Vec<&str> = text.split(':').collect();
        let hash = Hash::parse(fields.first().copied().unwrap_or_default())?;
        Ok(Entry { hash, ends: ends(&fields) })
    }

    fn is_good(&self) -> bool {
        self.ends.is_none_or(|ends| vsmtp_sys::clock::wall_ms() / DAY_MS < ends)
    }
}

/// The first day on which an account of the shadow file is not good: shadow(5), behind name and password last change,
/// minimum, maximum, warning, inactivity, expiry.
fn ends(fields: &[&str]) -> Option<u64> {
    let day = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    // A last change of 0 means that the password must be changed first, which cannot be done here.
    let aged = match (day(1), day(3)) {
        (Some(0), _) => Some(0),
        (Some(changed), Some(most)) => {
            Some(changed.saturating_add(most).saturating_add(day(5).unwrap_or(0)).saturating_add(1))
        }
        _ => None,
    };
    [aged, day(6)].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Password;

    /// "pencil".
    const HASH: &str = "$5$rounds=1000$saltstring$IDMRVjjzM7pxdq5saV3T0Syncing1KAt3iS2GewFZH1";

    fn check(text: &str, user: &str, password: &str) -> Finding {
        let password = Password::new(password.as_bytes()).unwrap();
        Table::parse(text).check(&Credentials { user: user.to_owned(), password })
    }

    #[test]
    fn the_user_and_the_password_must_be_right() {
        let text = format!("# users\n\ntim:{HASH}\njoe:!{HASH}\nann:*:1:2\nbad\n");
        assert_eq!(check(&text, "tim", "pencil"), Finding::Yes("tim".to_owned()));
        for (user, password) in [("tim", "x"), ("joe", "pencil"), ("ann", "*"), ("bob", "pencil")] {
            assert_eq!(check(&text, user, password), Finding::No, "{user}");
        }
        let table = Table::parse(&text);
        assert_eq!((table.len(), table.locked(), table.unusable()), (1, 3, 0));
        assert_eq!(check("", "tim", "pencil"), Finding::No);
    }

    #[test]
    fn what_is_of_no_use_is_told_with_its_line() {
        let text = format!("# users\ntim:{HASH}\njoe:$6$rounds=999999999$x$y\n\nann:pencil\n:{HASH}\n");
        let table = Table::parse(&text);
        assert_eq!((table.len(), table.locked(), table.unusable()), (1, 0, 3));
        let refused = |line, user: Option<&str>, why| Refused { line, user: user.map(str::to_owned), why };
        let expected = [
            refused(3, Some("joe"), Unfit::TooCostly),
            refused(5, Some("ann"), Unfit::Unknown),
            refused(6, None, Unfit::Unknown),
        ];
        assert_eq!(table.told(), expected);
        let many = Table::parse(&"joe:x\n".repeat(1000));
        assert_eq!((many.unusable(), many.told().len()), (1000, MAX_TOLD));
    }

    #[test]
    fn accounts_of_the_shadow_file_end() {
        let today = vsmtp_sys::clock::wall_ms() / DAY_MS;
        let line = |rest: &str| format!("tim:{HASH}:{rest}\n");
        for (rest, good) in [
            ("19000:0:99999:7:::".to_owned(), true),
            (format!("{today}:0:1:7:::"), true),
            ("19000:0:30:7:::".to_owned(), false),
            (format!("{}:0:30:7:10::", today - 35), true),
            ("0:0:99999:7:::".to_owned(), false),
            (format!("19000:0:99999:7::{today}:"), false),
            (format!("19000:0:99999:7::{}:", today + 1), true),
            ("::::::".to_owned(), true),
        ] {
            let found = check(&line(&rest), "tim", "pencil");
            assert_eq!(found == Finding::Yes("tim".to_owned()), good, "{rest}");
        }
    }

    #[test]
    fn secrets_of_scram_have_colons() {
        let secret = ScramSecret::new("pencil", b"salt", 4096);
        let table = Table::parse(&format!("tim:{secret}\n"));
        assert_eq!(table.scram_secret("tim"), Some(&secret));
        assert_eq!(table.scram_secret("joe"), None);
        assert_eq!(check(&format!("tim:{secret}\n"), "tim", "pencil"), Finding::Yes("tim".to_owned()));
    }
}
