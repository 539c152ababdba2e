//! A file mapped for copying in and out; the only mapping of bytes that can change. No reference into it ever leaves.
//!
//! On a read error of the disk below, access raises SIGBUS: recovery reads with `disk::read_at` and not through here.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt;

use memmap2::{MmapOptions, MmapRaw};

/// The unit in which `Metadata::blocks` counts.
const BLOCK: u64 = 512;

/// A shared mapping of the first bytes of a preallocated file. May move between threads, not be shared by them.
#[derive(Debug)]
pub struct Region {
    map: MmapRaw,
    // Two threads copying at once would be a data race.
    _not_shared: PhantomData<Cell<()>>,
}

impl Region {
    /// Maps the first `length` bytes of a file opened for reading and writing.
    ///
    /// Refuses, with `InvalidInput`, a file that is not regular, is shorter, or has holes, since touching those could
    /// kill the process. The file must not be truncated while it is mapped; whoever holds its lock keeps that.
    pub fn map(file: &File, length: usize) -> io::Result<Region> {
        let status = file.metadata()?;
        let wanted = length as u64;
        if length == 0 || !status.is_file() || status.len() < wanted || status.blocks() * BLOCK < wanted {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let map = MmapOptions::new().len(length).map_raw(file)?;
        Ok(Region { map, _not_shared: PhantomData })
    }

    /// The mapped length in bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Never true: an empty region cannot be made.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies out from `offset`. `InvalidInput` if that passes the end.
    pub fn read_at(&self, offset: usize, buffer: &mut [u8]) -> io::Result<()> {
        self.check(offset, buffer.len())?;
        // SAFETY: `check` has shown that the offset lies inside the map.
        let source = unsafe { self.map.as_ptr().add(offset) };
        // SAFETY: `check` has shown that the bytes lie inside the map, which is readable; the buffer is exclusive and
        // cannot overlap it, since no slice into the map exists; this type is not Sync, so nobody else copies now.
        unsafe { source.copy_to_nonoverlapping(buffer.as_mut_ptr(), buffer.len()) };
        Ok(())
    }

    /// Copies in at `offset`. `InvalidInput` if that passes the end. Durable only after `sync`.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len())?;
        // SAFETY: `check` has shown that the offset lies inside the map.
        let target = unsafe { self.map.as_mut_ptr().add(offset) };
        // SAFETY: as in `read_at`, with the roles exchanged; `map_raw` maps writable.
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Writes the pages of this range to stable storage and waits for it.
    pub fn sync(&self, offset: usize, length: usize) -> io::Result<()> {
        self.check(offset, length)?;
        self.map.flush_range(offset, length)
    }

    fn check(&self, offset: usize, length: usize) -> io::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.map.len() => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk;

    fn region(length: usize) -> (File, Region) {
        let file = tempfile::tempfile().unwrap();
        disk::preallocate_zeroed(&file, length as u64).unwrap();
        let region = Region::map(&file, length).unwrap();
        (file, region)
    }

    #[test]
    fn what_is_copied_in_comes_out_and_is_in_the_file() {
        let (file, region) = region(10_000);
        region.write_at(9_995, b"tail!").unwrap();
        region.write_at(0, b"head").unwrap();
        region.sync(9_995, 5).unwrap();
        region.sync(0, 10_000).unwrap();
        let mut out = [0; 5];
        region.read_at(9_995, &mut out).unwrap();
        assert_eq!(&out, b"tail!");
        disk::pread_exact(&file, &mut out, 0).unwrap();
        assert_eq!(&out, b"head\0");
        disk::pwritev_all(&file, &[io::IoSlice::new(b"HEAD")], 0).unwrap();
        region.read_at(0, &mut out).unwrap();
        assert_eq!(&out, b"HEAD\0");
    }

    #[test]
    fn every_access_is_checked_against_the_length() {
        let (_file, region) = region(4096);
        let mut byte = [0; 1];
        assert_eq!((region.len(), region.is_empty()), (4096, false));
        region.read_at(4096, &mut []).unwrap();
        for offset in [4096, 4097, usize::MAX] {
            assert_eq!(region.read_at(offset, &mut byte).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert_eq!(region.write_at(offset, b"x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert_eq!(region.sync(offset, 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        region.write_at(4090, b"1234567").unwrap_err();
    }

    #[test]
    fn a_file_that_could_fault_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        Region::map(&file, 1 << 20).unwrap_err();
        disk::preallocate_zeroed(&file, 4096).unwrap();
        Region::map(&file, 1 << 20).unwrap_err();
        Region::map(&file, 0).unwrap_err();
        Region::map(&File::open("/dev/zero").unwrap(), 4096).unwrap_err();
    }
}
