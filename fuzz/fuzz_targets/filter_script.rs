//! Whole rule files: loading one is an error that names its place or a set of rules, soon; and whatever rules do to a
//! message, what the filter then says is well formed, and what it submits passes the queue-manager's door.
#![no_main]

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use vsmtp_config::{Config, Context, FilterSlice, Value};
use vsmtp_filter::api::Surroundings;
use vsmtp_filter::judge::{Decision, Judge, Judged, Source};
use vsmtp_filter::stage::Stage;
use vsmtp_filter::transaction::{Content, MailSpec, Peer, RcptSpec, Shared, Transaction};
use vsmtp_ipc::wire::{self, Piece, check_pieces};
use vsmtp_mail::{Address, BodyType, Domain, Envelope, Notify, QueueId, ReversePath, header_end};

const MESSAGE: &[u8] = b"Received: by mx.test\r\nFrom: <s@a.test>\r\nTo: <user@example.test>\r\nSubject: one\r\n\ttwo\r\n\r\nbody\r\n";

fuzz_target!(|script: &str| {
    std::fs::write(&SETUP.slice.filter_path, script).expect("a file");
    match Judge::load(&SETUP.slice, &SETUP.surroundings) {
        Ok(judge) => session(&judge),
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
        }
    }
});

struct Setup {
    slice: FilterSlice,
    surroundings: Surroundings,
    _directory: TempDir,
}

static SETUP: LazyLock<Setup> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let context = Context {
        hostname: Domain::parse("mx.test").expect("a domain"),
        cores: 2,
        config_dir: directory.path().display().to_string(),
        root: String::new(),
    };
    let mut tree = Value::map();
    tree.set("server.domains", Value::List(vec![Value::Text("example.test".into())]));
    tree.set("delivery.mailboxes", Value::List(vec![Value::Text("user".into())]));
    let mut slice = Config::build(&context, &tree).expect("a configuration").filter();
    slice.filter_path = directory.path().join("filter.vsl").display().to_string();
    slice.filter_path_required = true;
    slice.max_operations = 20_000;
    slice.max_value_size = 64 * 1024;
    slice.timeout = Duration::from_secs(2);
    let surroundings = Surroundings { hostname: "mx.test".into(), ..Surroundings::default() };
    Setup { slice, surroundings, _directory: directory }
});

#[derive(Debug)]
struct Bytes(&'static [u8]);

impl Content for Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        Ok(rest[..rest.len().min(max)].to_vec())
    }
}

fn session(judge: &Judge) {
    let peer = Peer {
        service: Some(vsmtp_mail::Service::Submission),
        client: Some((IpAddr::from([192, 0, 2, 1]), 4000)),
        client_name: None,
        server: Some((IpAddr::from([192, 0, 2, 2]), 25)),
        uid: None,
        connected_ms: 1_700_000_000_000,
        server_name: Domain::parse("mx.test").expect("a domain"),
        identity: None,
        was_authenticated: false,
        was_secured: false,
    };
    let shared = Shared::new(Transaction::new(Arc::new(peer), judge.max_recipients));
    if !goes_on(&judge.command(&shared, Stage::Connect)) {
        return;
    }
    shared.lock().helo = Some("c.test".into());
    if !goes_on(&judge.command(&shared, Stage::Helo)) {
        return;
    }
    shared.lock().begin(MailSpec {
        reverse_path: ReversePath::parse("s@a.test").expect("an address"),
        body: BodyType::EightBitMime,
        smtputf8: false,
        ret: None,
        envid: Some("envid".into()),
        demands: vsmtp_mail::Demands::default(),
        wishes: vsmtp_mail::Wishes::default(),
        at_ms: 1_700_000_000_001,
    });
    if !goes_on(&judge.command(&shared, Stage::Mail)) {
        return;
    }
    for text in ["user@example.test", "other@far.test", "postmaster@example.test"] {
        let address = Address::parse(text).expect("an address");
        goes_on(&judge.recipient(&shared, RcptSpec { address, original: None, notify: Notify::default() }));
    }
    let content: Arc<dyn Content> = Arc::new(Bytes(MESSAGE));
    let source = Source { id: QueueId::from_bytes([7; 16]), content: Some(content) };
    match judge.message(&shared, source) {
        Judged::Answer(decision) => {
            goes_on(&decision);
        }
        Judged::Store { messages, reply } => {
            assert!(reply.is_none_or(|reply| reply.is_positive()), "a message is stored and refused");
            for message in &messages {
                stored(&message.envelope, &message.pieces);
            }
        }
    }
    for stage in [Stage::Postq, Stage::Delivery] {
        judge.run(&shared, stage);
    }
}

/// A yes is said with a 2xx, a no with a 4xx or 5xx.
fn goes_on(decision: &Decision) -> bool {
    match decision {
        Decision::Accept(reply) => {
            assert!(reply.as_ref().is_none_or(|reply| reply.is_positive()), "{decision:?}");
            true
        }
        Decision::Refuse(reply) | Decision::Close(reply) => {
            assert!(reply.is_transient() || reply.is_permanent(), "{decision:?}");
            false
        }
    }
}

fn stored(envelope: &Envelope, pieces: &[Piece]) {
    let wire = wire::Envelope::from(envelope);
    if !envelope.recipients.is_empty() {
        assert_eq!(Envelope::try_from(&wire).as_ref(), Ok(envelope));
    }
    let total = check_pieces(pieces, MESSAGE.len() as u64).expect("pieces that fit the message");
    if let [Piece::Text(header), rest @ ..] = pieces {
        assert_eq!(header_end(header), header.len(), "a rule ended the header early");
        assert!(header.ends_with(b"\r\n\r\n"));
        let body = (MESSAGE.len() - header_end(MESSAGE)) as u64;
        assert_eq!(total, header.len() as u64 + body, "{rest:?}");
        let lines = header.split(|b| *b == b'\n').count() - 1;
        assert_eq!(
            memchr::memmem::find_iter(header, "\r\n").count(),
            lines,
            "a rule put a lone LF into the header"
        );
        assert_eq!(header.iter().filter(|b| **b == b'\r').count(), lines, "or a lone CR");
    }
}
