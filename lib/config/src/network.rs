//! A range of client addresses, as operators write it: `192.0.2.0/24`, `2001:db8::/32`, or one address.

use std::fmt;
use std::net::IpAddr;

use crate::by_text::Textual;

/// A network in CIDR form. The host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `address/prefix` or a bare address. Host bits that are set are an error: a typo there opens a relay.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => width,
        };
        let network = Network { address, prefix };
        (prefix <= width && network.masked(address) == bits(address)).then_some(network)
    }

    /// True if `address` lies in the network. An IPv4 address that arrived over IPv6 (`::ffff:…`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && self.masked(address) == bits(self.address)
    }

    /// True if all of `other` lies in the network.
    pub fn holds(&self, other: &Network) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    fn masked(&self, address: IpAddr) -> u128 {
        let width = if address.is_ipv4() { 32 } else { 128 };
        let host_bits = u32::from(width - self.prefix.min(width));
        bits(address) & u128::MAX.checked_shl(host_bits).unwrap_or(0)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Textual for Network {
    fn from_text(text: &str) -> Option<Self> {
        Network::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn networks_in_networks() {
        let network = |text| Network::parse(text).unwrap();
        assert!(network("10.0.0.0/8").holds(&network("10.1.0.0/16")));
        assert!(network("10.0.0.0/8").holds(&network("10.0.0.0/8")));
        assert!(!network("10.1.0.0/16").holds(&network("10.0.0.0/8")));
        assert!(!network("10.0.0.0/8").holds(&network("11.0.0.0/8")));
        assert!(!network("::/0").holds(&network("10.0.0.0/8")));
    }

    #[test]
    fn membership() {
        assert!(holds("127.0.0.0/8", "127.255.0.1"));
        assert!(!holds("127.0.0.0/8", "128.0.0.1"));
        assert!(holds("0.0.0.0/0", "192.0.2.1"));
        assert!(!holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(!holds("::/0", "192.0.2.1"));
        assert!(holds("192.0.2.7", "::ffff:192.0.2.7"));
        assert!(holds("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!holds("2001:db8::/33", "2001:db8:8000::1"));
    }

    #[test]
    fn what_is_not_a_network() {
        for bad in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::1/129",
            "10.0.0.0/+8",
            "localhost",
            "10.0/8",
        ] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
        assert_eq!(Network::parse("::1").unwrap().to_string(), "::1/128");
    }
}
