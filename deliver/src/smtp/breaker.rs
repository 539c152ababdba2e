//! Hosts that cannot be reached, whatever next hop leads there. After some failures in a row a host is left alone, longer
//! each time; then one connection tries it, and the others wait for what becomes of that. Pure: the clock comes in.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use crate::smtp::route::{Endpoint, Site};

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

/// A host, and our own address that it is tried from: whom one of them cannot reach, another may.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Line {
    endpoint: Endpoint,
    source: Option<IpAddr>,
}

impl Line {
    /// The one that a connection there takes.
    pub fn of(site: &Site) -> Self {
        Line { endpoint: site.endpoint.clone(), source: site.source }
    }
}

/// True if it is the host, or the way there, that made an attempt to connect fail. All else (no descriptor left, an address
/// that is not ours, no free port) is ours, and says nothing of a host.
pub fn is_of_host(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, NotFound,
        TimedOut,
    };
    // A Unix socket that is not found belongs to a server that does not run.
    matches!(
        error.kind(),
        ConnectionRefused
            | ConnectionReset
            | ConnectionAborted
            | TimedOut
            | HostUnreachable
            | NetworkUnreachable
            | NotFound
    )
}

/// The hosts that have failed lately.
#[derive(Debug, Default)]
pub struct Breakers {
    hosts: HashMap<Line, Host>,
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
    pub fn ask(&mut self, line: &Line, now_ms: u64) -> Result<(), Open> {
        if let Some(open) = self.left_alone(line, now_ms) {
            return Err(open);
        }
        if let Some(host) = self.hosts.get_mut(line).filter(|host| host.times > 0) {
            host.probe_ms = now_ms + PROBE_MS;
        }
        Ok(())
    }

    /// Whether a host is left alone now. Nothing follows from asking.
    pub fn left_alone(&self, line: &Line, now_ms: u64) -> Option<Open> {
        let host = self.hosts.get(line).filter(|host| host.times > 0)?;
        if now_ms >= host.until_ms.max(host.probe_ms) {
            return None;
        }
        // What a probe finds is known soon.
        let left_ms = if now_ms < host.until_ms { host.until_ms - now_ms } else { FIRST_MS / 4 };
        Some(Open { left_ms, reason: host.reason.clone() })
    }

    /// Somebody answered there. True if it had been left alone.
    pub fn reached(&mut self, line: &Line) -> bool {
        self.hosts.remove(line).is_some_and(|host| host.times > 0)
    }

    /// Nothing was learnt of the host: if that was its probe, there may be another.
    pub fn let_go(&mut self, line: &Line) {
        if let Some(host) = self.hosts.get_mut(line) {
            host.probe_ms = 0;
        }
    }

    /// Nobody could be reached there. Answers for how long the host is left alone, if that begins now.
    pub fn failed(&mut self, line: &Line, reason: &str, now_ms: u64) -> Option<u64> {
        self.make_room(line);
        let host = self.hosts.entry(line.clone()).or_insert_with(Host::new);
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

    fn make_room(&mut self, line: &Line) {
        if self.hosts.len() < MAX_HOSTS || self.hosts.contains_key(line) {
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

    fn at(port: u16) -> Line {
        Line { endpoint: Endpoint::Tcp(([192, 0, 2, 1], port).into()), source: None }
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
        assert!(breakers.left_alone(&at(25), 1001).is_some());
        assert_eq!(breakers.left_alone(&at(25), 1000 + FIRST_MS), None);
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
    fn whom_one_of_our_addresses_cannot_reach_another_may() {
        let mut breakers = Breakers::default();
        let from = Line { source: Some([198, 51, 100, 1].into()), ..at(25) };
        for _ in 0..FAILURES {
            breakers.failed(&from, "x", 0);
        }
        assert!(breakers.ask(&from, 1).is_err());
        assert_eq!(breakers.ask(&at(25), 1), Ok(()));
    }

    #[test]
    fn only_what_the_host_does_counts() {
        use nix::libc;
        let is_of_host = |errno| is_of_host(&io::Error::from_raw_os_error(errno));
        for theirs in [
            libc::ECONNREFUSED,
            libc::ETIMEDOUT,
            libc::EHOSTUNREACH,
            libc::ENETUNREACH,
            libc::ECONNRESET,
            libc::ENOENT,
        ] {
            assert!(is_of_host(theirs), "{theirs}");
        }
        for ours in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EADDRNOTAVAIL,
            libc::EADDRINUSE,
            libc::EAFNOSUPPORT,
            libc::EACCES,
            libc::EPERM,
            libc::ENOSPC,
        ] {
            assert!(!is_of_host(ours), "{ours}");
        }
    }

    #[test]
    fn a_probe_that_learns_nothing_is_followed_by_another_at_once() {
        let mut breakers = Breakers::default();
        for _ in 0..FAILURES {
            breakers.failed(&at(25), "x", 0);
        }
        breakers.let_go(&at(25));
        assert!(breakers.ask(&at(25), FIRST_MS - 1).is_err(), "it is left alone all the same");
        assert_eq!(breakers.ask(&at(25), FIRST_MS), Ok(()));
        assert!(breakers.ask(&at(25), FIRST_MS).is_err());
        breakers.let_go(&at(25));
        assert_eq!(breakers.ask(&at(25), FIRST_MS), Ok(()));
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
