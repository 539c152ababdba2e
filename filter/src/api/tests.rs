//! Every function through the engine, as scripts call it: value, stage, error.

use std::sync::{Arc, LazyLock};

use rhai::Engine;
use vsmtp_config::Value;
use vsmtp_ipc::wire::Grant;
use vsmtp_mail::{Address, BodyType, Domain, Notify, QueueIdMint, ReversePath};

use super::*;
use crate::engine::{self, Limits, Root};
use crate::files::Folder;
use crate::identity::Identity;
use crate::policy::tests::slice;
use crate::stage::Stage;
use crate::status::Status;
use crate::transaction::{Content, MailSpec, Peer, RcptSpec, Shared, Transaction};

mod cmd;
mod counts;
mod csv;
mod fs;
mod mysql;
mod names;
mod old;

const HEADER: &[u8] =
    b"Received: from here\r\n\tby there\r\nSubject: hello\r\nTo: a@b.c\r\nX-Tag: 1\r\nx-tag: 2\r\n\r\n";

#[derive(Debug)]
struct Bytes(Vec<u8>);

impl Content for Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn read(&self, offset: u64, max: usize) -> std::io::Result<Vec<u8>> {
        Ok(self.0.iter().skip(offset as usize).take(max).copied().collect())
    }
}

/// A folder with lists.
static LISTS: LazyLock<(tempfile::TempDir, Arc<Folder>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("lists")).unwrap();
    for (name, text) in [
        ("friends.txt", "jane@example.com\njoe@example.com\n"),
        ("blocked.txt", "# bad\n203.0.113.0/24\n"),
        ("access", "example.com REJECT\n"),
        ("users.csv", "jane,admin\njoe,\"a, b\"\n"),
        ("networks.cidr", "10.0.0.0/8 private\n"),
    ] {
        std::fs::write(dir.path().join("lists").join(name), text).unwrap();
    }
    let folder = Folder::open(dir.path());
    (dir, folder)
});

fn surroundings() -> Surroundings {
    let to = Value::List(vec![Value::Text("jane@example.com".into())]);
    let aliases = Value::Map([("info@example.com".to_owned(), to)].into());
    let mut settings = Value::map();
    settings.set("server.name", Value::Text("mx.example.com".into()));
    Surroundings {
        hostname: "mx.test".into(),
        environment: [("KEY".to_owned(), "value".to_owned())].into(),
        users: ["jane".to_owned()].into(),
        accounts: Arc::new(crate::accounts::Accounts::parse("jane:x:1000:1000::/home/jane:/bin/sh\n", "")),
        folder: Arc::clone(&LISTS.1),
        databases: Arc::clone(&csv::DATABASES.1),
        deposit: Arc::clone(&fs::DEPOSIT.1),
        own_domains: Arc::from(["own.test".to_owned()]),
        directory: Arc::new(resolve::Directory::new(&slice(&[("delivery.aliases", aliases)]))),
        dkim_domains: Arc::from(["own.test".to_owned(), "example.com".to_owned()]),
        names: Arc::new(names::Zone),
        signer: Arc::new(names::Holder),
        limiter: Arc::new(counts::Counter::default()),
        runner: Arc::new(cmd::Scripted),
        asker: Arc::new(mysql::Scripted),
        database_names: mysql::names(),
        settings: Arc::new(settings),
        ..Surroundings::default()
    }
}

pub(super) fn engine() -> Engine {
    let mut engine = engine::bare(&Root::none(), &Limits::default());
    install(&mut engine, &surroundings());
    engine
}

/// All functions.
pub(super) fn table() -> Vec<Function> {
    install(&mut engine::bare(&Root::none(), &Limits::default()), &surroundings())
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A transaction as it is when `stage` runs.
pub(super) fn at(stage: Stage) -> Transaction {
    let peer = Peer {
        service: Some(vsmtp_mail::Service::Submission),
        client: Some(("192.168.1.7".parse().unwrap(), 4321)),
        client_name: Some(Domain::parse("host.example.org").unwrap()),
        server: Some(("192.0.2.1".parse().unwrap(), 25)),
        uid: None,
        connected_ms: 1_795_324_249_000,
        server_name: Domain::parse("mx.example.com").unwrap(),
        identity: None,
        was_authenticated: false,
        was_secured: false,
    };
    let mut t = Transaction::new(Arc::new(peer), 5);
    t.stage = stage;
    if stage >= Stage::Helo {
        t.helo = Some("client.example".into());
    }
    if stage >= Stage::Mail {
        t.begin(MailSpec {
            reverse_path: ReversePath::parse("john@Example.com").unwrap(),
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            demands: vsmtp_mail::Demands::default(),
            wishes: vsmtp_mail::Wishes::default(),
            at_ms: 1_795_324_250_000,
        });
    }
    if stage >= Stage::Rcpt {
        for to in ["jane@example.org", "joe@example.net"] {
            t.add_client_recipient(RcptSpec {
                address: address(to),
                original: None,
                notify: Notify::default(),
            })
            .unwrap();
        }
    }
    if stage >= Stage::Preq {
        t.id = Some(QueueIdMint::new(1, 1).next(1));
        t.receive_header(HEADER);
        t.content = Some(Arc::new(Bytes([HEADER, b"body\xff\r\n"].concat())));
        t.body_offset = HEADER.len() as u64;
    }
    t
}

fn run(engine: &Engine, transaction: Transaction, body: &str) -> (Result<Status, String>, Transaction) {
    let stage = transaction.stage;
    let text = format!("#{{ {stage}: [ rule \"r\" || {{ {body} }} ] }}");
    let script = engine::load_text(engine, &Root::none(), "t.vsl", &text)
        .unwrap_or_else(|error| panic!("{body}: {error}"));
    let shared = Shared::new(transaction);
    let result =
        script.stage(stage)[0].call(engine, &mut shared.tag()).map_err(|failure| failure.error.message);
    let after = shared.lock().clone();
    (result, after)
}

/// A client that has authenticated.
pub(super) fn jane() -> Identity {
    Identity { name: "jane".into(), mechanism: "PLAIN".into(), grant: Grant([1; 16]), verifier: None }
}

/// Runs an example of the reference: a directive, or statements whose value must not be false.
pub(super) fn run_example(engine: &Engine, transaction: Transaction, example: &str) -> Result<(), String> {
    let stage = transaction.stage;
    let directive = if example.starts_with("rule ") || example.starts_with("action ") {
        example.to_owned()
    } else {
        format!(
            "action \"example\" || {{ let outcome = {{ {example}\n }}; if outcome == false {{ throw \"false\" }} }}"
        )
    };
    let script =
        engine::load_text(engine, &Root::none(), "t.vsl", &format!("#{{ {stage}: [ {directive} ] }}"))
            .map_err(|error| error.to_string())?;
    let shared = Shared::new(transaction);
    let result = script.stage(stage)[0].call(engine, &mut shared.tag());
    result.map(drop).map_err(|failure| failure.error.message)
}

/// `expression` must be true at `stage`.
fn holds(engine: &Engine, stage: Stage, expression: &str) {
    let body = format!(
        "let result = {expression}; if result == true {{ next() }} else {{ throw `got ${{result}}` }}"
    );
    assert_eq!(run(engine, at(stage), &body).0, Ok(Status::Next), "{stage}: {expression}");
}

fn fails(engine: &Engine, stage: Stage, body: &str, words: &str) {
    let message = run(engine, at(stage), &format!("{body}; next()")).0.expect_err(body);
    assert!(message.contains(words), "{stage}: {body}: {message}");
}

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
        "log(\"debug\", \"x\\r\\ny\") == () && log(\"nonsense\", fqdn(\"a.b\")) == ()",
    ] {
        holds(&engine, Stage::Connect, expression);
    }
    for (body, words) in [
        ("\"no-ip\" in rg4(\"10.0.0.0/8\")", "not an IP address"),
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

#[test]
fn functions_of_a_transaction_fail_while_a_script_is_loaded() {
    let error =
        engine::load_text(&engine(), &Root::none(), "t.vsl", "const IP = ctx::client_ip(); #{}").unwrap_err();
    assert!(error.message.contains("there is none while a script is loaded"), "{error}");
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
