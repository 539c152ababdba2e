//! From the store into the schedule: recovered messages by and by, others as [`Ledger::reload`] says, unreadable ones as what
//! they are.

use vsmtp_mail::{MailboxFormat, NextHop, QueueId};

use super::{After, Clock, Judgement, LOAD_AT_ONCE, Ledger, MAX_LINE, RELOAD_WAIT_MS};
use crate::schedule::{Admission, AdmitError, Pending, Sender, Standing};
use crate::store::{
    Change, Delegation, DispositionKind, Marks, MessageState, Phase, RecipientState, RemoveReason, Summaries,
    Summary, Timing, Urgency,
};
use crate::trace;

impl Ledger {
    /// Nothing in the queue is invisible: a message that cannot be read is listed as dead, with a recipient that stands
    /// for those it has. It is never delivered in this form: whoever releases it has it read again.
    pub(super) fn admit_unreadable(&mut self, id: QueueId, clock: Clock) {
        let admission = Admission {
            id,
            sender: Sender::NULL,
            age_ms: 0,
            standing: Standing::Dead,
            warned: true,
            timing: Timing::default(),
        };
        let next_hop = NextHop::Mailbox(MailboxFormat::Maildir);
        let pending = Pending { index: 0, next_hop: &next_hop, attempts: 0, wait_ms: 0 };
        if let Err(error) = self.schedule.admit(&admission, [pending], clock.mono_ms) {
            trace::not_scheduled(id, &error);
        }
    }

    /// Tries to read what a failing disk did not give.
    pub fn read_again(&mut self, clock: Clock) {
        while let Some((due_ms, id)) = self.unread.front().copied()
            && due_ms <= clock.mono_ms
        {
            self.unread.pop_front();
            // An operator may have dealt with it.
            let survey = self.schedule.survey(id, clock.mono_ms);
            if survey.is_some_and(|survey| survey.standing == Standing::Dead) {
                self.reload(id, 0, clock);
            }
        }
    }

    pub(super) fn admit(
        &mut self,
        id: QueueId,
        state: &MessageState,
        age_ms: u64,
        at_least_ms: u64,
        clock: Clock,
    ) {
        if let Some(one) = state.disposition.delegation().filter(|one| one.is_with_service()) {
            return self.admit_for_service(id, state, one, age_ms, at_least_ms, clock);
        }
        if let Some(one) = state.disposition.delegation() {
            // It is back, or done without: what comes under this secret from now on is a copy.
            self.brought.note(one.token, &state.envelope);
        }
        let standing = self.standing(id, (&state.disposition).into(), state.marks);
        if standing == Standing::Judging && at_least_ms > 0 {
            // What it was judged to be could not be written: it would be judged again and again.
            let _ = self.line.pop_back_if(|last| *last == id);
            self.put_off(id, clock);
        }
        let admission = Admission {
            id,
            sender: Sender::from(&state.envelope.reverse_path),
            age_ms,
            standing,
            warned: state.marks.delay_reported,
            timing: Timing::new(&state.envelope.terms, state.arrival_ms),
        };
        let pending = (0u32..).zip(state.envelope.recipients.iter().zip(&state.progress)).filter_map(
            |(index, (recipient, progress))| match progress {
                RecipientState::Waiting { attempts, until, .. } => Some(Pending {
                    index,
                    next_hop: &recipient.next_hop,
                    attempts: u32::from(*attempts),
                    wait_ms: wait_ms(*until, clock).max(at_least_ms),
                }),
                _ => None,
            },
        );
        match self.schedule.admit(&admission, pending, clock.mono_ms) {
            Ok(()) => {}
            Err(AdmitError::Recipients) => self.remove_settled(id),
            Err(error) => trace::not_scheduled(id, &error),
        }
    }

    /// A service gets the message as a whole: the first recipient stands for all. It judges, so it does not wait for the
    /// time of release: that is for what comes back.
    fn admit_for_service(
        &mut self,
        id: QueueId,
        state: &MessageState,
        one: &Delegation,
        age_ms: u64,
        at_least_ms: u64,
        clock: Clock,
    ) {
        let admission = Admission {
            id,
            sender: Sender::from(&state.envelope.reverse_path),
            age_ms,
            standing: Standing::Delegated,
            warned: state.marks.delay_reported,
            timing: Timing::new(&state.envelope.terms, state.arrival_ms).at_once(),
        };
        let next_hop = one.next_hop();
        let first = (0u32..).zip(&state.progress).find_map(|(index, progress)| match progress {
            RecipientState::Waiting { attempts, until, .. } => {
                let until = if let Phase::Away(until) = one.phase { until } else { *until };
                let wait_ms = wait_ms(until, clock).max(at_least_ms);
                Some(Pending { index, next_hop: &next_hop, attempts: u32::from(*attempts), wait_ms })
            }
            _ => None,
        });
        match self.schedule.admit(&admission, first, clock.mono_ms) {
            Ok(()) => {}
            Err(AdmitError::Recipients) => self.remove_settled(id),
            Err(error) => trace::not_scheduled(id, &error),
        }
    }

    /// Schedules some of the recovered messages. True if there are more.
    pub fn load(&mut self, clock: Clock) -> bool {
        let Some(mut summaries) = self.summaries.take() else { return false };
        for _ in 0..LOAD_AT_ONCE {
            match summaries.next() {
                Some(summary) => self.load_one(&summary, &summaries, clock),
                None => {
                    trace::loaded(&self.schedule.totals());
                    return false;
                }
            }
        }
        self.summaries = Some(summaries);
        true
    }

    /// True while recovered messages are not all scheduled.
    pub fn is_loading(&self) -> bool {
        self.summaries.is_some()
    }

    fn load_one(&mut self, summary: &Summary, summaries: &Summaries, clock: Clock) {
        if summary.disposition == DispositionKind::Delegated {
            // Where it goes, and whether it is back, is in its state only.
            if !self.schedule.contains(summary.id) {
                self.reload(summary.id, 0, clock);
            }
            return;
        }
        let standing = self.standing(summary.id, summary.disposition, summary.marks);
        let admission = Admission {
            id: summary.id,
            sender: Sender(summary.sender),
            age_ms: clock.wall_ms.saturating_sub(summary.arrival_ms),
            standing,
            warned: summary.marks.delay_reported,
            timing: summary.timing,
        };
        let pending = (0u32..).zip(&summary.recipients).filter_map(|(index, one)| {
            let next_hop = summaries.hop(one.hop)?;
            let attempts = u32::from(one.state.attempts);
            let wait_ms = wait_ms(one.state.until, clock);
            one.state.settled.is_none().then_some(Pending { index, next_hop, attempts, wait_ms })
        });
        match self.schedule.admit(&admission, pending, clock.mono_ms) {
            Ok(()) => {}
            // A crash came between the last outcome and the removal, or the message was changed already.
            Err(AdmitError::Recipients) => self.remove_settled(summary.id),
            Err(AdmitError::Known) => {}
            Err(error) => trace::not_scheduled(summary.id, &error),
        }
    }

    fn remove_settled(&mut self, id: QueueId) {
        if !self.store.contains(id) || self.store.is_leaving(id) {
            return;
        }
        let change = Change::Remove { id, reason: RemoveReason::Settled };
        // Not by way of `change`, which would come back here. Nothing is left to deliver; the next start tries again.
        if let Err(error) = self.commit(vec![change], Vec::new(), Urgency::Background, After::NOTHING) {
            trace::not_committed(id, &error);
        }
    }

    fn standing(&mut self, id: QueueId, disposition: DispositionKind, marks: Marks) -> Standing {
        match disposition {
            DispositionKind::Hold => Standing::Held,
            DispositionKind::Quarantine => Standing::Quarantined,
            DispositionKind::Dead => Standing::Dead,
            DispositionKind::Delegated => {
                self.resuming.insert(id);
                self.stand_in_line(id)
            }
            DispositionKind::Active if marks.judged => Standing::Active,
            DispositionKind::Active if !marks.reroute && !self.wants_judgement() => Standing::Active,
            DispositionKind::Active => {
                if marks.reroute {
                    self.rerouting.insert(id);
                }
                self.stand_in_line(id)
            }
        }
    }

    fn stand_in_line(&mut self, id: QueueId) -> Standing {
        if self.line.len() < MAX_LINE {
            self.line.push_back(id);
        } else {
            self.line_is_short = true;
        }
        Standing::Judging
    }

    /// The post-queue filter is asked about a message later, and not before.
    pub fn put_off(&mut self, id: QueueId, clock: Clock) {
        self.later.push_back((clock.mono_ms.saturating_add(RELOAD_WAIT_MS), id));
    }

    /// True if messages must pass the post-queue filter, or may have to.
    pub fn wants_judgement(&self) -> bool {
        !matches!(self.judgement, Judgement::Wanted { postq: false, delivery: false })
    }
}

/// Milliseconds until a time in seconds since 1970.
fn wait_ms(until: u64, clock: Clock) -> u64 {
    until.saturating_mul(1000).saturating_sub(clock.wall_ms)
}
