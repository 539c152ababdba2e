//! From the recipients of a transaction to the recipients of the queue: aliases expanded, each with its next hop. Bounded
//! in depth and number; a loop of aliases ends where it meets itself.

use std::collections::HashSet;

use vsmtp_mail::{
    Address, EnhancedCode, Expanded, MAX_RECIPIENTS, NextHop, OriginalRecipient, Recipient, RecipientClass,
    Reply, ReversePath,
};

use super::Policy;
use crate::transaction::{Entry, RcptSpec};

/// Aliases of aliases that are followed.
const MAX_ALIAS_DEPTH: usize = 16;
/// Recipients that one alias may stand for, all levels together.
const MAX_EXPANSION: usize = 5_000;

/// What the recipients of a transaction became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The queue's recipients: at least one.
    pub recipients: Vec<Recipient>,
    /// Those that stand for several and whose sender wants to hear of success. That is told of the alias, and not of those
    /// behind it (RFC 3461 5.2.7).
    pub expanded: Vec<Expanded>,
}

impl Policy {
    /// The queue's recipients of a message of that sender, or the reply that says why there are none.
    pub fn route(&self, sender: &ReversePath, entries: &[Entry]) -> Result<Routed, Reply> {
        let mut out = Vec::with_capacity(entries.len());
        let (mut seen, mut expanded) = (HashSet::new(), Vec::new());
        for entry in entries {
            let mut leaves = self.expand(sender, entry)?;
            if leaves.len() > 1 && entry.spec.notify.success {
                let RcptSpec { address, original, .. } = &entry.spec;
                expanded.push(Expanded { address: address.clone(), original: original.clone() });
                leaves.iter_mut().for_each(|leaf| leaf.notify = leaf.notify.without_success());
            }
            // Most messages have one recipient, which needs no set.
            let alone = entries.len() == 1 && leaves.len() == 1;
            for recipient in leaves {
                if alone || seen.insert((recipient.address.clone(), recipient.next_hop.clone())) {
                    out.push(recipient);
                }
            }
            if out.len() > MAX_RECIPIENTS {
                return Err(Reply::fixed(554, EnhancedCode(5, 3, 4), "Message has too many recipients"));
            }
        }
        if out.is_empty() {
            return Err(Reply::fixed(554, EnhancedCode(5, 5, 1), "No valid recipients"));
        }
        Ok(Routed { recipients: out, expanded })
    }

    fn expand(&self, sender: &ReversePath, entry: &Entry) -> Result<Vec<Recipient>, Reply> {
        if let Some(hop) = &entry.transport {
            let recipient = self.recipient_of(&entry.spec, entry.spec.address.clone(), hop.clone());
            return Ok(vec![Recipient { chosen: entry.chosen, ..recipient }]);
        }
        if self.recipients.alias_of(&entry.spec.address).is_none() {
            // Most recipients are no aliases, and need no sets.
            return Ok(vec![self.leaf(sender, &entry.spec, entry.spec.address.clone())]);
        }
        let mut leaves = Vec::new();
        let mut seen = HashSet::new();
        let mut pending = vec![(entry.spec.address.clone(), 0)];
        while let Some((address, depth)) = pending.pop() {
            if !seen.insert(address.clone()) {
                continue;
            }
            match self.recipients.alias_of(&address).filter(|targets| *targets != [address.clone()]) {
                Some(_) if depth >= MAX_ALIAS_DEPTH => return Err(too_deep()),
                Some(targets) => {
                    for target in targets.iter().rev() {
                        // An alias that names itself keeps a copy in its own mailbox.
                        if *target == address {
                            leaves.push(target.clone());
                        } else {
                            pending.push((target.clone(), depth + 1));
                        }
                    }
                }
                None => leaves.push(address),
            }
            if leaves.len() + pending.len() > MAX_EXPANSION {
                return Err(too_deep());
            }
        }
        if leaves.is_empty() {
            return Err(too_deep());
        }
        Ok(leaves.into_iter().map(|address| self.leaf(sender, &entry.spec, address)).collect())
    }

    /// A recipient that stands for itself.
    fn leaf(&self, sender: &ReversePath, spec: &RcptSpec, address: Address) -> Recipient {
        let hop = self.hop(sender, &address);
        self.recipient_of(spec, address, hop)
    }

    fn recipient_of(&self, spec: &RcptSpec, address: Address, next_hop: NextHop) -> Recipient {
        let original = spec.original.clone().or_else(|| {
            // Reports must name what the sender wrote (RFC 3464 2.3.1).
            let kind = if spec.address.needs_smtputf8() { "utf-8" } else { "rfc822" };
            let written =
                || OriginalRecipient { kind: kind.into(), address: spec.address.to_string().into() };
            (spec.address != address).then(written)
        });
        let class = self.class(&address);
        Recipient { address, original, notify: spec.notify, class, next_hop, chosen: false }
    }

    /// Where the routing tables send an address.
    fn hop(&self, sender: &ReversePath, address: &Address) -> NextHop {
        match self.class(address) {
            RecipientClass::Local | RecipientClass::Virtual => self.local.clone(),
            RecipientClass::Relay | RecipientClass::Other => self.routes.next_hop(sender, address),
        }
    }
}

fn too_deep() -> Reply {
    Reply::fixed(554, EnhancedCode(5, 4, 6), "Aliases of the recipient form a loop or are too many")
}

#[cfg(test)]
mod tests {
    use vsmtp_config::Value;
    use vsmtp_mail::Notify;

    use super::super::tests::{list, slice};
    use super::*;

    fn entry(address: &str, transport: Option<&str>) -> Entry {
        Entry {
            spec: RcptSpec {
                address: Address::parse(address).unwrap(),
                original: None,
                notify: Notify::default(),
            },
            transport: transport.map(|hop| NextHop::parse(hop).unwrap()),
            chosen: transport.is_some(),
            by_rule: false,
            part: crate::triage::Part::Root,
        }
    }

    fn routed(rows: &[(&str, &[&str])], entries: &[Entry]) -> Result<String, u16> {
        let aliases = rows.iter().map(|(from, to)| ((*from).to_owned(), list(to))).collect();
        let policy = Policy::new(&slice(&[("delivery.aliases", Value::Map(aliases))]));
        let show = |r: &Recipient| format!("{}>{}", r.address, r.next_hop);
        policy
            .route(&ReversePath::Null, entries)
            .map(|all| all.recipients.iter().map(show).collect::<Vec<_>>().join(" "))
            .map_err(|reply| reply.code())
    }

    #[test]
    fn each_class_has_its_hop() {
        let rows: &[(&str, &[&str])] = &[];
        for (to, transport, expected) in [
            ("jane@example.com", None, "jane@example.com>maildir"),
            ("x@backup.example", None, "x@backup.example>smtp:backup.example"),
            ("x@else.example", None, "x@else.example>smtp:else.example"),
            ("x@[192.0.2.7]", None, "x@[192.0.2.7]>smtp:[192.0.2.7]:25"),
            ("jane@example.com", Some("lmtp:unix:/run/l"), "jane@example.com>lmtp:unix:/run/l"),
        ] {
            assert_eq!(routed(rows, &[entry(to, transport)]).as_deref(), Ok(expected));
        }
        let policy = Policy::new(&slice(&[("delivery.relayhost", Value::Text("[relay.example]:26".into()))]));
        let found = policy.route(&ReversePath::Null, &[entry("x@else.example", None)]).unwrap();
        assert_eq!(found.recipients[0].next_hop.to_string(), "smtp:[relay.example]:26");
        let one = |to: &str| Value::Text(to.to_owned());
        let transport = Value::Map([("else.example".to_owned(), one("[t.example]:26"))].into());
        let sender_relay = Value::Map([("*@src.example".to_owned(), one("[s.example]:587"))].into());
        let policy = Policy::new(&slice(&[
            ("delivery.transport", transport),
            ("delivery.sender_relay", sender_relay),
        ]));
        let hop = |sender: &str, to: &str| {
            let sender = ReversePath::parse(sender).unwrap();
            policy.route(&sender, &[entry(to, None)]).unwrap().recipients[0].next_hop.to_string()
        };
        assert_eq!(hop("a@src.example", "x@else.example"), "smtp:[t.example]:26");
        assert_eq!(hop("a@src.example", "x@third.example"), "smtp:[s.example]:587");
        assert_eq!(hop("", "x@third.example"), "smtp:third.example");
        // What is ours stays here.
        assert_eq!(hop("a@src.example", "jane@example.com"), "maildir");
        assert_eq!(routed(rows, &[]), Err(554));
    }

    #[test]
    fn aliases_expand_once_and_end() {
        let rows: &[(&str, &[&str])] = &[
            ("all@example.com", &["jane@example.com", "team@example.com", "x@else.example"]),
            ("team@example.com", &["jane@example.com", "joe@example.org", "all@example.com"]),
            ("keep@example.com", &["keep@example.com", "joe@example.org"]),
            ("a@example.com", &["b@example.com"]),
            ("b@example.com", &["a@example.com"]),
        ];
        let all = "jane@example.com>maildir joe@example.org>maildir x@else.example>smtp:else.example";
        assert_eq!(routed(rows, &[entry("all@example.com", None)]).as_deref(), Ok(all));
        let keep = "keep@example.com>maildir joe@example.org>maildir";
        assert_eq!(routed(rows, &[entry("keep@example.com", None)]).as_deref(), Ok(keep));
        assert_eq!(routed(rows, &[entry("a@example.com", None)]), Err(554));
        let twice = [entry("jane@example.com", None), entry("jane@example.com", None)];
        assert_eq!(routed(rows, &twice).as_deref(), Ok("jane@example.com>maildir"));
    }

    #[test]
    fn reports_name_the_original_address() {
        let aliases = Value::Map([("info@example.com".to_owned(), list(&["jane@example.com"]))].into());
        let policy = Policy::new(&slice(&[("delivery.aliases", aliases)]));
        let found = policy.route(&ReversePath::Null, &[entry("info@example.com", None)]).unwrap();
        assert_eq!(&*found.recipients[0].original.as_ref().unwrap().address, "info@example.com");
    }

    #[test]
    fn success_is_told_of_an_alias_for_several_and_of_the_one_behind_an_alias() {
        let rows = [
            ("all@example.com", &["jane@example.com", "x@else.example"][..]),
            ("one@example.com", &["joe@example.org"]),
        ];
        let aliases = rows.iter().map(|(from, to)| ((*from).to_owned(), list(to))).collect();
        let policy = Policy::new(&slice(&[("delivery.aliases", Value::Map(aliases))]));
        let mut entries = [entry("all@example.com", None), entry("one@example.com", None)];
        let wanted = Notify { success: true, failure: true, delay: false, stated: true };
        entries.iter_mut().for_each(|entry| entry.spec.notify = wanted);
        entries[0].spec.original = Some(OriginalRecipient { kind: "rfc822".into(), address: "O@o".into() });
        let routed = policy.route(&ReversePath::Null, &entries).unwrap();
        let success: Vec<bool> = routed.recipients.iter().map(|r| r.notify.success).collect();
        assert_eq!(success, [false, false, true]);
        assert!(routed.recipients.iter().all(|r| r.notify.failure && r.notify.stated));
        assert_eq!(&*routed.recipients[1].original.as_ref().unwrap().address, "O@o");
        let [all] = &routed.expanded[..] else { panic!("{:?}", routed.expanded) };
        assert_eq!(
            (all.address.to_string().as_str(), &*all.original.as_ref().unwrap().address),
            ("all@example.com", "O@o")
        );
        entries[0].spec.notify = Notify::default();
        assert!(policy.route(&ReversePath::Null, &entries).unwrap().expanded.is_empty());
    }
}
