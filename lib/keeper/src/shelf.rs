//! The two files: which of them holds, which is newer, and which is written next.
//!
//! Over a reload two processes of a kind may have them open. Each has them for itself while it reads or writes, and takes up
//! what the other has written before it writes.

use std::fmt::Display;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use vsmtp_daemon::Record;

use crate::envelope::{self, Format, HEADER};

/// How many files there are.
pub const FILES: usize = 2;
/// Octets that are read at once.
const CHUNK: usize = 64 << 10;
/// How often the files are asked for while another process has them, and the wait in between: two seconds in all.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Makes of octets what they say, or tells what is wrong with them.
pub type Read<T> = fn(&[u8]) -> Result<T, &'static str>;

/// The files, and what is known of them.
pub struct Shelf {
    pair: Pair,
    newest: Newest,
}

/// Where the newest writing is that we know, and its number.
#[derive(Clone, Copy)]
struct Newest {
    at: usize,
    number: u64,
}

/// The files alone.
struct Pair {
    files: Vec<File>,
    format: Format,
}

impl Shelf {
    /// Nothing is known of these yet.
    pub fn new(files: Vec<File>, format: Format) -> Self {
        Shelf { pair: Pair { files, format }, newest: Newest { at: FILES - 1, number: 0 } }
    }

    /// What the newest writing that holds says. A file that does not hold is said in the log.
    pub fn look<T>(&mut self, read: Read<T>) -> Option<T> {
        // Who cannot have them alone reads all the same: what is half written does not hold.
        let _locked = self.pair.lock();
        let mut newest = None;
        for (at, file) in self.pair.files.iter().enumerate() {
            match self.pair.contents(file) {
                Ok(octets) if octets.is_empty() => {}
                Ok(octets) => match self.pair.writing(&octets, read) {
                    Ok((number, known)) if newest.is_none() || number > self.newest.number => {
                        self.newest = Newest { at, number };
                        newest = Some(known);
                    }
                    Ok(_) => {}
                    Err(why) => damaged(at, &why),
                },
                Err(error) => damaged(at, &error),
            }
        }
        newest
    }

    /// Writes over the older one what `body` makes; it is told what another process has written meanwhile. If the writing
    /// fails, the other file is whole: it is not touched before this one is.
    pub fn write<T>(&mut self, read: Read<T>, body: impl FnOnce(Option<T>) -> Vec<u8>) -> io::Result<()> {
        let _locked = self.pair.lock()?;
        let news = self.pair.newer_than(&mut self.newest, read);
        let body = body(news);
        if body.len() > self.pair.format.max_octets {
            return Err(io::Error::other("there is too much of it"));
        }
        let (at, number) = ((self.newest.at + 1) % FILES, self.newest.number.wrapping_add(1));
        // Whoever has fewer files keeps nothing.
        let Some(file) = self.pair.files.get(at) else { return Ok(()) };
        file.write_all_at(&body, HEADER as u64)?;
        file.write_all_at(&envelope::header(&self.pair.format, number, &body), 0)?;
        file.set_len((HEADER + body.len()) as u64)?;
        file.sync_data()?;
        self.newest = Newest { at, number };
        Ok(())
    }
}

impl Pair {
    /// Nobody else reads or writes them until the lock is dropped; the end of a process drops its own.
    fn lock(&self) -> io::Result<Locked<'_>> {
        let Some(first) = self.files.first() else { return Ok(Locked(None)) };
        for _ in 0..TRIES {
            match first.try_lock() {
                Ok(()) => return Ok(Locked(Some(first))),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other("another process has the files"))
    }

    /// The latest writing behind the one that is known, if there is one that holds; it is then the one that is known.
    fn newer_than<T>(&self, newest: &mut Newest, read: Read<T>) -> Option<T> {
        let mut news = None;
        for (at, file) in self.files.iter().enumerate() {
            let is_newer = self.number(file).is_some_and(|number| number > newest.number);
            let writing = || self.writing(&self.contents(file).ok()?, read).ok();
            if let Some((number, known)) = is_newer.then(writing).flatten() {
                *newest = Newest { at, number };
                news = Some(known);
            }
        }
        news
    }

    /// The number of a file, whether the rest of it holds or not.
    fn number(&self, file: &File) -> Option<u64> {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).ok()?;
        envelope::number(&self.format, &header)
    }

    fn writing<T>(&self, octets: &[u8], read: Read<T>) -> Result<(u64, T), &'static str> {
        let (number, body) = envelope::open(&self.format, octets)?;
        Ok((number, read(body)?))
    }

    /// By reading alone: the jail has no call that tells how long a file is.
    fn contents(&self, file: &File) -> io::Result<Vec<u8>> {
        let (mut octets, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        loop {
            match file.read_at(&mut chunk, octets.len() as u64)? {
                0 => return Ok(octets),
                read => octets.extend(chunk.iter().take(read)),
            }
            if octets.len() > HEADER + self.format.max_octets {
                return Err(io::Error::other("it is too large"));
            }
        }
    }
}

/// The files are ours for as long as this lives.
struct Locked<'f>(Option<&'f File>);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // A lock that cannot be given back ends with the process.
        let _ = self.0.map(File::unlock);
    }
}

fn damaged(at: usize, why: &dyn Display) {
    Record::at(log::Level::Warn, "state-damaged").field("file", at).field("why", why).emit();
}
