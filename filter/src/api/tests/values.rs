//! Objects, strings, operators, codes and statuses.

use super::*;

#[test]
fn operators_between_objects_and_strings() {
    let engine = engine();
    for expression in [
        "ctx::client_ip() in rg4(\"192.168.0.0/16\")",
        "ctx::client_ip() in net::rg_192() && ctx::client_ip() in net::non_routable()",
        "!(ctx::client_ip() in [rg4(\"10.0.0.0/8\"), rg4(\"172.16.0.0/12\")])",
        "ip4(\"10.0.0.1\") in [rg4(\"10.0.0.0/8\")] && ip4(\"10.0.0.1\") in rg4(\"10.0.0.0/8\")",
        "ip6(\"::1\") in rg6(\"::/64\") && ip6(\"::1\") == \"0::1\"",
        "client_ip() in net_192() && client_ip() not \"1.2.3.4\"",
        "\"a@b.c\" in [address(\"x@y.z\"), address(\"a@b.c\")] && address(\"a@b.c\") in [\"a@B.c\"]",
        "\"abc\" in regex(\"^a.c$\") && regex(\"^a.c$\") == \"abc\" && regex(\"b\") != \"x\"",
        "address(\"a@b.c\") in regex(\"^a@\")",
        "identifier(\"x\") == \"x\" && \"x\" == identifier(\"x\") && \"x\" != identifier(\"y\")",
        "group([\"a\", fqdn(\"b.c\"), [\"d\"]]).len() == 3 && \"d\" in group([\"a\", [\"d\"]])",
        "fqdn(\"b.c\") in #{ \"b.c\": 1 } && \"b\" in \"abc\" && 3 in [1, 2, 3] && !(3 in [\"a\"])",
        "(fqdn(\"b.c\") + \"!\") == \"b.c!\" && (\"<\" + fqdn(\"b.c\")) == \"<b.c\"",
        "address(\"a@b.c\").to_string() == \"a@b.c\" && address(\"a@b.c\").type == \"address\"",
        "obj::address(\"a@b.c\") == new_address(\"a@b.c\") && address(\"a@b.c\") != fqdn(\"b.c\")",
        "[\"a@b.c\", address(\"d@e.f\")].local_parts == [\"a\", \"d\"]",
        "code(550, \"5.7.1\", \"no\").to_string() == \"550 5.7.1 no\\r\\n\" && code(250, \"ok\") == code(\"250 ok\")",
        "code(501, \"4.7.1\", \"x\") == code(501, \"5.7.1\", \"x\") && code(#{ code: 250, enhanced: \"\", text: \"y\" }) == code(250, \"y\")",
        "code::c554_7_1() == code(554, \"5.7.1\", \"Relay access denied\") && code550_1_1().type == \"code\"",
        "next() == state::next() && deny() != next() && `${accept()}` == \"accept\" && state::deny().to_string() == \"deny\"",
        "env(\"KEY\") == \"value\" && utils::env(\"NONE\") == () && hostname() == \"mx.test\"",
        "time::date().len() == 10 && time::now().len() == 8 && time::timestamp() > 1_700_000_000",
        "`${ctx::client_ip()}/32` in net::rg_192() && \"192.168.1.0/24\" in net::non_routable() && !(\"0.0.0.0/0\" in net::rg_10())",
        "rg4(\"10.1.0.0/16\") in rg4(\"10.0.0.0/8\") && !(rg6(\"::/0\") in rg4(\"10.0.0.0/8\"))",
        "address(\"a@Mx.b.c\").domain.ends_with(\"b.c\") && fqdn(\"b.c\").starts_with(\"b\") && fqdn(\"b.c\").index_of(\"c\") == 2",
        "fqdn(\"b.c\").len() == 3 && fqdn(\"b.c\").to_upper() == \"B.C\" && fqdn(\"b.c\").split(\".\") == [\"b\", \"c\"]",
        "fqdn(\"b.c\").sub_string(2) == \"c\" && fqdn(\"bb.c\").sub_string(0, 2) == \"bb\" && identifier(\"Ab\").to_lower() == \"ab\"",
        "\".c\" in fqdn(\"b.c\") && fqdn(\"b.c\").contains(\"B\") && !(\"x\" in fqdn(\"b.c\")) && !fqdn(\"b.c\").is_empty()",
        "group([\"a\", \"b\"]).map(|x| `${x}!`) == [\"a!\", \"b!\"] && group([\"a\"]).all(|x| x == \"a\")",
        "group([\"a\", \"b\"]).find(|x| x == \"b\") == \"b\" && group([\"a\"]).index_of(|x| x == \"a\") == 0",
        "log(\"debug\", \"x\\r\\ny\") == () && log(\"nonsense\", fqdn(\"a.b\")) == ()",
    ] {
        holds(&engine, Stage::Connect, expression);
    }
    for (body, words) in [
        ("\"no-ip\" in rg4(\"10.0.0.0/8\")", "neither an IP address nor a network"),
        ("ip4(\"192.0.2.1\").starts_with(\"192\")", "no method starts_with"),
        ("ip4(\"192.0.2.1\").filter(|x| true)", "no method filter"),
        ("rg4(\"10.0.0.0/8\").len()", "has no members"),
        ("rg4(\"10.0.0.0/8\") == \"10.0.0.0/8\"", "cannot be compared"),
        ("address(\"nonsense\")", "no domain"),
        ("address(\"a@b\\r\\nc\")", "is not an address"),
        ("rg4(\"10.0.0.0\")", "address/prefix"),
        ("regex(\"(\")", "not a regular expression"),
        ("fqdn(\"a.b\").local_part", "no local part"),
        ("code(99, \"x\")", "200 to 599"),
        ("code(250, \"x.y\", \"x\")", "not an enhanced code"),
        ("code(\"hello\")", "not a reply"),
        ("state::deny(\"250 ok\")", "4xx or 5xx"),
        ("state::accept(\"550 no\")", "2xx"),
        ("state::deny(fqdn(\"a.b\"))", "must be a code"),
        ("state::quarantine(\"../x\")", "cannot name a quarantine"),
        ("state::quarantine(\"\")", "cannot name a quarantine"),
        ("group([1])", "member of a group"),
    ] {
        fails(&engine, Stage::Connect, body, words);
    }
}

#[test]
fn refusals_without_a_code_have_the_code_that_the_configuration_says() {
    for (name, status) in [("Denied", Status::deny_default()), ("Failure", Status::reject_default())] {
        let code = vsmtp_config::reply_code(name);
        assert_eq!(refused(&status), code, "{name}");
        assert_eq!(refused(&status.saying(None, "in other words")), code, "{name}");
    }
}

#[test]
fn statuses_with_codes() {
    let engine = engine();
    for (body, name, reply) in [
        ("next()", "next", ""),
        ("state::accept(\"250 fine\")", "accept", "250 fine"),
        ("faccept(code(250, \"2.0.0\", \"go\"))", "faccept", "250 2.0.0 go"),
        ("deny(code(554, \"5.7.1\", \"two\\nlines\"))", "deny", "554 5.7.1 two; lines"),
        ("state::deny(\"554 5.7.1 \" + ctx::client_ip() + \"\\r\\n\")", "deny", "554 5.7.1 192.168.1.7"),
        ("reject(code::c451_7_1())", "reject", "451 4.7.1 Sender is not yet known, please try again"),
        ("info(\"450 later\")", "reject", "450 later"),
        ("deny()", "deny", "554 5.7.1 Transaction refused by local policy"),
        ("reject()", "reject", "451 4.7.1 Refused by local policy, try again later"),
        ("state::quarantine(\"virus/zip\")", "quarantine", "virus/zip"),
    ] {
        let status = run(&engine, at(Stage::Connect), body).0.unwrap();
        let shown = match &status {
            Status::Accept(reply) | Status::FinalAccept(reply) => reply.as_ref().map(ToString::to_string),
            Status::Deny(reply) | Status::Reject(reply) => Some(reply.to_string()),
            Status::Quarantine(name) => Some(name.to_string()),
            Status::Next | Status::Delegated(_) => None,
        };
        assert_eq!((status.name(), shown.unwrap_or_default().as_str()), (name, reply), "{body}");
    }
}
