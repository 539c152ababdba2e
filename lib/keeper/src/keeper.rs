//! Who keeps: a thread, since a disk may take its time and others wait for the loop.
//!
//! On failure: a file that cannot be read or does not hold is as one that is empty, and one that cannot be written is tried
//! again with the next writing. Both are said in the log.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use vsmtp_daemon::Record;

use crate::envelope::Format;
use crate::shelf::{FILES, Read, Shelf};

/// What the master opened, before it is read.
pub struct Files {
    format: Format,
    files: Vec<File>,
}

/// The way to the thread that writes.
pub struct Keeper {
    to: SyncSender<Vec<u8>>,
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

    /// Reads what was kept, and begins to keep.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn open<T>(self, read: Read<T>) -> io::Result<(Option<T>, Keeper)> {
        let mut shelf = Shelf::new(self.files, self.format);
        let known = shelf.look(read);
        // At most one writing waits for the one that is under way.
        let (to, writings) = sync_channel(1);
        let thread =
            std::thread::Builder::new().name("keeper".to_owned()).spawn(move || keep(shelf, &writings))?;
        Ok((known, Keeper { to, thread }))
    }
}

impl Keeper {
    /// Has it written. False if the disk is still busy with what was to be written before.
    pub fn keep(&self, body: Vec<u8>) -> bool {
        match self.to.try_send(body) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Has it written if there is something, and waits until all is written.
    pub fn finish(self, body: Option<Vec<u8>>) {
        if let Some(body) = body {
            // The thread lives as long as the way to it: there is nothing to be done if not.
            let _ = self.to.send(body);
        }
        drop(self.to);
        let _ = self.thread.join();
    }
}

/// The life of the thread: one writing after the other.
fn keep(mut shelf: Shelf, writings: &Receiver<Vec<u8>>) {
    while let Ok(body) = writings.recv() {
        if let Err(error) = shelf.write(&body) {
            Record::at(log::Level::Warn, "state-not-written").field("error", error).emit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const FORMAT: Format = Format { magic: *b"testing1", max_octets: 64 };

    fn text(octets: &[u8]) -> Result<String, &'static str> {
        String::from_utf8(octets.to_vec()).map_err(|_| "it is no text")
    }

    fn files() -> [File; FILES] {
        [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()]
    }

    fn open(files: &[File; FILES]) -> (Option<String>, Keeper) {
        let mut taken = Files::new(FORMAT);
        files.iter().for_each(|file| taken.take(file.try_clone().unwrap().into()));
        taken.open(text).unwrap()
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
}
