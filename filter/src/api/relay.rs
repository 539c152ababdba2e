//! The helpers of vSL 1.x against relaying: `check_mail_relay()`, `check_rcpt_relay()`.

use std::sync::Arc;

use rhai::Dynamic;
use vsmtp_mail::{Domain, EnhancedCode, Reply, ReversePath};

use super::address::object;
use super::general::Surroundings;
use super::registry::{Outcome, Registry, name};
use crate::object::{Fault, Object, contains};
use crate::stage::Stage;
use crate::status::Status;
use crate::transaction::Transaction;

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    let ours = Arc::clone(&surroundings.own_domains);
    let errors = "if the argument is neither a network, a list nor an address";
    let mail = name("", "check_mail_relay", &["check_mail_relay"])
        .doc("(allowed: group) -> status", "Refuses a sender of one of our domains, unless the client has authenticated or its address is in `allowed`.")
        .errors(errors)
        .example("rule \"no forged senders\" || check_mail_relay([rg4(\"192.168.0.0/16\")])");
    registry.on1(mail, Stage::Mail, move |t, allowed: Dynamic| {
        let is_ours = match t.mail.as_ref().map(|mail| &mail.reverse_path) {
            Some(ReversePath::Address(sender)) => is_own(&ours, sender.domain()),
            _ => false,
        };
        Ok(if is_ours && !is_allowed(t, &allowed)? { Status::Deny(no_relay()) } else { Status::Next })
    });
    let ours = Arc::clone(&surroundings.own_domains);
    let rcpt = name("", "check_rcpt_relay", &["check_rcpt_relay"])
        .doc("(allowed: group) -> status", "For a recipient of none of our domains: accepts if the client has authenticated or its address is in `allowed`, otherwise removes the recipient and refuses with 554. Goes on for our own recipients.")
        .errors(errors)
        .example("rule \"no relay\" || check_rcpt_relay(net_192())");
    registry.on1(rcpt, Stage::Rcpt, move |t, allowed: Dynamic| check_rcpt(t, &ours, &allowed));
}

fn check_rcpt(t: &mut Transaction, ours: &[String], allowed: &Dynamic) -> Outcome<Status> {
    let Some(Object::Address(rcpt)) = t.current.clone() else {
        return Err(Fault::new("there is no recipient"));
    };
    if is_own(ours, rcpt.domain()) {
        return Ok(Status::Next);
    }
    if is_allowed(t, allowed)? {
        return Ok(Status::Accept(None));
    }
    t.remove_recipient(&rcpt);
    Ok(Status::Reject(no_relay()))
}

fn is_own(ours: &[String], domain: &Domain) -> bool {
    ours.iter().any(|own| own == domain.as_str())
}

fn is_allowed(t: &Transaction, allowed: &Dynamic) -> Outcome<bool> {
    let list = Object::from(vec![object(allowed)?]);
    Ok(t.peer.is_authenticated() || contains(&list, &Object::Identifier(t.client_ip.clone()))?)
}

fn no_relay() -> Reply {
    Reply::fixed(554, EnhancedCode(5, 7, 1), "Relay access denied")
}
