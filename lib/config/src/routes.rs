//! Where mail for other domains goes: by the recipient's domain, by the sender, by default. Pure: an answer depends on the
//! tables and the addresses alone.

use std::collections::HashMap;
use std::fmt;

use vsmtp_mail::{Address, Domain, NextHop, ReversePath};

use crate::by_text::{ByText, Textual};
use crate::pattern::AddressPattern;

/// Which domains a row of `delivery.transport` means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DomainPattern {
    /// `example.com`: this one.
    Exact(Domain),
    /// `.example.com`: all below it.
    Below(Domain),
}

impl DomainPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('.') {
            Some(domain) => {
                let domain = Domain::parse(domain).ok().filter(|domain| domain.as_literal().is_none());
                domain.map(DomainPattern::Below)
            }
            None => Domain::parse(text).ok().map(DomainPattern::Exact),
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainPattern::Exact(domain) => domain.fmt(f),
            DomainPattern::Below(domain) => write!(f, ".{domain}"),
        }
    }
}

impl Textual for DomainPattern {
    fn from_text(text: &str) -> Option<Self> {
        DomainPattern::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// Rows of `delivery.transport` as they cross the wire.
pub type Transports = [(ByText<DomainPattern>, ByText<NextHop>)];
/// Rows of `delivery.sender_relay` as they cross the wire.
pub type SenderRelays = [(ByText<AddressPattern>, ByText<NextHop>)];

/// The tables.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    exact: HashMap<Domain, NextHop>,
    below: HashMap<Domain, NextHop>,
    senders: HashMap<Address, NextHop>,
    sender_domains: HashMap<Domain, NextHop>,
    relayhost: Option<NextHop>,
}

impl Routes {
    /// Sorts the rows of a slice.
    pub fn new(
        transports: &Transports,
        sender_relays: &SenderRelays,
        relayhost: Option<&ByText<NextHop>>,
    ) -> Self {
        let mut routes =
            Routes { relayhost: relayhost.map(|next_hop| NextHop::clone(next_hop)), ..Routes::default() };
        for (pattern, next_hop) in transports {
            let next_hop = NextHop::clone(next_hop);
            match &**pattern {
                DomainPattern::Exact(domain) => routes.exact.insert(domain.clone(), next_hop),
                DomainPattern::Below(domain) => routes.below.insert(domain.clone(), next_hop),
            };
        }
        for (pattern, next_hop) in sender_relays {
            let next_hop = NextHop::clone(next_hop);
            match &**pattern {
                AddressPattern::Exact(address) => routes.senders.insert(address.clone(), next_hop),
                AddressPattern::Domain(domain) => routes.sender_domains.insert(domain.clone(), next_hop),
                // The table of keys takes neither.
                AddressPattern::Local(_) | AddressPattern::Any => None,
            };
        }
        routes
    }

    /// The next hop of a recipient at another domain. The row of its domain comes first, then that of the nearest domain
    /// above it, then the sender's relay, then the relay of all; without any it is the domain's own MX.
    pub fn next_hop(&self, sender: &ReversePath, recipient: &Address) -> NextHop {
        let domain = recipient.domain();
        self.by_domain(domain)
            .or_else(|| self.by_sender(sender))
            .or(self.relayhost.as_ref())
            .cloned()
            .unwrap_or_else(|| NextHop::mx(domain.clone()))
    }

    fn by_domain(&self, domain: &Domain) -> Option<&NextHop> {
        if let Some(found) = self.exact.get(domain) {
            return Some(found);
        }
        if self.below.is_empty() || domain.as_literal().is_some() {
            return None;
        }
        let text = domain.as_str();
        let mut parents =
            text.match_indices('.').filter_map(|(dot, _)| Domain::parse(text.get(dot + 1..)?).ok());
        parents.find_map(|parent| self.below.get(&parent))
    }

    fn by_sender(&self, sender: &ReversePath) -> Option<&NextHop> {
        let sender = sender.address()?;
        self.senders.get(sender).or_else(|| self.sender_domains.get(sender.domain()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(transports: &[(&str, &str)], senders: &[(&str, &str)], relayhost: Option<&str>) -> Routes {
        let hop = |text: &str| ByText::from(NextHop::parse(text).unwrap());
        let transports: Vec<_> = transports
            .iter()
            .map(|(from, to)| (ByText::from(DomainPattern::parse(from).unwrap()), hop(to)))
            .collect();
        let senders: Vec<_> = senders
            .iter()
            .map(|(from, to)| (ByText::from(AddressPattern::parse(from).unwrap()), hop(to)))
            .collect();
        Routes::new(&transports, &senders, relayhost.map(hop).as_ref())
    }

    fn of(routes: &Routes, sender: &str, recipient: &str) -> String {
        let (sender, recipient) = (ReversePath::parse(sender).unwrap(), Address::parse(recipient).unwrap());
        routes.next_hop(&sender, &recipient).to_string()
    }

    #[test]
    fn the_recipients_domain_comes_before_the_sender_and_the_sender_before_the_relay_of_all() {
        let routes = routes(
            &[("a.test", "smtp:[one.test]:26"), (".a.test", "lmtp:unix:/l"), (".b.a.test", "smtp:c.test")],
            &[("jane@src.test", "smtp:[jane.test]:25"), ("*@src.test", "smtp:[src.test]:25")],
            Some("smtp:[all.test]:25"),
        );
        for (sender, recipient, expected) in [
            ("jane@src.test", "x@a.test", "smtp:[one.test]:26"),
            ("", "x@y.a.test", "lmtp:unix:/l"),
            ("", "x@y.b.a.test", "smtp:c.test"),
            ("", "x@b.a.test", "lmtp:unix:/l"),
            ("jane@src.test", "x@other.test", "smtp:[jane.test]:25"),
            ("joe@SRC.test", "x@other.test", "smtp:[src.test]:25"),
            ("joe@else.test", "x@other.test", "smtp:[all.test]:25"),
            ("", "x@nota.test", "smtp:[all.test]:25"),
        ] {
            assert_eq!(of(&routes, sender, recipient), expected, "{sender} {recipient}");
        }
    }

    #[test]
    fn without_tables_it_is_the_domains_own_mx() {
        let routes = Routes::default();
        assert_eq!(of(&routes, "a@b.test", "x@other.test"), "smtp:other.test");
        assert_eq!(of(&routes, "", "x@[192.0.2.1]"), "smtp:[192.0.2.1]:25");
    }
}
