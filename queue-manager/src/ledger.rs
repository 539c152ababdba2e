//! Store and schedule kept in step: what is committed is scheduled, what is settled is committed, and what could not be
//! committed comes back. Nothing else changes either of them.
//!
//! On failure of a commit: a new message is refused to whoever brought it; a message whose change was lost is read back
//! from the store as it stands there, and tried again later.

mod anew;
pub mod courtesy;
mod load;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use vsmtp_mail::{QueueId, QueueIdMint};

use anew::Anew;
use courtesy::Courtesies;

use crate::delegation::Brought;
use crate::outcome::Failures;
use crate::schedule::Schedule;
use crate::settings::Settings;
use crate::store::{
    Alarm, Change, Chunk, CommitError, Event, MessageState, NewBody, ReadError, Store, SubmitError,
    Summaries, Ticket, Transaction, Urgency,
};
use crate::tls_reports::TlsReports;
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

/// Whose turn it is after a change of a message that a service is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// Still the service's: what it brings meanwhile is welcome, and takes the place of all that was committed before.
    ToService,
    /// That of rules, or of an operator.
    FromService,
}

/// Whether a message is read back from the store after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// No.
    Never,
    /// If the commit failed: what the schedule believes is not what the store knows.
    OnFailure(QueueId),
    /// In any case: the commit changed it. Like all that is read anew, it is tried when nothing of it is under way.
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
    /// What mail domains will be told about TLS.
    pub tls_reports: TlsReports,
    /// Whether new messages wait for the post-queue filter.
    pub judgement: Judgement,
    /// Messages that wait for it, as far as remembered.
    pub line: VecDeque<QueueId>,
    /// Those that wait for it and are not to be asked about before this time, in monotonic milliseconds.
    pub later: VecDeque<(u64, QueueId)>,
    /// There are more in the schedule than in the line.
    pub line_is_short: bool,
    /// Messages that wait for the post-queue filter because their next hops are to be chosen anew, rules or not.
    pub rerouting: HashSet<QueueId>,
    /// Messages whose verdict is being committed: they stand as before, and must not be judged again.
    pub revising: HashSet<QueueId>,
    /// Messages that were with a service, and that the post-queue filter is to go on with, rules or not.
    pub resuming: HashSet<QueueId>,
    /// Messages that were with a service, or were to be, and whose change is being committed, with the last commit of each.
    /// Nobody may act on what the store knows of them until that one has ended: it reads the message anew.
    changing: HashMap<QueueId, (Ticket, Turns)>,
    /// Which directives delegate to whom, as the newest post-queue filter has said; `None` if it has not.
    pub delegates: Option<Vec<(String, std::net::SocketAddr)>>,
    /// Secrets under which messages came back lately.
    pub brought: Brought,
    /// Messages that stand still until they are read once more.
    pub anew: Anew,
    /// What senders are told though nothing has failed, and is not written yet.
    pub courtesies: Courtesies,
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
            schedule: Schedule::new(settings.schedule.clone(), seed, clock.mono_ms),
            warm: Warm::new(settings.cache_size),
            store,
            settings,
            failures: Failures::default(),
            tls_reports: TlsReports::default(),
            judgement: Judgement::Unknown,
            line: VecDeque::new(),
            later: VecDeque::new(),
            line_is_short: false,
            rerouting: HashSet::new(),
            revising: HashSet::new(),
            resuming: HashSet::new(),
            changing: HashMap::new(),
            delegates: None,
            brought: Brought::default(),
            anew: Anew::default(),
            courtesies: Courtesies::default(),
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
        self.schedule.set_settings(settings.schedule.clone());
        self.warm.set_limit(settings.cache_size);
        self.settings = settings;
    }

    /// Commits changes, and with them new messages of our own.
    pub fn commit(
        &mut self,
        changes: Vec<Change>,
        fresh: Vec<Fresh>,
        urgency: Urgency,
        after: After,
    ) -> Result<(), SubmitError> {
        self.submit(changes, fresh, urgency, after).map(|_| ())
    }

    /// Commits changes of one message that a service is to see. Until that is done nobody may act on its state, and then it
    /// is read anew.
    pub fn commit_alone(
        &mut self,
        id: QueueId,
        changes: Vec<Change>,
        urgency: Urgency,
        (turns, tell): (Turns, Tell),
    ) -> Result<(), SubmitError> {
        let after = After { tell, reload: Reload::Always(id) };
        let ticket = self.submit(changes, Vec::new(), urgency, after)?;
        self.changing.insert(id, (ticket, turns));
        Ok(())
    }

    /// True while such a commit is under way.
    pub fn is_changing(&self, id: QueueId) -> bool {
        self.changing.contains_key(&id)
    }

    /// True if a service may bring it back as far as such a commit goes: what is on its way does not stop it.
    pub fn may_return(&self, id: QueueId) -> bool {
        self.changing.get(&id).is_none_or(|(_, turns)| *turns == Turns::ToService)
    }

    fn submit(
        &mut self,
        mut changes: Vec<Change>,
        fresh: Vec<Fresh>,
        urgency: Urgency,
        after: After,
    ) -> Result<Ticket, SubmitError> {
        let mut waiting = Waiting { after, fresh: Vec::with_capacity(fresh.len()) };
        for one in fresh {
            let state = Arc::new(one.state);
            // What is put aside is not read soon.
            let parts = one.parts.filter(|_| state.disposition.goes_on());
            let parts = parts.map(|chunks| chunks.into_iter().map(crate::store::BodyPart::Bytes).collect());
            let outgoing = Outgoing { state: state.clone(), parts: Arc::new(parts.unwrap_or_default()) };
            changes.push(Change::Accept { id: one.id, state, body: one.body });
            waiting.fresh.push((one.id, outgoing, one.size));
        }
        let ticket = self.store.submit(Transaction { changes, urgency })?;
        self.waiting.insert(ticket, waiting);
        Ok(ticket)
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
        self.read_once_more(clock);
    }

    /// True if another [`Ledger::poll`] has something to do at once.
    pub fn has_more(&self) -> bool {
        self.schedule.has_returned()
    }

    /// Makes everything durable and ends.
    pub fn close(mut self, clock: Clock, ended: &mut Vec<Ended>) {
        let mut events = Vec::new();
        self.poll(clock, ended);
        self.tell_all(clock);
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
                    if let Reload::Always(id) = after.reload
                        && self.changing.get(&id).is_some_and(|(last, _)| *last == ticket)
                    {
                        self.changing.remove(&id);
                    }
                    let is_written = result.is_ok();
                    self.follow(after, result, clock, ended);
                    self.follow_courtesies(ticket, is_written, clock);
                }
                Event::Alarm(alarm) => {
                    trace::alarm(&alarm);
                    if let Alarm::Unreadable(id, _) = alarm {
                        // The store has put it into its folder for what is corrupt; only a human can do more.
                        self.forget(id);
                        trace::removed(id, "set-aside", None, clock);
                    }
                }
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
            // A later commit reads it.
            Reload::Always(id) if self.is_changing(id) => {}
            Reload::Always(id) => self.reload(id, if result.is_ok() { 0 } else { RELOAD_WAIT_MS }, clock),
            Reload::Now(id) => self.reload_now(id, clock),
            Reload::OnFailure(_) | Reload::Never => {}
        }
        if after.tell != Tell::Nobody {
            ended.push(Ended { tell: after.tell, result });
        }
    }

    fn arrived(&mut self, fresh: Vec<(QueueId, Outgoing, u64)>, clock: Clock) {
        for (id, outgoing, size) in fresh {
            trace::accepted(id, &outgoing.state, size);
            let mut age_ms = 0;
            // What a service brings back is no new message, only a new id.
            if outgoing.state.disposition.delegation().is_some() {
                age_ms = clock.wall_ms.saturating_sub(outgoing.state.arrival_ms);
            }
            self.admit(id, &outgoing.state, age_ms, 0, clock);
            if !outgoing.parts.is_empty() {
                self.warm.insert(id, outgoing);
            }
        }
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
