//! The other ends of a receiver: the master's, the filter's, and a client's. Every wait has an end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use vsmtp_config::{BareNewline, ByText, ClientTimeouts, Network, ReceiverSlice};
use vsmtp_ipc::edge::master_child::{Listener, ToChild, ToMaster};
use vsmtp_ipc::edge::receiver_auth;
use vsmtp_ipc::edge::receiver_filter::{Ask, Decision, Facts, FilterEnd, Verdict};
use vsmtp_ipc::edge::receiver_limits::{self, LimitsEnd, Wanted};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::Service;
use vsmtp_ipc::{Channel, ChannelError, EdgeId, Message};
use vsmtp_mail::Domain;
use vsmtp_stage::{Process, configure, is_dropped, say};
use vsmtp_sys::memfd::Sealed;

pub use vsmtp_stage::{PATIENCE, next};

pub const FILTER: ProcessName = ProcessName { role: Role::FilterSession, instance: 0 };
pub const LIMITS: ProcessName = ProcessName { role: Role::Limits, instance: 0 };

/// A running receiver.
pub struct Stage {
    pub process: Process,
    pub address: SocketAddr,
}

/// The filter's end of one edge.
pub struct Filter(pub FilterEnd);

/// The limiter's end of one edge.
pub struct Limiter(pub LimitsEnd);

/// An SMTP client.
pub struct Client {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// A slice with short waits and no other surprise.
pub fn slice() -> ReceiverSlice {
    let long = Duration::from_secs(60);
    ReceiverSlice {
        server_name: ByText::from(Domain::parse("mx.test").unwrap()),
        message_size_limit: 100 << 20,
        client_names: true,
        client_count_max: Some(1000),
        exempt: vec![ByText::from(Network::parse("127.0.0.0/8").unwrap())],
        rcpt_count_max: 1000,
        error_soft_count: None,
        error_hard_count: Some(20),
        error_delay: Duration::ZERO,
        timeouts: ClientTimeouts { connect: long, helo: long, mail_from: long, rcpt_to: long, data: long },
        session_timeout: Duration::from_secs(3600),
        bare_newline: BareNewline::Refuse,
        line_length_max: 65_536,
        header_size_limit: 1 << 20,
        hop_count_max: 50,
        pipelining: true,
        eightbitmime: true,
        chunking: true,
        dsn: true,
        smtputf8: true,
        auth_mechanisms: vec!["PLAIN".to_owned()],
        certificates: Vec::new(),
        auth_in_clear: true,
        auth_required: false,
        auth_attempts: Some(3),
        tls: None,
        discard: Vec::new(),
        listeners: Vec::new(),
        ehlo: true,
        vrfy: true,
        priority_raise: false,
        proxied: Vec::new(),
        proxies: Vec::new(),
        xclient_from: Vec::new(),
        login_from: Vec::new(),
        xforward_from: Vec::new(),
        replies: Vec::new(),
    }
}

impl Stage {
    /// Starts a receiver, with a listener and without a filter.
    pub fn start(slice: &ReceiverSlice) -> Stage {
        Stage::start_with(|_| slice.clone())
    }

    /// As `start`, with a slice for the listener's address.
    pub fn start_with(slice: impl FnOnce(SocketAddr) -> ReceiverSlice) -> Stage {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let configure = configure(Role::Receiver, vsmtp_ipc::encode(&slice(address)).unwrap());
        let mut process = Process::start(env!("CARGO_BIN_EXE_vsmtp-receiver"), &[], configure);
        let smtp = Listener::Smtp { address: address.to_string(), service: Service::Smtp };
        process.tell(&ToChild::Listener(smtp), vec![listener.into()]);
        process.hear_master(|said| matches!(said, ToMaster::Ready));
        Stage { process, address }
    }

    /// Starts a receiver with a filter that wants no stage but what it must be asked.
    pub fn with_filter() -> (Stage, Filter) {
        let mut stage = Stage::start(&slice());
        let filter = stage.introduce((false, false, false));
        (stage, filter)
    }

    /// The same, and what the helper grants.
    pub fn with_filter_that_judges() -> (Stage, Filter) {
        let mut stage = Stage::start(&slice());
        let filter = stage.introduce_with((false, false, false), true);
        (stage, filter)
    }

    /// Introduces a filter that wants these stages: connect, helo, mail.
    pub fn introduce(&mut self, wanted: (bool, bool, bool)) -> Filter {
        self.introduce_with(wanted, false)
    }

    /// The same, and perhaps what the helper grants.
    pub fn introduce_with(&mut self, wanted: (bool, bool, bool), authenticate: bool) -> Filter {
        let ours = self.process.introduce(FILTER);
        let mut filter = Filter(FilterEnd::new(ours, EdgeId::ReceiverFilter));
        let (connect, helo, mail) = wanted;
        filter.say(&Verdict::Wanted { connect, helo, authenticate, mail });
        filter
    }

    /// Introduces a limiter that wants this.
    pub fn introduce_limiter(&mut self, wanted: Wanted) -> Limiter {
        let mut limiter = self.introduce_silent_limiter();
        limiter.say(&receiver_limits::Answer::Wanted(wanted));
        limiter
    }

    /// Introduces a limiter that has not said yet what it wants.
    pub fn introduce_silent_limiter(&mut self) -> Limiter {
        let ours = self.process.introduce(LIMITS);
        Limiter(LimitsEnd::new(ours, EdgeId::ReceiverLimits))
    }

    pub fn tell(&mut self, message: &ToChild, descriptors: Vec<OwnedFd>) {
        self.process.tell(message, descriptors);
    }

    /// Waits until the receiver tells the master this.
    pub fn hear_master(&mut self, wanted: impl Fn(&ToMaster) -> bool) {
        self.process.hear_master(wanted);
    }

    /// Waits for a report in which this figure has that value.
    pub fn figure(&mut self, name: &str, value: u64) {
        self.hear_master(|said| {
            matches!(said, ToMaster::Beat(figures) if figures.iter().any(|f| f.name == name && f.value == value))
        });
    }

    /// Waits until the log holds this, and hears what the master is told meanwhile: nobody who looks for figures next
    /// shall find old ones.
    pub fn logged(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "the log does not say {text}");
            self.hear_master(|said| matches!(said, ToMaster::Beat(_)));
        }
    }

    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Client { stream, reader }
    }

    /// A client that has heard the greeting and said EHLO.
    pub fn greeted(&self) -> Client {
        let mut client = self.connect();
        assert_eq!(client.reply(), "220 mx.test ESMTP");
        assert!(client.ask("EHLO client.test").contains("250-mx.test"));
        client
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits for the end of the process; true if it ended well.
    pub fn wait(self) -> bool {
        self.process.ended().success()
    }
}

impl Filter {
    pub fn say(&mut self, verdict: &Verdict) {
        say(&mut self.0, verdict, Vec::new());
    }

    /// The next question, with its descriptors.
    pub fn hear(&mut self) -> (Ask, Vec<OwnedFd>) {
        let received = next(&mut self.0).expect("the receiver keeps the edge");
        (received.message, received.descriptors)
    }

    /// The next question, whatever has ended before.
    pub fn hear_of_sessions(&mut self) -> Ask {
        match self.hear().0 {
            Ask::Forget { .. } => self.hear_of_sessions(),
            ask => ask,
        }
    }

    /// The next question, if it comes before that.
    pub fn hear_soon(&mut self, patience: Duration) -> Option<(Ask, Vec<OwnedFd>)> {
        let mut received = self.0.receive().unwrap();
        if received.is_none() {
            wait_readable(self.0.socket(), patience);
            received = self.0.receive().unwrap();
        }
        received.map(|received| (received.message, received.descriptors))
    }

    pub fn decide(&mut self, session: u64, decision: Decision) {
        self.say(&Verdict::Decided { session, decision });
    }

    /// Expects RCPT and accepts all; answers the facts and how many there were.
    pub fn accept_recipients(&mut self) -> (Facts, usize) {
        match self.hear().0 {
            Ask::Recipients { facts, recipients, .. } => {
                let decisions = vec![Decision::Accept(None); recipients.len()];
                self.say(&Verdict::Recipients { session: facts.session, decisions });
                (facts, recipients.len())
            }
            other => panic!("expected recipients, not {other:?}"),
        }
    }

    /// Expects a message in one piece and accepts it; answers its bytes.
    pub fn accept_message(&mut self) -> Vec<u8> {
        let (session, bytes) = self.take_message();
        self.decide(session, Decision::Accept(None));
        bytes
    }

    /// Expects a message in one piece.
    pub fn take_message(&mut self) -> (u64, Vec<u8>) {
        match self.hear() {
            (Ask::Message { facts, body: vsmtp_ipc::wire::Body::Inline(bytes), .. }, _) => {
                (facts.session, bytes)
            }
            (Ask::Message { facts, body: vsmtp_ipc::wire::Body::Memfd(len), .. }, fds) => {
                (facts.session, Sealed::verify(only(fds), len).unwrap().read_all(1 << 20).unwrap())
            }
            (other, _) => panic!("expected a message, not {other:?}"),
        }
    }

    pub fn expect_reset(&mut self) {
        assert!(matches!(self.hear().0, Ask::Reset { .. }));
    }

    pub fn expect_forget(&mut self) {
        assert!(matches!(self.hear().0, Ask::Forget { .. }));
    }

    /// True when the receiver has closed this edge.
    pub fn is_dropped(&mut self) -> bool {
        is_dropped(&mut self.0)
    }
}

impl Limiter {
    pub fn say(&mut self, answer: &receiver_limits::Answer) {
        say(&mut self.0, answer, Vec::new());
    }

    /// The next question or note.
    pub fn hear(&mut self) -> receiver_limits::Ask {
        next(&mut self.0).expect("the receiver keeps the edge").message
    }

    /// Expects a client at the door; its ticket.
    pub fn at_the_door(&mut self) -> u64 {
        match self.hear() {
            receiver_limits::Ask::Connect { ticket, .. } => ticket,
            other => panic!("expected a client, not {other:?}"),
        }
    }

    pub fn entry(&mut self, ticket: u64, entry: receiver_limits::Entry) {
        self.say(&receiver_limits::Answer::Entered { ticket, entry });
    }

    /// True when the receiver has closed this edge.
    pub fn is_dropped(&mut self) -> bool {
        is_dropped(&mut self.0)
    }
}

impl Client {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// One whole reply, its lines joined by line feeds.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            assert!(line.ends_with("\r\n"), "{reply}{line:?}");
            reply.push_str(line.trim_end());
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
            reply.push('\n');
        }
    }

    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n"));
        self.reply()
    }

    /// Sends a command whose reply is not awaited.
    pub fn say(&mut self, command: &str) {
        self.send(format!("{command}\r\n"));
    }

    /// True when the server has closed the connection and everything was read.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).is_err() || rest.is_empty()
    }

    /// All that is said until the end, which must be an orderly one and no reset.
    pub fn hear_to_the_end(&mut self) -> String {
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).expect("an orderly end");
        rest
    }

    /// MAIL and one RCPT, accepted by this filter.
    pub fn begin(&mut self, filter: &mut Filter) -> Facts {
        assert!(self.ask("MAIL FROM:<a@client.test>").starts_with("250"));
        self.say("RCPT TO:<b@mx.test>");
        let facts = filter.accept_recipients().0;
        assert!(self.reply().starts_with("250"));
        facts
    }
}

/// Our end of a new edge to an auth helper.
pub fn introduce_helper(stage: &mut Stage, name: ProcessName) -> receiver_auth::AuthEnd {
    Channel::new(stage.process.introduce(name), EdgeId::ReceiverAuth)
}

/// The next message on an edge.
pub fn heard<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>) -> Result<Rx, ChannelError> {
    next(channel).map(|received| received.message)
}

pub fn only(mut descriptors: Vec<OwnedFd>) -> OwnedFd {
    assert_eq!(descriptors.len(), 1);
    descriptors.remove(0)
}

pub fn reply(text: &str) -> vsmtp_ipc::wire::Reply {
    (&vsmtp_mail::Reply::parse(text).unwrap()).into()
}

pub fn wait_readable(fd: BorrowedFd<'_>, patience: Duration) {
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), Token(0), Interest::READABLE).unwrap();
    // Interrupted or not: the caller looks again, and has its own end.
    let _ = poll.poll(&mut Events::with_capacity(1), Some(patience));
}
