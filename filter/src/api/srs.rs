//! `srs::`: senders under which a forwarder sends.

use std::time::{SystemTime, UNIX_EPOCH};

use rhai::ImmutableString;
use vsmtp_mail::Domain;

use super::address::mailbox;
use super::registry::{Outcome, Registry, Text, name};
use crate::object::{Fault, Object};
use crate::srs;

const SECONDS_PER_DAY: u64 = 86_400;

pub(super) fn register(registry: &mut Registry) {
    let forward = name("srs", "forward", &[])
        .doc("(sender: address, domain: string, secret: string) -> address", "The sender under which a message of `sender` is forwarded by `domain`: SPF passes there, and reports find back. A sender that was rewritten elsewhere becomes an SRS1 address.")
        .errors("if an argument is none, the secret has less than 8 characters, or the result would be too long for an address")
        .example("let sender = srs::forward(\"jane@example.com\", \"forward.example\", \"a long secret\");\nsrs::reverse(sender, \"a long secret\") == \"jane@example.com\"");
    fn forwarded<A: Text>(sender: A, domain: ImmutableString, secret: ImmutableString) -> Outcome<Object> {
        let sender = mailbox(&sender.text())?;
        let domain =
            Domain::parse(&domain).map_err(|error| Fault(format!("'{domain}' is not a domain: {error}")))?;
        srs::forward(&sender, &domain, &secret, today()).map(|address| Object::Address(address.into()))
    }
    registry.free3(forward, forwarded::<ImmutableString>);
    registry.free3(forward, forwarded::<Object>);
    let reverse = name("srs", "reverse", &[])
        .doc("(rcpt: address, secret: string) -> address", "Whom a message to a rewritten address is for.")
        .errors("if it was not rewritten with this secret, or more than 21 days ago")
        .example("try { srs::reverse(\"SRS0=AAAA=AA=example.com=jane@forward.example\", \"a long secret\") } catch (e) { state::deny(\"550 5.1.1 no such address\") }");
    fn reversed<A: Text>(rcpt: A, secret: ImmutableString) -> Outcome<Object> {
        srs::reverse(&mailbox(&rcpt.text())?, &secret, today()).map(|address| Object::Address(address.into()))
    }
    registry.free2(reverse, reversed::<ImmutableString>);
    registry.free2(reverse, reversed::<Object>);
    let is = name("srs", "is_rewritten", &[])
        .doc("(rcpt: address) -> bool", "The address looks like one that was rewritten, here or elsewhere.")
        .errors("if the argument is not an address")
        .example("srs::is_rewritten(\"SRS0=AAAA=AA=example.com=jane@forward.example\") && !srs::is_rewritten(\"jane@example.com\")");
    registry.free_text(is, |text| Ok(srs::is_rewritten(&mailbox(text)?)));
}

/// Days since 1970.
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / SECONDS_PER_DAY)
}
