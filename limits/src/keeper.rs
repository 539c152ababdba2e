//! The two files in which greylisting outlives the process, opened by the master. They are written in turn, so that one is
//! whole whatever happens to the other; the newer one that holds is read at the start. A thread writes, since a disk may
//! take its time and receivers wait for the loop.
//!
//! On failure: a file that cannot be read or does not hold is as one that is empty, and one that cannot be written is tried
//! again with the next writing. Both are said in the log.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use vsmtp_daemon::Record;

use crate::greylist::Greylist;
use crate::snapshot::{self, MAX_SNAPSHOT};

/// Octets that are read at once.
const CHUNK: usize = 64 << 10;
/// How many files there are.
pub const FILES: usize = 2;

/// The way to the thread that writes.
pub struct Keeper {
    to: SyncSender<Vec<u8>>,
    thread: JoinHandle<()>,
    /// Of the next writing.
    number: u64,
}

/// What the master opened, before it is read.
#[derive(Default)]
pub struct Files(Vec<File>);

impl Files {
    /// One more has come.
    pub fn take(&mut self, file: OwnedFd) {
        if self.0.len() < FILES {
            self.0.push(file.into());
        }
    }

    /// Reads what was kept, and begins to keep.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn open(self) -> io::Result<(Greylist, Keeper)> {
        let mut newest = None;
        for (at, file) in self.0.iter().enumerate() {
            match contents(file) {
                Ok(octets) if octets.is_empty() => {}
                Ok(octets) => match snapshot::read(&octets) {
                    Ok((number, list)) if newest.as_ref().is_none_or(|(_, last, _)| number > *last) => {
                        newest = Some((at, number, list));
                    }
                    Ok(_) => {}
                    Err(why) => damaged(at, &why),
                },
                Err(error) => damaged(at, &error),
            }
        }
        let (written, number, list) = newest.unwrap_or((FILES - 1, 0, Greylist::default()));
        // At most one writing waits for the one that is under way.
        let (to, writings) = sync_channel(1);
        let files = self.0;
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || keep(&files, written, &writings))?;
        Ok((list, Keeper { to, thread, number: number.wrapping_add(1) }))
    }
}

impl Keeper {
    /// Has it written. False if the disk is still busy with what was to be written before.
    pub fn keep(&mut self, list: &Greylist) -> bool {
        match self.to.try_send(snapshot::write(list, self.number)) {
            Ok(()) => {
                self.number += 1;
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Has it written if there is something, and waits until all is written.
    pub fn finish(self, list: Option<&Greylist>) {
        if let Some(list) = list {
            // The thread lives as long as the way to it: there is nothing to be done if not.
            let _ = self.to.send(snapshot::write(list, self.number));
        }
        drop(self.to);
        let _ = self.thread.join();
    }
}

/// The life of the thread: one writing after the other, each over the older of the two files.
fn keep(files: &[File], written: usize, writings: &Receiver<Vec<u8>>) {
    let mut next = (written + 1) % FILES;
    while let Ok(octets) = writings.recv() {
        let Some(file) = files.get(next) else { return };
        match write(file, &octets) {
            Ok(()) => next = (next + 1) % FILES,
            // The other one is whole: it is not touched before this one is.
            Err(error) => {
                Record::at(log::Level::Warn, "state-not-written").field("error", error).emit();
            }
        }
    }
}

fn write(file: &File, octets: &[u8]) -> io::Result<()> {
    file.write_all_at(octets, 0)?;
    file.set_len(octets.len() as u64)?;
    file.sync_data()
}

/// By reading alone: the jail has no call that tells how long a file is.
fn contents(file: &File) -> io::Result<Vec<u8>> {
    let (mut octets, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    loop {
        match file.read_at(&mut chunk, octets.len() as u64)? {
            0 => return Ok(octets),
            read => octets.extend(chunk.iter().take(read)),
        }
        if octets.len() > MAX_SNAPSHOT {
            return Err(io::Error::other("it is too large"));
        }
    }
}

fn damaged(at: usize, why: &dyn std::fmt::Display) {
    Record::at(log::Level::Warn, "state-damaged").field("file", at).field("why", why).emit();
}

#[cfg(test)]
mod tests {
    use vsmtp_ipc::edge::filter_limits::{Terms, Triple};

    use super::*;

    const TERMS: Terms = Terms { delay_s: 300, window_s: 3_600, lifetime_s: 86_400, known_after: 3 };

    fn ask(list: &mut Greylist, sender: &str) -> u32 {
        let client = "192.0.2.0".parse().unwrap();
        list.ask(1_000, &Triple { client, sender: sender.into(), recipient: "b@dst.test".into() }, &TERMS)
    }

    fn files() -> [File; FILES] {
        [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()]
    }

    fn open(files: &[File; FILES]) -> (Greylist, Keeper) {
        let mut taken = Files::default();
        files.iter().for_each(|file| taken.take(file.try_clone().unwrap().into()));
        taken.open().unwrap()
    }

    /// Four lives, each of which learns of one more.
    fn four_lives() -> [File; FILES] {
        let files = files();
        for life in 0..4 {
            let (mut list, keeper) = open(&files);
            assert_eq!(list.sizes().waiting, life);
            ask(&mut list, &life.to_string());
            keeper.finish(Some(&list));
        }
        files
    }

    #[test]
    fn each_life_knows_what_the_one_before_knew() {
        let files = four_lives();
        let (list, keeper) = open(&files);
        assert_eq!(list.sizes().waiting, 4);
        keeper.finish(None);
        let (list, _) = open(&files);
        assert_eq!(list.sizes().waiting, 4);
    }

    #[test]
    fn the_older_writing_counts_if_the_newer_one_is_damaged_or_half_written() {
        for damage in [
            |file: &File| file.write_all_at(b"x", 40).unwrap(),
            |file: &File| file.set_len(60).unwrap(),
            |file: &File| file.set_len(0).unwrap(),
            |file: &File| file.set_len(MAX_SNAPSHOT as u64 + 1).unwrap(),
        ] {
            let files = four_lives();
            // The fourth writing is in the second file.
            damage(&files[1]);
            let (mut list, keeper) = open(&files);
            assert_eq!(list.sizes().waiting, 3);
            // The damaged one is written next, not the one that holds.
            ask(&mut list, "new");
            keeper.finish(Some(&list));
            files[0].set_len(0).unwrap();
            assert_eq!(open(&files).0.sizes().waiting, 4);
        }
        let files = four_lives();
        files.iter().for_each(|file| file.write_all_at(b"x", 30).unwrap());
        assert_eq!(open(&files).0.sizes().waiting, 0);
    }
}
