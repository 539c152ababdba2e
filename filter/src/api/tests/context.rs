//! What a transaction tells a script, and from which stage on.

use super::*;

#[test]
fn values_of_the_context() {
    let engine = engine();
    for (stage, expression) in [
        (Stage::Connect, "ctx::client_ip() == \"192.168.1.7\""),
        (Stage::Connect, "client_ip() == ctx::client_ip()"),
        (Stage::Connect, "ctx::client_name() == \"host.example.org\""),
        (Stage::Connect, "ctx::client_port() == 4321 && ctx::client_address() == \"192.168.1.7:4321\""),
        (Stage::Connect, "ctx::server_ip() == \"192.0.2.1\" && ctx::server_port() == 25"),
        (
            Stage::Connect,
            "ctx::server_address() == \"192.0.2.1:25\" && ctx::server_name() == \"mx.example.com\"",
        ),
        (Stage::Connect, "ctx::service() == \"submission\""),
        (Stage::Connect, "ctx::connection_timestamp() == \"2026-11-22T05:10:49Z\""),
        (Stage::Connect, "!ctx::is_secured() && !auth::is_authenticated() && !ctx::is_local()"),
        (Stage::Helo, "ctx::helo() == \"client.example\" && helo() is \"client.example\""),
        (
            Stage::Mail,
            "ctx::mail_from() == \"john@EXAMPLE.com\" && mail_from() == address(\"john@example.com\")",
        ),
        (
            Stage::Mail,
            "ctx::mail_from().local_part == \"john\" && ctx::mail_from().domain == \"example.COM\"",
        ),
        (
            Stage::Mail,
            "ctx::mail_from().domain == fqdn(\"example.com\") && `${ctx::mail_from()}` == \"john@example.com\"",
        ),
        (Stage::Mail, "ctx::mail_timestamp() == \"2026-11-22T05:10:50Z\""),
        (Stage::Rcpt, "ctx::rcpt() == \"joe@example.net\" && rcpt().domain is \"example.net\""),
        (Stage::Rcpt, "ctx::rcpt_list().len() == 2 && \"jane@example.org\" in ctx::rcpt_list()"),
        (Stage::Rcpt, "ctx::rcpt_list().local_parts == [\"jane\", \"joe\"]"),
        (Stage::Rcpt, "rcpt_list().domains == [\"example.org\", \"example.net\"]"),
        (Stage::Rcpt, "\"joe\" in ctx::rcpt() && \"example.net\" in ctx::rcpt() && !(\"x\" in ctx::rcpt())"),
        (Stage::Preq, "ctx::message_id().len() == 26"),
    ] {
        holds(&engine, stage, expression);
    }
}

#[test]
fn every_function_is_refused_before_its_stage_and_works_from_it_on() {
    let engine = engine();
    let table = table();
    for function in table.iter().filter(|function| function.form == Form::Function) {
        let Some(from) = function.from else { continue };
        let arguments = match (function.name, function.arguments) {
            ("sign" | "seal" | "store", 1) => "#{}",
            ("sign", 4) => "\"s\", 1, [], \"simple\"",
            ("sign_dkim", 3) => "\"s\", [], \"simple\"",
            ("dkim_sign", 2) => "\"s\", []",
            ("check" | "wait", 1) if function.module == "greylist" => "#{}",
            ("take" | "left" | "check", 4) => "\"n\", \"k\", 9, 60",
            ("priority", 1) => "1",
            ("send", 3) => "\"a@b.c\", \"s\", \"t\"",
            ("take", 5) => "\"n\", \"k\", 9, 60, 2",
            (_, count) => ["", "\"a@b.c\"", "\"a@b.c\", \"d@e.f\""][count],
        };
        for stage in [Stage::Connect, Stage::Helo, Stage::Mail, Stage::Rcpt, Stage::Preq, Stage::Postq] {
            for name in
                function.global.iter().map(|name| (*name).to_owned()).chain([if function.module.is_empty() {
                    function.name.to_owned()
                } else {
                    format!("{}::{}", function.module, function.name)
                }])
            {
                let (result, _) = run(&engine, at(stage), &format!("{name}({arguments}); next()"));
                let refused =
                    result.as_ref().is_err_and(|message| message.contains("is available from the stage"));
                assert_eq!(refused, stage < from, "{name} at {stage}: {result:?}");
            }
        }
    }
    assert!(table.len() > 60, "{}", table.len());
}

#[test]
fn functions_of_a_transaction_fail_while_a_script_is_loaded() {
    let error =
        engine::load_text(&engine(), &Root::none(), "t.vsl", "const IP = ctx::client_ip(); #{}").unwrap_err();
    assert!(error.message.contains("there is none while a script is loaded"), "{error}");
}
