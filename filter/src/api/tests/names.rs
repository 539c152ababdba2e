//! `dns::` and `dnsbl::` against a small zone.

use std::time::Duration;

use vsmtp_ipc::edge::client_resolver::{
    DmarcPolicy, DmarcQuestion, DmarcResult, DmarcVerdict, DnsError, Query, Records, SignatureAlgorithm,
    SignatureResult, SignatureVerdict, SpfQuestion, SpfResult, SpfVerdict,
};

use sha2::Digest;

use super::*;
use crate::names::Names;
use crate::signer::Signer;

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
        // A signature of the tests' own key holder.
        Query::Signature(question) if question.selector == "echo" => {
            let result = match question.signature == sha2::Sha256::digest(&question.data).as_slice() {
                true => SignatureResult::Pass,
                false => SignatureResult::Fail,
            };
            Ok(Records::Signature(SignatureVerdict { result, reason: String::new(), testing: false }))
        }
        Query::Signature(question) => Ok(Records::Signature(signature(&question.selector))),
        Query::Dmarc(question) => Ok(Records::Dmarc(dmarc(question))),
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
    let sender = ReversePath::parse(sender).unwrap();
    t.said_sender = Some(sender.clone());
    t.set_sender(sender);
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
fn a_second_check_changes_nothing() {
    let twice =
        shown(from("a@pass.test", Stage::Preq), "spf::check(); spf::check(\"spf\"); check_spf(\"both\")");
    assert_eq!(twice.matches("Received-SPF:").count(), 1, "{twice}");
    assert_eq!(twice.matches("spf=pass").count(), 1, "{twice}");
    // At a later stage, where it is not known any more: that above our own trace is ours.
    let mut later = from("a@pass.test", Stage::Postq);
    let header = b"Received-SPF: fail\r\nReceived: by us\r\nReceived-SPF: none\r\n\r\n";
    later.header = vsmtp_mail::HeaderBlock::default();
    later.receive_header(header);
    let (_, after) = run(&engine(), later, "spf::check(\"spf\")");
    let text = String::from_utf8(after.header.to_bytes()).unwrap();
    assert!(
        text.starts_with("Received-SPF: pass receiver=") && !text.contains("Received-SPF: fail"),
        "{text}"
    );
    assert!(text.ends_with("Received: by us\r\nReceived-SPF: none\r\n\r\n"), "{text}");
}

#[test]
fn the_sender_that_mail_said_is_judged_whatever_rules_make_of_it() {
    for rewrite in ["envelop::rw_mail_from(\"a@own.test\")", "envelop::rw_mail_from(\"b@pass.test\")"] {
        let engine = engine();
        let (status, _) =
            run(&engine, from("a@fail.test", Stage::Mail), &format!("{rewrite}; check_spf(\"both\")"));
        assert_eq!(refused(&status.unwrap()), Some(550), "{rewrite}");
        let text = shown(from("a@fail.test", Stage::Preq), &format!("{rewrite}; spf::check()"));
        assert!(text.contains("spf=fail smtp.mailfrom=a@fail.test"), "{text}");
        assert!(text.contains("envelope-from=\"a@fail.test\""), "{text}");
    }
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

/// Every selector is what becomes of its signatures.
fn signature(selector: &str) -> SignatureVerdict {
    let result = match selector {
        "pass" => SignatureResult::Pass,
        "fail" => SignatureResult::Fail,
        "temperror" => SignatureResult::TempError,
        _ => SignatureResult::PermError,
    };
    SignatureVerdict { result, reason: "because".to_owned(), testing: false }
}

/// Every author's domain asks for what its first label is.
fn dmarc(question: &DmarcQuestion) -> DmarcVerdict {
    let (spf_aligned, dkim_aligned) =
        (question.spf.as_ref() == Some(&question.author), question.dkim.contains(&question.author));
    let (policy, result) = match question.author.split('.').next().unwrap() {
        "nothing" => (DmarcPolicy::None, DmarcResult::None),
        "none" if spf_aligned || dkim_aligned => (DmarcPolicy::None, DmarcResult::Pass),
        _ if spf_aligned || dkim_aligned => (DmarcPolicy::Reject, DmarcResult::Pass),
        "reject" => (DmarcPolicy::Reject, DmarcResult::Fail),
        "quarantine" => (DmarcPolicy::Quarantine, DmarcResult::Fail),
        "temperror" | "unclear" => (DmarcPolicy::None, DmarcResult::TempError),
        _ => (DmarcPolicy::None, DmarcResult::Fail),
    };
    DmarcVerdict {
        result,
        published: policy,
        policy,
        // Where the policy is open, no record is named.
        found_at: if result == DmarcResult::TempError { String::new() } else { question.author.clone() },
        organisation: question.author.clone(),
        spf_aligned,
        dkim_aligned,
        report_to: Vec::new(),
    }
}

/// A message with these fields before an empty body.
fn message(sender: &str, fields: &str) -> Transaction {
    let mut t = from(sender, Stage::Preq);
    let header = format!("{fields}\r\n");
    t.header = vsmtp_mail::HeaderBlock::default();
    t.receive_header(header.as_bytes());
    t.body_offset = header.len() as u64;
    t.content = Some(Arc::new(Bytes(header.into_bytes())));
    t
}

/// A signature whose body hash is right for an empty body.
fn signed(selector: &str, domain: &str) -> String {
    format!(
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s={selector}; h=from;\r\n\
         \tbh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=QUJDREVGR0g=\r\n"
    )
}

#[test]
fn signatures_are_checked_once_and_the_best_one_counts() {
    let engine = engine();
    let both = [signed("fail", "a.test"), signed("pass", "b.test"), "From: a@b.test\r\n".to_owned()].concat();
    let body = "let r = verify_dkim(); if r.status != \"pass\" || r.sdid != \"b.test\" || r.auid != \"@b.test\" \
        || r.signatures.len() != 2 || !dkim::has_result() || dkim::result().sdid != \"b.test\" \
        || dkim::verify().signatures[0].reason != \"because\" { throw `${r}` } next()";
    let (status, after) = run(&engine, message("a@b.test", &both), body);
    assert_eq!(status, Ok(Status::Next));
    let text = String::from_utf8(after.header.to_bytes()).unwrap();
    let expected = "Authentication-Results: mx.example.com;\r\n\
        \tdkim=fail reason=\"because\" header.d=a.test header.i=@a.test header.s=fail header.a=rsa-sha256 header.b=QUJDREVG;\r\n\
        \tdkim=pass header.d=b.test header.i=@b.test header.s=pass header.a=rsa-sha256 header.b=QUJDREVG\r\n";
    assert!(text.starts_with(expected), "{text}");
    for (fields, status) in [
        ("From: a@b.test\r\n".to_owned(), "none"),
        (signed("temperror", "a.test"), "temperror"),
        (signed("gone", "a.test"), "permerror"),
        (signed("pass", "a.test").replace("47DE", "57DE"), "fail"),
        ("DKIM-Signature: x\r\n".to_owned(), "permerror"),
    ] {
        let body = format!("let r = dkim::verify(); if r.status != \"{status}\" {{ throw `${{r}}` }} next()");
        assert_eq!(run(&engine, message("a@b.test", &fields), &body).0, Ok(Status::Next), "{status}");
    }
    let store = "dkim::store(#{ status: \"pass\", sdid: \"c.test\" }); \
        if dkim::verify().sdid != \"c.test\" { throw \"x\" } next()";
    assert_eq!(run(&engine, message("a@b.test", &both), store).0, Ok(Status::Next));
    fails(&engine, Stage::Preq, "dkim::result()", "no signature was checked");
    fails(&engine, Stage::Preq, "dkim::store(#{ status: \"maybe\" })", "no status of DKIM");
    fails(&engine, Stage::Rcpt, "dkim::verify()", "from the stage 'preq' on");
}

#[test]
fn what_an_authors_domain_wants_is_done() {
    let engine = engine();
    let of = |sender: &str, fields: &str, call: &str| run(&engine, message(sender, fields), call).0.unwrap();
    for call in ["dmarc::check()", "check_dmarc()"] {
        let from = |domain: &str| format!("From: a@{domain}\r\n");
        for domain in ["none.test", "nothing.test", "pass.test"] {
            assert_eq!(of("a@pass.test", &from(domain), call), Status::Next, "{domain}");
        }
        assert_eq!(of("a@pass.test", &from("quarantine.test"), call), Status::Quarantine("dmarc".into()));
        assert_eq!(refused(&of("a@pass.test", &from("reject.test"), call)), Some(550));
        assert_eq!(refused(&of("a@pass.test", &from("temperror.test"), call)), Some(451));
        // A signature of the author's domain proves it, one that is not right does not.
        let fields = |selector: &str| signed(selector, "reject.test") + &from("reject.test");
        assert_eq!(of("a@pass.test", &fields("pass"), call), Status::Next);
        assert_eq!(refused(&of("a@pass.test", &fields("fail"), call)), Some(550));
        // What nobody can tell now might have proved it.
        assert_eq!(refused(&of("a@pass.test", &fields("temperror"), call)), Some(451));
        // But not of a stranger, and not where nothing is asked for.
        assert_eq!(refused(&of("a@temperror.test", &from("reject.test"), call)), Some(550));
        let stranger = signed("temperror", "other.test") + &from("reject.test");
        assert_eq!(refused(&of("a@pass.test", &stranger, call)), Some(550));
        let lenient = signed("temperror", "none.test") + &from("none.test");
        assert_eq!(of("a@temperror.test", &lenient, call), Status::Next);
        let unclear = signed("temperror", "unclear.test") + &from("unclear.test");
        assert_eq!(refused(&of("a@pass.test", &unclear, call)), Some(451));
        // Nobody's mail, and mail of several.
        for fields in ["To: a@b.test\r\n", "From: a@none.test, b@pass.test\r\n"] {
            assert_eq!(refused(&of("a@pass.test", fields, call)), Some(550), "{fields}");
        }
    }
    let (_, after) = run(&engine, message("a@pass.test", "From: a@reject.test\r\n"), "dmarc::check()");
    let text = String::from_utf8(after.header.to_bytes()).unwrap();
    let expected = "Authentication-Results: mx.example.com;\r\n\tspf=pass smtp.mailfrom=a@pass.test;\r\n\
        \tdkim=none;\r\n\tdmarc=fail header.from=reject.test policy.dmarc=reject\r\n";
    assert!(text.starts_with(expected), "{text}");
    let raw = "let r = dmarc::check_raw(); if r.result != \"fail\" || r.policy != \"reject\" || r.spf_aligned { throw `${r}` } next()";
    assert_eq!(of("a@pass.test", "From: a@reject.test\r\n", raw), Status::Next);
}

/// The tests' key holder: what it calls a signature is a hash. It has two keys.
#[derive(Debug)]
pub struct Holder;

impl Signer for Holder {
    fn keys(&self, domain: &str) -> Option<Vec<SignatureAlgorithm>> {
        let is_known = ["own.test", "example.com"].contains(&domain);
        is_known.then(|| vec![SignatureAlgorithm::RsaSha256, SignatureAlgorithm::Ed25519Sha256])
    }

    fn sign(&self, domain: &str, number: u32, data: Vec<u8>) -> Option<Vec<u8>> {
        let is_known = ["own.test", "example.com"].contains(&domain) && number < 2;
        is_known.then(|| sha2::Sha256::digest(&data).to_vec())
    }
}

#[test]
fn what_is_signed_in_any_form_is_right_when_it_is_checked() {
    let engine = engine();
    let map = |more: &str| {
        format!(
            "dkim::sign(#{{ selector: \"echo\", private_key: dkim::get_private_keys(\"own.test\")[0]{more} }})"
        )
    };
    for (call, domain, algorithm) in [
        ("sign_dkim(\"echo\")".to_owned(), "own.test", "rsa-sha256"),
        ("sign_dkim(\"echo\", [\"From\", \"Subject\"], \"relaxed/simple\")".to_owned(), "own.test", "rsa-sha256"),
        ("dkim_sign(\"echo\", [\"From\"])".to_owned(), "own.test", "rsa-sha256"),
        ("dkim::sign(\"echo\", dkim::get_private_keys(\"own.test\")[1])".to_owned(), "own.test", "ed25519-sha256"),
        ("dkim::sign(\"echo\", dkim::get_private_keys(fqdn(\"own.test\")), [\"From\", \"To\"], \"relaxed\")".to_owned(), "own.test", "rsa-sha256"),
        (map(""), "own.test", "rsa-sha256"),
        (map(", sdid: \"mail.Own.test\", headers_field: [\"From\"], canonicalization: \"simple\""), "mail.own.test", "rsa-sha256"),
        (map(", headers: [\"From\", \"Date\", \"From\"], canonicalization: \"relaxed/relaxed\""), "own.test", "rsa-sha256"),
    ] {
        let fields = "From: Jane <a@own.test>\r\nSubject: folded\r\n\t and  spaced \r\n";
        let (status, after) = run(&engine, message("a@sub.own.test", fields), &format!("{call}; next()"));
        assert_eq!(status, Ok(Status::Next), "{call}");
        // As the next server sees it.
        let signed = String::from_utf8(after.header.to_bytes()).unwrap();
        let signed = signed.strip_suffix("\r\n").unwrap();
        let check = format!(
            "let r = dkim::verify(); if r.status != \"pass\" || r.sdid != \"{domain}\" || r.algorithm != \"{algorithm}\" \
             {{ throw `${{r}}` }} next()"
        );
        assert_eq!(run(&engine, message("a@own.test", signed), &check).0, Ok(Status::Next), "{call}: {signed}");
        let changed = signed.replace("Jane", "Joe");
        assert!(run(&engine, message("a@own.test", &changed), &check).0.is_err(), "{call}");
    }
    let key = "let k = dkim::get_private_keys(\"own.test\"); ";
    for (body, words) in [
        ("dkim::get_private_keys(\"other.test\")".to_owned(), "no DKIM key of 'other.test'"),
        (format!("{key} dkim::sign(\"a b\", k)"), "cannot be a selector"),
        (
            "dkim::sign(\"echo\", \"-----BEGIN PRIVATE KEY-----\")".to_owned(),
            "comes from dkim::get_private_keys()",
        ),
        (format!("{key} dkim::sign(\"echo\", k, [\"To\"], \"simple\")"), "From must be signed"),
        (format!("{key} dkim::sign(\"echo\", k, [\"From\", \"a:b\"], \"simple\")"), "cannot be the name"),
        (format!("{key} dkim::sign(\"echo\", k, [\"From\"], \"nofws\")"), "is not \"simple\" or \"relaxed\""),
        (
            format!("{key} dkim::sign(#{{ selector: \"echo\", private_key: k, sdid: \"other.test\" }})"),
            "not a domain that",
        ),
        (format!("{key} dkim::sign(#{{ selector: \"echo\", private_key: k, colour: 1 }})"), "not 'colour'"),
        (format!("{key} dkim::sign(#{{ private_key: k }})"), "needs 'selector'"),
    ] {
        fails(&engine, Stage::Preq, &body, words);
    }
    // More than the key holder signs at once is not even asked for.
    let large = format!("From: a@own.test\r\nX: {}\r\n", "x".repeat(vsmtp_ipc::edge::filter_keys::MAX_DATA));
    let body = format!("{key} dkim::sign(\"echo\", k, [\"From\", \"X\"], \"simple\")");
    let (status, _) = run(&engine, message("a@own.test", &large), &body);
    assert!(status.unwrap_err().contains("larger than"));
}

#[test]
fn a_chain_that_grows_stays_whole_and_breaks_where_it_is_changed() {
    let engine = engine();
    let seal = "arc::seal(#{ selector: \"echo\", private_key: dkim::get_private_keys(\"own.test\"), sdid: \"own.test\" }); next()";
    let status = |fields: &str, status: &str, sets: usize| {
        let check = format!(
            "let r = arc::verify(); if r.status != \"{status}\" || r.sets != {sets} {{ throw `${{r}}` }} next()"
        );
        assert_eq!(run(&engine, message("a@own.test", fields), &check).0, Ok(Status::Next), "{fields}");
    };
    let mut fields = "From: Jane <a@own.test>\r\nSubject: hello\r\n".to_owned();
    status(&fields, "none", 0);
    for sets in 1..4 {
        let (done, after) = run(&engine, message("a@own.test", &fields), seal);
        assert_eq!(done, Ok(Status::Next));
        let sealed = String::from_utf8(after.header.to_bytes()).unwrap();
        fields = sealed.strip_suffix("\r\n").unwrap().to_owned();
        let start = if sets == 1 { "cv=none".to_owned() } else { "cv=pass".to_owned() };
        assert!(
            fields.starts_with(&format!("ARC-Seal: i={sets}; a=rsa-sha256; {start}; d=own.test;")),
            "{fields}"
        );
        assert!(
            fields.contains(&format!("ARC-Authentication-Results: i={sets}; mx.example.com;")),
            "{fields}"
        );
        status(&fields, "pass", sets);
    }
    for (from, to, sets) in [
        ("Subject: hello", "Subject: hullo", 3),
        ("ARC-Authentication-Results: i=1; mx", "ARC-Authentication-Results: i=1; my", 3),
        ("cv=none", "cv=pass", 0),
        ("ARC-Seal: i=2", "ARC-Seal: i=4", 0),
        ("ARC-Seal: i=1", "X-Seal: i=1", 0),
    ] {
        let broken = fields.replacen(from, to, 1);
        assert_ne!(broken, fields);
        status(&broken, "fail", sets);
        assert!(run(&engine, message("a@own.test", &broken), seal).0.unwrap_err().contains("is not sealed"));
    }
}

#[test]
fn a_chain_that_leaves_the_author_open_or_is_over_does_not_count() {
    let chain = |names: &str, more: &str| {
        let set = "ARC-Seal: i=1; a=rsa-sha256; cv=none; d=own.test; s=pass; b=QUJD\r\n\
            ARC-Authentication-Results: i=1; own.test; none\r\nFrom: a@own.test\r\nTo: b@own.test\r\n";
        format!(
            "ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=own.test; s=pass; h={names}{more};\r\n\
             \tbh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=QUJD\r\n{set}"
        )
    };
    let engine = engine();
    for (names, more, status) in [
        ("From:To", "", "pass"),
        ("From:To", "; x=1795324251", "pass"),
        ("From:To", "; x=1795324100", "fail"),
        ("To", "", "fail"),
        (&["From"; 300].join(":"), "", "fail"),
    ] {
        let check = format!("let r = arc::verify(); if r.status != \"{status}\" {{ throw `${{r}}` }} next()");
        let message = message("a@own.test", &chain(names, more));
        assert_eq!(run(&engine, message, &check).0, Ok(Status::Next), "{names}{more}");
    }
}
