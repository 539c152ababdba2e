//! The lock on the spool, and the spool's own number. Both stand in one file that is never removed: an flock that dies
//! with its process, never a pid that might be someone else's.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use vsmtp_sys::disk::{Lock, Locked, lock_exclusive};

/// The file's name in the spool.
const NAME: &str = "lock";
/// Longest content that is read.
const MAX_LEN: u64 = 256;

/// Why a spool cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it.
    Locked {
        /// The spool.
        spool: PathBuf,
        /// The other process, if it left its number.
        pid: Option<u32>,
    },
    /// The system refused.
    Io {
        /// The spool.
        spool: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(spool: &Path, error: io::Error) -> Self {
        OpenError::Io { spool: spool.to_owned(), error }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { spool, pid: Some(pid) } => {
                write!(f, "spool {} is in use by process {pid}", spool.display())
            }
            OpenError::Locked { spool, pid: None } => {
                write!(f, "spool {} is in use by another process", spool.display())
            }
            OpenError::Io { spool, error } => write!(f, "spool {}: {error}", spool.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// Held as long as the store lives.
#[derive(Debug)]
pub(super) struct SpoolLock {
    locked: Locked,
    spool: Option<u64>,
}

impl SpoolLock {
    pub(super) fn take(root: &Path) -> Result<Self, OpenError> {
        let fail = |error| OpenError::io(root, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(root.join(NAME))
            .map_err(fail)?;
        let (pid, spool) = parse(&read(&mut file).map_err(fail)?);
        match lock_exclusive(file).map_err(fail)? {
            Lock::Held(locked) => Ok(SpoolLock { locked, spool }),
            Lock::Busy => Err(OpenError::Locked { spool: root.to_owned(), pid }),
        }
    }

    /// The spool's number, if it has one.
    pub(super) fn spool(&self) -> Option<u64> {
        self.spool
    }

    /// Writes our process's number and the spool's.
    pub(super) fn remember(&self, spool: u64) -> io::Result<()> {
        let mut file = self.locked.file();
        let line = format!("pid {:>10} spool {spool:016x}\n", std::process::id());
        file.seek(SeekFrom::Start(0))?;
        file.write_all(line.as_bytes())?;
        file.set_len(line.len() as u64)?;
        file.sync_all()
    }
}

/// The spool's number, read without the lock.
pub(super) fn look(root: &Path) -> Option<u64> {
    let mut file = File::open(root.join(NAME)).ok()?;
    parse(&read(&mut file).ok()?).1
}

fn read(file: &mut File) -> io::Result<String> {
    let mut octets = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    Read::by_ref(file).take(MAX_LEN).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

fn parse(text: &str) -> (Option<u32>, Option<u64>) {
    let mut words = text.split_whitespace();
    let (mut pid, mut spool) = (None, None);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        match name {
            "pid" => pid = value.parse().ok(),
            "spool" if value.len() == 16 => spool = u64::from_str_radix(value, 16).ok(),
            _ => {}
        }
    }
    (pid, spool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let lock = SpoolLock::take(dir.path()).unwrap();
        assert_eq!(lock.spool(), None);
        lock.remember(0xfeed).unwrap();
        let error = SpoolLock::take(dir.path()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&dir.path().display().to_string()), "{text}");
        assert!(text.ends_with(&format!("in use by process {}", std::process::id())), "{text}");
        drop(lock);
        assert_eq!(SpoolLock::take(dir.path()).unwrap().spool(), Some(0xfeed));
    }

    #[test]
    fn a_damaged_lock_file_is_no_obstacle() {
        for text in ["", "pid", "pid x spool y", "spool 123", "\u{fffd}"] {
            assert_eq!(parse(text), (None, None), "{text}");
        }
    }
}
