//! What an operator can set about the schedule, and the arithmetic of waiting. Randomness comes from a seed.

use super::pace::LimitTable;

/// How often, how long, and how many at a time. All times in milliseconds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Attempts at a time for a next hop that we know nothing about.
    pub initial_concurrency: u32,
    /// Most attempts at a time for one next hop on the network.
    pub max_concurrency: u32,
    /// Attempts at a time for mailboxes of this host.
    pub local_concurrency: u32,
    /// Wait before the first retry; doubled for each further one.
    pub min_backoff_ms: u64,
    /// Longest wait between two attempts.
    pub max_backoff_ms: u64,
    /// Age at which a deferral becomes a failure.
    pub lifetime_ms: u64,
    /// The same for messages with the null sender.
    pub bounce_lifetime_ms: u64,
    /// Age at which the sender is told, once, of a delay; 0: never.
    pub delay_warning_ms: u64,
    /// Attempts in a row that reach no host, after which a next hop is left alone for a while.
    pub failures_until_dead: u32,
    /// What single next hops bear.
    pub limits: LimitTable,
}

impl Default for Settings {
    fn default() -> Self {
        const MINUTE: u64 = 60_000;
        const DAY: u64 = 24 * 60 * MINUTE;
        Settings {
            initial_concurrency: 5,
            max_concurrency: 20,
            local_concurrency: 64,
            min_backoff_ms: 5 * MINUTE,
            max_backoff_ms: 4_000_000,
            lifetime_ms: 5 * DAY,
            bounce_lifetime_ms: 5 * DAY,
            delay_warning_ms: 240 * MINUTE,
            failures_until_dead: 3,
            limits: LimitTable::default(),
        }
    }
}

impl Settings {
    /// The wait behind the attempt number `attempts` (from 1): doubling, at least the minimum, with up to an eighth of
    /// jitter, so that what failed together does not come back together.
    pub(super) fn backoff_ms(&self, attempts: u8, jitter: &mut Jitter) -> u64 {
        let (least, most) = (self.min_backoff_ms.max(1), self.max_backoff_ms.max(self.min_backoff_ms).max(1));
        let doublings = u32::from(attempts.saturating_sub(1)).min(32);
        let wait = least.saturating_mul(1 << doublings);
        if wait < most {
            (wait + jitter.below(wait / 8 + 1)).min(most)
        } else {
            (most - jitter.below(most / 8 + 1)).max(least)
        }
    }

    /// Age at which a deferral of such a message becomes a failure.
    pub fn lifetime_of(&self, null_sender: bool) -> u64 {
        if null_sender { self.bounce_lifetime_ms.min(self.lifetime_ms) } else { self.lifetime_ms }
    }
}

/// Random numbers without any claim but to spread (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Jitter(pub u64);

impl Jitter {
    /// From 0 to `bound - 1`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_five_minutes_to_sixty_seven() {
        let (settings, mut jitter) = (Settings::default(), Jitter(1));
        for _ in 0..100 {
            let waits: Vec<u64> = (1..=8).map(|n| settings.backoff_ms(n, &mut jitter) / 1000).collect();
            for (wait, base) in waits.iter().zip([300, 600, 1200, 2400]) {
                assert!((base..=base + base / 8).contains(wait), "{waits:?}");
            }
            assert!(waits[4..].iter().all(|wait| (3500..=4000).contains(wait)), "{waits:?}");
        }
    }

    #[test]
    fn waits_differ() {
        let (settings, mut jitter) = (Settings::default(), Jitter(1));
        let waits: std::collections::BTreeSet<u64> =
            (0..100).map(|_| settings.backoff_ms(9, &mut jitter)).collect();
        assert!(waits.len() > 90);
    }

    #[test]
    fn odd_settings_do_not_break_the_arithmetic() {
        let mut jitter = Jitter(7);
        for (least, most) in [(0, 0), (10, 1), (u64::MAX, u64::MAX), (1, u64::MAX)] {
            let settings = Settings { min_backoff_ms: least, max_backoff_ms: most, ..Settings::default() };
            for attempts in [0, 1, 2, 64, 255] {
                assert!(settings.backoff_ms(attempts, &mut jitter) >= least.clamp(1, u64::MAX / 2));
            }
        }
    }
}
