//! Bodies that are too large for a segment: gathered in a file of their own, chunk by chunk, and made durable before
//! the record that refers to them is written. A file that nobody accepts is removed.

use std::io::{self, IoSlice};
use std::sync::Arc;

use vsmtp_mail::QueueId;

use super::body::LargeRef;
use super::disk::{Area, Disk, DiskFile};

/// A body that is still growing.
#[derive(Debug)]
pub struct Staging {
    body: StagedBody,
}

impl Staging {
    pub(super) fn create(disk: Arc<dyn Disk>, id: QueueId) -> io::Result<Self> {
        let name = id.to_string();
        let file = disk.create(Area::Staging, &name, 0)?;
        Ok(Staging { body: StagedBody { disk, file, id, name, len: 0, checksum: 0, armed: true } })
    }

    /// Appends octets. After an error the body is of no use: drop it.
    pub fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        self.body.file.write_all_at(&[IoSlice::new(octets)], self.body.len)?;
        self.body.len += octets.len() as u64;
        self.body.checksum = crc32c::crc32c_append(self.body.checksum, octets);
        Ok(())
    }

    /// Octets so far.
    pub fn len(&self) -> u64 {
        self.body.len
    }

    /// True if nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.body.len == 0
    }

    /// A descriptor of the file for reading only, for whoever judges the message.
    pub fn reader(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.body.disk.open(Area::Staging, &self.body.name, false)
    }

    /// The first octets, at most so many.
    pub fn start(&self, limit: usize) -> io::Result<Vec<u8>> {
        let mut start = vec![0; usize::try_from(self.body.len).unwrap_or(limit).min(limit)];
        let got = self.body.file.read_at(&mut start, 0)?;
        start.truncate(got);
        Ok(start)
    }

    /// Nothing more will come.
    pub fn finish(self) -> StagedBody {
        self.body
    }
}

/// A body that is complete and not yet durable. Dropping it removes it.
#[derive(Debug)]
pub struct StagedBody {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    id: QueueId,
    name: String,
    len: u64,
    checksum: u32,
    armed: bool,
}

impl StagedBody {
    /// Octets.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The message that it was staged for.
    pub fn id(&self) -> QueueId {
        self.id
    }

    pub(super) fn reference(&self) -> LargeRef {
        LargeRef { name: self.name.clone(), len: self.len, checksum: self.checksum }
    }

    /// Makes the body durable under its final name. May wait for the disk.
    pub(super) fn publish(mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.disk.rename((Area::Staging, &self.name), (Area::Large, &self.name))?;
        self.armed = false;
        self.disk.sync_area(Area::Large).inspect_err(|_| {
            let _ = self.disk.remove(Area::Large, &self.name);
        })
    }
}

impl Drop for StagedBody {
    fn drop(&mut self) {
        if self.armed {
            let _ = self.disk.remove(Area::Staging, &self.name);
        }
    }
}
