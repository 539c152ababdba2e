//! The first words of a TLS client. Whatever they are, and however they are cut, a handshake waits for more, needs a signature
//! or has failed; it is done with nobody who has no ticket of ours, and says nothing but alerts.
#![no_main]

use std::io::{self, Read, Write};
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use vsmtp_tls::Version;
use vsmtp_tls::server::{
    Certificates, ClientCertificates, Handshake, Oracle, Policy, Progress, Secret, Terms, Tickets,
};

/// Most octets of one read.
const PIECE: usize = 600;
/// An alert (RFC 8446 5.1).
const ALERT: u8 = 21;

static TERMS: LazyLock<Terms> = LazyLock::new(|| {
    let policy = Policy {
        versions: vec![Version::Tls12, Version::Tls13],
        suites: Vec::new(),
        own_order: false,
        client_certificates: ClientCertificates::None,
        client_authorities: Vec::new(),
    };
    let oracle: Arc<dyn Oracle> = Arc::new(NoOracle);
    let certificates = Arc::new(Certificates::new(&[], &oracle));
    Terms::new(&policy, &certificates, Tickets::new("smtp", &[Secret([7; 32])])).expect("terms go together")
});

#[derive(Debug)]
struct NoOracle;

impl Oracle for NoOracle {
    fn sign(&self, _: u32, _: u16, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// A client that says these octets in pieces, and no more.
struct Client<'a> {
    octets: &'a [u8],
    heard: Vec<u8>,
}

impl Read for Client<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.octets.len().min(out.len()).min(PIECE);
        let (piece, rest) = self.octets.split_at(count);
        if piece.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        out[..count].copy_from_slice(piece);
        self.octets = rest;
        Ok(count)
    }
}

impl Write for Client<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.heard.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let mut client = Client { octets: data, heard: Vec::new() };
    let mut handshake = Handshake::default();
    match handshake.advance(&mut client, &TERMS) {
        Progress::Wait | Progress::Work(_) => assert!(client.heard.is_empty()),
        Progress::Failed(_) => assert!(client.heard.first().is_none_or(|kind| *kind == ALERT)),
        Progress::Done(_) => panic!("a handshake with somebody who knows nothing"),
    }
});
