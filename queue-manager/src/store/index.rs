//! What is kept in memory of every message in the queue: where its records are, in forty octets, and a table that finds
//! them by id. No envelope, no body. Grows in steps, so that no growth doubles what is in use.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use vsmtp_mail::QueueId;

use super::record::Location;

/// A message's place in the index; stays the same while the message is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot(pub u32);

/// What is kept of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    id: [u8; QueueId::LEN],
    /// The record that the message begins with; nowhere until it is committed.
    pub base: Location,
    /// Its latest record.
    pub last: Location,
    /// Octets of the base record, in units of [`super::layout::ALIGN`].
    pub units: u32,
    /// Records that must be read to know its state, besides the base.
    pub chain: u16,
    /// Records on their way to the disk; the largest number stands for itself and more, see [`Index::set_out`].
    in_flight: u8,
    pub flags: u8,
}

/// The body is a file of its own.
pub(super) const LARGE: u8 = 1;
/// The message is on its way out.
pub(super) const LEAVING: u8 = 2;
/// More than [`super::replay::MANY_RECIPIENTS`] recipients.
pub(super) const MANY: u8 = 4;
/// The slot holds no message.
const VACANT: u8 = 0x80;

const _: () = assert!(size_of::<Known>() == 40);

impl Known {
    pub(super) fn new(id: QueueId) -> Self {
        Known {
            id: id.to_bytes(),
            base: Location::NOWHERE,
            last: Location::NOWHERE,
            units: 0,
            chain: 0,
            in_flight: 0,
            flags: 0,
        }
    }

    pub(super) fn id(&self) -> QueueId {
        QueueId::from_bytes(self.id)
    }

    /// True if a record of it is on its way to the disk.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight > 0
    }

    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Octets of the base record.
    pub(super) fn span(&self) -> u64 {
        u64::from(self.units) * super::layout::ALIGN
    }
}

/// Slots of one block.
const BLOCK: usize = 4096;
/// Smallest table.
const MIN_TABLE: usize = 1024;
/// An empty place of the table.
const EMPTY: u32 = u32::MAX;

/// All messages of the queue.
#[derive(Debug)]
pub(super) struct Index {
    blocks: Vec<Box<[Known]>>,
    /// Vacant slots, linked through `units`.
    vacant: u32,
    used: u32,
    len: usize,
    table: Vec<u32>,
    hasher: RandomState,
    /// Records on their way beyond what a slot can count, of the few messages that have so many.
    crowd: HashMap<Slot, u32>,
}

impl Default for Index {
    fn default() -> Self {
        Index {
            blocks: Vec::new(),
            vacant: EMPTY,
            used: 0,
            len: 0,
            table: vec![EMPTY; MIN_TABLE],
            hasher: RandomState::new(),
            crowd: HashMap::new(),
        }
    }
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Slots ever used: every [`Slot`] is below.
    #[cfg(test)]
    pub(super) fn slots(&self) -> u32 {
        self.used
    }

    pub(super) fn find(&self, id: QueueId) -> Option<Slot> {
        let mask = self.table.len() - 1;
        let mut at = self.home(&id.to_bytes());
        loop {
            let slot = *self.table.get(at)?;
            if slot == EMPTY {
                return None;
            }
            if self.at(Slot(slot)).is_some_and(|known| known.id() == id) {
                return Some(Slot(slot));
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a message that is not there yet.
    pub(super) fn insert(&mut self, known: Known) -> Slot {
        // At most three quarters full, so that the searches end.
        if (self.len + 1) * 4 > self.table.len() * 3 {
            self.grow();
        }
        let slot = self.claim();
        let id = known.id;
        if let Some(place) = self.at_mut(slot) {
            *place = known;
        }
        self.link(slot, &id);
        self.len += 1;
        slot
    }

    /// A record of the message is on its way to the disk.
    pub(super) fn set_out(&mut self, slot: Slot) {
        match self.at_mut(slot) {
            Some(known) if known.in_flight < u8::MAX => known.in_flight += 1,
            Some(_) => *self.crowd.entry(slot).or_default() += 1,
            None => {}
        }
    }

    /// It has arrived, or failed to.
    pub(super) fn arrive(&mut self, slot: Slot) {
        if let Some(beyond) = self.crowd.get_mut(&slot) {
            *beyond -= 1;
            if *beyond == 0 {
                self.crowd.remove(&slot);
            }
        } else if let Some(known) = self.at_mut(slot) {
            known.in_flight = known.in_flight.saturating_sub(1);
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(known) = self.at(slot).copied() else { return };
        self.crowd.remove(&slot);
        self.unlink(slot, &known.id);
        let vacant = self.vacant;
        if let Some(place) = self.at_raw(slot) {
            *place = Known { flags: VACANT, units: vacant, ..Known::new(known.id()) };
        }
        self.vacant = slot.0;
        self.len -= 1;
    }

    pub(super) fn at(&self, slot: Slot) -> Option<&Known> {
        let at = slot.0 as usize;
        self.blocks.get(at / BLOCK)?.get(at % BLOCK).filter(|known| !known.is(VACANT))
    }

    pub(super) fn at_mut(&mut self, slot: Slot) -> Option<&mut Known> {
        self.at_raw(slot).filter(|known| !known.is(VACANT))
    }

    /// All messages, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Known)> {
        (0..self.used).filter_map(|slot| Some((Slot(slot), self.at(Slot(slot))?)))
    }

    fn at_raw(&mut self, slot: Slot) -> Option<&mut Known> {
        let at = slot.0 as usize;
        self.blocks.get_mut(at / BLOCK)?.get_mut(at % BLOCK)
    }

    fn claim(&mut self) -> Slot {
        let slot = Slot(self.vacant);
        if self.vacant != EMPTY
            && let Some(place) = self.at_raw(slot)
        {
            let next = place.units;
            place.flags = 0;
            self.vacant = next;
            return slot;
        }
        if self.used as usize == self.blocks.len() * BLOCK {
            self.blocks.push(vec![Known::new(QueueId::from_bytes([0; 16])); BLOCK].into_boxed_slice());
        }
        self.used += 1;
        Slot(self.used - 1)
    }

    fn home(&self, id: &[u8; QueueId::LEN]) -> usize {
        self.hasher.hash_one(id) as usize & (self.table.len() - 1)
    }

    fn link(&mut self, slot: Slot, id: &[u8; QueueId::LEN]) {
        let mask = self.table.len() - 1;
        let mut at = self.home(id);
        while let Some(place) = self.table.get_mut(at) {
            if *place == EMPTY {
                *place = slot.0;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// Linear probing without tombstones: what stands behind the hole moves into it where that is allowed.
    fn unlink(&mut self, slot: Slot, id: &[u8; QueueId::LEN]) {
        let mask = self.table.len() - 1;
        let mut hole = self.home(id);
        while self.table.get(hole).is_some_and(|found| *found != slot.0 && *found != EMPTY) {
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(next) = self.table.get(at).copied().filter(|next| *next != EMPTY) else { break };
            let Some(home) = self.at(Slot(next)).map(|known| self.home(&known.id)) else { break };
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.table.swap(hole, at);
                hole = at;
            }
        }
        if let Some(place) = self.table.get_mut(hole) {
            *place = EMPTY;
        }
    }

    fn grow(&mut self) {
        let size = self.table.len() * 2;
        // The old table goes before the new one comes: slots know their ids.
        self.table = Vec::new();
        self.table = vec![EMPTY; size];
        for slot in 0..self.used {
            if let Some(id) = self.at(Slot(slot)).map(|known| known.id) {
                self.link(Slot(slot), &id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> QueueId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        QueueId::from_bytes(bytes)
    }

    proptest::proptest! {
        #[test]
        fn behaves_like_a_map(steps in proptest::collection::vec((proptest::bool::ANY, 0u32..300), 0..2000)) {
            let (mut index, mut model) = (Index::default(), HashMap::new());
            for (add, n) in steps {
                match (add, index.find(id(n))) {
                    (true, None) => {
                        let slot = index.insert(Known { units: n, ..Known::new(id(n)) });
                        proptest::prop_assert!(model.insert(n, slot).is_none());
                    }
                    (false, Some(slot)) => {
                        index.remove(slot);
                        proptest::prop_assert_eq!(model.remove(&n), Some(slot));
                    }
                    (_, found) => proptest::prop_assert_eq!(found, model.get(&n).copied()),
                }
            }
            proptest::prop_assert_eq!(index.len(), model.len());
            proptest::prop_assert_eq!(index.iter().count(), model.len());
            for (n, slot) in &model {
                proptest::prop_assert_eq!(index.find(id(*n)), Some(*slot));
                proptest::prop_assert_eq!(index.at(*slot).unwrap().units, *n);
            }
        }
    }

    #[test]
    fn it_is_busy_until_the_last_of_a_thousand_records_has_arrived() {
        let mut index = Index::default();
        let slot = index.insert(Known::new(id(1)));
        (0..1000).for_each(|_| index.set_out(slot));
        for _ in 0..1000 {
            assert!(index.at(slot).unwrap().is_busy());
            index.arrive(slot);
        }
        assert!(!index.at(slot).unwrap().is_busy());
        (0..1000).for_each(|_| index.set_out(slot));
        index.remove(slot);
        let next = index.insert(Known::new(id(2)));
        assert_eq!((next, index.at(next).unwrap().is_busy()), (slot, false));
    }

    #[test]
    fn grows_and_forgets() {
        let mut index = Index::default();
        for n in 0..20_000 {
            index.insert(Known::new(id(n)));
        }
        for n in 0..20_000 {
            let slot = index.find(id(n)).unwrap();
            index.remove(slot);
            assert!(index.find(id(n)).is_none() && index.at(slot).is_none());
        }
        assert_eq!(index.len(), 0);
        index.insert(Known::new(id(1)));
        assert_eq!(index.slots(), 20_000);
    }
}
