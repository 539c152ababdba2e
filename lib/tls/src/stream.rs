//! Bytes between a finished connection and a transport that does not block. Made for edge-triggered loops: a read goes on
//! until the transport has no more, the buffer is full or enough was done for one turn, a write until it takes no more, and
//! [`Stream::has_more`] and [`Stream::has_unsent`] tell what no event will announce.
//!
//! On failure the connection is over: an alert is sent as far as the transport takes it, and nothing is read any more.

use std::io::{self, Read, Write};

use rustls::Connection;

/// Octets read from the transport at a time.
const RAW: usize = 16 * 1024;
/// Reads from the transport in one read of a stream. Bits of records and records without data fill no buffer, and whoever
/// sends them without end must not keep the others waiting.
const MAX_PULLS: usize = 8;
/// The largest record, with room for what encryption adds (RFC 8446 5.2, RFC 5246 6.2.3).
const RECORD: usize = 16 * 1024 + 2048 + 5;
/// Octets of output that are encrypted before the transport must take some.
const UNSENT: usize = 64 * 1024;

/// What a read or a write achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many octets, at least one.
    Some(usize),
    /// None now; an event of the transport will tell when, unless there is more that a read has left for the next turn
    /// ([`Stream::has_more`]).
    Blocked,
    /// The connection is over.
    Ended(End),
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The other side said that it will send no more (close_notify).
    Notified,
    /// The transport ended without that word: what came last may be cut off.
    Cut,
    /// The other side broke the protocol, or someone in between did.
    Broken,
    /// The transport failed.
    Failed,
}

/// A connection whose handshake is done.
pub struct Stream {
    connection: Connection,
    end: Option<End>,
    /// The last read has emptied the transport.
    drained: bool,
    /// What waits to be sent can wait for the next reply.
    patient: bool,
}

impl Stream {
    /// Takes over a connection.
    pub fn new(connection: impl Into<Connection>) -> Self {
        let mut connection = connection.into();
        connection.set_buffer_limit(Some(UNSENT));
        // Data may have come with the last message of the handshake.
        Stream { connection, end: None, drained: false, patient: false }
    }

    /// Takes over a connection of which nothing waits to be sent but tickets: they travel with the first words, in one
    /// packet, which wakes the other side once.
    pub(crate) fn with_tickets(connection: impl Into<Connection>) -> Self {
        Stream { patient: true, ..Self::new(connection) }
    }

    /// Reads what is there, as much as the buffer takes. `raw` is scratch memory of at least 16 KiB, `out` holds at least
    /// 64 KiB.
    pub fn read(&mut self, transport: &mut (impl Read + Write), raw: &mut [u8], out: &mut [u8]) -> Moved {
        self.drained = false;
        let (mut filled, mut pulls) = (0, 0);
        loop {
            filled += self.take_plain(out.get_mut(filled..).unwrap_or_default());
            // What one more read could bring must fit, so that nothing is left between here and the transport.
            if out.len() - filled < RAW + RECORD && filled > 0 {
                return Moved::Some(filled);
            }
            match self.end {
                _ if self.drained && filled > 0 => return Moved::Some(filled),
                Some(end) if filled == 0 => return Moved::Ended(end),
                Some(_) => return Moved::Some(filled),
                None if pulls == MAX_PULLS => {
                    // The last one was short, perhaps, but it has not found the transport empty.
                    self.drained = false;
                    return if filled > 0 { Moved::Some(filled) } else { Moved::Blocked };
                }
                // A short read alone is not enough: with half a record in it, the end may lie right behind, and whoever
                // waits for an event waits in vain.
                None => {
                    pulls += 1;
                    if !self.pull(transport, raw, out, &mut filled) && filled == 0 {
                        return Moved::Blocked;
                    }
                }
            }
        }
    }

    /// Encrypts and writes as much as the transport takes, and a bounded number of octets more. With no bytes, only sends
    /// what is left of earlier ones.
    pub fn write(&mut self, transport: &mut impl Write, bytes: &[u8]) -> Moved {
        self.put(transport, bytes, false)
    }

    /// The same with the word that we will send no more, once all bytes are taken.
    pub fn write_last(&mut self, transport: &mut impl Write, bytes: &[u8]) -> Moved {
        self.put(transport, bytes, true)
    }

    /// Says that we will send no more.
    pub fn say_goodbye(&mut self, transport: &mut impl Write) {
        self.connection.send_close_notify();
        let _ = self.flush(transport);
    }

    /// True if a read would find something that no event announces: the end, or more than fitted or was due in one turn.
    pub fn has_more(&self) -> bool {
        self.end.is_some() || !self.drained
    }

    /// True if encrypted output waits for the transport.
    pub fn has_unsent(&self) -> bool {
        self.connection.wants_write() && !self.patient
    }

    /// True if there is a [`Stream::channel_binding`], which it takes some work to make.
    pub fn has_channel_binding(&self) -> bool {
        self.connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
    }

    /// What both sides and nobody between them know (`tls-exporter`, RFC 9266): a login can be bound to it. `None` before
    /// TLS 1.3.
    pub fn channel_binding(&self) -> Option<[u8; 32]> {
        if !self.has_channel_binding() {
            return None;
        }
        self.connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()
    }

    /// The connection itself, for what both sides agreed on.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn put(&mut self, transport: &mut impl Write, bytes: &[u8], last: bool) -> Moved {
        if !self.patient {
            match self.flush(transport) {
                Moved::Some(_) => {}
                other => return other,
            }
        }
        let Ok(taken) = self.connection.writer().write(bytes) else { return Moved::Ended(End::Failed) };
        if last && taken == bytes.len() {
            self.connection.send_close_notify();
        }
        match self.flush(transport) {
            Moved::Ended(end) => Moved::Ended(end),
            _ => Moved::Some(taken),
        }
    }

    /// Reads once from the transport and decrypts what came. False if there was nothing.
    fn pull(
        &mut self,
        transport: &mut (impl Read + Write),
        raw: &mut [u8],
        out: &mut [u8],
        filled: &mut usize,
    ) -> bool {
        let room = raw.len().min(RAW);
        let Some(raw) = raw.get_mut(..room) else {
            self.fail(End::Failed);
            return true;
        };
        match read(transport, raw) {
            Ok(0) => self.fail(End::Cut),
            Ok(count) => {
                self.drained = count < room;
                self.decrypt(transport, raw.get(..count).unwrap_or_default(), out, filled);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.drained = true;
                return false;
            }
            Err(_) => self.fail(End::Failed),
        }
        true
    }

    fn decrypt(&mut self, transport: &mut impl Write, mut raw: &[u8], out: &mut [u8], filled: &mut usize) {
        while !raw.is_empty() && self.end.is_none() {
            let Ok(taken) = self.connection.read_tls(&mut raw) else { return self.fail(End::Broken) };
            match self.connection.process_new_packets() {
                Ok(state) => {
                    *filled += self.take_plain(out.get_mut(*filled..).unwrap_or_default());
                    if state.peer_has_closed() {
                        self.fail(End::Notified);
                    } else if taken == 0 {
                        self.fail(End::Broken);
                    }
                }
                Err(_) => {
                    // The alert that says why.
                    let _ = self.flush(transport);
                    self.fail(End::Broken);
                }
            }
        }
    }

    fn take_plain(&mut self, out: &mut [u8]) -> usize {
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.connection.reader().read(rest) {
                Ok(count) if count > 0 => filled += count,
                // Nothing now, or the end, which was noticed where it came from.
                _ => break,
            }
        }
        filled
    }

    fn flush(&mut self, transport: &mut impl Write) -> Moved {
        self.patient = false;
        while self.connection.wants_write() {
            match self.connection.write_tls(transport) {
                Ok(0) => return Moved::Ended(End::Failed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Moved::Blocked,
                Err(_) => return Moved::Ended(End::Failed),
            }
        }
        Moved::Some(0)
    }

    fn fail(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.drained = true;
    }
}

fn read(transport: &mut impl Read, raw: &mut [u8]) -> io::Result<usize> {
    loop {
        match transport.read(raw) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

    use super::*;

    /// What the transport has to give, read by read; then it blocks.
    struct Script(Vec<io::Result<Vec<u8>>>);

    impl Read for Script {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let bytes = self.0.remove(0)?;
            out[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A server's stream behind its handshake, and the client.
    fn connected() -> (Stream, ClientConnection) {
        let certified = rcgen::generate_simple_self_signed(["mx.test".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(crate::provider(&[]))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(crate::provider(&[]))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let name = rustls::pki_types::ServerName::try_from("mx.test").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let said = written(&mut client);
            server.read_tls(&mut &said[..]).unwrap();
            server.process_new_packets().unwrap();
            let mut answer = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut answer).unwrap();
            }
            let mut answer = &answer[..];
            while !answer.is_empty() {
                client.read_tls(&mut answer).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        (Stream::new(server), client)
    }

    fn written(client: &mut ClientConnection) -> Vec<u8> {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn read(stream: &mut Stream, script: Vec<io::Result<Vec<u8>>>) -> (Moved, Vec<u8>) {
        let (mut raw, mut out) = (vec![0; RAW], vec![0; 64 * 1024]);
        let moved = stream.read(&mut Script(script), &mut raw, &mut out);
        out.truncate(if let Moved::Some(count) = moved { count } else { 0 });
        (moved, out)
    }

    #[test]
    fn the_end_behind_half_a_record_is_seen_by_the_same_read() {
        let (mut stream, mut client) = connected();
        client.writer().write_all(b"NOOP\r\n").unwrap();
        let record = written(&mut client);
        let half = record[..record.len() / 2].to_vec();
        assert_eq!(read(&mut stream, vec![Ok(half), Ok(Vec::new())]).0, Moved::Ended(End::Cut));
    }

    #[test]
    fn half_a_record_waits_for_the_other_half() {
        let (mut stream, mut client) = connected();
        client.writer().write_all(b"NOOP\r\n").unwrap();
        let record = written(&mut client);
        let (one, other) = record.split_at(record.len() / 2);
        assert_eq!(read(&mut stream, vec![Ok(one.to_vec())]).0, Moved::Blocked);
        assert!(!stream.has_more());
        assert_eq!(read(&mut stream, vec![Ok(other.to_vec())]), (Moved::Some(6), b"NOOP\r\n".to_vec()));
    }

    #[test]
    fn records_without_data_are_read_a_few_at_a_time_and_what_is_behind_them_is_not_forgotten() {
        let (mut stream, mut client) = connected();
        // New keys are records that say nothing. Each comes alone, so that each read of the transport is a short one.
        let mut script = Script((0..2 * MAX_PULLS).map(|_| Ok(renewed(&mut client))).collect());
        client.writer().write_all(b"NOOP\r\n").unwrap();
        script.0.push(Ok(written(&mut client)));
        let (mut raw, mut out) = (vec![0; RAW], vec![0; 64 * 1024]);
        for left in [MAX_PULLS + 1, 1] {
            assert_eq!(stream.read(&mut script, &mut raw, &mut out), Moved::Blocked);
            assert_eq!((script.0.len(), stream.has_more()), (left, true));
        }
        assert_eq!(stream.read(&mut script, &mut raw, &mut out), Moved::Some(6));
        assert!(!stream.has_more());
    }

    #[test]
    fn the_last_words_and_the_end_are_one_packet() {
        let (mut stream, mut client) = connected();
        let mut packets = Packets(Vec::new());
        assert_eq!(stream.write_last(&mut packets, b"221 bye\r\n"), Moved::Some(9));
        stream.say_goodbye(&mut packets);
        assert_eq!(packets.0.len(), 1);
        client.read_tls(&mut &packets.0[0][..]).unwrap();
        assert!(client.process_new_packets().unwrap().peer_has_closed());
        let mut said = Vec::new();
        client.reader().read_to_end(&mut said).unwrap();
        assert_eq!(said, b"221 bye\r\n");
    }

    /// What was written, write by write.
    struct Packets(Vec<Vec<u8>>);

    impl Write for Packets {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
            self.write(&parts.iter().flat_map(|part| part.to_vec()).collect::<Vec<u8>>())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn renewed(client: &mut ClientConnection) -> Vec<u8> {
        client.refresh_traffic_keys().unwrap();
        written(client)
    }
}
