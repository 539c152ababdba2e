//! Tables that rules write: files of one folder, which filters may write and nobody else. Every change reads the file
//! under a lock, writes a new one beside it and puts that in its place: whoever reads sees the one or the other, whole, and no
//! change of another process is lost.
//!
//! On failure: the rule that wants the change fails; the table stays as it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::rows::{Row, Table};
use crate::database::NoAnswer;
use crate::engine::{hand_on, party, time_left};
use crate::object::Fault;
use crate::places::Places;

/// Largest table that is written, in octets: each change writes all of it.
const MAX_BYTES: u64 = 4 << 20;
/// Longest wait for another process that changes the same table.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it has finished.
const LOOK: Duration = Duration::from_millis(5);
/// Longest name of a file.
const MAX_NAME: usize = 100;

/// The folder of databases.
#[derive(Debug, Default)]
pub struct Databases {
    path: PathBuf,
    /// Rules have a table in it.
    is_used: AtomicBool,
    /// All tables that rules have are known.
    is_closed: AtomicBool,
    /// Of rules that change a table, and so may wait for each other.
    places: Places,
}

impl Databases {
    /// The folder, which need not be there yet.
    pub fn at(path: &Path) -> Arc<Self> {
        Arc::new(Databases {
            path: path.to_owned(),
            is_used: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            places: Places::default(),
        })
    }

    /// Rules that change tables leave some of so many workers to others.
    pub fn leave_room(&self, workers: usize) {
        self.places.leave_room(workers);
    }

    /// The folder, if rules have a table in it: their jail must let it be.
    pub fn used(&self) -> Option<&Path> {
        self.is_used.load(Ordering::Relaxed).then_some(&*self.path)
    }

    /// From now on no table can be opened: rules must not make tables of names that strangers chose.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// The path of a table: its name, or its absolute path in this folder.
    fn locate(&self, connector: &str) -> Result<PathBuf, Fault> {
        let inside = Path::new(connector).strip_prefix(&self.path).ok().and_then(Path::to_str);
        let name = inside.unwrap_or(connector);
        let is_name = name.len() <= MAX_NAME
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            && !name.ends_with(LOCK)
            && !name.ends_with(NEW);
        if !is_name || self.path.as_os_str().is_empty() {
            return Err(Fault(format!(
                "'{connector}' cannot be a table that is written: these are files in {} and have a plain name there",
                self.path.display()
            )));
        }
        Ok(self.path.join(name))
    }
}

const LOCK: &str = ".lock";
const NEW: &str = ".new";

/// One table.
#[derive(Debug)]
pub struct Store {
    databases: Arc<Databases>,
    path: PathBuf,
    delimiter: char,
    refresh: bool,
    seen: Mutex<Option<(Stamp, Arc<Table>)>>,
}

/// What tells one state of a file from another. Every change makes a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

impl Store {
    /// A table of that name. Nothing is opened.
    ///
    /// # Errors
    /// It cannot have that name, or the folder is closed.
    pub fn open(
        databases: &Arc<Databases>,
        connector: &str,
        delimiter: char,
        refresh: bool,
    ) -> Result<Self, Fault> {
        let path = databases.locate(connector)?;
        if databases.is_closed.load(Ordering::Relaxed) {
            return Err(Fault(format!(
                "the table '{connector}' is made too late: make tables that rules keep where the script is loaded, outside \
                 rules and functions"
            )));
        }
        databases.is_used.store(true, Ordering::Relaxed);
        Ok(Store { databases: Arc::clone(databases), path, delimiter, refresh, seen: Mutex::new(None) })
    }

    /// The fields of the row that begins with `key`; none if there is no such row.
    pub fn get(&self, key: &str) -> Result<Row, NoAnswer> {
        self.now().map(|table| table.get(key)).map_err(|error| self.later("read", &error))
    }

    /// Puts a row in the place of the one that begins with the same field, or after all others.
    pub fn set(&self, row: Row) -> Result<(), NoAnswer> {
        self.change(|table| table.with(row).map(Some)).map(drop)
    }

    /// Removes the rows that begin with `key`; true if there were any.
    pub fn remove(&self, key: &str) -> Result<bool, NoAnswer> {
        self.change(|table| Ok(table.without(key)))
    }

    /// True if it was changed. That others change tables too is a matter of the moment, and so is what the host lacks to read
    /// and write them: no mistake of the rule.
    fn change(&self, change: impl FnOnce(&Table) -> Result<Option<Table>, Fault>) -> Result<bool, NoAnswer> {
        hand_on();
        let _place = self.databases.places.take(party()).ok_or_else(|| {
            NoAnswer::Busy(Fault(format!(
                "the table {} cannot be changed: too many rules change tables",
                self.path.display()
            )))
        })?;
        let _lock = self.lock().map_err(|error| self.later("locked", &error))?;
        self.change_locked(change)
    }

    fn change_locked(
        &self,
        change: impl FnOnce(&Table) -> Result<Option<Table>, Fault>,
    ) -> Result<bool, NoAnswer> {
        let table = self.read().map_err(|error| self.later("read", &error))?;
        let table = table.map_or_else(Arc::default, |(_, table)| table);
        let Some(table) = change(&table).map_err(NoAnswer::Never)? else { return Ok(false) };
        let text = table.to_text(self.delimiter);
        if text.len() as u64 > MAX_BYTES {
            return Err(NoAnswer::Never(Fault(format!(
                "the table {} would be larger than {MAX_BYTES} bytes",
                self.path.display()
            ))));
        }
        let stamp = self.replace(&text).map_err(|error| self.later("written", &error))?;
        *self.seen() = Some((stamp, Arc::new(table)));
        Ok(true)
    }

    /// The table as it is now, or as it was when it was first looked at.
    fn now(&self) -> io::Result<Arc<Table>> {
        if let Some((stamp, table)) = &*self.seen() {
            let is_current = || fs::metadata(&self.path).is_ok_and(|about| Stamp::of(&about) == *stamp);
            if !self.refresh || is_current() {
                return Ok(Arc::clone(table));
            }
        }
        hand_on();
        let Some(read) = self.read()? else { return Ok(Arc::default()) };
        let table = Arc::clone(&read.1);
        *self.seen() = Some(read);
        Ok(table)
    }

    /// `None`: there is no file yet.
    fn read(&self) -> io::Result<Option<(Stamp, Arc<Table>)>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let stamp = Stamp::of(&file.metadata()?);
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
        }
        let table = Table::parse(&text, self.delimiter).map_err(|fault| io::Error::other(fault.0))?;
        Ok(Some((stamp, Arc::new(table))))
    }

    fn replace(&self, text: &str) -> io::Result<Stamp> {
        let new = beside(&self.path, NEW);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Stamp::of(&file.metadata()?))
    }

    /// The lock of the table; given up when it is dropped, or when its process ends.
    fn lock(&self) -> io::Result<File> {
        let path = beside(&self.path, LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let deadline = Instant::now() + time_left().map_or(PATIENCE, |left| left.min(PATIENCE));
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOOK),
                Err(fs::TryLockError::WouldBlock) => return Err(ErrorKind::TimedOut.into()),
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Option<(Stamp, Arc<Table>)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn later(&self, what: &str, error: &io::Error) -> NoAnswer {
        NoAnswer::Later(Fault(format!("the table {} cannot be {what}: {error}", self.path.display())))
    }
}

impl Stamp {
    fn of(about: &fs::Metadata) -> Self {
        Stamp(about.ino(), about.len(), about.mtime(), about.mtime_nsec())
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(databases: &Arc<Databases>, refresh: bool) -> Store {
        Store::open(databases, "greylist.csv", ',', refresh).unwrap()
    }

    fn row(fields: &[&str]) -> Row {
        fields.iter().map(|field| (*field).to_owned()).collect()
    }

    #[test]
    fn what_one_writes_another_reads() {
        let dir = tempfile::tempdir().unwrap();
        let databases = Databases::at(dir.path());
        let (one, other, old) = (store(&databases, true), store(&databases, true), store(&databases, false));
        assert_eq!(one.get("a").unwrap(), Row::new());
        one.set(row(&["a", "1"])).unwrap();
        assert_eq!(old.get("a").unwrap(), row(&["a", "1"]));
        other.set(row(&["b", "x,y\n"])).unwrap();
        other.set(row(&["a", "2"])).unwrap();
        assert_eq!((one.get("a").unwrap(), one.get("b").unwrap()), (row(&["a", "2"]), row(&["b", "x,y\n"])));
        assert_eq!(old.get("a").unwrap(), row(&["a", "1"]), "it was read once");
        assert!(other.remove("a").unwrap() && !other.remove("a").unwrap());
        assert_eq!(one.get("a").unwrap(), Row::new());
        assert_eq!(fs::read_to_string(dir.path().join("greylist.csv")).unwrap(), "b,\"x,y\n\"\n");
        assert_eq!(databases.used(), Some(dir.path()));
    }

    #[test]
    fn no_change_is_lost_among_many_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let databases = Databases::at(dir.path());
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let store = store(&databases, true);
                scope.spawn(move || {
                    for number in 0..5 {
                        store.set(row(&[&format!("{thread}-{number}"), "x"])).unwrap();
                    }
                });
            }
        });
        let text = fs::read_to_string(dir.path().join("greylist.csv")).unwrap();
        assert_eq!(text.lines().count(), 15);
    }

    #[test]
    fn that_others_change_tables_is_a_matter_of_the_moment() {
        let dir = tempfile::tempdir().unwrap();
        let databases = Databases::at(dir.path());
        databases.leave_room(1);
        let store = store(&databases, true);
        let place = databases.places.take(party());
        let refused = store.set(row(&["a", "1"])).unwrap_err();
        assert!(
            matches!(&refused, NoAnswer::Busy(fault) if fault.0.contains("too many rules")),
            "{refused:?}"
        );
        drop(place);
        let lock = store.lock().unwrap();
        let _watch = crate::engine::Watch::until(Instant::now());
        assert!(matches!(store.set(row(&["a", "1"])), Err(NoAnswer::Later(_))));
        drop(lock);
        store.set(row(&["a", "1"])).unwrap();
        assert!(matches!(store.set(row(&[])), Err(NoAnswer::Never(_))));
    }

    #[test]
    fn what_the_host_lacks_is_a_matter_of_the_moment() {
        let dir = tempfile::tempdir().unwrap();
        let databases = Databases::at(dir.path());
        let store = store(&databases, true);
        // Neither can be opened to be written, nor can the table be read: as on a disk that is full or does not answer.
        for (in_the_way, words) in
            [("greylist.csv.lock", "locked"), ("greylist.csv.new", "written"), ("greylist.csv", "read")]
        {
            fs::create_dir(dir.path().join(in_the_way)).unwrap();
            let refused = store.set(row(&["a", "1"])).unwrap_err();
            let is_later = matches!(&refused, NoAnswer::Later(fault) if fault.0.contains(words));
            assert!(is_later, "{in_the_way}: {refused:?}");
            let got = store.get("a");
            assert_eq!(matches!(got, Err(NoAnswer::Later(_))), words == "read", "{in_the_way}: {got:?}");
            fs::remove_dir(dir.path().join(in_the_way)).unwrap();
        }
        store.set(row(&["a", "1"])).unwrap();
        assert_eq!(store.get("a").unwrap(), row(&["a", "1"]));
    }

    #[test]
    fn a_table_is_a_file_of_the_folder_and_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let databases = Databases::at(dir.path());
        let inside = dir.path().join("x.csv").display().to_string();
        assert!(databases.locate(&inside).is_ok());
        for bad in ["../x", "/etc/passwd", "a/b", ".x", "", "x.lock", "x.new", "a b", "\0"] {
            assert!(databases.locate(bad).is_err(), "{bad}");
        }
        assert_eq!(databases.used(), None);
        assert!(Databases::default().locate("x").is_err());
        let store = store(&databases, true);
        store.set(row(&["a", "1"])).unwrap();
        let refused = store.set(row(&["b", &"x".repeat(MAX_BYTES as usize)]));
        assert!(matches!(refused, Err(NoAnswer::Never(_))), "{refused:?}");
        assert_eq!(store.get("a").unwrap(), row(&["a", "1"]));
        fs::write(dir.path().join("greylist.csv"), "\"not closed").unwrap();
        assert!(store.set(row(&["c", "1"])).is_err() && store.get("a").is_err());
    }
}
