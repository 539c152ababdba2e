//! The other ends of a queue-manager: master, session filter, post filter, deliver, operator. Every wait has an end.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::OwnedFd;
use std::time::Instant;

use tempfile::TempDir;
use vsmtp_config::{Config, Context, QueueSlice, Value};
use vsmtp_ipc::edge::ctl_queue::{self, Answer, Entry, Request, Selection};
use vsmtp_ipc::edge::filter_queue::{self, Disposition, NewMessage, Receipt, Submit};
use vsmtp_ipc::edge::master_child::{Configure, Figure, Listener, ToChild, ToMaster};
use vsmtp_ipc::edge::queue_deliver::{self, Advice, Ask, Attempt, Outcome, Reach, Result3, Said, Settled};
use vsmtp_ipc::edge::queue_filter::{self, PostAsk, PostStage, PostVerdict};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{Body, Body7, Class, Envelope, Id, Notify, Origin, Recipient};
use vsmtp_ipc::{Channel, EdgeId};
use vsmtp_mail::{Domain, QueueIdMint};
use vsmtp_stage::{Process, configure, is_dropped, next, say};
use vsmtp_sys::memfd::Sealed;
use vsmtp_sys::unix::{self, Kind};

pub use vsmtp_stage::PATIENCE;

/// A running queue-manager.
pub struct Stage {
    pub process: Process,
    pub folder: TempDir,
    mint: QueueIdMint,
    kept: Vec<Post>,
}

pub struct Filter(pub filter_queue::FilterEnd);
pub struct Post(pub queue_filter::FilterEnd);
pub struct Deliver(pub queue_deliver::DeliverEnd);
pub struct Operator(pub ctl_queue::CtlEnd);

pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// The slice of a host called mail.src.test with the own domain src.test.
pub fn slice(folder: &TempDir, extra: &[(&str, Value)]) -> QueueSlice {
    let mut tree = Value::map();
    tree.set("server.domains", Value::List(vec![text("src.test")]));
    tree.set("queue.segment_size", text("4MiB"));
    tree.set("queue.min_free", text("1MiB"));
    tree.set("queue.postmaster", text("postmaster@src.test"));
    for (key, value) in extra {
        tree.set(key, value.clone());
    }
    let hostname = Domain::parse("mail.src.test").unwrap();
    let context = Context { hostname, cores: 1, config_dir: "/etc".to_owned(), root: String::new() };
    let spool = folder.path().join("queue").display().to_string();
    QueueSlice { spool, ..Config::build(&context, &tree).unwrap().queue() }
}

impl Stage {
    /// An empty queue with all its peers, where no post-queue rule wants to be asked.
    pub fn with_peers() -> (Stage, Filter, Deliver) {
        let mut stage = Stage::start(&[]);
        stage.no_rules();
        let (filter, deliver) = (stage.filter(), stage.deliver());
        (stage, filter, deliver)
    }

    pub fn start(extra: &[(&str, Value)]) -> Stage {
        Stage::start_in(tempfile::tempdir().unwrap(), extra)
    }

    pub fn start_in(folder: TempDir, extra: &[(&str, Value)]) -> Stage {
        // A release build elsewhere, for figures.
        let program = std::env::var("VSMTP_BIN").map(|folder| format!("{folder}/vsmtp-queue"));
        let program = program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_vsmtp-queue"));
        let slice = vsmtp_config::encode(&slice(&folder, extra)).unwrap();
        let number = u32::from_le_bytes(
            *vsmtp_sys::random::random_u64().unwrap().to_le_bytes().first_chunk().unwrap(),
        );
        let configure = Configure { process: number, ..configure(Role::QueueManager, slice) };
        let process = Process::start(program, &[], configure);
        let mut stage = Stage { process, folder, mint: QueueIdMint::new(1, number), kept: Vec::new() };
        stage.hear_master(|said| matches!(said, ToMaster::Ready));
        let control = stage.folder.path().join("control");
        let socket = unix::listen_unix(&control, 0o600, None, Kind::SeqPacket).unwrap();
        stage.tell(&ToChild::Listener(Listener::Control), vec![socket]);
        stage
    }

    /// The process dies as if by accident, and another one starts on the same spool.
    pub fn kill_and_restart(mut self, extra: &[(&str, Value)]) -> Stage {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        self.process.child.signal(9).unwrap();
        self.wait_end();
        Stage::start_in(folder, extra)
    }

    pub fn introduce(&mut self, role: Role, instance: u32) -> OwnedFd {
        self.process.introduce(ProcessName { role, instance })
    }

    pub fn filter(&mut self) -> Filter {
        self.filter_process(0)
    }

    /// The session filter of that name.
    pub fn filter_process(&mut self, instance: u32) -> Filter {
        Filter(Channel::new(self.introduce(Role::FilterSession, instance), EdgeId::FilterQueue))
    }

    pub fn post(&mut self, postq: bool, delivery: bool) -> Post {
        let mut post = Post(Channel::new(self.introduce(Role::FilterPost, 0), EdgeId::QueueFilter));
        let scanner = ("scan".to_owned(), ([127, 0, 0, 1], 10026).into());
        let delegates = Some(if postq || delivery { vec![scanner] } else { Vec::new() });
        post.say(&PostVerdict::Wanted { postq, delivery, delegates });
        post
    }

    /// A post filter that wants nothing, for as long as the stage lives.
    pub fn no_rules(&mut self) {
        let post = self.post(false, false);
        self.kept.push(post);
    }

    /// Where no rules want to be asked, the next question is about routes: everything stays.
    pub fn keep_routes(&mut self) {
        let post = self.kept.last_mut().expect("a post filter that wants nothing");
        let (ask, _) = post.hear();
        assert_eq!((ask.stage, ask.reroute), (PostStage::Routing, true));
        post.say(&PostVerdict::Keep { ticket: ask.ticket, is_final: false });
    }

    pub fn deliver(&mut self) -> Deliver {
        self.deliver_process(0)
    }

    /// The deliver process of that name.
    pub fn deliver_process(&mut self, instance: u32) -> Deliver {
        Deliver(Channel::new(self.introduce(Role::DeliverSmtp, instance), EdgeId::QueueDeliver))
    }

    pub fn operator(&self) -> Operator {
        let socket = unix::connect_unix(&self.folder.path().join("control"), Kind::SeqPacket).unwrap();
        vsmtp_sys::fds::set_nonblocking(&socket).unwrap();
        Operator(Channel::new(socket, EdgeId::CtlQueue))
    }

    pub fn tell(&mut self, message: &ToChild, descriptors: Vec<OwnedFd>) {
        self.process.tell(message, descriptors);
    }

    pub fn hear_master(&mut self, wanted: impl Fn(&ToMaster) -> bool) {
        self.process.hear_master(wanted);
    }

    /// Waits until this figure has that value.
    pub fn figure(&mut self, name: &str, value: u64) {
        let (mut operator, until) = (self.operator(), Instant::now() + PATIENCE);
        while !operator.figures().iter().any(|figure| figure.name == name && figure.value == value) {
            assert!(Instant::now() < until, "{name} does not become {value}: {:?}", operator.figures());
        }
    }

    pub fn misbehaved(&mut self, role: Role) {
        self.hear_master(|said| matches!(said, ToMaster::Misbehaved(name) if name.role == role));
    }

    /// Waits until the log holds this.
    pub fn logged(&self, text: &str) {
        self.process.logged(text);
    }

    pub fn id(&mut self) -> Id {
        self.mint.next(vsmtp_sys::clock::wall_ms()).into()
    }

    /// A message from a@src.test to these, with next hops.
    pub fn message(&mut self, recipients: &[(&str, &str)]) -> NewMessage {
        let id = self.id();
        message(id, recipients)
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits for the end of the process; true if it ended well.
    pub fn wait_end(&self) -> bool {
        self.process.ended().success()
    }
}

pub const BODY: &[u8] = b"Received: from x\r\nSubject: hi\r\n\r\nline\r\n";

pub fn message(id: Id, recipients: &[(&str, &str)]) -> NewMessage {
    let recipient = |(address, hop): &(&str, &str)| Recipient {
        chosen: false,
        address: (*address).to_owned(),
        original: None,
        notify: Notify { success: false, failure: true, delay: true, stated: false },
        class: Class::Other,
        next_hop: (*hop).to_owned(),
    };
    NewMessage {
        ticket: 1,
        id,
        arrived_ms: vsmtp_sys::clock::wall_ms(),
        envelope: Envelope {
            reverse_path: "a@src.test".to_owned(),
            body: Body7::SevenBit,
            smtputf8: false,
            ret_full: None,
            envid: None,
            demands: vsmtp_ipc::wire::Demands::default(),
            terms: None,
            recipients: recipients.iter().map(recipient).collect(),
        },
        origin: Origin {
            service: Some(vsmtp_ipc::wire::Service::Submission),
            session: 5,
            client: "192.0.2.9".to_owned(),
            helo: "client".to_owned(),
            protocol: "ESMTP".to_owned(),
            uid: None,
        },
        disposition: Disposition::Active,
        judged: false,
        expanded: Vec::new(),
        notices: Vec::new(),
        pieces: Vec::new(),
        returned: None,
        body: Body::Inline(BODY.to_vec()),
    }
}

pub fn sealed(bytes: &[u8]) -> OwnedFd {
    Sealed::create(c"test", &[IoSlice::new(bytes)]).unwrap().into_fd()
}

/// The octets of a body, however it travelled.
pub fn octets(body: Body, mut descriptors: Vec<OwnedFd>) -> Vec<u8> {
    match body {
        Body::Inline(bytes) => bytes,
        Body::Memfd(len) => Sealed::verify(descriptors.remove(0), len).unwrap().read_all(1 << 20).unwrap(),
        Body::File(len) => {
            let mut bytes = Vec::new();
            File::from(descriptors.remove(0)).read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, len);
            bytes
        }
    }
}

impl Filter {
    pub fn say(&mut self, submit: &Submit, descriptors: Vec<OwnedFd>) {
        say(&mut self.0, submit, descriptors);
    }

    pub fn hear(&mut self) -> (Receipt, Vec<OwnedFd>) {
        let received = next(&mut self.0).expect("the queue-manager keeps the edge");
        (received.message, received.descriptors)
    }

    pub fn submit(&mut self, message: NewMessage) -> Receipt {
        self.say(&Submit::Message(message), Vec::new());
        self.hear().0
    }

    /// Submits and expects that it is stored.
    pub fn store(&mut self, message: NewMessage) -> Id {
        let id = message.id;
        let receipt = self.submit(message);
        assert!(matches!(receipt, Receipt::Stored { ticket: 1 }), "{receipt:?}");
        id
    }

    pub fn is_dropped(&mut self) -> bool {
        is_dropped(&mut self.0)
    }
}

impl Post {
    pub fn say(&mut self, verdict: &PostVerdict) {
        say(&mut self.0, verdict, Vec::new());
    }

    pub fn hear(&mut self) -> (PostAsk, Vec<OwnedFd>) {
        let received = next(&mut self.0).expect("the queue-manager keeps the edge");
        (received.message, received.descriptors)
    }

    pub fn is_dropped(&mut self) -> bool {
        is_dropped(&mut self.0)
    }
}

impl Deliver {
    /// The next attempt, whatever is withdrawn before it.
    pub fn hear(&mut self) -> (Attempt, Vec<OwnedFd>) {
        loop {
            let received = next(&mut self.0).expect("the queue-manager keeps the edge");
            if let Ask::Attempt(attempt) = received.message {
                return (attempt, received.descriptors);
            }
        }
    }

    /// An attempt that is there already.
    pub fn attempt_if_any(&mut self) -> Option<Attempt> {
        match self.0.receive().ok().flatten()?.message {
            Ask::Attempt(attempt) => Some(attempt),
            Ask::Withdraw(_) => None,
        }
    }

    /// The number of a lease that is to be broken off.
    pub fn hear_withdrawal(&mut self) -> u64 {
        match next(&mut self.0).expect("the queue-manager keeps the edge").message {
            Ask::Withdraw(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    pub fn say(&mut self, outcome: &Outcome) {
        self.say_other(&Said::Outcome(outcome.clone()));
    }

    pub fn say_other(&mut self, said: &Said) {
        say(&mut self.0, said, Vec::new());
    }

    /// Answers all recipients of an attempt alike.
    pub fn settle(&mut self, attempt: &Attempt, result: Result3) {
        let results: Vec<(u32, Result3)> = attempt.recipients.iter().map(|r| (r.index, result)).collect();
        self.say(&outcome(attempt.lease, &results));
    }

    /// Expects an attempt and answers it.
    pub fn serve(&mut self, result: Result3) -> Attempt {
        let (attempt, _) = self.hear();
        self.settle(&attempt, result);
        attempt
    }

    pub fn is_dropped(&mut self) -> bool {
        is_dropped(&mut self.0)
    }

    /// True if no attempt comes though the queue-manager has had its turn.
    pub fn is_idle(&mut self, stage: &mut Stage) -> bool {
        // What a turn sends to deliver is sent before its answers to operators.
        let mut operator = stage.operator();
        for _ in 0..3 {
            operator.figures();
        }
        let _ = self.0.flush().unwrap();
        loop {
            match self.0.receive().unwrap().map(|received| received.message) {
                Some(Ask::Withdraw(_)) => {}
                other => return other.is_none(),
            }
        }
    }
}

pub fn outcome(lease: u64, results: &[(u32, Result3)]) -> Outcome {
    let settled = |(index, result): &(u32, Result3)| Settled {
        index: *index,
        result: *result,
        enhanced: match result {
            Result3::Delivered => (2, 0, 0),
            Result3::Deferred => (4, 2, 1),
            Result3::Failed => (5, 1, 1),
        },
        text: format!("the host said so to {index}"),
    };
    Outcome {
        lease,
        settled: results.iter().map(settled).collect(),
        reach: Reach::Reached,
        advice: Advice::default(),
        remote: "mx.dst.test[192.0.2.1]:25".to_owned(),
        tls: "none".to_owned(),
        reports: false,
        relayed: false,
        delays_ms: (1, 2, 3),
        sessions: Vec::new(),
    }
}

impl Operator {
    pub fn ask(&mut self, request: &Request) -> (Answer, Vec<OwnedFd>) {
        say(&mut self.0, request, Vec::new());
        let received = next(&mut self.0).expect("the queue-manager keeps the connection");
        (received.message, received.descriptors)
    }

    pub fn figures(&mut self) -> Vec<Figure> {
        match self.ask(&Request::Stats).0 {
            Answer::Stats(figures) => figures,
            other => panic!("{other:?}"),
        }
    }

    pub fn changed(&mut self, request: &Request) -> u64 {
        match self.ask(request).0 {
            Answer::Changed(count) => count,
            other => panic!("{other:?}"),
        }
    }

    pub fn list(&mut self, state: Option<ctl_queue::State>) -> Vec<Entry> {
        match self.ask(&Request::List { state, after: None, limit: ctl_queue::PAGE }).0 {
            Answer::Page(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    /// Tries all messages now.
    pub fn flush_all(&mut self) -> u64 {
        self.changed(&Request::Flush(Selection::All(None)))
    }
}
