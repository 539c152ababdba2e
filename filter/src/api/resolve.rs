//! `utils::resolve()`: what the tables of the configuration say of an address, as the policy without rules sees it.

use std::sync::Arc;

use rhai::{Array, Dynamic, Map};
use vsmtp_config::{FilterSlice, Recipients};
use vsmtp_mail::{Address, Domain};

use super::address::mailbox;
use super::general::Surroundings;
use super::registry::{Registry, name};
use crate::object::Object;

/// The tables of recipients.
#[derive(Debug, Default)]
pub struct Directory {
    recipients: Option<Recipients>,
    relay_domains: Vec<Domain>,
}

impl Directory {
    /// The tables of a slice.
    pub fn new(slice: &FilterSlice) -> Self {
        let relay_domains = slice.relay_domains.iter().map(|domain| Domain::clone(domain)).collect();
        Directory { recipients: Some(Recipients::new(slice)), relay_domains }
    }

    /// What an address is, and where its mail goes instead.
    fn resolve(&self, address: &Address) -> (&'static str, &[Address]) {
        let Some(recipients) = &self.recipients else { return ("other", &[]) };
        if let Some(targets) = recipients.alias_of(address) {
            return ("virtual", targets);
        }
        let class = match address.domain() {
            domain if recipients.is_own(domain) && recipients.has_mailbox(address) => "local",
            domain if recipients.is_own(domain) => "unknown",
            domain if self.relay_domains.contains(domain) => "relay",
            _ => "other",
        };
        (class, &[])
    }
}

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let directory = Arc::clone(&surroundings.directory);
    let resolve = name("utils", "resolve", &[])
        .doc("(rcpt: address) -> map", "What the configuration says of an address. `class` is `local` (a mailbox here, a catch-all too), `virtual` (an alias; `targets` says of what, in one step), `unknown` (in one of our domains, without a mailbox), `relay` (in a domain of `server.relay_domains`) or `other`.")
        .errors("if the argument is not an address")
        .example("let found = utils::resolve(\"info@example.com\");\nfound.class == \"virtual\" && found.targets == [\"jane@example.com\"]");
    registry.free_text(resolve, move |text| {
        let address = mailbox(text)?;
        let (class, targets) = directory.resolve(&address);
        let targets = targets.iter().map(|target| Dynamic::from(Object::Address(Arc::new(target.clone()))));
        let mut map = Map::new();
        map.insert("class".into(), class.into());
        map.insert("targets".into(), Dynamic::from(targets.collect::<Array>()));
        Ok(map)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::{list, slice};

    #[test]
    fn addresses_are_what_the_policy_takes_them_for() {
        let aliases =
            vsmtp_config::Value::Map([("info@example.com".to_owned(), list(&["jane@example.com"]))].into());
        let directory = Directory::new(&slice(&[("delivery.aliases", aliases)]));
        for (address, class, targets) in [
            ("jane@example.com", "local", ""),
            ("jane+x@example.org", "local", ""),
            ("postmaster@example.org", "local", ""),
            ("info@example.com", "virtual", "jane@example.com"),
            ("nobody@example.com", "unknown", ""),
            ("x@backup.example", "relay", ""),
            ("x@elsewhere.example", "other", ""),
        ] {
            let parsed = Address::parse(address).unwrap();
            let (found, to) = directory.resolve(&parsed);
            let to: Vec<String> = to.iter().map(ToString::to_string).collect();
            assert_eq!((found, to.join(" ").as_str()), (class, targets), "{address}");
        }
        assert_eq!(Directory::default().resolve(&Address::parse("a@b.c").unwrap()), ("other", &[][..]));
    }
}
