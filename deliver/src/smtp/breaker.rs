//! Hosts that cannot be reached, whatever next hop leads there. After some failures in a row a host is left alone, longer
//! each time; then one connection tries it, and the others wait for what becomes of that. Pure: the clock comes in.

use std::collections::HashMap;

use crate::smtp::route::Endpoint;

/// Failures in a row after which a host is left alone.
const FAILURES: u8 = 3;
/// How long, the first time; twice as long each further time.
const FIRST_MS: u64 = 60_000;
/// Longest.
const LONGEST_MS: u64 = 30 * 60_000;
/// A probe that has said nothing for so long is forgotten. Longer than a connection may take to be greeted or to fail.
const PROBE_MS: u64 = 15 * 60_000;
/// Most hosts of which something is remembered. Of more, those that have failed longest ago are forgotten.
const MAX_HOSTS: usize = 4096;

/// The hosts that have failed lately.
#[derive(Debug, Default)]
pub struct Breakers {
    hosts: HashMap<Endpoint, Host>,
}

#[derive(Debug)]
struct Host {
    /// In a row.
    failures: u8,
    /// How often in a row it was left alone.
    times: u8,
    /// It is left alone until then; 0 if it is not.
    until_ms: u64,
    /// One connection tries it; forgotten at this time. 0 if none does.
    probe_ms: u64,
    last_ms: u64,
    reason: Box<str>,
}

/// A host that is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// For how much longer, in milliseconds.
    pub left_ms: u64,
    /// What its last failure was.
    pub reason: Box<str>,
}

impl Breakers {
    /// Asks to connect to a host. Who may, must say what came of it.
    ///
    /// # Errors
    /// The host is left alone.
    pub fn ask(&mut self, endpoint: &Endpoint, now_ms: u64) -> Result<(), Open> {
        let Some(host) = self.hosts.get_mut(endpoint) else { return Ok(()) };
        if host.times == 0 {
            return Ok(());
        }
        let until_ms = host.until_ms.max(host.probe_ms);
        if now_ms >= until_ms {
            host.probe_ms = now_ms + PROBE_MS;
            return Ok(());
        }
        // What a probe finds is known soon.
        let left_ms = if now_ms < host.until_ms { host.until_ms - now_ms } else { FIRST_MS / 4 };
        Err(Open { left_ms, reason: host.reason.clone() })
    }

    /// Somebody answered there. True if it had been left alone.
    pub fn reached(&mut self, endpoint: &Endpoint) -> bool {
        self.hosts.remove(endpoint).is_some_and(|host| host.times > 0)
    }

    /// Nobody could be reached there. Answers for how long the host is left alone, if that begins now.
    pub fn failed(&mut self, endpoint: &Endpoint, reason: &str, now_ms: u64) -> Option<u64> {
        self.make_room(endpoint);
        let host = self.hosts.entry(endpoint.clone()).or_insert_with(Host::new);
        host.failures = host.failures.saturating_add(1);
        (host.last_ms, host.reason) = (now_ms, reason.into());
        // What was under way when the host was given up says nothing new.
        let is_over = now_ms >= host.until_ms;
        if host.failures < FAILURES || !is_over {
            return None;
        }
        let wait_ms = FIRST_MS.saturating_mul(1 << host.times.min(16)).min(LONGEST_MS);
        host.times = host.times.saturating_add(1);
        (host.until_ms, host.probe_ms) = (now_ms + wait_ms, 0);
        Some(wait_ms)
    }

    fn make_room(&mut self, endpoint: &Endpoint) {
        if self.hosts.len() < MAX_HOSTS || self.hosts.contains_key(endpoint) {
            return;
        }
        let mut ages: Vec<u64> = self.hosts.values().map(|host| host.last_ms).collect();
        let middle = ages.len() / 2;
        let (_, median, _) = ages.select_nth_unstable(middle);
        let median = *median;
        self.hosts.retain(|_, host| host.last_ms > median);
    }
}

impl Host {
    fn new() -> Self {
        Host { failures: 0, times: 0, until_ms: 0, probe_ms: 0, last_ms: 0, reason: "".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Endpoint {
        Endpoint::Tcp(([192, 0, 2, 1], port).into())
    }

    #[test]
    fn three_failures_in_a_row_and_the_host_is_left_alone() {
        let mut breakers = Breakers::default();
        assert_eq!(breakers.failed(&at(25), "x", 0), None);
        assert_eq!(breakers.failed(&at(25), "x", 0), None);
        assert!(!breakers.reached(&at(25)), "an answer in between makes it begin anew");
        assert_eq!(breakers.failed(&at(25), "x", 0), None);
        assert_eq!(breakers.failed(&at(25), "x", 0), None);
        assert_eq!(breakers.ask(&at(25), 0), Ok(()));
        assert_eq!(breakers.failed(&at(25), "timeout", 1000), Some(FIRST_MS));
        assert_eq!(
            breakers.ask(&at(25), 1001).unwrap_err(),
            Open { left_ms: 59_999, reason: "timeout".into() }
        );
        assert_eq!(breakers.ask(&at(26), 1001), Ok(()), "another one is another one");
        assert_eq!(breakers.failed(&at(25), "late", 1002), None, "what was under way tells nothing new");
    }

    #[test]
    fn one_probe_at_a_time_decides_and_waits_grow_to_a_bound() {
        let mut breakers = Breakers::default();
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..FAILURES - 1 {
            breakers.failed(&at(25), "x", now);
        }
        for _ in 0..8 {
            let wait = breakers.failed(&at(25), "x", now).unwrap();
            waits.push(wait);
            now += wait;
            assert_eq!(breakers.ask(&at(25), now), Ok(()));
            assert!(breakers.ask(&at(25), now).is_err(), "a second probe");
        }
        assert_eq!((waits[0], waits[1], waits[7]), (FIRST_MS, 2 * FIRST_MS, LONGEST_MS));
        assert!(breakers.reached(&at(25)));
        assert_eq!(breakers.ask(&at(25), now), Ok(()));
        assert_eq!(breakers.failed(&at(25), "x", now), None, "all is forgiven");
    }

    #[test]
    fn a_probe_that_says_nothing_is_followed_by_another() {
        let mut breakers = Breakers::default();
        for _ in 0..FAILURES {
            breakers.failed(&at(25), "x", 0);
        }
        assert_eq!(breakers.ask(&at(25), FIRST_MS), Ok(()));
        assert!(breakers.ask(&at(25), FIRST_MS + PROBE_MS - 1).is_err());
        assert_eq!(breakers.ask(&at(25), FIRST_MS + PROBE_MS), Ok(()));
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_the_latest() {
        let mut breakers = Breakers::default();
        for n in 0..3 * MAX_HOSTS as u64 {
            breakers.failed(&at(n as u16), "x", n);
            assert!(breakers.hosts.len() <= MAX_HOSTS);
        }
        assert!(breakers.hosts.contains_key(&at((3 * MAX_HOSTS - 1) as u16)));
    }
}
