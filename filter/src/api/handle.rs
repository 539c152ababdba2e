//! `ctx()`, `msg()`, `srv()`: what scripts of vSL 1.x call functions on, and what prints the context or the message.

use rhai::{Dynamic, EvalAltResult, ImmutableString, NativeCallContext};

use super::registry::{Registry, name, raise};
use super::{context, message};
use crate::object::Fault;
use crate::stage::Stage;
use crate::transaction::{Shared, Transaction};

/// The root that a script named. It holds nothing: what it is asked, it asks the transaction of the running script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handle {
    Context,
    Server,
}

/// The message; a type of its own, for what adds a recipient to the envelope adds an address to the header here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MessageHandle;

pub(super) fn register(registry: &mut Registry) {
    registry.engine.register_type_with_name::<Handle>("handle");
    let context = name("", "ctx", &["ctx"])
        .doc("() -> handle", "The context as a value: functions of `ctx::`, `auth::`, `envelop::` and `transport::` may be called on it, and it prints as JSON.")
        .example("ctx().client_ip == ctx::client_ip() && `${ctx()}`.contains(\"client_ip\")");
    registry.on0(context, Stage::Connect, |_| Ok(Handle::Context));
    let whole = name("", "msg", &["msg"])
        .doc("() -> handle", "The message as a value: functions of `msg::` may be called on it, and it prints as the whole message.")
        .example("msg().has_header(\"Subject\") && `${msg()}`.contains(\"Subject\") // from preq");
    registry.on0(whole, Stage::Connect, |_| Ok(MessageHandle));
    let server = name("", "srv", &["srv"])
        .doc("() -> handle", "The server as a value; an argument of functions of `sys::`.")
        .example("`${srv()}` == ctx::server_name()");
    registry.on0(server, Stage::Connect, |_| Ok(Handle::Server));
    registry.engine.register_type_with_name::<MessageHandle>("message");
    for printer in ["to_string", "to_debug"] {
        registry.engine.register_fn(printer, |context: NativeCallContext, handle: &mut Handle| {
            let handle = *handle;
            print(&context, move |t| {
                Ok(match handle {
                    Handle::Context => json(t).into(),
                    Handle::Server => t.peer.server_name.as_str().into(),
                })
            })
        });
        registry.engine.register_fn(printer, |context: NativeCallContext, _: &mut MessageHandle| {
            print(&context, message::mail)
        });
    }
}

type Printed = Result<ImmutableString, Box<EvalAltResult>>;

fn print(
    context: &NativeCallContext,
    of: impl FnOnce(&mut Transaction) -> Result<ImmutableString, Fault>,
) -> Printed {
    let shared = context.tag().and_then(Dynamic::read_lock::<Shared>).map(|shared| shared.clone());
    let Some(shared) = shared else { return Ok("no transaction".into()) };
    let mut transaction = shared.lock();
    of(&mut transaction).map_err(|fault| raise(context, fault))
}

/// What is known of the session and the message, without its bytes; each member is called as the function of `ctx::` or
/// `auth::` that says the same.
pub(super) fn json(t: &Transaction) -> String {
    let mut members = vec![("stage", quoted(t.stage.name()))];
    of_session(t, &mut members);
    if let Some(mail) = &t.mail {
        members.push(("mail_from", quoted(&mail.reverse_path.to_string())));
        members.push(("mail_timestamp", quoted(&context::timestamp(mail.at_ms))));
        members.push(("is_smtputf8", mail.smtputf8.to_string()));
    }
    members.push(("rcpt_list", list(t.recipients.iter().map(|entry| entry.spec.address.to_string()))));
    if let Some(id) = t.id {
        members.push(("message_id", quoted(&id.to_string())));
    }
    members.push(("authentication_results", list(t.results().into_iter())));
    let lines: Vec<String> =
        members.into_iter().map(|(name, value)| format!("  {}: {value}", quoted(name))).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
}

fn of_session(t: &Transaction, members: &mut Vec<(&str, String)>) {
    let peer = &t.peer;
    members.push(("connection_timestamp", quoted(&context::timestamp(peer.connected_ms))));
    if let Some(service) = peer.service {
        members.push(("service", quoted(service.name())));
    }
    members.push(("client_ip", quoted(&t.client_ip)));
    members.push(("client_port", context::port(peer.client).to_string()));
    if let Some(name) = &peer.client_name {
        members.push(("client_name", quoted(name.as_str())));
    }
    members.push(("server_ip", quoted(&context::ip(peer.server))));
    members.push(("server_port", context::port(peer.server).to_string()));
    members.push(("server_name", quoted(peer.server_name.as_str())));
    members.push(("is_secured", (t.tls.is_some() || peer.was_secured).to_string()));
    if let Some(tls) = &t.tls {
        members.push(("tls_protocol", quoted(&tls.protocol)));
        members.push(("tls_cipher", quoted(&tls.cipher)));
    }
    members.push(("is_authenticated", peer.is_authenticated().to_string()));
    if let Some(helo) = &t.helo {
        members.push(("helo", quoted(helo)));
        members.push(("is_esmtp", t.esmtp.to_string()));
    }
}

/// A JSON list of strings.
fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.map(|item| quoted(&item)).collect();
    format!("[{}]", items.join(", "))
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
