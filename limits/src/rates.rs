//! What rules count: how often something happened in a period that slides, for each name, period and key that a rule
//! gives. Every question says its own limit, so nothing is configured here. Pure: time comes in.

use vsmtp_ipc::edge::filter_limits::{Taken, Taking};

use crate::recent::{Bounds, Recent};
use crate::window::{PARTS, Window};

/// Most keys of all rates together.
pub const MAX_RATES: usize = 65_536;
/// Most octets of their names and keys together.
pub const MAX_RATE_OCTETS: usize = 8 << 20;

/// All rates.
#[derive(Debug)]
pub struct Rates {
    table: Recent<Rate>,
}

/// One key of one rate, in one period.
#[derive(Debug)]
struct Rate {
    window: Window,
    /// Length of a part of its window, in milliseconds.
    part_ms: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Rates { table: Recent::new(Bounds { entries: MAX_RATES, octets: MAX_RATE_OCTETS }) }
    }
}

impl Rates {
    /// Counts what is wanted, if it is within the limit. What is refused is not counted.
    pub fn take(&mut self, now_ms: u64, taking: &Taking) -> Taken {
        let part_ms = u64::from(taking.period_s) * 1_000 / PARTS;
        let part = part_of(now_ms, part_ms);
        // Neither names nor numbers hold a NUL: a rate, a period and a key are never taken for others. Counts of another
        // period say nothing about this one, and rules may limit by several.
        let key = format!("{}\0{}\0{}", taking.name, taking.period_s, taking.key);
        let counted = self.table.find(&key).map_or(0, |rate| rate.window.count(part));
        let left = taking.limit.saturating_sub(counted);
        if taking.count > left {
            return Taken { granted: false, left };
        }
        if taking.count > 0 {
            self.count(&key, part_ms, part, taking.count);
        }
        Taken { granted: true, left: left - taking.count }
    }

    /// Forgets the keys of which nothing is left to remember.
    pub fn sweep(&mut self, now_ms: u64) {
        self.table.retain(|rate| rate.window.count(part_of(now_ms, rate.part_ms)) > 0);
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// How many keys had to make room for others.
    pub fn pushed_out(&self) -> u64 {
        self.table.pushed_out()
    }

    fn count(&mut self, key: &str, part_ms: u64, part: u32, count: u32) {
        if let Some(rate) = self.table.find(key) {
            return rate.window.add(part, count);
        }
        let mut window = Window::default();
        window.add(part, count);
        self.table.put(key, Rate { window, part_ms });
    }
}

fn part_of(now_ms: u64, part_ms: u64) -> u32 {
    u32::try_from(now_ms / part_ms.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taking(key: &str, limit: u32, count: u32) -> Taking {
        Taking { name: "mail".into(), key: key.into(), limit, period_s: 60, count }
    }

    fn taken(granted: bool, left: u32) -> Taken {
        Taken { granted, left }
    }

    #[test]
    fn each_key_of_each_name_has_its_own_count() {
        let mut rates = Rates::default();
        assert_eq!(rates.take(0, &taking("a", 3, 2)), taken(true, 1));
        assert_eq!(
            rates.take(0, &taking("a", 3, 2)),
            taken(false, 1),
            "all or none, and a refusal costs nothing"
        );
        assert_eq!(rates.take(0, &taking("a", 3, 1)), taken(true, 0));
        assert_eq!(rates.take(0, &taking("a", 3, 0)), taken(true, 0));
        assert_eq!(rates.take(0, &taking("b", 3, 3)), taken(true, 0));
        let other = Taking { name: "rcpt".into(), ..taking("a", 3, 1) };
        assert_eq!(rates.take(0, &other), taken(true, 2));
        assert_eq!(rates.len(), 3);
        // A limit that was raised counts from where the count is.
        assert_eq!(rates.take(0, &taking("a", 5, 1)), taken(true, 1));
        assert_eq!(rates.take(0, &taking("a", 2, 0)), taken(true, 0));
    }

    #[test]
    fn room_comes_back_when_the_period_has_gone_by() {
        let mut rates = Rates::default();
        assert_eq!(rates.take(5_000, &taking("a", 1, 1)), taken(true, 0));
        assert_eq!(rates.take(60_000, &taking("a", 1, 1)), taken(false, 0));
        assert_eq!(rates.take(70_000, &taking("a", 1, 1)), taken(true, 0));
        // Another period is another count.
        let shorter = Taking { period_s: 1, ..taking("a", 1, 1) };
        assert_eq!(rates.take(70_000, &shorter), taken(true, 0));
        assert_eq!(rates.take(70_900, &shorter), taken(false, 0));
        rates.sweep(72_000);
        assert_eq!(rates.len(), 1, "that of the longer one is kept");
        rates.sweep(150_000);
        assert_eq!(rates.len(), 0);
    }

    #[test]
    fn limits_by_several_periods_hold_at_once() {
        let mut rates = Rates::default();
        let by_hour = |count| Taking { period_s: 3_600, ..taking("a", 5, count) };
        for left in [1, 0] {
            assert_eq!(rates.take(0, &taking("a", 2, 1)), taken(true, left));
            assert_eq!(rates.take(0, &by_hour(1)), taken(true, left + 3));
        }
        assert_eq!(rates.take(0, &taking("a", 2, 1)), taken(false, 0));
        assert_eq!(rates.take(90_000, &taking("a", 2, 1)), taken(true, 1));
        assert_eq!(rates.take(90_000, &by_hour(4)), taken(false, 3));
        assert_eq!((rates.take(90_000, &by_hour(3)), rates.len()), (taken(true, 0), 2));
    }

    #[test]
    fn a_question_that_takes_nothing_leaves_nothing() {
        let mut rates = Rates::default();
        assert_eq!(rates.take(0, &taking("a", 3, 0)), taken(true, 3));
        assert_eq!(rates.len(), 0);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let mut rates = Rates::default();
        for number in 0..MAX_RATES + 10 {
            rates.take(0, &taking(&number.to_string(), 1, 1));
        }
        assert_eq!((rates.len(), rates.pushed_out()), (MAX_RATES, 10));
    }
}
