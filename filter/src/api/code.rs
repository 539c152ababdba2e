//! Replies: `code(...)` and the ready-made ones of `code::`.

use std::sync::Arc;

use rhai::{ImmutableString, Map};
use vsmtp_mail::Reply;

use super::registry::{Name, Registry, name};
use crate::object::{Fault, Object, reply};

/// Ready-made replies: name in `code::`, name in vSL 1.x, code, enhanced code, text.
const READY: [(Name, i64, &str, &str); 14] = [
    (
        ready("c554_7_1", &["code554_7_1"])
            .doc("() -> code", "The reply `554 5.7.1 Relay access denied`.")
            .example("code::c554_7_1().to_string().starts_with(\"554 5.7.1\")"),
        554,
        "5.7.1",
        "Relay access denied",
    ),
    (
        ready("c550_7_20", &["code550_7_20"])
            .doc("() -> code", "The reply `550 5.7.20 No passing DKIM signature found`.")
            .example("code::c550_7_20().to_string().starts_with(\"550 5.7.20\")"),
        550,
        "5.7.20",
        "No passing DKIM signature found",
    ),
    (
        ready("c550_7_21", &["code550_7_21"])
            .doc("() -> code", "The reply `550 5.7.21 No acceptable DKIM signature found`.")
            .example("code::c550_7_21().to_string().starts_with(\"550 5.7.21\")"),
        550,
        "5.7.21",
        "No acceptable DKIM signature found",
    ),
    (
        ready("c550_7_22", &["code550_7_22"])
            .doc("() -> code", "The reply `550 5.7.22 No valid author-matched DKIM signature found`.")
            .example("code::c550_7_22().to_string().starts_with(\"550 5.7.22\")"),
        550,
        "5.7.22",
        "No valid author-matched DKIM signature found",
    ),
    (
        ready("c550_7_23", &["code550_7_23"])
            .doc("() -> code", "The reply `550 5.7.23 SPF validation failed`.")
            .example("code::c550_7_23().to_string().starts_with(\"550 5.7.23\")"),
        550,
        "5.7.23",
        "SPF validation failed",
    ),
    (
        ready("c451_7_24", &["code451_7_24"])
            .doc("() -> code", "The reply `451 4.7.24 SPF validation error, try again later`.")
            .example("code::c451_7_24().to_string().starts_with(\"451 4.7.24\")"),
        451,
        "4.7.24",
        "SPF validation error, try again later",
    ),
    (
        ready("c550_7_24", &["code550_7_24"])
            .doc("() -> code", "The reply `550 5.7.24 SPF validation error`.")
            .example("code::c550_7_24().to_string().starts_with(\"550 5.7.24\")"),
        550,
        "5.7.24",
        "SPF validation error",
    ),
    (
        ready("c550_7_25", &["code550_7_25"])
            .doc("() -> code", "The reply `550 5.7.25 Reverse DNS validation failed`.")
            .example("code::c550_7_25().to_string().starts_with(\"550 5.7.25\")"),
        550,
        "5.7.25",
        "Reverse DNS validation failed",
    ),
    (
        ready("c500_7_26", &["code550_7_26"])
            .doc("() -> code", "The reply `550 5.7.26 Multiple authentication checks failed`.")
            .example("code::c500_7_26().to_string().starts_with(\"550 5.7.26\")"),
        550,
        "5.7.26",
        "Multiple authentication checks failed",
    ),
    (
        ready("c550_7_27", &["code550_7_27"])
            .doc("() -> code", "The reply `550 5.7.27 Sender address has null MX`.")
            .example("code::c550_7_27().to_string().starts_with(\"550 5.7.27\")"),
        550,
        "5.7.27",
        "Sender address has null MX",
    ),
    (
        ready("c556_1_10", &["code556_1_10"])
            .doc("() -> code", "The reply `556 5.1.10 Recipient address has null MX`.")
            .example("code::c556_1_10().to_string().starts_with(\"556 5.1.10\")"),
        556,
        "5.1.10",
        "Recipient address has null MX",
    ),
    (
        ready("c451_7_1", &["code_greylist"])
            .doc("() -> code", "The reply `451 4.7.1 Sender is not yet known, please try again`.")
            .example("code::c451_7_1().to_string().starts_with(\"451 4.7.1\")"),
        451,
        "4.7.1",
        "Sender is not yet known, please try again",
    ),
    (
        ready("c451_3_0", &["code451_3_0"])
            .doc("() -> code", "The reply `451 4.3.0 Several destination domains in one transaction`.")
            .example("code::c451_3_0().to_string().starts_with(\"451 4.3.0\")"),
        451,
        "4.3.0",
        "Several destination domains in one transaction",
    ),
    (
        ready("c550_1_1", &["code550_1_1"])
            .doc("() -> code", "The reply `550 5.1.1 Recipient address rejected: no such mailbox here`.")
            .example("code::c550_1_1().to_string().starts_with(\"550 5.1.1\")"),
        550,
        "5.1.1",
        "Recipient address rejected: no such mailbox here",
    ),
];

const fn ready(v2: &'static str, v1: &'static [&'static str]) -> Name {
    name("code", v2, v1)
}

/// The ready-made replies under their names of vSL 1.x, where they are variables and not functions.
pub(super) fn constants() -> impl Iterator<Item = (&'static str, Object)> {
    READY.iter().flat_map(|(name, number, enhanced, text)| {
        let code = reply(*number, enhanced, text).ok().map(|ready| Object::Code(Arc::new(ready)));
        name.global.iter().filter_map(move |global| Some((*global, code.clone()?)))
    })
}

pub(super) fn register(registry: &mut Registry) {
    let object = |reply: Reply| Object::Code(Arc::new(reply));
    let of = |signature: &'static str, text: &'static str, example: &'static str| {
        name("obj", "code", &["code"])
            .doc(signature, text)
            .errors("if the code is not 200 to 599, the enhanced code is not one, or the text cannot be sent")
            .example(example)
    };
    let short = of(
        "(code: int, text: string) -> code",
        "A reply without an enhanced code. Line breaks in the text make it a reply of several lines. Where the client must be told one, it hears 2.0.0, 4.7.1 or 5.7.1.",
        "code(250, \"fine\").type == \"code\"",
    );
    registry.free2(short, move |number: i64, text: ImmutableString| reply(number, "", &text).map(object));
    let long = of(
        "(code: int, enhanced: string, text: string) -> code",
        "A reply with an enhanced code (RFC 3463), whose class is made to agree with the code.",
        "code(550, \"5.7.1\", \"no\").to_string() == \"550 5.7.1 no\\r\\n\"",
    );
    registry.free3(long, move |number: i64, enhanced: ImmutableString, text: ImmutableString| {
        reply(number, &enhanced, &text).map(object)
    });
    let written = of(
        "(reply: string) -> code",
        "A reply written out, with or without enhanced code, or a map with `code`, `enhanced` and `text`.",
        "code(\"250 2.0.0 go\") == code(#{ code: 250, enhanced: \"2.0.0\", text: \"go\" })",
    );
    registry.free1(written, |text: ImmutableString| parse(&text).map(|r| Object::Code(Arc::new(r))));
    registry.free1(written, move |map: Map| of_map(&map).map(object));
    for (name, number, enhanced, text) in READY {
        if let Ok(ready) = reply(number, enhanced, text) {
            let ready = object(ready);
            registry.free0(name, move || ready.clone());
        }
    }
}

/// A reply of a map with `code`, `enhanced` and `text`; a single `value` is a reply written out.
pub(super) fn of_map(map: &Map) -> Result<Reply, Fault> {
    let text = |key: &str| map.get(key).map(ToString::to_string).unwrap_or_default();
    if let Some(value) = map.get("value") {
        return parse(&value.to_string());
    }
    let number = map.get("code").and_then(|code| code.as_int().ok());
    let number = number.ok_or_else(|| Fault::new("the map of a code needs a number as 'code'"))?;
    reply(number, &text("enhanced"), &text("text"))
}

/// A reply written as text, `NNN E.N.H text`.
pub(super) fn parse(text: &str) -> Result<Reply, Fault> {
    Reply::parse(text).map_err(|error| Fault(format!("'{text}' is not a reply: {error}")))
}
