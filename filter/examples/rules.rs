//! Measures by hand what rules cost: runs the stages of one message after the other, each on a connection of its own, and
//! prints the time per message. Instructions are counted by two runs of different length under `valgrind --tool=callgrind`.
//! `cargo run --release -p vsmtp-filter --example rules -- FOLDER [MESSAGES]`, where FOLDER holds filter.vsl and lists/.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use vsmtp_config::{Config, Context, Value};
use vsmtp_filter::api::Surroundings;
use vsmtp_filter::judge::{Decision, Judge, Judged, Source};
use vsmtp_filter::stage::Stage;
use vsmtp_filter::transaction::{Content, MailSpec, Peer, RcptSpec, Shared, Transaction};
use vsmtp_mail::{Address, BodyType, Demands, Domain, Notify, QueueIdMint, ReversePath, Service, Wishes};

type Failure = Box<dyn std::error::Error>;

/// Messages if no number is given.
const MESSAGES: u64 = 10_000;

/// The header that smtp-source writes, and what a receiver puts before it.
const HEADER: &str = "Received: from client.test (unknown [127.0.0.1])\r\n\tby mx.bench.test (vSMTP) with ESMTP id \
                      0123456789ABCDEFGHJKMNPQRS;\r\n\tFri, 27 Nov 2026 16:43:35 +0000\r\nFrom: <a@src.test>\r\n\
                      To: <b@mx.bench.test>\r\nDate: Fri, 27 Nov 2026 16:43:35 +0000\r\n\
                      Message-Id: <e6d5.0013.0005@mx.bench.test>\r\n\r\n";

/// A message in memory.
#[derive(Debug)]
struct Message(Vec<u8>);

impl Content for Message {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        Ok(rest.get(..max.min(rest.len())).unwrap_or_default().to_vec())
    }
}

fn load(folder: &str) -> Result<Judge, Failure> {
    let context = Context {
        hostname: Domain::parse("mx.bench.test")?,
        cores: 1,
        config_dir: Path::new(folder).canonicalize()?.display().to_string(),
        root: String::new(),
    };
    let mut tree = Value::map();
    tree.set("server.domains", Value::List(vec![Value::Text("mx.bench.test".into())]));
    tree.set("delivery.mailboxes", Value::List(vec![Value::Text("*".into())]));
    tree.set("app.vsl.filter_path", Value::Text("filter.vsl".into()));
    let slice = Config::build(&context, &tree).map_err(|error| format!("{error:?}"))?.filter();
    Ok(Judge::load(&slice, &Surroundings::default())?)
}

fn peer() -> Result<Peer, Failure> {
    Ok(Peer {
        service: Some(Service::Smtp),
        client: Some(("127.0.0.1".parse()?, 40_000)),
        client_name: None,
        server: Some(("127.0.0.1".parse()?, 25)),
        uid: None,
        connected_ms: 0,
        server_name: Domain::parse("mx.bench.test")?,
        identity: None,
        was_authenticated: false,
        was_secured: false,
    })
}

/// The answers to one connection's commands, and what becomes of its message.
fn connection(judge: &Judge, mint: &mut QueueIdMint, body: &Arc<Message>) -> Result<Judged, Failure> {
    let shared = Shared::new(Transaction::new(Arc::new(peer()?), judge.max_recipients));
    let mail = MailSpec {
        reverse_path: ReversePath::parse("a@src.test")?,
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        demands: Demands::default(),
        wishes: Wishes::default(),
        at_ms: 0,
    };
    let address = Address::parse("b@mx.bench.test")?;
    if judge.wants(Stage::Connect) {
        accepted(judge.command(&shared, Stage::Connect))?;
    }
    shared.lock().helo = Some("client.test".into());
    shared.lock().begin(mail);
    if judge.wants(Stage::Mail) {
        accepted(judge.command(&shared, Stage::Mail))?;
    }
    accepted(judge.recipient(&shared, RcptSpec { address, original: None, notify: Notify::default() }))?;
    let content: Arc<dyn Content> = Arc::<Message>::clone(body);
    let source = Source { id: mint.next(1), content: Some(content) };
    Ok(judge.message(&shared, source))
}

fn accepted(decision: Decision) -> Result<(), Failure> {
    match decision {
        Decision::Accept(_) => Ok(()),
        refused => Err(format!("a rule refuses: {refused:?}").into()),
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: rules FOLDER [MESSAGES]")?;
    let messages = arguments.next().map_or(Ok(MESSAGES), |number| number.parse())?;
    let judge = load(&folder)?;
    let mut mint = QueueIdMint::new(1, 1);
    let body = Arc::new(Message([HEADER.as_bytes(), &[b'X'; 700]].concat()));
    let start = Instant::now();
    for _ in 0..messages {
        match connection(&judge, &mut mint, &body)? {
            Judged::Store { .. } => {}
            Judged::Answer(refused) => return Err(format!("a rule refuses: {refused:?}").into()),
        }
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / messages.max(1) as f64;
    #[expect(clippy::print_stdout, reason = "a tool for the terminal")]
    {
        println!("{messages} messages, {each:.1} us each");
    }
    Ok(())
}
