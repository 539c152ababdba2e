//! What was found, for as long as it holds and while there is room. Two halves: what is used moves to the young half; when
//! that is full the old half is dropped. So memory is bounded whatever strangers send, and what is used stays.

use std::collections::HashMap;
use std::sync::Arc;

use crate::finding::{Finding, Key};

/// Octets allowed for each entry on average; larger ones are kept if others are smaller.
const OCTETS_PER_ENTRY: usize = 1024;

/// The cache.
pub struct Cache {
    /// Entries in each half.
    capacity: usize,
    young: Half,
    old: Half,
}

#[derive(Default)]
struct Half {
    entries: HashMap<Key, Entry>,
    octets: usize,
}

struct Entry {
    finding: Arc<Finding>,
    /// When it no longer holds, in monotonic milliseconds.
    end_ms: u64,
}

impl Cache {
    /// For at most so many entries; none at all if 0.
    pub fn new(entries: usize) -> Self {
        Cache { capacity: entries.div_ceil(2), young: Half::default(), old: Half::default() }
    }

    /// What was found, if it still holds.
    pub fn find(&mut self, key: &Key, now_ms: u64) -> Option<Arc<Finding>> {
        if let Some(entry) = self.young.entries.get(key) {
            return entry.holds(now_ms).then(|| Arc::clone(&entry.finding));
        }
        let entry = self.old.entries.remove(key)?;
        let finding = entry.holds(now_ms).then(|| Arc::clone(&entry.finding))?;
        self.put(key.clone(), entry);
        Some(finding)
    }

    /// Remembers a finding for as long as it says.
    pub fn insert(&mut self, key: Key, finding: Arc<Finding>, now_ms: u64) {
        let keep_ms = u64::try_from(finding.keep.as_millis()).unwrap_or(u64::MAX);
        self.old.entries.remove(&key);
        if keep_ms > 0 && self.capacity > 0 {
            self.put(key, Entry { finding, end_ms: now_ms.saturating_add(keep_ms) });
        }
    }

    /// Entries, including some that no longer hold.
    pub fn len(&self) -> usize {
        self.young.entries.len() + self.old.entries.len()
    }

    fn put(&mut self, key: Key, entry: Entry) {
        let octets = entry.octets(&key);
        let room = self.capacity * OCTETS_PER_ENTRY;
        if octets > room {
            return;
        }
        if self.young.entries.len() >= self.capacity || self.young.octets + octets > room {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.octets += octets;
        if let Some(before) = self.young.entries.insert(key.clone(), entry) {
            self.young.octets -= before.octets(&key);
        }
    }
}

impl Entry {
    fn holds(&self, now_ms: u64) -> bool {
        now_ms < self.end_ms
    }

    fn octets(&self, key: &Key) -> usize {
        self.finding.octets() + key.name.len() + size_of::<(Key, Entry)>()
    }
}
