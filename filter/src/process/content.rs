//! The bytes of messages in their three forms. All are read in bounded parts; nothing here can change them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vsmtp_sys::disk;
use vsmtp_sys::memfd::Sealed;

use crate::transaction::Content;

/// A body that came inside the question.
#[derive(Debug)]
pub struct Inline(pub Arc<Vec<u8>>);

impl Content for Inline {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn read(&self, offset: u64, max: usize) -> std::io::Result<Vec<u8>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let to = from.saturating_add(max).min(self.0.len());
        Ok(self.0.get(from..to).unwrap_or_default().to_vec())
    }
}

/// A sealed body.
#[derive(Debug)]
pub struct Memory(pub Arc<Sealed>);

impl Content for Memory {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read(&self, offset: u64, max: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; bounded(self.0.len(), offset, max)];
        let read = self.0.read_at(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// The queue-manager's staging file, open for reading.
#[derive(Debug)]
pub struct Staged {
    pub file: OwnedFd,
    pub len: u64,
}

impl Content for Staged {
    fn len(&self) -> u64 {
        self.len
    }
    fn read(&self, offset: u64, max: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; bounded(self.len, offset, max)];
        let read = disk::read_at(&self.file, &mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// Octets there are to read.
fn bounded(len: u64, offset: u64, max: usize) -> usize {
    usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX).min(max)
}
