//! Opens the files of certificates and private keys for the key holder, which may open nothing. Looks at what kind of
//! file each is and at who else may read it; what it holds is none of the master's business.
//!
//! On failure: says which file and what to do, and nothing is started or changed.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use vsmtp_config::{KeyFile, KeyFileUse, KeysSlice};

use crate::error::Error;

/// Rights of group and others.
const OTHERS: u32 = 0o077;
/// The one right that root's own group may have.
const GROUP_READS: u32 = 0o040;

/// Opens all that the key holder reads, in its order, each with its path.
pub fn open(slice: &KeysSlice) -> Result<Vec<(String, OwnedFd)>, Error> {
    slice.files().iter().map(|file| Ok((file.path.clone(), open_one(file)?))).collect()
}

fn open_one(file: &KeyFile) -> Result<OwnedFd, Error> {
    let path = Path::new(&file.path);
    // A pipe in its place must not make us wait.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let open: File = open.map_err(Error::path("open", path))?;
    let status = open.metadata().map_err(Error::path("look at", path))?;
    if !status.is_file() {
        return Err(Error::System(format!("{} is not a file", path.display())));
    }
    if file.use_for == KeyFileUse::PrivateKey && !is_private(status.mode(), status.gid()) {
        return Err(Error::System(format!(
            "{path} holds a private key and may be read or written by others (mode {mode:04o}): chmod 600 {path}",
            path = path.display(),
            mode = status.mode() & 0o7777,
        )));
    }
    Ok(open.into())
}

fn is_private(mode: u32, group: u32) -> bool {
    match mode & OTHERS {
        0 => true,
        GROUP_READS => group == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_key_is_for_root_alone() {
        for (mode, group, private) in [
            (0o100600, 1000, true),
            (0o100400, 1000, true),
            (0o100640, 0, true),
            (0o100640, 1000, false),
            (0o100660, 0, false),
            (0o100604, 0, false),
            (0o100644, 0, false),
            (0o100602, 0, false),
        ] {
            assert_eq!(is_private(mode, group), private, "{mode:o} {group}");
        }
    }

    #[test]
    fn each_file_is_opened_and_the_bad_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let key = KeyFile { path: path.display().to_string(), use_for: KeyFileUse::PrivateKey };
        let complaint = |file: &KeyFile| open_one(file).map(drop).unwrap_err().to_string();
        assert!(complaint(&key).contains("key.pem: No such file"), "{}", complaint(&key));
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let name = path.display();
        let expected = format!(
            "{name} holds a private key and may be read or written by others (mode 0644): chmod 600 {name}"
        );
        assert_eq!(complaint(&key), expected);
        assert!(open_one(&KeyFile { use_for: KeyFileUse::Certificate, ..key.clone() }).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(open_one(&key).is_ok());
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(complaint(&key).ends_with("is not a file"));
    }
}
