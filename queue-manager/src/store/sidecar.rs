//! The index of one segment: the briefs of its records, written beside the log while it is written, so that a start
//! need not read bodies. Never synced, never trusted over the log: whatever is odd about it makes recovery scan instead.

use std::io::IoSlice;
use std::sync::Arc;

use vsmtp_mail::QueueId;

use super::codec::{Malformed, Put, Take};
use super::disk::{Area, Disk, DiskFile};
use super::header::SidecarHeader;
use super::layout::{Kind, SIDECAR_HEADER_LEN};
use super::segments::sidecar_name;

/// Octets that are gathered before they are written.
const CHUNK: usize = 64 * 1024;
/// Longest sidecar that is believed.
const MAX_SIDECAR: u64 = 512 * 1024 * 1024;

/// Writes the sidecar of the segment that is being written. An error makes it useless and is otherwise ignored.
#[derive(Debug)]
pub(super) struct SidecarWriter {
    file: Option<Arc<dyn DiskFile>>,
    buffer: Vec<u8>,
    written: u64,
    checksum: u32,
    count: u64,
}

impl SidecarWriter {
    pub(super) fn create(disk: &dyn Disk, epoch: u32) -> Self {
        let name = sidecar_name(epoch);
        let _ = disk.remove(Area::Index, &name);
        let file = disk.create(Area::Index, &name, 0).ok();
        SidecarWriter { file, buffer: Vec::new(), written: 0, checksum: 0, count: 0 }
    }

    pub(super) fn push(&mut self, kind: Kind, id: QueueId, unit: u32, span: u64, brief: &[u8]) {
        if self.file.is_none() {
            return;
        }
        self.buffer.put_u8(kind as u8);
        self.buffer.put_u32(unit);
        self.buffer.put_u32(u32::try_from(span / super::layout::ALIGN).unwrap_or(u32::MAX));
        self.buffer.extend_from_slice(&id.to_bytes());
        self.buffer.put_blob(brief);
        self.count += 1;
        if self.buffer.len() >= CHUNK {
            self.write();
        }
    }

    fn write(&mut self) {
        let Some(file) = &self.file else { return };
        let at = SIDECAR_HEADER_LEN as u64 + self.written;
        if file.write_all_at(&[IoSlice::new(&self.buffer)], at).is_err() {
            self.file = None;
        }
        self.checksum = crc32c::crc32c_append(self.checksum, &self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
    }

    /// Writes the header: the sidecar is good up to `end`. More may be pushed and the header written again.
    pub(super) fn finish(&mut self, epoch: u32, salt: u64, end: u64, last_sequence: u64) {
        self.write();
        let Some(file) = &self.file else { return };
        let header = SidecarHeader {
            epoch,
            salt,
            end,
            entries_len: self.written,
            last_sequence,
            count: self.count,
            entries_checksum: self.checksum,
        };
        if file.write_all_at(&[IoSlice::new(&header.encode())], 0).is_err() {
            self.file = None;
        }
    }
}

/// One entry of a sidecar.
#[derive(Debug)]
pub(super) struct SidecarEntry<'a> {
    pub kind: Kind,
    pub unit: u32,
    pub span: u64,
    pub id: QueueId,
    pub brief: &'a [u8],
}

/// A sidecar whose checksums hold.
#[derive(Debug)]
pub(super) struct Sidecar {
    pub header: SidecarHeader,
    entries: Vec<u8>,
}

impl Sidecar {
    /// Reads the sidecar of a segment; `None` if there is none that can be believed.
    pub(super) fn read(disk: &dyn Disk, epoch: u32, salt: u64) -> Option<Self> {
        let file = disk.open(Area::Index, &sidecar_name(epoch), false).ok()?;
        let mut start = [0; SIDECAR_HEADER_LEN];
        if file.read_at(&mut start, 0).ok()? < start.len() {
            return None;
        }
        let header = SidecarHeader::decode(&start)?;
        let wanted = header.epoch == epoch && header.salt == salt && header.entries_len <= MAX_SIDECAR;
        if !wanted || file.len().ok()? < SIDECAR_HEADER_LEN as u64 + header.entries_len {
            return None;
        }
        let mut entries = vec![0; usize::try_from(header.entries_len).ok()?];
        if file.read_at(&mut entries, SIDECAR_HEADER_LEN as u64).ok()? < entries.len() {
            return None;
        }
        (crc32c::crc32c(&entries) == header.entries_checksum).then_some(Sidecar { header, entries })
    }

    /// The entries in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<SidecarEntry<'_>, Malformed>> {
        let mut take = Take::new(&self.entries, "sidecar");
        std::iter::from_fn(move || (!take.rest().is_empty()).then(|| take_entry(&mut take)))
    }

    /// A writer that goes on where this sidecar ends.
    pub(super) fn resume(&self, disk: &dyn Disk) -> SidecarWriter {
        SidecarWriter {
            file: disk.open(Area::Index, &sidecar_name(self.header.epoch), true).ok(),
            buffer: Vec::new(),
            written: self.header.entries_len,
            checksum: self.header.entries_checksum,
            count: self.header.count,
        }
    }
}

fn take_entry<'a>(take: &mut Take<'a>) -> Result<SidecarEntry<'a>, Malformed> {
    let kind = Kind::from_u8(take.u8()?).ok_or(Malformed("sidecar kind"))?;
    let (unit, span) = (take.u32()?, u64::from(take.u32()?) * super::layout::ALIGN);
    let id = QueueId::from_bytes(take.array()?);
    Ok(SidecarEntry { kind, unit, span, id, brief: take.blob()? })
}
