//! Timers of one loop: a heap of (time, key). There is no cancel: whoever owns a key remembers its own deadline, and sets
//! the timer again when it fires early. So an idle session costs one entry, however often its deadline moves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Pending timers, in milliseconds of the monotonic clock.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Timers {
    /// Fires `key` at `at_ms` or soon after.
    pub fn set(&mut self, at_ms: u64, key: u64) {
        self.heap.push(Reverse((at_ms, key)));
    }

    /// The next key that is due.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<u64> {
        let Reverse((at_ms, key)) = *self.heap.peek()?;
        if at_ms > now_ms {
            return None;
        }
        self.heap.pop();
        Some(key)
    }

    /// When the first timer is due.
    pub fn next_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_ms, _))| *at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_not_early() {
        let mut timers = Timers::default();
        for (at, key) in [(30, 3), (10, 1), (20, 2)] {
            timers.set(at, key);
        }
        assert_eq!(timers.next_ms(), Some(10));
        assert_eq!(timers.pop_due(9), None);
        assert_eq!((timers.pop_due(25), timers.pop_due(25), timers.pop_due(25)), (Some(1), Some(2), None));
    }
}
