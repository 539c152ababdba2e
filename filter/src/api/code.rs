//! Replies: `code(...)` and the ready-made ones of `code::`.

use std::sync::Arc;

use rhai::{ImmutableString, Map};
use vsmtp_mail::Reply;

use super::registry::{Name, Registry, name};
use crate::object::{Fault, Object, reply};

/// Ready-made replies: name in `code::`, name in vSL 1.x, code, enhanced code, text.
const READY: [(Name, i64, &str, &str); 13] = [
    (name("code", "c554_7_1", &["code554_7_1"]), 554, "5.7.1", "Relay access denied"),
    (name("code", "c550_7_20", &["code550_7_20"]), 550, "5.7.20", "No passing DKIM signature found"),
    (name("code", "c550_7_21", &["code550_7_21"]), 550, "5.7.21", "No acceptable DKIM signature found"),
    (
        name("code", "c550_7_22", &["code550_7_22"]),
        550,
        "5.7.22",
        "No valid author-matched DKIM signature found",
    ),
    (name("code", "c550_7_23", &["code550_7_23"]), 550, "5.7.23", "SPF validation failed"),
    (name("code", "c451_7_24", &["code451_7_24"]), 451, "4.7.24", "SPF validation error, try again later"),
    (name("code", "c550_7_24", &["code550_7_24"]), 550, "5.7.24", "SPF validation error"),
    (name("code", "c550_7_25", &["code550_7_25"]), 550, "5.7.25", "Reverse DNS validation failed"),
    (name("code", "c500_7_26", &["code550_7_26"]), 550, "5.7.26", "Multiple authentication checks failed"),
    (name("code", "c550_7_27", &["code550_7_27"]), 550, "5.7.27", "Sender address has null MX"),
    (name("code", "c556_1_10", &["code556_1_10"]), 556, "5.1.10", "Recipient address has null MX"),
    (name("code", "c451_7_1", &["code_greylist"]), 451, "4.7.1", "Sender is not yet known, please try again"),
    (
        name("code", "c451_3_0", &["code451_3_0"]),
        451,
        "4.3.0",
        "Several destination domains in one transaction",
    ),
];

pub(super) fn register(registry: &mut Registry) {
    let object = |reply: Reply| Object::Code(Arc::new(reply));
    registry.free2(name("obj", "code", &["code"]), move |number: i64, text: ImmutableString| {
        reply(number, "", &text).map(object)
    });
    registry.free3(
        name("obj", "code", &["code"]),
        move |number: i64, enhanced: ImmutableString, text: ImmutableString| {
            reply(number, &enhanced, &text).map(object)
        },
    );
    registry.free1(name("obj", "code", &["code"]), |text: ImmutableString| {
        parse(&text).map(|r| Object::Code(Arc::new(r)))
    });
    registry.free1(name("obj", "code", &["code"]), move |map: Map| {
        let text = |key: &str| map.get(key).map(ToString::to_string).unwrap_or_default();
        let number = map.get("code").and_then(|code| code.as_int().ok());
        let number = number.ok_or_else(|| Fault::new("the map of a code needs a number as 'code'"))?;
        reply(number, &text("enhanced"), &text("text")).map(object)
    });
    for (name, number, enhanced, text) in READY {
        if let Ok(ready) = reply(number, enhanced, text) {
            let ready = object(ready);
            registry.free0(name, move || ready.clone());
        }
    }
    let unknown = reply(550, "5.1.1", "Recipient address rejected: no such mailbox here").map(object);
    if let Ok(unknown) = unknown {
        registry.free0(name("code", "c550_1_1", &["code550_1_1"]), move || unknown.clone());
    }
}

/// A reply written as text, `NNN E.N.H text`.
pub(super) fn parse(text: &str) -> Result<Reply, Fault> {
    Reply::parse(text).map_err(|error| Fault(format!("'{text}' is not a reply: {error}")))
}
