//! A name server that knows what a test says: that every name has the address 127.0.0.1, or which names have which
//! addresses. It ends when it is dropped.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Octets before the first question (RFC 1035 4.1.1).
const HEADER: usize = 12;
/// Types of records.
const A: [u8; 2] = [0, 1];
const PTR: [u8; 2] = [0, 12];
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
        let names: Vec<(String, [u8; 4])> =
            names.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        let pointers: Vec<(String, String)> = pointers
            .iter()
            .map(|([a, b, c, d], name)| (format!("{d}.{c}.{b}.{a}.in-addr.arpa"), (*name).to_owned()))
            .collect();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind the name server");
        let port = socket.local_addr().expect("its address").port();
        socket.set_read_timeout(Some(LOOK)).expect("set a time-out");
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while !stop.load(Ordering::SeqCst) {
                let Ok((length, client)) = socket.recv_from(&mut packet) else { continue };
                if let Some(answer) = packet.get(..length).and_then(|query| answer(query, &names, &pointers))
                {
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

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

/// The question again, and one address or name if it asks for that; anything else has no records.
fn answer(query: &[u8], names: &[(String, [u8; 4])], pointers: &[(String, String)]) -> Option<Vec<u8>> {
    let (header, questions) = query.split_at_checked(HEADER)?;
    let end = questions.iter().position(|octet| *octet == 0)?;
    let question = questions.get(..end + 5)?;
    let asked = text(questions.get(..end)?);
    let is_it = |name: &str| match name.strip_prefix('*') {
        Some(rest) => asked.ends_with(rest),
        None => asked == name,
    };
    let address = names.iter().find(|(name, _)| is_it(name)).map(|(_, address)| *address);
    if address == Some(SILENCE) {
        return None;
    }
    let kind = question.get(end + 1..end + 3)?;
    let pointer = pointers.iter().find(|(name, _)| *name == asked).map(|(_, name)| labels(name));
    let given = match (address, pointer.clone()) {
        (Some(address), _) if kind == A => Some((A, address.to_vec())),
        (_, Some(name)) if kind == PTR => Some((PTR, name)),
        _ => None,
    };
    let mut out = header.get(..2)?.to_vec();
    // A response, recursion available; one question, no authority, nothing additional.
    let missing = if address.is_none() && pointer.is_none() { NO_SUCH_NAME } else { 0 };
    out.extend_from_slice(&[0x81, 0x80 | missing, 0, 1, 0, u8::from(given.is_some()), 0, 0, 0, 0]);
    out.extend_from_slice(question);
    if let Some((kind, data)) = given {
        // The name of the question, its type, IN, one second.
        out.extend_from_slice(&[0xc0, HEADER as u8, kind[0], kind[1], 0, 1, 0, 0, 0, 1, 0, data.len() as u8]);
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
