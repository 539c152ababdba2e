//! Which recipients exist here and where their mail goes, as an index over the filter's slice. Pure: an answer depends
//! on the slice and the address alone. A lookup costs the same with ten thousand mailboxes as with ten.

use std::collections::{HashMap, HashSet};

use vsmtp_mail::{Address, Domain, fold_local_part};

use crate::by_text::ByText;
use crate::pattern::AddressPattern;
use crate::slices::{Alias, FilterSlice, QueueSlice};

/// Local parts that each own domain must accept (RFC 5321 4.5.1, RFC 2142).
const ALWAYS: [&str; 2] = ["postmaster", "abuse"];

/// The index.
#[derive(Debug, Clone)]
pub struct Recipients {
    own: HashSet<Domain>,
    delimiters: String,
    mailboxes: PatternMap<()>,
    aliases: PatternMap<Vec<Address>>,
}

impl Recipients {
    /// Makes the index; once per generation of the configuration.
    pub fn new(slice: &FilterSlice) -> Self {
        let mut recipients =
            Self::without_mailboxes(&slice.domains, &slice.aliases, &slice.recipient_delimiter);
        for pattern in &slice.mailboxes {
            recipients.mailboxes.insert(pattern, ());
        }
        recipients
    }

    /// The index for whoever only has to know where the mail of a known address goes: the queue-manager, whose reports
    /// pass no session filter.
    pub fn for_reports(slice: &QueueSlice) -> Self {
        Self::without_mailboxes(&slice.domains, &slice.aliases, &slice.recipient_delimiter)
    }

    fn without_mailboxes(domains: &[ByText<Domain>], rows: &[Alias], delimiters: &str) -> Self {
        let mut mailboxes = PatternMap::default();
        for name in ALWAYS {
            mailboxes.local.insert(name.to_owned(), ());
        }
        let mut aliases = PatternMap::default();
        for row in rows {
            aliases.insert(&row.from, row.to.iter().map(|to| Address::clone(to)).collect());
        }
        let own = domains.iter().map(|domain| Domain::clone(domain)).collect();
        Recipients { own, delimiters: delimiters.to_owned(), mailboxes, aliases }
    }

    /// True if `domain` is one of the server's own.
    pub fn is_own(&self, domain: &Domain) -> bool {
        self.own.contains(domain)
    }

    /// True if `address` has a mailbox here, with or without its extension.
    pub fn has_mailbox(&self, address: &Address) -> bool {
        self.is_own(address.domain()) && self.mailboxes.find(&self.forms(address), true).is_some()
    }

    /// Where the mail of `address` goes instead: by the row for this address, else for its name at any own domain, else
    /// for its domain; each first with the extension and then without it. One step: targets may be aliases again.
    pub fn alias_of(&self, address: &Address) -> Option<&[Address]> {
        if self.aliases.is_empty() {
            return None;
        }
        self.aliases.find(&self.forms(address), self.is_own(address.domain())).map(Vec::as_slice)
    }

    /// True if this very spelling is somebody's by a row for it alone: what stands behind a delimiter is then no extension.
    pub fn is_named(&self, address: &Address) -> bool {
        self.is_own(address.domain()) && (self.mailboxes.names(address) || self.aliases.names(address))
    }

    /// The address itself and, if it has an extension, the address without it.
    pub fn forms(&self, address: &Address) -> Vec<Address> {
        let local = address.local_part();
        let cut = local.find(|c| self.delimiters.contains(c)).filter(|at| *at > 0);
        let bare = cut.and_then(|at| local.get(..at));
        let bare = bare.and_then(|local| Address::new(local, address.domain().clone()).ok());
        std::iter::once(address.clone()).chain(bare).collect()
    }
}

/// Values by pattern, the first of equal patterns first.
#[derive(Debug, Clone)]
struct PatternMap<V> {
    exact: HashMap<(String, Domain), V>,
    local: HashMap<String, V>,
    domain: HashMap<Domain, V>,
    any: Option<V>,
}

impl<V> Default for PatternMap<V> {
    fn default() -> Self {
        PatternMap { exact: HashMap::new(), local: HashMap::new(), domain: HashMap::new(), any: None }
    }
}

impl<V> PatternMap<V> {
    fn insert(&mut self, pattern: &AddressPattern, value: V) {
        match pattern {
            AddressPattern::Exact(address) => {
                self.exact.entry(folded(address)).or_insert(value);
            }
            AddressPattern::Local(local) => {
                self.local.entry(fold_local_part(local)).or_insert(value);
            }
            AddressPattern::Domain(domain) => {
                self.domain.entry(domain.clone()).or_insert(value);
            }
            AddressPattern::Any => {
                self.any.get_or_insert(value);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.local.is_empty() && self.domain.is_empty() && self.any.is_none()
    }

    /// True if a row is for this address, or for its local part, alone.
    fn names(&self, address: &Address) -> bool {
        self.exact.contains_key(&folded(address)) || self.local.contains_key(&address.folded_local_part())
    }

    /// The value for the first of `forms` in the narrowest class of patterns; only exact ones count if not `own`.
    fn find(&self, forms: &[Address], own: bool) -> Option<&V> {
        let exact = forms.iter().find_map(|form| self.exact.get(&folded(form)));
        if exact.is_some() || !own {
            return exact;
        }
        forms
            .iter()
            .find_map(|form| self.local.get(&form.folded_local_part()))
            .or_else(|| forms.first().and_then(|form| self.domain.get(form.domain())))
            .or(self.any.as_ref())
    }
}

fn folded(address: &Address) -> (String, Domain) {
    (address.folded_local_part(), address.domain().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Context, Value};

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn recipients() -> Recipients {
        let rows = [
            ("postmaster", "jane"),
            ("sales@example.com", "joe@example.org"),
            ("*@example.org", "all@example.net"),
        ];
        let mut tree = Value::map();
        tree.set("server.domains", Value::List(vec![text("example.com"), text("example.org")]));
        tree.set("delivery.mailboxes", Value::List(vec![text("jane"), text("Joe@example.org")]));
        tree.set("delivery.aliases", Value::Map(rows.map(|(from, to)| (from.to_owned(), text(to))).into()));
        let hostname = Domain::parse("host.example.com").unwrap();
        let context = Context { hostname, cores: 1, config_dir: "/etc".to_owned(), root: String::new() };
        Recipients::new(&Config::build(&context, &tree).unwrap().filter())
    }

    #[test]
    fn who_has_a_mailbox() {
        let recipients = recipients();
        for (has, who) in [
            (true, "Jane@example.com"),
            (true, "jane+lists@example.org"),
            (true, "joe@example.org"),
            (false, "joe@example.com"),
            (true, "ABUSE@example.com"),
            (false, "jane@example.net"),
            (false, "postmaster@example.net"),
            (false, "+jane@example.com"),
        ] {
            assert_eq!(recipients.has_mailbox(&Address::parse(who).unwrap()), has, "{who}");
        }
    }

    #[test]
    fn whose_mail_goes_elsewhere() {
        let recipients = recipients();
        for (who, to) in [
            ("postmaster@example.com", Some("jane@host.example.com")),
            ("postmaster@example.org", Some("jane@host.example.com")),
            ("sales+x@example.com", Some("joe@example.org")),
            ("other@example.org", Some("all@example.net")),
            ("other@example.com", None),
            ("postmaster@example.net", None),
        ] {
            let found = recipients.alias_of(&Address::parse(who).unwrap()).map(|to| to[0].to_string());
            assert_eq!(found.as_deref(), to, "{who}");
        }
    }
}
