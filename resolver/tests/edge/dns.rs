//! A scripted name server on loopback, UDP and TCP on one port. It does what the test says for each question, writes down
//! what it was asked, and ends with the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SOA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use vsmtp_stage::PATIENCE;

/// How often the server looks whether it is to end.
const TICK: Duration = Duration::from_millis(20);

/// A question that came in.
#[derive(Clone, Debug)]
pub struct Asked {
    pub message: Message,
    pub by_tcp: bool,
}

/// What the script wants said.
pub enum Say {
    Message(Message),
    Octets(Vec<u8>),
    /// By UDP, when the test says so.
    Later(Message),
}

pub struct Dns {
    pub address: SocketAddr,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

type Script = dyn Fn(&Asked) -> Vec<Say> + Send + Sync;

struct State {
    script: Box<Script>,
    udp: UdpSocket,
    asked: Mutex<Vec<Asked>>,
    changed: Condvar,
    later: Mutex<Vec<(Vec<u8>, SocketAddr)>>,
    ended: AtomicBool,
}

impl Dns {
    pub fn start(script: impl Fn(&Asked) -> Vec<Say> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let state = Arc::new(State {
            script: Box::new(script),
            udp,
            asked: Mutex::default(),
            changed: Condvar::new(),
            later: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let (one, other) = (Arc::clone(&state), Arc::clone(&state));
        let threads = vec![
            std::thread::spawn(move || one.serve_udp()),
            std::thread::spawn(move || other.serve_tcp(&tcp)),
        ];
        Dns { address, state, threads }
    }

    /// Everything asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// How often this was asked.
    pub fn count(&self, name: &str, kind: RecordType) -> usize {
        self.asked().iter().filter(|asked| asked.is(name, kind)).count()
    }

    /// Waits until so many questions have come in.
    pub fn wait_for(&self, questions: usize) {
        let asked = self.state.asked.lock().unwrap();
        let (asked, _) =
            self.state.changed.wait_timeout_while(asked, PATIENCE, |asked| asked.len() < questions).unwrap();
        assert!(
            asked.len() >= questions,
            "waited in vain for {questions} questions, there are {}",
            asked.len()
        );
    }

    /// Says all that was to be said later.
    pub fn say_now(&self) {
        for (octets, to) in self.state.later.lock().unwrap().drain(..) {
            self.state.udp.send_to(&octets, to).unwrap();
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.state.ended.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn sockets() -> (UdpSocket, TcpListener) {
    (0..50)
        .find_map(|_| {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            UdpSocket::bind(tcp.local_addr().unwrap()).ok().map(|udp| (udp, tcp))
        })
        .expect("a port that is free for both")
}

impl State {
    fn ended(&self) -> bool {
        self.ended.load(SeqCst)
    }

    fn serve_udp(&self) {
        self.udp.set_read_timeout(Some(TICK)).unwrap();
        let mut buffer = [0; 4096];
        while !self.ended() {
            let Ok((len, from)) = self.udp.recv_from(&mut buffer) else { continue };
            for say in self.note(&buffer[..len], false) {
                match say {
                    Say::Later(message) => self.later.lock().unwrap().push((message.to_vec().unwrap(), from)),
                    say => {
                        self.udp.send_to(&say.octets(), from).unwrap();
                    }
                }
            }
            self.changed.notify_all();
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        listener.set_nonblocking(true).unwrap();
        while !self.ended() {
            match listener.accept() {
                Ok((stream, _)) => {
                    // A connection that ends early is the client's business.
                    let _ = self.talk(stream);
                    self.changed.notify_all();
                }
                Err(_) => std::thread::sleep(TICK),
            }
        }
    }

    fn talk(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; usize::from(length[0]) << 8 | usize::from(length[1])];
        stream.read_exact(&mut question)?;
        for say in self.note(&question, true) {
            let octets = say.octets();
            stream.write_all(&[(octets.len() >> 8) as u8, octets.len() as u8])?;
            stream.write_all(&octets)?;
        }
        Ok(())
    }

    fn note(&self, question: &[u8], by_tcp: bool) -> Vec<Say> {
        let asked = Asked { message: Message::from_vec(question).unwrap(), by_tcp };
        let says = (self.script)(&asked);
        self.asked.lock().unwrap().push(asked);
        says
    }
}

impl Say {
    fn octets(self) -> Vec<u8> {
        match self {
            Say::Message(message) | Say::Later(message) => message.to_vec().unwrap(),
            Say::Octets(octets) => octets,
        }
    }
}

impl Asked {
    /// The name, without the root dot.
    pub fn name(&self) -> String {
        self.message.queries[0].name().to_ascii().trim_end_matches('.').to_owned()
    }

    pub fn kind(&self) -> RecordType {
        self.message.queries[0].query_type()
    }

    pub fn is(&self, name: &str, kind: RecordType) -> bool {
        self.name() == name && self.kind() == kind
    }

    /// An empty answer of a recursive server.
    pub fn empty(&self, code: ResponseCode) -> Message {
        let mut answer = self.message.clone();
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_available = true;
        answer.metadata.authentic_data = false;
        answer.metadata.response_code = code;
        answer
    }

    /// The records that the name in question has, for a minute.
    pub fn answer(&self, data: impl IntoIterator<Item = RData>) -> Message {
        let name = self.message.queries[0].name();
        self.records(data.into_iter().map(|data| Record::from_rdata(name.clone(), 60, data)))
    }

    pub fn records(&self, records: impl IntoIterator<Item = Record>) -> Message {
        let mut answer = self.empty(ResponseCode::NoError);
        answer.add_answers(records);
        answer
    }

    /// The name or its records do not exist, for so many seconds.
    pub fn absent(&self, code: ResponseCode, seconds: u32) -> Message {
        let mut answer = self.empty(code);
        answer.add_authority(soa(seconds));
        answer
    }

    /// "No such records" for a minute.
    pub fn nothing(&self) -> Message {
        self.absent(ResponseCode::NoError, 60)
    }
}

pub fn say(message: Message) -> Vec<Say> {
    vec![Say::Message(message)]
}

pub fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

pub fn record(owner: &str, seconds: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), seconds, data)
}

pub fn soa(seconds: u32) -> Record {
    record(
        "example",
        3600,
        RData::SOA(SOA::new(name("ns.example"), name("root.example"), 1, 2, 3, 4, seconds)),
    )
}

pub fn a(last: u8) -> RData {
    RData::A(A::new(192, 0, 2, last))
}

pub fn aaaa(last: u16) -> RData {
    RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

pub fn mx(preference: u16, host: &str) -> RData {
    RData::MX(MX::new(preference, name(host)))
}

pub fn cname(target: &str) -> RData {
    RData::CNAME(CNAME(name(target)))
}

pub fn ptr(host: Name) -> RData {
    RData::PTR(PTR(host))
}

pub fn txt(strings: &[&[u8]]) -> RData {
    RData::TXT(TXT::from_bytes(strings.to_vec()))
}
