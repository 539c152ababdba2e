//! Files that rules name: lists, sets of networks, lookup tables. All lie below the folder of the configuration, whatever
//! links say. They are read while rules are loaded, and again when they have changed.
//!
//! On failure: a file that cannot be read or understood ends the loading. One that goes bad later is reported once, and what
//! was read before stays in force.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::beside;
use crate::object::Fault;

/// Largest file, in octets.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// How often a file is looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The folder of the configuration.
#[derive(Debug, Default)]
pub struct Folder {
    /// Without links; empty: no file can be read.
    path: PathBuf,
    /// A file below it is looked at while rules run.
    is_watched: AtomicBool,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

impl Folder {
    /// Opens the folder. One that is not there has no files.
    pub fn open(path: &Path) -> Arc<Self> {
        let path = path.canonicalize().unwrap_or_default();
        Arc::new(Folder { path, is_watched: AtomicBool::new(false) })
    }

    /// The folder, if one of its files is looked at while rules run: their jail must let it be.
    pub fn watched(&self) -> Option<&Path> {
        self.is_watched.load(Ordering::Relaxed).then_some(&*self.path)
    }

    /// Reads a file; its name is relative to the folder, or absolute and below it.
    pub fn read(&self, name: &str) -> Result<String, Fault> {
        self.read_with_stamp(name).map(|(text, _)| text)
    }

    fn read_with_stamp(&self, name: &str) -> Result<(String, Stamp), Fault> {
        let fail = |why: &dyn fmt::Display| Fault(format!("the file '{name}' cannot be read: {why}"));
        let full = self.locate(name)?;
        let file = File::open(&full).map_err(|error| fail(&error))?;
        let about = file.metadata().map_err(|error| fail(&error))?;
        if !about.is_file() {
            return Err(fail(&"it is not a plain file"));
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| fail(&error))?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(fail(&format_args!("it is larger than {MAX_FILE_BYTES} bytes")));
        }
        Ok((text, stamp(&about)))
    }

    fn locate(&self, name: &str) -> Result<PathBuf, Fault> {
        let fail = |why: &dyn fmt::Display| Fault(format!("the file '{name}' cannot be read: {why}"));
        if name.is_empty() || name.contains('\0') || self.path.as_os_str().is_empty() {
            return Err(fail(&"it has no name, or there is no folder of the configuration"));
        }
        let full = beside(&self.path, name).canonicalize().map_err(|error| fail(&error))?;
        if !full.starts_with(&self.path) {
            return Err(fail(&"it lies outside the folder of the configuration"));
        }
        Ok(full)
    }

    fn stamp(&self, name: &str) -> Option<Stamp> {
        std::fs::metadata(self.locate(name).ok()?).ok().map(|about| stamp(&about))
    }
}

fn stamp(about: &Metadata) -> Stamp {
    Stamp { inode: about.ino(), len: about.len(), changed: (about.mtime(), about.mtime_nsec()) }
}

/// How a file's text becomes a value.
pub type Reader<T> = fn(&str) -> Result<T, Fault>;

/// The same, with what it remembers.
type AnyReader<T> = Box<dyn Fn(&str) -> Result<T, Fault> + Send + Sync>;

/// What a file says, now.
pub struct Watched<T> {
    folder: Arc<Folder>,
    name: Box<str>,
    reader: AnyReader<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    /// Of the file that was read last, good or bad.
    stamp: Stamp,
    look_at: Instant,
}

impl<T> Watched<T> {
    /// Reads the file for the first time.
    pub fn open(
        folder: &Arc<Folder>,
        name: &str,
        reader: impl Fn(&str) -> Result<T, Fault> + Send + Sync + 'static,
    ) -> Result<Self, Fault> {
        let (text, stamp) = folder.read_with_stamp(name)?;
        let value = Arc::new(reader(&text).map_err(|fault| Fault(format!("{name}: {}", fault.0)))?);
        folder.is_watched.store(true, Ordering::Relaxed);
        let state = Mutex::new(State { value, stamp, look_at: Instant::now() + LOOK_EVERY });
        Ok(Watched { folder: Arc::clone(folder), name: name.into(), reader: Box::new(reader), state })
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says. Looks whether it has changed, at most once a second; that is read at once.
    pub fn now(&self) -> Arc<T> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Arc<T> {
        let current = {
            let mut state = self.lock();
            if now < state.look_at {
                return Arc::clone(&state.value);
            }
            // Others go on with what was read before.
            state.look_at = now + LOOK_EVERY;
            state.stamp
        };
        if self.folder.stamp(&self.name) != Some(current) {
            self.read_again(current);
        }
        Arc::clone(&self.lock().value)
    }

    fn read_again(&self, before: Stamp) {
        crate::engine::hand_on();
        let read = self.folder.read_with_stamp(&self.name);
        let failed = |fault: &Fault| {
            log::warn!("event=file-not-reloaded file=\"{}\" error=\"{}\"", self.name, fault.0.escape_debug());
        };
        match read {
            Ok((_, stamp)) if stamp == before => {}
            Ok((text, stamp)) => {
                let value = (self.reader)(&text);
                let mut state = self.lock();
                state.stamp = stamp;
                match value {
                    Ok(value) => {
                        state.value = Arc::new(value);
                        log::info!("event=file-reloaded file=\"{}\"", self.name);
                    }
                    Err(fault) => failed(&fault),
                }
            }
            Err(fault) => {
                let mut state = self.lock();
                // Said once: the stamp of a file that is not there is that of no file.
                let gone = Stamp { inode: 0, len: 0, changed: (0, 0) };
                if std::mem::replace(&mut state.stamp, gone) != gone {
                    failed(&fault);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Result<usize, Fault> {
        if text.contains("bad") { Err(Fault::new("bad")) } else { Ok(text.lines().count()) }
    }

    #[test]
    fn only_what_lies_below_the_folder_is_read() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("x"), "secret").unwrap();
        std::fs::write(dir.path().join("x"), "text").unwrap();
        std::os::unix::fs::symlink(outside.path().join("x"), dir.path().join("link")).unwrap();
        let folder = Folder::open(dir.path());
        let absolute = dir.path().join("x").display().to_string();
        for good in ["x", "./x", &absolute, "/etc/vsmtp/x"] {
            assert_eq!(folder.read(good).as_deref(), Ok("text"), "{good}");
        }
        let escape = format!("../{}/x", outside.path().file_name().unwrap().display());
        for bad in ["link", &escape, "/etc/vsmtp/../x", "/etc/passwd", "", "none", ".", "x\0"] {
            assert!(folder.read(bad).is_err(), "{bad}");
        }
        assert!(Folder::default().read("x").is_err());
        assert_eq!(folder.watched(), None);
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "1\n").unwrap();
        let folder = Folder::open(dir.path());
        let file = Watched::open(&folder, "x", lines).unwrap();
        assert_eq!(folder.watched(), Some(&*dir.path().canonicalize().unwrap()));
        let mut now = Instant::now();
        let mut after = |text: Option<&str>| {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            assert_eq!(*file.at(now), *file.at(now), "within a second nothing is looked at");
            now += LOOK_EVERY * 2;
            *file.at(now)
        };
        assert_eq!(after(Some("1\n2\n")), 2);
        assert_eq!(after(Some("bad and longer\n")), 2);
        assert_eq!(after(None), 2);
        assert_eq!(after(Some("1\n2\n3\n")), 3);
        assert!(Watched::open(&folder, "none", lines).is_err());
    }
}
