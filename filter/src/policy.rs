//! The policy that holds without any rule: which recipients this server takes, and from whom. Nothing opens a relay but
//! the configuration and a rule that accepts that very recipient. Pure: an answer depends on the slice and the arguments.

mod routing;
mod senders;

pub use routing::Routed;

use std::collections::HashSet;
use std::net::IpAddr;

use vsmtp_config::{FilterSlice, Network, Recipients, Routes};
use vsmtp_mail::{Address, Domain, EnhancedCode, NextHop, RecipientClass, Reply, ReversePath, Service};

use crate::transaction::Peer;
use senders::Senders;

/// The policy of one generation of the configuration.
#[derive(Debug)]
pub struct Policy {
    recipients: Recipients,
    server_name: Domain,
    /// The domain that stands for `<postmaster>` and for our own address literals.
    primary: Domain,
    relay_domains: HashSet<Domain>,
    relay_from: Vec<Network>,
    local: NextHop,
    senders: Senders,
    routes: Routes,
}

impl Policy {
    /// Makes the policy of a slice.
    pub fn new(slice: &FilterSlice) -> Self {
        let recipients = Recipients::new(slice);
        let server_name = Domain::clone(&slice.server_name);
        let primary = if recipients.is_own(&server_name) {
            server_name.clone()
        } else {
            slice.domains.first().map_or_else(|| server_name.clone(), |domain| Domain::clone(domain))
        };
        Policy {
            recipients,
            server_name,
            primary,
            relay_domains: slice.relay_domains.iter().map(|domain| Domain::clone(domain)).collect(),
            relay_from: slice.relay_from.iter().map(|network| Network::clone(network)).collect(),
            local: NextHop::clone(&slice.local),
            senders: Senders::new(slice),
            routes: Routes::new(&slice.transport, &slice.sender_relay, slice.relayhost.as_ref()),
        }
    }

    /// The server's name.
    pub fn server_name(&self) -> &Domain {
        &self.server_name
    }

    /// The mailbox of a RCPT. `postmaster` alone, and a domain literal that is our own address, mean our first domain.
    pub fn recipient(&self, text: &str, peer: &Peer) -> Result<Address, Reply> {
        let wrong = || Reply::fixed(553, EnhancedCode(5, 1, 3), "Recipient address is not valid");
        if text.eq_ignore_ascii_case("postmaster") {
            return Address::new(text, self.primary.clone()).map_err(|_| wrong());
        }
        let address = Address::parse(text).map_err(|_| wrong())?;
        let own =
            |ip: IpAddr| peer.server.is_some_and(|(server, _)| server.to_canonical() == ip.to_canonical());
        if address.domain().as_literal().is_some_and(own) {
            return Address::new(address.local_part(), self.primary.clone()).map_err(|_| wrong());
        }
        Ok(address)
    }

    /// True if this client may send to any domain.
    pub fn is_trusted(&self, peer: &Peer) -> bool {
        if peer.is_authenticated() {
            return true;
        }
        match peer.client {
            None => true,
            Some((ip, _)) => self.relay_from.iter().any(|network| network.contains(ip)),
        }
    }

    /// Whether a client may send to a recipient, and how policy sees that recipient. `accepted`: a rule accepted this
    /// very recipient, which allows to relay to it, but does not make a mailbox of ours exist.
    pub fn admit(&self, address: &Address, peer: &Peer, accepted: bool) -> Result<RecipientClass, Reply> {
        if self.recipients.alias_of(address).is_some() {
            return Ok(RecipientClass::Virtual);
        }
        if self.recipients.is_own(address.domain()) {
            let unknown = || {
                Reply::fixed(550, EnhancedCode(5, 1, 1), "Recipient address rejected: no such mailbox here")
            };
            return if self.recipients.has_mailbox(address) {
                Ok(RecipientClass::Local)
            } else {
                Err(unknown())
            };
        }
        if self.relay_domains.contains(address.domain()) {
            return Ok(RecipientClass::Relay);
        }
        if accepted || self.is_trusted(peer) {
            return Ok(RecipientClass::Other);
        }
        Err(Reply::fixed(554, EnhancedCode(5, 7, 1), "Relay access denied"))
    }

    /// Whether a client may use this sender: who has authenticated, only those of its own; others, where the configuration says
    /// so, none that belongs to somebody.
    pub fn admit_sender(&self, sender: &ReversePath, peer: &Peer) -> Result<(), Reply> {
        let ReversePath::Address(sender) = sender else { return Ok(()) };
        let (allowed, why) = match &peer.identity {
            Some(identity) => (
                self.senders.allow(sender, &identity.name, &self.recipients),
                "Sender address rejected: not owned by this user",
            ),
            None if self.is_trusted(peer) || peer.service == Some(Service::Lmtp) => return Ok(()),
            None => {
                let allowed = self.senders.allow_stranger(sender, &self.recipients);
                (allowed, "Sender address rejected: log in to use it")
            }
        };
        if allowed { Ok(()) } else { Err(Reply::fixed(553, EnhancedCode(5, 7, 1), why)) }
    }

    /// True if it matters who sends.
    pub fn has_senders(&self) -> bool {
        self.senders.matter()
    }

    /// The class of a recipient that is there, for the queue's tables.
    pub fn class(&self, address: &Address) -> RecipientClass {
        if self.recipients.is_own(address.domain()) {
            RecipientClass::Local
        } else if self.relay_domains.contains(address.domain()) {
            RecipientClass::Relay
        } else {
            RecipientClass::Other
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use vsmtp_config::{Config, Context, Value};

    use super::*;

    pub(crate) fn slice(set: &[(&str, Value)]) -> FilterSlice {
        let context = Context {
            hostname: Domain::parse("mx.example.com").unwrap(),
            cores: 1,
            config_dir: "/nonexistent".to_owned(),
            root: String::new(),
        };
        let mut tree = Value::map();
        tree.set("server.domains", list(&["example.com", "example.org"]));
        tree.set("server.relay_domains", list(&["backup.example"]));
        tree.set("server.relay_from", list(&["192.0.2.0/24"]));
        tree.set("delivery.mailboxes", list(&["jane", "joe@example.org", "sales@example.com"]));
        for (key, value) in set {
            tree.set(key, value.clone());
        }
        Config::build(&context, &tree).unwrap().filter()
    }

    pub(crate) fn list(items: &[&str]) -> Value {
        Value::List(items.iter().map(|item| Value::Text((*item).to_owned())).collect())
    }

    pub(crate) fn peer(client: Option<&str>) -> Peer {
        Peer {
            service: Some(vsmtp_mail::Service::Smtp),
            client: client.map(|ip| (ip.parse().unwrap(), 4000)),
            client_name: None,
            server: Some(("198.51.100.1".parse().unwrap(), 25)),
            uid: None,
            connected_ms: 0,
            server_name: Domain::parse("mx.example.com").unwrap(),
            identity: None,
            was_authenticated: false,
            was_secured: false,
        }
    }

    #[test]
    fn who_may_send_to_whom() {
        let aliases = Value::Map([("info@example.com".to_owned(), list(&["jane@example.com"]))].into());
        let policy = Policy::new(&slice(&[("delivery.aliases", aliases)]));
        let (stranger, friend, local) = (peer(Some("203.0.113.5")), peer(Some("192.0.2.5")), peer(None));
        for (to, from, expected) in [
            ("jane@example.com", &stranger, "Local"),
            ("jane+tag@example.org", &stranger, "Local"),
            ("POSTMASTER@example.org", &stranger, "Local"),
            ("info@example.com", &stranger, "Virtual"),
            ("nobody@example.com", &stranger, "550"),
            ("nobody@example.com", &friend, "550"),
            ("joe@example.com", &local, "550"),
            ("x@backup.example", &stranger, "Relay"),
            ("x@sub.backup.example", &stranger, "554"),
            ("x@elsewhere.example", &stranger, "554"),
            ("x@elsewhere.example", &friend, "Other"),
            ("x@elsewhere.example", &peer(Some("::ffff:192.0.2.5")), "Other"),
            ("x@elsewhere.example", &local, "Other"),
            ("x@[203.0.113.9]", &stranger, "554"),
        ] {
            let found = match policy.admit(&Address::parse(to).unwrap(), from, false) {
                Ok(class) => format!("{class:?}"),
                Err(reply) => reply.code().to_string(),
            };
            assert_eq!(found, expected, "{to}");
        }
        let elsewhere = Address::parse("x@elsewhere.example").unwrap();
        assert_eq!(policy.admit(&elsewhere, &stranger, true), Ok(RecipientClass::Other));
        assert!(policy.admit(&Address::parse("nobody@example.com").unwrap(), &stranger, true).is_err());
    }

    #[test]
    fn a_stranger_may_not_use_what_belongs_to_somebody_where_that_needs_a_login() {
        let keys = ["server.auth.own_sender_only", "server.auth.senders_need_login"];
        let policy = Policy::new(&slice(&keys.map(|key| (key, Value::Bool(true)))));
        let sender = |text: &str| ReversePath::Address(Address::parse(text).unwrap());
        let (stranger, friend) = (peer(Some("203.0.113.5")), peer(Some("192.0.2.5")));
        let refused = policy.admit_sender(&sender("jane@example.com"), &stranger).unwrap_err();
        assert_eq!(refused.to_string(), "553 5.7.1 Sender address rejected: log in to use it");
        let lmtp = Peer { service: Some(Service::Lmtp), ..stranger.clone() };
        for peer in [&friend, &peer(None), &lmtp] {
            assert_eq!(policy.admit_sender(&sender("jane@example.com"), peer), Ok(()));
        }
        assert_eq!(policy.admit_sender(&sender("jane@elsewhere.example"), &stranger), Ok(()));
        assert_eq!(policy.admit_sender(&ReversePath::Null, &stranger), Ok(()));
        let lax = Policy::new(&slice(&[("server.auth.own_sender_only", Value::Bool(true))]));
        assert_eq!(lax.admit_sender(&sender("jane@example.com"), &stranger), Ok(()));
    }

    #[test]
    fn recipients_without_a_domain_of_ours_in_words() {
        let policy = Policy::new(&slice(&[]));
        let peer = peer(Some("203.0.113.5"));
        for (text, address) in [
            ("Postmaster", "Postmaster@example.com"),
            ("jane@[198.51.100.1]", "jane@example.com"),
            ("jane@[198.51.100.2]", "jane@[198.51.100.2]"),
            ("jane@Example.COM", "jane@example.com"),
        ] {
            assert_eq!(policy.recipient(text, &peer).unwrap().to_string(), address);
        }
        assert_eq!(policy.recipient("jane", &peer).unwrap_err().code(), 553);
    }
}
