//! A remote server that does what the test says, line by line. Every wait is bounded.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use vsmtp_stage::{PATIENCE, is_readable, uninterrupted};

pub const EHLO: &str = "250-peer.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 200000000\r\n";

pub trait Stream: Read + Write + Send {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

pub struct Peer {
    listener: TcpListener,
}

pub struct Talk {
    reader: BufReader<Box<dyn Stream>>,
    writer: Box<dyn Stream>,
    /// For TLS on top of it.
    tcp: Option<TcpStream>,
}

impl Peer {
    pub fn new() -> Self {
        Self::at("127.0.0.1:0")
    }

    pub fn at(address: &str) -> Self {
        Peer { listener: TcpListener::bind(address).unwrap() }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub fn next_hop(&self) -> String {
        format!("smtp:[127.0.0.1]:{}", self.port())
    }

    /// The next connection.
    pub fn accept(&self) -> Talk {
        assert!(is_readable(self.listener.as_fd(), Instant::now() + PATIENCE), "nobody connects");
        let stream = self.listener.accept().unwrap().0;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut talk =
            Talk::new(Box::new(stream.try_clone().unwrap()), Box::new(stream.try_clone().unwrap()));
        talk.tcp = Some(stream);
        talk
    }

    /// The next connection, after greeting and EHLO.
    pub fn accept_greeted(&self) -> Talk {
        let mut talk = self.accept();
        talk.greet(EHLO);
        talk
    }

    pub fn nobody_came(&self) -> bool {
        self.listener.set_nonblocking(true).unwrap();
        self.listener.accept().is_err()
    }
}

pub fn accept_unix(path: &Path, listener: &UnixListener) -> Talk {
    assert!(
        is_readable(listener.as_fd(), Instant::now() + PATIENCE),
        "nobody connects to {}",
        path.display()
    );
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Talk::new(Box::new(stream.try_clone().unwrap()), Box::new(stream))
}

impl Talk {
    fn new(reader: Box<dyn Stream>, writer: Box<dyn Stream>) -> Self {
        Talk { reader: BufReader::new(reader), writer, tcp: None }
    }

    /// From now on through something on top of the same connection. What was sent ahead is lost, and there must be none.
    pub fn wrap<S: Stream + 'static>(&mut self, wrap: impl FnOnce(TcpStream) -> (S, S)) {
        assert!(self.reader.buffer().is_empty(), "the client did not wait");
        let (reader, writer) = wrap(self.tcp.take().unwrap());
        self.reader = BufReader::new(Box::new(reader));
        self.writer = Box::new(writer);
    }

    /// Where the client connects from.
    pub fn client(&self) -> std::net::IpAddr {
        self.tcp.as_ref().unwrap().peer_addr().unwrap().ip()
    }

    pub fn say(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).unwrap();
    }

    /// Says as much as the other side takes.
    pub fn try_say(&mut self, text: &str) -> bool {
        self.writer.write_all(text.as_bytes()).is_ok()
    }

    /// One octet per packet.
    pub fn drip(&mut self, text: &str) {
        for byte in text.as_bytes() {
            self.writer.write_all(&[*byte]).unwrap();
            self.writer.flush().unwrap();
        }
    }

    /// The next line, without its end; empty at the end of the connection.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        // A reset is an end like any other here; silence is none.
        if let Err(error) = self.reader.read_line(&mut line) {
            assert!(error.kind() != ErrorKind::WouldBlock, "nothing is said behind {line:?}");
        }
        line.trim_end().to_owned()
    }

    /// Waits until something was sent, whatever it is.
    pub fn hear_something(&mut self) {
        let heard = uninterrupted(|| self.reader.fill_buf().map(<[u8]>::len)).unwrap();
        assert!(heard > 0, "nothing was said");
    }

    /// Waits for a line that begins so.
    pub fn hear(&mut self, start: &str) -> String {
        let line = self.line();
        assert!(line.starts_with(start), "{line:?} instead of {start}");
        line
    }

    pub fn hear_say(&mut self, start: &str, reply: &str) {
        self.hear(start);
        self.say(reply);
    }

    pub fn greet(&mut self, ehlo: &str) {
        self.say("220 peer.test ESMTP\r\n");
        self.hear_say("EHLO us.test", ehlo);
    }

    /// MAIL, one RCPT and DATA, answered as they should be.
    pub fn take_envelope(&mut self) {
        self.hear_say("MAIL FROM:<sender@src.test>", "250 ok\r\n");
        self.hear_say("RCPT TO:<", "250 ok\r\n");
        self.hear_say("DATA", "354 go on\r\n");
    }

    /// The message up to its dot, as it came over the wire.
    pub fn message(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        loop {
            let start = message.len();
            let got = self.reader.read_until(b'\n', &mut message).unwrap();
            assert!(got > 0, "connection ended inside the message");
            if &message[start..] == b".\r\n" {
                message.truncate(start);
                return message;
            }
        }
    }

    pub fn take_message(&mut self, reply: &str) -> String {
        self.take_envelope();
        let message = String::from_utf8(self.message()).unwrap();
        self.say(reply);
        message
    }

    pub fn ended(&mut self) -> bool {
        self.line().is_empty()
    }
}
