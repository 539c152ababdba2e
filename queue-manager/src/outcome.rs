//! From an outcome to records: who was delivered, who waits, who failed, who must be told. Deliveries are recorded at
//! once; failures wait until the message has nothing else to do, so that one report tells of all of them, and the report
//! is committed together with them.

use std::collections::HashMap;
use std::sync::Arc;

use vsmtp_ipc::edge::queue_deliver::{self, Advice, MAX_LEASE_RECIPIENTS, Reach, Result3};
use vsmtp_ipc::wire::{MAX_TEXT, WireError};
use vsmtp_mail::{EnhancedCode, QueueId, Recipient};

use crate::bounce::{Kind, Reporter};
use crate::ledger::courtesy::{self, Courtesy};
use crate::ledger::{After, Clock, Fresh, Ledger};
use crate::reports;
use crate::schedule::{self, Reached, Report, Settled, Verdict};
use crate::store::{
    Change, Diagnostic, MessageState, RecipientState, RemoveReason, StateChange, Text, Timing, Urgency,
};
use crate::trace;

/// Failures wait so long for others of their message.
const GATHER_MS: u64 = 60_000;
/// Failures of one message that are reported without waiting for more.
const GATHER_MOST: usize = 1000;
/// RFC 3463: delivery time expired. Of a message, [`expired`] knows whether for good.
const EXPIRED: EnhancedCode = EnhancedCode(4, 4, 7);

/// A lease that is out.
#[derive(Debug)]
pub struct Attempted {
    /// The message.
    pub id: QueueId,
    /// Its state when it was leased.
    pub state: Arc<MessageState>,
    /// When that was.
    pub leased: Clock,
    /// It went to a service: the recipient that stands for all.
    pub service: Option<u32>,
}

/// What became of one recipient, checked.
#[derive(Debug, Clone)]
pub struct One {
    /// Its place in the envelope.
    pub index: u32,
    /// What became of it.
    pub result: Result3,
    /// Its class agrees with the result.
    pub status: EnhancedCode,
    /// The next hop's words or deliver's.
    pub text: Text,
}

/// An outcome, checked.
#[derive(Debug)]
pub struct Outcome {
    /// Of the lease.
    pub settled: Vec<One>,
    /// Whether somebody answered.
    pub reached: bool,
    /// What the next attempts should heed.
    pub advice: Advice,
    /// Who answered.
    pub remote: Text,
    /// What TLS reached; empty if it does not apply.
    pub tls: Text,
    /// Who answered knows of DSN: reports are its business.
    pub reports: bool,
    /// The sender wants to hear that who answered took the message.
    pub relayed: bool,
    /// Waiting, connecting, sending.
    pub delays_ms: (u32, u32, u32),
}

impl TryFrom<&queue_deliver::Outcome> for Outcome {
    type Error = WireError;

    fn try_from(wire: &queue_deliver::Outcome) -> Result<Self, WireError> {
        if wire.settled.is_empty()
            || wire.settled.len() > MAX_LEASE_RECIPIENTS
            || wire.remote.len() > MAX_TEXT
            || wire.tls.len() > MAX_TEXT
            || wire.advice.retry_after_s.max(wire.advice.pause_s) > Advice::MAX_S
        {
            return Err(WireError("outcome"));
        }
        Ok(Outcome {
            settled: wire.settled.iter().map(One::try_from).collect::<Result<_, _>>()?,
            advice: wire.advice,
            reached: wire.reach == Reach::Reached,
            remote: Text::new(&wire.remote),
            tls: Text::new(&wire.tls),
            reports: wire.reports,
            relayed: wire.relayed,
            delays_ms: wire.delays_ms,
        })
    }
}

impl TryFrom<&queue_deliver::Settled> for One {
    type Error = WireError;

    fn try_from(wire: &queue_deliver::Settled) -> Result<Self, WireError> {
        let (class, subject, detail) = wire.enhanced;
        let expected = match wire.result {
            Result3::Delivered => 2,
            Result3::Deferred => 4,
            Result3::Failed => 5,
        };
        if class != expected || subject > 999 || detail > 999 || wire.text.len() > MAX_TEXT {
            return Err(WireError("settled recipient"));
        }
        Ok(One {
            index: wire.index,
            result: wire.result,
            status: EnhancedCode(class, subject, detail),
            text: Text::new(&wire.text),
        })
    }
}

impl Outcome {
    /// In the schedule's words: each recipient's verdict.
    pub fn verdicts(&self) -> Vec<(u32, Verdict)> {
        let verdict = |one: &One| match one.result {
            Result3::Delivered | Result3::Failed => Verdict::Settled,
            Result3::Deferred => Verdict::Deferred,
        };
        self.settled.iter().map(|one| (one.index, verdict(one))).collect()
    }

    /// In the schedule's words: what it says of the next hop.
    pub fn report(&self) -> Report<'_> {
        let reached = match self.settled.first() {
            Some(first) if !self.reached => Reached::No(first.text.as_str()),
            _ => Reached::Yes,
        };
        let Advice { retry_after_s, fewer, pause_s } = self.advice;
        let advice = schedule::Advice {
            retry_after_ms: u64::from(retry_after_s) * 1000,
            fewer,
            pause_ms: u64::from(pause_s) * 1000,
        };
        Report { reached, advice }
    }

    /// What is told of it.
    pub fn diagnostic(&self, one: &One) -> Diagnostic {
        let remote = Some(self.remote.clone()).filter(|remote| !remote.as_str().is_empty());
        Diagnostic { status: one.status, remote, text: one.text.clone() }
    }
}

/// A recipient that will not be tried again, and whose sender has not been told.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its place in the envelope.
    pub index: u32,
    /// Why.
    pub diagnostic: Diagnostic,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Failures of one message.
#[derive(Debug)]
pub struct Gathered {
    /// The message.
    pub state: Arc<MessageState>,
    /// In the order in which they came.
    pub list: Vec<Failure>,
    since_ms: u64,
}

/// Failures that wait for their report. They are not committed yet: if this process dies, the recipients are tried again.
#[derive(Debug, Default)]
pub struct Failures {
    by_message: HashMap<QueueId, Gathered>,
}

impl Failures {
    /// Adds some.
    pub fn add(&mut self, id: QueueId, state: &Arc<MessageState>, list: Vec<Failure>, clock: Clock) {
        if list.is_empty() {
            return;
        }
        let empty = || Gathered { state: state.clone(), list: Vec::new(), since_ms: clock.mono_ms };
        self.by_message.entry(id).or_insert_with(empty).list.extend(list);
    }

    /// The message is gone, or is read anew.
    pub fn forget(&mut self, id: QueueId) {
        self.by_message.remove(&id);
    }

    /// Those that have waited long enough.
    pub fn overdue(&self, clock: Clock) -> Vec<QueueId> {
        let is_due = |gathered: &Gathered| clock.mono_ms.saturating_sub(gathered.since_ms) >= GATHER_MS;
        self.by_message.iter().filter(|(_, gathered)| is_due(gathered)).map(|(id, _)| *id).collect()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.by_message.is_empty()
    }

    /// Messages that have some.
    pub fn messages(&self) -> Vec<QueueId> {
        self.by_message.keys().copied().collect()
    }

    pub(crate) fn take(&mut self, id: QueueId) -> Option<Gathered> {
        self.by_message.remove(&id)
    }

    fn count(&self, id: QueueId) -> usize {
        self.by_message.get(&id).map_or(0, |gathered| gathered.list.len())
    }
}

/// Records what came of a lease. The schedule knows it already.
pub fn apply(ledger: &mut Ledger, attempted: &Attempted, outcome: &Outcome, settled: &Settled, clock: Clock) {
    let (mut results, mut failures) = (Vec::new(), Vec::new());
    let (mut successes, mut relays, mut delays) = (Vec::new(), Vec::new(), Vec::new());
    for one in &outcome.settled {
        let Some(recipient) = recipient(&attempted.state, one.index) else { continue };
        trace::settled(attempted, recipient, one, outcome, settled.attempts, clock);
        let diagnostic = outcome.diagnostic(one);
        let failure = |diagnostic| Failure { index: one.index, diagnostic, at_ms: clock.wall_ms };
        match one.result {
            Result3::Delivered => {
                if Reporter::is_wanted(Kind::Success, recipient.notify) && !outcome.reports {
                    successes.push(failure(diagnostic.clone()));
                } else if outcome.relayed {
                    relays.push(failure(diagnostic.clone()));
                }
                results.push((one.index, RecipientState::Delivered(Some(diagnostic))));
            }
            Result3::Deferred if settled.expired.contains(&one.index) => {
                let diagnostic = Diagnostic { status: expired(&attempted.state), ..diagnostic };
                trace::given_up(attempted.id, recipient, &diagnostic);
                failures.push(failure(diagnostic));
            }
            Result3::Deferred => {
                delays.push(failure(diagnostic.clone()));
                results.push((one.index, waiting(settled, diagnostic, clock)));
            }
            Result3::Failed => failures.push(failure(diagnostic)),
        }
    }
    let Some(id) = settled.id else {
        let told = [(Kind::Success, successes), (Kind::Relay, relays)];
        return late(ledger, attempted, results, told, clock);
    };
    ledger.failures.add(id, &attempted.state, failures, clock);
    let told = Told { successes, relays, delays: if settled.warn { delays } else { Vec::new() } };
    record(ledger, id, &attempted.state, results, &told, settled.finished, clock);
    close_if_idle(ledger, id, clock);
}

/// The message was read anew while this lease was out: what was delivered must not be delivered again, as far as the
/// envelope is still the one that was leased.
fn late(
    ledger: &mut Ledger,
    attempted: &Attempted,
    results: Vec<(u32, RecipientState)>,
    told: [(Kind, Vec<Failure>); 2],
    clock: Clock,
) {
    let id = attempted.id;
    // What the store has is the state before a revision that is on its way, and may put recipients in another order:
    // rather deliver twice than take one recipient's delivery for another's.
    if ledger.store.is_leaving(id) || ledger.revising.contains(&id) {
        return;
    }
    let Ok(message) = ledger.store.message(id) else { return };
    let is_same = |index: u32| {
        let now = recipient(&message.state, index).map(|recipient| &recipient.address);
        now.is_some() && now == recipient(&attempted.state, index).map(|recipient| &recipient.address)
    };
    let delivered: Vec<(u32, RecipientState)> = results
        .into_iter()
        .filter(|(index, state)| matches!(state, RecipientState::Delivered(_)) && is_same(*index))
        .collect();
    if delivered.is_empty() {
        return;
    }
    let told = told.into_iter().filter_map(|(kind, mut list)| {
        list.retain(|one| delivered.iter().any(|(index, _)| *index == one.index));
        let draft = reports::draft(ledger, kind, id, &attempted.state, &list, clock)?;
        Some(Courtesy::on_arrival(id, draft))
    });
    let told = told.collect();
    // When all such leases have ended, and this is on disk, it is read once more.
    ledger.change_and_tell(Change::Outcome { id, results: delivered }, told, clock);
}

/// The state of a recipient that is tried again.
pub fn waiting(settled: &Settled, diagnostic: Diagnostic, clock: Clock) -> RecipientState {
    RecipientState::Waiting {
        attempts: u16::try_from(settled.attempts).unwrap_or(u16::MAX),
        until: clock.wall_ms.saturating_add(settled.retry_in_ms) / 1000,
        last: Some(diagnostic),
    }
}

/// Of whom the sender is told though they have not failed.
struct Told {
    successes: Vec<Failure>,
    relays: Vec<Failure>,
    delays: Vec<Failure>,
}

/// Commits deliveries and deferrals, or that the message is done.
fn record(
    ledger: &mut Ledger,
    id: QueueId,
    state: &Arc<MessageState>,
    results: Vec<(u32, RecipientState)>,
    told: &Told,
    finished: bool,
    clock: Clock,
) {
    let until_ms = end_ms(ledger, state);
    let is_late = !told.delays.is_empty() && !finished;
    // Composed while the message can still be read.
    let mut draft = |kind, told: &[Failure]| reports::draft(ledger, kind, id, state, told, clock);
    let arrived = [draft(Kind::Success, &told.successes), draft(Kind::Relay, &told.relays)];
    let late = if is_late { draft(Kind::Delay { until_ms }, &told.delays) } else { None };
    let is_late_for_nobody = is_late && late.is_none();
    let arrived = arrived.into_iter().flatten().map(|draft| Courtesy::on_arrival(id, draft));
    let told = arrived.chain(late.map(|draft| Courtesy::on_delay(id, draft))).collect();
    let closes = finished && ledger.failures.count(id) == 0;
    if closes {
        ledger.change_and_tell(Change::Remove { id, reason: RemoveReason::Settled }, told, clock);
        ledger.warm.forget(id);
        trace::removed(id, "settled", Some(state), clock);
    } else if !results.is_empty() {
        ledger.change_and_tell(Change::Outcome { id, results }, told, clock);
    }
    if is_late_for_nobody {
        note_delay(ledger, id);
    }
}

/// Nobody wanted to hear of a delay: it is not looked at again.
pub fn note_delay(ledger: &mut Ledger, id: QueueId) {
    if let Err(error) =
        ledger.commit(vec![courtesy::delay_reported(id)], Vec::new(), Urgency::Lazy, After::NOTHING)
    {
        trace::not_committed(id, &error);
    }
}

/// The status of a message whose lifetime is over. Where its client has said until when it is of use (BY= in mode R), that
/// is for good, and a status that lets a reader hope for another attempt would be wrong (RFC 2852).
pub fn expired(state: &MessageState) -> EnhancedCode {
    let terms = &state.envelope.terms;
    let by_s = terms.by.filter(|by| by.returns).and_then(|by| u32::try_from(by.seconds).ok());
    let is_by_client = by_s.is_some_and(|by_s| terms.lifetime_s.is_none_or(|lifetime_s| by_s <= lifetime_s));
    if is_by_client { EnhancedCode(5, EXPIRED.1, EXPIRED.2) } else { EXPIRED }
}

/// When the lifetime of a message ends, in milliseconds since 1970.
pub fn end_ms(ledger: &Ledger, state: &MessageState) -> u64 {
    let Timing { lifetime_ms, wait_ms, .. } = Timing::new(&state.envelope.terms, state.arrival_ms);
    let lifetime_ms = lifetime_ms.unwrap_or(ledger.settings.schedule.lifetime_ms);
    state.arrival_ms.saturating_add(wait_ms).saturating_add(lifetime_ms)
}

/// Reports and commits the failures of a message if nothing else of it is under way.
pub fn close_if_idle(ledger: &mut Ledger, id: QueueId, clock: Clock) {
    let count = ledger.failures.count(id);
    let is_busy = ledger.schedule.survey(id, clock.mono_ms).is_some_and(|survey| !survey.deferred);
    if count > 0 && (!is_busy || count >= GATHER_MOST) {
        close(ledger, id, clock);
    }
}

/// Reports and commits the failures of a message.
pub fn close(ledger: &mut Ledger, id: QueueId, clock: Clock) {
    let Some(gathered) = ledger.failures.take(id) else { return };
    let finished = !ledger.schedule.contains(id);
    let verdict = reports::on_failure(ledger, id, &gathered, clock);
    let (mut changes, fresh) = match verdict {
        reports::Verdict::Dead(why) if finished => {
            trace::dead(id, &why);
            let change = StateChange::Disposition(crate::store::Disposition::Dead(why));
            let after =
                After { tell: crate::ledger::Tell::Nobody, reload: crate::ledger::Reload::Always(id) };
            return ledger.change(Change::State { id, change }, Urgency::Durable, after, clock);
        }
        reports::Verdict::Dead(why) => {
            trace::dead(id, &why);
            (Vec::new(), None)
        }
        reports::Verdict::Later => return ledger.reload(id, crate::ledger::RELOAD_WAIT_MS, clock),
        reports::Verdict::Nobody => (Vec::new(), None),
        reports::Verdict::Tell(fresh) => (Vec::new(), Some(*fresh)),
    };
    changes.push(if finished {
        Change::Remove { id, reason: RemoveReason::Settled }
    } else {
        let results =
            gathered.list.into_iter().map(|one| (one.index, RecipientState::Failed(one.diagnostic)));
        Change::Outcome { id, results: results.collect() }
    });
    commit(ledger, id, changes, fresh.into_iter().collect(), clock);
    if finished {
        ledger.warm.forget(id);
        trace::removed(id, "settled", Some(&gathered.state), clock);
    }
}

fn commit(ledger: &mut Ledger, id: QueueId, changes: Vec<Change>, fresh: Vec<Fresh>, clock: Clock) {
    let urgency = if fresh.is_empty() { Urgency::Lazy } else { Urgency::Durable };
    if let Err(error) = ledger.commit(changes, fresh, urgency, After::or_reload(id)) {
        trace::not_committed(id, &error);
        ledger.reload(id, crate::ledger::RELOAD_WAIT_MS, clock);
    }
}

/// The recipient at a place of the envelope.
pub fn recipient(state: &MessageState, index: u32) -> Option<&Recipient> {
    usize::try_from(index).ok().and_then(|index| state.envelope.recipients.get(index))
}
