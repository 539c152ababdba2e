//! Servers with TLS: certificates made on the spot, and the server's side of a handshake.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::peer::Talk;

/// An authority of our own.
pub struct Authority {
    key: KeyPair,
    params: CertificateParams,
    pub pem: String,
}

/// A certificate with its key.
pub struct Identity {
    config: Arc<ServerConfig>,
    /// DER of its public key.
    pub key: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { key, params, pem }
    }

    /// A server for these names.
    pub fn identity(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone()];
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .unwrap();
        Identity { config: Arc::new(config), key: key.subject_public_key_info() }
    }
}

/// One side of the stream, shared by its reader and its writer.
#[derive(Clone)]
pub struct TlsStream(Arc<Mutex<StreamOwned<ServerConnection, TcpStream>>>);

impl TlsStream {
    /// The name that the client asked for, once it has said something.
    pub fn name(&self) -> Option<String> {
        self.0.lock().unwrap().conn.server_name().map(str::to_owned)
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap().read(buffer)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().flush()
    }
}

impl crate::peer::Stream for TlsStream {}

impl Identity {
    /// Does the handshake when something is next read or written.
    pub fn wrap(&self, talk: &mut Talk) -> TlsStream {
        let connection = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        let mut found = None;
        talk.wrap(|tcp| {
            let stream = TlsStream(Arc::new(Mutex::new(StreamOwned::new(connection, tcp))));
            found = Some(stream.clone());
            (stream.clone(), stream)
        });
        found.unwrap()
    }

    /// Answers STARTTLS and does what follows up to the second EHLO.
    pub fn start_tls(&self, talk: &mut Talk) -> TlsStream {
        talk.greet(OFFERS);
        talk.hear_say("STARTTLS", "220 go on\r\n");
        let stream = self.wrap(talk);
        talk.hear_say("EHLO us.test", "250-peer.test\r\n250 PIPELINING\r\n");
        stream
    }
}

/// A reply to EHLO that offers TLS.
pub const OFFERS: &str = "250-peer.test\r\n250-PIPELINING\r\n250 STARTTLS\r\n";
