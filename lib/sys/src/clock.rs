//! The two clocks, as whole numbers. Only a daemon's loop reads them; everything else is handed the time.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970 by the wall clock, which may jump. Never fails: before 1970 it reads as 0.
pub fn wall_ms() -> u64 {
    read(ClockId::CLOCK_REALTIME, Duration::as_millis)
}

/// Milliseconds by a clock that never jumps and does not count suspended time.
pub fn monotonic_ms() -> u64 {
    read(ClockId::CLOCK_MONOTONIC, Duration::as_millis)
}

/// Microseconds by the clock of `monotonic_ms`, for measuring delays.
pub fn monotonic_us() -> u64 {
    read(ClockId::CLOCK_MONOTONIC, Duration::as_micros)
}

fn read(clock: ClockId, unit: fn(&Duration) -> u128) -> u64 {
    // Both clocks exist on every Linux, so this cannot fail; 0 is the answer of a clock before its epoch.
    let time = clock_gettime(clock).map(Duration::from).unwrap_or_default();
    u64::try_from(unit(&time)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_agrees_with_the_standard_library() {
        let before = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        let ours = wall_ms();
        let after = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        assert!((before..=after).contains(&ours));
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back_and_its_units_agree() {
        let first = monotonic_us();
        let between = monotonic_ms();
        let last = monotonic_us();
        assert!(first / 1000 <= between && between <= last / 1000);
    }
}
