//! Every function through the engine, as scripts call it: value, stage, error. Here is what a script meets in these tests.

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

mod arc;
mod cmd;
mod context;
mod counts;
mod csv;
mod dkim;
mod dns;
mod envelope;
mod fs;
mod header;
mod ldap;
mod memcached;
mod mysql;
mod old;
mod plans;
mod redis;
mod spf;
mod values;
mod zone;

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
        names: Arc::new(zone::Zone),
        signer: Arc::new(zone::Holder),
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
