//! What the resolver keeps over its death and looks at again by itself: the policies of MTA-STS.

use std::sync::Arc;

use vsmtp_daemon::{BootError, Reactor, Record};

use super::{Job, Resolver};
use crate::sts::{Sts, snapshot};

/// The loop's timer for both; the desk counts its own from 1.
pub const UPKEEP_TIMER: u64 = u64::MAX;
/// How often what has changed is written, in milliseconds: so much is lost at most if the resolver is killed.
const KEEP_MS: u64 = 10_000;
/// The same for the first time, when much may be due.
const FIRST_MS: u64 = 1_000;
/// Most policies that are looked at again at once.
const MAX_REFRESHES: usize = 8;

impl Resolver {
    /// Reads what was kept.
    pub(super) fn begin_to_keep(&mut self, reactor: &mut Reactor, sts: &Arc<Sts>) -> Result<(), BootError> {
        let files = self.files.take().ok_or_else(|| BootError::Fatal("started twice".to_owned()))?;
        let to_keep = Arc::clone(sts);
        let opened = files.open(snapshot::read, move |(), news| {
            // After a reload: of the one before us, or the one after.
            to_keep.absorb(news.unwrap_or_default());
            to_keep.octets()
        });
        let (known, keeper) = opened.map_err(|error| BootError::Io("start the thread that keeps", error))?;
        sts.absorb(known.unwrap_or_default());
        Record::new("state-read").field("policies", sts.policies()).emit();
        self.sts = Some(Arc::clone(sts));
        self.keeper = Some(keeper);
        reactor.set_timer(reactor.now_ms() + FIRST_MS, UPKEEP_TIMER);
        Ok(())
    }

    /// Has written what has changed, and looked at what is due.
    pub(super) fn keep_up(&mut self, reactor: &mut Reactor) {
        self.keep();
        self.refresh();
        reactor.set_timer(reactor.now_ms() + KEEP_MS, UPKEEP_TIMER);
    }

    /// Has written what has changed.
    pub(super) fn keep(&self) {
        if let (Some(sts), Some(keeper)) = (&self.sts, &self.keeper)
            && (sts.take_changed() | keeper.take_failed())
            && !keeper.keep(())
        {
            sts.note_changed();
        }
    }

    /// Has the rest written, and waits for it: the master's patience ends a wait for a disk that hangs.
    pub(super) fn end_keeping(&mut self) {
        if let (Some(sts), Some(keeper)) = (&self.sts, self.keeper.take()) {
            let changed = sts.take_changed() | keeper.take_failed();
            keeper.finish(changed.then_some(()));
        }
    }

    fn refresh(&mut self) {
        let (Some(sts), Some(worker)) = (&self.sts, &self.worker) else { return };
        // The next process looks at what is due then.
        let most = if self.draining { 0 } else { MAX_REFRESHES.saturating_sub(self.refreshes) };
        for domain in sts.take_due(most) {
            if worker.look_up(Job::Refresh(domain.clone())) {
                self.refreshes += 1;
            } else {
                sts.put_back(&domain);
            }
        }
    }
}
