//! Answers that need no server: localhost, names that by definition do not exist, and the hosts file of this machine.
//!
//! The hosts file counts for addresses only, and only if the name servers too are those of this machine; it is read once.
//! Nothing of this is ever secure.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vsmtp_ipc::edge::client_resolver::{ClientName, DnsError, Query, Records};

/// Most names taken from the hosts file.
const MAX_HOSTS: usize = 10_000;
/// Most addresses of one of them.
const MAX_ADDRESSES: usize = 100;
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// What this machine knows by itself.
#[derive(Debug, Default)]
pub struct Local {
    hosts: HashMap<String, Vec<IpAddr>>,
}

impl Local {
    /// With the names of a hosts file; lines that cannot be understood are left out.
    pub fn with_hosts(text: &str) -> Self {
        let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
            for name in words {
                if hosts.len() >= MAX_HOSTS {
                    return Local { hosts };
                }
                let addresses = hosts.entry(normal(name)).or_default();
                if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Local { hosts }
    }

    /// The answer to a query that no server is to be asked.
    pub fn answer(&self, query: &Query) -> Option<Result<Records, DnsError>> {
        match query {
            Query::Names(address) if LOOPBACK.contains(&address.to_canonical()) => {
                Some(Ok(Records::Names(vec!["localhost".to_owned()])))
            }
            Query::ClientName(address) if LOOPBACK.contains(&address.to_canonical()) => {
                Some(Ok(Records::ClientName(ClientName::Is("localhost".to_owned()))))
            }
            Query::Names(_)
            | Query::Spf(_)
            | Query::ClientName(_)
            | Query::Signature(_)
            | Query::Dmarc(_)
            | Query::Post { .. } => None,
            Query::Addresses(name) => {
                let name = normal(name);
                if let Some(addresses) = self.hosts.get(&name) {
                    return Some(Ok(Records::Addresses(addresses.clone())));
                }
                special(&name, || Ok(Records::Addresses(LOOPBACK.to_vec())))
            }
            Query::Mx(name)
            | Query::Text(name)
            | Query::Tlsa(name)
            | Query::Canonical(name)
            | Query::StsPolicy(name)
            | Query::Ipv4(name) => special(&normal(name), || Err(DnsError::NoRecords)),
        }
    }
}

/// Names with a meaning of their own (RFC 6761 6.3, 6.4; RFC 7686).
fn special(
    name: &str,
    localhost: impl Fn() -> Result<Records, DnsError>,
) -> Option<Result<Records, DnsError>> {
    match name.rsplit('.').next() {
        Some("localhost") => Some(localhost()),
        Some("invalid" | "onion") => Some(Err(DnsError::NoSuchName)),
        _ => None,
    }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(local: &Local, name: &str) -> Option<Result<Records, DnsError>> {
        local.answer(&Query::Addresses(name.to_owned()))
    }

    #[test]
    fn localhost_and_names_that_never_exist_need_no_server() {
        let local = Local::default();
        for name in ["localhost", "LOCALHOST.", "a.localhost"] {
            assert_eq!(addresses(&local, name), Some(Ok(Records::Addresses(LOOPBACK.to_vec()))));
        }
        assert_eq!(addresses(&local, "x.invalid"), Some(Err(DnsError::NoSuchName)));
        assert_eq!(local.answer(&Query::Mx("localhost".to_owned())), Some(Err(DnsError::NoRecords)));
        assert_eq!(local.answer(&Query::Text("a.onion".to_owned())), Some(Err(DnsError::NoSuchName)));
        let names = |text: &str| local.answer(&Query::Names(text.parse().unwrap()));
        assert_eq!(names("::1"), Some(Ok(Records::Names(vec!["localhost".to_owned()]))));
        assert_eq!(names("::ffff:127.0.0.1"), names("127.0.0.1"));
        assert_eq!((names("127.0.0.2"), addresses(&local, "invalid.example")), (None, None));
    }

    #[test]
    fn the_hosts_file_gives_addresses_and_nothing_else() {
        let local = Local::with_hosts(
            "# comment\n10.0.0.1 Mail.Example mail # both\n10.0.0.2 mail\n10.0.0.2\tmail\n\nnonsense here\n::5 six\n",
        );
        let found = |text: &[&str]| {
            Some(Ok(Records::Addresses(text.iter().map(|address| address.parse().unwrap()).collect())))
        };
        assert_eq!(addresses(&local, "mail.example."), found(&["10.0.0.1"]));
        assert_eq!(addresses(&local, "MAIL"), found(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(addresses(&local, "six"), found(&["::5"]));
        assert_eq!(addresses(&local, "here"), None);
        assert_eq!(local.answer(&Query::Mx("mail".to_owned())), None);
    }

    #[test]
    fn a_huge_hosts_file_is_cut() {
        let text: String = (0..20_000).map(|n| format!("10.0.0.1 h{n}\n")).collect();
        assert_eq!(Local::with_hosts(&text).hosts.len(), MAX_HOSTS);
    }
}
