//! One handshake, step by step. It reads and writes a transport that does not block; the step that signs comes out as
//! [`Work`]. Under way it is a few kilobytes, and it never takes a byte that is not TLS for anything else.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{HandshakeKind, ServerConfig, ServerConnection};

use super::terms::Terms;
use crate::stream::Stream;

/// A handshake from its first byte to its last.
pub struct Handshake {
    stage: Stage,
}

enum Stage {
    /// The client has not said all of its hello.
    Hello(Box<Acceptor>),
    /// Someone runs the step that signs.
    Away,
    /// The client's answers are awaited.
    Rest(Box<ServerConnection>),
    Over,
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
            Stage::Hello(acceptor) => self.hear_hello(acceptor, transport, terms),
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
        mut acceptor: Box<Acceptor>,
        transport: &mut (impl Read + Write),
        terms: &Terms,
    ) -> Progress {
        loop {
            match acceptor.read_tls(transport) {
                Ok(0) => return Progress::Failed(Failure::Gone),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stage = Stage::Hello(acceptor);
                    return Progress::Wait;
                }
                Err(_) => return Progress::Failed(Failure::Gone),
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    self.stage = Stage::Away;
                    return Progress::Work(Work { what: What::Begin(Box::new(accepted), terms.config()) });
                }
                Err((error, mut alert)) => {
                    let _ = alert.write_all(transport);
                    return Progress::Failed(Failure::Refused(error.to_string()));
                }
            }
        }
    }

    fn rest(
        &mut self,
        mut connection: Box<ServerConnection>,
        transport: &mut (impl Read + Write),
    ) -> Progress {
        loop {
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
