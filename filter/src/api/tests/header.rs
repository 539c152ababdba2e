//! Header fields: every edit to the octet.

use super::*;

#[test]
fn header_edits_are_byte_exact() {
    let engine = engine();
    let original = String::from_utf8(HEADER.to_vec()).unwrap();
    for (body, expected) in [
        ("", original.clone()),
        ("msg::append_header(\"X-New\", \"v\")", original.replace("\r\n\r\n", "\r\nX-New: v\r\n\r\n")),
        (
            "prepend_header(\"A\", \"1\"); prepend_header(\"B\", fqdn(\"x.y\"))",
            format!("B: x.y\r\nA: 1\r\n{original}"),
        ),
        ("msg::set_header(\"subject\", \"new\")", original.replace("Subject: hello", "subject: new")),
        ("msg::set_header(\"X-None\", \"new\")", original.replace("\r\n\r\n", "\r\nX-None: new\r\n\r\n")),
        ("msg::rename_header(\"X-TAG\", \"Y\")", original.replace("X-Tag: 1", "Y: 1")),
        ("while msg::rm_header(\"x-tag\") { }", original.replace("X-Tag: 1\r\nx-tag: 2\r\n", "")),
        ("remove_header(identifier(\"X-Tag\"))", original.replace("X-Tag: 1\r\n", "")),
    ] {
        let (result, after) = run(&engine, at(Stage::Preq), &format!("{body}; next()"));
        let bytes = String::from_utf8(after.header.to_bytes()).unwrap();
        assert_eq!(
            (result, bytes, after.header_changed),
            (Ok(Status::Next), expected, !body.is_empty()),
            "{body}"
        );
    }
    for expression in [
        "msg::has_header(\"SUBJECT\") && !has_header(\"Nope\") && msg::count_header(\"X-Tag\") == 2",
        "msg::get_header(\"Received\") == \"from here\\tby there\" && msg::get_header(\"Nope\") == \"\"",
        "msg::get_all_headers(\"x-tag\") == [\" 1\", \" 2\"] && msg::get_all_headers().len() == 5",
        "msg::get_all_headers()[1] == \"Subject: hello\" && get_header_untouched(\"to\") == [\"To: a@b.c\"]",
        "msg::mail().contains(\"\\r\\n\\r\\nbody\") && mail().starts_with(\"Received\") && msg::size() > 50",
    ] {
        holds(&engine, Stage::Preq, expression);
    }
    for (body, words) in [
        ("msg::append_header(\"X\", \"a\\r\\nBcc: b@c.d\")", "cannot be a header field"),
        ("msg::append_header(\"X\", \"a\\nb\")", "cannot be a header field"),
        ("msg::append_header(\"X:\", \"a\")", "cannot be a header field"),
        ("msg::append_header(\"X Y\", \"a\")", "cannot be a header field"),
        ("msg::rename_header(\"Subject\", \"a b\")", "cannot be the name"),
        ("let s = \"x\"; s.pad(70000, \"x\"); msg::append_header(\"X\", s)", "too large"),
        ("let s = \"x\"; s.pad(60000, \"x\"); loop { msg::append_header(\"X\", s); }", "too many"),
    ] {
        fails(&engine, Stage::Preq, body, words);
    }
}

#[test]
fn headers_of_early_stages_stand_in_front_of_the_message() {
    let engine = engine();
    let (_, mut t) = run(
        &engine,
        at(Stage::Connect),
        "msg::prepend_header(\"A\", \"1\"); msg::prepend_header(\"B\", \"2\"); next()",
    );
    t.receive_header(HEADER);
    assert!(t.header.to_bytes().starts_with(b"B: 2\r\nA: 1\r\nReceived: from here"));
    assert!(t.header_changed);
}
