//! Files that a child may read and cannot open: opened here as root, and handed over. The master reads nothing of them; it
//! only looks whether they have changed, and hands them over again if so.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use vsmtp_daemon::Record;
use vsmtp_ipc::edge::master_child::ToChild;
use vsmtp_ipc::role::Role;

use crate::child::Child;
use crate::error::Error;
use crate::family::Family;

/// Others than owner and group can read it.
const READ_BY_OTHERS: u32 = 0o004;

/// The files of the auth helper, as they were handed over last.
#[derive(Default)]
pub struct Files {
    handed: BTreeMap<String, Stamp>,
}

/// What tells one content of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Files {
    /// Opens each file once, so that one that cannot be read refuses the configuration. Warns of one with secrets that anybody
    /// can read.
    ///
    /// # Errors
    /// A file cannot be opened, or is none.
    pub fn check(secret: &[String], public: &[String]) -> Result<(), Error> {
        for path in secret.iter().chain(public) {
            let (_, metadata) = open(path)?;
            if metadata.mode() & READ_BY_OTHERS != 0 && secret.contains(path) {
                Record::at(log::Level::Warn, "readable-by-others").field("file", path).emit();
            }
        }
        Ok(())
    }

    /// Hands all files to a child that was just started.
    pub fn hand_to(&mut self, child: &mut Child, paths: &[String]) {
        for path in paths {
            match open(path) {
                Ok((file, metadata)) => {
                    self.handed.insert(path.clone(), Stamp::of(&metadata));
                    child.say(&ToChild::File(path.clone()), Some(file));
                }
                // It is looked for again every second.
                Err(error) => {
                    self.handed.remove(path);
                    report(path, &error);
                }
            }
        }
    }

    /// Hands over again what has changed.
    pub fn look(&mut self, family: &mut Family, paths: &[String]) {
        for path in paths {
            let Ok(metadata) = std::fs::metadata(path) else { continue };
            let stamp = Stamp::of(&metadata);
            if self.handed.insert(path.clone(), stamp) == Some(stamp) {
                continue;
            }
            for child in family.children().filter(|child| child.name.role == Role::Auth) {
                match open(path) {
                    Ok((file, _)) => {
                        child.say(&ToChild::File(path.clone()), Some(file));
                    }
                    Err(error) => report(path, &error),
                }
            }
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A device or a pipe could keep us waiting, so it is never waited for, and a file is all that is taken.
fn open(path: &str) -> Result<(OwnedFd, Metadata), Error> {
    let wrong = || Error::path("open", Path::new(path));
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .map_err(wrong())?;
    let metadata = file.metadata().map_err(wrong())?;
    if metadata.is_file() {
        Ok((file.into(), metadata))
    } else {
        Err(Error::Config(format!("{path} is no file")))
    }
}

fn report(path: &str, error: &Error) {
    Record::at(log::Level::Error, "unreadable").field("file", path).field("error", error).emit();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_refuses_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let paths = [path.display().to_string()];
        assert!(Files::check(&paths, &[]).unwrap_err().to_string().contains("users"));
        std::fs::write(&path, "tim:x\n").unwrap();
        assert!(Files::check(&paths, &[]).is_ok());
        assert!(Files::check(&[], &[folder.path().display().to_string()]).is_err());
    }

    #[test]
    fn a_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("users"), folder.path().join("new"));
        let stamp = |path: &Path| Stamp::of(&std::fs::metadata(path).unwrap());
        std::fs::write(&path, "tim:x\n").unwrap();
        let before = stamp(&path);
        assert_eq!(before, stamp(&path));
        std::fs::write(&other, "tim:y\n").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(before, stamp(&path));
    }
}
