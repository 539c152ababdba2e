//! Mappings of the newest segments, for reading what is likely to be in memory without a system call. Only segments that
//! this process has opened for writing are mapped, and only a few: one that the disk cannot read would kill the process
//! (SIGBUS), and is then, at the next start, an old segment that is read with `pread` like any other.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use vsmtp_sys::region::Region;

/// Segments that are mapped at most; the oldest goes first.
const MOST_MAPPED: usize = 8;

/// The mappings. Copies out, never lends.
#[derive(Debug, Default)]
pub(super) struct Maps {
    newest: Mutex<VecDeque<(u32, Region)>>,
}

impl Maps {
    pub(super) fn insert(&self, epoch: u32, region: Region) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.len() >= MOST_MAPPED {
            newest.pop_front();
        }
        newest.push_back((epoch, region));
    }

    /// The segment failed, or is to be used again.
    pub(super) fn remove(&self, epoch: u32) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).retain(|(mapped, _)| *mapped != epoch);
    }

    /// Copies as much as there is from `offset`; `None` if the segment is not mapped.
    pub(super) fn read(&self, epoch: u32, buffer: &mut [u8], offset: u64) -> Option<usize> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, region) = newest.iter().rev().find(|(mapped, _)| *mapped == epoch)?;
        let offset = usize::try_from(offset).ok()?;
        let len = region.len().saturating_sub(offset).min(buffer.len());
        region.read_at(offset, buffer.get_mut(..len)?).ok()?;
        Some(len)
    }
}
