//! A name server that knows one thing: every name has the address 127.0.0.1. It ends when it is dropped.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Octets before the first question (RFC 1035 4.1.1).
const HEADER: usize = 12;
/// Types of records.
const A: [u8; 2] = [0, 1];
/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// The name server.
pub struct NameServer {
    port: u16,
    stopped: Arc<AtomicBool>,
}

impl NameServer {
    /// Listens on 127.0.0.1.
    pub fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind the name server");
        let port = socket.local_addr().expect("its address").port();
        socket.set_read_timeout(Some(LOOK)).expect("set a time-out");
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while !stop.load(Ordering::SeqCst) {
                let Ok((length, client)) = socket.recv_from(&mut packet) else { continue };
                if let Some(answer) = packet.get(..length).and_then(answer) {
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

/// The question again, and one address if it asks for that; anything else has no records.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let (header, questions) = query.split_at_checked(HEADER)?;
    let name = questions.iter().position(|octet| *octet == 0)?;
    let question = questions.get(..name + 5)?;
    let count = u8::from(question.get(name + 1..name + 3)? == A);
    let mut out = header.get(..2)?.to_vec();
    // A response, recursion available, no error; one question, no authority, nothing additional.
    out.extend_from_slice(&[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
    out.extend_from_slice(question);
    if count == 1 {
        // The name of the question, A, IN, one second, four octets.
        out.extend_from_slice(&[0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    Some(out)
}
