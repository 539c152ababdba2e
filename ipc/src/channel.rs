//! One end of an edge. `Channel<Tx, Rx>` sends `Tx` and receives `Rx`, so the wrong direction does not compile.
//!
//! Nothing here blocks. What the kernel does not take now waits in a bounded outbox; `flush` at the end of a loop turn
//! packs all that was said in the turn into as few frames as possible. Any error means: drop this end.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bincode::{Decode, Encode};
use vsmtp_sys::memfd::Sealed;
use vsmtp_sys::seqpacket;
use zeroize::Zeroize;

use crate::codec::{self, CodecError, MAX_MESSAGE};
use crate::frame::{MAX_DESCRIPTORS, MAX_FRAME, MAX_INLINE, PREFIX, Prefix};
use crate::hello::{self, EdgeId};

/// Most octets that may wait for a peer that does not read. Credits keep an honest edge far below.
const MAX_OUTBOX: usize = 32 * 1024 * 1024;

/// Memory for encoding that an edge keeps, in octets.
const KEPT_SCRATCH: usize = 4 * 1024;

/// The same for secret messages while they are encoded. None has more: a buffer that grows leaves what it held behind.
const SECRET_SCRATCH: usize = 32 * 1024;

/// What may be said in one direction of an edge.
pub trait Message: Encode + Decode<()> {
    /// There may be passwords in it: what an edge keeps of such messages is wiped.
    const IS_SECRET: bool = false;

    /// How many descriptors belong to this message; left-over and missing ones are errors.
    fn descriptors(&self) -> usize {
        0
    }
}

/// Why an edge must be closed.
#[derive(Debug)]
pub enum ChannelError {
    /// The peer is gone.
    Closed,
    /// The kernel refused.
    Io(io::Error),
    /// The peer sent what is not a message of this edge.
    Misbehaved(String),
    /// The peer does not read, or we tried to send something too large.
    Overflow,
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelError::Closed => f.write_str("peer closed the edge"),
            ChannelError::Io(error) => write!(f, "edge failed: {error}"),
            ChannelError::Misbehaved(what) => write!(f, "peer misbehaved: {what}"),
            ChannelError::Overflow => f.write_str("outbox of the edge is full"),
        }
    }
}

impl std::error::Error for ChannelError {}

impl From<CodecError> for ChannelError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::TooLarge => ChannelError::Overflow,
            other => ChannelError::Misbehaved(other.to_string()),
        }
    }
}

/// Whether `flush` could hand everything to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Flushed {
    /// The outbox is empty.
    All,
    /// Wait until the socket is writable, then flush again.
    Blocked,
}

/// One received message with its descriptors.
#[derive(Debug)]
pub struct Received<Rx> {
    /// The message.
    pub message: Rx,
    /// Exactly as many as the message says.
    pub descriptors: Vec<OwnedFd>,
}

#[derive(Default)]
struct OutFrame {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// One end of an edge.
pub struct Channel<Tx, Rx> {
    socket: OwnedFd,
    edge: EdgeId,
    greeted: bool,
    outbox: VecDeque<OutFrame>,
    outbox_bytes: usize,
    /// Where messages are encoded; kept from one to the next unless one was large, wiped if it was secret.
    scratch: Vec<u8>,
    /// One frame; allocated at the first read, and never zeroed again.
    inbox: Vec<u8>,
    inbox_at: usize,
    inbox_len: usize,
    inbox_descriptors: VecDeque<OwnedFd>,
    direction: PhantomData<fn(Tx) -> Rx>,
}

impl<Tx: Message, Rx: Message> Channel<Tx, Rx> {
    /// Takes one end of a SEQPACKET pair. The hello waits in the outbox until the first flush.
    pub fn new(socket: OwnedFd, edge: EdgeId) -> Self {
        let hello = OutFrame { bytes: hello::hello(edge).to_vec(), descriptors: Vec::new() };
        Channel {
            socket,
            edge,
            greeted: false,
            outbox_bytes: hello.bytes.len(),
            outbox: VecDeque::from([hello]),
            scratch: Vec::new(),
            inbox: Vec::new(),
            inbox_at: 0,
            inbox_len: 0,
            inbox_descriptors: VecDeque::new(),
            direction: PhantomData,
        }
    }

    /// Queues a message; `flush` sends it.
    ///
    /// # Errors
    /// `Overflow` if the peer has stopped reading for too long or the message is too large. The channel stays usable
    /// after a message that was too large: nothing of it was queued.
    pub fn send(&mut self, message: &Tx, descriptors: Vec<OwnedFd>) -> Result<(), ChannelError> {
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        if Tx::IS_SECRET {
            payload.reserve(SECRET_SCRATCH);
        }
        let sent = self.send_encoded(message, &mut payload, descriptors);
        if Tx::IS_SECRET {
            payload.as_mut_slice().zeroize();
        }
        payload.truncate(KEPT_SCRATCH);
        payload.shrink_to(KEPT_SCRATCH);
        self.scratch = payload;
        sent
    }

    fn send_encoded(
        &mut self,
        message: &Tx,
        payload: &mut Vec<u8>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), ChannelError> {
        codec::encode_into(message, payload)?;
        if message.descriptors() != descriptors.len() || self.outbox_bytes + payload.len() > MAX_OUTBOX {
            return Err(ChannelError::Overflow);
        }
        if payload.len() <= MAX_INLINE {
            self.push(payload, descriptors, false)
        } else {
            self.spill(payload, descriptors)
        }
    }

    /// Hands the outbox to the kernel, as far as it takes it.
    pub fn flush(&mut self) -> Result<Flushed, ChannelError> {
        while let Some(frame) = self.outbox.front() {
            let descriptors: Vec<BorrowedFd<'_>> = frame.descriptors.iter().map(AsFd::as_fd).collect();
            match seqpacket::send(self.socket.as_fd(), &[IoSlice::new(&frame.bytes)], &descriptors) {
                Ok(_) => {
                    self.outbox_bytes -= frame.bytes.len();
                    let sent = self.outbox.pop_front();
                    if Tx::IS_SECRET {
                        sent.map(|frame| frame.bytes).zeroize();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(closed_or(error)),
            }
        }
        Ok(Flushed::All)
    }

    /// The next message, or `None` when the socket has no more for now.
    pub fn receive(&mut self) -> Result<Option<Received<Rx>>, ChannelError> {
        loop {
            if self.inbox_at < self.inbox_len {
                return self.take_message().map(Some);
            }
            if !self.fill()? {
                return Ok(None);
            }
            if !self.greeted {
                hello::check(self.edge, &self.inbox[..self.inbox_len]).map_err(ChannelError::Misbehaved)?;
                self.greeted = true;
                self.inbox_len = 0;
            }
        }
    }

    /// True while something waits to be sent.
    pub fn wants_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// For registration with a poll.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn push(&mut self, payload: &[u8], descriptors: Vec<OwnedFd>, spilled: bool) -> Result<(), ChannelError> {
        let prefix = Prefix { len: payload.len(), descriptors: descriptors.len(), spilled };
        let needed = PREFIX + payload.len();
        // The hello is a frame of its own, for ever; so the first frame is never shared.
        // One with a secret neither: making room would leave the secret in memory that was given back.
        let shared = !Tx::IS_SECRET && self.outbox.len() > usize::from(!self.hello_is_sent());
        let frame = match self.outbox.back_mut() {
            Some(last)
                if shared
                    && last.bytes.len() + needed <= MAX_FRAME
                    && last.descriptors.len() + descriptors.len() <= MAX_DESCRIPTORS =>
            {
                last
            }
            _ => {
                self.outbox.push_back(OutFrame::default());
                self.outbox.back_mut().ok_or(ChannelError::Overflow)?
            }
        };
        frame.bytes.reserve(needed);
        frame.bytes.extend_from_slice(&prefix.to_bytes());
        frame.bytes.extend_from_slice(payload);
        frame.descriptors.extend(descriptors);
        self.outbox_bytes += needed;
        Ok(())
    }

    fn hello_is_sent(&self) -> bool {
        self.outbox.front().is_none_or(|first| first.bytes != hello::hello(self.edge))
    }

    fn spill(&mut self, payload: &[u8], mut descriptors: Vec<OwnedFd>) -> Result<(), ChannelError> {
        if descriptors.len() >= MAX_DESCRIPTORS {
            return Err(ChannelError::Overflow);
        }
        let sealed = Sealed::create(c"vsmtp-message", &[IoSlice::new(payload)]).map_err(ChannelError::Io)?;
        descriptors.insert(0, sealed.into_fd());
        self.push(&(payload.len() as u64).to_le_bytes(), descriptors, true)
    }

    /// Reads one frame; false if there is none now.
    fn fill(&mut self) -> Result<bool, ChannelError> {
        if !self.inbox_descriptors.is_empty() {
            return Err(ChannelError::Misbehaved("descriptors are left over behind a frame".to_owned()));
        }
        (self.inbox_at, self.inbox_len) = (0, 0);
        self.inbox.resize(MAX_FRAME, 0);
        let mut descriptors = Vec::new();
        loop {
            match seqpacket::recv(self.socket.as_fd(), &mut self.inbox, &mut descriptors) {
                Ok(0) => return Err(ChannelError::Closed),
                Ok(len) => {
                    self.inbox_len = len;
                    self.inbox_descriptors.extend(descriptors);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(closed_or(error)),
            }
        }
    }

    fn take_message(&mut self) -> Result<Received<Rx>, ChannelError> {
        let malformed = || ChannelError::Misbehaved("frame is malformed".to_owned());
        let left = self.inbox.get(self.inbox_at..self.inbox_len).ok_or_else(malformed)?;
        let (prefix, payload, rest) = Prefix::split(left).ok_or_else(malformed)?;
        let next_at = self.inbox_len - rest.len();
        if prefix.descriptors > self.inbox_descriptors.len() {
            return Err(ChannelError::Misbehaved("a message lacks its descriptors".to_owned()));
        }
        let mut descriptors: Vec<OwnedFd> = self.inbox_descriptors.drain(..prefix.descriptors).collect();
        let decoded: Result<Rx, ChannelError> = if prefix.spilled {
            unspill(payload, &mut descriptors).and_then(|mut bytes| {
                let decoded = codec::decode(&bytes);
                if Rx::IS_SECRET {
                    bytes.zeroize();
                }
                Ok(decoded?)
            })
        } else {
            codec::decode(payload).map_err(ChannelError::from)
        };
        if Rx::IS_SECRET
            && let Some(taken) = self.inbox.get_mut(self.inbox_at..next_at)
        {
            taken.zeroize();
        }
        let message = decoded?;
        if message.descriptors() != descriptors.len() {
            return Err(ChannelError::Misbehaved(
                "a message came with the wrong number of descriptors".to_owned(),
            ));
        }
        self.inbox_at = next_at;
        Ok(Received { message, descriptors })
    }
}

fn unspill(payload: &[u8], descriptors: &mut Vec<OwnedFd>) -> Result<Vec<u8>, ChannelError> {
    let bad = |what: &str| ChannelError::Misbehaved(format!("spilled message: {what}"));
    let len = u64::from_le_bytes(payload.try_into().map_err(|_| bad("no length"))?);
    if descriptors.is_empty() || len > MAX_MESSAGE as u64 {
        return Err(bad("no descriptor, or too large"));
    }
    let sealed = Sealed::verify(descriptors.remove(0), len).map_err(|error| bad(&error.to_string()))?;
    sealed.read_all(MAX_MESSAGE as u64).map_err(|error| bad(&error.to_string()))
}

fn closed_or(error: io::Error) -> ChannelError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ChannelError::Closed,
        io::ErrorKind::InvalidData => ChannelError::Misbehaved(error.to_string()),
        _ => ChannelError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::receiver_auth::{Ask, AuthEnd, ReceiverEnd};
    use crate::wire::Blob;

    #[test]
    fn an_edge_keeps_nothing_of_a_secret() {
        let (a, b) = seqpacket::pair().unwrap();
        let (mut receiver, mut helper) =
            (ReceiverEnd::new(a, EdgeId::ReceiverAuth), AuthEnd::new(b, EdgeId::ReceiverAuth));
        let (password, long) = (b"tanstaaftanstaaf", [b't'; 12_288]);
        for secret in [&password[..], &long[..]] {
            let ask = Ask::Continue { exchange: 0, response: Blob(secret.to_vec()) };
            receiver.send(&ask, Vec::new()).unwrap();
            assert!(receiver.scratch.len() > password.len());
            assert!(receiver.scratch.iter().all(|octet| *octet == 0));
            assert!(receiver.scratch.capacity() < SECRET_SCRATCH);
        }
        assert_eq!(
            receiver.outbox.len(),
            3,
            "the hello and a frame for each: growing one would leave a copy"
        );
        assert_eq!(receiver.flush().unwrap(), Flushed::All);
        for secret in [&password[..], &long[..]] {
            let ask = Ask::Continue { exchange: 0, response: Blob(secret.to_vec()) };
            assert_eq!(helper.receive().unwrap().unwrap().message, ask);
        }
        assert!(helper.inbox_len > long.len());
        assert!(helper.inbox.iter().all(|octet| *octet == 0));
    }
}
