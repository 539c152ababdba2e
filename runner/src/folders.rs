//! Folders of programs: each has one of its own for what it writes, which is removed with all that is in it when the program
//! has ended. What dead runners have left is removed too.
//!
//! Programs make what they like of their folders, so removing is bounded in each turn, follows no link, and needs no more
//! descriptors for a deep tree than for a flat one. What cannot be removed is left, and the log says so.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use vsmtp_daemon::Record;
use vsmtp_sys::random::random_u64;
use vsmtp_sys::users;

/// Where the runner's folder is made, the first of them where it can be. Programs see nothing else that is there.
const PLACES: [&str; 2] = ["/var/tmp", "/tmp"];
/// How the names of runners' folders begin.
const PREFIX: &str = "vsmtp-runner.";
/// For our user only.
const PRIVATE: u32 = 0o700;
/// How often another name is tried.
const TRIES: usize = 16;
/// Most folders of dead runners that are taken at a start; the next one takes others.
const MAX_LEFT: usize = 64;
/// Most files and folders that are removed in one turn.
const MAX_REMOVED: usize = 256;

/// The runner's folder.
#[derive(Debug)]
pub struct Folders {
    path: PathBuf,
    /// Locked as long as we live, so that nobody takes it for a dead runner's.
    _lock: File,
    /// What is to be removed, the last one first. All are directly below ours.
    doomed: Vec<PathBuf>,
}

impl Folders {
    /// Makes the runner's folder and takes what dead runners have left.
    ///
    /// # Errors
    /// It can be made nowhere.
    pub fn open() -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in places() {
            match Folders::open_in(&place) {
                Ok(folders) => return Ok(folders),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_in(place: &Path) -> io::Result<Self> {
        for _ in 0..TRIES {
            let path = place.join(format!("{PREFIX}{:016x}", random_u64()?));
            DirBuilder::new().mode(PRIVATE).create(&path)?;
            // One that looks for dead runners may have come first, and has taken it away.
            if let Some(lock) = lock_at(&path)? {
                let mut folders = Folders { path, _lock: lock, doomed: Vec::new() };
                folders.take_over(place);
                return Ok(folders);
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Moves the folders of dead runners of our user into ours, to be removed.
    fn take_over(&mut self, place: &Path) {
        let user = users::current().0;
        let own = self.path.clone();
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let named =
            entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()));
        // Anybody may give such names to many folders: only those of our user count.
        let others = named.map(|entry| entry.path()).filter(|path| *path != own && is_folder_of(user, path));
        let left: Vec<_> = others.filter_map(|path| Some((lock_left(&path)?, path))).take(MAX_LEFT).collect();
        for (_lock, path) in &left {
            // What stays is for the next one.
            let _ = self.move_in(path);
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new folder for one program, of a name that nobody can guess.
    ///
    /// # Errors
    /// It cannot be made. See [`is_lost`] for what that says of the runner's own.
    pub fn make(&mut self) -> io::Result<PathBuf> {
        let path = self.path.join(format!("{:016x}{:016x}", random_u64()?, random_u64()?));
        insist(&self.path, || DirBuilder::new().mode(PRIVATE).create(&path))?;
        Ok(path)
    }

    /// The program has ended.
    pub fn give_up(&mut self, path: PathBuf) {
        self.doomed.push(path);
    }

    /// The runner ends: removes its own folder, if nothing is in it. Whatever stays is for the next one.
    pub fn end(&self) {
        let _ = fs::remove_dir(&self.path);
    }

    /// True if there is something to be removed.
    pub fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// Removes some of what is to be removed; true if there is more.
    pub fn remove_some(&mut self) -> bool {
        let mut left = MAX_REMOVED;
        while left > 0
            && let Some(path) = self.doomed.last().cloned()
        {
            left -= 1;
            let own = self.path.clone();
            if let Err(error) = insist(&own, || self.remove_or_empty(&path, &mut left)) {
                self.doomed.retain(|doomed| *doomed != path);
                Record::at(log::Level::Warn, "folder-kept")
                    .field("folder", path.display())
                    .field("error", error)
                    .emit();
            }
        }
        self.has_doomed()
    }

    /// Removes the last doomed folder, or some of what is in it.
    ///
    /// # Errors
    /// Neither can be done.
    fn remove_or_empty(&mut self, folder: &Path, left: &mut usize) -> io::Result<()> {
        match fs::remove_dir(folder) {
            Ok(()) => {
                self.doomed.pop();
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            Err(_) => self.remove_in(folder, left),
        }
    }

    /// Removes some of the files in a folder. A folder in it is moved out, to be removed before it.
    ///
    /// # Errors
    /// None of them could be removed, or there is none, and yet the folder cannot be removed.
    fn remove_in(&mut self, folder: &Path, left: &mut usize) -> io::Result<()> {
        let mut last = io::Error::from(io::ErrorKind::DirectoryNotEmpty);
        let mut has_removed = false;
        permit(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                return self.move_in(&entry.path());
            }
            match fs::remove_file(entry.path()) {
                Ok(()) => has_removed = true,
                Err(error) => last = error,
            }
            *left = left.saturating_sub(1);
            if *left == 0 {
                break;
            }
        }
        if has_removed { Ok(()) } else { Err(last) }
    }

    /// Moves a folder directly below ours, to be removed.
    ///
    /// # Errors
    /// It stays where it is.
    fn move_in(&mut self, path: &Path) -> io::Result<()> {
        permit(path)?;
        let new = self.path.join(format!("{:016x}", random_u64()?));
        fs::rename(path, &new)?;
        self.doomed.push(new);
        Ok(())
    }
}

/// Where runners have their folders, as far as there is such a place; no link is in these paths, since Landlock knows folders
/// by where they are.
pub fn places() -> Vec<PathBuf> {
    PLACES.iter().filter_map(|place| Path::new(place).canonicalize().ok()).collect()
}

/// True if an error of [`Folders::make`] says that the runner's folder is not what it was: only another runner, with another
/// folder, will make folders again. All else may pass.
pub fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{
        NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, StaleNetworkFileHandle,
    };
    let lost = [NotFound, StaleNetworkFileHandle, NotADirectory, PermissionDenied, ReadOnlyFilesystem];
    lost.contains(&error.kind())
}

fn is_folder_of(user: u32, path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|about| about.is_dir() && about.uid() == user)
}

/// The lock of a folder that a dead runner has left; `None` if it is a living one's.
fn lock_left(path: &Path) -> Option<File> {
    // A program of the dead one may have closed it.
    permit(path).ok()?;
    lock_at(path).ok().flatten()
}

/// The lock of a folder; `None` if somebody else has it, or has taken the folder away.
fn lock_at(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(lock) => Ok((lock.try_lock().is_ok() && is_at(&lock, path)).then_some(lock)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the permissions of a folder forbid is ours to permit. Follows no link.
fn permit(path: &Path) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(PRIVATE);
    fchmodat(AT_FDCWD, path, mode, FchmodatFlags::NoFollowSymlink).map_err(io::Error::from)
}

/// Does something in the runner's folder. Programs cannot open that folder, and yet change its permissions, as they are the
/// same user: what they forbid is permitted again before it is done, and more than once.
///
/// # Errors
/// It fails, or the folder cannot be permitted; `ResourceBusy` if it was forbidden each time.
fn insist<T>(folder: &Path, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..TRIES {
        permit(folder)?;
        match act() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            done => return done,
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// True if what is open is what is there.
fn is_at(open: &File, path: &Path) -> bool {
    match (open.metadata(), path.symlink_metadata()) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn count(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    fn remove_all(folders: &mut Folders) {
        for _ in 0..10_000 {
            if !folders.remove_some() {
                return;
            }
        }
        panic!("it never ends");
    }

    #[test]
    fn whatever_a_program_has_made_of_its_folder_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "text").unwrap();
        let mut folders = Folders::open_in(place.path()).unwrap();
        let (one, other) = (folders.make().unwrap(), folders.make().unwrap());
        let mut deep = one.join("deep");
        for _ in 0..300 {
            fs::create_dir(&deep).unwrap();
            fs::write(deep.join("file"), "text").unwrap();
            deep.push("d");
        }
        for number in 0..2 * MAX_REMOVED {
            fs::write(one.join(number.to_string()), "").unwrap();
        }
        std::os::unix::fs::symlink(&outside, one.join("link")).unwrap();
        fs::set_permissions(one.join("deep/d"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(&one, Permissions::from_mode(0o500)).unwrap();
        folders.give_up(one);
        assert!(folders.remove_some(), "not all at once");
        remove_all(&mut folders);
        assert_eq!((count(folders.path()), count(&outside)), (1, 1));
        assert!(other.exists());
    }

    #[test]
    fn what_dead_runners_have_left_is_removed_and_what_living_ones_have_is_not() {
        let place = tempfile::tempdir().unwrap();
        let mut living = Folders::open_in(place.path()).unwrap();
        let mut dead = Folders::open_in(place.path()).unwrap();
        let (of_living, of_dead) = (living.make().unwrap(), dead.make().unwrap());
        fs::write(of_dead.join("file"), "text").unwrap();
        // A program of it has closed it.
        fs::set_permissions(dead.path(), Permissions::from_mode(0o000)).unwrap();
        fs::create_dir(place.path().join("vsmtp")).unwrap();
        drop(dead);
        // Names that others have given to what is theirs, or is no folder.
        for number in 0..2 * MAX_LEFT {
            fs::write(place.path().join(format!("{PREFIX}{number}")), "").unwrap();
        }
        let mut next = Folders::open_in(place.path()).unwrap();
        remove_all(&mut next);
        assert!(of_living.exists() && !of_dead.exists());
        assert_eq!((count(place.path()), count(next.path())), (3 + 2 * MAX_LEFT, 0));
        let path = next.path().to_owned();
        next.end();
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_is_closed_is_opened_again_and_one_that_stays_closed_is_not_lost() {
        let place = tempfile::tempdir().unwrap();
        let mut folders = Folders::open_in(place.path()).unwrap();
        let path = folders.path().to_owned();
        let close = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        close(0o000);
        let one = folders.make().unwrap();
        assert_eq!(mode(), PRIVATE);
        fs::write(one.join("file"), "text").unwrap();
        close(0o777);
        folders.make().unwrap();
        assert_eq!(mode(), PRIVATE, "nor is it open to others");
        close(0o000);
        folders.give_up(one);
        remove_all(&mut folders);
        assert_eq!((mode(), count(&path)), (PRIVATE, 1));
        let mut tries = 0;
        let error = insist(&path, || {
            tries += 1;
            Err::<(), _>(io::ErrorKind::PermissionDenied.into())
        });
        assert!(!is_lost(&error.unwrap_err()));
        assert_eq!(tries, TRIES);
        let seldom = insist(&path, || {
            tries -= 1;
            if tries > 1 { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(tries) }
        });
        assert_eq!(seldom.unwrap(), 1);
    }

    #[test]
    fn a_new_folder_that_another_runner_has_taken_away_is_no_error() {
        let place = tempfile::tempdir().unwrap();
        let (gone, taken) = (place.path().join("gone"), place.path().join("taken"));
        assert!(lock_at(&gone).unwrap().is_none());
        fs::create_dir(&taken).unwrap();
        let lock = lock_at(&taken).unwrap();
        assert!(lock.is_some() && lock_at(&taken).unwrap().is_none());
    }

    #[test]
    fn a_folder_that_is_gone_is_told_from_a_disk_that_is_full() {
        let place = tempfile::tempdir().unwrap();
        let mut folders = Folders::open_in(place.path()).unwrap();
        fs::remove_dir(folders.path()).unwrap();
        assert!(is_lost(&folders.make().unwrap_err()));
        use nix::libc::{EDQUOT, EMFILE, ENOSPC};
        for full in [ENOSPC, EDQUOT, EMFILE] {
            assert!(!is_lost(&io::Error::from_raw_os_error(full)));
        }
    }
}
