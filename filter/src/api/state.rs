//! Statuses: what a rule returns. Each takes no code, a code object, or a reply written as text.

use rhai::ImmutableString;
use vsmtp_mail::Reply;

use super::code::parse;
use super::registry::{Name, Outcome, Registry, name};
use crate::object::{Fault, Object};
use crate::status::Status;

/// Longest name of a quarantine.
const MAX_QUARANTINE_NAME: usize = 128;

pub(super) fn register(registry: &mut Registry) {
    registry.engine.register_type_with_name::<Status>("status");
    registry.engine.register_fn("to_string", |status: &mut Status| status.name());
    registry.engine.register_fn("to_debug", |status: &mut Status| status.name());
    registry.engine.register_fn("==", |a: Status, b: Status| a == b);
    registry.engine.register_fn("!=", |a: Status, b: Status| a != b);

    registry.free0(name("state", "next", &["next"]), || Status::Next);
    registry.free0(name("state", "accept", &["accept"]), || Status::Accept(None));
    registry.free0(name("state", "faccept", &["faccept"]), || Status::FinalAccept(None));
    registry.free0(name("state", "deny", &["deny"]), Status::deny_default);
    registry.free0(name("state", "reject", &["reject"]), Status::reject_default);
    with_code(registry, name("state", "accept", &["accept"]), |reply| {
        positive(reply).map(|r| Status::Accept(Some(r)))
    });
    with_code(registry, name("state", "faccept", &["faccept"]), |reply| {
        positive(reply).map(|r| Status::FinalAccept(Some(r)))
    });
    with_code(registry, name("state", "deny", &["deny"]), |reply| negative(reply).map(Status::Deny));
    with_code(registry, name("state", "reject", &["reject"]), |reply| negative(reply).map(Status::Reject));
    // A reply that refuses nothing: the session goes on as it would.
    with_code(registry, name("state", "info", &["info"]), |reply| {
        Ok(if reply.is_positive() { Status::Accept(Some(reply)) } else { Status::Reject(reply) })
    });
    registry.free1(name("state", "quarantine", &["quarantine"]), |name: ImmutableString| quarantine(&name));
    registry.free1(name("state", "quarantine", &["quarantine"]), |name: Object| quarantine(&name.text()));
}

fn with_code(registry: &mut Registry, name: Name, make: fn(Reply) -> Outcome<Status>) {
    registry.free1(name, move |text: ImmutableString| make(parse(&text)?));
    registry.free1(name, move |object: Object| match object {
        Object::Code(reply) => make(Reply::clone(&reply)),
        other => Err(Fault(format!("the argument must be a code, not {}", other.kind()))),
    });
}

fn positive(reply: Reply) -> Outcome<Reply> {
    if reply.is_positive() {
        Ok(reply)
    } else {
        Err(Fault(format!("an accepting reply must be 2xx, not {reply}")))
    }
}

fn negative(reply: Reply) -> Outcome<Reply> {
    if reply.is_transient() || reply.is_permanent() {
        return Ok(reply);
    }
    Err(Fault(format!("a refusing reply must be 4xx or 5xx, not {reply}")))
}

/// Names may have parts (`virus/zip`), but never climb.
fn quarantine(name: &str) -> Outcome<Status> {
    let part_ok = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    if name.len() > MAX_QUARANTINE_NAME || !name.split('/').all(part_ok) {
        let allowed = "letters, digits, '-', '_', '.', in parts divided by '/'";
        return Err(Fault(format!("'{name}' cannot name a quarantine: {allowed}")));
    }
    Ok(Status::Quarantine(name.into()))
}
