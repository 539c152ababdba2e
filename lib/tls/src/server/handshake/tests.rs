//! Handshakes over a line in memory.

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use super::*;
use crate::server::{Certificate, Certificates, ClientCertificates, Oracle, Policy, Secret, Tickets};
use crate::{Version, provider};

const ECDSA: u16 = 0x0403;

/// Signs at once.
#[derive(Debug)]
struct Signing(Arc<dyn rustls::sign::SigningKey>);

impl Oracle for Signing {
    fn sign(&self, _: u32, scheme: u16, message: &[u8]) -> Option<Vec<u8>> {
        self.0.choose_scheme(&[SignatureScheme::from(scheme)])?.sign(message).ok()
    }
}

/// The server's half of a line without a network.
#[derive(Default)]
struct Line {
    heard: Vec<u8>,
    said: Vec<u8>,
    /// How many writes that were.
    packets: usize,
}

impl Read for Line {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.heard.len().min(out.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        out[..count].copy_from_slice(&self.heard[..count]);
        self.heard.drain(..count);
        Ok(count)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[io::IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.packets += 1;
        self.said.write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Line {
    /// The client hears what was said.
    fn tell(&mut self, client: &mut ClientConnection) {
        let said = std::mem::take(&mut self.said);
        let mut said = &said[..];
        while !said.is_empty() {
            client.read_tls(&mut said).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}

/// A server with a certificate, and the client of it that remembers sessions.
struct World {
    certificates: Arc<Certificates>,
    client: Arc<ClientConfig>,
}

impl World {
    fn new(version: &'static SupportedProtocolVersion) -> World {
        let made = rcgen::generate_simple_self_signed(["mx.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let oracle: Arc<dyn Oracle> =
            Arc::new(Signing(rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap()));
        let certificate = Certificate {
            key: 1,
            chain: vec![made.cert.der().to_vec()],
            names: vec!["mx.test".to_owned()],
            schemes: vec![ECDSA],
            is_default: true,
        };
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider(&[]))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        World { certificates: Arc::new(Certificates::new(&[certificate], &oracle)), client: Arc::new(client) }
    }

    fn terms(&self, suites: &[u16], secret: u8) -> Terms {
        let policy = Policy {
            versions: vec![Version::Tls12, Version::Tls13],
            suites: suites.to_vec(),
            own_order: false,
            client_certificates: ClientCertificates::None,
            client_authorities: Vec::new(),
        };
        Terms::new(&policy, &self.certificates, Tickets::new("smtp", &[Secret([secret; 32])])).unwrap()
    }

    /// A whole handshake; whether a step of it had to be done elsewhere, and whether a session went on.
    fn shake(&self, terms: &Terms) -> (bool, bool) {
        let name = ServerName::try_from("mx.test").unwrap();
        let mut client = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let (mut handshake, mut line, mut worked) = (Handshake::default(), Line::default(), false);
        loop {
            while client.wants_write() {
                client.write_tls(&mut line.heard).unwrap();
            }
            let mut progress = handshake.advance(&mut line, terms);
            if let Progress::Work(work) = progress {
                worked = true;
                progress = handshake.resume(work.run(), &mut line);
            }
            line.tell(&mut client);
            match progress {
                Progress::Wait => {}
                Progress::Done(mut stream) => {
                    let resumed = client.handshake_kind() == Some(HandshakeKind::Resumed);
                    assert_eq!(terms.facts(&stream).resumed, resumed);
                    assert!(!stream.has_unsent());
                    let (before, tickets) = (line.packets, client.tls13_tickets_received());
                    stream.write(&mut line, b"220 mx.test ESMTP\r\n");
                    line.tell(&mut client);
                    assert_eq!(line.packets, before + 1, "tickets travel with the first words");
                    let under_13 = client.protocol_version() == Some(ProtocolVersion::TLSv1_3);
                    assert_eq!((tickets, client.tls13_tickets_received()), (0, u32::from(under_13)));
                    return (worked, resumed);
                }
                Progress::Work(_) => panic!("it works twice"),
                Progress::Failed(why) => panic!("{why:?}"),
            }
        }
    }
}

#[test]
fn a_session_that_goes_on_waits_for_nobody() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let world = World::new(version);
        let terms = world.terms(&[], 1);
        assert_eq!(world.shake(&terms), (true, false), "{version:?}");
        for _ in 0..3 {
            assert_eq!(world.shake(&terms), (false, true), "{version:?}");
        }
    }
}

#[test]
fn a_hello_without_end_is_not_kept() {
    let terms = World::new(&rustls::version::TLS13).terms(&[], 1);
    // A hello of 60,000 octets, in records as large as they may be.
    let mut line = Line::default();
    for record in 0..3 {
        line.heard.extend([22, 3, 1, 0x40, 0]);
        let begin: &[u8] = if record == 0 { &[1, 0, 0xea, 0x60] } else { &[] };
        line.heard.extend(begin);
        line.heard.extend(vec![0; 0x4000 - begin.len()]);
    }
    let all = line.heard.len();
    let progress = Handshake::default().advance(&mut line, &terms);
    assert!(matches!(progress, Progress::Failed(Failure::Refused(_))));
    assert!(all - line.heard.len() <= 2 * MAX_HEARD, "{} are left", line.heard.len());
}

#[test]
fn a_ticket_that_is_worth_nothing_any_more_makes_a_new_session() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let world = World::new(version);
        assert_eq!(world.shake(&world.terms(&[], 1)), (true, false));
        assert_eq!(world.shake(&world.terms(&[], 2)), (true, false), "of another secret, {version:?}");
    }
    // One that opens, for a suite that is not spoken any more.
    let world = World::new(&rustls::version::TLS13);
    assert_eq!(world.shake(&world.terms(&[0x1302], 1)), (true, false));
    assert_eq!(world.shake(&world.terms(&[0x1301], 1)), (true, false));
}
