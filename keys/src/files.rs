//! The files of one configuration, as descriptors that the master opened. Reads each once, bounded; nothing is opened here.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;

use vsmtp_config::KeyFile;

/// Largest file, in octets: a bundle of all authorities of the world is a quarter of it.
const MAX_FILE: u64 = 1 << 20;

/// Files that are still coming, in the order in which the configuration names them.
pub struct Expected {
    names: Vec<KeyFile>,
    open: Vec<OwnedFd>,
}

/// The octets of a file, with where they came from.
pub struct Content {
    pub file: KeyFile,
    pub octets: Vec<u8>,
}

impl Expected {
    /// Nothing has come yet.
    pub fn new(names: Vec<KeyFile>) -> Self {
        Expected { names, open: Vec::new() }
    }

    /// How many there are in all.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// The next file has come.
    pub fn take(&mut self, file: OwnedFd) {
        if self.open.len() < self.names.len() {
            self.open.push(file);
        }
    }

    /// True if all are here.
    pub fn is_complete(&self) -> bool {
        self.open.len() == self.names.len()
    }

    /// Reads them all.
    ///
    /// # Errors
    /// A file cannot be read or is too large: text for the operator, with the path.
    pub fn read(self) -> Result<Vec<Content>, String> {
        let both = self.names.into_iter().zip(self.open);
        both.map(|(file, open)| {
            let octets = read(File::from(open)).map_err(|error| format!("{}: {error}", file.path))?;
            Ok(Content { file, octets })
        })
        .collect()
    }
}

fn read(mut file: File) -> io::Result<Vec<u8>> {
    // Another process may have read through the same open file before.
    file.rewind()?;
    let mut octets = Vec::new();
    (&mut file).take(MAX_FILE + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("is larger than {MAX_FILE} octets")));
    }
    Ok(octets)
}
