//! `ctx()`, `msg()`, `srv()`: what scripts of vSL 1.x call functions on, and what prints the context or the message.

use rhai::{Dynamic, EvalAltResult, ImmutableString, NativeCallContext};

use super::message;
use super::registry::{Registry, name, raise};
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

/// What is known of the session and the message, without its bytes.
pub(super) fn json(t: &Transaction) -> String {
    let mut members: Vec<(&str, String)> = vec![("stage", quoted(t.stage.name()))];
    members.push(("client_ip", quoted(&t.client_ip)));
    members.push(("server_name", quoted(t.peer.server_name.as_str())));
    members.push(("is_secured", t.tls.is_some().to_string()));
    members.push(("is_authenticated", t.peer.is_authenticated().to_string()));
    if let Some(helo) = &t.helo {
        members.push(("helo", quoted(helo)));
    }
    if let Some(mail) = &t.mail {
        members.push(("mail_from", quoted(&mail.reverse_path.to_string())));
    }
    let rcpts: Vec<String> =
        t.recipients.iter().map(|entry| quoted(&entry.spec.address.to_string())).collect();
    members.push(("rcpt_list", format!("[{}]", rcpts.join(", "))));
    if let Some(id) = t.id {
        members.push(("message_id", quoted(&id.to_string())));
    }
    let lines: Vec<String> =
        members.into_iter().map(|(name, value)| format!("  {}: {value}", quoted(name))).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
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
