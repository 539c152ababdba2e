//! Networks in CIDR form.

use std::fmt;
use std::net::IpAddr;

/// A network; host bits are cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    base: IpAddr,
    prefix: u8,
}

impl Net {
    /// Parses `address/prefix`; `kind` is `rg4` or `rg6`.
    pub fn parse(kind: &str, text: &str) -> Result<Self, &'static str> {
        let (base, prefix) = text.split_once('/').ok_or("a network is written address/prefix")?;
        let base: IpAddr = base.parse().map_err(|_| "the part before the slash is not an IP address")?;
        if base.is_ipv4() != (kind == "rg4") {
            return Err("the address is of the other family");
        }
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let prefix =
            prefix.parse().ok().filter(|prefix| *prefix <= bits).ok_or("the prefix is out of range")?;
        Ok(Net { base: mask(base, prefix), prefix })
    }

    /// The network of this address with so many leading bits.
    pub fn of(address: IpAddr, prefix: u8) -> Self {
        Net { base: mask(address, prefix), prefix }
    }

    /// True if the address lies in the network. An IPv4 address that arrived over IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && mask(address, self.prefix) == self.base
    }

    /// The network that a text means, of either family.
    pub fn of_text(text: &str) -> Option<Self> {
        Self::parse("rg4", text).or_else(|_| Self::parse("rg6", text)).ok()
    }

    /// True if all of another network lies in it.
    pub fn covers(&self, other: &Net) -> bool {
        other.prefix >= self.prefix
            && other.base.is_ipv4() == self.base.is_ipv4()
            && mask(other.base, self.prefix) == self.base
    }

    /// The first and the last address.
    pub fn bounds(&self) -> (IpAddr, IpAddr) {
        let last = match self.base {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() | host).into())
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() | host).into())
            }
        };
        (self.base, last)
    }

    /// `rg4` or `rg6`.
    pub const fn kind(&self) -> &'static str {
        if self.base.is_ipv4() { "rg4" } else { "rg6" }
    }
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    let keep = |bits: u8| bits.saturating_sub(prefix);
    match address {
        IpAddr::V4(v4) => {
            let shift = u32::from(keep(32));
            let kept = v4.to_bits().checked_shr(shift).and_then(|kept| kept.checked_shl(shift)).unwrap_or(0);
            IpAddr::V4(kept.into())
        }
        IpAddr::V6(v6) => {
            let shift = u32::from(keep(128));
            let kept = v6.to_bits().checked_shr(shift).and_then(|kept| kept.checked_shl(shift)).unwrap_or(0);
            IpAddr::V6(kept.into())
        }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership() {
        for (kind, net, address, inside) in [
            ("rg4", "10.0.0.0/8", "10.255.0.1", true),
            ("rg4", "10.0.0.0/8", "11.0.0.1", false),
            ("rg4", "10.1.2.3/8", "10.0.0.0", true),
            ("rg4", "0.0.0.0/0", "203.0.113.9", true),
            ("rg4", "203.0.113.9/32", "203.0.113.9", true),
            ("rg4", "203.0.113.9/32", "203.0.113.8", false),
            ("rg4", "10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("rg4", "0.0.0.0/0", "2001:db8::1", false),
            ("rg6", "2001:db8::/32", "2001:db8:1::1", true),
            ("rg6", "::/0", "2001:db8:1::1", true),
            ("rg6", "2001:db8::1/128", "2001:db8::2", false),
        ] {
            let parsed = Net::parse(kind, net).unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), inside, "{address} in {net}");
        }
    }

    #[test]
    fn bad_networks_are_refused() {
        for (kind, bad) in [
            ("rg4", "10.0.0.1"),
            ("rg4", "10.0.0.0/33"),
            ("rg4", "::/0"),
            ("rg6", "10.0.0.0/8"),
            ("rg6", "x/1"),
            ("rg4", ""),
        ] {
            assert!(Net::parse(kind, bad).is_err(), "{bad}");
        }
    }
}
