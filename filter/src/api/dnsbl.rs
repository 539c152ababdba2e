//! `dnsbl::`: lists of hosts in the DNS (RFC 5782), each with a weight, written as in `smtp.dnsbl.sites`:
//! `list.example.net=127.0.0.[2..11]*3`. A list that cannot be asked lists nobody.

use std::net::IpAddr;
use std::sync::Arc;

use rhai::{Array, Dynamic, ImmutableString};
use vsmtp_config::DnsblSite;
use vsmtp_ipc::edge::client_resolver::{Query, Records};

use super::registry::{Outcome, Registry, name};
use crate::names::{LOOK_UP, MAX_QUERIES, Names};
use crate::object::{Fault, Object};
use crate::typename;

pub(super) fn register(registry: &mut Registry, names: &Arc<dyn Names>) {
    let errors = "if the first argument is not an address, or an item of the second not a list";
    let score = name("dnsbl", "score", &[])
        .doc("(ip: string, lists: array) -> int", "The weights of the lists that have the address, added up. A list is written `list.example.net=127.0.0.[2..11]*3`, as in `smtp.dnsbl.sites`: domain, answers that count, weight. One that does not answer lists nobody. Waits for the resolver.")
        .errors(errors)
        .example("dnsbl::score(\"192.168.1.7\", [\"bad.test*3\", \"good.test*-1\"]) == 2");
    let shared = Arc::clone(names);
    registry.free2(score, move |ip: ImmutableString, sites: Array| total(&*shared, &ip, &sites));
    let shared = Arc::clone(names);
    registry.free2(score, move |ip: Object, sites: Array| total(&*shared, &ip.text(), &sites));
    let lists = name("dnsbl", "lists", &[])
        .doc(
            "(ip: string, lists: array) -> array",
            "The domains of the lists that have the address. Waits for the resolver.",
        )
        .errors(errors)
        .example("dnsbl::lists(ctx::client_ip(), [\"bad.test\", \"dead.test\"]) == [\"bad.test\"]");
    let shared = Arc::clone(names);
    registry.free2(lists, move |ip: ImmutableString, sites: Array| listing(&*shared, &ip, &sites));
    let shared = Arc::clone(names);
    registry.free2(lists, move |ip: Object, sites: Array| listing(&*shared, &ip.text(), &sites));
}

/// The weights of the lists that an address is in, added up.
fn total(names: &dyn Names, ip: &str, sites: &Array) -> Outcome<i64> {
    Ok(listed(names, ip, sites)?.iter().map(|site| i64::from(site.weight())).sum())
}

/// The lists that an address is in.
fn listing(names: &dyn Names, ip: &str, sites: &Array) -> Outcome<Array> {
    let listed = listed(names, ip, sites)?;
    let zone = |site: &DnsblSite| Dynamic::from(ImmutableString::from(site.zone().as_str()));
    Ok(listed.iter().map(zone).collect())
}

/// Asks all lists at once.
fn listed(names: &dyn Names, ip: &str, sites: &Array) -> Outcome<Vec<DnsblSite>> {
    let address: IpAddr = ip.parse().map_err(|_| Fault(format!("'{ip}' is not an address")))?;
    if sites.len() > MAX_QUERIES {
        return Err(Fault(format!("at most {MAX_QUERIES} lists can be asked at once")));
    }
    let sites: Vec<DnsblSite> = sites.iter().map(site).collect::<Outcome<_>>()?;
    let query = |site: &DnsblSite| Query::Ipv4(name_in(site.zone().as_str(), address));
    let answers = names.ask(sites.iter().map(query).collect(), LOOK_UP);
    let is_listed = |(site, answer): (DnsblSite, _)| match answer {
        Ok(Records::Addresses(found)) => {
            let said = |ip: &IpAddr| matches!(ip, IpAddr::V4(v4) if site.matches(*v4));
            found.iter().any(said).then_some(site)
        }
        _ => None,
    };
    Ok(sites.into_iter().zip(answers).filter_map(is_listed).collect())
}

fn site(item: &Dynamic) -> Outcome<DnsblSite> {
    let by_object = item.read_lock::<Object>().map(|object| object.text());
    let text = by_object.or_else(|| item.read_lock::<ImmutableString>().map(|text| text.clone()));
    let text = text.unwrap_or_else(|| typename::of(item).into());
    let is_text = item.is::<ImmutableString>() || item.is::<Object>();
    DnsblSite::parse(&text)
        .filter(|_| is_text)
        .ok_or_else(|| Fault(format!("'{text}' is not a list such as list.example.net=127.0.0.[2..11]*3")))
}

/// The name under which a list has an address: its octets, or its nibbles, from the last to the first.
fn name_in(zone: &str, address: IpAddr) -> String {
    let mut name = String::new();
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().iter().rev().for_each(|octet| name.push_str(&format!("{octet}."))),
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.for_each(|nibble| name.push_str(&format!("{nibble:x}.")));
        }
    }
    name + zone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_backwards_in_front_of_the_list() {
        assert_eq!(name_in("bl.test", "192.0.2.7".parse().unwrap()), "7.2.0.192.bl.test");
        assert_eq!(name_in("bl.test", "::ffff:192.0.2.7".parse().unwrap()), "7.2.0.192.bl.test");
        let long = name_in("bl.test", "2001:db8::1".parse().unwrap());
        assert!(long.starts_with("1.0.0.0.") && long.ends_with("8.b.d.0.1.0.0.2.bl.test"), "{long}");
    }
}
