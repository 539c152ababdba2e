//! A connection to the receiver, in clear at first and under TLS from some moment on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustls::version::TLS13;
use vsmtp_stage::uninterrupted;

use crate::keys::{Secure, client_config};
use crate::stage::PATIENCE;

/// The connection.
pub struct Line {
    state: State,
    /// Why it failed, if it did.
    failure: Option<std::io::Error>,
}

enum State {
    Clear(TcpStream),
    Secure(Box<Secure>),
    /// Between the two.
    Gone,
}

impl Line {
    pub fn connect(address: SocketAddr) -> Line {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Line { state: State::Clear(stream), failure: None }
    }

    /// Makes the handshake; everything that the server has said before has been heard.
    pub fn shake(&mut self) {
        let State::Clear(stream) = std::mem::replace(&mut self.state, State::Gone) else {
            panic!("under TLS")
        };
        self.state = State::Secure(Box::new(Secure::shake(&client_config(&TLS13), stream).unwrap()));
    }

    /// Sends the octets as one packet or record, as far as they fit into one. Whether the server still listens shows in
    /// what it says.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = match &mut self.state {
            State::Clear(stream) => stream.write_all(bytes),
            State::Secure(secure) => {
                let stream = secure.reader.get_mut();
                stream.write_all(bytes).and_then(|()| stream.flush())
            }
            State::Gone => unreachable!("a connection"),
        };
    }

    /// The next so many octets, or fewer if the server ends the connection.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let mut piece = [0; 4096];
            let room = piece.len().min(count - taken.len());
            match uninterrupted(|| self.read(&mut piece[..room])) {
                Ok(count @ 1..) => taken.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing is said after {}", taken.escape_ascii())
                }
                Ok(_) => return taken,
                Err(error) => {
                    self.failure = Some(error);
                    return taken;
                }
            }
        }
        taken
    }

    /// Hears one whole reply, which begins like this.
    pub fn expect(&mut self, begin: &[u8]) {
        let reply = self.reply();
        assert!(reply.starts_with(begin), "{} instead of {}", reply.escape_ascii(), begin.escape_ascii());
    }

    /// The next whole reply.
    pub fn reply(&mut self) -> Vec<u8> {
        let mut reply = Vec::new();
        loop {
            let line = reply.len();
            while !reply[line..].ends_with(b"\r\n") {
                let octet = self.take(1);
                let failure = &self.failure;
                assert!(!octet.is_empty(), "gone after {}, {failure:?}", reply.escape_ascii());
                reply.extend(octet);
            }
            if reply.get(line + 3) != Some(&b'-') {
                return reply;
            }
        }
    }

    fn read(&mut self, piece: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.state {
            State::Clear(stream) => stream.read(piece),
            State::Secure(secure) => read_secure(secure, piece),
            State::Gone => unreachable!("a connection"),
        }
    }
}

/// Reads without writing anything: a server that has heard enough has closed, and its last words are still to be heard.
fn read_secure(secure: &mut Secure, piece: &mut [u8]) -> std::io::Result<usize> {
    let stream = secure.reader.get_mut();
    loop {
        match stream.conn.reader().read(piece) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        if stream.conn.read_tls(&mut stream.sock)? == 0 {
            return Ok(0);
        }
        stream.conn.process_new_packets().map_err(std::io::Error::other)?;
    }
}
