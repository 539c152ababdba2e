//! One connection: bytes in clear on one side, TLS on the stream of the caller, which never blocks.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::ClientConnection;

use super::{TlsFailure, TlsFault};

/// Most records read in vain for one call: whoever sends so many empty ones is not answering us.
const MAX_EMPTY: usize = 64;
/// Most steps of one handshake for one call.
const MAX_STEPS: usize = 256;

/// A connection.
pub struct ClientSession {
    connection: Box<ClientConnection>,
    doubt: Option<Arc<OnceLock<TlsFailure>>>,
}

/// What was agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// As in `TLSv1.3`.
    pub protocol: &'static str,
    /// The name of the registry, as in `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
}

impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSession")
    }
}

impl ClientSession {
    pub(super) fn new(connection: ClientConnection, doubt: Option<Arc<OnceLock<TlsFailure>>>) -> Self {
        ClientSession { connection: Box::new(connection), doubt }
    }

    /// What the server did not prove, where the session was a trial.
    pub fn doubt(&self) -> Option<&TlsFailure> {
        self.doubt.as_ref().and_then(|doubt| doubt.get())
    }

    /// Goes on with the handshake as far as the stream allows; true when it is done.
    ///
    /// # Errors
    /// There will be no connection. The server was told why, if it still listens.
    pub fn handshake(&mut self, stream: &mut (impl Read + Write)) -> Result<bool, TlsFailure> {
        let lost = |error: &dyn fmt::Display| {
            TlsFailure::new(TlsFault::Lost, format!("connection lost in the TLS handshake: {error}"))
        };
        for _ in 0..MAX_STEPS {
            if !self.flush(stream).map_err(|error| lost(&error))? {
                return Ok(false);
            }
            if !self.connection.is_handshaking() {
                return Ok(true);
            }
            match self.connection.read_tls(stream) {
                Ok(0) => return Err(lost(&"the server closed it")),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&error)),
            }
            if let Err(error) = self.connection.process_new_packets() {
                let _ = self.flush(stream);
                return Err(error.into());
            }
        }
        Err(TlsFailure::new(TlsFault::Protocol, "endless TLS handshake"))
    }

    /// Reads what is there; `None` if there is nothing now, 0 at the proper end. An end without a farewell is an error.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub fn read(&mut self, stream: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<Option<usize>> {
        for _ in 0..MAX_EMPTY {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other.map(Some),
            }
            match self.connection.read_tls(stream) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if let Err(error) = self.connection.process_new_packets() {
                let _ = self.flush(stream);
                return Err(io::Error::other(error));
            }
            // Answers of the protocol itself.
            self.flush(stream)?;
        }
        Err(io::Error::other("too many TLS records without data"))
    }

    /// Takes as much as there is room for and sends what the stream takes; `None` if it takes nothing now.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub fn write(&mut self, stream: &mut impl Write, bytes: &[u8]) -> io::Result<Option<usize>> {
        if !self.flush(stream)? {
            return Ok(None);
        }
        let count = self.connection.writer().write(bytes)?;
        self.flush(stream)?;
        Ok(Some(count))
    }

    /// Sends what was taken and not sent yet; true if nothing is left.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub fn flush(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// True if something waits to be sent.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Says that no more comes, as far as the stream allows.
    pub fn close(&mut self, stream: &mut impl Write) {
        self.connection.send_close_notify();
        let _ = self.flush(stream);
    }

    /// What was agreed on; empty words before the handshake is done.
    pub fn secured(&self) -> Secured {
        let protocol = match self.connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        };
        let suite = self.connection.negotiated_cipher_suite();
        let cipher = suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default();
        Secured { protocol, cipher: cipher.strip_prefix("TLS13_").map_or(cipher, tls13) }
    }
}

/// The registry's name of a suite that the library calls `TLS13_...`.
fn tls13(rest: &str) -> &'static str {
    match rest {
        "AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        _ => "",
    }
}
