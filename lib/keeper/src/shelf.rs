//! The two files: which of them holds, which is newer, and which is written next.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use vsmtp_daemon::Record;

use crate::envelope::{self, Format, HEADER};

/// How many files there are.
pub const FILES: usize = 2;
/// Octets that are read at once.
const CHUNK: usize = 64 << 10;

/// Makes of octets what they say, or tells what is wrong with them.
pub type Read<T> = fn(&[u8]) -> Result<T, &'static str>;

/// The files, and what is known of them.
pub struct Shelf {
    files: Vec<File>,
    format: Format,
    /// Where the newest writing is, and its number.
    newest: (usize, u64),
}

impl Shelf {
    /// Nothing is known of these yet.
    pub fn new(files: Vec<File>, format: Format) -> Self {
        Shelf { files, format, newest: (FILES - 1, 0) }
    }

    /// What the newest writing that holds says. A file that does not hold is said in the log.
    pub fn look<T>(&mut self, read: Read<T>) -> Option<T> {
        let mut newest = None;
        for (at, file) in self.files.iter().enumerate() {
            match self.contents(file) {
                Ok(octets) if octets.is_empty() => {}
                Ok(octets) => match self.writing(&octets, read) {
                    Ok((number, known)) if newest.is_none() || number > self.newest.1 => {
                        self.newest = (at, number);
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

    /// Writes over the older one. If that fails, the other one is whole: it is not touched before this one is.
    pub fn write(&mut self, body: &[u8]) -> io::Result<()> {
        if body.len() > self.format.max_octets {
            return Err(io::Error::other("there is too much of it"));
        }
        let (at, number) = ((self.newest.0 + 1) % FILES, self.newest.1.wrapping_add(1));
        // Whoever has fewer files keeps nothing.
        let Some(file) = self.files.get(at) else { return Ok(()) };
        file.write_all_at(body, HEADER as u64)?;
        file.write_all_at(&envelope::header(&self.format, number, body), 0)?;
        file.set_len((HEADER + body.len()) as u64)?;
        file.sync_data()?;
        self.newest = (at, number);
        Ok(())
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

fn damaged(at: usize, why: &dyn Display) {
    Record::at(log::Level::Warn, "state-damaged").field("file", at).field("why", why).emit();
}
