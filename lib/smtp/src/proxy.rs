//! The header that a load balancer writes before the client's first octet: the PROXY protocol, versions 1 and 2. Pure
//! parsing of hostile input; whether the sender may write one is the caller's to know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of either version, in octets. Version 2 may carry more than addresses, which is skipped.
pub const MAX_PROXY_HEADER: usize = 2048;
/// Longest header of version 1 with its CRLF, in octets.
const MAX_TEXT: usize = 107;
const TEXT: &[u8] = b"PROXY ";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of version 2 before its addresses.
const BINARY_FIXED: usize = 16;

/// What the beginning of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// More of it must come.
    Partial,
    /// The whole header, of `used` octets.
    Complete {
        /// Its length.
        used: usize,
        /// The client, and the address that it has reached; `None` if the balancer speaks for itself or does not know.
        addresses: Option<(SocketAddr, SocketAddr)>,
    },
    /// No header, or a broken one.
    Malformed,
}

impl ProxyHeader {
    /// Looks at all that has come so far.
    pub fn parse(input: &[u8]) -> ProxyHeader {
        if begins(input, BINARY) {
            binary(input).unwrap_or(ProxyHeader::Malformed)
        } else if begins(input, TEXT) {
            text(input).unwrap_or(ProxyHeader::Malformed)
        } else {
            ProxyHeader::Malformed
        }
    }
}

/// True if both agree as far as there is input.
fn begins(input: &[u8], wanted: &[u8]) -> bool {
    input.iter().zip(wanted).all(|(a, b)| a == b)
}

fn text(input: &[u8]) -> Option<ProxyHeader> {
    let window = input.get(..MAX_TEXT).unwrap_or(input);
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return (window.len() < MAX_TEXT).then_some(ProxyHeader::Partial);
    };
    let line = std::str::from_utf8(window.get(TEXT.len()..end)?).ok()?;
    let used = end + 2;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(ProxyHeader::Complete { used, addresses: None });
    }
    let words: Vec<&str> = line.split(' ').collect();
    let [family, client, server, client_port, server_port] = words[..] else { return None };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse().ok().map(IpAddr::V4),
            "TCP6" => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let port = |text: &str| -> Option<u16> {
        let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let client = SocketAddr::new(address(client)?.to_canonical(), port(client_port)?);
    let server = SocketAddr::new(address(server)?.to_canonical(), port(server_port)?);
    Some(ProxyHeader::Complete { used, addresses: Some((client, server)) })
}

fn binary(input: &[u8]) -> Option<ProxyHeader> {
    let Some(fixed) = input.get(..BINARY_FIXED) else { return Some(ProxyHeader::Partial) };
    let &[command, family, high, low] = fixed.get(BINARY.len()..)?.first_chunk::<4>()?;
    let used = BINARY_FIXED + usize::from(number(high, low));
    if used > MAX_PROXY_HEADER || command >> 4 != 2 {
        return None;
    }
    let addresses = match (command & 15, family) {
        // LOCAL: the balancer asks for itself, whatever follows.
        (0, _) => 0,
        (1, 0x11) => 12,
        (1, 0x21) => 36,
        // Unspecified, datagrams and Unix sockets: nothing that a mail server can use.
        (1, _) => 0,
        _ => return None,
    };
    if used - BINARY_FIXED < addresses {
        return None;
    }
    let Some(whole) = input.get(BINARY_FIXED..used) else { return Some(ProxyHeader::Partial) };
    let addresses = match addresses {
        12 => pair(whole, |octets: [u8; 4]| IpAddr::V4(Ipv4Addr::from(octets))),
        36 => pair(whole, |octets: [u8; 16]| IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()),
        _ => None,
    };
    Some(ProxyHeader::Complete { used, addresses })
}

/// Two addresses, then two ports.
fn pair<const N: usize>(
    block: &[u8],
    address: impl Fn([u8; N]) -> IpAddr,
) -> Option<(SocketAddr, SocketAddr)> {
    let (client, rest) = block.split_first_chunk::<N>()?;
    let (server, rest) = rest.split_first_chunk::<N>()?;
    let &[a, b, c, d] = rest.first_chunk::<4>()?;
    let at = |octets: &[u8; N], high, low| SocketAddr::new(address(*octets), number(high, low));
    Some((at(client, a, b), at(server, c, d)))
}

fn number(high: u8, low: u8) -> u16 {
    u16::from(high) << 8 | u16::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(input: &[u8]) -> Option<(usize, Option<(String, String)>)> {
        match ProxyHeader::parse(input) {
            ProxyHeader::Complete { used, addresses } => {
                Some((used, addresses.map(|(client, server)| (client.to_string(), server.to_string()))))
            }
            _ => None,
        }
    }

    fn two(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = block.len();
        [BINARY, &[command, family, (length >> 8) as u8, length as u8], block, b"EHLO"].concat()
    }

    fn named(client: &str, server: &str) -> Option<(String, String)> {
        Some((client.to_owned(), server.to_owned()))
    }

    #[test]
    fn version_one() {
        let header = b"PROXY TCP4 192.0.2.1 198.51.100.2 4000 25\r\n";
        let rest = [&header[..], b"EHLO a\r\n"].concat();
        assert_eq!(complete(&rest), Some((43, named("192.0.2.1:4000", "198.51.100.2:25"))));
        assert_eq!(
            complete(b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 4000 465\r\n").unwrap().1,
            named("192.0.2.1:4000", "[2001:db8::2]:465")
        );
        assert_eq!(complete(b"PROXY UNKNOWN\r\n"), Some((15, None)));
        assert_eq!(complete(b"PROXY UNKNOWN x y\r\n"), Some((19, None)));
        for at in 0..header.len() {
            assert_eq!(ProxyHeader::parse(&header[..at]), ProxyHeader::Partial, "{at}");
        }
    }

    #[test]
    fn version_two() {
        let four = [192, 0, 2, 1, 198, 51, 100, 2, 15, 160, 0, 25];
        let header = two(0x21, 0x11, &four);
        assert_eq!(complete(&header), Some((28, named("192.0.2.1:4000", "198.51.100.2:25"))));
        let more = two(0x21, 0x11, &[&four[..], b"\x04\0\x03abc"].concat());
        assert_eq!(complete(&more), Some((34, named("192.0.2.1:4000", "198.51.100.2:25"))));
        for at in 0..28 {
            assert_eq!(ProxyHeader::parse(&header[..at]), ProxyHeader::Partial, "{at}");
        }
        let mapped = [&[0; 10][..], &[255, 255, 192, 0, 2, 1], &[0; 15], &[1], &[15, 160, 0, 25]].concat();
        assert_eq!(complete(&two(0x21, 0x21, &mapped)).unwrap().1, named("192.0.2.1:4000", "[::1]:25"));
        for (command, family) in [(0x20, 0x11), (0x21, 0), (0x21, 0x12), (0x21, 0x31)] {
            assert_eq!(complete(&two(command, family, &four)), Some((28, None)));
        }
    }

    #[test]
    fn what_is_no_header() {
        for bad in [
            &b"EHLO a\r\n"[..],
            b"PROXY TCP4 192.0.2.1 198.51.100.2 4000\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 4000 25 x\r\n",
            b"PROXY TCP4 ::1 ::2 4000 25\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 +400 25\r\n",
            b"PROXY  TCP4 192.0.2.1 198.51.100.2 4000 25\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.2 4000 25\r\n",
            b"PROXY \xff\r\n",
            &[b'P'; 3],
            &[&b"PROXY "[..], &[b'x'; 200]].concat(),
            &two(0x11, 0x11, &[0; 12]),
            &two(0x22, 0x11, &[0; 12]),
            &two(0x21, 0x11, &[0; 11]),
            &two(0x21, 0x21, &[0; 35]),
            &two(0x21, 0x11, &[0; 2048]),
        ] {
            assert_eq!(ProxyHeader::parse(bad), ProxyHeader::Malformed, "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_bounded(input in proptest::collection::vec(proptest::num::u8::ANY, 0..300), version in 0..3) {
            let start = [&b""[..], TEXT, BINARY][version as usize];
            let input = [start, &input].concat();
            match ProxyHeader::parse(&input) {
                ProxyHeader::Complete { used, .. } => proptest::prop_assert!(used <= input.len()),
                ProxyHeader::Partial => proptest::prop_assert!(input.len() < MAX_PROXY_HEADER),
                ProxyHeader::Malformed => {}
            }
        }
    }
}
