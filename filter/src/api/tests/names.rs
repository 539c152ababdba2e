//! `dns::` and `dnsbl::` against a small zone.

use std::time::Duration;

use vsmtp_ipc::edge::client_resolver::{DnsError, Query, Records, SpfQuestion, SpfResult, SpfVerdict};

use super::*;
use crate::names::Names;

/// All that the tests' resolver knows.
#[derive(Debug)]
pub struct Zone;

impl Names for Zone {
    fn ask(&self, queries: Vec<Query>, _: Duration) -> Vec<Result<Records, DnsError>> {
        queries.iter().map(answer).collect()
    }
}

fn answer(query: &Query) -> Result<Records, DnsError> {
    let addresses = |list: &[&str]| Records::Addresses(list.iter().map(|ip| ip.parse().unwrap()).collect());
    match query {
        Query::Addresses(host) if host == "mx.test" => Ok(addresses(&["192.0.2.1", "2001:db8::1"])),
        Query::Addresses(host) if host == "slow.test" => Err(DnsError::Temporary),
        Query::Addresses(host) if host == "forged.test" => Err(DnsError::Bogus),
        Query::Addresses(host) if host == "a b" => Err(DnsError::BadName),
        Query::Names(ip) if ip.to_string() == "192.0.2.1" => Ok(Records::Names(vec!["mx.test".into()])),
        Query::Mx(host) if host == "mx.test" => {
            Ok(Records::Mx(vec![(5, "a.test".into()), (9, "b.test".into())]))
        }
        Query::Mx(host) if host == "null.test" => Ok(Records::Mx(vec![(0, String::new())])),
        Query::Text(name) if name == "mx.test" => {
            Ok(Records::Text(vec![b"one".to_vec(), b"t\xffo".to_vec()]))
        }
        Query::Ipv4(name) if name == "7.1.168.192.bad.test" => Ok(addresses(&["127.0.0.4"])),
        Query::Ipv4(name) if name == "7.1.168.192.good.test" => Ok(addresses(&["127.0.0.2"])),
        Query::Ipv4(name) if name.ends_with(".dead.test") => Err(DnsError::Temporary),
        Query::Spf(question) => Ok(Records::Spf(spf(question))),
        _ => Err(DnsError::NoSuchName),
    }
}

/// Every domain says what its first label is.
fn spf(question: &SpfQuestion) -> SpfVerdict {
    let domain = question.sender.as_ref().map_or(&question.helo, |(_, domain)| domain);
    let result = match domain.split('.').next().unwrap() {
        "pass" => SpfResult::Pass,
        "fail" | "words" => SpfResult::Fail,
        "softfail" => SpfResult::SoftFail,
        "neutral" => SpfResult::Neutral,
        "temperror" => SpfResult::TempError,
        "permerror" => SpfResult::PermError,
        _ => SpfResult::None,
    };
    let explanation = domain.starts_with("words").then(|| "go away".to_owned());
    SpfVerdict { result, by: "-all \"\r\nX: y".to_owned(), explanation }
}

/// The code of a refusal, or nothing.
fn refused(status: &Status) -> Option<u16> {
    match status {
        Status::Deny(reply) | Status::Reject(reply) => Some(reply.code()),
        _ => None,
    }
}

fn from(sender: &str, stage: Stage) -> Transaction {
    let mut t = at(stage);
    t.set_sender(ReversePath::parse(sender).unwrap());
    t
}

#[test]
fn two_policies_of_one_name_as_each_dialect_has_it() {
    let engine = engine();
    for (domain, old, old_soft, new, new_soft) in [
        ("pass", None, None, None, None),
        ("none", None, None, Some(550), Some(550)),
        ("neutral", None, None, Some(550), Some(550)),
        ("softfail", Some(550), None, Some(550), None),
        ("fail", Some(550), Some(550), Some(550), Some(550)),
        ("permerror", Some(550), Some(550), Some(550), Some(550)),
        ("temperror", Some(451), Some(451), Some(451), Some(451)),
    ] {
        for (call, expected) in [
            ("check_spf(\"both\")", old),
            ("check_spf(\"none\", \"strict\")", old),
            ("check_spf(\"auth\", \"soft\")", old_soft),
            ("spf::check()", new),
            ("spf::check(\"spf\")", new),
            ("spf::check(\"both\", \"soft\")", new_soft),
            ("spf::check(#{ header: \"none\", policy: \"strict\" })", new),
            ("spf::check(#{ policy: \"soft\" })", new_soft),
        ] {
            let (status, _) = run(&engine, from(&format!("a@{domain}.test"), Stage::Mail), call);
            assert_eq!(refused(&status.unwrap()), expected, "{call} of {domain}");
        }
    }
    // Our own domains are nobody's to check in vSL 1.x; a null sender is judged by the name of HELO.
    assert_eq!(run(&engine, from("a@own.test", Stage::Mail), "check_spf(\"both\")").0, Ok(Status::Next));
    let mut null = from("", Stage::Mail);
    null.helo = Some("fail.test".into());
    assert_eq!(refused(&run(&engine, null, "spf::check()").0.unwrap()), Some(550));
    let Ok(Status::Deny(reply)) = run(&engine, from("a@words.test", Stage::Mail), "spf::check()").0 else {
        panic!()
    };
    assert!(reply.to_string().contains("words.test says: go away"), "{reply}");
    for (body, words) in [
        ("spf::check(\"all\")", "is not \"spf\""),
        ("check_spf(\"both\", \"hard\")", "is not \"strict\""),
        ("spf::check(#{ colour: 1 })", "not 'colour'"),
    ] {
        fails(&engine, Stage::Mail, body, words);
    }
    fails(&engine, Stage::Helo, "spf::check()", "from the stage 'mail' on");
    holds(&engine, Stage::Mail, "spf::check_raw().result == \"none\" && spf::check_raw().mechanism != \"\"");
}

/// What a message says at the end of preq, without its own fields.
fn shown(mut t: Transaction, body: &str) -> String {
    let engine = engine();
    let forged = b"Authentication-Results: mx.example.com 1; spf=pass\r\n\
        Authentication-Results: other.example; spf=fail\r\nauthentication-results: MX.EXAMPLE.COM; dkim=pass\r\n\r\n";
    t.header = vsmtp_mail::HeaderBlock::default();
    t.receive_header(forged);
    t.remove_forged_results();
    let (_, after) = run(&engine, t, body);
    String::from_utf8(after.header.to_bytes()).unwrap()
}

#[test]
fn what_was_found_stands_in_one_field_and_forged_ones_are_gone() {
    let other = "Authentication-Results: other.example; spf=fail\r\n\r\n";
    assert_eq!(shown(from("a@pass.test", Stage::Preq), "next()"), other);
    assert_eq!(
        shown(from("a@pass.test", Stage::Preq), "spf::check(\"auth\"); spf::check(\"auth\")"),
        format!("Authentication-Results: mx.example.com;\r\n\tspf=pass smtp.mailfrom=a@pass.test\r\n{other}")
    );
    let received = shown(from("", Stage::Preq), "spf::check(\"spf\")");
    assert!(received.starts_with("Received-SPF: none receiver=mx.example.com;\r\n\tclient-ip=192.168.1.7;"));
    assert!(received.contains("identity=helo;\r\n\tmechanism=\"-all ???X: y\"\r\n"), "{received}");
    let reason = shown(from("a@permerror.test", Stage::Preq), "spf::check(\"auth\")");
    assert!(
        reason.contains("spf=permerror reason=\"-all ???X: y\" smtp.mailfrom=a@permerror.test"),
        "{reason}"
    );
}

#[test]
fn what_was_found_early_is_shown_when_the_message_comes() {
    let (_, mut t) = run(&engine(), from("a@pass.test", Stage::Mail), "spf::check()");
    assert!(t.authentication.is_to_be_shown() && !t.has_early_header());
    t.stage = Stage::Preq;
    t.receive_header(HEADER);
    t.content = Some(Arc::new(Bytes(HEADER.to_vec())));
    t.show_results();
    let text = String::from_utf8(t.header.to_bytes()).unwrap();
    assert!(text.starts_with("Authentication-Results: mx.example.com;\r\n\tspf=pass"), "{text}");
    assert!(text.contains("Received-SPF: pass"), "{text}");
    assert!(t.header_changed);
}

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
