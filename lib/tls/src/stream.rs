//! Bytes between a finished connection and a transport that does not block. Made for edge-triggered loops: a read goes on
//! until the transport has no more or the buffer is full, a write until it takes no more, and [`Stream::has_more`] and
//! [`Stream::has_unsent`] tell what no event will announce.
//!
//! On failure the connection is over: an alert is sent as far as the transport takes it, and nothing is read any more.

use std::io::{self, Read, Write};

use rustls::Connection;

/// Octets read from the transport at a time.
const RAW: usize = 16 * 1024;
/// The largest record, with room for what encryption adds (RFC 8446 5.2, RFC 5246 6.2.3).
const RECORD: usize = 16 * 1024 + 2048 + 5;
/// Octets of output that are encrypted before the transport must take some.
const UNSENT: usize = 64 * 1024;

/// What a read or a write achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many octets, at least one.
    Some(usize),
    /// None now; an event of the transport will tell when.
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
}

impl Stream {
    /// Takes over a connection.
    pub fn new(connection: impl Into<Connection>) -> Self {
        let mut connection = connection.into();
        connection.set_buffer_limit(Some(UNSENT));
        // Data may have come with the last message of the handshake.
        Stream { connection, end: None, drained: false }
    }

    /// Reads what is there, as much as the buffer takes. `raw` is scratch memory of at least 16 KiB, `out` holds at least
    /// 64 KiB.
    pub fn read(&mut self, transport: &mut (impl Read + Write), raw: &mut [u8], out: &mut [u8]) -> Moved {
        self.drained = false;
        let mut filled = 0;
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
                None if self.drained => return Moved::Blocked,
                None => self.pull(transport, raw, out, &mut filled),
            }
        }
    }

    /// Encrypts and writes as much as the transport takes, and a bounded number of octets more. With no bytes, only sends
    /// what is left of earlier ones.
    pub fn write(&mut self, transport: &mut impl Write, bytes: &[u8]) -> Moved {
        match self.flush(transport) {
            Moved::Some(_) => {}
            other => return other,
        }
        match self.connection.writer().write(bytes) {
            Ok(taken) => match self.flush(transport) {
                Moved::Ended(end) => Moved::Ended(end),
                _ => Moved::Some(taken),
            },
            Err(_) => Moved::Ended(End::Failed),
        }
    }

    /// Says that we will send no more.
    pub fn say_goodbye(&mut self, transport: &mut impl Write) {
        self.connection.send_close_notify();
        let _ = self.flush(transport);
    }

    /// True if a read would find something that no event announces: the end, or more than fitted.
    pub fn has_more(&self) -> bool {
        self.end.is_some() || !self.drained
    }

    /// True if encrypted output waits for the transport.
    pub fn has_unsent(&self) -> bool {
        self.connection.wants_write()
    }

    /// What both sides and nobody between them know (`tls-exporter`, RFC 9266): a login can be bound to it. `None` before
    /// TLS 1.3.
    pub fn channel_binding(&self) -> Option<[u8; 32]> {
        if self.connection.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3) {
            return None;
        }
        self.connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()
    }

    /// The connection itself, for what both sides agreed on.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Reads once from the transport and decrypts what came.
    fn pull(
        &mut self,
        transport: &mut (impl Read + Write),
        raw: &mut [u8],
        out: &mut [u8],
        filled: &mut usize,
    ) {
        let room = raw.len().min(RAW);
        let Some(raw) = raw.get_mut(..room) else { return self.fail(End::Failed) };
        match read(transport, raw) {
            Ok(0) => self.fail(End::Cut),
            Ok(count) => {
                self.drained = count < room;
                self.decrypt(transport, raw.get(..count).unwrap_or_default(), out, filled);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.drained = true,
            Err(_) => self.fail(End::Failed),
        }
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
