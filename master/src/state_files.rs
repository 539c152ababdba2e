//! Opens the two files in which a process keeps what it knows: what greylisting remembers, and the policies of MTA-STS. It
//! may open nothing itself. What the files hold is none of the master's business; how large they become is, for the kernel has no
//! limit for them that would leave the log alone.
//!
//! On failure: says which file and why, and hands over memory in its place, so that mail flows and only a restart forgets.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};
use vsmtp_daemon::Record;
use vsmtp_ipc::role::Role;

use crate::error::Error;
use crate::layout::Layout;

/// Largest that one of the files may become, in octets: twice what any of those who keep something writes.
const MAX_STATE: u64 = 64 << 20;

/// Where the files of somebody are.
pub struct Place {
    folder: PathBuf,
    /// In the order in which they are handed over.
    names: [&'static str; 2],
    /// What it means if they cannot be had.
    effect: &'static str,
}

impl Place {
    /// What greylisting knows: the limiter's.
    pub fn limits(layout: &Layout) -> Place {
        Place {
            folder: layout.limits_dir(),
            names: ["greylist.0", "greylist.1"],
            effect: "greylisting begins anew with each start of the limiter",
        }
    }

    /// Policies of MTA-STS: the resolver's.
    pub fn resolver(layout: &Layout) -> Place {
        Place {
            folder: layout.resolver_dir(),
            names: ["mta-sts.0", "mta-sts.1"],
            effect: "policies of mail domains are forgotten with each end of the resolver",
        }
    }

    /// Opens them, each with its path. Makes what is not there.
    ///
    /// # Errors
    /// Neither the file nor memory is to be had.
    pub fn open(&self) -> Result<Vec<(String, OwnedFd)>, Error> {
        self.names.iter().map(|name| self.open_or_stand_in(name)).collect()
    }

    fn open_or_stand_in(&self, name: &str) -> Result<(String, OwnedFd), Error> {
        let path = self.folder.join(name);
        let file = open_one(&self.folder, &path).or_else(|error| {
            Record::at(log::Level::Warn, "state-unavailable")
                .field("file", path.display())
                .field("error", error)
                .field("effect", self.effect)
                .emit();
            memfd_create(name, MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)
        });
        Ok((path.display().to_string(), file.map_err(Error::path("open", &path))?))
    }
}

/// The files that were handed over, by who has them.
#[derive(Default)]
pub struct Watch(Vec<(Role, String, File)>);

impl Watch {
    /// These are now those of that role.
    ///
    /// # Errors
    /// There is no descriptor to watch them by.
    pub fn note(&mut self, role: Role, opened: &[(String, OwnedFd)]) -> Result<(), Error> {
        self.0.retain(|(of, ..)| *of != role);
        for (path, file) in opened {
            let file = file.try_clone().map_err(Error::path("watch", Path::new(path)))?;
            self.0.push((role, path.clone(), file.into()));
        }
        Ok(())
    }

    /// Whose processes have written far more than they have to say: they are to end. What they wrote is thrown away.
    pub fn overgrown(&self) -> Vec<Role> {
        let mut roles = Vec::new();
        for (role, path, file) in &self.0 {
            let Some(size) = file.metadata().ok().map(|of| of.len()).filter(|size| *size > MAX_STATE) else {
                continue;
            };
            let emptied = file.set_len(0);
            Record::at(log::Level::Error, "state-too-large")
                .field("file", path)
                .field("size", size)
                .maybe("error", emptied.err())
                .emit();
            roles.push(*role);
        }
        roles
    }
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
        let places = [Place::limits(&layout), Place::resolver(&layout)];
        let opened = || places.iter().flat_map(|place| place.open().unwrap());
        assert_eq!(opened().count(), 4);
        for (path, file) in opened() {
            File::from(file).write_all(path.as_bytes()).unwrap();
        }
        for (path, file) in opened() {
            let (mut file, mut text) = (File::from(file), String::new());
            file.read_to_string(&mut text).unwrap();
            assert_eq!((&*text, file.metadata().unwrap().permissions().mode() & 0o777), (&*path, 0o600));
        }
        for folder in [layout.limits_dir(), layout.resolver_dir()] {
            assert_eq!(std::fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn who_fills_the_disk_loses_what_he_wrote_and_is_named() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path()), None);
        let mut watch = Watch::default();
        let (greylist, policies) =
            (Place::limits(&layout).open().unwrap(), Place::resolver(&layout).open().unwrap());
        watch.note(Role::Limits, &greylist).unwrap();
        watch.note(Role::Resolver, &policies).unwrap();
        let file = File::from(policies.into_iter().next_back().unwrap().1);
        file.set_len(MAX_STATE).unwrap();
        assert_eq!(watch.overgrown(), []);
        file.set_len(MAX_STATE + 1).unwrap();
        assert_eq!(watch.overgrown(), [Role::Resolver]);
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert_eq!(watch.overgrown(), []);
    }

    #[test]
    fn where_there_can_be_no_file_there_is_memory() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path()), None);
        std::fs::create_dir_all(layout.limits_dir().join("greylist.0")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", layout.limits_dir().join("greylist.1")).unwrap();
        let opened = Place::limits(&layout).open().unwrap();
        assert_eq!(opened.len(), 2);
        for (_, file) in opened {
            let mut file = File::from(file);
            file.write_all(b"x").unwrap();
            assert_eq!(file.metadata().unwrap().len(), 1);
        }
    }
}
