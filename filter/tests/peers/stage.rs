//! The other ends of a filter: the master's, a receiver's, the queue-manager's. Every wait has an end.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use tempfile::TempDir;
use vsmtp_config::{Config, Context, FilterSlice, Value};
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::client_resolver::{self, ResolverEnd};
use vsmtp_ipc::edge::filter_auth::{self as auth, AuthEnd};
use vsmtp_ipc::edge::filter_limits::LimitsEnd;
use vsmtp_ipc::edge::filter_queue::{NewMessage, QueueEnd, Receipt, Submit};
use vsmtp_ipc::edge::master_child::ToMaster;
use vsmtp_ipc::edge::queue_filter;
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Facts, ReceiverEnd, Verdict};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{Body, Body7, Id, MailFrom, RcptTo};
use vsmtp_mail::Domain;
use vsmtp_stage::{Process, configure, is_dropped, say};

pub use vsmtp_stage::next;

pub const RECEIVER: ProcessName = ProcessName { role: Role::Receiver, instance: 0 };
pub const QUEUE: ProcessName = ProcessName { role: Role::QueueManager, instance: 0 };
pub const MESSAGE: &[u8] = b"Received: x\r\nSubject: hi\r\n\r\nbody\r\n";

/// A running filter.
pub struct Stage {
    pub process: Process,
    _dir: TempDir,
}

/// A receiver's end of an edge.
pub struct Receiver(pub ReceiverEnd);

/// An auth helper's end of an edge.
pub struct Helper(pub AuthEnd);

/// A resolver's end of an edge.
pub struct Names(pub ResolverEnd);

/// The queue-manager's end of an edge.
pub struct Queue(pub QueueEnd);

fn list(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| Value::Text((*item).to_owned())).collect())
}

/// A slice with short waits and mailboxes at mx.test.
pub fn slice(dir: &TempDir, script: &str) -> FilterSlice {
    std::fs::write(dir.path().join("filter.vsl"), script).unwrap();
    let context = Context {
        hostname: Domain::parse("mx.test").unwrap(),
        cores: 1,
        config_dir: dir.path().display().to_string(),
        root: String::new(),
    };
    let mut tree = Value::map();
    tree.set("server.domains", list(&["mx.test"]));
    tree.set("server.relay_from", list(&["192.0.2.0/24"]));
    tree.set("delivery.mailboxes", list(&["b", "c"]));
    tree.set("app.vsl.filter_path", Value::Text("filter.vsl".into()));
    tree.set("filter.workers", Value::Int(4));
    tree.set("filter.timeout", Value::Text("1s".into()));
    tree.set("filter.max_operations", Value::Int(1_000_000_000));
    Config::build(&context, &tree).unwrap().filter()
}

impl Stage {
    /// Starts a filter in a role with this script.
    pub fn start(role: Role, script: &str) -> Stage {
        Self::start_with(role, script, &[])
    }

    /// The same with more files in the folder of the configuration.
    pub fn start_with(role: Role, script: &str, files: &[(&str, &str)]) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let slice = vsmtp_ipc::encode(&slice(&dir, script)).unwrap();
        let mut stage = Stage::spawn(role, slice, dir);
        stage.hear_master(|said| matches!(said, ToMaster::Ready));
        stage
    }

    /// Starts a filter and tells it its slice.
    pub fn spawn(role: Role, slice: Vec<u8>, dir: TempDir) -> Stage {
        let word = match role {
            Role::FilterSession => c"session",
            Role::FilterPost => c"post",
            _ => c"oneshot",
        };
        let program = env!("CARGO_BIN_EXE_vsmtp-filter");
        let process = Process::start(program, &[c"--role", word], configure(role, slice));
        Stage { process, _dir: dir }
    }

    /// A session filter with one receiver and the queue-manager.
    pub fn session(script: &str) -> (Stage, Receiver, Queue) {
        let mut stage = Stage::start(Role::FilterSession, script);
        let queue = stage.queue();
        let (receiver, _) = stage.receiver(RECEIVER);
        (stage, receiver, queue)
    }

    pub fn queue(&mut self) -> Queue {
        Queue(QueueEnd::new(self.introduce(QUEUE), EdgeId::FilterQueue))
    }

    pub fn auth(&mut self) -> Helper {
        let name = ProcessName { role: Role::Auth, instance: 0 };
        Helper(AuthEnd::new(self.introduce(name), EdgeId::FilterAuth))
    }

    pub fn resolver(&mut self) -> Names {
        let name = ProcessName { role: Role::Resolver, instance: 0 };
        Names(ResolverEnd::new(self.introduce(name), EdgeId::ClientResolver))
    }

    pub fn limits(&mut self) -> LimitsEnd {
        let name = ProcessName { role: Role::Limits, instance: 0 };
        LimitsEnd::new(self.introduce(name), EdgeId::FilterLimits)
    }

    pub fn post_queue(&mut self) -> queue_filter::QueueEnd {
        queue_filter::QueueEnd::new(self.introduce(QUEUE), EdgeId::QueueFilter)
    }

    /// Introduces a receiver; says which stages the filter wants.
    pub fn receiver(&mut self, name: ProcessName) -> (Receiver, (bool, bool, bool)) {
        let mut receiver = Receiver(ReceiverEnd::new(self.introduce(name), EdgeId::ReceiverFilter));
        match receiver.hear() {
            Verdict::Wanted { connect, helo, mail, .. } => (receiver, (connect, helo, mail)),
            other => panic!("{other:?}"),
        }
    }

    fn introduce(&mut self, name: ProcessName) -> OwnedFd {
        self.process.introduce(name)
    }

    /// Waits until the filter tells the master this.
    pub fn hear_master(&mut self, wanted: impl Fn(&ToMaster) -> bool) -> ToMaster {
        self.process.hear_master(wanted)
    }

    /// Waits until the log holds this.
    pub fn logged(&self, text: &str) {
        self.process.logged(text);
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits for the end of the process; true if it ended well.
    pub fn wait(self) -> bool {
        self.process.ended().success()
    }
}

pub fn facts(session: u64) -> Facts {
    Facts {
        session,
        service: vsmtp_ipc::wire::Service::Smtp,
        client: Some((IpAddr::from([203, 0, 113, 5]), 4321)),
        client_name: Some("host.test".into()),
        server: Some((IpAddr::from([198, 51, 100, 1]), 25)),
        uid: None,
        connected_ms: 1,
        helo: Some("client.test".into()),
        tls: None,
        esmtp: true,
        grant: None,
    }
}

pub fn mail(from: &str) -> MailFrom {
    MailFrom {
        reverse_path: from.into(),
        body: Body7::SevenBit,
        smtputf8: false,
        ret_full: None,
        envid: None,
        demands: vsmtp_ipc::wire::Demands::default(),
        wishes: vsmtp_ipc::wire::Wishes::default(),
        size: None,
    }
}

pub fn id(number: u8) -> Id {
    Id([number; 16])
}

impl Names {
    pub fn say(&mut self, answer: &client_resolver::Answer) {
        say(&mut self.0, answer, Vec::new());
    }

    pub fn hear(&mut self) -> client_resolver::Question {
        next(&mut self.0).expect("the filter keeps the edge").message
    }
}

impl Helper {
    pub fn say(&mut self, answer: &auth::Answer) {
        say(&mut self.0, answer, Vec::new());
    }

    pub fn hear(&mut self) -> auth::Ask {
        next(&mut self.0).expect("the filter keeps the edge").message
    }
}

impl Receiver {
    pub fn say(&mut self, ask: &Ask, descriptors: Vec<OwnedFd>) {
        say(&mut self.0, ask, descriptors);
    }

    /// Says all of it in one packet.
    pub fn say_all(&mut self, asks: &[Ask]) {
        asks.iter().for_each(|ask| self.0.send(ask, Vec::new()).unwrap());
        assert_eq!(self.0.flush().unwrap(), vsmtp_ipc::Flushed::All);
    }

    pub fn hear(&mut self) -> Verdict {
        next(&mut self.0).expect("the filter keeps the edge").message
    }

    pub fn send_recipients(&mut self, session: u64, to: &[&str]) {
        let recipients =
            to.iter().map(|to| RcptTo { address: (*to).into(), original: None, notify: None }).collect();
        self.say(
            &Ask::Recipients { facts: facts(session), mail: mail("a@client.test"), recipients },
            Vec::new(),
        );
    }

    /// RCPT commands, and what became of each.
    pub fn recipients(&mut self, session: u64, to: &[&str]) -> Vec<String> {
        self.send_recipients(session, to);
        match self.hear() {
            Verdict::Recipients { session: of, decisions } if of == session => {
                decisions.iter().map(show).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn send_message(&mut self, session: u64, number: u8, body: Body, descriptors: Vec<OwnedFd>) {
        self.say(&Ask::Message { facts: facts(session), id: id(number), body, trace_len: 13 }, descriptors);
    }

    pub fn decided(&mut self) -> (u64, String) {
        match self.hear() {
            Verdict::Decided { session, decision } => (session, show(&decision)),
            other => panic!("{other:?}"),
        }
    }

    /// True when the filter has closed this edge.
    pub fn is_dropped(&mut self) -> bool {
        is_dropped(&mut self.0)
    }
}

impl Queue {
    pub fn hear(&mut self) -> (Submit, Vec<OwnedFd>) {
        let received = next(&mut self.0).expect("the filter keeps the edge");
        (received.message, received.descriptors)
    }

    pub fn message(&mut self) -> (NewMessage, Vec<OwnedFd>) {
        match self.hear() {
            (Submit::Message(message), descriptors) => (message, descriptors),
            (other, _) => panic!("{other:?}"),
        }
    }

    pub fn say(&mut self, receipt: &Receipt, descriptors: Vec<OwnedFd>) {
        say(&mut self.0, receipt, descriptors);
    }
}

pub fn show(decision: &Decision) -> String {
    let text = |reply: &vsmtp_ipc::wire::Reply| vsmtp_mail::Reply::try_from(reply).unwrap().to_string();
    match decision {
        Decision::Accept(None) => "accept".to_owned(),
        Decision::Accept(Some(reply)) => format!("accept {}", text(reply)),
        Decision::Refuse(reply) => format!("refuse {}", text(reply)),
        Decision::Close(reply) => format!("close {}", text(reply)),
    }
}
