//! One next hop: how many attempts it takes at a time, and whether it is alive. Only reaching a host or not counts here;
//! what the host says of a message is that message's affair.

use vsmtp_mail::NextHop;

use super::flow::RankedList;
use super::pace::Pace;
use super::settings::{Jitter, Settings};

/// Most doublings of the time for which a dead next hop is left alone.
const MAX_STREAK: u8 = 32;

/// A next hop with something to do, or with a memory worth keeping.
#[derive(Debug)]
pub(super) struct Destination {
    /// `None` in an empty slot.
    pub hop: Option<NextHop>,
    pub hash: u64,
    /// Flows that belong to it.
    pub flows: u32,
    /// Leases out.
    pub in_flight: u32,
    /// Attempts that it takes at a time; grows by 1/window with each success.
    window: f32,
    /// The most that the window may be.
    ceiling: u32,
    /// What has gone there lately.
    pub pace: Pace,
    /// Until this monotonic time nothing is tried there, as its host has asked for; 0 if it has not.
    pub rest_until_ms: u64,
    /// A timer that lets its flows go on is set for this time; 0 if none is.
    pub wake_ms: u64,
    /// Attempts in a row that reached nobody.
    failures: u8,
    /// How often in a row it was found dead.
    streak: u8,
    /// Monotonic time until which it is left alone; 0 if it is alive.
    pub dead_until_ms: u64,
    /// Flows that wait for room in the window.
    pub parked: RankedList,
    /// Stands in the list of destinations that nothing refers to.
    pub idle: bool,
    /// What the last attempt that reached nobody said.
    pub reason: Option<Box<str>>,
}

impl Default for Destination {
    fn default() -> Self {
        Destination {
            hop: None,
            hash: 0,
            flows: 0,
            in_flight: 0,
            window: 1.0,
            ceiling: 1,
            pace: Pace::default(),
            rest_until_ms: 0,
            wake_ms: 0,
            failures: 0,
            streak: 0,
            dead_until_ms: 0,
            parked: RankedList::default(),
            idle: false,
            reason: None,
        }
    }
}

impl Destination {
    pub fn new(hop: NextHop, hash: u64, settings: &Settings) -> Self {
        let window = if hop_is_local(&hop) { u32::MAX } else { settings.initial_concurrency };
        let mut destination =
            Destination { hop: Some(hop), hash, window: window.max(1) as f32, ..Destination::default() };
        destination.limit(settings);
        destination
    }

    /// Takes the limits of new settings. What was counted goes on counting.
    pub fn limit(&mut self, settings: &Settings) {
        let Some(hop) = &self.hop else { return };
        let usual = if hop_is_local(hop) { settings.local_concurrency } else { settings.max_concurrency };
        let (concurrency, rates) = settings.limits.of(hop);
        self.ceiling = concurrency.unwrap_or(usual).max(1);
        self.window = self.window.min(self.ceiling as f32);
        self.pace.set_rates(rates);
    }

    pub fn is_dead(&self, mono_ms: u64) -> bool {
        mono_ms < self.dead_until_ms
    }

    /// Attempts that it gets at a time at present.
    pub fn concurrency(&self) -> u32 {
        self.window as u32
    }

    /// When the next attempt may begin, if not now. For the eye: counts nothing off.
    pub fn next_ms(&self, mono_ms: u64) -> Option<u64> {
        let later = [self.dead_until_ms, self.rest_until_ms, self.pace.next_ms(mono_ms)];
        later.into_iter().max().filter(|later| *later > mono_ms)
    }

    pub fn room(&self) -> u32 {
        (self.window as u32).saturating_sub(self.in_flight)
    }

    /// A host answered: more at a time. After a time of death it begins like a new one.
    pub fn reached(&mut self, settings: &Settings) {
        if self.streak > 0 {
            self.window = self.window.max(settings.initial_concurrency as f32);
        }
        (self.failures, self.streak, self.dead_until_ms, self.reason) = (0, 0, 0, None);
        self.window = (self.window + 1.0 / self.window).min(self.ceiling as f32).max(1.0);
    }

    /// The host has too much to do: half as many at a time. It is alive.
    pub fn fewer(&mut self) {
        (self.failures, self.streak, self.dead_until_ms, self.reason) = (0, 0, 0, None);
        self.window = (self.window / 2.0).max(1.0);
    }

    /// When the next attempt may begin, if not now.
    pub fn free_ms(&mut self, mono_ms: u64) -> Option<u64> {
        let rest_ms = Some(self.rest_until_ms).filter(|rest_ms| *rest_ms > mono_ms);
        rest_ms.into_iter().chain(self.pace.free_ms(mono_ms)).max()
    }

    /// Nobody answered: fewer at a time, and after some in a row none for a while. True if it just died.
    pub fn unreachable(
        &mut self,
        mono_ms: u64,
        reason: &str,
        settings: &Settings,
        jitter: &mut Jitter,
    ) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.window = (self.window - 1.0).max(1.0);
        self.reason = Some(reason.into());
        // One that was dead gets one probe, not several.
        let is_dead = self.streak > 0 || u32::from(self.failures) >= settings.failures_until_dead.max(1);
        if !is_dead || self.is_dead(mono_ms) {
            return false;
        }
        self.streak = (self.streak + 1).min(MAX_STREAK);
        self.window = 1.0;
        self.dead_until_ms = mono_ms.saturating_add(settings.backoff_ms(self.streak, jitter));
        true
    }

    /// An operator wants it tried now.
    pub fn revive(&mut self) {
        (self.dead_until_ms, self.rest_until_ms) = (0, 0);
    }
}

fn hop_is_local(hop: &NextHop) -> bool {
    matches!(hop, NextHop::Mailbox(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination() -> (Destination, Settings, Jitter) {
        let settings = Settings::default();
        let hop = NextHop::parse("smtp:dst.test").unwrap();
        (Destination::new(hop, 1, &settings), settings, Jitter(1))
    }

    #[test]
    fn the_window_grows_with_success_to_its_limit() {
        let (mut destination, settings, _) = destination();
        assert_eq!(destination.room(), 5);
        for _ in 0..6 {
            destination.reached(&settings);
        }
        assert_eq!(destination.room(), 6);
        for _ in 0..1000 {
            destination.reached(&settings);
        }
        assert_eq!(destination.room(), 20);
    }

    #[test]
    fn three_failures_in_a_row_kill_and_a_success_heals() {
        let (mut destination, settings, mut jitter) = destination();
        assert!(!destination.unreachable(0, "x", &settings, &mut jitter));
        assert!(!destination.unreachable(0, "x", &settings, &mut jitter));
        destination.reached(&settings);
        assert!(!destination.unreachable(0, "x", &settings, &mut jitter));
        assert!(!destination.unreachable(0, "x", &settings, &mut jitter));
        assert!(destination.unreachable(0, "x", &settings, &mut jitter));
        assert!(destination.is_dead(299_999) && destination.room() == 1);
        let first = destination.dead_until_ms;
        assert!(!destination.unreachable(1, "late answer", &settings, &mut jitter));
        assert!(destination.unreachable(first, "x", &settings, &mut jitter), "one probe is enough");
        assert!(destination.dead_until_ms >= first + 600_000);
        destination.reached(&settings);
        assert!(!destination.is_dead(0) && destination.room() >= 5);
    }

    #[test]
    fn mailboxes_begin_with_their_full_window() {
        let settings = Settings::default();
        let hop = NextHop::parse("maildir").unwrap();
        assert_eq!(Destination::new(hop, 1, &settings).room(), settings.local_concurrency);
    }
}
