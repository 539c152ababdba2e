//! One end of a control edge, for a program that can wait. A daemon that does not answer in time is an error, not a hang.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use vsmtp_ipc::{Channel, EdgeId, Flushed, Message, Received};
use vsmtp_sys::unix::{Kind, connect_unix};

use crate::failure::Failure;

/// Longest wait for an answer. Reload evaluates the configuration first, which may take a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// One end of a control edge.
pub struct Line<Tx, Rx> {
    channel: Channel<Tx, Rx>,
    poll: Poll,
    events: Events,
}

impl<Tx: Message, Rx: Message> Line<Tx, Rx> {
    /// Connects to a daemon's control socket.
    pub fn connect(path: &Path, edge: EdgeId) -> Result<Self, Failure> {
        let socket = connect_unix(path, Kind::SeqPacket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Failure::NotRunning(format!("vsmtp is not running ({error})"))
            }
            io::ErrorKind::PermissionDenied => {
                Failure::NotPermitted(format!("{error}; only root and members of vsmtp-admin may ask"))
            }
            _ => Failure::Broken(error.to_string()),
        })?;
        Self::over(socket, edge)
    }

    /// Takes a connected socket.
    pub fn over(socket: OwnedFd, edge: EdgeId) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        // Both directions at once: what is not wanted at the moment only costs a look.
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(0), interest)?;
        Ok(Line { channel: Channel::new(socket, edge), poll, events: Events::with_capacity(4) })
    }

    /// Asks and waits for the answer.
    pub fn ask(&mut self, request: &Tx) -> Result<Received<Rx>, Failure> {
        self.send(request, Vec::new())?;
        self.receive()
    }

    /// Sends a message whole.
    pub fn send(&mut self, message: &Tx, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
        self.channel.send(message, descriptors)?;
        let deadline = Instant::now() + PATIENCE;
        while self.channel.flush()? == Flushed::Blocked {
            self.wait(deadline)?;
        }
        Ok(())
    }

    /// Waits for the next message.
    pub fn receive(&mut self) -> Result<Received<Rx>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(received) = self.channel.receive()? {
                return Ok(received);
            }
            self.wait(deadline)?;
        }
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Broken(format!("no answer within {} s", PATIENCE.as_secs())));
        }
        match self.poll.poll(&mut self.events, Some(left)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error.into()),
            _ => Ok(()),
        }
    }
}
