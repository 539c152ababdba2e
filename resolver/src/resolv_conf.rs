//! Name servers of this machine, from the text of `resolv.conf(5)`. Search domains are not even read: every name asked is
//! complete.

use std::net::{IpAddr, SocketAddr};

/// Most name servers; more are left out.
pub const MAX_SERVERS: usize = 8;
const DNS_PORT: u16 = 53;

/// What counts of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// In the order of the file.
    pub servers: Vec<SocketAddr>,
    /// The administrator says that the servers' AD bit can be believed.
    pub trust_ad: bool,
}

impl ResolvConf {
    /// Reads the text; what cannot be understood, such as a link-local address with its interface, is left out.
    pub fn parse(text: &str) -> Self {
        let mut conf = ResolvConf::default();
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or("").split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    if let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok())
                        && conf.servers.len() < MAX_SERVERS
                    {
                        conf.servers.push(SocketAddr::new(ip, DNS_PORT));
                    }
                }
                Some("options") => conf.trust_ad |= words.any(|word| word == "trust-ad"),
                _ => {}
            }
        }
        conf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_trust_are_read_and_nothing_else() {
        let text = "# made by hand\nsearch a.example b.example\nnameserver 192.0.2.1 # first\n nameserver\t2001:db8::1\n\
                    nameserver fe80::1%eth0\nnameserver\noptions edns0 trust-ad\nnameserverr 192.0.2.9\n";
        let conf = ResolvConf::parse(text);
        assert_eq!(conf.servers, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
        assert!(conf.trust_ad);
        assert_eq!(ResolvConf::parse(""), ResolvConf::default());
        assert_eq!(ResolvConf::parse(&"nameserver 192.0.2.1\n".repeat(100)).servers.len(), MAX_SERVERS);
    }
}
