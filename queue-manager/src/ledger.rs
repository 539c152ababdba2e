//! Store and schedule kept in step: what is committed is scheduled, what is settled is committed, and what could not be
//! committed comes back. Nothing else changes either of them.
//!
//! On failure of a commit: a new message is refused to whoever brought it; a message whose change was lost is read back
//! from the store as it stands there, and tried again later.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use vsmtp_mail::{MailboxFormat, NextHop, QueueId, QueueIdMint};

use crate::outcome::Failures;
use crate::schedule::{Admission, AdmitError, Pending, Schedule, Sender, Standing};
use crate::settings::Settings;
use crate::store::{
    Change, Chunk, CommitError, DispositionKind, Event, MessageState, NewBody, ReadError, RecipientState,
    Store, SubmitError, Summaries, Summary, Ticket, Transaction, Urgency,
};
use crate::trace;
use crate::warm::{Outgoing, Warm};

/// Most messages that the line for the post-queue filter remembers; more are looked for in the schedule.
const MAX_LINE: usize = 10_000;
/// Recovered messages that are scheduled in one turn.
const LOAD_AT_ONCE: usize = 20_000;
/// Wait of a message whose change could not be committed.
pub const RELOAD_WAIT_MS: u64 = 60_000;

/// The time, read once per turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds that never jump.
    pub mono_ms: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// Who waits for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// Nobody.
    Nobody,
    /// The filter of that edge, about its submission.
    Filter {
        /// Token of the edge.
        edge: usize,
        /// The filter's ticket.
        ticket: u64,
    },
    /// The operator at that connection.
    Operator {
        /// Token of the connection.
        connection: usize,
    },
}

/// Whether a message is read back from the store after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// No.
    Never,
    /// If the commit failed: what the schedule believes is not what the store knows.
    OnFailure(QueueId),
    /// In any case: the commit changed it.
    Always(QueueId),
    /// In any case, and it is tried at once.
    Now(QueueId),
}

/// What follows a commit.
#[derive(Debug)]
pub struct After {
    /// Who waits for it.
    pub tell: Tell,
    /// What must be read back.
    pub reload: Reload,
}

impl After {
    /// Nothing follows.
    pub const NOTHING: After = After { tell: Tell::Nobody, reload: Reload::Never };

    /// The message comes back if the commit fails.
    pub fn or_reload(id: QueueId) -> Self {
        After { tell: Tell::Nobody, reload: Reload::OnFailure(id) }
    }
}

/// A message on its way into the queue.
#[derive(Debug)]
pub struct Fresh {
    /// Its id.
    pub id: QueueId,
    /// Everything but its octets.
    pub state: MessageState,
    /// Its octets, as they are stored.
    pub body: NewBody,
    /// Its octets as they go out, if they are in memory.
    pub parts: Option<Vec<Chunk>>,
    /// Number of octets as it goes out.
    pub size: u64,
}

/// A commit has ended, and this one waits for it.
#[derive(Debug)]
pub struct Ended {
    /// Who waits.
    pub tell: Tell,
    /// How it ended.
    pub result: Result<(), CommitError>,
}

#[derive(Debug)]
struct Waiting {
    after: After,
    fresh: Vec<(QueueId, Outgoing, u64)>,
}

/// Which questions the post-queue filter wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// No post-queue filter has said yet: messages wait.
    Unknown,
    /// Only these stages; none means that messages go on at once.
    Wanted {
        /// After acceptance.
        postq: bool,
        /// Before the first attempt.
        delivery: bool,
    },
}

/// The queue.
pub struct Ledger {
    /// What is on disk.
    pub store: Store,
    /// When what is tried.
    pub schedule: Schedule,
    /// The configuration.
    pub settings: Settings,
    /// What can go out without reading.
    pub warm: Warm,
    /// Failures that wait for their report.
    pub failures: Failures,
    /// Whether new messages wait for the post-queue filter.
    pub judgement: Judgement,
    /// Messages that wait for it, as far as remembered.
    pub line: VecDeque<QueueId>,
    /// There are more in the schedule than in the line.
    pub line_is_short: bool,
    /// Messages that a failing disk did not give, and when they are read again.
    unread: VecDeque<(u64, QueueId)>,
    mint: QueueIdMint,
    waiting: HashMap<Ticket, Waiting>,
    events: Vec<Event>,
    summaries: Option<Summaries>,
}

impl Ledger {
    /// A queue over a recovered store. Its messages are scheduled by and by, see [`Ledger::load`].
    pub fn new(
        store: Store,
        summaries: Summaries,
        settings: Settings,
        mint: QueueIdMint,
        seed: u64,
        clock: Clock,
    ) -> Self {
        Ledger {
            schedule: Schedule::new(settings.schedule, seed, clock.mono_ms),
            warm: Warm::new(settings.cache_size),
            store,
            settings,
            failures: Failures::default(),
            judgement: Judgement::Unknown,
            line: VecDeque::new(),
            line_is_short: false,
            unread: VecDeque::new(),
            mint,
            waiting: HashMap::new(),
            events: Vec::new(),
            summaries: Some(summaries),
        }
    }

    /// An id for a message of our own.
    pub fn mint(&mut self, clock: Clock) -> QueueId {
        self.mint.next(clock.wall_ms)
    }

    /// Takes a new configuration; what waits already keeps its time.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.schedule.set_settings(settings.schedule);
        self.warm.set_limit(settings.cache_size);
        self.settings = settings;
    }

    /// Commits changes, and with them new messages of our own.
    pub fn commit(
        &mut self,
        mut changes: Vec<Change>,
        fresh: Vec<Fresh>,
        urgency: Urgency,
        after: After,
    ) -> Result<(), SubmitError> {
        let mut waiting = Waiting { after, fresh: Vec::with_capacity(fresh.len()) };
        for one in fresh {
            let parts =
                one.parts.map(|chunks| chunks.into_iter().map(crate::store::BodyPart::Bytes).collect());
            let outgoing =
                Outgoing { state: Arc::new(one.state.clone()), parts: Arc::new(parts.unwrap_or_default()) };
            changes.push(Change::Accept { id: one.id, state: Box::new(one.state), body: one.body });
            waiting.fresh.push((one.id, outgoing, one.size));
        }
        let ticket = self.store.submit(Transaction { changes, urgency })?;
        self.waiting.insert(ticket, waiting);
        Ok(())
    }

    /// One change of one message; if it cannot even be tried, the message is read back.
    pub fn change(&mut self, change: Change, urgency: Urgency, after: After, clock: Clock) {
        let id = change.id();
        if let Err(error) = self.commit(vec![change], Vec::new(), urgency, after) {
            trace::not_committed(id, &error);
            self.reload(id, RELOAD_WAIT_MS, clock);
        }
    }

    /// Commits that have not ended.
    pub fn open_commits(&self) -> usize {
        self.waiting.len()
    }

    /// Takes in what the disk has done. Answers who waited for it.
    pub fn poll(&mut self, clock: Clock, ended: &mut Vec<Ended>) {
        let mut events = std::mem::take(&mut self.events);
        self.store.poll(&mut events);
        self.take_in(&mut events, clock, ended);
        self.events = events;
    }

    /// Makes everything durable and ends.
    pub fn close(mut self, clock: Clock, ended: &mut Vec<Ended>) {
        let mut events = Vec::new();
        self.poll(clock, ended);
        let waiting = std::mem::take(&mut self.waiting);
        let mut results: Vec<(Ticket, Result<(), CommitError>)> = Vec::new();
        for event in self.store.close() {
            match event {
                Event::Completed { ticket, result } => results.push((ticket, result)),
                other => events.push(other),
            }
        }
        for (ticket, result) in results {
            if let Some(waiting) = waiting.get(&ticket) {
                ended.push(Ended { tell: waiting.after.tell, result });
            }
        }
    }

    fn take_in(&mut self, events: &mut Vec<Event>, clock: Clock, ended: &mut Vec<Ended>) {
        for event in events.drain(..) {
            match event {
                Event::Completed { ticket, result } => {
                    let Some(waiting) = self.waiting.remove(&ticket) else { continue };
                    let Waiting { after, fresh } = waiting;
                    match &result {
                        Ok(()) => self.arrived(fresh, clock),
                        Err(error) => trace::commit_failed(error, &after, fresh.iter().map(|(id, ..)| *id)),
                    }
                    self.follow(after, result, clock, ended);
                }
                Event::Alarm(alarm) => trace::alarm(&alarm),
            }
        }
    }

    fn follow(
        &mut self,
        after: After,
        result: Result<(), CommitError>,
        clock: Clock,
        ended: &mut Vec<Ended>,
    ) {
        match after.reload {
            Reload::OnFailure(id) if result.is_err() => self.reload(id, RELOAD_WAIT_MS, clock),
            Reload::Always(id) => self.reload(id, if result.is_ok() { 0 } else { RELOAD_WAIT_MS }, clock),
            Reload::Now(id) => {
                self.reload(id, 0, clock);
                self.schedule.flush(id);
            }
            Reload::OnFailure(_) | Reload::Never => {}
        }
        if after.tell != Tell::Nobody {
            ended.push(Ended { tell: after.tell, result });
        }
    }

    fn arrived(&mut self, fresh: Vec<(QueueId, Outgoing, u64)>, clock: Clock) {
        for (id, outgoing, size) in fresh {
            trace::accepted(id, &outgoing.state, size);
            self.admit(id, &outgoing.state, 0, 0, clock);
            if !outgoing.parts.is_empty() {
                self.warm.insert(id, outgoing);
            }
        }
    }

    /// Forgets what the schedule and the cache know of a message, and reads it again.
    pub fn reload(&mut self, id: QueueId, at_least_ms: u64, clock: Clock) {
        self.schedule.remove(id);
        self.warm.forget(id);
        self.failures.forget(id);
        match self.store.message(id) {
            Ok(message) => {
                let age = clock.wall_ms.saturating_sub(message.state.arrival_ms);
                self.admit(id, &message.state, age, at_least_ms, clock);
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

    /// Nothing in the queue is invisible: a message that cannot be read is listed as dead, with a recipient that stands
    /// for those it has. It is never delivered in this form: whoever releases it has it read again.
    fn admit_unreadable(&mut self, id: QueueId, clock: Clock) {
        let admission =
            Admission { id, sender: Sender::NULL, age_ms: 0, standing: Standing::Dead, warned: true };
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

    fn admit(&mut self, id: QueueId, state: &MessageState, age_ms: u64, at_least_ms: u64, clock: Clock) {
        let standing = self.standing(id, (&state.disposition).into(), state.marks.judged);
        let admission = Admission {
            id,
            sender: Sender::from(&state.envelope.reverse_path),
            age_ms,
            standing,
            warned: state.marks.delay_reported,
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
            Err(AdmitError::Recipients) => self.remove_settled(id, clock),
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
        let standing = self.standing(summary.id, summary.disposition, summary.marks.judged);
        let admission = Admission {
            id: summary.id,
            sender: Sender(summary.sender),
            age_ms: clock.wall_ms.saturating_sub(summary.arrival_ms),
            standing,
            warned: summary.marks.delay_reported,
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
            Err(AdmitError::Recipients) => self.remove_settled(summary.id, clock),
            Err(AdmitError::Known) => {}
            Err(error) => trace::not_scheduled(summary.id, &error),
        }
    }

    fn remove_settled(&mut self, id: QueueId, clock: Clock) {
        if self.store.contains(id) {
            let change = Change::Remove { id, reason: crate::store::RemoveReason::Settled };
            self.change(change, Urgency::Background, After::NOTHING, clock);
        }
    }

    fn standing(&mut self, id: QueueId, disposition: DispositionKind, judged: bool) -> Standing {
        match disposition {
            DispositionKind::Hold => Standing::Held,
            DispositionKind::Quarantine => Standing::Quarantined,
            DispositionKind::Dead => Standing::Dead,
            DispositionKind::Active if judged || !self.wants_judgement() => Standing::Active,
            DispositionKind::Active => {
                if self.line.len() < MAX_LINE {
                    self.line.push_back(id);
                } else {
                    self.line_is_short = true;
                }
                Standing::Judging
            }
        }
    }

    /// True if messages must pass the post-queue filter, or may have to.
    pub fn wants_judgement(&self) -> bool {
        !matches!(self.judgement, Judgement::Wanted { postq: false, delivery: false })
    }

    /// The message with its octets, from memory if possible.
    pub fn outgoing(&self, id: QueueId) -> Result<Outgoing, ReadError> {
        if let Some(warm) = self.warm.lookup(id) {
            return Ok(warm);
        }
        let (message, parts) = self.store.message_and_body(id)?;
        Ok(Outgoing { state: Arc::new(message.state), parts: Arc::new(parts) })
    }
}

/// Milliseconds until a time in seconds since 1970.
fn wait_ms(until: u64, clock: Clock) -> u64 {
    until.saturating_mul(1000).saturating_sub(clock.wall_ms)
}
