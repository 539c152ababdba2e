//! Brakes on guessing: failures of one client and of one account are counted for a while; with too many, nothing more is
//! even tried. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

/// Most clients, and most accounts, whose failures are remembered; the oldest go first.
pub const MAX_COUNTED: usize = 100_000;
/// How many are thrown out at once when it is full.
const MAKE_ROOM: usize = MAX_COUNTED / 100;

/// The counters.
#[derive(Debug)]
pub struct Brakes {
    addresses: Counters<IpAddr>,
    accounts: Counters<String>,
}

#[derive(Debug)]
struct Counters<K> {
    limit: Option<u32>,
    window_ms: u64,
    counts: HashMap<K, Count>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since_ms: u64,
    failures: u32,
}

impl Brakes {
    /// So many failures are allowed in so many milliseconds; `None` for any number.
    pub fn new(per_address: Option<u32>, per_account: Option<u32>, window_ms: u64) -> Self {
        Brakes {
            addresses: Counters { limit: per_address, window_ms, counts: HashMap::new() },
            accounts: Counters { limit: per_account, window_ms, counts: HashMap::new() },
        }
    }

    /// True if this client has failed too often.
    pub fn stops_client(&self, now_ms: u64, client: Option<IpAddr>) -> bool {
        client.is_some_and(|client| self.addresses.stops(now_ms, &one_client(client)))
    }

    /// True if this account was tried in vain too often.
    pub fn stops_account(&self, now_ms: u64, user: &str) -> bool {
        self.accounts.stops(now_ms, &one_account(user))
    }

    /// Somebody was wrong.
    pub fn count(&mut self, now_ms: u64, client: Option<IpAddr>, user: Option<&str>) {
        if let Some(client) = client {
            self.addresses.count(now_ms, one_client(client));
        }
        if let Some(user) = user {
            self.accounts.count(now_ms, one_account(user));
        }
    }

    /// Failures after which a client, and an account, is not heard, and how long they count, in milliseconds.
    pub fn terms(&self) -> (Option<u32>, Option<u32>, u64) {
        (self.addresses.limit, self.accounts.limit, self.addresses.window_ms)
    }

    /// How many clients and accounts have failures that count.
    pub fn counted(&self, now_ms: u64) -> (usize, usize) {
        (self.addresses.fresh(now_ms).count(), self.accounts.fresh(now_ms).count())
    }

    /// The clients with most failures, most first, at most so many.
    pub fn clients(&self, now_ms: u64, most: usize) -> Vec<(IpAddr, u32)> {
        self.addresses.heaviest(now_ms, most)
    }

    /// The same of accounts.
    pub fn accounts(&self, now_ms: u64, most: usize) -> Vec<(String, u32)> {
        self.accounts.heaviest(now_ms, most)
    }

    /// Forgets the failures of a client. True if there were any that counted.
    pub fn forget_client(&mut self, now_ms: u64, client: IpAddr) -> bool {
        self.addresses.forget(now_ms, &one_client(client))
    }

    /// The same for an account.
    pub fn forget_account(&mut self, now_ms: u64, user: &str) -> bool {
        self.accounts.forget(now_ms, &one_account(user))
    }
}

/// Whoever has an IPv6 address has a /64 of them.
fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// Back-ends may not care for case; then variants of a name must not be a way around the brake.
fn one_account(user: &str) -> String {
    user.to_lowercase()
}

impl<K: Hash + Ord + Clone> Counters<K> {
    fn fresh(&self, now_ms: u64) -> impl Iterator<Item = (&K, u32)> {
        let counts = self.counts.iter().filter(move |(_, count)| now_ms < count.since_ms + self.window_ms);
        counts.map(|(key, count)| (key, count.failures))
    }

    fn heaviest(&self, now_ms: u64, most: usize) -> Vec<(K, u32)> {
        let mut all: Vec<(std::cmp::Reverse<u32>, &K)> =
            self.fresh(now_ms).map(|(key, failures)| (std::cmp::Reverse(failures), key)).collect();
        if all.len() > most {
            all.select_nth_unstable(most);
            all.truncate(most);
        }
        all.sort_unstable();
        all.into_iter().map(|(failures, key)| (key.clone(), failures.0)).collect()
    }

    fn forget(&mut self, now_ms: u64, key: &K) -> bool {
        let window_ms = self.window_ms;
        self.counts.remove(key).is_some_and(|count| now_ms < count.since_ms + window_ms)
    }

    fn stops(&self, now_ms: u64, key: &K) -> bool {
        let count = self.counts.get(key).filter(|count| now_ms < count.since_ms + self.window_ms);
        self.limit.zip(count).is_some_and(|(limit, count)| count.failures >= limit)
    }

    fn count(&mut self, now_ms: u64, key: K) {
        if self.limit.is_none() {
            return;
        }
        if self.counts.len() >= MAX_COUNTED && !self.counts.contains_key(&key) {
            self.make_room(now_ms);
        }
        let count = self.counts.entry(key).or_insert(Count { since_ms: now_ms, failures: 0 });
        if now_ms >= count.since_ms + self.window_ms {
            *count = Count { since_ms: now_ms, failures: 0 };
        }
        count.failures = count.failures.saturating_add(1);
    }

    fn make_room(&mut self, now_ms: u64) {
        let window_ms = self.window_ms;
        self.counts.retain(|_, count| now_ms < count.since_ms + window_ms);
        if self.counts.len() < MAX_COUNTED {
            return;
        }
        let mut ages: Vec<u64> = self.counts.values().map(|count| count.since_ms).collect();
        let (_, oldest, _) = ages.select_nth_unstable(MAKE_ROOM);
        let oldest = *oldest;
        self.counts.retain(|_, count| count.since_ms > oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    #[test]
    fn failures_count_for_a_while() {
        let mut brakes = Brakes::new(Some(2), Some(3), 1000);
        brakes.count(0, CLIENT, Some("Tim"));
        assert!(!brakes.stops_client(1, CLIENT));
        brakes.count(500, CLIENT, Some("tim"));
        assert!(brakes.stops_client(999, CLIENT) && !brakes.stops_account(999, "tim"));
        assert!(!brakes.stops_client(1000, CLIENT));
        brakes.count(900, None, Some("TIM"));
        assert!(brakes.stops_account(950, "tim"));
        brakes.count(1500, CLIENT, None);
        assert!(!brakes.stops_client(1600, CLIENT));
    }

    #[test]
    fn a_client_with_ipv6_is_its_network() {
        let mut brakes = Brakes::new(Some(1), None, 1000);
        let ip = |text: &str| Some(text.parse().unwrap());
        brakes.count(0, ip("2001:db8::1"), Some("tim"));
        assert!(
            brakes.stops_client(1, ip("2001:db8::ffff")) && !brakes.stops_client(1, ip("2001:db8:0:1::1"))
        );
        assert!(!brakes.stops_account(1, "tim"));
        brakes.count(0, ip("::ffff:192.0.2.1"), None);
        assert!(brakes.stops_client(1, CLIENT));
    }

    #[test]
    fn operators_see_who_fails_most_and_have_it_forgotten() {
        let mut brakes = Brakes::new(Some(2), Some(2), 1000);
        let client = |last| Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, last)));
        for (last, failures) in [(1, 3), (2, 1), (3, 5)] {
            (0..failures).for_each(|_| brakes.count(500, client(last), Some("Tim")));
        }
        brakes.count(0, client(4), Some("old"));
        assert_eq!(brakes.clients(1001, 2), [(client(3).unwrap(), 5), (client(1).unwrap(), 3)]);
        assert_eq!(brakes.accounts(1001, 2), [("tim".to_owned(), 9)]);
        assert_eq!(brakes.counted(1001), (3, 1), "what is over is not shown");
        assert!(brakes.stops_client(1001, client(3)) && brakes.stops_account(1001, "tim"));
        assert!(brakes.forget_client(1001, client(3).unwrap()) && brakes.forget_account(1001, "TIM"));
        assert!(!brakes.stops_client(1001, client(3)) && !brakes.stops_account(1001, "tim"));
        assert!(!brakes.forget_client(1001, client(3).unwrap()) && !brakes.forget_account(1001, "old"));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_are_remembered() {
        let mut brakes = Brakes::new(Some(1), None, 1 << 40);
        for n in 0..2 * MAX_COUNTED as u32 {
            brakes.count(u64::from(n), Some(IpAddr::V4(n.into())), None);
            assert!(brakes.addresses.counts.len() <= MAX_COUNTED);
        }
        let last = 2 * MAX_COUNTED as u32 - 1;
        assert!(brakes.stops_client(u64::from(last), Some(IpAddr::V4(last.into()))));
    }
}
