//! How often something happened lately. A window is cut into parts, and what is older than a whole window and the part that
//! is running is forgotten: never more than the limit in any span of the window's length, and all room back after a window
//! and a sixth. Pure: time comes in as the number of a part.

/// Parts of a window.
pub const PARTS: u64 = 6;
/// Parts that count: a whole window and the one that is running.
const SLOTS: u32 = PARTS as u32 + 1;

/// The counts of one thing, by part.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    counts: [u32; SLOTS as usize],
    /// The newest part of which anything is known.
    last: u32,
}

impl Window {
    /// Counts so many more in this part.
    pub fn add(&mut self, part: u32, count: u32) {
        self.advance(part);
        if let Some(slot) = self.counts.get_mut((self.last % SLOTS) as usize) {
            *slot = slot.saturating_add(count);
        }
    }

    /// The count as it stands in this part.
    pub fn count(&mut self, part: u32) -> u32 {
        self.advance(part);
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Forgets what is too old. A clock that went back stands still.
    fn advance(&mut self, part: u32) {
        let steps = part.saturating_sub(self.last).min(SLOTS);
        for step in 0..steps {
            if let Some(slot) = self.counts.get_mut((part.saturating_sub(step) % SLOTS) as usize) {
                *slot = 0;
            }
        }
        self.last = self.last.max(part);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_older_than_a_window_and_a_part_is_forgotten() {
        let mut window = Window::default();
        window.add(100, 3);
        window.add(102, 2);
        assert_eq!(window.count(102), 5);
        assert_eq!(window.count(106), 5, "the whole window is remembered");
        assert_eq!(window.count(107), 2);
        assert_eq!(window.count(109), 0);
        window.add(5_000, 1);
        assert_eq!(window.count(5_000), 1);
        assert_eq!(window.count(4_000), 1, "a clock that goes back forgets nothing and counts nothing twice");
        window.add(5_000, u32::MAX);
        assert_eq!(window.count(5_000), u32::MAX);
    }

    proptest! {
        /// Time runs in steps of one hundredth of a part.
        #[test]
        fn no_span_of_a_window_holds_more_than_the_limit(
            limit in 1u32..20,
            waits in prop::collection::vec(0u64..300, 1..300),
        ) {
            const FINE: u64 = 100;
            let (mut window, mut now, mut taken) = (Window::default(), 0u64, Vec::new());
            for wait in waits {
                now += wait;
                let part = u32::try_from(now / FINE).unwrap();
                if window.count(part) < limit {
                    window.add(part, 1);
                    taken.push(now);
                }
            }
            for begin in &taken {
                let inside = taken.iter().filter(|at| (*begin..*begin + PARTS * FINE).contains(at)).count();
                prop_assert!(inside <= limit as usize, "{inside} from {begin}");
            }
            let later = u32::try_from(now / FINE + u64::from(SLOTS)).unwrap();
            prop_assert_eq!(window.count(later), 0);
        }
    }
}
