//! Messages that are given to a service (a content filter) and come back: from the verdict that says so to the rules that go
//! on. The message is in this queue all the while, in a state of its own; what the service has is a copy. So nothing that a
//! service does, or that dies, can lose it, and the secret that goes with it is used up once, so it does not go on twice.
//!
//! On failure: a service that fails or keeps silent is asked again until the lifetime ends, or done without, as it was
//! declared; what it refuses for good fails, and the sender is told.

mod back;
mod brought;
mod words;

use std::sync::Arc;

use vsmtp_ipc::edge::queue_deliver::Result3;
use vsmtp_mail::QueueId;

use crate::ledger::{After, Clock, Ledger, Tell, Turns};
use crate::notice;
use crate::outcome::{self, Attempted, Failure, One, Outcome};
use crate::schedule::{Settled, Standing};
use crate::store::{
    Change, Delegation, Diagnostic, Disposition, MessageState, Phase, RecipientState, StateChange, Text,
    Urgency,
};
use crate::trace;

pub use back::{Welcome, take_back, welcome};
pub use brought::Brought;
pub use words::{as_a_whole, attempt, begun, fresh_token, parts, resume};

/// Takes what a service said. The schedule has put the message off meanwhile, or found its lifetime over.
pub fn settle(
    ledger: &mut Ledger,
    attempted: &Attempted,
    outcome: &Outcome,
    (one, settled): (&One, &Settled),
    clock: Clock,
) {
    let id = attempted.id;
    let Some((state, delegation)) = with_service(ledger, id, attempted.state.disposition.delegation(), clock)
    else {
        // It is back, or an operator has dealt with it.
        if settled.finished && !ledger.is_changing(id) {
            ledger.reload(id, 0, clock);
        }
        return;
    };
    if settled.id.is_none() {
        return;
    }
    trace::service_said(attempted, &delegation, one, outcome, clock);
    let diagnostic = outcome.diagnostic(one);
    match one.result {
        Result3::Delivered => {
            let until = clock.wall_ms / 1000 + u64::from(delegation.return_within_s);
            let away = Delegation { phase: Phase::Away(until), ..delegation };
            advance(ledger, id, Disposition::Delegated(Box::new(away)), None, Urgency::Lazy, clock);
        }
        Result3::Failed => fail(ledger, id, &state, &diagnostic, clock),
        Result3::Deferred if delegation.open => skip(ledger, id, delegation, one.text.as_str(), clock),
        Result3::Deferred if settled.expired.contains(&one.index) => {
            fail(ledger, id, &state, &Diagnostic { status: outcome::expired(&state), ..diagnostic }, clock);
        }
        Result3::Deferred => {
            if settled.warn {
                notice::warn(ledger, id, one.text.as_str(), clock);
            }
            let waiting = outcome::waiting(settled, diagnostic, clock);
            let change = Change::Outcome { id, results: vec![(one.index, waiting)] };
            ledger.change(change, Urgency::Lazy, After::or_reload(id), clock);
        }
    }
}

/// Whose turn it is with a message that the schedule wants to send to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The service gets it.
    Go,
    /// The service has it, and has time left.
    Wait,
    /// The service has had its time.
    Over,
}

/// Looks whose turn it is. `None` if no service has to do with it now.
pub fn turn(one: &Delegation, clock: Clock) -> Option<Turn> {
    match one.phase {
        Phase::Out => Some(Turn::Go),
        Phase::Away(until) if until.saturating_mul(1000) > clock.wall_ms => Some(Turn::Wait),
        Phase::Away(_) => Some(Turn::Over),
        Phase::Back | Phase::Skipped => None,
    }
}

/// A service has had its time, and has brought nothing back: it is asked once more, or done without. The secret is the same: a service
/// that is only slow must get something through, and what it brings first counts.
pub fn overdue(ledger: &mut Ledger, id: QueueId, seen: &MessageState, clock: Clock) {
    let Some((state, delegation)) = with_service(ledger, id, seen.disposition.delegation(), clock) else {
        if !ledger.is_changing(id) {
            ledger.reload(id, 0, clock);
        }
        return;
    };
    let why = "the service has not brought the message back in time";
    trace::not_brought_back(id, &delegation);
    if delegation.open {
        return skip(ledger, id, delegation, why, clock);
    }
    let is_null = state.envelope.reverse_path.address().is_none();
    let usual_ms = state.arrival_ms.saturating_add(ledger.settings.schedule.lifetime_of(is_null));
    let end_ms = outcome::end_ms(ledger, &state);
    if clock.wall_ms >= if is_null { end_ms.min(usual_ms) } else { end_ms } {
        let status = outcome::expired(&state);
        let diagnostic = Diagnostic { status, remote: None, text: why.into() };
        return fail(ledger, id, &state, &diagnostic, clock);
    }
    let again = Disposition::Delegated(Box::new(Delegation { phase: Phase::Out, ..delegation }));
    advance(ledger, id, again, None, Urgency::Durable, clock);
}

/// Nobody is there who could take it, as attempts of others show.
pub fn unserved(ledger: &mut Ledger, id: QueueId, reason: &str, clock: Clock) {
    let Ok(message) = ledger.store.message(id) else { return };
    let is_due = |one: &&Delegation| matches!(turn(one, clock), Some(Turn::Go | Turn::Over));
    let delegation = message.state.disposition.delegation().filter(is_due).filter(|one| one.open);
    if let Some(delegation) = delegation.cloned()
        && is_delegated(ledger, id, clock)
        && !ledger.store.is_leaving(id)
    {
        skip(ledger, id, delegation, reason, clock);
    }
}

/// Goes on behind the directive with a message whose time ends, if it was declared so. The schedule has forgotten it.
pub fn is_done_without(
    ledger: &mut Ledger,
    id: QueueId,
    state: &MessageState,
    reason: &str,
    clock: Clock,
) -> bool {
    let one = state.disposition.delegation().filter(|one| one.is_with_service() && one.open);
    let Some(delegation) = one.cloned() else { return false };
    if !ledger.is_changing(id) && !ledger.store.is_leaving(id) {
        skip(ledger, id, delegation, reason, clock);
    }
    true
}

/// The rules have seen all of a message that was with a service, or there are none any more: the changes that say so, and
/// how the message stands then. What a rule before the directive has held stays held.
pub fn over(ledger: &mut Ledger, id: QueueId) -> (Vec<Change>, Standing) {
    if !ledger.resuming.remove(&id) {
        return (Vec::new(), Standing::Active);
    }
    let state = ledger.store.message(id).ok().map(|message| message.state);
    let hold = state.and_then(|state| state.disposition.delegation().and_then(|one| one.hold.clone()));
    // What the cache knows of it is that it is delegated.
    ledger.warm.forget(id);
    let standing = if hold.is_some() { Standing::Held } else { Standing::Active };
    (vec![Change::State { id, change: StateChange::Disposition(held(hold)) }], standing)
}

/// Held for a reason, if there is one; rules that give none have theirs.
fn held(reason: Option<Text>) -> Disposition {
    match reason {
        None => Disposition::Active,
        Some(reason) if reason.as_str().is_empty() => Disposition::Hold("by policy".into()),
        Some(reason) => Disposition::Hold(reason),
    }
}

/// True if the rules of today give nothing to that service at that directive.
pub fn is_gone(ledger: &Ledger, one: &Delegation) -> bool {
    let is_it = |(directive, address): &(String, std::net::SocketAddr)| {
        *directive == *one.directive && *address == one.address
    };
    ledger.delegates.as_ref().is_some_and(|all| !all.iter().any(is_it))
}

/// The rules of today judge a message that is due for a service of former rules. What that one still brings is a copy.
pub fn begin_anew(ledger: &mut Ledger, id: QueueId, seen: &MessageState, clock: Clock) {
    let Some((state, delegation)) = with_service(ledger, id, seen.disposition.delegation(), clock) else {
        if !ledger.is_changing(id) {
            ledger.reload(id, 0, clock);
        }
        return;
    };
    trace::begun_anew(id, &delegation);
    ledger.brought.note(delegation.token, &state.envelope);
    // Where there are rules, they say again what is to be held.
    let hold = delegation.hold.filter(|_| !ledger.wants_judgement());
    let first = unsettled(&state).first().copied();
    advance(ledger, id, held(hold), first, Urgency::Durable, clock);
}

/// Places in the envelope of those who are not settled.
pub fn unsettled(state: &MessageState) -> Vec<u32> {
    let all = (0u32..).zip(&state.progress);
    all.filter(|(_, progress)| !progress.is_settled()).map(|(index, _)| index).collect()
}

/// Goes on behind the directive, as if it were not there.
fn skip(ledger: &mut Ledger, id: QueueId, delegation: Delegation, why: &str, clock: Clock) {
    trace::done_without(id, &delegation, why);
    // The attempts were the service's.
    let state = ledger.store.message(id).map(|message| message.state);
    let first = state.ok().and_then(|state| unsettled(&state).first().copied());
    let skipped = Disposition::Delegated(Box::new(Delegation { phase: Phase::Skipped, ..delegation }));
    advance(ledger, id, skipped, first, Urgency::Durable, clock);
}

/// Commits how far it has come. Nothing is tried until that is done; then the message is read anew.
fn advance(
    ledger: &mut Ledger,
    id: QueueId,
    disposition: Disposition,
    forget_attempts_of: Option<u32>,
    urgency: Urgency,
    clock: Clock,
) {
    ledger.schedule.set_standing(id, Standing::Held);
    let is_theirs = disposition.delegation().is_some_and(Delegation::is_with_service);
    let turns = if is_theirs { Turns::ToService } else { Turns::FromService };
    let mut changes = vec![Change::State { id, change: StateChange::Disposition(disposition) }];
    if let Some(index) = forget_attempts_of {
        changes.push(Change::Outcome { id, results: vec![(index, RecipientState::FRESH)] });
    }
    if let Err(error) = ledger.commit_alone(id, changes, urgency, (turns, Tell::Nobody)) {
        trace::not_committed(id, &error);
        ledger.reload(id, crate::ledger::RELOAD_WAIT_MS, clock);
    }
}

/// Every recipient that is not settled fails, and the sender is told.
fn fail(ledger: &mut Ledger, id: QueueId, state: &Arc<MessageState>, diagnostic: &Diagnostic, clock: Clock) {
    ledger.schedule.remove(id);
    let indexes = unsettled(state);
    for recipient in indexes.iter().filter_map(|index| outcome::recipient(state, *index)) {
        trace::given_up(id, recipient, diagnostic);
    }
    let failure = |index: u32| Failure { index, diagnostic: diagnostic.clone(), at_ms: clock.wall_ms };
    ledger.failures.add(id, state, indexes.into_iter().map(failure).collect(), clock);
    outcome::close(ledger, id, clock);
}

/// The message as the store has it, if it is still the service's turn, and under the same secret.
fn with_service(
    ledger: &Ledger,
    id: QueueId,
    seen: Option<&Delegation>,
    clock: Clock,
) -> Option<(Arc<MessageState>, Delegation)> {
    // The outcome of a lease settles all that the schedule has, so the message may be gone there.
    let is_elsewhere = standing(ledger, id, clock).is_some_and(|now| now != Standing::Delegated);
    if ledger.store.is_leaving(id) || ledger.is_changing(id) || is_elsewhere {
        return None;
    }
    let state = ledger.store.message(id).ok()?.state;
    let delegation = state.disposition.delegation().filter(|one| one.is_with_service())?.clone();
    seen.is_some_and(|seen| seen.token.is(delegation.token)).then(|| (Arc::new(state), delegation))
}

fn is_delegated(ledger: &Ledger, id: QueueId, clock: Clock) -> bool {
    standing(ledger, id, clock) == Some(Standing::Delegated) && !ledger.is_changing(id)
}

fn standing(ledger: &Ledger, id: QueueId, clock: Clock) -> Option<Standing> {
    ledger.schedule.survey(id, clock.mono_ms).map(|survey| survey.standing)
}
