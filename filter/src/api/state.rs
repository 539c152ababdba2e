//! Statuses: what a rule returns. Each takes no code, a code object, or a reply written as text.

use rhai::ImmutableString;
use vsmtp_mail::Reply;

use super::code::parse;
use super::general::Surroundings;
use super::registry::{Name, Outcome, Registry, name};
use crate::object::{Fault, Object};
use crate::status::Status;

/// Longest name of a quarantine.
const MAX_QUARANTINE_NAME: usize = 128;

pub(super) fn register(registry: &mut Registry, surroundings: &Surroundings) {
    registry.engine.register_type_with_name::<Status>("status");
    registry.globally("to_string", |status: &mut Status| status.name());
    registry.globally("to_debug", |status: &mut Status| status.name());
    registry.globally("==", |a: Status, b: Status| a == b);
    registry.globally("!=", |a: Status, b: Status| a != b);

    let status = |v2: &'static str, v1: &'static [&'static str]| name("state", v2, v1);
    let next = status("next", &["next"])
        .doc("() -> status", "Go on with the next rule.")
        .example("rule \"nothing to say\" || state::next()");
    registry.free0(next, || Status::Next);
    let accept = status("accept", &["accept"])
        .doc("() -> status", "Leave this stage, content. At `rcpt` that recipient may be relayed to; at `authenticate` the client is who it says.")
        .example("rule \"a friend\" || state::accept()");
    registry.free0(accept, || Status::Accept(None));
    let faccept = status("faccept", &["faccept"])
        .doc(
            "() -> status",
            "Leave this and all later stages of the transaction, those after the queue too, content.",
        )
        .example("rule \"a friend\" || state::faccept()");
    registry.free0(faccept, || Status::FinalAccept(None));
    let deny = status("deny", &["deny"])
        .doc("() -> status", "Refuse with 554 and close the connection. After `preq`: all recipients fail.")
        .example("rule \"an enemy\" || state::deny()");
    let denied = surroundings.denied.clone();
    registry.free0(deny, move || denied.clone());
    let reject = status("reject", &["reject"])
        .doc("() -> status", "Refuse with 451; the session goes on. At `rcpt` the recipient is removed.")
        .example("rule \"not now\" || state::reject()");
    let rejected = surroundings.rejected.clone();
    registry.free0(reject, move || rejected.clone());
    let errors = "if the argument is not a code that fits: 2xx to accept, 4xx or 5xx to refuse";
    let accept = accept
        .doc("(reply: code) -> status", "The same with a reply of one's own. At `connect` it becomes the greeting, with 220; the answer to EHLO keeps its keywords.")
        .errors(errors)
        .example("state::accept(\"250 2.1.5 welcome\") is state::accept(code(250, \"2.1.5\", \"welcome\"))");
    with_code(registry, accept, |reply| positive(reply).map(|r| Status::Accept(Some(r))));
    let faccept = faccept
        .doc("(reply: code) -> status", "The same with a reply of one's own.")
        .errors(errors)
        .example("state::faccept(\"250 welcome\") is state::faccept(code(250, \"welcome\"))");
    with_code(registry, faccept, |reply| positive(reply).map(|r| Status::FinalAccept(Some(r))));
    let deny = deny
        .doc("(reply: code) -> status", "The same with a reply of one's own.")
        .errors(errors)
        .example("rule \"no relay\" || state::deny(code::c554_7_1())");
    with_code(registry, deny, |reply| negative(reply).map(Status::Deny));
    let reject = reject
        .doc("(reply: code) -> status", "The same with a reply of one's own.")
        .errors(errors)
        .example("rule \"greylist\" || state::reject(code::c451_7_1())");
    with_code(registry, reject, |reply| negative(reply).map(Status::Reject));
    // A reply that refuses nothing: the session goes on as it would.
    let info = status("info", &["info"])
        .doc(
            "(reply: code) -> status",
            "Say this and stay: a reply of 4xx or 5xx refuses as `reject` does, one of 2xx accepts.",
        )
        .errors("if the argument is not a code")
        .example("state::info(\"450 later\") is state::reject(\"450 later\")");
    with_code(registry, info, |reply| {
        Ok(if reply.is_positive() { Status::Accept(Some(reply)) } else { Status::Reject(reply) })
    });
    let aside = status("quarantine", &["quarantine"])
        .doc(
            "(name: string) -> status",
            "Take the message, but keep it in the queue under this name. Later stages do not run.",
        )
        .errors(
            "if the name has other characters than letters, digits, `-`, `_`, `.`, in parts divided by `/`",
        )
        .example("rule \"virus\" || state::quarantine(\"virus/mail\")");
    registry.free_text(aside, quarantine);
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
