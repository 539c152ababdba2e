//! Where signatures are asked for: handshake threads ask and wait, the loop hears the answers. One lock guards the edge;
//! nobody waits while holding it.
//!
//! On failure a signature is `None`, at once if the edge is gone, after a second if the key holder is silent.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::Interest;
use vsmtp_daemon::Reactor;
use vsmtp_ipc::edge::receiver_keys::{Answer, Ask, CREDITS, ReceiverEnd, SIGN_MS};
use vsmtp_ipc::{ChannelError, EdgeId};
use vsmtp_tls::Oracle;

/// The edge to the key holder, and who waits for it.
#[derive(Default)]
pub struct Desk(Mutex<State>);

#[derive(Default)]
struct State {
    edge: Option<ReceiverEnd>,
    /// What went wrong while a thread used the edge; for the loop.
    failed: Option<ChannelError>,
    /// Questions in flight; without a sender if nobody waits any more.
    open: HashMap<u64, Option<SyncSender<Vec<u8>>>>,
    last_ticket: u64,
}

impl Desk {
    /// Takes a new edge. Whoever waits for the old one has waited for nothing.
    pub fn open(&self, reactor: &Reactor, socket: OwnedFd, token: usize) -> io::Result<()> {
        let mut state = self.state();
        state.close();
        let edge = ReceiverEnd::new(socket, EdgeId::ReceiverKeys);
        reactor.register(edge.socket(), token, Interest::READABLE)?;
        state.edge = Some(edge);
        Ok(())
    }

    /// Closes the edge. How many waited for it.
    pub fn close(&self) -> usize {
        self.state().close()
    }

    /// The next thing that the key holder has said; `None` for nothing now. Signatures have gone to whoever waits.
    ///
    /// # Errors
    /// The edge is to be closed.
    pub fn hear(&self) -> Result<Option<Answer>, ChannelError> {
        let mut state = self.state();
        let Some(edge) = &mut state.edge else { return Ok(None) };
        let Some(received) = edge.receive()? else { return Ok(None) };
        let Answer::Signed { ticket, signature } = received.message else {
            return Ok(Some(received.message));
        };
        let waiting = state.open.remove(&ticket);
        let waiting =
            waiting.ok_or_else(|| ChannelError::Misbehaved("answered what nobody asked".to_owned()))?;
        if let (Some(waiting), Some(signature)) = (waiting, signature) {
            // It may have given up just now.
            let _ = waiting.try_send(signature);
        }
        Ok(Some(Answer::Signed { ticket, signature: None }))
    }

    /// Sends what waits to be sent.
    ///
    /// # Errors
    /// The edge is to be closed.
    pub fn flush(&self) -> Result<(), ChannelError> {
        let mut state = self.state();
        match (state.failed.take(), &mut state.edge) {
            (Some(error), _) => Err(error),
            (None, Some(edge)) if edge.wants_write() => edge.flush().map(|_| ()),
            _ => Ok(()),
        }
    }

    fn ask(&self, key: u32, scheme: u16, message: &[u8]) -> Option<(u64, mpsc::Receiver<Vec<u8>>)> {
        let mut state = self.state();
        if state.open.len() >= CREDITS as usize {
            return None;
        }
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        let edge = state.edge.as_mut()?;
        let ask = Ask::Sign { ticket, key, scheme, message: message.to_vec() };
        if let Err(error) = edge.send(&ask, Vec::new()).and_then(|()| edge.flush()) {
            state.failed = Some(error);
            return None;
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        state.open.insert(ticket, Some(sender));
        Some((ticket, receiver))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self) -> usize {
        self.edge = None;
        self.failed = None;
        let waiting = self.open.values().flatten().count();
        // Their senders go, so they stop waiting.
        self.open.clear();
        waiting
    }
}

impl Oracle for Desk {
    fn sign(&self, key: u32, scheme: u16, message: &[u8]) -> Option<Vec<u8>> {
        let (ticket, answer) = self.ask(key, scheme, message)?;
        match answer.recv_timeout(Duration::from_millis(SIGN_MS)) {
            Ok(signature) => Some(signature),
            Err(_) => {
                // Its credit comes back with the answer.
                if let Some(waiting) = self.state().open.get_mut(&ticket) {
                    *waiting = None;
                }
                None
            }
        }
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}
