//! Who keeps: a thread, since a disk may take its time and others wait for the loop.
//!
//! On failure: a file that cannot be read or does not hold is as one that is empty. One that cannot be written is said to
//! whoever asks, so that it is tried again. Both are in the log.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use vsmtp_daemon::Record;

use crate::envelope::Format;
use crate::shelf::{FILES, Read, Shelf};

/// What the master opened, before it is read.
pub struct Files {
    format: Format,
    files: Vec<File>,
}

/// The way to the thread that writes, by jobs of this kind.
pub struct Keeper<J> {
    to: SyncSender<J>,
    failed: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Files {
    /// None has come yet. They are to hold this.
    pub fn new(format: Format) -> Self {
        Files { format, files: Vec::new() }
    }

    /// One more has come.
    pub fn take(&mut self, file: OwnedFd) {
        if self.files.len() < FILES {
            self.files.push(file.into());
        }
    }

    /// Reads what was kept, and begins to keep. On the thread `body` makes of each job the octets to be written, of all that
    /// is to be known later. It is given what another process has written since, if there is one: what it does not take up
    /// is lost.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn open<T: 'static, J: Send + 'static>(
        self,
        read: Read<T>,
        mut body: impl FnMut(J, Option<T>) -> Vec<u8> + Send + 'static,
    ) -> io::Result<(Option<T>, Keeper<J>)> {
        let mut shelf = Shelf::new(self.files, self.format);
        let known = shelf.look(read);
        // At most one writing waits for the one that is under way.
        let (to, jobs) = sync_channel(1);
        let failed = Arc::new(AtomicBool::new(false));
        let has_failed = Arc::clone(&failed);
        let life = move || {
            while let Ok(job) = jobs.recv() {
                if let Err(error) = shelf.write(read, |news| body(job, news)) {
                    Record::at(log::Level::Warn, "state-not-written").field("error", error).emit();
                    has_failed.store(true, Relaxed);
                }
            }
        };
        let thread = std::thread::Builder::new().name("keeper".to_owned()).spawn(life)?;
        Ok((known, Keeper { to, failed, thread }))
    }
}

impl<J> Keeper<J> {
    /// Has it written. False if the disk is still busy with what was to be written before.
    #[must_use]
    pub fn keep(&self, job: J) -> bool {
        match self.to.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// True if something could not be written since the last call.
    pub fn take_failed(&self) -> bool {
        self.failed.swap(false, Relaxed)
    }

    /// Has it written if there is something, and waits until all is written.
    pub fn finish(self, job: Option<J>) {
        if let Some(job) = job {
            // The thread lives as long as the way to it: there is nothing to be done if not.
            let _ = self.to.send(job);
        }
        drop(self.to);
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::{Duration, Instant};

    use tempfile::NamedTempFile;

    use super::*;

    const FORMAT: Format = Format { magic: *b"testing1", max_octets: 64 };

    fn text(octets: &[u8]) -> Result<String, &'static str> {
        String::from_utf8(octets.to_vec()).map_err(|_| "it is no text")
    }

    fn files() -> [File; FILES] {
        [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()]
    }

    fn open(files: &[File; FILES]) -> (Option<String>, Keeper<Vec<u8>>) {
        let mut taken = Files::new(FORMAT);
        files.iter().for_each(|file| taken.take(file.try_clone().unwrap().into()));
        taken.open(text, |body, _| body).unwrap()
    }

    fn known(files: &[File; FILES]) -> Option<String> {
        open(files).0
    }

    fn write(files: &[File; FILES], body: &str) {
        open(files).1.finish(Some(body.into()));
    }

    /// Four lives, the last of which knows `0123`.
    fn four_lives() -> [File; FILES] {
        let files = files();
        for life in 0..4 {
            let (known, keeper) = open(&files);
            let known = known.unwrap_or_default();
            assert_eq!(known.len(), life);
            keeper.finish(Some(format!("{known}{life}").into()));
        }
        files
    }

    #[test]
    fn each_life_knows_what_the_one_before_knew() {
        let files = four_lives();
        let (known, keeper) = open(&files);
        assert_eq!(known.as_deref(), Some("0123"));
        keeper.finish(None);
        assert_eq!(self::known(&files).as_deref(), Some("0123"));
        assert_eq!(self::known(&self::files()), None);
    }

    #[test]
    fn the_older_writing_counts_if_the_newer_one_is_damaged_or_half_written() {
        for damage in [
            |file: &File| file.write_all_at(b"x", 29).unwrap(),
            |file: &File| file.set_len(30).unwrap(),
            |file: &File| file.set_len(0).unwrap(),
            |file: &File| file.set_len(1_000).unwrap(),
        ] {
            let files = four_lives();
            // The fourth writing is in the second file.
            damage(&files[1]);
            assert_eq!(known(&files).as_deref(), Some("012"));
            // The damaged one is written next, not the one that holds.
            write(&files, "new");
            files[0].set_len(0).unwrap();
            assert_eq!(known(&files).as_deref(), Some("new"));
        }
        let files = four_lives();
        files.iter().for_each(|file| file.write_all_at(b"x", 20).unwrap());
        assert_eq!(known(&files), None);
    }

    #[test]
    fn what_is_too_much_or_makes_no_sense_is_not_kept() {
        let files = four_lives();
        write(&files, &"x".repeat(65));
        assert_eq!(known(&files).as_deref(), Some("0123"));
        open(&files).1.finish(Some(vec![0xff]));
        assert_eq!(known(&files).as_deref(), Some("0123"));
        write(&files, &"x".repeat(64));
        assert_eq!(known(&files), Some("x".repeat(64)));
    }

    /// As the master hands them to a process of its own: others have them open too. Each word that is about to be written is
    /// told.
    fn shared(files: &[NamedTempFile; FILES]) -> (Keeper<String>, Receiver<String>) {
        let (to, told) = channel();
        let mut taken = Files::new(Format { max_octets: 4_096, ..FORMAT });
        files.iter().for_each(|file| taken.take(file.reopen().unwrap().into()));
        let mut known = String::new();
        let keeper = taken.open(text, move |word: String, news: Option<String>| {
            // What the other one knows may lack what we have not written yet.
            let news = news.unwrap_or_default();
            let missing = |word: &&str| !known.split_whitespace().any(|one| one == *word);
            let more: Vec<String> = news.split_whitespace().filter(missing).map(str::to_owned).collect();
            known = [&[known.clone()], &more[..], std::slice::from_ref(&word)].concat().join(" ");
            let _ = to.send(word);
            known.clone().into()
        });
        (keeper.unwrap().1, told)
    }

    /// Has it written, as often as the other one kept the files to itself for too long: where the disk is slow, that one locks
    /// them again as soon as it has let go of them.
    fn insist(keeper: &Keeper<String>, told: &Receiver<String>, word: &str) {
        let start = Instant::now();
        keeper.to.send(word.to_owned()).unwrap();
        while told.recv_timeout(Duration::from_millis(20)).is_err() {
            assert!(start.elapsed().as_secs() < 120, "{word} is not written");
            if keeper.take_failed() {
                keeper.to.send(word.to_owned()).unwrap();
            }
        }
    }

    #[test]
    fn two_at_a_time_lose_nothing_of_each_other() {
        let files = [NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap()];
        let ((one, of_one), (other, of_other)) = (shared(&files), shared(&files));
        std::thread::scope(|scope| {
            for (name, keeper, told) in [("a", &one, of_one), ("b", &other, of_other)] {
                scope.spawn(move || (0..40).for_each(|n| insist(keeper, &told, &format!("{name}{n}"))));
            }
        });
        one.finish(None);
        other.finish(Some("last".to_owned()));
        let mut taken = Files::new(Format { max_octets: 4_096, ..FORMAT });
        files.iter().for_each(|file| taken.take(file.reopen().unwrap().into()));
        let known = taken.open(text, |body, _| body).unwrap().0.unwrap();
        let mut words: Vec<&str> = known.split_whitespace().collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 81, "{known}");
    }

    #[test]
    fn who_keeps_the_files_to_himself_stops_nobody_for_long() {
        let files = [NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap()];
        let thief = files[0].reopen().unwrap();
        thief.lock().unwrap();
        let (keeper, _) = shared(&files);
        assert!(keeper.keep("lost".to_owned()));
        let start = Instant::now();
        while !keeper.take_failed() {
            assert!(start.elapsed().as_secs() < 20, "it is never said");
            std::thread::sleep(Duration::from_millis(20));
        }
        thief.unlock().unwrap();
        keeper.finish(Some("kept".to_owned()));
        assert!(std::fs::read(files[0].path()).unwrap().ends_with(b"kept"));
    }
}
