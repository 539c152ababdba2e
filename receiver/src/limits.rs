//! What this process bounds over all its sessions: sessions of one client, and octets of messages that are held in
//! memory. Pure counting; what happens at a bound is decided where it is met.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

/// Octets of messages in memory from which on no more is read than goes on to the filter.
pub const MAX_BODIES: u64 = 256 * 1024 * 1024;
/// The part of an IPv6 address that counts as one client: a /64 is what one host is given.
const IPV6_CLIENT: u128 = !(u64::MAX as u128);

/// Counts the sessions of each client.
#[derive(Debug, Default)]
pub struct Clients {
    sessions: HashMap<IpAddr, u32>,
}

impl Clients {
    /// Counts one more session of this client, unless it has `limit` already.
    #[must_use]
    pub fn enter(&mut self, client: IpAddr, limit: Option<u32>) -> bool {
        let count = self.sessions.entry(key(client)).or_default();
        if limit.is_some_and(|limit| *count >= limit) {
            return false;
        }
        *count += 1;
        true
    }

    /// One session of this client has ended.
    pub fn leave(&mut self, client: IpAddr) {
        if let Some(count) = self.sessions.get_mut(&key(client)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.sessions.remove(&key(client));
            }
        }
    }
}

fn key(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & IPV6_CLIENT)),
    }
}

/// Octets of messages held in memory, all sessions together.
#[derive(Debug, Clone)]
pub struct Budget {
    used: Rc<Cell<u64>>,
    limit: u64,
}

impl Budget {
    /// At most about `limit` octets.
    pub fn new(limit: u64) -> Self {
        Budget { used: Rc::default(), limit }
    }

    /// A share in it, of nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), octets: 0 }
    }

    /// True if more is held than should be.
    pub fn is_exceeded(&self) -> bool {
        self.used.get() > self.limit
    }

    /// Octets held now.
    pub fn used(&self) -> u64 {
        self.used.get()
    }
}

/// What one message holds. Gives it back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    octets: u64,
}

impl Share {
    /// Holds so many octets more.
    pub fn grow(&mut self, octets: u64) {
        self.set(self.octets + octets);
    }

    /// Holds so many octets less.
    pub fn shrink(&mut self, octets: u64) {
        self.set(self.octets.saturating_sub(octets));
    }

    /// True if all sessions together hold more than they should.
    pub fn is_exceeded(&self) -> bool {
        self.budget.is_exceeded()
    }

    fn set(&mut self, octets: u64) {
        let used = &self.budget.used;
        used.set(used.get().saturating_sub(self.octets).saturating_add(octets));
        self.octets = octets;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_so_many_sessions_and_no_more() {
        let mut clients = Clients::default();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        assert!(clients.enter(one, Some(2)) && clients.enter(one, Some(2)));
        assert!(!clients.enter(one, Some(2)));
        assert!(clients.enter(other, Some(2)) && clients.enter(one, None));
        clients.leave(one);
        clients.leave(one);
        assert!(clients.enter(one, Some(2)) && !clients.enter(one, Some(2)));
    }

    #[test]
    fn the_addresses_of_one_ipv6_host_are_one_client_and_ended_ones_cost_nothing() {
        let mut clients = Clients::default();
        assert!(clients.enter(address("2001:db8::1"), Some(1)));
        assert!(!clients.enter(address("2001:db8::2"), Some(1)));
        assert!(clients.enter(address("2001:db8:0:1::1"), Some(1)));
        clients.leave(address("2001:db8::9"));
        clients.leave(address("2001:db8:0:1::1"));
        clients.leave(address("2001:db8:0:1::1"));
        assert!(clients.sessions.is_empty());
    }

    #[test]
    fn shares_give_back_what_they_held() {
        let budget = Budget::new(10);
        let (mut a, mut b) = (budget.share(), budget.share());
        a.grow(6);
        b.grow(4);
        assert!(!budget.is_exceeded());
        b.grow(1);
        assert!(budget.is_exceeded() && a.is_exceeded());
        b.shrink(3);
        assert_eq!(budget.used(), 8);
        drop(a);
        assert_eq!(budget.used(), 2);
        b.shrink(100);
        assert_eq!(budget.used(), 0);
    }
}
