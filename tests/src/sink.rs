//! A next hop that takes mail, or refuses it as it is told, and remembers what it got.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Connections end after so long without a line.
const PATIENCE: Duration = Duration::from_secs(30);

/// One message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkMessage {
    /// Inside of MAIL FROM's brackets.
    pub from: String,
    /// Inside of RCPT TO's brackets.
    pub to: Vec<String>,
    /// After un-stuffing, without the final dot, as text.
    pub data: String,
    /// The same, octet by octet.
    pub octets: Vec<u8>,
    /// When its final dot came.
    pub arrived: SystemTime,
}

impl SinkMessage {
    fn of(from: &str) -> SinkMessage {
        let (to, data, octets) = (Vec::new(), String::new(), Vec::new());
        SinkMessage { from: from.to_owned(), to, data, octets, arrived: SystemTime::UNIX_EPOCH }
    }
}

/// Decides about a command: `None` for the usual reply.
type Script = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The next hop. It stops when dropped.
pub struct Sink {
    port: u16,
    messages: Arc<Mutex<Vec<SinkMessage>>>,
    stopped: Arc<AtomicBool>,
}

impl Sink {
    /// Takes everything.
    pub fn start() -> Sink {
        Sink::scripted(|_| None)
    }

    /// `script` sees each command line (and `.` for the end of data) and may answer it.
    pub fn scripted(script: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind the sink");
        let port = listener.local_addr().expect("its address").port();
        let messages = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let script: Arc<Script> = Arc::new(script);
        let (kept, stop) = (Arc::clone(&messages), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (kept, script) = (Arc::clone(&kept), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, &kept, &*script));
            }
        });
        Sink { port, messages, stopped }
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many messages so far.
    pub fn count(&self) -> usize {
        self.messages.lock().expect("the sink's messages").len()
    }

    /// All messages so far.
    pub fn messages(&self) -> Vec<SinkMessage> {
        self.messages.lock().expect("the sink's messages").clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: TcpStream, kept: &Mutex<Vec<SinkMessage>>, script: &Script) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut out = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream);
    let (mut message, mut is_open) = (SinkMessage::of(""), false);
    say(&mut out, script("connect").as_deref().unwrap_or("220 sink.test ESMTP"))?;
    loop {
        let line = read_line(&mut lines)?;
        let verb = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
        let inside =
            line.split_once('<').and_then(|(_, rest)| rest.rsplit_once('>')).map_or("", |(path, _)| path);
        let (usual, is_data) = match verb.as_str() {
            "EHLO" | "LHLO" => {
                ("250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 104857600", false)
            }
            // A pipelining client has sent it before it heard that all recipients were refused.
            "DATA" if message.to.is_empty() => ("503 5.5.1 no recipients", true),
            "DATA" => ("354 go on", true),
            "RCPT" if !is_open => ("503 5.5.1 no sender", false),
            "QUIT" => ("221 bye", false),
            _ => ("250 2.0.0 ok", false),
        };
        let reply = script(&line).unwrap_or_else(|| usual.to_owned());
        let taken = reply.starts_with('2') || reply.starts_with('3');
        match verb.as_str() {
            "MAIL" => {
                is_open = taken;
                message = SinkMessage::of(inside);
            }
            "RCPT" if taken => message.to.push(inside.to_owned()),
            _ => {}
        }
        if reply == "close" {
            return None;
        }
        say(&mut out, &reply)?;
        if verb == "QUIT" {
            return None;
        }
        if is_data && taken {
            message.octets = read_data(&mut lines)?;
            message.arrived = SystemTime::now();
            message.data = String::from_utf8_lossy(&message.octets).into_owned();
            let reply = script(".").unwrap_or_else(|| "250 2.0.0 taken".to_owned());
            if reply == "close" {
                return None;
            }
            if reply.starts_with('2') {
                kept.lock().ok()?.push(message.clone());
            }
            (message, is_open) = (SinkMessage::of(""), false);
            say(&mut out, &reply)?;
        }
    }
}

fn read_data(lines: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let line = read_octets(lines)?;
        if line == b".\r\n" {
            return Some(data);
        }
        data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

fn read_line(lines: &mut BufReader<TcpStream>) -> Option<String> {
    let line = read_octets(lines)?;
    Some(String::from_utf8_lossy(&line).trim_end_matches("\r\n").to_owned())
}

/// Up to and with the next LF.
fn read_octets(lines: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let got = lines.read_until(b'\n', &mut line).ok()?;
    (got > 0).then_some(line)
}

fn say(out: &mut TcpStream, line: &str) -> Option<()> {
    out.write_all(format!("{line}\r\n").as_bytes()).ok()
}
