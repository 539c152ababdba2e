//! What plans evaluate themselves must come to what Rhai makes of it: verdict, error, place, and what became of the message.

use std::sync::Arc;

use rhai::Engine;

use crate::api::install_all;
use crate::engine::{self, BuiltIns, Limits, LoadedScript, Root};
use crate::stage::Stage;
use crate::transaction::Shared;

use super::{at, surroundings};

/// Constants that the rules below use.
const TOP: &str = r#"
    const networks = netset::of(["192.168.0.0/16", "10.0.0.0/8"]);
    const senders = table("inline:{ john@example.com=1, example.com=2 }");
    const begins = regex("^j");
    const list = ["a@b.c", "john@example.com", ip4("192.168.1.7")];
    const people = group(["john@example.com", regex("^b")]);
    const number = 4321;
    const text = "john@example.com";
"#;

/// Conditions, with nothing in them for Rhai.
const QUICK: [&str; 43] = [
    "networks.contains(ctx::client_ip())",
    "ctx::client_ip() in networks",
    "!(ctx::client_ip() in networks)",
    "ctx::client_ip() !in networks",
    "ctx::client_ip() in rg4(\"192.168.0.0/16\")",
    "ctx::client_ip() in rg6(\"2001:db8::/32\")",
    "ctx::client_ip() == \"192.168.1.7\"",
    "ctx::client_ip() is \"192.168.1.7\"",
    "ctx::client_ip() not \"192.168.1.7\"",
    "ctx::client_ip() == ip4(\"192.168.1.7\")",
    "ip4(\"192.168.1.8\") != ctx::client_ip()",
    "senders.contains(`${ctx::mail_from()}`)",
    "ctx::mail_from() in senders",
    "senders.contains(`${ctx::mail_from().domain}`)",
    "ctx::mail_from().domain == \"EXAMPLE.com\"",
    "ctx::mail_from() == text",
    "text == ctx::mail_from()",
    "ctx::mail_from() == address(\"john@example.com\")",
    "ctx::mail_from() in begins",
    "ctx::mail_from() == begins",
    "ctx::rcpt().local_part in begins",
    "ctx::rcpt() in people",
    "people.contains(ctx::mail_from())",
    "msg::get_header(\"Subject\") in regex(\"(?i)HELLO\")",
    "msg::has_header(\"subject\")",
    "ctx::client_port() == number",
    "ctx::client_port() != 4321",
    "ctx::is_secured() == false",
    "!ctx::is_secured()",
    "ctx::is_secured() || ctx::client_port() == 4321",
    "ctx::is_local() || ctx::is_secured()",
    "!ctx::is_local() && ctx::client_ip() in networks && ctx::client_port() != 1",
    "`${ctx::client_ip()}:${ctx::client_port()}` == ctx::client_address()",
    "`<${ctx::mail_from()}>` == \"<john@Example.com>\"",
    "client_ip() in net::rg_192()",
    "mail_from() == text",
    "obj::address(\"a@b.c\") == \"a@b.c\"",
    "identifier(\"john\") in ctx::mail_from()",
    "net::non_routable().contains(ctx::client_ip())",
    "state::next() == state::next()",
    "ctx::mail_from().type == \"address\"",
    "msg::rm_header(\"X-Tag\") && msg::rm_header(\"X-Tag\") && !msg::rm_header(\"X-Tag\")",
    "msg::count_header(\"X-Tag\") == 2",
];

/// Conditions of which Rhai does a part, and such as fail.
const OTHERS: [&str; 48] = [
    "ctx::rcpt() !in list",
    "\"john@example.com\" !in list",
    "ctx::client_ip() !in \"192.168.1.7\"",
    "ctx::client_ip() !in [\"a\", 1]",
    "5 !in networks",
    "ctx::client_ip()",
    "ctx::client_ip() && true",
    "false || ctx::client_port()",
    "!ctx::client_ip()",
    "!ctx::rcpt()",
    "ctx::client_port() > 5",
    "ctx::client_port() + 1 == 4322",
    "ctx::client_port() == \"4321\"",
    "ctx::client_ip() == ()",
    "ctx::client_ip() == rg4(\"10.0.0.0/8\")",
    "rg4(\"nonsense\") == \"a\"",
    "ctx::is_local() || rg4(ctx::client_ip()) == \"a\"",
    "regex(\"(\") == \"a\"",
    "address(ctx::client_ip()) == \"a\"",
    "ctx::rcpt() in rg4(\"10.0.0.0/8\")",
    "ctx::rcpt() in list",
    "list.contains(ctx::rcpt())",
    "ctx::client_ip() in [\"a\", \"192.168.1.7\"]",
    "ctx::rcpt().domain in [\"b.c\", \"example.net\"]",
    "\"x\" in \"xyz\"",
    "ctx::client_ip() in \"192.168.1.7 and others\"",
    "ctx::rcpt() in #{ \"joe@example.net\": 1 }",
    "#{ contains: |x| x == 1 }.contains(1)",
    "msg::get_header(5) == \"\"",
    "msg::get_header(\"Subject\").len() == 5",
    "msg::get_header(\"Subject\").nothing()",
    "ctx::mail_from().nothing == 1",
    "ctx::mail_from().nothing()",
    "ctx::client_ip().local_part == \"a\"",
    "networks.contains(5)",
    "networks.contains(ctx::client_ip(), 1)",
    "networks == networks",
    "5 in networks",
    "`${1}${true}${()}${[1, \"a\"]}${1.5}` == \"1true[1, \\\"a\\\"]1.5\"",
    "`${ctx::rcpt_list()}${networks}${msg::get_all_headers()[0]}` != \"\"",
    "ctx::rcpt_list().len() == 2",
    "ctx::rcpt_list()[0] == \"joe@example.net\"",
    "ctx::rcpt_list().domains == [\"b.c\"]",
    "ctx()?.client_port == 4321",
    "auth::credentials().authid == \"x\"",
    "spf::check_raw().result == \"pass\"",
    "cfg::server.name == \"mx.example.com\"",
    "ctx::client_port() == { let a = 4320; a + 1 }",
];

/// Whole bodies.
const BODIES: [&str; 16] = [
    "{ msg::rm_header(\"X-Tag\"); state::next() }",
    "{ msg::append_header(\"X-Client\", ctx::client_ip()); msg::prepend_header(\"X-A\", `b ${ctx::helo()}`); state::next() }",
    "{ msg::append_header(\"X-Client\", \"a\" + ctx::helo()); state::next() }",
    "{ msg::append_header(\"X Client\", \"a\"); state::next() }",
    "{ msg::append_header(\"X-Client\", 5); state::next() }",
    "{ msg::set_header(\"Subject\", ctx::mail_from()); state::accept() }",
    "{ envelop::add_rcpt(\"new@example.com\"); envelop::rm_rcpt(ctx::rcpt()); state::next() }",
    "{ envelop::add_rcpt(ctx::client_ip()); state::next() }",
    "state::deny(code(550, \"5.7.1\", \"no\"))",
    "state::deny(code(250, \"no\"))",
    "state::deny(\"nonsense\")",
    "state::quarantine(\"a/b\")",
    "state::quarantine(\"..\")",
    "if ctx::client_port() == 4321 { state::reject(`450 not ${ctx::client_ip()}`) } else { state::next() }",
    "{ if ctx::client_ip() in networks { return state::accept(\"250 welcome\"); } state::next() }",
    "{ if ctx::client_ip() in networks { msg::append_header(\"A\", \"b\"); } else { return 5; } info(\"250 x\") }",
];

/// One engine whose functions plans know, and one of which they know nothing.
struct Worlds([(Engine, Arc<Root>); 2]);

impl Worlds {
    fn new(limits: &Limits) -> Self {
        Worlds([true, false].map(|knows| {
            let root = Root::none();
            let mut engine = engine::bare(&root, limits);
            let (_, built_ins) = install_all(&mut engine, &surroundings());
            root.give(if knows { built_ins } else { BuiltIns::default() });
            (engine, root)
        }))
    }

    /// Compares what both make of a script; answers how many expressions are left to Rhai where functions are known.
    fn compare(&self, text: &str) -> usize {
        let Worlds([(with, known), (without, unknown)]) = self;
        let (quick, slow) = (script(with, known, text), script(without, unknown, text));
        assert_eq!(outcome(with, &quick), outcome(without, &slow), "{text}");
        quick.stage(Stage::Preq)[0].left_to_rhai()
    }
}

fn script(engine: &Engine, root: &Root, text: &str) -> LoadedScript {
    engine::load_text(engine, root, "filter.vsl", text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What the only rule comes to, twice, and what it leaves of the message.
fn outcome(engine: &Engine, script: &LoadedScript) -> Vec<String> {
    let rule = &script.stage(Stage::Preq)[0];
    let once = |_| {
        let shared = Shared::new(at(Stage::Preq));
        let result = rule.call(engine, &mut shared.tag()).map_err(|failure| failure.error);
        let transaction = shared.lock();
        let header = String::from_utf8_lossy(&transaction.header.to_bytes()).into_owned();
        let recipients: Vec<String> =
            transaction.recipients.iter().map(|entry| entry.spec.address.to_string()).collect();
        format!("{result:?} {header:?} {recipients:?}")
    };
    (0..2).map(once).collect()
}

fn in_rule(top: &str, body: &str) -> String {
    format!("{top}\n#{{ preq: [ rule \"a\" || {body} ] }}")
}

#[test]
fn conditions_come_to_what_rhai_makes_of_them() {
    let worlds = Worlds::new(&Limits::default());
    for condition in QUICK {
        let text = in_rule(TOP, &format!("if {condition} {{ state::accept() }} else {{ state::deny() }}"));
        assert_eq!(worlds.compare(&text), 0, "{condition}");
    }
    for condition in OTHERS {
        worlds.compare(&in_rule(
            TOP,
            &format!("if\n {condition} {{ state::accept() }} else {{ state::deny() }}"),
        ));
    }
}

#[test]
fn bodies_come_to_what_rhai_makes_of_them() {
    let worlds = Worlds::new(&Limits::default());
    for body in BODIES {
        worlds.compare(&in_rule(TOP, body));
    }
}

#[test]
fn what_a_script_defines_is_what_it_calls() {
    let worlds = Worlds::new(&Limits::default());
    for own in [
        "fn contains(a, b) { true }",
        "fn contains(b) { true }",
        "fn rg4(a) { \"192.168.1.7\" }",
        "fn client_ip() { \"10.9.9.9\" }",
        "fn to_string() { \"mine\" }",
        "fn regex(a) { \"mine\" }",
        "fn mail_from() { 5 }",
    ] {
        for condition in [
            "ctx::client_ip() in networks",
            "ctx::client_ip() in rg4(\"10.0.0.0/8\")",
            "client_ip() == \"10.9.9.9\"",
            "networks.contains(\"1.1.1.1\")",
            "`${mail_from()}` == \"mine\"",
            "msg::get_header(\"Subject\") in regex(\"x\")",
        ] {
            let body = format!("if {condition} {{ state::accept() }} else {{ state::deny() }}");
            worlds.compare(&in_rule(&format!("{own}{TOP}"), &body));
        }
    }
}

#[test]
fn what_is_too_large_fails_in_the_same_place() {
    let worlds = Worlds::new(&Limits { string_bytes: 40, ..Limits::default() });
    for condition in [
        "msg::mail() == \"\"",
        "`${ctx::client_ip()}` == \"\"",
        "`${ctx::client_ip()}\n${ctx::client_ip()}${ctx::client_ip()}\n${ctx::client_ip()}` == \"\"",
        "`${msg::get_header(\"Received\")}${msg::get_header(\"Received\")}${msg::get_header(\"Received\")}` == \"\"",
    ] {
        let body = format!("if\n  {condition} {{ state::accept() }} else {{ state::deny() }}");
        worlds.compare(&in_rule("", &body));
    }
    let worlds = Worlds::new(&Limits { operations: 50, ..Limits::default() });
    for body in [
        "{ let n = 0; while ctx::client_port() != 1 { n += 1; } state::next() }",
        "{ for x in 0..100 { msg::rm_header(\"X\"); } state::next() }",
    ] {
        worlds.compare(&in_rule("", body));
    }
}
