//! A name server that knows what a test says: that every name has the address 127.0.0.1, or which names have which
//! addresses or texts. It ends when it is dropped.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Octets before the first question (RFC 1035 4.1.1).
const HEADER: usize = 12;
/// Types of records.
const A: [u8; 2] = [0, 1];
const PTR: [u8; 2] = [0, 12];
const TXT: [u8; 2] = [0, 16];
/// Longest string of a text (RFC 1035 3.3.14).
const STRING: usize = 255;
/// The answer code of a name that does not exist.
const NO_SUCH_NAME: u8 = 3;
/// Stands for no answer at all.
const SILENCE: [u8; 4] = [0, 0, 0, 0];
/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// The name server.
pub struct NameServer {
    port: u16,
    stopped: Arc<AtomicBool>,
}

impl NameServer {
    /// Every name has the address 127.0.0.1. Listens on 127.0.0.1.
    pub fn start() -> NameServer {
        NameServer::serve(&[("*", [127, 0, 0, 1])])
    }

    /// These names have these addresses, others do not exist. `*.` in front stands for any name below; a name with the
    /// address 0.0.0.0 gets no answer.
    pub fn serve(names: &[(&str, [u8; 4])]) -> NameServer {
        NameServer::serve_with(names, &[])
    }

    /// The same, and these addresses have these names.
    pub fn serve_with(names: &[(&str, [u8; 4])], pointers: &[([u8; 4], &str)]) -> NameServer {
        let names = names.iter().map(|(name, address)| ((*name).to_owned(), Data::Address(*address)));
        let pointers = pointers.iter().map(|([a, b, c, d], name)| {
            (format!("{d}.{c}.{b}.{a}.in-addr.arpa"), Data::Name((*name).to_owned()))
        });
        NameServer::answer_with(names.chain(pointers).collect())
    }

    /// These names have these texts, others do not exist.
    pub fn serve_texts(names: &[(&str, &str)]) -> NameServer {
        NameServer::serve_both(&[], names)
    }

    /// These names have these addresses and those those texts, others do not exist.
    pub fn serve_both(addresses: &[(&str, [u8; 4])], texts: &[(&str, &str)]) -> NameServer {
        let addresses = addresses.iter().map(|(name, address)| ((*name).to_owned(), Data::Address(*address)));
        let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), Data::Text((*text).to_owned())));
        NameServer::answer_with(addresses.chain(texts).collect())
    }

    fn answer_with(names: Vec<(String, Data)>) -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind the name server");
        let port = socket.local_addr().expect("its address").port();
        socket.set_read_timeout(Some(LOOK)).expect("set a time-out");
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while !stop.load(Ordering::SeqCst) {
                let Ok((length, client)) = socket.recv_from(&mut packet) else { continue };
                if let Some(answer) = packet.get(..length).and_then(|query| answer(query, &names)) {
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        NameServer { port, stopped }
    }

    /// The lines of configuration that have an MTA ask this server.
    pub fn config(&self) -> String {
        format!(
            "config.server.dns.type = \"custom\"; config.server.dns.config.name_servers = [\"127.0.0.1:{}\"];",
            self.port
        )
    }
}

/// What a name has.
enum Data {
    Address([u8; 4]),
    Name(String),
    Text(String),
}

impl Data {
    /// Its type, and the octets of its record.
    fn record(&self) -> ([u8; 2], Vec<u8>) {
        match self {
            Data::Address(address) => (A, address.to_vec()),
            Data::Name(name) => (PTR, labels(name)),
            Data::Text(text) => {
                let strings = text.as_bytes().chunks(STRING);
                (TXT, strings.flat_map(|string| [&[string.len() as u8], string].concat()).collect())
            }
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

/// The question again, and one record if it asks for that; anything else has no records.
fn answer(query: &[u8], names: &[(String, Data)]) -> Option<Vec<u8>> {
    let (header, questions) = query.split_at_checked(HEADER)?;
    let end = questions.iter().position(|octet| *octet == 0)?;
    let question = questions.get(..end + 5)?;
    let asked = text(questions.get(..end)?);
    let is_it = |name: &str| match name.strip_prefix('*') {
        Some(rest) => asked.ends_with(rest),
        None => asked == name,
    };
    let kind = question.get(end + 1..end + 3)?;
    let known: Vec<&Data> = names.iter().filter(|(name, _)| is_it(name)).map(|(_, data)| data).collect();
    if matches!(known.first(), Some(Data::Address(SILENCE))) {
        return None;
    }
    let given = known.iter().map(|data| data.record()).find(|(given, _)| given == kind);
    let mut out = header.get(..2)?.to_vec();
    // A response, recursion available; one question, no authority, nothing additional.
    let missing = if known.is_empty() { NO_SUCH_NAME } else { 0 };
    out.extend_from_slice(&[0x81, 0x80 | missing, 0, 1, 0, u8::from(given.is_some()), 0, 0, 0, 0]);
    out.extend_from_slice(question);
    if let Some((kind, data)) = given {
        // The name of the question, its type, IN, one second, the octets with their length.
        let [long, short] = [data.len() >> 8, data.len() & 0xff].map(|part| part as u8);
        out.extend_from_slice(&[0xc0, HEADER as u8, kind[0], kind[1], 0, 1, 0, 0, 0, 1, long, short]);
        out.extend_from_slice(&data);
    }
    Some(out)
}

/// A name as it is written in a packet.
fn labels(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// The name of a question, with dots between its labels.
fn text(mut labels: &[u8]) -> String {
    let mut name = Vec::new();
    while let Some((length, rest)) = labels.split_first() {
        let Some((label, behind)) = rest.split_at_checked((*length).into()) else { break };
        name.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        labels = behind;
    }
    name.join(".")
}
