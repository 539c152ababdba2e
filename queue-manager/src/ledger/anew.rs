//! Messages are read anew from the store after what happened to them there. While something of one is under way, the store
//! does not know yet who has it: an attempt is out, or what came of one is on its way to the disk. To try it then would be
//! to deliver twice, so it is visible and stands still until that is over, and is read once more. That has an end: a lease
//! ends with an outcome or with its deliver process, which must not hold one for ever, and a change ends with its commit.

use std::collections::HashMap;

use vsmtp_mail::QueueId;

use super::{Clock, Ledger, RELOAD_WAIT_MS};
use crate::schedule::Standing;
use crate::store::ReadError;
use crate::trace;

/// What is wanted of a message when it has been read anew.
#[derive(Debug, Clone, Copy)]
struct Wish {
    /// Monotonic time before which nothing is tried.
    not_before_ms: u64,
    /// Try it at once, whatever was found out before.
    at_once: bool,
}

/// Those that have been read, and must be read once more.
#[derive(Debug, Default)]
pub struct Anew {
    wishes: HashMap<QueueId, Wish>,
    /// Those of them that wait for the disk. The others wait for a lease, and the schedule says when it has ended.
    at_disk: Vec<QueueId>,
}

impl Anew {
    /// True if it stands still until it is read once more.
    pub fn has(&self, id: QueueId) -> bool {
        self.wishes.contains_key(&id)
    }
}

impl Ledger {
    /// Forgets what the schedule and the cache know of a message, and reads it again, once more if something of it is under
    /// way.
    pub fn reload(&mut self, id: QueueId, at_least_ms: u64, clock: Clock) {
        let not_before_ms = clock.mono_ms.saturating_add(at_least_ms);
        self.read(id, Wish { not_before_ms, at_once: false }, clock);
    }

    /// The same, and it is tried at once, if it was not accepted for a later time.
    pub fn reload_now(&mut self, id: QueueId, clock: Clock) {
        self.read(id, Wish { not_before_ms: clock.mono_ms, at_once: true }, clock);
    }

    /// Tries a message now, or as soon as nothing of it is under way. False if it is not here.
    pub fn flush(&mut self, id: QueueId) -> bool {
        if let Some(wish) = self.anew.wishes.get_mut(&id) {
            wish.at_once = true;
        }
        self.schedule.flush(id)
    }

    /// Whatever is known of a message beside the store. One that the store has set aside must not be tried for ever.
    pub fn forget(&mut self, id: QueueId) {
        self.schedule.remove(id);
        self.warm.forget(id);
        self.failures.forget(id);
        self.revising.remove(&id);
        self.rerouting.remove(&id);
        self.resuming.remove(&id);
        self.anew.wishes.remove(&id);
    }

    /// Reads those once more of which nothing is under way now.
    pub(super) fn read_once_more(&mut self, clock: Clock) {
        let at_disk = std::mem::take(&mut self.anew.at_disk);
        let (busy, quiet): (Vec<_>, Vec<_>) = at_disk.into_iter().partition(|id| self.store.is_busy(*id));
        self.anew.at_disk = busy;
        let returned: Vec<QueueId> = std::iter::from_fn(|| self.schedule.take_returned()).collect();
        for id in quiet.into_iter().chain(returned) {
            if self.anew.has(id) {
                self.reload(id, 0, clock);
            }
        }
    }

    fn read(&mut self, id: QueueId, mut wish: Wish, clock: Clock) {
        if let Some(before) = self.anew.wishes.get(&id) {
            wish.not_before_ms = wish.not_before_ms.max(before.not_before_ms);
            wish.at_once |= before.at_once;
        }
        let before = self.standing_of(id, clock);
        self.forget(id);
        if self.store.is_leaving(id) {
            // It is settled. Should its removal fail, this is called again.
            return;
        }
        match self.store.message(id) {
            Ok(message) => {
                let age = clock.wall_ms.saturating_sub(message.state.arrival_ms);
                let at_least_ms = wish.not_before_ms.saturating_sub(clock.mono_ms);
                self.admit(id, &message.state, age, at_least_ms, clock);
                if !self.keep_back(id, wish, before, clock) && wish.at_once {
                    self.schedule.resume(id, clock.mono_ms);
                }
            }
            Err(ReadError::Unknown | ReadError::NotYet) => {}
            Err(error) => {
                trace::unreadable(id, &error);
                self.admit_unreadable(id, clock);
                if matches!(error, ReadError::Disk(_)) {
                    self.unread.push_back((clock.mono_ms.saturating_add(RELOAD_WAIT_MS), id));
                }
            }
        }
    }

    /// Lets a message that was just read stand still if something of it is under way. False if nothing is.
    fn keep_back(&mut self, id: QueueId, wish: Wish, before: Option<Standing>, clock: Clock) -> bool {
        let is_busy = self.store.is_busy(id);
        if !is_busy && !self.schedule.has_orphans(id) {
            return false;
        }
        self.anew.wishes.insert(id, wish);
        if is_busy {
            self.anew.at_disk.push(id);
        }
        if self.standing_of(id, clock).is_some_and(Standing::is_stopped) {
            return true;
        }
        // The order that stopped it may be what is on its way.
        let stopped = before.filter(|before| is_busy && before.is_stopped());
        self.schedule.set_standing(id, stopped.unwrap_or(Standing::Stale));
        true
    }

    fn standing_of(&self, id: QueueId, clock: Clock) -> Option<Standing> {
        self.schedule.survey(id, clock.mono_ms).map(|survey| survey.standing)
    }
}
