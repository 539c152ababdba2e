//! Senders, recipients and their transports; what is asked of the queue.

use super::*;

fn recipients(t: &Transaction) -> String {
    let show = |entry: &crate::transaction::Entry| match &entry.transport {
        Some(hop) => format!("{}>{hop}", entry.spec.address),
        None => entry.spec.address.to_string(),
    };
    t.recipients.iter().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn envelope_edits() {
    let engine = engine();
    for (body, expected) in [
        ("envelop::add_rcpt(\"new@example.com\")", "jane@example.org joe@example.net new@example.com"),
        (
            "bcc(address(\"new@example.com\")); bcc(\"new@example.com\")",
            "jane@example.org joe@example.net new@example.com",
        ),
        ("envelop::rm_rcpt(ctx::rcpt())", "jane@example.org"),
        ("envelop::rm_rcpt(\"nobody@example.net\")", "jane@example.org joe@example.net"),
        (
            "envelop::rw_rcpt(\"jane@example.org\", address(\"j@example.com\"))",
            "j@example.com joe@example.net",
        ),
        ("envelop::rw_rcpt(\"jane@example.org\", ctx::rcpt())", "joe@example.net"),
        ("envelop::rw_rcpt(\"nobody@x.y\", \"z@x.y\")", "jane@example.org joe@example.net z@x.y"),
        ("for r in ctx::rcpt_list() { remove_rcpt(r); }", ""),
        (
            "transport::forward(ctx::rcpt(), \"192.0.2.9:2525\")",
            "jane@example.org joe@example.net>smtp:[192.0.2.9]:2525",
        ),
        (
            "forward_all(\"relay.example.com\")",
            "jane@example.org>smtp:[relay.example.com]:25 joe@example.net>smtp:[relay.example.com]:25",
        ),
        (
            "forward_all(\"smtp://relay.example.com:26/\")",
            "jane@example.org>smtp:[relay.example.com]:26 joe@example.net>smtp:[relay.example.com]:26",
        ),
        ("transport::forward(rcpt(), ip6(\"::1\"))", "jane@example.org joe@example.net>smtp:[IPv6:::1]:25"),
        (
            "transport::forward(rcpt(), \"smtp://relay.example.com:26?tls=opportunistic\")",
            "jane@example.org joe@example.net>smtp:[relay.example.com]:26",
        ),
        (
            "transport::deliver(rcpt()); transport::mbox(\"jane@example.org\")",
            "jane@example.org>mbox joe@example.net>smtp:example.net",
        ),
        ("transport::maildir_all()", "jane@example.org>maildir joe@example.net>maildir"),
        ("transport::lmtp(rcpt(), \"unix:/run/x\")", "jane@example.org joe@example.net>lmtp:unix:/run/x"),
        (
            "transport::lmtp_all(\"[::1]:24\")",
            "jane@example.org>lmtp:[IPv6:::1]:24 joe@example.net>lmtp:[IPv6:::1]:24",
        ),
        (
            "transport::maildir(\"new@example.com\")",
            "jane@example.org joe@example.net new@example.com>maildir",
        ),
    ] {
        let (result, after) = run(&engine, at(Stage::Rcpt), &format!("{body}; next()"));
        assert_eq!((result, recipients(&after).as_str()), (Ok(Status::Next), expected), "{body}");
    }
    for (body, words) in [
        ("envelop::add_rcpt(\"nonsense\")", "not an address"),
        ("envelop::add_rcpt(\"a@b>\\r\\nRCPT TO:<c@d\")", "not an address"),
        ("for i in 0..10 { envelop::add_rcpt(`a${i}@b.c`); }", "5 recipients"),
        ("transport::forward_all(\"\")", "not a relay"),
        ("transport::forward_all(\"a b\")", "not a relay"),
        ("transport::forward_all(\"smtps://u:p@h\")", "configuration"),
        ("transport::forward_all(\"smtp://h?tls=required\")", "configuration"),
        ("transport::forward_all(\"[fe80::1%eth0]:25\")", "not a relay"),
        ("transport::lmtp_all(\"unix:relative\")", "not an LMTP server"),
    ] {
        fails(&engine, Stage::Rcpt, body, words);
    }
    let (_, after) = run(&engine, at(Stage::Mail), "envelop::rw_mail_from(\"other@example.org\"); next()");
    assert_eq!(after.mail.unwrap().reverse_path.to_string(), "other@example.org");
    let (result, after) = run(
        &engine,
        at(Stage::Mail),
        "rewrite_mail_from_envelop(\"\"); if ctx::mail_from() is \"null\" { queue::hold(); } next()",
    );
    assert_eq!((result, after.hold.is_some()), (Ok(Status::Next), true));
}

#[test]
fn what_is_asked_of_the_queue_is_checked() {
    let engine = engine();
    for (body, words) in [
        ("queue::priority(10)", "from -9 to 9"),
        ("queue::priority(-10)", "from -9 to 9"),
        ("queue::expire_after(\"59s\")", "from one minute to a hundred days"),
        ("queue::expire_after(\"101d\")", "from one minute to a hundred days"),
        ("queue::expire_after(\"soon\")", "from one minute to a hundred days"),
        ("queue::deliver_after(\"31d\")", "at most thirty days"),
        ("bounce::from(\"x\")", ""),
        ("let t = \"\"; t.pad(2049, \"x\"); bounce::text(t)", "2048 octets at most"),
        ("notify::send(\"x\", \"s\", \"t\")", ""),
        ("let t = \"\"; t.pad(257, \"x\"); notify::send(\"a@b.test\", t, \"t\")", "octets of subject"),
        ("let t = \"\"; t.pad(8193, \"x\"); notify::send(\"a@b.test\", \"s\", t)", "of text at most"),
        ("for i in 0..5 { notify::send(\"a@b.test\", \"s\", \"t\") }", "4 notices at most"),
    ] {
        fails(&engine, Stage::Rcpt, body, words);
    }
    fails(&engine, Stage::Connect, "queue::priority(1)", "mail");
    let long = format!("queue::hold(\"{}\"); next()", "é".repeat(400));
    let (_, after) = run(&engine, at(Stage::Connect), &long);
    assert_eq!(after.hold.as_deref(), Some(&*"é".repeat(250)));
}
