//! Places of rules that wait for others: a few, so that workers are left for rules that do not wait, and shared out among
//! client networks, so that no one of them can hold them all. Places are taken at once or not at all. Whoever waits for one
//! holds a worker, and so needs a place among those who wait first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A network has one of so many parts of all places for sure, as long as there are places; and what it takes beyond that
/// leaves as many to others.
const PARTS: usize = 4;
/// Leading bits of an IPv4 address that make one network.
const PREFIX_V4: u32 = 24;
/// Leading bits of an IPv6 address that make one network.
const PREFIX_V6: u32 = 64;

/// For whom a rule runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Party {
    /// No client with an address: this host, or nobody.
    #[default]
    Local,
    /// A network of IPv4 clients, by the bits that they share.
    V4(u32),
    /// A network of IPv6 clients, by the bits that they share.
    V6(u128),
}

impl Party {
    /// The party of a client.
    pub fn of(client: Option<IpAddr>) -> Self {
        match client.map(|ip| ip.to_canonical()) {
            None => Party::Local,
            Some(IpAddr::V4(ip)) => Party::V4(ip.to_bits() >> (u32::BITS - PREFIX_V4)),
            Some(IpAddr::V6(ip)) => Party::V6(ip.to_bits() >> (u128::BITS - PREFIX_V6)),
        }
    }
}

/// So many places.
#[derive(Debug)]
pub struct Places(Mutex<Taken>);

#[derive(Debug)]
struct Taken {
    max: usize,
    all: usize,
    /// Of whom has any; so there are no more of these than places taken.
    by_party: HashMap<Party, usize>,
}

/// A place of a rule that waits, as long as it does.
#[derive(Debug)]
pub struct Place<'a> {
    places: &'a Places,
    party: Party,
}

impl Default for Places {
    fn default() -> Self {
        Places(Mutex::new(Taken { max: usize::MAX, all: 0, by_party: HashMap::new() }))
    }
}

impl Places {
    /// Rules that wait take at most three quarters of so many workers, but one, from now on: for whoever depends on
    /// strangers, who could keep all workers from all other work, or does not answer at all. How many that is.
    pub fn leave_room(&self, workers: usize) -> usize {
        let max = (workers - workers.div_ceil(4)).max(1);
        self.lock().max = max;
        max
    }

    /// Rules that wait may take all workers from now on.
    pub fn take_all(&self) {
        self.lock().max = usize::MAX;
    }

    /// A place; `None` if all are taken, or all that this party may have.
    pub fn take(&self, party: Party) -> Option<Place<'_>> {
        let mut taken = self.lock();
        let (max, all) = (taken.max, taken.all);
        let own = taken.by_party.get(&party).copied().unwrap_or_default();
        let part = max / PARTS;
        let may = all < max && (own < part.max(1) || all < max - part);
        may.then(|| {
            taken.all += 1;
            taken.by_party.insert(party, own + 1);
            Place { places: self, party }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.by_party.get_mut(&self.party) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_party.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(ip: &str) -> Party {
        Party::of(Some(ip.parse().unwrap()))
    }

    #[test]
    fn a_network_is_one_party_however_its_addresses_are_written() {
        assert_eq!(party("192.0.2.1"), party("::ffff:192.0.2.254"));
        assert_ne!(party("192.0.2.1"), party("192.0.3.1"));
        assert_eq!(party("2001:db8::1"), party("2001:db8::ffff:0:0:1"));
        assert_ne!(party("2001:db8::1"), party("2001:db8:0:1::1"));
        assert_eq!(Party::of(None), Party::Local);
    }

    #[test]
    fn one_network_leaves_places_to_all_others() {
        let places = Places::default();
        // 12 places, of which three are a part.
        places.leave_room(16);
        let mut held: Vec<_> = std::iter::from_fn(|| places.take(party("192.0.2.1"))).collect();
        assert_eq!(held.len(), 9);
        let others: Vec<_> = (0..4).filter_map(|n| places.take(party(&format!("198.51.{n}.1")))).collect();
        assert_eq!(others.len(), 3, "as many as there are places");
        drop(others);
        let few: Vec<_> = std::iter::from_fn(|| places.take(party("203.0.113.1"))).collect();
        assert_eq!(few.len(), 3);
        // What is given back goes to whoever has not had its part.
        held.truncate(6);
        assert!(places.take(party("192.0.2.9")).is_none() || held.len() < 3);
        assert!(places.take(Party::Local).is_some());
        drop((held, few));
        assert!(places.lock().by_party.is_empty() && places.lock().all == 0);
    }

    #[test]
    fn with_few_workers_there_is_one_place_for_anybody() {
        let places = Places::default();
        places.leave_room(1);
        let one = places.take(party("192.0.2.1"));
        assert!(one.is_some() && places.take(party("198.51.100.1")).is_none());
        drop(one);
        assert!(places.take(party("198.51.100.1")).is_some());
        places.take_all();
        let many: Vec<_> = (0..1000).map_while(|_| places.take(Party::Local)).collect();
        assert_eq!(many.len(), 1000);
    }
}
