//! Lists, and maps with free keys.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use vsmtp_mail::Domain;

use super::{Kind, ServerAddress};
use crate::dnsbl::DnsblSite;
use crate::network::Network;
use crate::pattern::AddressPattern;
use crate::slices::LogLevel;
use crate::table::Role;
use crate::value::Value;

/// Most items of a list, and most rows of a map with free keys.
pub(super) const MAX_ITEMS: usize = 20_000;
/// Most sockets to listen on, and most name servers.
const MAX_SOCKETS: usize = 64;

/// Reads a list of texts, or one text in place of a list of one.
pub(super) fn items<T>(
    value: &Value,
    most: usize,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, String> {
    let list = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Text(_) => std::slice::from_ref(value),
        Value::List(list) => list.as_slice(),
        other => return Err(other.describe()),
    };
    if list.len() > most {
        return Err(format!("a list of {} items (at most {most})", list.len()));
    }
    let item = |item: &Value| match item {
        Value::Text(text) => read(text).ok_or_else(|| item.describe()),
        other => Err(other.describe()),
    };
    list.iter().map(item).collect()
}

/// Reads a map with free keys, row by row: `read` gets the key, what stands there, and the key as errors show it.
pub(super) fn rows<T>(
    value: &Value,
    read: impl Fn(&str, &Value, &str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let map = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Map(map) => map,
        other => return Err(other.describe()),
    };
    if map.len() > MAX_ITEMS {
        return Err(format!("a map of {} rows (at most {MAX_ITEMS})", map.len()));
    }
    let row = |(key, value): (&String, &Value)| read(key, value, &Value::Text(key.clone()).describe());
    map.iter().map(row).collect()
}

/// Reads the rows of a map by address of what an address has of its own.
pub(super) fn rows_by_address<T>(
    value: &Value,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<Vec<(SocketAddr, T)>, String> {
    rows(value, |address, value, shown| {
        let address = address.parse().map_err(|_| shown.to_owned())?;
        Ok((address, read(value).map_err(|found| format!("{found} for {shown}"))?))
    })
}

/// Reads a row whose names are known: `read` gets each name and what stands there, and answers whether it knows the name. What
/// is left open is not there.
pub(super) fn fields(
    value: &Value,
    mut read: impl FnMut(&str, &Value) -> Result<bool, String>,
) -> Result<(), String> {
    let fields = match value {
        Value::Null => return Ok(()),
        Value::Map(fields) => fields,
        other => return Err(other.describe()),
    };
    for (name, value) in fields.iter().filter(|(_, value)| **value != Value::Null) {
        if !read(name, value)? {
            return Err(Value::Text(name.clone()).describe());
        }
    }
    Ok(())
}

/// Writes a row that `fields` reads.
pub(super) fn row<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let field = |(name, value): (&str, Option<Value>)| Some((name.to_owned(), value?));
    Value::Map(fields.into_iter().filter_map(field).collect())
}

/// A text of several words, or the list of them.
pub(super) fn words(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::List(words) => {
            let word = |word: &Value| if let Value::Text(text) = word { Some(text.clone()) } else { None };
            Some(words.iter().map(word).collect::<Option<Vec<_>>>()?.join(" "))
        }
        _ => None,
    }
}

pub(super) fn texts<T: ToString>(out: &[T]) -> Value {
    Value::List(out.iter().map(|item| Value::Text(item.to_string())).collect())
}

/// Domain names.
#[derive(Debug)]
pub(crate) struct Domains;

impl Kind for Domains {
    type Out = Vec<Domain>;

    fn read(&self, value: &Value) -> Result<Vec<Domain>, String> {
        items(value, MAX_ITEMS, |text| Domain::parse(text).ok())
    }

    fn write(&self, out: &Vec<Domain>) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        "a list of domain names".to_owned()
    }
}

/// Addresses to listen on.
#[derive(Debug)]
pub(crate) struct Listeners;

impl Listeners {
    /// How one looks.
    pub(super) const EXAMPLE: &str = "such as \"127.0.0.1:25\" or \"[::]:25\"";
}

impl Kind for Listeners {
    type Out = Vec<SocketAddr>;

    fn read(&self, value: &Value) -> Result<Vec<SocketAddr>, String> {
        items(value, MAX_SOCKETS, |text| text.parse().ok())
    }

    fn write(&self, out: &Vec<SocketAddr>) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        format!("a list of at most {MAX_SOCKETS} addresses with a port, {}", Self::EXAMPLE)
    }
}

/// Name servers.
#[derive(Debug)]
pub(crate) struct NameServers;

impl Kind for NameServers {
    type Out = Vec<SocketAddr>;

    fn read(&self, value: &Value) -> Result<Vec<SocketAddr>, String> {
        items(value, MAX_SOCKETS, |text| ServerAddress { default_port: 53 }.parse(text))
    }

    fn write(&self, out: &Vec<SocketAddr>) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        format!(
            "a list of at most {MAX_SOCKETS} addresses, such as \"192.0.2.53\" or \"[2001:db8::53]:5353\""
        )
    }
}

/// Networks of clients.
#[derive(Debug)]
pub(crate) struct Networks;

impl Kind for Networks {
    type Out = Vec<Network>;

    fn read(&self, value: &Value) -> Result<Vec<Network>, String> {
        items(value, MAX_ITEMS, Network::parse)
    }

    fn write(&self, out: &Vec<Network>) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        "a list of networks such as \"192.0.2.0/24\" (no host bits set) or \"2001:db8::1\"".to_owned()
    }
}

/// Lists of hosts in the DNS.
#[derive(Debug)]
pub(crate) struct DnsblSites;

impl Kind for DnsblSites {
    type Out = Vec<DnsblSite>;

    fn read(&self, value: &Value) -> Result<Vec<DnsblSite>, String> {
        items(value, MAX_SOCKETS, DnsblSite::parse)
    }

    fn write(&self, out: &Vec<DnsblSite>) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        format!(
            "a list of at most {MAX_SOCKETS} lists in the DNS, such as \"bl.example.net\", \"bl.example.net*2\" or \"bl.example.net=127.0.0.[2;4..11]*2\""
        )
    }
}

/// Keywords of EHLO that may be left out. What a listener needs to be safe has keys of its own.
#[derive(Debug)]
pub(crate) struct Keywords;

impl Keywords {
    const ALL: [&str; 12] = [
        "PIPELINING",
        "SIZE",
        "8BITMIME",
        "ENHANCEDSTATUSCODES",
        "DSN",
        "SMTPUTF8",
        "CHUNKING",
        "BINARYMIME",
        "MT-PRIORITY",
        "FUTURERELEASE",
        "DELIVERBY",
        "LIMITS",
    ];
}

impl Kind for Keywords {
    type Out = Vec<&'static str>;

    fn read(&self, value: &Value) -> Result<Vec<&'static str>, String> {
        let find = |text: &str| Self::ALL.into_iter().find(|known| known.eq_ignore_ascii_case(text));
        items(value, Self::ALL.len(), find)
    }

    fn write(&self, out: &Vec<&'static str>) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        format!("a list of {}", Self::ALL.join(", "))
    }
}

/// Patterns over addresses.
#[derive(Debug)]
pub(crate) struct Patterns;

impl Kind for Patterns {
    type Out = Vec<AddressPattern>;

    fn read(&self, value: &Value) -> Result<Vec<AddressPattern>, String> {
        items(value, MAX_ITEMS, AddressPattern::parse)
    }

    fn write(&self, out: &Vec<AddressPattern>) -> Value {
        texts(out)
    }

    fn expected(&self) -> String {
        "a list of \"user\", \"user@domain\", \"*@domain\" or \"*\"".to_owned()
    }
}

/// A level for each role: one for all, and exceptions.
#[derive(Debug)]
pub(crate) struct Levels;

/// Parts of the program that other versions have levels for.
const OTHER_PARTS: [&str; 6] = ["rules", "rule_engine", "delivery", "processing", "parser", "server"];

impl Levels {
    /// Reads `info`, `default=info` and `receiver=debug`; nothing of a part that only other versions have.
    fn parse(text: &str) -> Option<Option<(Option<Role>, LogLevel)>> {
        let (name, level) = text.split_once('=').unwrap_or(("default", text));
        let level = LogLevel::parse(&level.to_ascii_lowercase())?;
        if name == "default" {
            return Some(Some((None, level)));
        }
        let role = Role::ALL.into_iter().find(|role| role.name() == name);
        match role {
            Some(role) => Some(Some((Some(role), level))),
            None => Self::is_part_of_others(name).then_some(None),
        }
    }

    /// True of parts of the program that have other names in other versions.
    fn is_part_of_others(name: &str) -> bool {
        OTHER_PARTS.contains(&name) || name.starts_with("vsmtp_") || name.starts_with("vqueue")
    }
}

impl Kind for Levels {
    type Out = Vec<(Option<Role>, LogLevel)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        Ok(items(value, MAX_SOCKETS, Self::parse)?.into_iter().flatten().collect())
    }

    fn remarks(&self, value: &Value) -> Vec<String> {
        let part = |text: &str| {
            let name = text.split_once('=').map(|(name, _)| name.to_owned());
            Some(name.filter(|name| {
                Self::is_part_of_others(name) && Role::ALL.iter().all(|role| role.name() != name)
            }))
        };
        let found = items(value, MAX_SOCKETS, part).unwrap_or_default();
        found
            .into_iter()
            .flatten()
            .map(|name| format!("'{name}' is no part of this version and has no level"))
            .collect()
    }

    fn write(&self, out: &Self::Out) -> Value {
        let shown = |(role, level): &(Option<Role>, LogLevel)| match role {
            None => level.name().to_owned(),
            Some(role) => format!("{}={}", role.name(), level.name()),
        };
        texts(&out.iter().map(shown).collect::<Vec<_>>())
    }

    fn expected(&self) -> String {
        let roles = Role::ALL.map(Role::name).join(", ");
        format!(
            "\"error\", \"warn\", \"info\", \"debug\", \"trace\", or a list of them and of \"NAME=LEVEL\" with a name of {roles}"
        )
    }
}

/// Addresses and where their mail goes instead.
#[derive(Debug)]
pub(crate) struct Aliases;

impl Aliases {
    fn target(text: &str) -> Option<AddressPattern> {
        let pattern = AddressPattern::parse(text)?;
        matches!(pattern, AddressPattern::Exact(_) | AddressPattern::Local(_)).then_some(pattern)
    }
}

impl Kind for Aliases {
    type Out = Vec<(AddressPattern, Vec<AddressPattern>)>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        rows(value, |from, to, name| {
            let pattern = AddressPattern::parse(from).ok_or_else(|| name.to_owned())?;
            match items(to, MAX_ITEMS, Self::target) {
                Ok(targets) if !targets.is_empty() => Ok((pattern, targets)),
                Ok(_) => Err(format!("no address for {name}")),
                Err(found) => Err(format!("{found} for {name}")),
            }
        })
    }

    fn write(&self, out: &Self::Out) -> Value {
        let row = |(from, to): &(AddressPattern, Vec<AddressPattern>)| (from.to_string(), texts(to));
        Value::Map(out.iter().map(row).collect::<BTreeMap<_, _>>())
    }

    fn expected(&self) -> String {
        "a map of \"user\", \"user@domain\" or \"*@domain\" to an address or a list of addresses".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn list(items: &[&str]) -> Value {
        Value::List(items.iter().map(|item| text(item)).collect())
    }

    #[test]
    fn the_offending_item_is_named() {
        assert_eq!(Domains.read(&list(&["example.com", "-x"])), Err("\"-x\"".to_owned()));
        assert_eq!(Networks.read(&Value::List(vec![Value::Int(5)])), Err("5".to_owned()));
        assert_eq!(Listeners.read(&list(&["127.0.0.1"])), Err("\"127.0.0.1\"".to_owned()));
    }

    #[test]
    fn one_text_stands_for_a_list_of_one() {
        assert_eq!(Domains.read(&text("example.com")), Domains.read(&list(&["example.com"])));
    }

    #[test]
    fn levels_by_role() {
        let levels = Levels.read(&list(&["default=warn", "receiver=debug"])).unwrap();
        assert_eq!(levels, [(None, LogLevel::Warn), (Some(Role::Receiver), LogLevel::Debug)]);
        assert_eq!(Levels.write(&levels), list(&["warn", "receiver=debug"]));
        assert!(Levels.read(&text("receiver=loud")).is_err());
        assert!(Levels.read(&text("reciever=warn")).is_err());
    }

    #[test]
    fn aliases_name_their_bad_row() {
        let map = |to: Value| Value::Map(BTreeMap::from([("root".to_owned(), to)]));
        assert_eq!(Aliases.read(&map(list(&["jane@example.com", "joe"]))).unwrap().len(), 1);
        assert_eq!(Aliases.read(&map(text("a b"))), Err("\"a b\" for \"root\"".to_owned()));
        assert_eq!(Aliases.read(&map(list(&[]))), Err("no address for \"root\"".to_owned()));
        assert!(Aliases.read(&map(text("*@example.com"))).is_err());
    }
}
