//! The clients of which anything is remembered. Their number is bounded: a flood of addresses pushes out the clients that
//! weigh least, which are its own, and never takes more memory. Clients lie in an order that nobody can foresee, so that
//! neighbours in the network are none here and a few of them show how all are.

use std::collections::BTreeMap;
use std::collections::btree_map::RangeMut;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::ops::Bound;

use vsmtp_ipc::edge::receiver_limits::Kind;

use crate::window::Window;

/// Most clients that are remembered.
pub const MAX_CLIENTS: usize = 65_536;
/// Clients among which the lightest makes room.
const SAMPLE: usize = 16;

/// What is known of one client.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// Sessions that it has open.
    pub open: u32,
    /// How often it was refused.
    pub refused: u64,
    /// The part of a window in which the log last heard of its refusals, by kind; the last is for open sessions.
    pub told: [u32; Kind::ALL.len() + 1],
    windows: [Window; Kind::ALL.len()],
}

impl Client {
    /// The window of one kind.
    pub fn window(&mut self, kind: Kind) -> &mut Window {
        let [connections, messages, recipients, errors, handshakes, auth_failures] = &mut self.windows;
        match kind {
            Kind::Connections => connections,
            Kind::Messages => messages,
            Kind::Recipients => recipients,
            Kind::Errors => errors,
            Kind::Handshakes => handshakes,
            Kind::AuthFailures => auth_failures,
        }
    }

    /// Counts of all kinds, in the order of [`Kind::ALL`].
    pub fn counts(&mut self, part: u32) -> [u32; Kind::ALL.len()] {
        self.windows.each_mut().map(|window| window.count(part))
    }

    /// Forgets all but the sessions that are open.
    pub fn forget(&mut self) {
        *self = Client { open: self.open, ..Client::default() };
    }

    /// What it takes to be worth remembering: open sessions first.
    fn weight(&mut self, part: u32) -> (u32, u64) {
        let open = self.open;
        (open, self.counts(part).into_iter().map(u64::from).sum())
    }
}

/// Where a client lies: by a hash, then by its address.
type Place = (u64, IpAddr);

/// All clients.
#[derive(Debug, Default)]
pub struct Table {
    clients: BTreeMap<Place, Client>,
    order: RandomState,
    /// Where the search for the lightest goes on.
    hand: Option<Place>,
    /// Clients that made room while they were still of interest.
    pushed_out: u64,
}

impl Table {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// How many had to make room.
    pub fn pushed_out(&self) -> u64 {
        self.pushed_out
    }

    /// The client, if it is known.
    pub fn find(&mut self, key: IpAddr) -> Option<&mut Client> {
        self.clients.get_mut(&self.place(key))
    }

    /// The client, which is known from now on.
    pub fn client(&mut self, key: IpAddr, part: u32) -> &mut Client {
        let place = self.place(key);
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(&place) {
            self.make_room(part);
        }
        self.clients.entry(place).or_default()
    }

    /// Forgets the clients of which nothing is left to remember.
    pub fn sweep(&mut self, part: u32) {
        self.clients.retain(|_, client| client.weight(part) != (0, 0));
    }

    /// The clients behind that one; from the first if there is none. Whoever is known all the time is met once.
    pub fn behind(&mut self, key: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, &mut Client)> {
        let place = key.map(|key| self.place(key));
        self.from(place).map(|((_, key), client)| (*key, client))
    }

    fn place(&self, key: IpAddr) -> Place {
        (self.order.hash_one(key), key)
    }

    fn from(&mut self, place: Option<Place>) -> RangeMut<'_, Place, Client> {
        self.clients.range_mut((place.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    fn make_room(&mut self, part: u32) {
        let weigh = |(place, client): (&Place, &mut Client)| (client.weight(part), *place);
        let mut sample: Vec<_> = self.from(self.hand).take(SAMPLE).map(weigh).collect();
        if sample.len() < SAMPLE {
            // Round the end.
            sample.extend(self.from(None).take(SAMPLE - sample.len()).map(weigh));
        }
        self.hand = sample.last().map(|(_, place)| *place);
        if let Some((weight, place)) = sample.into_iter().min() {
            self.clients.remove(&place);
            self.pushed_out += u64::from(weight != (0, 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn address(number: u64) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(number) << 64))
    }

    #[test]
    fn a_flood_of_addresses_pushes_out_its_own() {
        let mut table = Table::default();
        // Heavy ones and open ones, side by side.
        let kept: Vec<IpAddr> = (0..2_000).map(|n| address(n * 2)).collect();
        for (at, key) in kept.iter().enumerate() {
            let client = table.client(*key, 1);
            if at % 2 == 0 { client.open = 1 } else { client.window(Kind::Errors).add(1, 10) }
        }
        for number in 0..5 * MAX_CLIENTS as u64 / 4 {
            table.client(address(number << 32 | 1), 1).window(Kind::Connections).add(1, 1);
        }
        assert_eq!(table.len(), MAX_CLIENTS);
        assert!(table.pushed_out() > MAX_CLIENTS as u64 / 4);
        assert!(kept.iter().all(|key| table.find(*key).is_some()), "the flood was lighter");
    }

    #[test]
    fn clients_are_forgotten_when_nothing_is_left_of_them() {
        let mut table = Table::default();
        table.client(address(1), 1).window(Kind::Messages).add(1, 1);
        table.client(address(2), 1).open = 1;
        table.sweep(7);
        assert_eq!(table.len(), 2);
        table.sweep(8);
        assert_eq!(table.len(), 1);
        assert!(table.find(address(2)).is_some());
    }

    #[test]
    fn pages_miss_nobody() {
        let mut table = Table::default();
        (0..10).for_each(|n| drop(table.client(address(n), 1).clone()));
        let mut seen = Vec::new();
        let mut last = None;
        loop {
            let page: Vec<IpAddr> = table.behind(last).take(3).map(|(key, _)| key).collect();
            last = page.last().copied().or(last);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        seen.sort();
        assert_eq!(seen, (0..10).map(address).collect::<Vec<_>>());
    }
}
