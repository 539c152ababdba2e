//! One handshake, step by step. It reads and writes a transport that does not block; the step that signs comes out as
//! [`Work`], and where none does, because a session goes on, there is no such step. Under way it is a few kilobytes, and it
//! never takes a byte that is not TLS for anything else.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};

use super::offer::{self, MAX_HELLO};
use super::terms::Terms;
use crate::stream::Stream;

/// Octets of a hello that may come, and one read more, before it must be whole: what is kept of half a hello. RFC 8446 has no
/// bound; those of real clients have hundreds of octets, and a few thousands with keys for times after quantum computers.
pub const MAX_HEARD: usize = 16_384;

/// A handshake from its first byte to its last.
pub struct Handshake {
    stage: Stage,
}

enum Stage {
    /// The client has not said all of its hello.
    Hello(Box<Hearing>),
    /// Someone runs the step that signs.
    Away,
    /// The client's answers are awaited.
    Rest(Box<ServerConnection>),
    Over,
}

/// A hello that comes in.
#[derive(Default)]
struct Hearing {
    acceptor: Acceptor,
    /// Its octets, up to [`MAX_HELLO`] and one read more.
    octets: Vec<u8>,
    /// How many have come.
    heard: usize,
}

/// What comes next.
pub enum Progress {
    /// The transport must become readable, or, if [`Handshake::has_unsent`], writable.
    Wait,
    /// Run this where waiting is allowed and bring the result to [`Handshake::resume`].
    Work(Work),
    /// It is done. Data may have come with it: read before waiting for an event.
    Done(Box<Stream>),
    /// It has failed, and the client was told so if possible. Close the connection.
    Failed(Failure),
}

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The client went away.
    Gone,
    /// One of the two did not want what the other does, or broke the protocol: says what.
    Refused(String),
}

/// The step of a handshake that signs.
pub struct Work {
    what: What,
}

enum What {
    Begin(Box<Accepted>, Arc<ServerConfig>),
    Continue(Box<ServerConnection>),
}

/// Work that was done.
pub struct Finished {
    result: Result<Box<ServerConnection>, Box<Broken>>,
}

struct Broken {
    text: String,
    /// What the client is still to be told.
    alert: Alert,
}

enum Alert {
    Accepted(AcceptedAlert),
    Connection(Box<ServerConnection>),
}

impl Default for Handshake {
    fn default() -> Self {
        Handshake { stage: Stage::Hello(Box::default()) }
    }
}

impl Handshake {
    /// Goes on with what the transport has.
    pub fn advance(&mut self, transport: &mut (impl Read + Write), terms: &Terms) -> Progress {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Hello(hearing) => self.hear_hello(hearing, transport, terms),
            Stage::Rest(connection) => self.rest(connection, transport),
            Stage::Away => {
                self.stage = Stage::Away;
                Progress::Wait
            }
            Stage::Over => Progress::Failed(Failure::Gone),
        }
    }

    /// Takes the result of the work back.
    pub fn resume(&mut self, finished: Finished, transport: &mut (impl Read + Write)) -> Progress {
        match finished.result {
            Ok(connection) => self.rest(connection, transport),
            Err(broken) => {
                self.stage = Stage::Over;
                let Broken { text, alert } = *broken;
                match alert {
                    Alert::Accepted(mut alert) => drop(alert.write_all(transport)),
                    Alert::Connection(mut connection) => drop(flush(&mut connection, transport)),
                }
                Progress::Failed(Failure::Refused(text))
            }
        }
    }

    /// True if output waits for the transport.
    pub fn has_unsent(&self) -> bool {
        matches!(&self.stage, Stage::Rest(connection) if connection.wants_write())
    }

    fn hear_hello(
        &mut self,
        mut hearing: Box<Hearing>,
        transport: &mut (impl Read + Write),
        terms: &Terms,
    ) -> Progress {
        loop {
            match hearing.read(transport) {
                Ok(0) => return Progress::Failed(Failure::Gone),
                Ok(count) => hearing.heard += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stage = Stage::Hello(hearing);
                    return Progress::Wait;
                }
                Err(_) => return Progress::Failed(Failure::Gone),
            }
            match hearing.acceptor.accept() {
                Ok(None) if hearing.heard > MAX_HEARD => {
                    return Progress::Failed(Failure::Refused("its hello is too long".to_owned()));
                }
                Ok(None) => {}
                Ok(Some(accepted)) => return self.greet(accepted, &hearing.octets, transport, terms),
                Err((error, mut alert)) => {
                    let _ = alert.write_all(transport);
                    return Progress::Failed(Failure::Refused(error.to_string()));
                }
            }
        }
    }

    /// Answers a whole hello: here, if the session goes on with a ticket of ours, and elsewhere if something must be signed.
    fn greet(
        &mut self,
        accepted: Accepted,
        octets: &[u8],
        transport: &mut (impl Read + Write),
        terms: &Terms,
    ) -> Progress {
        let keyless = offer::ticket(octets).and_then(|ticket| terms.keyless_for(ticket));
        let went = match keyless {
            Some(config) => go_on(accepted, config, octets),
            None => Went::Back(Box::new(accepted)),
        };
        let accepted = match went {
            Went::On(connection) => return self.rest(connection, transport),
            Went::Back(accepted) => accepted,
            Went::Nowhere => return Progress::Failed(Failure::Gone),
        };
        self.stage = Stage::Away;
        Progress::Work(Work { what: What::Begin(accepted, terms.config()) })
    }

    fn rest(
        &mut self,
        mut connection: Box<ServerConnection>,
        transport: &mut (impl Read + Write),
    ) -> Progress {
        loop {
            // Under version 1.3 the client has the last word, and what follows it are tickets.
            if !connection.is_handshaking() && connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            {
                return Progress::Done(Box::new(Stream::with_tickets(*connection)));
            }
            if flush(&mut connection, transport).is_err() {
                return Progress::Failed(Failure::Gone);
            }
            if !connection.is_handshaking() {
                return Progress::Done(Box::new(Stream::new(*connection)));
            }
            match connection.read_tls(transport) {
                Ok(0) => return Progress::Failed(Failure::Gone),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stage = Stage::Rest(connection);
                    return Progress::Wait;
                }
                Err(_) => return Progress::Failed(Failure::Gone),
            }
            // The client was asked for another hello, so nothing is signed yet.
            if connection.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest) {
                self.stage = Stage::Away;
                return Progress::Work(Work { what: What::Continue(connection) });
            }
            if let Err(error) = connection.process_new_packets() {
                let _ = flush(&mut connection, transport);
                return Progress::Failed(Failure::Refused(error.to_string()));
            }
        }
    }
}

impl Hearing {
    /// Reads once, and remembers what came.
    fn read(&mut self, transport: &mut impl Read) -> io::Result<usize> {
        let Hearing { acceptor, octets, .. } = self;
        let full = octets.len() >= MAX_HELLO;
        acceptor.read_tls(&mut Remembering { transport, octets: (!full).then_some(octets) })
    }
}

/// A transport that keeps what is read from it.
struct Remembering<'a, T> {
    transport: &'a mut T,
    octets: Option<&'a mut Vec<u8>>,
}

impl<T: Read> Read for Remembering<'_, T> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.transport.read(out)?;
        if let (Some(octets), Some(read)) = (&mut self.octets, out.get(..count)) {
            octets.extend_from_slice(read);
        }
        Ok(count)
    }
}

/// What came of the attempt to go on with an earlier session.
enum Went {
    On(Box<ServerConnection>),
    /// It needs a signature after all: the hello once more.
    Back(Box<Accepted>),
    /// The hello is not the same a second time, which cannot be.
    Nowhere,
}

/// Answers a hello without a key. Nothing is sent yet, so whatever goes wrong can be done again with one.
fn go_on(accepted: Accepted, config: Arc<ServerConfig>, octets: &[u8]) -> Went {
    if let Ok(connection) = accepted.into_connection(config)
        && connection.handshake_kind() == Some(HandshakeKind::Resumed)
    {
        return Went::On(Box::new(connection));
    }
    let (mut acceptor, mut octets) = (Acceptor::default(), octets);
    while acceptor.read_tls(&mut octets).is_ok_and(|count| count > 0) {
        match acceptor.accept() {
            Ok(Some(accepted)) => return Went::Back(Box::new(accepted)),
            Ok(None) => {}
            Err(_) => break,
        }
    }
    Went::Nowhere
}

impl Work {
    /// Does it. May block as long as the oracle does.
    pub fn run(self) -> Finished {
        let result = match self.what {
            What::Begin(accepted, config) => {
                accepted.into_connection(config).map(Box::new).map_err(|failed| {
                    let (error, alert) = failed;
                    Box::new(Broken { text: error.to_string(), alert: Alert::Accepted(alert) })
                })
            }
            What::Continue(mut connection) => match connection.process_new_packets() {
                Ok(_) => Ok(connection),
                Err(error) => {
                    Err(Box::new(Broken { text: error.to_string(), alert: Alert::Connection(connection) }))
                }
            },
        };
        Finished { result }
    }
}

/// Writes as much as the transport takes; what it does not take waits.
fn flush(connection: &mut ServerConnection, transport: &mut impl Write) -> io::Result<()> {
    while connection.wants_write() {
        match connection.write_tls(transport) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
