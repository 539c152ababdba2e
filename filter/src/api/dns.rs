//! `dns::`: what the DNS says. These functions wait for the resolver, each at most [`LOOK_UP`]; only the rule that asks
//! waits. Upstream's two throw if there is nothing; ours answer an empty list then, and throw if nobody can tell now.

use std::net::IpAddr;
use std::sync::Arc;

use rhai::{Array, Dynamic, ImmutableString, Map};
use vsmtp_ipc::edge::client_resolver::{DnsError, Query, Records};

use super::registry::{Name, Outcome, Registry, name};
use crate::names::{LOOK_UP, Names};
use crate::object::{Fault, Object};

/// Longest name that is asked, in octets.
const MAX_NAME: usize = 1024;

type Ask = fn(&dyn Names, &str) -> Outcome<Array>;

pub(super) fn register(registry: &mut Registry, names: &Arc<dyn Names>) {
    let waits = "if nobody can tell at the moment, or the argument cannot be looked up";
    let addresses = name("dns", "lookup", &["lookup"])
        .doc("(host: string) -> array", "The addresses of a host, IPv4 and IPv6. Waits for the resolver.")
        .errors("if there are none, if nobody can tell at the moment, or if the argument cannot be looked up")
        .example("dns::lookup(\"mx.test\") == [\"192.0.2.1\", \"2001:db8::1\"]");
    text(registry, addresses, names, lookup);
    let hosts = name("dns", "rlookup", &["rlookup"])
        .doc(
            "(ip: string) -> array",
            "The names of an address, with the dot of the root at their end. Waits for the resolver.",
        )
        .errors("if there are none, if nobody can tell at the moment, or if the argument is not an address")
        .example("dns::rlookup(\"192.0.2.1\") == [\"mx.test.\"]");
    text(registry, hosts, names, rlookup);
    let exchangers = name("dns", "mx", &[])
        .doc("(domain: string) -> array", "The mail exchangers of a domain as maps of `preference` and `host`, the preferred one first; empty if there are none. Waits for the resolver.")
        .errors(waits)
        .example("dns::mx(\"mx.test\")[0].host == \"a.test\" && dns::mx(\"none.test\") == []");
    text(registry, exchangers, names, mx);
    let texts = name("dns", "txt", &[])
        .doc("(name: string) -> array", "The texts of a name, those of one record joined; empty if there are none. Waits for the resolver.")
        .errors(waits)
        .example("\"one\" in dns::txt(\"mx.test\")");
    text(registry, texts, names, txt);
    let (by_text, by_object) = (Arc::clone(names), Arc::clone(names));
    let null = name("dns", "has_null_mx", &[])
        .doc(
            "(domain: string) -> bool",
            "The domain says that it takes no mail (RFC 7505). Waits for the resolver.",
        )
        .errors(waits)
        .example("dns::has_null_mx(\"null.test\") && !dns::has_null_mx(\"mx.test\")");
    registry.free1(null, move |host: ImmutableString| has_null_mx(&*by_text, &host));
    registry.free1(null, move |host: Object| has_null_mx(&*by_object, &host.text()));
}

/// A function of one text, which may be an object.
fn text(registry: &mut Registry, name: Name, names: &Arc<dyn Names>, ask: Ask) {
    let (by_text, by_object) = (Arc::clone(names), Arc::clone(names));
    registry.free1(name, move |text: ImmutableString| ask(&*by_text, &text));
    registry.free1(name, move |object: Object| ask(&*by_object, &object.text()));
}

/// Asks, and makes a script's error of what cannot be told.
fn ask(names: &dyn Names, query: Query, about: &str) -> Outcome<Option<Records>> {
    match names.ask_one(query, LOOK_UP) {
        Ok(records) => Ok(Some(records)),
        Err(DnsError::NoSuchName | DnsError::NoRecords) => Ok(None),
        Err(DnsError::BadName) => Err(Fault(format!("'{about}' is not a name that can be looked up"))),
        Err(DnsError::Temporary | DnsError::Bogus) => {
            Err(Fault(format!("'{about}' cannot be looked up at the moment")))
        }
    }
}

fn bounded(text: &str) -> Outcome<String> {
    if text.len() > MAX_NAME {
        return Err(Fault::new("the name is too long to be looked up"));
    }
    Ok(text.to_owned())
}

fn list<T>(items: impl IntoIterator<Item = T>, text: impl Fn(T) -> String) -> Array {
    items.into_iter().map(|item| Dynamic::from(ImmutableString::from(text(item)))).collect()
}

/// The addresses of a host; throws if there are none.
fn lookup(names: &dyn Names, host: &str) -> Outcome<Array> {
    match ask(names, Query::Addresses(bounded(host)?), host)? {
        Some(Records::Addresses(found)) => Ok(list(found, |ip| ip.to_string())),
        _ => Err(Fault(format!("'{host}' has no address"))),
    }
}

/// The names of an address, from the root as the DNS writes them; throws if there are none.
fn rlookup(names: &dyn Names, ip: &str) -> Outcome<Array> {
    let address: IpAddr = ip.parse().map_err(|_| Fault(format!("'{ip}' is not an address")))?;
    match ask(names, Query::Names(address), ip)? {
        Some(Records::Names(found)) => Ok(list(found, |name| format!("{name}."))),
        _ => Err(Fault(format!("'{ip}' has no name"))),
    }
}

fn exchangers(names: &dyn Names, domain: &str) -> Outcome<Vec<(u16, String)>> {
    Ok(match ask(names, Query::Mx(bounded(domain)?), domain)? {
        Some(Records::Mx(found)) => found,
        _ => Vec::new(),
    })
}

/// Mail exchangers as maps of `preference` and `host`, the preferred one first.
fn mx(names: &dyn Names, domain: &str) -> Outcome<Array> {
    let map = |(preference, host): (u16, String)| {
        let mut map = Map::new();
        map.insert("preference".into(), Dynamic::from(i64::from(preference)));
        map.insert("host".into(), Dynamic::from(ImmutableString::from(host)));
        Dynamic::from(map)
    };
    Ok(exchangers(names, domain)?.into_iter().map(map).collect())
}

/// True if the domain says that it takes no mail (RFC 7505).
fn has_null_mx(names: &dyn Names, domain: &str) -> Outcome<bool> {
    Ok(matches!(exchangers(names, domain)?.as_slice(), [(_, host)] if host.is_empty()))
}

/// Texts, those of one record joined. What is not UTF-8 is shown as replacement characters.
fn txt(names: &dyn Names, name: &str) -> Outcome<Array> {
    Ok(match ask(names, Query::Text(bounded(name)?), name)? {
        Some(Records::Text(found)) => list(found, |text| String::from_utf8_lossy(&text).into_owned()),
        _ => Array::new(),
    })
}
