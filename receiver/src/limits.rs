//! What this process bounds over all its sessions: octets of messages that are held in memory. Pure counting; what happens
//! at the bound is decided where it is met.

use std::cell::Cell;
use std::rc::Rc;

/// Octets of messages in memory from which on no more is read than goes on to the filter.
pub const MAX_BODIES: u64 = 256 * 1024 * 1024;

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
