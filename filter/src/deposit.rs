//! What rules write: files in folders of one folder, which filters may fill and not read. A file gets its name when it is
//! whole and on the disk, so whoever looks sees all of it or nothing.
//!
//! On failure: the rule that wants to write fails, the client hears that it is to come again, and nothing is left behind but
//! what a dying process could not remove.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::Level;
use vsmtp_daemon::Record;
use vsmtp_sys::disk::free_space;
use vsmtp_sys::random::random_u64;

use crate::engine::{deadline_passed, hand_on, party, time_left};
use crate::object::Fault;
use crate::places::{Place, Places};
use crate::runner::Input;

/// Largest file, in octets.
pub const MAX_BYTES: u64 = 64 << 20;
/// Most folders that rules make: their names may be what strangers say.
const MAX_FOLDERS: usize = 1000;
/// Longest name of a folder.
const MAX_NAME: usize = 100;
/// Files that the disk must have left, beside the octets.
const SPARE_INODES: u64 = 1000;
/// Longest wait for others that write.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether one has finished.
const LOOK: Duration = Duration::from_millis(5);
/// Who is in the folder's group may read.
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// The folder of what rules write.
#[derive(Debug, Default)]
pub struct Deposit {
    home: Home,
    /// Rules write, and the jail lets them.
    is_open: AtomicBool,
    /// Of rules that write or wait for others that do: each has a worker, and the disk may not answer at all.
    busy: Places,
    /// Of those among them that write.
    writing: Places,
}

#[derive(Debug, Default)]
enum Home {
    /// There is none.
    #[default]
    Nowhere,
    /// Rules are only tried: what they would write is looked at, and not written.
    Tried,
    /// This one.
    Folder {
        path: PathBuf,
        /// Octets that must be left on its disk.
        spare: u64,
    },
}

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotWritten {
    /// A matter of the moment or of the host, and no mistake of the rule.
    Later(Fault),
    /// The rule asks for what cannot be.
    Never(Fault),
}

impl Deposit {
    /// This folder, as soon as it is opened. So many octets must stay free on its disk. A quarter of so many workers is left
    /// to rules that do not write, however long others write or wait for them.
    pub fn at(path: &Path, spare: u64, workers: usize) -> Arc<Self> {
        let home = Home::Folder { path: path.to_owned(), spare };
        let deposit = Deposit { home, ..Deposit::default() };
        // What one network may hold of all that write is less than what it may hold of all that are busy.
        let busy = deposit.busy.leave_room(workers);
        deposit.writing.leave_room(busy);
        Arc::new(deposit)
    }

    /// For rules that are only tried.
    pub fn tried() -> Arc<Self> {
        Arc::new(Deposit { home: Home::Tried, ..Deposit::default() })
    }

    /// True if rules are only tried.
    pub fn is_tried(&self) -> bool {
        matches!(self.home, Home::Tried)
    }

    /// Rules write in it: from now on they may, if it is there.
    pub fn open(&self) {
        if let Home::Folder { path, .. } = &self.home {
            self.is_open.store(path.is_dir(), Ordering::Relaxed);
        }
    }

    /// The folder, if rules may write in it: their jail must let them.
    pub fn opened(&self) -> Option<&Path> {
        match &self.home {
            Home::Folder { path, .. } if self.is_open.load(Ordering::Relaxed) => Some(path),
            _ => None,
        }
    }

    /// Writes a file in one of its folders, in place of what has that name there. `name` must be one that we made.
    ///
    /// # Errors
    /// The folder cannot be called so, the content is too large, or it cannot be written now.
    pub fn write(&self, folder: &str, name: &str, content: &Input) -> Result<(), NotWritten> {
        let bytes = content.size();
        check(folder, bytes).map_err(NotWritten::Never)?;
        if let Home::Folder { path, spare } = &self.home {
            self.put(path, *spare, folder, name, content)?;
        } else if !self.is_tried() {
            return Err(NotWritten::Never(Fault::new("no file can be written here")));
        }
        let file = format!("{folder}/{name}");
        Record::at(Level::Debug, "file-written").field("file", file).field("bytes", bytes).emit();
        Ok(())
    }

    fn put(
        &self,
        path: &Path,
        spare: u64,
        folder: &str,
        name: &str,
        content: &Input,
    ) -> Result<(), NotWritten> {
        let file = path.join(folder).join(name);
        let later = |why: &str| NotWritten::Later(Fault(format!("{} is not written: {why}", file.display())));
        if self.opened().is_none() {
            return Err(later(
                "its folder was not there when rules were loaded, or none of them calls fs::write() or fs::dump() by its name",
            ));
        }
        hand_on();
        let too_many = || later("too many rules write files");
        let _busy = self.busy.take(party()).ok_or_else(too_many)?;
        let _writing = self.wait().ok_or_else(too_many)?;
        make_folder(path, folder)
            .and_then(|folder| write_whole(&folder, name, content, spare))
            .map_err(|error| later(&error.to_string()))
    }
}

impl Deposit {
    /// A place to write. Writes are short where the disk is well, so one that finds no place waits a little for one: it holds a
    /// worker meanwhile, and must have a place among the busy.
    fn wait(&self) -> Option<Place<'_>> {
        let deadline = Instant::now() + time_left().map_or(PATIENCE, |left| left.min(PATIENCE));
        loop {
            match self.writing.take(party()) {
                None if Instant::now() < deadline => std::thread::sleep(LOOK),
                taken => return taken,
            }
        }
    }
}

/// What the folder may be called, and how much is written.
fn check(folder: &str, bytes: u64) -> Result<(), Fault> {
    let is_name = folder.len() <= MAX_NAME
        && folder.starts_with(|first: char| first.is_ascii_alphanumeric())
        && folder
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+' | '='));
    if !is_name {
        return Err(Fault(format!(
            "'{}' cannot be a folder of files that rules write: at most {MAX_NAME} letters, digits and . _ - @ + =, the \
             first one a letter or a digit",
            folder.escape_debug()
        )));
    }
    if bytes > MAX_BYTES {
        return Err(Fault(format!("more than {MAX_BYTES} bytes are not written")));
    }
    Ok(())
}

/// One of the folders; it is made if it is not there.
fn make_folder(path: &Path, folder: &str) -> io::Result<PathBuf> {
    let inside = path.join(folder);
    if inside.is_dir() {
        return Ok(inside);
    }
    if fs::read_dir(path)?.take(MAX_FOLDERS).count() >= MAX_FOLDERS {
        return Err(io::Error::other(format!("there are {MAX_FOLDERS} folders already")));
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(&inside) {
        // Another filter was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && inside.is_dir() => return Ok(inside),
        made => made?,
    }
    // What the process makes is its own otherwise.
    File::open(&inside)?.set_permissions(Permissions::from_mode(FOLDER_MODE))?;
    File::open(path)?.sync_all()?;
    Ok(inside)
}

fn write_whole(folder: &Path, name: &str, content: &Input, spare: u64) -> io::Result<()> {
    // Another filter may write a file of that name at the same time: the last whole one stays.
    let new = folder.join(format!(".{name}.{:016x}.new", random_u64()?));
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&new)?;
    let written = fill(file, content, spare).and_then(|()| fs::rename(&new, folder.join(name)));
    if let Err(error) = written {
        // What cannot be removed stays, and hurts nobody.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

fn fill(mut file: File, content: &Input, spare: u64) -> io::Result<()> {
    let free = free_space(&file)?;
    // The queue may be on the same disk: it must not run full of what rules write.
    if free.bytes < spare.saturating_add(content.size()) || free.inodes < SPARE_INODES {
        return Err(ErrorKind::StorageFull.into());
    }
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    content.hand_over(|part| {
        if deadline_passed() {
            return Err(ErrorKind::TimedOut.into());
        }
        file.write_all(part)
    })?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use super::*;
    use crate::transaction::Content;

    fn opened(path: &Path, spare: u64) -> Arc<Deposit> {
        let deposit = Deposit::at(path, spare, 4);
        deposit.open();
        deposit
    }

    fn text(text: &str) -> Input {
        Input::Bytes(text.as_bytes().to_vec())
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn files_are_whole_and_for_the_group_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let deposit = opened(dir.path(), 0);
        deposit.write("a@b.c", "1.eml", &text("one")).unwrap();
        deposit.write("a@b.c", "1.eml", &text("two")).unwrap();
        let folder = dir.path().join("a@b.c");
        assert_eq!(fs::read_to_string(folder.join("1.eml")).unwrap(), "two");
        assert_eq!((mode(&folder), mode(&folder.join("1.eml"))), (0o750, 0o640));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn no_name_leads_anywhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        fs::create_dir(&inside).unwrap();
        let deposit = opened(&inside, 0);
        let long = "x".repeat(MAX_NAME + 1);
        for bad in
            ["", ".", "..", "../x", "/tmp", "a/b", "a\\b", ".x", "-x", "a b", "a\0", "a\n", "\u{e9}", &long]
        {
            let refused = deposit.write(bad, "1.eml", &text("x")).unwrap_err();
            assert!(
                matches!(&refused, NotWritten::Never(fault) if fault.0.contains("cannot be a folder")),
                "{bad:?}"
            );
        }
        assert_eq!(
            (fs::read_dir(&inside).unwrap().count(), fs::read_dir(dir.path()).unwrap().count()),
            (0, 1)
        );
    }

    #[test]
    fn folders_are_so_many_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let deposit = opened(dir.path(), 0);
        for number in 1..MAX_FOLDERS {
            fs::create_dir(dir.path().join(number.to_string())).unwrap();
        }
        deposit.write("last", "1.eml", &text("x")).unwrap();
        let refused = deposit.write("more", "1.eml", &text("x")).unwrap_err();
        assert!(
            matches!(&refused, NotWritten::Later(fault) if fault.0.contains("folders already")),
            "{refused:?}"
        );
        deposit.write("1", "1.eml", &text("x")).unwrap();
    }

    fn is_refused(written: &Result<(), NotWritten>) -> bool {
        matches!(written, Err(NotWritten::Later(fault)) if fault.0.contains("too many rules"))
    }

    #[test]
    fn some_wait_for_others_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let deposit = opened(dir.path(), 0);
        let take_all = || std::iter::from_fn(|| deposit.writing.take(party())).collect();
        let places: Vec<_> = take_all();
        assert_eq!(places.len(), 2);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| deposit.write("x", "1.eml", &text("x")));
            // However slow a disk is, it is not what this one waits for.
            std::thread::sleep(10 * LOOK);
            drop(places);
            assert_eq!(waiting.join().unwrap(), Ok(()));
        });
        let _places: Vec<_> = take_all();
        let _watch = crate::engine::Watch::until(Instant::now());
        assert!(is_refused(&deposit.write("x", "more.eml", &text("x"))));
    }

    /// A message that cannot be read to its end while somebody holds this.
    #[derive(Debug)]
    struct Stalled(Arc<RwLock<()>>);

    impl Content for Stalled {
        fn len(&self) -> u64 {
            4
        }
        fn read(&self, _: u64, _: usize) -> io::Result<Vec<u8>> {
            let _go = self.0.read();
            Ok(b"text".to_vec())
        }
    }

    #[test]
    fn a_disk_that_stalls_leaves_workers_to_others_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let deposit = opened(dir.path(), 0);
        let gate = Arc::new(RwLock::new(()));
        let (to, ends) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let stalled = gate.write();
            for number in 0..8 {
                let (deposit, gate, to) = (&deposit, Arc::clone(&gate), to.clone());
                scope.spawn(move || {
                    let content =
                        Input::Message { header: Vec::new(), content: Arc::new(Stalled(gate)), body: 0 };
                    let start = Instant::now();
                    let written = deposit.write("x", &format!("{number}.eml"), &content);
                    let _ = to.send((written, start.elapsed()));
                });
            }
            let next = || ends.recv_timeout(4 * PATIENCE).unwrap();
            // Of four workers three are busy: two that write, and one that waits for them.
            for (written, took) in (0..5).map(|_| next()) {
                assert!(is_refused(&written), "{written:?}");
                assert!(took < PATIENCE, "it held its worker for {took:?}");
            }
            drop(stalled);
            let written = (0..3).filter(|_| next().0.is_ok()).count();
            assert!(written >= 2, "{written} were written");
        });
    }

    /// A message while which is read another file of its name is written.
    #[derive(Debug)]
    struct Overtaken(Arc<Deposit>);

    impl Content for Overtaken {
        fn len(&self) -> u64 {
            8
        }
        fn read(&self, offset: u64, _: usize) -> io::Result<Vec<u8>> {
            if offset > 0 {
                self.0.write("x", "1.eml", &text("other")).unwrap();
            }
            Ok(b"half".to_vec())
        }
    }

    #[test]
    fn two_that_write_one_file_at_the_same_time_leave_one_that_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let deposit = opened(dir.path(), 0);
        let content = Arc::new(Overtaken(Arc::clone(&deposit)));
        let message = Input::Message { header: Vec::new(), content, body: 0 };
        assert_eq!(deposit.write("x", "1.eml", &message), Ok(()));
        let folder = dir.path().join("x");
        assert_eq!(fs::read_to_string(folder.join("1.eml")).unwrap(), "halfhalf");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing else is left");
    }

    /// A message of which half can be read.
    #[derive(Debug)]
    struct Torn;

    impl Content for Torn {
        fn len(&self) -> u64 {
            8
        }
        fn read(&self, offset: u64, _: usize) -> io::Result<Vec<u8>> {
            if offset == 0 { Ok(b"half".to_vec()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        }
    }

    #[test]
    fn half_a_message_and_a_full_disk_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let deposit = opened(dir.path(), 0);
        let torn = Input::Message { header: b"A: b\r\n\r\n".to_vec(), content: Arc::new(Torn), body: 0 };
        let full = opened(dir.path(), u64::MAX);
        for refused in [deposit.write("x", "1.eml", &torn), full.write("x", "2.eml", &text("x"))] {
            assert!(matches!(refused, Err(NotWritten::Later(_))), "{refused:?}");
        }
        assert_eq!(fs::read_dir(dir.path().join("x")).unwrap().count(), 0);
    }

    #[test]
    fn too_much_is_refused_and_rules_that_are_tried_write_nothing() {
        #[derive(Debug)]
        struct Large;
        impl Content for Large {
            fn len(&self) -> u64 {
                MAX_BYTES + 1
            }
            fn read(&self, _: u64, _: usize) -> io::Result<Vec<u8>> {
                panic!("it is not read")
            }
        }
        let large = Input::Message { header: Vec::new(), content: Arc::new(Large), body: 0 };
        let tried = Deposit::tried();
        assert!(matches!(tried.write("x", "1.eml", &large), Err(NotWritten::Never(_))));
        assert!(matches!(tried.write("../x", "1.eml", &text("x")), Err(NotWritten::Never(_))));
        assert_eq!(tried.write("x", "1.eml", &text("x")), Ok(()));
        assert!(matches!(Deposit::default().write("x", "1.eml", &text("x")), Err(NotWritten::Never(_))));
    }

    #[test]
    fn a_folder_that_is_not_there_or_not_opened_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        for deposit in [Deposit::at(dir.path(), 0, 4), opened(&dir.path().join("none"), 0)] {
            let refused = deposit.write("x", "1.eml", &text("x")).unwrap_err();
            assert!(
                matches!(&refused, NotWritten::Later(fault) if fault.0.contains("was not there")),
                "{refused:?}"
            );
            assert_eq!(deposit.opened(), None);
        }
        let gone = opened(dir.path(), 0);
        fs::remove_dir(dir.path()).unwrap();
        assert!(matches!(gone.write("x", "1.eml", &text("x")), Err(NotWritten::Later(_))));
    }
}
