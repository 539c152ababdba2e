//! What the resolver is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bincode::{Decode, Encode};

use crate::config::Config;
use crate::keys::DnsType;

/// What the resolver is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ResolverSlice {
    /// Name servers to ask; `None` for those of `/etc/resolv.conf`. Never an empty list.
    pub servers: Option<Vec<SocketAddr>>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// How often a question is asked.
    pub attempts: u32,
    /// Answers kept in memory.
    pub cache_size: u32,
    /// Believe the AD bit of answers.
    pub trust_ad: bool,
    /// PEM file of the authorities for MTA-STS policies, absolute; `None` for those of the system.
    pub ca_file: Option<String>,
}

const DNS_PORT: u16 = 53;
const GOOGLE: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844)),
];
const CLOUDFLARE: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)),
    IpAddr::V4(Ipv4Addr::new(1, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1001)),
];

impl Config {
    /// What the resolver is told.
    pub fn resolver(&self) -> ResolverSlice {
        let on_port = |addresses: [IpAddr; 4]| addresses.map(|ip| SocketAddr::new(ip, DNS_PORT)).to_vec();
        ResolverSlice {
            servers: match self.dns.dns_type {
                DnsType::System => None,
                DnsType::Google => Some(on_port(GOOGLE)),
                DnsType::Cloudflare => Some(on_port(CLOUDFLARE)),
                DnsType::Custom => Some(self.dns.name_servers.clone()),
            },
            timeout: self.dns.timeout,
            attempts: self.dns.attempts,
            cache_size: self.dns.cache_size,
            trust_ad: self.dns.trust_ad,
            ca_file: self.delivery_tls.ca_file.as_ref().map(|path| self.placed(path)),
        }
    }
}
