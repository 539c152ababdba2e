//! Where the counts lie while this process does not run: one file of the spool. It is replaced as a whole, and not synced:
//! counts are no mail, and a power cut may cost a minute of them.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use vsmtp_sys::disk::{Access, Create, open_beneath, pwritev_all, read_at};

/// Its name.
const NAME: &str = "tls-reports.json";
/// Its name while it is written.
const NEW: &str = "tls-reports.new";
/// Most octets that are read.
const MAX_OCTETS: u64 = 64 * 1024 * 1024;

/// The file's place.
#[derive(Debug)]
pub struct Keeper {
    spool: PathBuf,
}

impl Keeper {
    /// In that spool.
    pub fn new(spool: &Path) -> Self {
        Keeper { spool: spool.to_owned() }
    }

    /// What is there; `None` if nothing is.
    ///
    /// # Errors
    /// It cannot be read, or is too large.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let spool = File::open(&self.spool)?;
        let file = match open_beneath(&spool, Path::new(NAME), Access::Read, Create::Never) {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = file.metadata()?.len();
        let len = usize::try_from(len.min(MAX_OCTETS + 1)).unwrap_or(usize::MAX);
        if len as u64 > MAX_OCTETS {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = vec![0; len];
        let got = read_at(&file, &mut bytes, 0)?;
        bytes.truncate(got);
        Ok(Some(bytes))
    }

    /// Puts this in its place.
    ///
    /// # Errors
    /// What was there before is still there.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.remove(NEW)?;
        let spool = File::open(&self.spool)?;
        let file = open_beneath(&spool, Path::new(NEW), Access::ReadWrite, Create::New(0o600))?;
        pwritev_all(&file, &[IoSlice::new(bytes)], 0)?;
        std::fs::rename(self.spool.join(NEW), self.spool.join(NAME))
    }

    /// Forgets what is there.
    ///
    /// # Errors
    /// It is still there.
    pub fn clear(&self) -> io::Result<()> {
        self.remove(NAME)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.spool.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_replaces_what_was_there() {
        let spool = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(spool.path());
        assert_eq!(keeper.read().unwrap(), None);
        std::fs::write(spool.path().join(NEW), "left over").unwrap();
        for text in [&b"a longer text"[..], b"short", b""] {
            keeper.write(text).unwrap();
            assert_eq!(keeper.read().unwrap().unwrap(), text);
        }
        keeper.clear().unwrap();
        keeper.clear().unwrap();
        assert_eq!(keeper.read().unwrap(), None);
    }
}
