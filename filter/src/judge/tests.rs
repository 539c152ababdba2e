//! What each status means at each stage, and that no rule, however broken, lets through what it should not.

use std::fs;

use tempfile::TempDir;
use vsmtp_config::{FilterSlice, Value};
use vsmtp_ipc::edge::filter_queue::Disposition;
use vsmtp_ipc::edge::filter_runner::Ended;
use vsmtp_ipc::wire::Piece;
use vsmtp_mail::{Address, BodyType, Notify, QueueIdMint, ReversePath};

use super::*;
use crate::object::Fault;
use crate::policy::tests::{peer, slice};
use crate::process::content::Inline;
use crate::runner::{Given, NotRun, Runner};
use crate::transaction::{MailSpec, Transaction};

mod delegation;
mod report;
mod results;
mod triage;

const MESSAGE: &[u8] = b"Received: x\r\nSubject: hi\r\n\r\nbody\r\n";

#[derive(Debug)]
struct Bench {
    judge: Judge,
    shared: Shared,
    _dir: TempDir,
}

fn load(script: &str, set: &[(&str, Value)]) -> Result<(Judge, TempDir), ScriptError> {
    load_on(script, set, &Surroundings::default())
}

fn load_on(
    script: &str,
    set: &[(&str, Value)],
    host: &Surroundings,
) -> Result<(Judge, TempDir), ScriptError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("filter.vsl"), script).unwrap();
    let slice = FilterSlice {
        config_dir: dir.path().display().to_string(),
        filter_path: dir.path().join("filter.vsl").display().to_string(),
        timeout: Duration::from_secs(5),
        ..slice(set)
    };
    Judge::load(&slice, host).map(|judge| (judge, dir))
}

fn bench(script: &str) -> Bench {
    bench_with(script, &[])
}

fn bench_with(script: &str, set: &[(&str, Value)]) -> Bench {
    bench_on(script, set, &Surroundings::default())
}

fn bench_on(script: &str, set: &[(&str, Value)], host: &Surroundings) -> Bench {
    let (judge, dir) = load_on(script, set, host).unwrap_or_else(|error| panic!("{script}: {error}"));
    let transaction = Transaction::new(Arc::new(peer(Some("203.0.113.5"))), judge.max_recipients);
    Bench { judge, shared: Shared::new(transaction), _dir: dir }
}

impl Bench {
    fn begin(&self) -> Decision {
        self.begin_as("a@client.test")
    }

    fn begin_as(&self, sender: &str) -> Decision {
        self.shared.lock().helo = Some("client.test".into());
        self.shared.lock().begin(MailSpec {
            reverse_path: ReversePath::parse(sender).unwrap(),
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            demands: vsmtp_mail::Demands::default(),
            wishes: vsmtp_mail::Wishes::default(),
            at_ms: 0,
        });
        self.judge.command(&self.shared, Stage::Mail)
    }

    fn rcpt(&self, to: &str) -> String {
        let spec =
            RcptSpec { address: Address::parse(to).unwrap(), original: None, notify: Notify::default() };
        show(&self.judge.recipient(&self.shared, spec))
    }

    fn message(&self, bytes: &[u8]) -> Judged {
        let content: Arc<dyn crate::transaction::Content> = Arc::new(Inline(Arc::new(bytes.to_vec())));
        let id = QueueIdMint::new(1, 1).next(1);
        self.judge.message(&self.shared, Source { id, content: Some(content) })
    }

    fn recipients(&self) -> String {
        let all =
            self.shared.lock().recipients.iter().map(|r| r.spec.address.to_string()).collect::<Vec<_>>();
        all.join(" ")
    }
}

fn show(decision: &Decision) -> String {
    match decision {
        Decision::Accept(None) => "accept".to_owned(),
        Decision::Accept(Some(reply)) => format!("accept {reply}"),
        Decision::Refuse(reply) => format!("refuse {}", reply.code()),
        Decision::Close(reply) => format!("close {}", reply.code()),
    }
}

/// The only message that was made of it.
fn only(judged: Judged) -> Stored {
    match judged {
        Judged::Store { mut messages, .. } if messages.len() == 1 => messages.remove(0),
        other => panic!("{}", show_message(&other)),
    }
}

fn show_message(judged: &Judged) -> String {
    match judged {
        Judged::Answer(decision) => show(decision),
        Judged::Store { messages, .. } => {
            let show = |stored: &Stored| {
                let (to, pieces) = (stored.envelope.recipients.len(), stored.pieces.len());
                format!("{:?} {to} recipients {pieces} pieces", stored.disposition)
            };
            messages.iter().map(show).collect::<Vec<_>>().join(" + ")
        }
    }
}

#[test]
fn a_header_of_too_many_fields_hides_nothing() {
    let message = |fields: usize| {
        [b"From: a@b.test\r\n".to_vec(), b"x:\r\n".repeat(fields), b"From: c@d.test\r\n\r\n".to_vec()]
            .concat()
    };
    let said = |fields: usize| {
        let bench = bench("#{ preq: [ rule \"r\" || next() ] }");
        bench.begin();
        bench.rcpt("jane@example.com");
        show_message(&bench.message(&message(fields)))
    };
    assert_eq!(said(vsmtp_mail::MAX_HEADER_FIELDS - 2), "Active 1 recipients 0 pieces");
    assert_eq!(said(vsmtp_mail::MAX_HEADER_FIELDS - 1), "refuse 552");
}

#[test]
fn every_status_at_every_stage() {
    // Status; then what the client hears at connect, helo, mail, rcpt, and what becomes of the message at preq.
    for (status, [connect, helo, mail, rcpt, preq]) in [
        ("next()", ["accept", "accept", "accept", "accept", "Active 1 recipients 0 pieces"]),
        ("accept()", ["accept", "accept", "accept", "accept", "Active 1 recipients 0 pieces"]),
        (
            "accept(\"250 2.0.0 fine\")",
            [
                "accept 220 mx.example.com fine",
                "accept",
                "accept 250 2.0.0 fine",
                "accept 250 2.0.0 fine",
                "Active 1 recipients 0 pieces",
            ],
        ),
        ("faccept()", ["accept", "accept", "accept", "accept", "Active 1 recipients 0 pieces"]),
        ("reject()", ["close 421", "refuse 451", "refuse 451", "refuse 451", "refuse 451"]),
        ("reject(\"550 no\")", ["close 550", "refuse 550", "refuse 550", "refuse 550", "refuse 550"]),
        ("info(\"450 no\")", ["close 421", "refuse 450", "refuse 450", "refuse 450", "refuse 450"]),
        ("deny()", ["close 554", "close 554", "close 554", "close 554", "close 554"]),
        ("deny(\"421 bye\")", ["close 421", "close 421", "close 421", "close 421", "close 421"]),
        (
            "quarantine(\"q/1\")",
            ["accept", "accept", "accept", "accept", "Quarantine(\"q/1\") 1 recipients 0 pieces"],
        ),
        ("throw \"x\"", ["close 421", "refuse 451", "refuse 451", "refuse 451", "refuse 451"]),
        ("5", ["close 421", "refuse 451", "refuse 451", "refuse 451", "refuse 451"]),
        (
            "ctx::rcpt_list(); nothing()",
            ["close 421", "refuse 451", "refuse 451", "refuse 451", "refuse 451"],
        ),
    ] {
        let rule = |stage: &str| bench(&format!("#{{ {stage}: [ rule \"r\" || {{ {status} }} ] }}"));
        let command = |bench: &Bench, stage| show(&bench.judge.command(&bench.shared, stage));
        assert_eq!(command(&rule("connect"), Stage::Connect), connect, "connect {status}");
        assert_eq!(command(&rule("helo"), Stage::Helo), helo, "helo {status}");
        assert_eq!(show(&rule("mail").begin()), mail, "mail {status}");
        let at_rcpt = rule("rcpt");
        at_rcpt.begin();
        assert_eq!(at_rcpt.rcpt("jane@example.com"), rcpt, "rcpt {status}");
        let kept = if rcpt.starts_with("accept") { "jane@example.com" } else { "" };
        assert_eq!(at_rcpt.recipients(), kept, "{status}");
        let at_preq = rule("preq");
        at_preq.begin();
        at_preq.rcpt("jane@example.com");
        assert_eq!(show_message(&at_preq.message(MESSAGE)), preq, "preq {status}");
    }
}

#[test]
fn sticky_verdicts_end_with_the_transaction_or_last_as_long_as_the_session() {
    let script = "#{ mail: [ rule \"m\" || faccept() ], rcpt: [ rule \"r\" || deny() ], preq: [ rule \"p\" || deny() ] }";
    let bench_mail = bench(script);
    bench_mail.begin();
    assert_eq!(bench_mail.rcpt("jane@example.com"), "accept");
    assert_eq!(show_message(&bench_mail.message(MESSAGE)), "Active 1 recipients 0 pieces");

    let once = bench(
        "#{ rcpt: [ rule \"r\" || if ctx::rcpt() is \"jane@example.com\" { quarantine(\"q\") } else { next() } ] }",
    );
    once.begin();
    once.rcpt("jane@example.com");
    assert_eq!(show_message(&once.message(MESSAGE)), "Quarantine(\"q\") 1 recipients 0 pieces");
    once.begin();
    once.rcpt("joe@example.org");
    assert_eq!(show_message(&once.message(MESSAGE)), "Active 1 recipients 0 pieces");

    let session = bench(
        "#{ connect: [ rule \"c\" || { queue::hold(); quarantine(\"s\") } ], preq: [ rule \"p\" || deny() ] }",
    );
    assert_eq!(session.judge.command(&session.shared, Stage::Connect), Decision::Accept(None));
    for _ in 0..2 {
        session.begin();
        session.rcpt("jane@example.com");
        assert_eq!(show_message(&session.message(MESSAGE)), "Quarantine(\"s\") 1 recipients 0 pieces");
    }
}

#[test]
fn only_a_rule_that_accepts_the_recipient_itself_opens_the_relay() {
    for (script, expected) in [
        ("#{}", "refuse 554"),
        ("#{ rcpt: [ rule \"r\" || next() ] }", "refuse 554"),
        ("#{ rcpt: [ action \"r\" || accept() ] }", "refuse 554"),
        ("#{ rcpt: [ rule \"r\" || accept() ] }", "accept"),
        ("#{ rcpt: [ rule \"r\" || faccept() ] }", "accept"),
        ("#{ rcpt: [ rule \"r\" || quarantine(\"q\") ] }", "refuse 554"),
        ("#{ mail: [ rule \"r\" || faccept() ] }", "refuse 554"),
        ("#{ mail: [ rule \"r\" || accept() ] }", "refuse 554"),
        ("#{ rcpt: [ action \"r\" || envelop::rw_rcpt(ctx::rcpt(), \"jane@example.com\") ] }", "accept"),
        ("#{ rcpt: [ action \"r\" || throw \"x\" ] }", "refuse 451"),
    ] {
        let bench = bench(script);
        bench.begin();
        assert_eq!(bench.rcpt("x@elsewhere.example"), expected, "{script}");
    }
    let accepting = bench("#{ rcpt: [ rule \"r\" || faccept() ] }");
    accepting.begin();
    assert_eq!(accepting.rcpt("jane@example.com"), "accept");
    assert_eq!(
        accepting.rcpt("x@elsewhere.example"),
        "refuse 554",
        "the first recipient's verdict is not the second's"
    );
    assert_eq!(accepting.rcpt("nobody@example.com"), "refuse 550");
}

#[test]
fn only_a_final_accept_skips_the_rules_after_the_queue() {
    for (script, judged) in [
        ("#{ preq: [ rule \"r\" || next() ] }", false),
        ("#{ preq: [ rule \"r\" || accept() ] }", false),
        ("#{ preq: [ rule \"r\" || faccept() ] }", true),
        ("#{ rcpt: [ rule \"r\" || faccept() ] }", true),
        ("#{ mail: [ rule \"r\" || faccept() ] }", true),
        ("#{ connect: [ rule \"r\" || faccept(\"220 hello\") ] }", true),
    ] {
        let bench = bench(script);
        bench.judge.command(&bench.shared, Stage::Connect);
        bench.begin();
        assert_eq!(bench.rcpt("jane@example.com"), "accept");
        assert_eq!(only(bench.message(MESSAGE)).judged, judged, "{script}");
    }
}

#[test]
fn the_reply_of_a_final_accept_is_said_once() {
    let bench = bench("#{ mail: [ rule \"r\" || faccept(\"250 2.1.0 trusted\") ] }");
    assert_eq!(show(&bench.begin()), "accept 250 2.1.0 trusted");
    assert_eq!(bench.rcpt("jane@example.com"), "accept");
    let Judged::Store { reply, .. } = bench.message(MESSAGE) else { panic!() };
    assert_eq!(reply, None);
}

#[test]
fn edits_reach_the_queue() {
    let bench_early = bench(
        "#{ mail: [ action \"a\" || msg::append_header(\"X-Early\", \"1\") ],
            rcpt: [ action \"b\" || { transport::lmtp(ctx::rcpt(), \"unix:/run/l\"); bcc(\"archive@example.net\"); } ] }",
    );
    bench_early.begin();
    bench_early.rcpt("jane@example.com");
    let Stored { envelope, pieces, .. } = only(bench_early.message(MESSAGE));
    let hops: Vec<String> =
        envelope.recipients.iter().map(|r| format!("{}>{}", r.address, r.next_hop)).collect();
    assert_eq!(hops, ["jane@example.com>lmtp:unix:/run/l", "archive@example.net>smtp:example.net"]);
    assert_eq!(envelope.recipients[1].notify, Notify::NEVER);
    let header = b"X-Early: 1\r\nReceived: x\r\nSubject: hi\r\n\r\n".to_vec();
    assert_eq!(pieces, [Piece::Text(header), Piece::Original { offset: 28, len: 6 }]);

    let held = bench("#{ rcpt: [ action \"h\" || queue::hold() ] }");
    held.begin();
    held.rcpt("jane@example.com");
    assert_eq!(only(held.message(MESSAGE)).disposition, Disposition::Hold(String::new()));

    let emptied = bench("#{ preq: [ action \"e\" || for r in ctx::rcpt_list() { envelop::rm_rcpt(r); } ] }");
    emptied.begin();
    emptied.rcpt("jane@example.com");
    assert_eq!(show_message(&emptied.message(MESSAGE)), "refuse 554");
}

#[test]
fn what_users_submit_gets_a_date_and_a_message_id() {
    let submitted = |service, message: &[u8]| {
        let bench = bench("#{}");
        let client = crate::transaction::Peer { service: Some(service), ..peer(Some("192.0.2.5")) };
        *bench.shared.lock() = Transaction::new(Arc::new(client), 10);
        bench.begin();
        assert_eq!(bench.rcpt("jane@example.com"), "accept");
        only(bench.message(message)).pieces
    };
    use vsmtp_mail::Service::{Lmtp, Local, Smtp, Submission, Submissions};
    let id = QueueIdMint::new(1, 1).next(1);
    let added = format!(
        "Received: x\r\nSubject: hi\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <{id}@mx.example.com>\r\n\r\n"
    );
    for service in [Submission, Submissions, Local] {
        let pieces = submitted(service, MESSAGE);
        assert_eq!(pieces[0], Piece::Text(added.clone().into_bytes()), "{service}");
        assert_eq!(submitted(service, b"date: x\r\nMESSAGE-id:\r\n y\r\n\r\n"), []);
    }
    for service in [Smtp, Lmtp] {
        assert_eq!(submitted(service, MESSAGE), [], "{service}");
    }
}

#[test]
fn odd_messages_are_judged_too() {
    let script = "#{ preq: [ action \"a\" || msg::append_header(\"X\", `${msg::count_header(\"S\")}`) ] }";
    for (bytes, header, rest) in [
        (&b""[..], &b"X: 0\r\n"[..], None),
        (b"\r\nbody", b"X: 0\r\n\r\n", Some((2, 4))),
        (b"no field at all", b"no field at allX: 0\r\n", None),
        (b"S: 1\r\n\r\n", b"S: 1\r\nX: 1\r\n\r\n", None),
    ] {
        let bench = bench(script);
        bench.begin();
        bench.rcpt("jane@example.com");
        let pieces = only(bench.message(bytes)).pieces;
        let mut expected = vec![Piece::Text(header.to_vec())];
        expected.extend(rest.map(|(offset, len)| Piece::Original { offset, len }));
        assert_eq!(pieces, expected, "{:?}", String::from_utf8_lossy(bytes));
    }
    let bench = bench(script);
    bench.begin();
    bench.rcpt("jane@example.com");
    let huge = [b"S: ".to_vec(), vec![b'x'; 2 << 20]].concat();
    assert_eq!(show_message(&bench.message(&huge)), "refuse 552");
}

#[test]
fn too_many_recipients_and_errors_by_choice() {
    let few = bench_with("#{}", &[("server.smtp.rcpt_count_max", Value::Int(2))]);
    few.begin();
    assert_eq!(few.rcpt("jane@example.com"), "accept");
    assert_eq!(few.rcpt("joe@example.org"), "accept");
    assert_eq!(few.rcpt("sales@example.com"), "refuse 452");
    let strict = bench_with(
        "#{ mail: [ rule \"r\" || throw 1 ] }",
        &[("filter.on_error", Value::Text("deny".into()))],
    );
    assert_eq!(show(&strict.begin()), "close 554");
}

/// A runner that has no place, for a scanner; what else is run fails.
#[derive(Debug)]
struct Full;

impl Runner for Full {
    fn run(&self, command: &vsmtp_config::Command, _: Given) -> Result<Ended, NotRun> {
        let fault = Fault::new("it did not run");
        Err(if command.program == "scan" { NotRun::Busy(fault) } else { NotRun::Failed(fault) })
    }
}

#[test]
fn a_command_that_finds_no_place_is_a_matter_for_later_whatever_becomes_of_errors() {
    let host = Surroundings { runner: Arc::new(Full), ..Surroundings::default() };
    let deny = [("filter.on_error", Value::Text("deny".into()))];
    for (program, said) in [("scan", "refuse 451"), ("other", "close 554")] {
        let script = format!(
            "const a = cmd::build(#{{ command: \"{program}\" }}); #{{ mail: [ rule \"r\" || a.run() ] }}"
        );
        assert_eq!(show(&bench_on(&script, &deny, &host).begin()), said, "{program}");
    }
}

#[test]
fn no_rule_makes_a_table_of_a_name_that_a_stranger_chose() {
    let script = "const kept = csv::build(#{ connector: \"kept.csv\" });
        #{ mail: [ rule \"r\" || { csv::build(#{ connector: `${ctx::mail_from().domain}` }); state::next() } ] }";
    assert_eq!(show(&bench(script).begin()), "refuse 451");
}

#[test]
fn a_script_that_loops_or_recurses_or_grows_costs_its_message_and_nothing_else() {
    for body in [
        "loop { }",
        "f(1)",
        "let s = \"x\"; loop { s += s; }",
        "let a = []; loop { a.push(a); }",
        "let m = #{}; let i = 0; loop { m[`${i}`] = i; i += 1; }",
        "regex(\"(a*)*b\") == \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac\"; throw 1",
        "let x = 9223372036854775807; x + 1",
    ] {
        let set =
            [("filter.max_operations", Value::Int(50_000)), ("filter.max_value_size", Value::Int(16_384))];
        let bench = bench_with(
            &format!("fn f(x) {{ f(x + 1) + f(x + 2) }} #{{ mail: [ rule \"r\" || {{ {body} }} ] }}"),
            &set,
        );
        assert_eq!(show(&bench.begin()), "refuse 451", "{body}");
    }
}

#[test]
fn a_missing_script_is_safe_unless_the_operator_named_it() {
    let dir = tempfile::tempdir().unwrap();
    let missing = |required| FilterSlice {
        config_dir: dir.path().display().to_string(),
        filter_path: dir.path().join("filter.vsl").display().to_string(),
        filter_path_required: required,
        ..slice(&[])
    };
    let judge = Judge::load(&missing(false), &Surroundings::default()).unwrap();
    assert!(Stage::ALL.into_iter().all(|stage| !judge.wants(stage)));
    let error = Judge::load(&missing(true), &Surroundings::default()).unwrap_err();
    assert!(error.to_string().starts_with("filter.vsl: cannot be read"), "{error}");
    let error = load("#{ rcpt: [ rule \"a\" || ", &[]).unwrap_err();
    assert!(error.location.file == "filter.vsl", "{error}");
}

#[test]
fn the_shipped_rules_load_and_do_nothing() {
    let bench = bench(include_str!("../../../etc/vsmtp/filter.vsl"));
    assert!(Stage::ALL.into_iter().all(|stage| !bench.judge.wants(stage)));
}

fn postq(bench: &Bench, envelope: vsmtp_mail::Envelope) -> PostJudged {
    bench.judge.post(PostMessage {
        id: QueueIdMint::new(1, 1).next(1),
        stage: Some(Stage::Postq),
        is_report: false,
        reroute: false,
        envelope,
        peer: peer(Some("203.0.113.5")),
        helo: "client.test".to_owned(),
        arrived_ms: 0,
        resume: None,
        content: Arc::new(Inline(Arc::new(MESSAGE.to_vec()))),
    })
}

#[test]
fn what_rules_ask_of_the_queue_goes_with_the_message_and_rules_behind_it_see_it() {
    let bench = bench(
        "#{ helo: [ action \"h\" || queue::hold(\"look\\n at it\") ],
            mail: [ action \"m\" || { queue::priority(-4); queue::expire_after(\"2h\") } ],
            postq: [ action \"p\" || if queue::priority() == -4 { queue::priority(9); queue::hold(\"again\") } ] }",
    );
    assert_eq!(show(&bench.judge.command(&bench.shared, Stage::Helo)), "accept");
    bench.shared.lock().keep_for_session();
    bench.begin();
    bench.rcpt("jane@example.com");
    let Stored { envelope, disposition, .. } = only(bench.message(MESSAGE));
    assert_eq!(disposition, Disposition::Hold("look? at it".to_owned()));
    assert_eq!((envelope.terms.priority.number(), envelope.terms.lifetime_s), (-4, Some(7200)));
    let PostJudged::Edit(edit) = postq(&bench, envelope) else { panic!("not edited") };
    assert_eq!(edit.disposition, Disposition::Hold("again".to_owned()));
    assert_eq!((edit.envelope.terms.priority.number(), edit.envelope.terms.lifetime_s), (9, Some(7200)));
    assert_eq!(postq(&bench, edit.envelope), PostJudged::Keep { is_final: false });
    // A client may say how urgent its message is; a rule has the last word.
    let urgent = vsmtp_mail::Wishes { priority: vsmtp_mail::Priority::MOST };
    let silent =
        self::bench("#{ preq: [ rule \"p\" || if queue::priority() == 9 { accept() } else { deny() } ] }");
    silent.begin();
    let mail = silent.shared.lock().mail.clone().unwrap();
    silent.shared.lock().begin(MailSpec { wishes: urgent, ..mail });
    silent.rcpt("jane@example.com");
    assert_eq!(only(silent.message(MESSAGE)).envelope.terms.priority, urgent.priority);
    // The next message of the session is held too, and is as urgent as its own rules say.
    bench.shared.lock().reset();
    assert_eq!(bench.shared.lock().terms, vsmtp_mail::Terms::default());
    assert!(bench.shared.lock().hold.is_some());
}

#[test]
fn what_a_rule_wants_said_is_said_once_and_never_to_a_program() {
    let script = "#{ mail: [ action \"m\" || { notify::send(\"admin@example.com\", \"early\", \"x\") } ],
        preq: [ action \"p\" || { if !notify::send(\"admin@example.com\", \"late\", \"y\") {
            msg::append_header(\"X-Silent\", \"1\") } } ],
        postq: [ action \"q\" || { notify::send(\"admin@example.com\", \"later\", \"z\") } ] }";
    let subjects = |stored: &[vsmtp_ipc::wire::Notice]| {
        stored.iter().map(|notice| notice.subject.clone()).collect::<Vec<_>>().join(" ")
    };
    for (sender, field, expected) in [
        ("a@client.test", "", "early late"),
        ("a@client.test", "Auto-Submitted: no\r\n", "early late"),
        ("a@client.test", "Auto-Submitted: auto-replied\r\n", ""),
        ("", "", ""),
    ] {
        let bench = bench(script);
        bench.begin_as(sender);
        bench.rcpt("jane@example.com");
        let stored = only(bench.message(format!("{field}Subject: x\r\n\r\nx\r\n").as_bytes()));
        assert_eq!(subjects(&stored.notices), expected, "{sender} {field}");
        assert_eq!(stored.pieces.is_empty(), !expected.is_empty(), "the rule knows");
        match postq(&bench, stored.envelope) {
            PostJudged::Edit(edit) => {
                assert_eq!((subjects(&edit.notices), sender), ("later".into(), "a@client.test"))
            }
            other => assert_eq!((other, sender), (PostJudged::Keep { is_final: false }, "")),
        }
        bench.shared.lock().reset();
        assert!(bench.shared.lock().notices.is_empty());
    }
}

#[test]
fn a_message_whose_reports_a_rule_suppresses_has_none_wanted_and_words_go_with_the_others() {
    let bench = bench(
        "#{ mail: [ action \"m\" || { bounce::text(\"a\\r\\nb\"); bounce::from(\"help@example.com\") } ],
            preq: [ action \"p\" || { if ctx::mail_from() == \"b@client.test\" { bounce::suppress() } } ] }",
    );
    for (from, expected) in [("b@client.test", Notify::NEVER), ("a@client.test", Notify::default())] {
        bench.begin_as(from);
        bench.rcpt("jane@example.com");
        let Stored { envelope, .. } = only(bench.message(MESSAGE));
        assert_eq!(envelope.recipients[0].notify, expected, "{from}");
        assert_eq!(envelope.terms.report_text.as_deref(), Some("a\nb"));
        let from = envelope.terms.report_from.map(|address| address.to_string());
        assert_eq!(from.as_deref(), Some("help@example.com"));
    }
}

#[test]
fn rules_behind_the_queue_that_refuse_say_what_reports_say() {
    let words = "bounce::text(\"late\"); bounce::from(\"help@example.com\")";
    for rules in [
        format!("postq: [ rule \"q\" || {{ {words}; deny() }} ]"),
        format!("postq: [ action \"q\" || {{ {words} }} ], delivery: [ rule \"d\" || deny() ]"),
        "preq: [ action \"p\" || bounce::text(\"early\") ], \
         postq: [ rule \"q\" || { bounce::suppress(); state::deny() } ]"
            .to_owned(),
    ] {
        let bench = bench(&format!("#{{ {rules} }}"));
        bench.begin();
        bench.rcpt("jane@example.com");
        let PostJudged::Refuse(_, reports) = postq(&bench, only(bench.message(MESSAGE)).envelope) else {
            panic!("not refused: {rules}")
        };
        let said = (reports.text.as_deref(), reports.from.as_deref(), reports.suppressed);
        let is_early = rules.starts_with("preq");
        let expected = if is_early {
            (Some("early"), None, true)
        } else {
            (Some("late"), Some("help@example.com"), false)
        };
        assert_eq!(said, expected, "{rules}");
    }
}
