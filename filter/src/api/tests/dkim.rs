//! `dkim::` and `dmarc::`: signatures that are checked, those that are made, and what authors' domains want.

use super::*;

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
