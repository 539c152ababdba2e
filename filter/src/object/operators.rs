//! What `==` and `in` mean between values, both ways. Combinations that cannot mean anything are faults, so that a rule
//! that compares the wrong things is seen and not silently false.

use std::net::IpAddr;
use std::sync::Arc;

use vsmtp_mail::{Address, Domain};

use super::{Fault, Net, Object};

/// Deepest group inside a group that is looked at.
const MAX_NESTING: usize = 16;

/// `a == b`: the same type and value; different types are simply different.
pub fn equals(a: &Object, b: &Object) -> bool {
    match (a, b) {
        (Object::Ip4(a), Object::Ip4(b)) => a == b,
        (Object::Ip6(a), Object::Ip6(b)) => a == b,
        (Object::Range(a), Object::Range(b)) => a == b,
        (Object::Address(a), Object::Address(b)) => a == b,
        (Object::Fqdn(a), Object::Fqdn(b)) => a == b,
        (Object::Regex(a), Object::Regex(b)) => a.as_str() == b.as_str(),
        (Object::Identifier(a), Object::Identifier(b)) => a == b,
        (Object::Code(a), Object::Code(b)) => a == b,
        (Object::Group(a), Object::Group(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| equals(a, b))
        }
        (Object::File(a), Object::File(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// `object == "text"`.
pub fn equals_text(object: &Object, text: &str) -> Result<bool, Fault> {
    match object {
        Object::Ip4(_) | Object::Ip6(_) => {
            Ok(text.parse::<IpAddr>().is_ok_and(|ip| equals(object, &Object::ip(ip))))
        }
        Object::Address(address) => {
            Ok(may_be_mailbox(address, text) && Address::parse(text).is_ok_and(|other| other == **address))
        }
        Object::Fqdn(domain) => {
            Ok(may_be_domain(domain, text) && Domain::parse(text).is_ok_and(|other| other == **domain))
        }
        Object::Regex(regex) => Ok(regex.is_match(text)),
        Object::Identifier(name) => Ok(name.as_str() == text),
        Object::Range(_) | Object::Code(_) | Object::Group(_) | Object::File(_) => {
            Err(Fault::new(format!("a {} cannot be compared with a string", object.kind())))
        }
    }
}

/// False if a text surely is another mailbox, as most that rules compare are: no need to take it apart.
fn may_be_mailbox(address: &Address, text: &str) -> bool {
    if text.starts_with('"') {
        return true;
    }
    text.split_once('@').is_some_and(|(local, domain)| {
        local == address.local_part() && may_be_domain(address.domain(), domain)
    })
}

/// False if a text surely is another domain.
fn may_be_domain(domain: &Domain, text: &str) -> bool {
    !text.is_ascii() || text.starts_with('[') || text.eq_ignore_ascii_case(domain.as_str())
}

/// `needle in haystack`; a string is an identifier whose type is not known yet.
pub fn contains(haystack: &Object, needle: &Object) -> Result<bool, Fault> {
    within(haystack, needle, 0)
}

fn within(haystack: &Object, needle: &Object, depth: usize) -> Result<bool, Fault> {
    if depth > MAX_NESTING {
        return Err(Fault::new("groups are nested too deeply"));
    }
    if let Object::File(file) = haystack
        && let Some(found) = file.holds(needle)
    {
        return Ok(found);
    }
    match haystack {
        Object::Range(net) => match needle {
            Object::Ip4(address) => Ok(net.contains(IpAddr::V4(*address))),
            Object::Ip6(address) => Ok(net.contains(IpAddr::V6(*address))),
            Object::Identifier(text) => in_net(net, text)
                .ok_or_else(|| Fault::new(format!("'{text}' is neither an IP address nor a network"))),
            Object::Range(other) => Ok(net.covers(other)),
            other => Err(Fault::new(format!("a {} cannot lie in a network", other.kind()))),
        },
        Object::Regex(regex) => Ok(regex.is_match(&needle.text())),
        Object::Address(address) => {
            match needle {
                Object::Identifier(text) => Ok(text.as_str() == address.local_part()
                    || text.eq_ignore_ascii_case(address.domain().as_str())),
                Object::Fqdn(domain) => Ok(**domain == *address.domain()),
                other => Err(Fault::new(format!("a {} cannot be part of an address", other.kind()))),
            }
        }
        // What stands behind the at sign was a string in vSL 1.x.
        Object::Fqdn(domain) if matches!(needle, Object::Identifier(_)) => {
            let (domain, part) = (domain.as_str().to_ascii_lowercase(), needle.text().to_ascii_lowercase());
            Ok(domain.contains(&part))
        }
        Object::Group(_) | Object::File(_) => {
            for item in haystack.members().unwrap_or_default() {
                if member(item, needle, depth)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        other => Err(Fault::new(format!("'in' does not work on a {}", other.kind()))),
    }
}

/// Whether the address or the network that a text means lies in a network.
fn in_net(net: &Net, text: &str) -> Option<bool> {
    match text.parse() {
        Ok(address) => Some(net.contains(address)),
        Err(_) => Net::of_text(text).map(|inner| net.covers(&inner)),
    }
}

/// Membership in a group: equal to a member, or inside a member that can hold others.
fn member(item: &Object, needle: &Object, depth: usize) -> Result<bool, Fault> {
    match (item, needle) {
        (Object::Group(_) | Object::File(_), _) => within(item, needle, depth + 1),
        (Object::Range(net), Object::Identifier(text)) => Ok(in_net(net, text).unwrap_or(false)),
        (Object::Range(_), Object::Ip4(_) | Object::Ip6(_)) => within(item, needle, depth),
        (Object::Regex(_), needle) if !matches!(needle, Object::Regex(_)) => within(item, needle, depth),
        (Object::Code(_), Object::Identifier(_)) => Ok(false),
        (item, Object::Identifier(text)) => equals_text(item, text),
        (Object::Identifier(text), needle)
            if !matches!(needle, Object::Range(_) | Object::Code(_) | Object::Group(_) | Object::File(_)) =>
        {
            equals_text(needle, text)
        }
        _ => Ok(equals(item, needle)),
    }
}

/// A group of values.
impl From<Vec<Object>> for Object {
    fn from(items: Vec<Object>) -> Self {
        Object::Group(Arc::from(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(spec: &str) -> Object {
        let (kind, text) = spec.split_once(' ').unwrap();
        if kind == "group" {
            return Object::from(text.split('|').map(make).collect::<Vec<_>>());
        }
        Object::parse(kind, text).unwrap()
    }

    #[test]
    fn the_table_of_equality() {
        for (object, text, equal) in [
            ("address John@Example.com", "John@EXAMPLE.com", true),
            ("address John@Example.com", "john@example.com", false),
            ("address a@b.c", "not an address", false),
            ("address a@b.c", "\"a\"@b.c", true),
            ("address a@b.c", "\"b\"@b.c", false),
            ("address a@b.c", "a@b.cc", false),
            ("address \"a b\"@b.c", "a b@b.c", false),
            ("address \"a b\"@b.c", "\"a b\"@b.c", true),
            ("address a@xn--bcher-kva.example", "a@b\u{fc}cher.example", true),
            ("address a@[IPv6:::1]", "a@[IPv6:0:0::1]", true),
            ("fqdn xn--bcher-kva.example", "B\u{fc}cher.example", true),
            ("fqdn a.example", "b.example", false),
            ("fqdn [IPv6:::1]", "[ipv6:0::1]", true),
            ("fqdn Example.com", "example.COM", true),
            ("ip4 10.0.0.1", "10.0.0.1", true),
            ("ip6 ::1", "0:0:0:0:0:0:0:1", true),
            ("regex ^a+$", "aaa", true),
            ("regex ^a+$", "aab", false),
            ("identifier x", "x", true),
        ] {
            assert_eq!(equals_text(&make(object), text), Ok(equal), "{object} == {text}");
        }
        assert!(equals_text(&make("rg4 10.0.0.0/8"), "10.0.0.0/8").is_err());
        assert!(equals_text(&make("code 250 ok"), "250 ok").is_err());
        assert!(equals(&make("address a@b.c"), &make("address a@B.C")));
        assert!(!equals(&make("identifier b.c"), &make("fqdn b.c")));
    }

    #[test]
    fn the_table_of_membership() {
        for (needle, haystack, inside) in [
            ("identifier 10.1.2.3", "rg4 10.0.0.0/8", true),
            ("ip4 11.1.2.3", "rg4 10.0.0.0/8", false),
            ("ip6 2001:db8::5", "rg6 2001:db8::/32", true),
            ("identifier 10.1.2.3/32", "rg4 10.0.0.0/8", true),
            ("identifier 10.0.0.0/7", "rg4 10.0.0.0/8", false),
            ("identifier 10.1.0.0/16", "rg6 ::/0", false),
            ("rg4 10.1.0.0/16", "rg4 10.0.0.0/8", true),
            ("rg4 10.0.0.0/8", "rg4 10.0.0.0/16", false),
            ("identifier 192.168.3.0/24", "group rg4 10.0.0.0/8|rg4 192.168.0.0/16", true),
            ("identifier Example", "fqdn mx.example.com", true),
            ("identifier other", "fqdn mx.example.com", false),
            ("identifier aaa", "regex ^a+$", true),
            ("address aaa@b.c", "regex ^a+@", true),
            ("identifier john", "address john@example.com", true),
            ("identifier Example.com", "address john@example.com", true),
            ("fqdn example.com", "address john@example.com", true),
            ("identifier other", "address john@example.com", false),
            ("identifier 192.168.3.4", "group rg4 10.0.0.0/8|rg4 192.168.0.0/16", true),
            ("identifier no-ip", "group rg4 10.0.0.0/8|rg4 192.168.0.0/16", false),
            ("address a@b.c", "group address x@y.z|address a@b.c", true),
            ("address a@b.c", "group identifier a@b.c|fqdn b.c", true),
            ("identifier a@b.c", "group regex ^a@|fqdn b.c", true),
            ("fqdn b.c", "group fqdn b.d|ip4 1.1.1.1", false),
        ] {
            assert_eq!(contains(&make(haystack), &make(needle)), Ok(inside), "{needle} in {haystack}");
        }
        for (needle, haystack) in [
            ("identifier x", "rg4 10.0.0.0/8"),
            ("fqdn a.b", "rg4 10.0.0.0/8"),
            ("ip4 1.1.1.1", "identifier x"),
        ] {
            assert!(contains(&make(haystack), &make(needle)).is_err(), "{needle} in {haystack}");
        }
    }

    #[test]
    fn values_that_are_not_valid_cannot_be_made() {
        for bad in [
            "ip4 ::1",
            "ip4 256.1.1.1",
            "ip6 1.2.3.4",
            "rg4 10.0.0.0",
            "address a",
            "address a@b\r\nc",
            "fqdn a..b",
            "regex (",
            "regex (a{1000}){1000}",
            "code 99 x",
            "code hello",
            "other x",
        ] {
            let (kind, text) = bad.split_once(' ').unwrap();
            assert!(Object::parse(kind, text).is_err(), "{bad}");
        }
    }
}
