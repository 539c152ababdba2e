//! What joins a question that was put with whoever waits for it: whether anybody still does, and the connection that is cut when
//! nobody does. Without that a server that says a little at a time, for ever, would keep a thread for ever.

use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::socket::{Shutdown, shutdown};

/// Whether somebody waits, and by what the answer comes.
#[derive(Debug, Default)]
pub struct Line(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_given_up: bool,
    /// Open as long as it stands here: the thread takes it out before it closes it.
    socket: Option<RawFd>,
}

/// The connection is cut when the question is given up, as long as this lives.
#[derive(Debug)]
pub struct Held<'a>(&'a Line);

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if nobody waits any more.
    pub fn is_given_up(&self) -> bool {
        self.state().is_given_up
    }

    /// Nobody waits any more: whoever reads from the connection reads its end.
    pub fn give_up(&self) {
        let mut state = self.state();
        state.is_given_up = true;
        if let Some(socket) = state.socket.take() {
            let _ = shutdown(socket, Shutdown::Both);
        }
    }

    /// The answer comes by this connection, which stays open until what this answers is dropped. `None` if nobody waits.
    pub fn hold(&self, socket: RawFd) -> Option<Held<'_>> {
        let mut state = self.state();
        if state.is_given_up {
            return None;
        }
        state.socket = Some(socket);
        Some(Held(self))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.state().socket = None;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_connection_is_cut_while_it_is_held_and_not_afterwards() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let line = Line::default();
        drop(line.hold(theirs.as_raw_fd()).unwrap());
        line.give_up();
        assert!(ours.read(&mut [0]).is_err(), "it is open");
        assert!(line.is_given_up() && line.hold(theirs.as_raw_fd()).is_none());
        let line = Line::default();
        let _held = line.hold(theirs.as_raw_fd()).unwrap();
        line.give_up();
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    }
}
