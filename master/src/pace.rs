//! How fast a dead child is started again. One that had served comes back at once; one that dies before its first request
//! waits longer each time, so that a broken binary or configuration does not burn the machine.

/// First wait, in milliseconds.
const FIRST_MS: u64 = 250;
/// Longest wait, in milliseconds.
const LONGEST_MS: u64 = 30_000;
/// A child that served and dies more often than this within [`WINDOW_MS`] is slowed down as well.
const MAX_QUICK: u32 = 20;
/// Window of the count above, in milliseconds.
const WINDOW_MS: u64 = 10_000;

/// The pace of one child's restarts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    early_deaths: u32,
    quick_deaths: u32,
    window_began_ms: u64,
}

impl Pace {
    /// How many milliseconds to wait after a death. `served`: it had done real work.
    pub fn after_death(&mut self, served: bool, now_ms: u64) -> u64 {
        if now_ms.saturating_sub(self.window_began_ms) > WINDOW_MS {
            self.window_began_ms = now_ms;
            self.quick_deaths = 0;
        }
        self.quick_deaths += 1;
        if served && self.quick_deaths <= MAX_QUICK {
            self.early_deaths = 0;
            return 0;
        }
        let doublings = self.early_deaths.min(16);
        self.early_deaths += 1;
        (FIRST_MS << doublings).min(LONGEST_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_served_comes_back_at_once() {
        let mut pace = Pace::default();
        assert_eq!((0..5).map(|i| pace.after_death(true, i * 100)).sum::<u64>(), 0);
    }

    #[test]
    fn early_deaths_wait_longer_and_longer_up_to_a_bound() {
        let mut pace = Pace::default();
        let waits: Vec<u64> = (0..20).map(|i| pace.after_death(false, i * 60_000)).collect();
        assert_eq!(&waits[..4], &[250, 500, 1000, 2000]);
        assert_eq!(waits[19], LONGEST_MS);
        assert_eq!(pace.after_death(true, 10_000_000), 0, "real work forgives");
    }

    #[test]
    fn even_a_child_that_served_cannot_spin() {
        let mut pace = Pace::default();
        assert!((0..100).map(|i| pace.after_death(true, i)).any(|wait| wait > 0));
    }
}
