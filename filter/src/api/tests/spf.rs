//! `spf::` and `check_spf`: policies of both dialects, and what is shown of what was found.

use super::*;

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
    holds(&engine, Stage::Mail, "sys::check_spf(ctx(), srv()) == spf::check_raw()");
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
