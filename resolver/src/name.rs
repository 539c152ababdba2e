//! Names between text and the DNS: texts of clients become names that can be asked, names that strangers chose become
//! host names or nothing.

use std::net::IpAddr;

use hickory_resolver::proto::rr::Name;
use vsmtp_mail::Domain;

/// Longest text of a name, in octets: 253 and a dot, four times over for U-labels.
const MAX_TEXT: usize = 1024;
/// Longest label, in octets (RFC 1035 2.3.4).
const MAX_LABEL: usize = 63;

/// The name to ask for, always from the root; `None` if that text cannot be asked.
///
/// Any visible ASCII is taken literally, since SPF and DKIM make names of what senders wrote; a backslash is refused, so
/// that nothing can be read as an escape. Texts beyond ASCII must be host names.
pub fn parse(text: &str) -> Option<Name> {
    if text.len() > MAX_TEXT || text.parse::<IpAddr>().is_ok() {
        return None;
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_ascii() {
        parse_ascii(&text.to_ascii_lowercase(), u8::is_ascii_graphic)
    } else {
        parse_ascii(Domain::parse(text).ok()?.as_str(), u8::is_ascii_graphic)
    }
}

/// The same of what the macros of SPF have made, which may have spaces too (RFC 7208 7.1).
pub fn parse_made(text: &str) -> Option<Name> {
    if text.contains(' ') && text.len() <= MAX_TEXT {
        let text = text.strip_suffix('.').unwrap_or(text);
        return parse_ascii(&text.to_ascii_lowercase(), |octet| matches!(octet, b' '..=b'~'));
    }
    parse(text)
}

fn parse_ascii(text: &str, is_allowed: impl Fn(&u8) -> bool) -> Option<Name> {
    let mut name = Name::root();
    for label in text.as_bytes().split(|&octet| octet == b'.') {
        let visible = label.iter().all(|octet| is_allowed(octet) && *octet != b'\\');
        if label.is_empty() || label.len() > MAX_LABEL || !visible {
            return None;
        }
        name = name.append_label(label).ok()?;
    }
    name.set_fqdn(true);
    Some(name)
}

/// The name under which the names of an address stand.
pub fn of_address(address: IpAddr) -> Name {
    let mut name = Name::from(address.to_canonical());
    name.set_fqdn(true);
    name
}

/// The text of a host name in lower case without the root dot; `None` if hosts cannot have such a name, or if it looks
/// like an address.
pub fn host_text(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if label.is_empty()
            || !label.iter().all(|octet| matches!(octet, b'-' | b'_') || octet.is_ascii_alphanumeric())
        {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|octet| char::from(octet.to_ascii_lowercase())));
    }
    let last = text.rsplit('.').next().unwrap_or("");
    let numeric = last.bytes().all(|octet| octet.is_ascii_digit());
    (!text.is_empty() && !numeric).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels, each followed by a dot, without escapes.
    fn asked(text: &str) -> Option<String> {
        let label = |label: &[u8]| format!("{}.", String::from_utf8(label.to_vec()).unwrap());
        parse(text).map(|name| name.iter().map(label).collect())
    }

    #[test]
    fn texts_become_names_from_the_root() {
        assert_eq!(asked("Example.COM").as_deref(), Some("example.com."));
        assert_eq!(asked("example.com.").as_deref(), Some("example.com."));
        assert_eq!(asked("_25._tcp.mx.example.com").as_deref(), Some("_25._tcp.mx.example.com."));
        assert_eq!(asked("a+b/c.spf.example").as_deref(), Some("a+b/c.spf.example."));
        assert_eq!(asked("bücher.example").as_deref(), Some("xn--bcher-kva.example."));
        assert_eq!(asked("localhost").as_deref(), Some("localhost."));
        assert_eq!(asked(&format!("{}.example", "a".repeat(63))).map(|text| text.len()), Some(72));
        assert!(parse("example.com").unwrap().is_fqdn());
    }

    #[test]
    fn texts_that_cannot_be_asked_are_refused() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long = format!("{}example", "a.".repeat(125));
        let bad = [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a\0b",
            "a\nb",
            "a\\046b",
            "192.0.2.1",
            "::1",
            "\u{200b}.example",
        ];
        for text in bad.into_iter().chain([long_label.as_str(), long.as_str(), &"x".repeat(5000)]) {
            assert_eq!(asked(text), None, "{text:?}");
        }
    }

    #[test]
    fn addresses_have_their_reverse_names() {
        assert_eq!(of_address("192.0.2.1".parse().unwrap()).to_ascii(), "1.2.0.192.in-addr.arpa.");
        assert_eq!(of_address("::ffff:192.0.2.1".parse().unwrap()).to_ascii(), "1.2.0.192.in-addr.arpa.");
        let v6 = of_address("2001:db8::1".parse().unwrap()).to_ascii();
        assert_eq!(v6, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.");
    }

    #[test]
    fn strangers_names_are_host_names_or_nothing() {
        let of = |labels: &[&[u8]]| host_text(&Name::from_labels(labels.iter().copied()).unwrap());
        assert_eq!(of(&[b"MX1", b"Example"]).as_deref(), Some("mx1.example"));
        assert_eq!(of(&[b"a_b", b"c-d"]).as_deref(), Some("a_b.c-d"));
        for bad in
            [&[b"a.b".as_slice(), b"c"], &[b"a\nb", b"c"], &[b"\xff", b"c"], &[b"10", b"1"], &[b"a b", b"c"]]
        {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        assert_eq!(host_text(&Name::root()), None);
    }
}
