//! Sets of addresses and networks that answer in logarithmic time, however many they hold.

use std::net::IpAddr;

use crate::object::{Fault, Net};

/// Most networks of one set.
const MAX_NETWORKS: usize = 4_000_000;

/// A set of addresses: disjoint ranges, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl NetSet {
    /// Reads one address or network per line; `#` and `;` begin comments.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut nets = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let word = line.split(['#', ';']).next().unwrap_or_default().trim();
            if word.is_empty() {
                continue;
            }
            nets.push(net(word).map_err(|why| Fault(format!("line {}: '{word}': {why}", at + 1)))?);
            if nets.len() > MAX_NETWORKS {
                return Err(Fault(format!("more than {MAX_NETWORKS} networks")));
            }
        }
        Ok(Self::of(nets))
    }

    /// The set of these networks.
    pub fn of(nets: impl IntoIterator<Item = Net>) -> Self {
        let mut set = NetSet::default();
        for net in nets {
            match net.bounds() {
                (IpAddr::V4(first), IpAddr::V4(last)) => set.v4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => set.v6.push((first.to_bits(), last.to_bits())),
                _ => {}
            }
        }
        merge(&mut set.v4, |last| last.checked_add(1));
        merge(&mut set.v6, |last| last.checked_add(1));
        set
    }

    /// True if the address is in the set. An IPv4 address that arrived over IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => holds(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => holds(&self.v6, v6.to_bits()),
        }
    }

    /// Ranges in the set; networks that touch are one.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// True if nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A network, or an address as the network of one.
pub fn net(word: &str) -> Result<Net, &'static str> {
    let family = if word.contains(':') { "rg6" } else { "rg4" };
    match word.contains('/') {
        true => Net::parse(family, word),
        false => Net::parse(family, &format!("{word}/{}", if family == "rg6" { 128 } else { 32 })),
    }
}

fn merge<T: Copy + Ord>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> Option<T>) {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges.drain(..) {
        match merged.last_mut() {
            Some((_, end)) if next(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    *ranges = merged;
}

fn holds<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let at = ranges.partition_point(|(first, _)| *first <= address);
    at.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_of_addresses_and_networks() {
        let text =
            "# ours\n10.0.0.0/8\n 192.0.2.7 ; one host\n10.1.0.0/16\n192.0.2.8/30\n\n2001:db8::/32\n::1\n";
        let set = NetSet::parse(text).unwrap();
        for (address, inside) in [
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("192.0.2.11", true),
            ("192.0.2.12", false),
            ("::ffff:10.0.0.1", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::1", true),
            ("::2", false),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), inside, "{address}");
        }
        // 10.1/16 lies in 10/8; 192.0.2.7 and 192.0.2.8/30 touch.
        assert_eq!((set.len(), set.v4.len()), (4, 2));
    }

    #[test]
    fn everything_and_nothing() {
        let all = NetSet::parse("0.0.0.0/0\n::/0").unwrap();
        assert!(all.contains("255.255.255.255".parse().unwrap()) && all.contains("ffff::".parse().unwrap()));
        let none = NetSet::parse("\n# nothing\n").unwrap();
        assert!(none.is_empty() && !none.contains("0.0.0.0".parse().unwrap()));
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, words) in [
            ("10.0.0.0/8\nx", "line 2: 'x'"),
            ("10.0.0.0/33", "line 1"),
            ("::/129", "line 1"),
            ("1.2.3", "line 1"),
        ] {
            assert!(NetSet::parse(text).unwrap_err().0.contains(words), "{text}");
        }
    }
}
