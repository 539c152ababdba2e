//! The test's end of any edge: saying and hearing, with an end to each wait.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vsmtp_ipc::{Channel, ChannelError, Flushed, Message, Received};

use crate::PATIENCE;

/// How long what the kernel does not take is left alone before it is tried again.
const PAUSE: Duration = Duration::from_millis(2);

/// Sends a message, and all that waits before it.
///
/// # Panics
/// If the peer is gone, or does not read.
pub fn say<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>, message: &Tx, descriptors: Vec<OwnedFd>) {
    channel.send(message, descriptors).expect("the edge takes a message");
    let until = Instant::now() + PATIENCE;
    while channel.flush().expect("the peer keeps the edge") == Flushed::Blocked {
        assert!(Instant::now() < until, "nobody reads");
        // Not a wait for room: that is there before there is enough for a whole frame.
        std::thread::sleep(PAUSE);
    }
}

/// The next message that comes. What was said before is sent, our hello too.
///
/// # Errors
/// What ends the edge.
///
/// # Panics
/// If nothing comes.
pub fn next<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>) -> Result<Received<Rx>, ChannelError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let flushed = channel.flush()?;
        if let Some(received) = channel.receive()? {
            return Ok(received);
        }
        assert!(Instant::now() < until, "nothing was said");
        let try_again = if flushed == Flushed::Blocked { Instant::now() + PAUSE } else { until };
        is_readable(channel.socket(), try_again);
    }
}

/// True when the peer has closed the edge; what it has said before is dropped.
///
/// # Panics
/// If the edge ends in another way, or not at all.
pub fn is_dropped<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>) -> bool {
    loop {
        match next(channel) {
            Ok(_) => {}
            Err(ChannelError::Closed) => return true,
            Err(other) => panic!("the edge ends with {other}"),
        }
    }
}

/// Waits until there is something to read, or the end of it; false if that does not come.
///
/// # Panics
/// If the kernel does not say.
pub fn is_readable(descriptor: BorrowedFd<'_>, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).expect("a short wait");
        match poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], timeout) {
            Ok(ready) => return ready > 0,
            // Whoever stops and continues the tests interrupts it.
            Err(Errno::EINTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}
