//! The key holder's end of an edge, and a client that speaks TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::SigningKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme, StreamOwned,
};
use vsmtp_config::{ClientCertificate, SecurityLevel, ServerTls};
use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::master_child::ToChild;
use vsmtp_ipc::edge::receiver_keys::{Answer, Ask, Certificate, KeysEnd, Secret};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_sys::seqpacket;

use crate::stage::{PATIENCE, Stage, next, wait_readable};

const ECDSA_P256: u16 = 0x0403;
pub const KEYS: ProcessName = ProcessName { role: Role::Keys, instance: 0 };

/// TLS as it is without further wishes.
pub fn tls() -> ServerTls {
    ServerTls {
        tls12: true,
        tls13: true,
        suites: Vec::new(),
        own_order: false,
        handshake_timeout: PATIENCE,
        security_level: SecurityLevel::May,
        client_certificate: ClientCertificate::None,
        listeners: Vec::new(),
    }
}

/// A scripted key holder.
pub struct Keys {
    edge: KeysEnd,
    key: Arc<dyn SigningKey>,
}

/// A certificate for mx.test with its key.
pub fn certificate() -> (Certificate, Arc<dyn SigningKey>) {
    let made = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let certificate = Certificate {
        key: 7,
        chain: vec![made.cert.der().to_vec()],
        names: vec!["mx.test".to_owned()],
        schemes: vec![ECDSA_P256],
        is_default: true,
    };
    (certificate, any_supported_type(&key).unwrap())
}

impl Keys {
    /// Introduced to the receiver, it has told its certificate and one secret.
    pub fn introduce(stage: &mut Stage) -> Keys {
        Self::with_authorities(stage, Vec::new())
    }

    pub fn with_authorities(stage: &mut Stage, client_authorities: Vec<Vec<u8>>) -> Keys {
        let (ours, theirs) = seqpacket::pair().unwrap();
        stage.tell(&ToChild::Peer(KEYS), vec![theirs]);
        let (certificate, key) = certificate();
        let mut keys = Keys { edge: KeysEnd::new(ours, EdgeId::ReceiverKeys), key };
        keys.say(&Answer::Certificates { certificates: vec![certificate], client_authorities });
        keys.say(&Answer::Tickets(vec![Secret([5; 32])]));
        keys
    }

    pub fn say(&mut self, answer: &Answer) {
        self.edge.send(answer, Vec::new()).unwrap();
        assert_eq!(self.edge.flush().unwrap(), vsmtp_ipc::Flushed::All);
    }

    /// The next question.
    pub fn hear(&mut self) -> (u64, Vec<u8>) {
        let Ask::Sign { ticket, key, scheme, message } = next(&mut self.edge).unwrap().message;
        assert_eq!((key, scheme), (7, ECDSA_P256));
        (ticket, message)
    }

    /// Answers one question.
    pub fn sign(&mut self) {
        let (ticket, message) = self.hear();
        let signer = self.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
        self.say(&Answer::Signed { ticket, signature: Some(signer.sign(&message).unwrap()) });
    }

    /// Answers questions on a thread of its own until the receiver is gone; how many so far.
    pub fn serve(mut self) -> Arc<Mutex<usize>> {
        let count = Arc::new(Mutex::new(0));
        let signed = Arc::clone(&count);
        std::thread::spawn(move || {
            loop {
                let received = match self.edge.receive() {
                    Ok(Some(received)) => received,
                    // Where clients come back with tickets, nobody asks for a long time.
                    Ok(None) => {
                        wait_readable(self.edge.socket(), PATIENCE);
                        continue;
                    }
                    Err(_) => return,
                };
                let Ask::Sign { ticket, message, .. } = received.message;
                let signer = self.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
                let signature = Some(signer.sign(&message).unwrap());
                *signed.lock().unwrap() += 1;
                if self.edge.send(&Answer::Signed { ticket, signature }, Vec::new()).is_err()
                    || self.edge.flush().is_err()
                {
                    return;
                }
            }
        });
        count
    }

    /// The edge as it is.
    pub fn edge(&mut self) -> &mut KeysEnd {
        &mut self.edge
    }
}

/// Takes any certificate: whether signatures are right is still looked at.
#[derive(Debug)]
struct Trusting;

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
        let algorithms = vsmtp_tls::provider(&[]).signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = vsmtp_tls::provider(&[]).signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vsmtp_tls::provider(&[]).signature_verification_algorithms.supported_schemes()
    }
}

/// What a client goes by; with it, it remembers sessions.
pub fn client_config(version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(vsmtp_tls::provider(&[]))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(32)));
    Arc::new(config)
}

/// The same with a certificate of its own.
pub fn client_config_with(
    certificate: &CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(vsmtp_tls::provider(&[]))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_client_auth_cert(vec![certificate.clone()], key)
        .unwrap();
    Arc::new(config)
}

/// An SMTP client under TLS.
pub struct Secure {
    pub reader: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Secure {
    /// Makes the handshake on a connection.
    pub fn shake(config: &Arc<ClientConfig>, stream: TcpStream) -> Result<Secure, std::io::Error> {
        let name = ServerName::try_from("mx.test").unwrap();
        Self::go_on(stream, ClientConnection::new(Arc::clone(config), name).unwrap())
    }

    /// Makes what is left of a handshake.
    pub fn go_on(mut stream: TcpStream, mut connection: ClientConnection) -> Result<Secure, std::io::Error> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // What is said behind the handshake does not wait for the kernel to hear that its end has come.
        stream.set_nodelay(true).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Secure { reader: BufReader::new(StreamOwned::new(connection, stream)) })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).unwrap();
        self.reader.get_mut().flush().unwrap();
    }

    /// One whole reply; empty if the server is gone.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).unwrap_or(0) == 0 {
                return reply;
            }
            reply.push_str(line.trim_end());
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
            reply.push('\n');
        }
    }

    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n"));
        self.reply()
    }

    pub fn is_resumed(&self) -> bool {
        self.reader.get_ref().conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Sends what it would never send: clear text on the same connection.
    pub fn send_clear(&mut self, bytes: &[u8]) {
        self.reader.get_mut().sock.write_all(bytes).unwrap();
    }

    /// Says close_notify.
    pub fn close_notify(&mut self) {
        let stream = self.reader.get_mut();
        stream.conn.send_close_notify();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock).unwrap();
        }
    }

    /// True when the server has said close_notify and closed.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(self.reader.read_to_end(&mut rest), Ok(0))
    }

    /// True when the connection is gone, however it ended.
    pub fn is_gone(&mut self) -> bool {
        self.reader.get_mut().sock.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut rest = Vec::new();
        match self.reader.get_mut().sock.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
