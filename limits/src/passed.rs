//! Clients that passed the tests, so that they need not take them again for a while. Bounded; who would be forgotten first
//! makes room. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;

/// Most clients that are remembered.
pub const MAX_PASSED: usize = 65_536;
/// Clients among which the one that ends first makes room.
const SAMPLE: usize = 16;

/// Until when the results of a client count, in monotonic milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Results {
    /// Kept quiet before the greeting, and is in no list.
    quiet_ms: u64,
    /// Kept to the protocol.
    tested_ms: u64,
}

/// All that passed.
#[derive(Debug, Default)]
pub struct Passed {
    clients: BTreeMap<IpAddr, Results>,
    hand: Option<IpAddr>,
}

impl Passed {
    /// A client kept quiet and is in no list; counts until then.
    pub fn quiet(&mut self, client: IpAddr, until_ms: u64) {
        self.results(client).quiet_ms = until_ms;
    }

    /// A client kept to the protocol; counts until then.
    pub fn tested(&mut self, client: IpAddr, until_ms: u64) {
        self.results(client).tested_ms = until_ms;
    }

    /// True if the client need not wait for its greeting.
    pub fn is_quiet(&self, client: IpAddr, now_ms: u64) -> bool {
        self.clients.get(&client.to_canonical()).is_some_and(|results| results.quiet_ms > now_ms)
    }

    /// True if the client need not be watched.
    pub fn is_tested(&self, client: IpAddr, now_ms: u64) -> bool {
        self.clients.get(&client.to_canonical()).is_some_and(|results| results.tested_ms > now_ms)
    }

    /// Forgets a client. False if it was not known.
    pub fn forget(&mut self, client: IpAddr) -> bool {
        self.clients.remove(&client.to_canonical()).is_some()
    }

    /// Forgets those whose time is over.
    pub fn sweep(&mut self, now_ms: u64) {
        self.clients.retain(|_, results| results.last_ms() > now_ms);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    fn results(&mut self, client: IpAddr) -> &mut Results {
        let client = client.to_canonical();
        if self.clients.len() >= MAX_PASSED && !self.clients.contains_key(&client) {
            self.make_room();
        }
        self.clients.entry(client).or_default()
    }

    fn make_room(&mut self) {
        let from = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.clients.range((from, Bound::Unbounded)).chain(&self.clients);
        let sample: Vec<_> = behind.take(SAMPLE).map(|(key, results)| (results.last_ms(), *key)).collect();
        self.hand = sample.last().map(|(_, key)| *key);
        if let Some((_, key)) = sample.into_iter().min() {
            self.clients.remove(&key);
        }
    }
}

impl Results {
    fn last_ms(&self) -> u64 {
        self.quiet_ms.max(self.tested_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ip(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn results_count_for_their_time() {
        let mut passed = Passed::default();
        passed.quiet(ip(1), 100);
        passed.tested(ip(1), 200);
        assert!(passed.is_quiet(ip(1), 99) && !passed.is_quiet(ip(1), 100));
        assert!(passed.is_tested(ip(1), 199) && !passed.is_tested(ip(2), 0));
        passed.sweep(100);
        assert_eq!(passed.len(), 1);
        passed.sweep(200);
        assert_eq!(passed.len(), 0);
        assert!(!passed.forget(ip(1)));
    }

    #[test]
    fn the_number_is_bounded_and_long_lasting_ones_stay() {
        let mut passed = Passed::default();
        (0..100).for_each(|n| passed.tested(ip(n * 0x0100_0193), 1_000_000));
        (0..3 * MAX_PASSED as u32).for_each(|n| passed.quiet(ip(n.wrapping_mul(0x9E37_79B9)), 1_000));
        assert_eq!(passed.len(), MAX_PASSED);
        assert!((0..100).all(|n| passed.is_tested(ip(n * 0x0100_0193), 0)));
    }
}
