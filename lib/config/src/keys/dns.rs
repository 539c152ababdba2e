//! DNS: whom the resolver asks, and how long it waits.

use crate::kind::{Count, Flag, MINUTE, NameServers, OneOf, Period, SECOND};
use crate::table::Preset::{Bool, Int, List, Text};

/// Where the name servers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DnsType {
    System,
    Google,
    Cloudflare,
    Custom,
}

impl DnsType {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("system", DnsType::System),
        ("google", DnsType::Google),
        ("cloudflare", DnsType::Cloudflare),
        ("custom", DnsType::Custom),
    ];
}

keys! {
    /// Keys of DNS.
    DnsKeys;

    /// Whose name servers are asked: those of `/etc/resolv.conf` (`system`), of Google or Cloudflare, or those of
    /// `server.dns.config.name_servers` (`custom`).
    dns_type: OneOf<DnsType> { of: DnsType::WORDS } = "server.dns.type", default Text("system"),
        example Text("cloudflare"), for Resolver;

    /// Name servers for the type `custom`, each an address with port 53 unless another is given.
    name_servers: NameServers = "server.dns.config.name_servers", default List(&[]), example List(&["192.0.2.53"]),
        for Resolver;

    /// Longest wait for one name server's answer.
    timeout: Period { min: SECOND / 10, max: MINUTE } = "server.dns.options.timeout", default Text("5s"),
        example Text("2s"), for Resolver;

    /// How often a question is asked before it fails for now.
    attempts: Count { min: 1, max: 10 } = "server.dns.options.attempts", default Int(2), example Int(3), for Resolver;

    /// Answers kept in memory; 0 for none.
    cache_size: Count { min: 0, max: 1_000_000 } = "server.dns.options.cache_size", default Int(10_000),
        example Int(500), for Resolver;

    /// Believe the name servers when they say that an answer is authentic (DNSSEC). Only for servers on a path that
    /// nobody can alter, such as one on this host.
    trust_ad: Flag = "server.dns.options.trust_ad", default Bool(false), example Bool(true), for Resolver;
}
