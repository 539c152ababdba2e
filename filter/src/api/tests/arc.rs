//! `arc::`: chains that grow, break, or do not count.

use sha2::Digest as _;
use vsmtp_mail::HeaderBlock;
use vsmtp_mail::dkim::encode_base64;

use super::*;

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
        // It is said once, by a set that covers nothing but itself.
        let (done, after) = run(&engine, message("a@own.test", &broken), seal);
        assert_eq!(done, Ok(Status::Next));
        let sealed = String::from_utf8(after.header.to_bytes()).unwrap();
        let number = if from.contains("i=2") { 5 } else { 4 };
        let (seal_field, rest) = sealed.split_at(sealed.find("ARC-Message-Signature").unwrap());
        assert!(seal_field.starts_with(&format!("ARC-Seal: i={number}; a=rsa-sha256; cv=fail;")), "{sealed}");
        let set = rest.split_at(rest.find(&broken).unwrap()).0;
        let alone = HeaderBlock::parse(set.as_bytes());
        let mut fields: Vec<&vsmtp_mail::Field<'_>> = alone.fields().collect();
        fields.reverse();
        let covered = crate::arc::sealed_data(fields.iter().map(|field| field.raw()), seal_field.as_bytes());
        let signature = encode_base64(&sha2::Sha256::digest(&covered));
        assert!(seal_field.replace(['\r', '\n', '\t', ' '], "").ends_with(&signature), "{seal_field}");
        let sealed = sealed.strip_suffix("\r\n").unwrap();
        status(sealed, "fail", 0);
        let (done, after) = run(&engine, message("a@own.test", sealed), seal);
        assert_eq!(done, Ok(Status::Next));
        assert_eq!(String::from_utf8(after.header.to_bytes()).unwrap(), format!("{sealed}\r\n"));
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
