//! The name servers: which there are, which of them are silent, and whether their AD bit is believed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// So many failures without an answer in between make a server suspect.
const SUSPECT_AFTER: u32 = 3;
/// How long a suspect server is asked last before it gets another chance.
const REST: Duration = Duration::from_secs(30);

/// All name servers.
#[derive(Debug)]
pub struct Upstream {
    servers: Vec<Server>,
    /// Longest wait for one server's answer.
    pub timeout: Duration,
    /// Rounds through all servers.
    pub attempts: u32,
    /// The AD bit of answers is believed.
    pub trusted: bool,
}

/// One name server and how it did.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub address: SocketAddr,
    /// Failures since its last answer.
    failures: AtomicU32,
    /// When it failed last, in milliseconds since the start of the clock that the caller uses.
    failed_ms: AtomicU64,
}

impl Upstream {
    /// `trust_ad` says that all servers' AD bits are believed; on this very host they are in any case.
    pub fn new(servers: Vec<SocketAddr>, timeout: Duration, attempts: u32, trust_ad: bool) -> Self {
        let here =
            !servers.is_empty() && servers.iter().all(|server| server.ip().to_canonical().is_loopback());
        let new = |address| Server { address, failures: AtomicU32::new(0), failed_ms: AtomicU64::new(0) };
        Upstream {
            servers: servers.into_iter().map(new).collect(),
            timeout,
            attempts,
            trusted: trust_ad || here,
        }
    }

    /// Where the servers are, for the log.
    pub fn addresses(&self) -> String {
        self.servers.iter().map(|server| server.address.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// The servers in the order in which to ask them at that time: as configured, but suspect ones last.
    pub fn order(&self, now_ms: u64) -> Vec<&Server> {
        let (suspect, good): (Vec<&Server>, Vec<&Server>) =
            self.servers.iter().partition(|server| server.is_suspect(now_ms));
        good.into_iter().chain(suspect).collect()
    }
}

impl Server {
    /// It said something, whatever it was.
    pub fn answered(&self) {
        self.failures.store(0, Relaxed);
    }

    /// It said nothing, or cannot be reached.
    pub fn failed(&self, now_ms: u64) {
        self.failures.fetch_add(1, Relaxed);
        self.failed_ms.store(now_ms, Relaxed);
    }

    /// A suspect that has rested is given to one caller as if it were good, so that one question tries it and not all.
    fn is_suspect(&self, now_ms: u64) -> bool {
        if self.failures.load(Relaxed) < SUSPECT_AFTER {
            return false;
        }
        let rested = u128::from(now_ms.saturating_sub(self.failed_ms.load(Relaxed))) >= REST.as_millis();
        if rested {
            self.failed_ms.store(now_ms, Relaxed);
        }
        !rested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(servers: &[&str], trust_ad: bool) -> Upstream {
        let servers = servers.iter().map(|text| text.parse().unwrap()).collect();
        Upstream::new(servers, Duration::from_secs(1), 2, trust_ad)
    }

    fn ports(upstream: &Upstream, now_ms: u64) -> Vec<u16> {
        upstream.order(now_ms).iter().map(|server| server.address.port()).collect()
    }

    #[test]
    fn a_silent_server_is_asked_last_and_tried_again_by_one() {
        let upstream = upstream(&["192.0.2.1:1", "192.0.2.2:2"], false);
        let first = upstream.order(0)[0];
        (0..SUSPECT_AFTER).for_each(|_| first.failed(1000));
        assert_eq!(ports(&upstream, 1001), [2, 1]);
        assert_eq!(ports(&upstream, 31_000), [1, 2]);
        assert_eq!(ports(&upstream, 31_000), [2, 1]);
        first.answered();
        assert_eq!(ports(&upstream, 31_001), [1, 2]);
    }

    #[test]
    fn only_servers_on_this_host_are_trusted_unasked() {
        assert!(upstream(&["127.0.0.53:53", "[::1]:53"], false).trusted);
        assert!(!upstream(&["127.0.0.1:53", "192.0.2.1:53"], false).trusted);
        assert!(upstream(&["192.0.2.1:53"], true).trusted);
        assert!(!upstream(&[], false).trusted);
    }
}
