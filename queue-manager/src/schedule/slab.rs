//! Compact storage for many small records that refer to each other by 32-bit slots. It never shrinks, and it never
//! checks what a slot means: the schedule's own links are the only source of slots.

use std::ops::{Index, IndexMut};

/// The slot that no record has: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// Records of one kind.
#[derive(Debug)]
pub(super) struct Slab<T> {
    records: Vec<T>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { records: Vec::new(), free: Vec::new() }
    }
}

impl<T: Default> Slab<T> {
    /// Stores a record. `None` if all slots are in use.
    pub fn insert(&mut self, record: T) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            self[slot] = record;
            return Some(slot);
        }
        let slot = u32::try_from(self.records.len()).ok().filter(|slot| *slot != NONE)?;
        self.records.push(record);
        Some(slot)
    }

    /// Empties a slot. Its default value must be recognisable as empty to whoever scans.
    pub fn remove(&mut self, slot: u32) -> T {
        self.free.push(slot);
        std::mem::take(&mut self[slot])
    }

    /// The numbers of all slots, those that are empty too.
    pub fn slots(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.records.len()).unwrap_or(NONE)
    }

    /// The record in a slot that may not exist.
    pub fn get(&self, slot: u32) -> Option<&T> {
        self.records.get(slot as usize)
    }

    /// Slots in use.
    pub fn len(&self) -> usize {
        self.records.len() - self.free.len()
    }

    /// All slots, those that are empty too.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.records.iter())
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, slot: u32) -> &T {
        &self.records[slot as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.records[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert(1).unwrap(), slab.insert(2).unwrap());
        assert_eq!((slab[a], slab[b], slab.len()), (1, 2, 2));
        assert_eq!(slab.remove(a), 1);
        assert_eq!(slab.insert(3), Some(a));
        assert_eq!((slab.len(), slab.get(99)), (2, None));
    }
}
