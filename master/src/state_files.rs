//! Opens the two files in which the limiter keeps what greylisting knows: it may open nothing itself. What they hold is none
//! of the master's business.
//!
//! On failure: says which file and why, and hands over memory in its place, so that mail flows and only a restart forgets.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};
use vsmtp_daemon::Record;

use crate::error::Error;
use crate::layout::Layout;

/// Their names, in the order in which the limiter is handed them.
const NAMES: [&str; 2] = ["greylist.0", "greylist.1"];

/// Opens them, each with its path. Makes what is not there.
///
/// # Errors
/// Neither the file nor memory is to be had.
pub fn open(layout: &Layout) -> Result<Vec<(String, OwnedFd)>, Error> {
    let folder = layout.limits_dir();
    NAMES.iter().map(|name| open_or_stand_in(&folder, name)).collect()
}

fn open_or_stand_in(folder: &Path, name: &str) -> Result<(String, OwnedFd), Error> {
    let path = folder.join(name);
    let file = open_one(folder, &path).or_else(|error| {
        Record::at(log::Level::Warn, "state-unavailable")
            .field("file", path.display())
            .field("error", error)
            .field("effect", "greylisting begins anew with each start of the limiter")
            .emit();
        memfd_create(name, MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)
    });
    Ok((path.display().to_string(), file.map_err(Error::path("open", &path))?))
}

fn open_one(folder: &Path, path: &Path) -> io::Result<OwnedFd> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // A pipe in its place must not make us wait, and a link must lead nowhere.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let file: File = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file.into()) } else { Err(io::Error::other("it is no file")) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_written_is_there_the_next_time_and_for_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path()), None);
        for (_, file) in open(&layout).unwrap() {
            File::from(file).write_all(b"kept").unwrap();
        }
        for (path, file) in open(&layout).unwrap() {
            let (mut file, mut text) = (File::from(file), String::new());
            file.read_to_string(&mut text).unwrap();
            assert_eq!(
                (&*text, file.metadata().unwrap().permissions().mode() & 0o777),
                ("kept", 0o600),
                "{path}"
            );
        }
        assert_eq!(std::fs::metadata(layout.limits_dir()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn where_there_can_be_no_file_there_is_memory() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path()), None);
        std::fs::create_dir_all(layout.limits_dir().join("greylist.0")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", layout.limits_dir().join("greylist.1")).unwrap();
        let opened = open(&layout).unwrap();
        assert_eq!(opened.len(), 2);
        for (_, file) in opened {
            let mut file = File::from(file);
            file.write_all(b"x").unwrap();
            assert_eq!(file.metadata().unwrap().len(), 1);
        }
    }
}
