//! A bounded table of texts and what is known of each: where there is no room, what was used longest ago makes it. Bounded
//! in number and in octets of its keys, so that nobody who chooses keys can take more memory. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Bounds of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most entries.
    pub entries: usize,
    /// Most octets of all keys together.
    pub octets: usize,
}

/// The table.
#[derive(Debug)]
pub struct Recent<V> {
    entries: HashMap<Arc<str>, Entry<V>>,
    /// Keys by the number of their last use.
    order: BTreeMap<u64, Arc<str>>,
    uses: u64,
    octets: usize,
    bounds: Bounds,
    pushed_out: u64,
}

#[derive(Debug)]
struct Entry<V> {
    used: u64,
    value: V,
}

impl<V> Recent<V> {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Self {
        Recent { entries: HashMap::new(), order: BTreeMap::new(), uses: 0, octets: 0, bounds, pushed_out: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many had to make room.
    pub fn pushed_out(&self) -> u64 {
        self.pushed_out
    }

    /// What is known of a key; that is a use of it.
    pub fn find(&mut self, key: &str) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        if let Some(key) = self.order.remove(&entry.used) {
            self.uses += 1;
            entry.used = self.uses;
            self.order.insert(self.uses, key);
        }
        Some(&mut entry.value)
    }

    /// Notes a key, instead of what was known of it. One that is larger than all room is not noted.
    pub fn put(&mut self, key: &str, value: V) {
        self.remove(key);
        if key.len() > self.bounds.octets {
            return;
        }
        while self.len() >= self.bounds.entries || self.octets + key.len() > self.bounds.octets {
            let Some(oldest) = self.order.first_key_value().map(|(_, key)| Arc::clone(key)) else { return };
            self.remove(&oldest);
            self.pushed_out += 1;
        }
        let key: Arc<str> = key.into();
        self.uses += 1;
        self.octets += key.len();
        self.order.insert(self.uses, Arc::clone(&key));
        self.entries.insert(key, Entry { used: self.uses, value });
    }

    /// Forgets a key. What was known of it.
    pub fn remove(&mut self, key: &str) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.used);
        self.octets = self.octets.saturating_sub(key.len());
        Some(entry.value)
    }

    /// All of them, what was used longest ago first.
    pub fn by_use(&self) -> impl Iterator<Item = (&str, &V)> {
        self.order.values().filter_map(|key| Some((&**key, &self.entries.get(key)?.value)))
    }

    /// Forgets all of which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut V) -> bool) {
        let (order, octets) = (&mut self.order, &mut self.octets);
        self.entries.retain(|key, entry| {
            let stays = keep(&mut entry.value);
            if !stays {
                order.remove(&entry.used);
                *octets = octets.saturating_sub(key.len());
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: usize, octets: usize) -> Recent<u32> {
        Recent::new(Bounds { entries, octets })
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let mut table = table(3, 100);
        for (key, value) in [("a", 1), ("b", 2), ("c", 3)] {
            table.put(key, value);
        }
        assert_eq!(table.find("a"), Some(&mut 1));
        table.put("d", 4);
        assert!(table.find("b").is_none());
        assert_eq!((table.len(), table.pushed_out()), (3, 1));
        table.put("c", 5);
        table.put("e", 6);
        assert_eq!(table.find("a"), None, "what is put again is used");
        for (key, value) in [("c", 5), ("d", 4), ("e", 6)] {
            assert_eq!(table.find(key), Some(&mut value.clone()), "{key}");
        }
    }

    #[test]
    fn keys_take_no_more_octets_than_there_is_room_for() {
        let mut table = table(100, 10);
        table.put("aaaa", 1);
        table.put("bbbb", 2);
        table.put("cccc", 3);
        assert_eq!((table.len(), table.pushed_out()), (2, 1));
        table.put("ddddeeeeff", 4);
        assert_eq!((table.len(), table.pushed_out()), (1, 3));
        table.put("ddddeeeeffg", 5);
        assert!(table.len() == 1 && table.find("ddddeeeeffg").is_none());
        assert_eq!(table.remove("ddddeeeeff"), Some(4));
        table.put("0123456789", 6);
        assert_eq!(table.pushed_out(), 3, "the room of what was removed is free");
    }

    #[test]
    fn what_is_not_kept_leaves_nothing_behind() {
        let mut table = table(4, 8);
        (0..4u32).for_each(|n| table.put(&format!("k{n}"), n));
        table.retain(|value| *value % 2 == 0);
        assert_eq!((table.len(), table.order.len(), table.octets), (2, 2, 4));
        (4..6u32).for_each(|n| table.put(&format!("k{n}"), n));
        assert_eq!(table.pushed_out(), 0);
    }
}
