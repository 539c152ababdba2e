//! Lifetimes that end without an attempt. What a next hop keeps back, be it by its rate, by the pause that its host asked
//! for, or by its death, grows old like all the rest: its sender is told of the delay, and in the end it fails.
//!
//! What waits for a dead next hop is looked at when it is put off. What waits for a rate or a pause stands still, so it is
//! looked at now and then, a bounded number in a turn.

use super::slab::NONE;
use super::{Notice, Schedule};

/// How long what a next hop keeps back is left alone between two looks. Lifetimes are counted in hours and days.
pub(super) const SWEEP_MS: u64 = 60_000;
/// Most jobs that one call looks at; the next call goes on.
pub(super) const MAX_JOBS_AT_ONCE: usize = 10_000;
/// Findings that end a call: each becomes a report, and a change of the store.
pub(super) const MAX_NOTICES: usize = 256;

/// How far the look has come.
#[derive(Debug)]
pub(super) struct Sweep {
    next_job: u32,
    due_ms: u64,
}

impl Sweep {
    pub fn new(mono_ms: u64) -> Self {
        Sweep { next_job: 0, due_ms: mono_ms.saturating_add(SWEEP_MS) }
    }

    /// A look that was not needed so far is due now, and not in the past.
    pub fn not_before(&mut self, mono_ms: u64) {
        self.due_ms = self.due_ms.max(mono_ms);
    }
}

impl Schedule {
    /// Looks after what waits for the rate or the pause of a next hop. Returns true if there is more than one call takes.
    /// It must come before the end of rests: a next hop that rests again and again would never be seen at rest.
    pub(super) fn sweep(&mut self, mono_ms: u64) -> bool {
        if self.sweep_ms().is_none_or(|due_ms| mono_ms < due_ms) {
            return false;
        }
        for _ in 0..MAX_JOBS_AT_ONCE {
            if self.notices.len() >= MAX_NOTICES {
                return true;
            }
            let job = self.sweep.next_job;
            if self.jobs.get(job).is_none() {
                self.sweep = Sweep::new(mono_ms);
                return false;
            }
            self.sweep.next_job += 1;
            self.look_after(job, mono_ms);
        }
        true
    }

    /// When the next look is due; `None` while no next hop keeps anything back.
    pub(super) fn sweep_ms(&self) -> Option<u64> {
        (!self.resting.is_empty()).then_some(self.sweep.due_ms)
    }

    fn look_after(&mut self, job: u32, mono_ms: u64) {
        let record = &self.jobs[job];
        let message = record.message;
        if message == NONE
            || record.ready == NONE
            || !self.messages[message].standing.goes_out()
            || self.destinations[self.flows[record.flow].destination].wake_ms == 0
        {
            return;
        }
        let rests = self.destinations[self.flows[record.flow].destination].rest_until_ms > mono_ms;
        let reason = if rests {
            "the next hop has asked for a pause"
        } else {
            "the next hop has had all that its rate allows"
        };
        if !self.expire_ready(job, reason, mono_ms) {
            self.warn_of_delay(message, reason, mono_ms);
        }
    }

    /// If the lifetime is over, settles the ready recipients of a job, unless an attempt has to come first. True if it did.
    pub(super) fn expire_ready(&mut self, job: u32, reason: &str, mono_ms: u64) -> bool {
        let message = self.jobs[job].message;
        if !self.is_expired(message, mono_ms) || self.spared.contains(&job) {
            return false;
        }
        let id = self.messages[message].id();
        let items = self.take_list(|schedule| std::mem::replace(&mut schedule.jobs[job].ready, NONE));
        let recipients = items.iter().map(|item| u32::from(self.items[*item].index)).collect();
        let finished = self.settle_items(message, &items);
        self.notices.push_back(Notice::Expired { id, recipients, reason: reason.into(), finished });
        true
    }

    /// The lifetime that the message has of its own is over: settles the ready recipients of a job.
    pub(super) fn expire_overdue(&mut self, job: u32, mono_ms: u64) {
        self.expire_ready(job, "the message could not be delivered in the time that it was given", mono_ms);
    }

    /// If the time has come, lets the sender be told of the delay.
    pub(super) fn warn_of_delay(&mut self, message: u32, reason: &str, mono_ms: u64) {
        if self.take_warning(message, mono_ms) {
            let id = self.messages[message].id();
            self.notices.push_back(Notice::Warn { id, reason: reason.into() });
        }
    }
}
