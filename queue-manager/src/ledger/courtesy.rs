//! What a sender is told though nothing has failed: that a message has arrived, or is late. It is written behind what it is about,
//! and only if that was: what was not written happens once more, and is told then. A disk that has no room for it is no reason to
//! deliver twice, so the rest goes on without it.
//!
//! On failure: it is tried again, for as long as the process lives. What is too much to be remembered is lost, and the log says so.

use std::collections::{HashMap, VecDeque};

use vsmtp_mail::QueueId;

use super::{After, Clock, Ledger, RELOAD_WAIT_MS};
use crate::reports::{self, Draft};
use crate::store::{Change, StateChange, SubmitError, Ticket, Urgency};
use crate::trace;

/// Most reports that wait for the disk.
const MAX_REFUSED: usize = 1000;
/// Most octets of these.
const MAX_REFUSED_OCTETS: usize = 16 << 20;

/// One report.
#[derive(Debug)]
pub struct Courtesy {
    about: QueueId,
    /// It is about a delay, which is told once.
    is_delay: bool,
    pub(super) draft: Draft,
}

/// All that are not written yet.
#[derive(Debug, Default)]
pub struct Courtesies {
    /// Those that wait for the commit of what they are about.
    pub(super) behind: HashMap<Ticket, Vec<Courtesy>>,
    /// Those that are on their way to the disk.
    out: HashMap<Ticket, Courtesy>,
    /// Those that the disk has refused, and when they are tried again.
    refused: VecDeque<(u64, Courtesy)>,
    /// Octets of these.
    octets: usize,
}

impl Courtesy {
    /// That it has arrived somewhere.
    pub fn on_arrival(about: QueueId, draft: Draft) -> Self {
        Courtesy { about, is_delay: false, draft }
    }

    /// That it is late.
    pub fn on_delay(about: QueueId, draft: Draft) -> Self {
        Courtesy { about, is_delay: true, draft }
    }
}

/// That the sender of a message knows of its delay.
pub fn delay_reported(id: QueueId) -> Change {
    Change::State { id, change: StateChange::DelayReported }
}

impl Courtesies {
    /// True if some wait for the disk.
    pub fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// True if the report that this message is late is on its way to the disk, or waits for it.
    fn has_delay(&self, about: QueueId) -> bool {
        let refused = self.refused.iter().map(|(_, courtesy)| courtesy);
        self.out.values().chain(refused).any(|one| one.is_delay && one.about == about)
    }

    fn put_off(&mut self, courtesy: Courtesy, clock: Clock) {
        let octets = self.octets + courtesy.draft.octets();
        if self.refused.len() >= MAX_REFUSED || octets > MAX_REFUSED_OCTETS {
            return trace::report_lost(courtesy.draft.id, courtesy.about);
        }
        self.octets = octets;
        self.refused.push_back((clock.mono_ms.saturating_add(RELOAD_WAIT_MS), courtesy));
    }

    fn next_due(&mut self, clock: Clock) -> Option<Courtesy> {
        let (_, courtesy) = self.refused.pop_front_if(|(due_ms, _)| *due_ms <= clock.mono_ms)?;
        self.octets -= courtesy.draft.octets();
        Some(courtesy)
    }
}

impl Ledger {
    /// One change of one message, and behind it what its sender is told. If it cannot even be tried, the message is read back.
    pub fn change_and_tell(&mut self, change: Change, told: Vec<Courtesy>, clock: Clock) {
        let id = change.id();
        match self.submit(vec![change], Vec::new(), Urgency::Lazy, After::or_reload(id)) {
            Ok(ticket) if !told.is_empty() => drop(self.courtesies.behind.insert(ticket, told)),
            Ok(_) => {}
            Err(error) => {
                trace::not_committed(id, &error);
                self.reload(id, RELOAD_WAIT_MS, clock);
            }
        }
    }

    /// Tells the sender now, unless it is told of a delay once more: a message that is read anew does not know what is on its way
    /// to the disk.
    pub fn tell(&mut self, courtesy: Courtesy, clock: Clock) {
        if courtesy.is_delay && self.is_told_of_delay(courtesy.about) {
            return;
        }
        let fresh = match reports::stage(self, &courtesy.draft) {
            Ok(fresh) => fresh,
            Err(error) => {
                trace::trouble("report-not-staged", &error);
                return self.courtesies.put_off(courtesy, clock);
            }
        };
        let about = courtesy.about;
        let changes = courtesy.is_delay.then(|| delay_reported(about)).into_iter().collect();
        match self.submit(changes, vec![fresh], Urgency::Lazy, After::NOTHING) {
            Ok(ticket) => drop(self.courtesies.out.insert(ticket, courtesy)),
            // What was late has come to its end meanwhile.
            Err(SubmitError::Unknown(_)) if courtesy.is_delay => {}
            Err(error) => {
                trace::not_committed(about, &error);
                if let SubmitError::Busy | SubmitError::Full = error {
                    self.courtesies.put_off(courtesy, clock);
                }
            }
        }
    }

    fn is_told_of_delay(&self, about: QueueId) -> bool {
        self.courtesies.has_delay(about)
            || self.store.message(about).is_ok_and(|message| message.state.marks.delay_reported)
    }

    /// The process ends. What is on its way to the disk is not waited for: the log keeps the order.
    pub(super) fn tell_all(&mut self, clock: Clock) {
        let behind = std::mem::take(&mut self.courtesies.behind);
        behind.into_values().flatten().for_each(|courtesy| self.tell(courtesy, clock));
        self.tell_again(Clock { mono_ms: u64::MAX, ..clock });
    }

    /// Tries those again that the disk has refused. One that it refuses once more stands for the others.
    pub fn tell_again(&mut self, clock: Clock) {
        while let Some(courtesy) = self.courtesies.next_due(clock) {
            let refused = self.courtesies.refused.len();
            self.tell(courtesy, clock);
            if self.courtesies.refused.len() > refused {
                return;
            }
        }
    }

    /// A commit has ended.
    pub(super) fn follow_courtesies(&mut self, ticket: Ticket, is_written: bool, clock: Clock) {
        if let Some(courtesy) = self.courtesies.out.remove(&ticket)
            && !is_written
        {
            self.courtesies.put_off(courtesy, clock);
        }
        let behind = self.courtesies.behind.remove(&ticket).filter(|_| is_written);
        behind.into_iter().flatten().for_each(|courtesy| self.tell(courtesy, clock));
    }
}
