//! What vSL 1.x has as variables without a module. They are names like others: a script's own variable of the same name is
//! what the name means there.

use rhai::{Dynamic, Engine};

/// Their names; `api` gives them their values.
pub const OLD_VARIABLES: [&str; 18] = [
    "code554_7_1",
    "code550_7_20",
    "code550_7_21",
    "code550_7_22",
    "code550_7_23",
    "code451_7_24",
    "code550_7_24",
    "code550_7_25",
    "code550_7_26",
    "code550_7_27",
    "code556_1_10",
    "code_greylist",
    "code451_3_0",
    "code550_1_1",
    "net_192",
    "net_172",
    "net_10",
    "non_routable_net",
];

/// Makes their values known, inside functions too.
#[allow(deprecated, reason = "Rhai marks on_var as volatile, not as deprecated; the version is pinned")]
pub fn give_old_variables(
    engine: &mut Engine,
    value: impl Fn(&str) -> Option<Dynamic> + Send + Sync + 'static,
) {
    engine.on_var(move |name, index, _| {
        // Every look at a variable comes by: most are told apart by their first letters.
        let may_be_old = index == 0 && (name.starts_with("code") || name.starts_with('n'));
        Ok(if may_be_old { value(name) } else { None })
    });
}
