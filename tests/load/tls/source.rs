//! The client: sessions side by side, each on a thread of its own, until all messages are sent. One connection for each
//! message, as smtp-source makes them, or kept connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme, StreamOwned,
};

/// Nothing waits longer than this for a server.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tickets that are kept; a session takes one and gets one or two.
const TICKETS: usize = 1024;

/// What to send.
pub struct Wish {
    sessions: u64,
    messages: u64,
    size: usize,
    /// Several messages for each connection.
    keep: bool,
    /// With the tickets of earlier connections.
    resume: bool,
    /// TLS from the first byte.
    implicit: bool,
    tls12: bool,
    from: String,
    to: String,
    server: String,
}

impl Wish {
    /// Reads a command line; `None` if it is none.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Option<Wish> {
        let (from, to) = ("a@src.test".to_owned(), "b@dst.test".to_owned());
        let (keep, resume, implicit, tls12, server) = (false, false, false, false, String::new());
        let (sessions, messages, size) = (1, 1, 1000);
        let mut wish = Wish { sessions, messages, size, keep, resume, implicit, tls12, from, to, server };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--sessions" => wish.sessions = words.next()?.parse().ok()?,
                "--messages" => wish.messages = words.next()?.parse().ok()?,
                "--size" => wish.size = words.next()?.parse().ok()?,
                "--keep" => wish.keep = true,
                "--resume" => wish.resume = true,
                "--implicit" => wish.implicit = true,
                "--tls12" => wish.tls12 = true,
                "--from" => wish.from = words.next()?,
                "--to" => wish.to = words.next()?,
                _ if !word.starts_with('-') && wish.server.is_empty() => wish.server = word,
                _ => return None,
            }
        }
        (!wish.server.is_empty() && wish.sessions > 0).then_some(wish)
    }

    /// A message of about the size, as it goes over the wire.
    fn message(&self) -> Vec<u8> {
        let mut message = format!("From: <{}>\r\nTo: <{}>\r\nSubject: load\r\n\r\n", self.from, self.to);
        while message.len() < self.size {
            message.push_str(
                "La la la la la la la la la la la la la la la la la la la la la la la la la la\r\n",
            );
        }
        message.push_str(".\r\n");
        message.into_bytes()
    }
}

/// What all sessions share.
struct Load<'a> {
    wish: &'a Wish,
    config: Arc<ClientConfig>,
    message: Vec<u8>,
    /// Messages that a session has taken on.
    begun: AtomicU64,
    handshakes: AtomicU64,
    resumed: AtomicU64,
}

/// Sends it all; what there is to tell.
pub fn run(wish: &Wish) -> Result<String, String> {
    let (begun, handshakes, resumed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let load = Load { wish, config: config(wish)?, message: wish.message(), begun, handshakes, resumed };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..wish.sessions).map(|_| scope.spawn(|| load.session())).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a session panicked".to_owned())?)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(format!(
        "messages={} seconds={seconds:.3} rate={:.0} handshakes={} resumed={}",
        wish.messages,
        wish.messages as f64 / seconds,
        load.handshakes.load(Ordering::Relaxed),
        load.resumed.load(Ordering::Relaxed)
    ))
}

fn config(wish: &Wish) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = if wish.tls12 { [&rustls::version::TLS12] } else { [&rustls::version::TLS13] };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    config.resumption =
        if wish.resume { Resumption::in_memory_sessions(TICKETS) } else { Resumption::disabled() };
    Ok(Arc::new(config))
}

impl Load<'_> {
    fn take_one(&self) -> bool {
        self.begun.fetch_add(1, Ordering::Relaxed) < self.wish.messages
    }

    /// One session after the other, until there is nothing left to send.
    fn session(&self) -> Result<(), String> {
        let mut kept: Option<Dialogue<StreamOwned<ClientConnection, TcpStream>>> = None;
        while self.take_one() {
            let mut dialogue = match kept.take() {
                Some(dialogue) => dialogue,
                None => self.connect()?,
            };
            dialogue.ask(&format!("MAIL FROM:<{}>\r\n", self.wish.from), 250)?;
            dialogue.ask(&format!("RCPT TO:<{}>\r\n", self.wish.to), 250)?;
            dialogue.ask("DATA\r\n", 354)?;
            dialogue.say(&self.message)?;
            dialogue.hear(250)?;
            if self.wish.keep {
                kept = Some(dialogue);
            } else {
                dialogue.quit()?;
            }
        }
        kept.map_or(Ok(()), Dialogue::quit)
    }

    /// A connection up to the answer to EHLO under TLS.
    fn connect(&self) -> Result<Dialogue<StreamOwned<ClientConnection, TcpStream>>, String> {
        let stream = TcpStream::connect(&self.wish.server).map_err(|error| format!("connect: {error}"))?;
        let set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
        set.map_err(|error| error.to_string())?;
        let mut dialogue = if self.wish.implicit {
            let mut dialogue = self.shake(stream)?;
            dialogue.hear(220)?;
            dialogue
        } else {
            let mut clear = Dialogue::new(stream);
            clear.hear(220)?;
            clear.ask("EHLO client.test\r\n", 250)?;
            clear.ask("STARTTLS\r\n", 220)?;
            self.shake(clear.reader.into_inner())?
        };
        dialogue.ask("EHLO client.test\r\n", 250)?;
        Ok(dialogue)
    }

    fn shake(
        &self,
        mut stream: TcpStream,
    ) -> Result<Dialogue<StreamOwned<ClientConnection, TcpStream>>, String> {
        let name = ServerName::try_from("mx.bench.test").map_err(|error| error.to_string())?;
        let mut connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(|error| error.to_string())?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(|error| format!("handshake: {error}"))?;
        }
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.resumed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Dialogue::new(StreamOwned::new(connection, stream)))
    }
}

/// Commands and replies.
struct Dialogue<S: Read + Write> {
    reader: BufReader<S>,
}

impl<S: Read + Write> Dialogue<S> {
    fn new(stream: S) -> Self {
        Dialogue { reader: BufReader::new(stream) }
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.reader.get_mut().write_all(bytes).map_err(|error| format!("write: {error}"))
    }

    /// Hears one whole reply, which must have this code.
    fn hear(&mut self, code: u16) -> Result<(), String> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let heard = self.reader.read_until(b'\n', &mut line).map_err(|error| format!("read: {error}"))?;
            if heard == 0 || !line.starts_with(code.to_string().as_bytes()) {
                return Err(format!("expected {code}, heard {:?}", String::from_utf8_lossy(&line)));
            }
            if line.get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    }

    fn ask(&mut self, command: &str, code: u16) -> Result<(), String> {
        self.say(command.as_bytes())?;
        self.hear(code)
    }

    fn quit(mut self) -> Result<(), String> {
        self.ask("QUIT\r\n", 221)
    }
}

/// Takes any certificate; looks at signatures, as every client must.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
