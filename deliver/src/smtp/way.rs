//! Which way a message goes: its next hop, and whether the wishes of the domain there count for it. Messages that go the
//! same way share routes and connections.

use std::fmt;
use std::time::Duration;

use vsmtp_config::TlsPolicy;
use vsmtp_mail::{HeaderBlock, NextHop, header_end};

use crate::lease::Lease;
use crate::smtp::counted::is_counted;
use crate::smtp::route::Endpoint;
use crate::smtp::security::{asks_for_sts, asks_for_tlsa, lenient};

/// So much of a message is looked at for its header; nearly all headers end in the first part.
const FIRST_READ: usize = 16 * 1024;
const MAX_HEADER: usize = 256 * 1024;
/// The field by which a sender says that its message matters more than its secrecy (RFC 8689 3).
const TLS_REQUIRED: &str = "TLS-Required";

/// A next hop, by whose policies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Way {
    /// Where.
    pub next_hop: NextHop,
    /// The sender said `TLS-Required: No`: what the domain itself asks for (MTA-STS, DANE) does not count, and the session is
    /// not counted, for a report on TLS says so, and must not be the subject of the next. What the operator asks for always
    /// does count.
    pub lenient: bool,
    /// It is a service that gives messages back, and each of its answers may take so long. Whatever holds for next hops of
    /// that name does not hold for it: no TLS, no account.
    pub service: Option<Duration>,
    /// Places that lack something that this mail needs. What else is there may have it.
    pub left_out: Vec<Endpoint>,
}

impl Way {
    /// The way of a lease, whose next hop has that policy, where sessions are counted or not. A message is read only where
    /// its word makes a difference.
    pub fn of(lease: &Lease, policy: &TlsPolicy, mta_sts: bool, counted: bool) -> Self {
        if lease.service.is_some() {
            return Way { service: lease.service, ..Way::to(lease.next_hop.clone()) };
        }
        let is_mx = matches!(lease.next_hop, NextHop::Smtp { mx: true, .. });
        let matters = asks_for_tlsa(policy) && lenient(policy.clone()) != *policy
            || mta_sts && is_mx && asks_for_sts(policy)
            || counted && is_mx && is_counted(policy);
        // REQUIRETLS says the opposite, and wins (RFC 8689 4.1).
        let lenient = matters && !lease.demands.requiretls && says_no(lease);
        Way { lenient, ..Way::to(lease.next_hop.clone()) }
    }

    /// The way to a next hop, held to all that it asks for.
    pub fn to(next_hop: NextHop) -> Self {
        Way { next_hop, lenient: false, service: None, left_out: Vec::new() }
    }
}

/// True if every such field says no, and there is one. A message that cannot be read says nothing.
fn says_no(lease: &Lease) -> bool {
    let Ok(mut head) = lease.content.head(FIRST_READ) else { return false };
    let mut end = header_end(&head);
    if end == FIRST_READ {
        let Ok(more) = lease.content.head(MAX_HEADER) else { return false };
        (end, head) = (header_end(&more), more);
    }
    let block = HeaderBlock::parse(head.get(..end).unwrap_or_default());
    let mut words = block.named(TLS_REQUIRED).map(|field| field.unfolded().eq_ignore_ascii_case(b"no"));
    words.next().is_some_and(|first| first && words.all(|word| word))
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.next_hop.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;
    use crate::lease::tests::attempt;

    fn is_lenient(header: &str, level: &str, next_hop: &str, change: impl FnOnce(&mut Lease)) -> bool {
        let message = format!("A: b\r\n{header}\r\nTLS-Required: No\r\n");
        let attempt = attempt(next_hop, &["a@dst.test"], b"");
        let mut lease = Lease::parse(attempt, None, 1, 0).unwrap();
        lease.content = Content::Memory(message.into_bytes());
        change(&mut lease);
        Way::of(&lease, &TlsPolicy::parse(level).unwrap(), true, false).lenient
    }

    #[test]
    fn what_must_not_be_counted_is_found_whatever_the_policy_makes_of_it() {
        let way = |level: &str, counted: bool| {
            let attempt = attempt("smtp:dst.test", &["a@dst.test"], b"TLS-Required: No\r\n\r\n");
            let lease = Lease::parse(attempt, None, 1, 0).unwrap();
            Way::of(&lease, &TlsPolicy::parse(level).unwrap(), false, counted).lenient
        };
        for level in ["may", "dane-only"] {
            assert!(way(level, true) && !way(level, false), "{level}");
            let policy = TlsPolicy::parse(level).unwrap();
            assert_eq!(lenient(policy.clone()), policy, "which is all that comes of it");
        }
        assert!(!way("verify", true), "the operator's word alone is never counted");
    }

    #[test]
    fn a_sender_can_waive_what_the_domain_asks_for() {
        let of = |header: &str| is_lenient(header, "may", "smtp:dst.test", |_| {});
        for no in
            ["TLS-Required: No\r\n", "tls-required:\r\n no\r\n", "TLS-Required: No\r\nTLS-Required: NO\r\n"]
        {
            assert!(of(no), "{no}");
            assert!(of(&format!("X: {}\r\n{no}", "x".repeat(2 * FIRST_READ))), "{no}");
        }
        for other in
            ["", "TLS-Required: Yes\r\n", "TLS-Required:\r\n", "TLS-Required: No\r\nTLS-Required: x\r\n"]
        {
            assert!(!of(other), "{other}");
        }
    }

    #[test]
    fn what_the_operator_asks_for_cannot_be_waived_and_requiretls_wins() {
        let no = "TLS-Required: No\r\n";
        assert!(is_lenient(no, "dane", "smtp:dst.test", |_| {}));
        assert!(is_lenient(no, "dane", "smtp:[mx.dst.test]:26", |_| {}));
        for level in ["encrypt", "verify", "dane-only", "none"] {
            assert!(!is_lenient(no, level, "smtp:dst.test", |_| {}), "{level}");
        }
        // A server that the operator named has no MTA-STS policy.
        assert!(!is_lenient(no, "may", "smtp:[mx.dst.test]:26", |_| {}));
        assert!(!is_lenient(no, "may", "smtp:dst.test", |lease| lease.demands.requiretls = true));
    }
}
