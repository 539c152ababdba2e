//! From a key to a slot, in about eight octets per entry: an open table that holds slots only, while the keys stay in
//! their records. Hashes are seeded, so that whoever mints ids or names domains cannot make the table slow.

use super::slab::NONE;

/// Grown when more than 3/4 is in use.
const FIRST_CAPACITY: usize = 64;

/// Slots by the hash of what is in them.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<u32>,
    used: usize,
}

impl Table {
    /// The slot of that hash for which `is_it` says yes.
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.place(hash, is_it).map(|at| self.slots[at])
    }

    /// Adds a slot that is not in the table; `hash_of` tells the hashes of those that are.
    pub fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        if self.used * 4 >= self.slots.len() * 3 {
            self.grow(hash_of);
        }
        self.put(hash, slot);
        self.used += 1;
    }

    /// Takes a slot out; those behind it move up, so that no mark has to stay.
    pub fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let Some(mut hole) = self.place(hash, |other| other == slot) else { return };
        let mask = self.slots.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let next = self.slots[at];
            if next == NONE {
                break;
            }
            let home = hash_of(next) as usize & mask;
            // `next` may fill the hole unless its home lies between the hole and its place.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.slots[hole] = next;
                hole = at;
            }
        }
        self.slots[hole] = NONE;
        self.used -= 1;
    }

    fn place(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        while self.slots[at] != NONE {
            if is_it(self.slots[at]) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
        None
    }

    fn put(&mut self, hash: u64, slot: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != NONE {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn grow(&mut self, hash_of: impl Fn(u32) -> u64) {
        let capacity = (self.slots.len() * 2).max(FIRST_CAPACITY);
        for slot in std::mem::replace(&mut self.slots, vec![NONE; capacity]) {
            if slot != NONE {
                self.put(hash_of(slot), slot);
            }
        }
    }
}

/// Mixes a seed and octets into a hash: eight octets a step, multiply and fold.
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed ^ (bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = fold(state ^ u64::from_le_bytes(word), seed | 1);
    }
    fold(state, 0xd6e8_feb8_6659_fd93)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0xa076_1d64_78bd_642f) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    proptest::proptest! {
        #[test]
        fn holds_what_a_set_holds(steps in proptest::collection::vec((0u32..200, proptest::bool::ANY), 0..600)) {
            // A poor hash on purpose: long runs are where removal goes wrong.
            let poor = |slot: u32| u64::from(slot % 7) * 61;
            let (mut table, mut set) = (Table::default(), BTreeSet::new());
            for (slot, add) in steps {
                if add {
                    if set.insert(slot) {
                        table.insert(poor(slot), slot, poor);
                    }
                } else {
                    set.remove(&slot);
                    table.remove(poor(slot), slot, poor);
                }
            }
            for slot in 0..200 {
                let found = table.find(poor(slot), |other| other == slot);
                proptest::prop_assert_eq!(found.is_some(), set.contains(&slot));
            }
        }
    }

    #[test]
    fn hashes_depend_on_seed_length_and_octets() {
        let all =
            [hash(1, b""), hash(2, b""), hash(1, b"\0"), hash(1, b"\0\0"), hash(1, b"a"), hash(1, b"b")];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
