//! The global functions and variables of vSL 1.x, one call of each: that they are there, and work at the stage where scripts
//! call them.

use super::*;

/// First stage, statements.
const CALLS: &[(Stage, &str)] = &[
    (Stage::Connect, "accept()"),
    (Stage::Connect, "accept(\"250 ok\")"),
    (Stage::Connect, "faccept()"),
    (Stage::Connect, "faccept(\"250 ok\")"),
    (Stage::Connect, "deny()"),
    (Stage::Connect, "deny(\"550 no\")"),
    (Stage::Connect, "info(\"450 later\")"),
    (Stage::Connect, "next()"),
    (Stage::Connect, "quarantine(\"a/b\")"),
    (Stage::Connect, "client_ip()"),
    (Stage::Connect, "client_port()"),
    (Stage::Connect, "client_address()"),
    (Stage::Connect, "server_ip()"),
    (Stage::Connect, "server_port()"),
    (Stage::Connect, "server_address()"),
    (Stage::Connect, "server_name()"),
    (Stage::Connect, "connection_timestamp()"),
    (Stage::Connect, "is_secured()"),
    (Stage::Connect, "is_authenticated()"),
    (Stage::Helo, "helo()"),
    (Stage::Mail, "mail_from()"),
    (Stage::Mail, "mail_timestamp()"),
    (Stage::Preq, "message_id()"),
    (Stage::Rcpt, "rcpt()"),
    (Stage::Rcpt, "rcpt_list()"),
    (Stage::Rcpt, "rcpt_list().get_local_parts()"),
    (Stage::Rcpt, "rcpt_list().get_domains()"),
    (Stage::Rcpt, "rcpt().get_local_part()"),
    (Stage::Rcpt, "rcpt().get_domain()"),
    (Stage::Authenticate, "auth().authid"),
    (Stage::Authenticate, "authenticate()"),
    (Stage::Mail, "rewrite_mail_from_envelop(\"a@b.c\")"),
    (Stage::Mail, "rewrite_mail_from(\"a@b.c\")"),
    (Stage::Preq, "rewrite_mail_from_message(\"a@b.c\")"),
    (Stage::Rcpt, "rewrite_rcpt_envelop(\"joe@example.net\", \"a@b.c\")"),
    (Stage::Rcpt, "rewrite_rcpt(\"joe@example.net\", \"a@b.c\")"),
    (Stage::Preq, "rewrite_rcpt_message(\"a@b.c\", \"d@e.f\")"),
    (Stage::Preq, "rewrite_to(\"a@b.c\", \"d@e.f\")"),
    (Stage::Mail, "add_rcpt_envelop(\"a@b.c\")"),
    (Stage::Mail, "add_rcpt(\"a@b.c\")"),
    (Stage::Preq, "add_rcpt_message(\"d@e.f\")"),
    (Stage::Preq, "add_to(\"d@e.f\")"),
    (Stage::Preq, "add_to_message(\"d@e.f\")"),
    (Stage::Preq, "rewrite_to_message(\"a@b.c\", \"d@e.f\")"),
    (Stage::Preq, "remove_to_message(\"a@b.c\")"),
    (Stage::Mail, "rewrite_mail_from_context(\"a@b.c\")"),
    (Stage::Mail, "add_rcpt_context(\"a@b.c\")"),
    (Stage::Rcpt, "rewrite_rcpt_context(\"joe@example.net\", \"a@b.c\")"),
    (Stage::Rcpt, "remove_rcpt_context(\"joe@example.net\")"),
    (Stage::Authenticate, "ctx().auth.authid"),
    (Stage::Connect, "ctx().client_port"),
    (Stage::Connect, "ctx().is_authenticated"),
    (Stage::Preq, "ctx().message_id"),
    (Stage::Preq, "verify_dkim()"),
    (Stage::Preq, "dkim_verify()"),
    (Stage::Preq, "check_dmarc()"),
    (Stage::Mail, "bcc(\"a@b.c\")"),
    (Stage::Rcpt, "remove_rcpt_envelop(\"joe@example.net\")"),
    (Stage::Rcpt, "remove_rcpt(\"joe@example.net\")"),
    (Stage::Preq, "remove_rcpt_message(\"a@b.c\")"),
    (Stage::Preq, "remove_to(\"a@b.c\")"),
    (Stage::Connect, "has_header(\"X\")"),
    (Stage::Connect, "count_header(\"X\")"),
    (Stage::Connect, "get_header(\"X\")"),
    (Stage::Connect, "get_all_headers()"),
    (Stage::Connect, "get_all_headers(\"X\")"),
    (Stage::Connect, "msg().get_header_untouched(\"X\")"),
    (Stage::Connect, "append_header(\"X\", \"1\")"),
    (Stage::Connect, "prepend_header(\"X\", \"1\")"),
    (Stage::Connect, "set_header(\"X\", \"1\")"),
    (Stage::Connect, "rename_header(\"X\", \"Y\")"),
    (Stage::Connect, "remove_header(\"X\")"),
    (Stage::Preq, "mail()"),
    (Stage::Rcpt, "forward(rcpt(), \"192.0.2.1\")"),
    (Stage::Rcpt, "forward_all(\"192.0.2.1\")"),
    (Stage::Rcpt, "deliver(rcpt())"),
    (Stage::Rcpt, "deliver_all()"),
    (Stage::Rcpt, "mbox(rcpt())"),
    (Stage::Rcpt, "mbox_all()"),
    (Stage::Rcpt, "maildir(rcpt())"),
    (Stage::Rcpt, "maildir_all()"),
    (Stage::Rcpt, "disable_delivery(rcpt())"),
    (Stage::Rcpt, "disable_delivery_all()"),
    (Stage::Mail, "check_spf(\"both\", \"soft\")"),
    (Stage::Mail, "check_mail_relay(net_10)"),
    (Stage::Rcpt, "check_rcpt_relay([net_10, \"192.0.2.1\"])"),
    (Stage::Rcpt, "in_domain(rcpt())"),
    (Stage::Connect, "get_root_domain(\"a.b.c\")"),
    (Stage::Connect, "lookup(\"mx.test\")"),
    (Stage::Connect, "rlookup(\"192.0.2.1\")"),
    (Stage::Connect, "log(\"debug\", \"x\")"),
    (Stage::Connect, "print(\"x\")"),
    (Stage::Connect, "time()"),
    (Stage::Connect, "date()"),
    (Stage::Connect, "user_exist(\"jane\")"),
    (Stage::Connect, "hostname()"),
    (Stage::Connect, "env(\"KEY\")"),
    (Stage::Connect, "new_address(\"a@b.c\")"),
    (Stage::Connect, "toml::server.domain"),
    (Stage::Connect, "toml::app"),
    (Stage::Connect, "ctx().client_ip"),
    (Stage::Connect, "ctx().server_name"),
    (Stage::Connect, "ctx().is_secured"),
    (Stage::Helo, "ctx().helo"),
    (Stage::Mail, "ctx().mail_from"),
    (Stage::Rcpt, "ctx().rcpt"),
    (Stage::Rcpt, "ctx().rcpt_list"),
    (Stage::Rcpt, "ctx().add_rcpt(\"a@b.c\")"),
    (Stage::Preq, "msg().add_rcpt(\"a@b.c\")"),
    (Stage::Connect, "sys::client_ip(ctx())"),
    (Stage::Mail, "sys::check_spf(ctx(), srv()).result"),
    (Stage::Connect, "sys::append_header(msg(), \"X\", \"1\")"),
    (Stage::Rcpt, "sys::forward_all(ctx(), \"192.0.2.1\")"),
    (Stage::Connect, "srv()"),
    (Stage::Connect, "deny(code550_7_20)"),
    (Stage::Connect, "deny(code550_7_21)"),
    (Stage::Connect, "deny(code550_7_22)"),
    (Stage::Connect, "deny(code550_7_23)"),
    (Stage::Connect, "info(code451_7_24)"),
    (Stage::Connect, "deny(code550_7_24)"),
    (Stage::Connect, "deny(code550_7_25)"),
    (Stage::Connect, "deny(code550_7_26)"),
    (Stage::Connect, "deny(code550_7_27)"),
    (Stage::Connect, "deny(code556_1_10)"),
    (Stage::Connect, "info(code_greylist)"),
    (Stage::Connect, "client_ip() in net_192 || client_ip() in net_172"),
];

#[test]
fn every_global_of_the_old_dialect_is_there() {
    let engine = engine();
    let mut failed = Vec::new();
    for (stage, call) in CALLS {
        let mut transaction = at(*stage);
        if *stage == Stage::Authenticate {
            transaction.identify(Some(jane()));
        }
        if let (Err(error), _) = run(&engine, transaction, &format!("let x = {call}; next()")) {
            failed.push(format!("{call} at {stage}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn old_constants_are_variables_and_functions_and_give_way_to_names_of_a_script() {
    let engine = engine();
    for expression in [
        "client_ip() in net_192 && client_ip() in non_routable_net && !(client_ip() in net_10)",
        "code554_7_1 == code554_7_1() && code554_7_1 == code::c554_7_1()",
        "{ let net_10 = 5; net_10 == 5 }",
        "[\"192.168.0.1\", \"1.2.3.4\"].filter(|ip| ip in net_192) == [\"192.168.0.1\"]",
    ] {
        holds(&engine, Stage::Connect, expression);
    }
    let text = "fn is_inside(ip) { ip in non_routable_net }\n\
        #{ connect: [ rule \"r\" || if is_inside(client_ip()) { info(code554_7_1) } else { next() } ] }";
    let script = engine::load_text(&engine, &Root::none(), "t.vsl", text).unwrap();
    let status = script.stage(Stage::Connect)[0].call(&engine, &mut Shared::new(at(Stage::Connect)).tag());
    assert!(matches!(status, Ok(Status::Reject(reply)) if reply.code() == 554));
    let mut names: Vec<&str> = constants().iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let mut known = engine::OLD_VARIABLES.to_vec();
    known.sort_unstable();
    assert_eq!(names, known);
}

#[test]
fn relaying_is_refused_as_the_old_helpers_say() {
    let engine = engine();
    let of = |sender: &str, rcpt: &str| {
        let mut t = at(Stage::Rcpt);
        t.set_sender(ReversePath::parse(sender).unwrap());
        let address = address(rcpt);
        t.add_client_recipient(RcptSpec { address, original: None, notify: Notify::default() }).unwrap();
        t
    };
    for (sender, call, name) in [
        ("a@own.test", "check_mail_relay([])", "deny"),
        ("a@own.test", "check_mail_relay(net_192)", "next"),
        ("a@own.test", "check_mail_relay(\"192.168.1.7\")", "next"),
        ("a@other.test", "check_mail_relay([])", "next"),
        ("", "check_mail_relay([])", "next"),
    ] {
        let (status, _) = run(&engine, of(sender, "b@own.test"), call);
        assert_eq!(status.unwrap().name(), name, "{sender}: {call}");
    }
    for (rcpt, call, name, left) in [
        ("b@own.test", "check_rcpt_relay([])", "next", 3),
        ("b@other.test", "check_rcpt_relay([])", "reject", 2),
        ("b@other.test", "check_rcpt_relay(net_192)", "accept", 3),
    ] {
        let (status, after) = run(&engine, of("a@other.test", rcpt), call);
        assert_eq!((status.unwrap().name(), after.recipients.len()), (name, left), "{rcpt}: {call}");
    }
    let mut known = of("a@own.test", "b@other.test");
    known.identify(Some(jane()));
    assert_eq!(run(&engine, known, "check_mail_relay([])").0, Ok(Status::Next));
}

#[test]
fn nothing_is_shown_or_thrown_away_that_the_old_dialect_did() {
    let engine = engine();
    let mut known = at(Stage::Authenticate);
    known.identify(Some(jane()));
    for (body, words) in [("auth().authpass", "not shown"), ("auth().anonymous_token", "not an anonymous")] {
        let error = run(&engine, known.clone(), &format!("{body}; next()")).0.unwrap_err();
        assert!(error.contains(words), "{body}: {error}");
    }
    let (_, after) = run(&engine, at(Stage::Rcpt), "disable_delivery_all(); next()");
    assert!(after.hold.is_some() && after.recipients.len() == 2);
}

#[test]
fn addresses_in_the_header_are_edited_where_they_stand() {
    let engine = engine();
    let header = "From : \"Jane, D\" <a@b.c>\r\nTo:  Joe (x, y) <joe@d.e>,\r\n\tGone <gone@d.e>\r\nCC: team: joe@d.e;\r\n\r\n";
    for (body, from, to) in [
        ("msg::rw_mail_from(\"n@e.w\")", " \"Jane, D\" <a@b.c>", " n@e.w"),
        ("rewrite_mail_from(\"n@e.w\")", " \"Jane, D\" <a@b.c>", " n@e.w"),
        ("msg::rw_rcpt(\"joe@d.e\", \"n@e.w\")", "joe@d.e", "n@e.w"),
        ("msg::rw_rcpt(\"nobody@d.e\", \"n@e.w\")", "", ""),
        ("msg::rm_rcpt(address(\"gone@d.e\"))", ",\r\n\tGone <gone@d.e>", ""),
        (
            "msg::rm_rcpt(\"joe@d.e\")",
            "  Joe (x, y) <joe@d.e>,\r\n\tGone <gone@d.e>\r\nCC: team: joe@d.e;",
            "  Gone <gone@d.e>\r\nCC: team: ;",
        ),
        ("msg::add_rcpt(\"n@e.w\")", "Gone <gone@d.e>", "Gone <gone@d.e>, n@e.w"),
    ] {
        let mut t = at(Stage::Preq);
        t.header = vsmtp_mail::HeaderBlock::default();
        t.receive_header(header.as_bytes());
        let (result, after) = run(&engine, t, &format!("{body}; next()"));
        let expected = if from.is_empty() { header.to_owned() } else { header.replace(from, to) };
        let bytes = String::from_utf8(after.header.to_bytes()).unwrap();
        assert_eq!((result, bytes), (Ok(Status::Next), expected), "{body}");
        assert_eq!(after.header_changed, !from.is_empty(), "{body}");
    }
    for body in [
        "msg::rw_rcpt(\"joe@d.e\", \"n@e.w>\\r\\nBcc: x@y.z\")",
        "msg::add_rcpt(\"x\")",
        "msg::rw_mail_from(\"a\\u0000@b.c\")",
    ] {
        fails(&engine, Stage::Preq, body, "is not an address");
    }
}
