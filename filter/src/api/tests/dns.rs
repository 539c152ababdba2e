//! `dns::` and `dnsbl::` against a small zone.

use super::*;

#[test]
fn names_and_addresses_in_both_dialects() {
    let engine = engine();
    for expression in [
        "dns::lookup(\"mx.test\") == [\"192.0.2.1\", \"2001:db8::1\"]",
        "lookup(fqdn(\"mx.test\")) == dns::lookup(\"mx.test\")",
        "dns::rlookup(\"192.0.2.1\") == [\"mx.test.\"] && rlookup(ip4(\"192.0.2.1\")) == [\"mx.test.\"]",
        "dns::mx(\"mx.test\").len() == 2 && dns::mx(\"mx.test\")[0].host == \"a.test\"",
        "dns::mx(\"mx.test\")[1].preference == 9 && dns::mx(\"no.test\") == []",
        "dns::has_null_mx(\"null.test\") && !dns::has_null_mx(\"mx.test\") && !dns::has_null_mx(\"no.test\")",
        "dns::txt(\"mx.test\") == [\"one\", \"t\u{fffd}o\"] && dns::txt(\"no.test\") == []",
    ] {
        holds(&engine, Stage::Connect, expression);
    }
    for (body, words) in [
        ("dns::lookup(\"no.test\")", "'no.test' has no address"),
        ("dns::lookup(\"slow.test\")", "cannot be looked up at the moment"),
        ("dns::lookup(\"forged.test\")", "cannot be looked up at the moment"),
        ("dns::lookup(\"a b\")", "'a b' is not a name that can be looked up"),
        ("dns::rlookup(\"192.0.2.9\")", "has no name"),
        ("dns::rlookup(\"mx.test\")", "'mx.test' is not an address"),
        ("let s = \"x\"; s.pad(2000, \"x\"); dns::txt(s)", "too long"),
    ] {
        fails(&engine, Stage::Connect, body, words);
    }
}

#[test]
fn lists_of_hosts_add_up_and_a_dead_one_lists_nobody() {
    let engine = engine();
    for expression in [
        "dnsbl::score(ctx::client_ip(), [\"bad.test*3\", \"good.test*-1\", \"dead.test*9\", \"no.test\"]) == 2",
        "dnsbl::score(ctx::client_ip(), [\"bad.test=127.0.0.[2..3]\"]) == 0",
        "dnsbl::lists(ctx::client_ip(), [\"no.test\", \"bad.test\", fqdn(\"good.test\")]) == [\"bad.test\", \"good.test\"]",
        "dnsbl::lists(ip4(\"192.0.2.1\"), [\"bad.test\"]) == []",
    ] {
        holds(&engine, Stage::Connect, expression);
    }
    for (body, words) in [
        ("dnsbl::score(\"mx.test\", [])", "is not an address"),
        ("dnsbl::score(\"192.0.2.1\", [\"a b\"])", "is not a list"),
        ("dnsbl::score(\"192.0.2.1\", [1, 2])", "is not a list"),
        ("let l = []; l.pad(65, \"bad.test\"); dnsbl::lists(\"192.0.2.1\", l)", "at most 64"),
    ] {
        fails(&engine, Stage::Connect, body, words);
    }
}

#[test]
fn names_cannot_be_asked_while_a_script_is_loaded() {
    let mut engine = engine::bare(&Root::none(), &Limits::default());
    install(&mut engine, &Surroundings::default());
    let text = "const IP = dns::lookup(\"mx.test\"); #{}";
    let error = engine::load_text(&engine, &Root::none(), "t.vsl", text).unwrap_err();
    assert!(error.message.contains("at the moment"), "{error}");
}
