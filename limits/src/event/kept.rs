//! What the limiter keeps over its death: what greylisting knows.

use vsmtp_daemon::{BootError, Reactor, Record};

use super::Limiter;
use crate::snapshot;

/// The loop's timer for the next writing.
pub const KEEP_TIMER: u64 = 2;
/// How often what has changed is written, in milliseconds: so much is lost at most if the limiter is killed.
const KEEP_MS: u64 = 30_000;

impl Limiter {
    /// Reads what was kept.
    pub(super) fn begin_to_keep(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        let files = self.files.take().ok_or_else(|| BootError::Fatal("started twice".to_owned()))?;
        let (known, keeper) = files
            // Never doubled: nobody else writes.
            .open(snapshot::read, |octets, _| octets)
            .map_err(|error| BootError::Io("start the thread that keeps", error))?;
        let list = known.unwrap_or_default();
        let sizes = list.sizes();
        Record::new("state-read")
            .field("waiting", sizes.waiting)
            .field("welcome", sizes.welcome)
            .field("clients", sizes.known)
            .emit();
        self.greylist = list;
        self.keeper = Some(keeper);
        reactor.set_timer(reactor.now_ms() + KEEP_MS, KEEP_TIMER);
        Ok(())
    }

    /// Has written what has changed.
    pub(super) fn keep(&mut self, reactor: &mut Reactor) {
        if let Some(keeper) = &self.keeper
            && (self.greylist.take_changed() | keeper.take_failed())
            && !keeper.keep(snapshot::write(&self.greylist))
        {
            self.greylist.note_changed();
        }
        reactor.set_timer(reactor.now_ms() + KEEP_MS, KEEP_TIMER);
    }

    /// Has the rest written, and waits for it: the master's patience ends a wait for a disk that hangs.
    pub(super) fn end_keeping(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            let changed = self.greylist.take_changed() | keeper.take_failed();
            keeper.finish(changed.then(|| snapshot::write(&self.greylist)));
        }
    }
}
