//! The segments that exist: those of the log, open for reading by whoever asks, and the free ones that wait to be
//! written. Shared by the main loop, the committer and the janitor; every lock is held for moments only.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use super::disk::{Area, Disk, DiskFile};
use super::header::Seed;

/// Most segments whose files are kept open for reading.
const MAX_OPEN: usize = 128;

/// A segment of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub number: u64,
    pub salt: u64,
    pub seed: Seed,
    /// Length of the file.
    pub size: u64,
}

/// The segments of the log, by epoch.
#[derive(Debug)]
pub(super) struct Catalogue {
    disk: Arc<dyn Disk>,
    known: RwLock<BTreeMap<u32, Known>>,
    open: Mutex<VecDeque<(u32, Arc<dyn DiskFile>)>>,
}

impl Catalogue {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Catalogue { disk, known: RwLock::default(), open: Mutex::default() }
    }

    pub(super) fn insert(&self, epoch: u32, known: Known) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(epoch, known);
    }

    pub(super) fn remove(&self, epoch: u32) -> Option<Known> {
        lock(&self.open).retain(|(open, _)| *open != epoch);
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&epoch)
    }

    pub(super) fn lookup(&self, epoch: u32) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&epoch).copied()
    }

    /// All segments, in the order of the log.
    pub(super) fn all(&self) -> Vec<(u32, Known)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(epoch, known)| (*epoch, *known)).collect()
    }

    /// The file of a segment, opened if need be.
    pub(super) fn file(&self, epoch: u32) -> io::Result<(Known, Arc<dyn DiskFile>)> {
        let known = self.lookup(epoch).ok_or(io::ErrorKind::NotFound)?;
        let mut open = lock(&self.open);
        if let Some((_, file)) = open.iter().rev().find(|(found, _)| *found == epoch) {
            return Ok((known, file.clone()));
        }
        let file = self.disk.open(Area::Segments, &segment_name(known.number), false)?;
        if open.len() >= MAX_OPEN {
            open.pop_front();
        }
        open.push_back((epoch, file.clone()));
        Ok((known, file))
    }
}

/// The file name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:010}.seg")
}

/// The number in a segment's file name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 10)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The file name of a sidecar.
pub(super) fn sidecar_name(epoch: u32) -> String {
    format!("{epoch:010}.idx")
}

/// A segment that holds nothing alive.
#[derive(Debug, Clone)]
pub(super) struct Free {
    pub number: u64,
    pub file: Arc<dyn DiskFile>,
}

/// The free segments. One of them is the reserve: only records that are no new message may take it.
#[derive(Debug)]
pub(super) struct Pool {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    low_water: u64,
    state: Mutex<PoolState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PoolState {
    free: Vec<Free>,
    creating: bool,
    next_number: u64,
}

/// Free segments that new messages must leave.
pub(super) const RESERVE: usize = 1;

/// Free segments that are kept while there is load: making one costs as much as writing it.
pub(super) const MOST_FREE: usize = 4;

/// Segments that are made in vain because somebody else takes them, before a taker gives up.
const MAX_TRIES: usize = 16;

/// Why there is no free segment.
#[derive(Debug)]
pub(super) enum Shortage {
    /// The disk is full, or would be below its low-water mark.
    Full,
    Failed(io::Error),
}

impl Pool {
    pub(super) fn new(disk: Arc<dyn Disk>, segment_bytes: u64, low_water: u64, next_number: u64) -> Self {
        let state = Mutex::new(PoolState { next_number, ..PoolState::default() });
        Pool { disk, segment_bytes, low_water, state, changed: Condvar::new() }
    }

    /// Gives a segment back.
    pub(super) fn put(&self, free: Free) {
        lock(&self.state).free.push(free);
        self.changed.notify_all();
    }

    /// Free segments at the moment.
    pub(super) fn len(&self) -> usize {
        lock(&self.state).free.len()
    }

    /// Takes a segment, leaving `leave` of them; makes one if there are too few.
    pub(super) fn take(&self, leave: usize) -> Result<Free, Shortage> {
        for _ in 0..MAX_TRIES {
            let mut state = lock(&self.state);
            while state.free.len() <= leave && state.creating {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.free.len() > leave {
                // The one that has waited longest.
                return Ok(state.free.remove(0));
            }
            drop(state);
            self.create(leave > 0)?;
        }
        // There is room, and somebody else has had it each time.
        Err(Shortage::Failed(io::ErrorKind::ResourceBusy.into()))
    }

    /// Takes a segment only if more than `leave` are there; makes none.
    pub(super) fn take_spare(&self, leave: usize) -> Option<Free> {
        let mut state = lock(&self.state);
        if state.free.len() > leave { state.free.pop() } else { None }
    }

    /// Makes segments until there are `wanted`.
    pub(super) fn fill(&self, wanted: usize) -> Result<(), Shortage> {
        while self.len() < wanted {
            self.create(true)?;
        }
        Ok(())
    }

    /// Makes one segment; `careful` minds the low-water mark.
    fn create(&self, careful: bool) -> Result<(), Shortage> {
        let mut state = lock(&self.state);
        if state.creating {
            while state.creating {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            return Ok(());
        }
        let number = state.next_number;
        state.next_number += 1;
        state.creating = true;
        drop(state);
        let made = self.make(number, careful);
        let mut state = lock(&self.state);
        state.creating = false;
        let result = match made {
            Ok(file) => {
                state.free.push(Free { number, file });
                Ok(())
            }
            Err(shortage) => Err(shortage),
        };
        drop(state);
        self.changed.notify_all();
        result
    }

    /// True if the disk has room for one more segment; `careful` minds the low-water mark.
    pub(super) fn has_room(&self, careful: bool) -> io::Result<bool> {
        let needed = self.segment_bytes + if careful { self.low_water } else { 0 };
        Ok(self.disk.free_bytes()? >= needed)
    }

    fn make(&self, number: u64, careful: bool) -> Result<Arc<dyn DiskFile>, Shortage> {
        if !self.has_room(careful).map_err(Shortage::Failed)? {
            return Err(Shortage::Full);
        }
        let name = segment_name(number);
        let made = self.disk.create(Area::Segments, &name, self.segment_bytes).and_then(|file| {
            self.disk.sync_area(Area::Segments)?;
            Ok(file)
        });
        made.map_err(|error| {
            let _ = self.disk.remove(Area::Segments, &name);
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                Shortage::Full
            } else {
                Shortage::Failed(error)
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbers_of_ten_digits() {
        assert_eq!(segment_number(&segment_name(42)), Some(42));
        for bad in ["", "42.seg", "000000004x.seg", "0000000042.idx", "0000000042.seg.bak", "+000000042.seg"]
        {
            assert_eq!(segment_number(bad), None, "{bad}");
        }
    }
}
