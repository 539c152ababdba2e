//! What macros stand for (RFC 7208 7.3, 7.4).

use std::net::IpAddr;

use super::check::Subject;
use super::macros::{Macro, Part, Template};
use crate::zone::{Judged, Zone};

/// Longest name, in octets, without the root dot.
const MAX_NAME: usize = 253;
/// Names of an address that are looked at (RFC 7208 4.6.4).
const MAX_NAMES: usize = 10;
/// Longest text that macros make, in octets; an explanation is cut further on.
const MAX_TEXT: usize = 8_192;

/// The text with every macro replaced. `domain` is the domain whose record it is.
pub fn expand(template: &Template, subject: &Subject, domain: &str, zone: &mut dyn Zone) -> Judged<String> {
    let mut text = String::new();
    for part in template {
        match part {
            Part::Literal(literal) => text.push_str(literal),
            Part::Macro(found) => text.push_str(&value(found, subject, domain, zone)?),
        }
        if text.len() > MAX_TEXT {
            break;
        }
    }
    Ok(text)
}

/// The same as a name to ask for: what is too long loses labels on its left.
pub fn expand_name(
    template: &Template,
    subject: &Subject,
    domain: &str,
    zone: &mut dyn Zone,
) -> Judged<String> {
    let text = expand(template, subject, domain, zone)?;
    let mut name = text.strip_suffix('.').unwrap_or(&text);
    while name.len() > MAX_NAME {
        let Some((_, rest)) = name.split_once('.') else { break };
        name = rest;
    }
    Ok(name.to_owned())
}

fn value(found: &Macro, subject: &Subject, domain: &str, zone: &mut dyn Zone) -> Judged<String> {
    let raw = match found.letter {
        's' => format!("{}@{}", subject.local, subject.domain),
        'l' => subject.local.clone(),
        'o' => subject.domain.clone(),
        'd' => domain.to_owned(),
        'i' => dotted(subject.client),
        'p' => proven_name(subject, domain, zone)?,
        'v' => if subject.client.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
        'h' => subject.helo.clone(),
        'c' => subject.client.to_string(),
        'r' => subject.receiver.clone(),
        't' => subject.now_s.to_string(),
        _ => String::new(),
    };
    let delimiters = if found.delimiters.is_empty() { "." } else { &found.delimiters };
    let mut parts: Vec<&str> = raw.split(|c| delimiters.contains(c)).collect();
    if found.reverse {
        parts.reverse();
    }
    let skip = found.keep.map_or(0, |keep| parts.len().saturating_sub(keep));
    let is_plain = !found.reverse && skip == 0 && found.delimiters.is_empty();
    let text = if is_plain { raw.clone() } else { parts.get(skip..).unwrap_or_default().join(".") };
    Ok(if found.escape { escape(&text) } else { text })
}

/// An IPv6 address is written nibble by nibble.
fn dotted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            nibbles.map(|nibble| format!("{nibble:X}")).collect::<Vec<_>>().join(".")
        }
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for octet in text.bytes() {
        match octet {
            b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(octet)),
            _ if octet.is_ascii_alphanumeric() => escaped.push(char::from(octet)),
            _ => escaped.push_str(&format!("%{octet:02X}")),
        }
    }
    escaped
}

/// The names of the client that lead back to its address, as far as they are looked at; `None` if nobody can tell.
pub fn proven_names(subject: &Subject, zone: &mut dyn Zone) -> Judged<Option<Vec<String>>> {
    let Ok(names) = zone.names(subject.client)? else { return Ok(None) };
    let names: Vec<String> = names.into_iter().take(MAX_NAMES).collect();
    // All are asked before the first that is missing ends this turn.
    let found: Vec<_> = names.iter().map(|name| zone.addresses(name, subject.client)).collect();
    let mut proven = Vec::new();
    for (name, found) in names.into_iter().zip(found) {
        if found?.is_ok_and(|addresses| addresses.contains(&subject.client)) {
            proven.push(name);
        }
    }
    Ok(Some(proven))
}

/// True if the name is that domain or below it.
pub fn is_within(name: &str, domain: &str) -> bool {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let Some(at) = name.len().checked_sub(domain.len()) else { return false };
    let tail = name.get(at..).is_some_and(|tail| tail.eq_ignore_ascii_case(domain));
    tail && (at == 0 || name.as_bytes().get(at - 1) == Some(&b'.'))
}

/// The best of the proven names: the domain itself, one below it, any.
fn proven_name(subject: &Subject, domain: &str, zone: &mut dyn Zone) -> Judged<String> {
    let names = proven_names(subject, zone)?.unwrap_or_default();
    let rank = |name: &&String| match name.as_str() {
        name if name.eq_ignore_ascii_case(domain) => 0,
        name if is_within(name, domain) => 1,
        _ => 2,
    };
    Ok(names.iter().min_by_key(rank).cloned().unwrap_or_else(|| "unknown".to_owned()))
}
