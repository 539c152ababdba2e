//! A channel that is registered with the loop. It watches for writability only while the kernel takes no more: on Unix
//! sockets every read of the peer would otherwise wake the writer.

use std::io;
use std::os::fd::OwnedFd;

use mio::Interest;
use vsmtp_ipc::{Channel, ChannelError, EdgeId, Flushed, Message, Received};

use crate::reactor::Reactor;

/// One end of an edge, as a daemon's loop holds it. Dropping it closes the edge.
pub struct Link<Tx, Rx> {
    channel: Channel<Tx, Rx>,
    token: usize,
    blocked: bool,
}

impl<Tx: Message, Rx: Message> Link<Tx, Rx> {
    /// Registers the end of an edge; events come with `token`.
    pub fn new(reactor: &Reactor, socket: OwnedFd, edge: EdgeId, token: usize) -> io::Result<Self> {
        let channel = Channel::new(socket, edge);
        reactor.register(channel.socket(), token, Interest::READABLE)?;
        Ok(Link { channel, token, blocked: false })
    }

    /// As registered.
    pub fn token(&self) -> usize {
        self.token
    }

    /// True if the last [`Link::flush`] found no room; the next event tells when there is some.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Queues a message until [`Link::flush`].
    pub fn send(&mut self, message: &Tx, descriptors: Vec<OwnedFd>) -> Result<(), ChannelError> {
        self.channel.send(message, descriptors)
    }

    /// The next message that is there. After an event, call until `None`.
    pub fn receive(&mut self) -> Result<Option<Received<Rx>>, ChannelError> {
        self.channel.receive()
    }

    /// Sends what is queued, and watches for room if there is not enough.
    pub fn flush(&mut self, reactor: &Reactor) -> Result<(), ChannelError> {
        let blocked = self.channel.wants_write() && self.channel.flush()? == Flushed::Blocked;
        if blocked != self.blocked {
            let interest = if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            reactor.reregister(self.channel.socket(), self.token, interest).map_err(ChannelError::Io)?;
            self.blocked = blocked;
        }
        Ok(())
    }
}
