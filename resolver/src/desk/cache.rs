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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vsmtp_ipc::edge::client_resolver::Records;

    use super::*;
    use crate::finding::Kind;
    use crate::name;

    fn key(n: usize) -> Key {
        Key { name: name::parse(&format!("n{n}.example")).unwrap(), kind: Kind::Txt }
    }

    fn finding(octets: usize, keep_s: u64) -> Arc<Finding> {
        let result = Ok(Records::Text(vec![vec![0; octets]]));
        Arc::new(Finding { result, secure: false, keep: Duration::from_secs(keep_s) })
    }

    #[test]
    fn what_no_longer_holds_is_not_found() {
        let mut cache = Cache::new(10);
        cache.insert(key(1), finding(1, 5), 1000);
        assert!(cache.find(&key(1), 5999).is_some());
        assert!(cache.find(&key(1), 6000).is_none());
        cache.insert(key(1), finding(2, 5), 7000);
        assert_eq!(cache.find(&key(1), 7001), Some(finding(2, 5)));
        cache.insert(key(2), finding(1, 0), 1000);
        assert!(cache.find(&key(2), 1000).is_none());
    }

    #[test]
    fn what_is_used_outlives_what_is_not() {
        let mut cache = Cache::new(20);
        cache.insert(key(0), finding(1, 3600), 0);
        for n in 1..1000 {
            cache.insert(key(n), finding(1, 3600), 0);
            assert!(cache.find(&key(0), 0).is_some(), "{n}");
            assert!(cache.len() <= 20);
        }
        assert!(cache.find(&key(1), 0).is_none());
        assert!(cache.find(&key(999), 0).is_some());
    }

    #[test]
    fn many_octets_count_like_many_entries() {
        let mut cache = Cache::new(200);
        for n in 0..1000 {
            cache.insert(key(n), finding(60_000, 3600), 0);
            let octets =
                |half: &Half| half.entries.iter().map(|(key, entry)| entry.octets(key)).sum::<usize>();
            assert_eq!(octets(&cache.young), cache.young.octets);
            assert!(octets(&cache.young) + octets(&cache.old) <= 200 * OCTETS_PER_ENTRY);
        }
        assert!(cache.find(&key(999), 0).is_some());
        // Replacing an entry again and again takes no room either.
        for _ in 0..1000 {
            cache.insert(key(999), finding(60_000, 3600), 0);
        }
        assert!(cache.young.entries.len() == 1 || cache.young.octets <= 100 * OCTETS_PER_ENTRY);
        let mut tiny = Cache::new(1);
        tiny.insert(key(1), finding(60_000, 3600), 0);
        assert_eq!(tiny.len(), 0);
    }
}
