//! Pages of the queue, and all about one message. The order is that of the ids, so a page needs no memory of the one
//! before it.

use vsmtp_ipc::edge::ctl_queue::{Answer, Condition, Destination, Entry, EntryRecipient, PAGE, State};
use vsmtp_mail::QueueId;

use crate::ledger::{Clock, Ledger};
use crate::schedule::{self, Prospect, Standing, Survey};
use crate::store::{Delegation, Disposition, Message, ReadError, RecipientState, Timing};

/// Recipients that a list shows of each message.
pub const LISTED_RECIPIENTS: usize = 5;
/// Recipients that the view of one message shows.
const SHOWN_RECIPIENTS: usize = 1000;

/// A page of entries.
pub fn page(
    ledger: &Ledger,
    state: Option<State>,
    after: Option<QueueId>,
    limit: u32,
    clock: Clock,
) -> Answer {
    if ledger.is_loading() {
        return Answer::Failed("the queue is being loaded; try again in a moment".to_owned());
    }
    let limit = limit.clamp(1, PAGE) as usize;
    let wanted = |standing, deferred| state.is_none_or(|state| state_of(standing, deferred) == state);
    let ids = ledger.schedule.ids_after(after, limit, wanted);
    Answer::Page(ids.into_iter().map(|id| entry(ledger, id, LISTED_RECIPIENTS, true, clock)).collect())
}

/// All about one message.
pub fn show(ledger: &Ledger, id: QueueId, clock: Clock) -> Answer {
    if ledger.schedule.survey(id, clock.mono_ms).is_none() {
        return Answer::Failed(format!("message {id} is not in the queue"));
    }
    Answer::Shown(entry(ledger, id, SHOWN_RECIPIENTS, false, clock))
}

/// A page of next hops.
pub fn destinations(ledger: &Ledger, after: Option<u32>, limit: u32, clock: Clock) -> Answer {
    let found = ledger.schedule.prospects(after, limit.clamp(1, PAGE) as usize, clock.mono_ms);
    Answer::Destinations(found.into_iter().map(|found| destination(found, clock)).collect())
}

fn destination(found: Prospect, clock: Clock) -> Destination {
    let wall_ms = |at_ms: u64| clock.wall_ms.saturating_add(at_ms.saturating_sub(clock.mono_ms));
    Destination {
        number: found.number,
        next_hop: found.next_hop.to_string(),
        condition: match found.condition {
            schedule::Condition::Up => Condition::Up,
            schedule::Condition::Limited => Condition::Limited,
            schedule::Condition::Resting => Condition::Resting,
            schedule::Condition::Dead => Condition::Dead,
        },
        messages: found.messages,
        attempts: found.attempts,
        concurrency: found.concurrency,
        next_attempt_ms: found.next_ms.map_or(0, wall_ms),
        reason: found.reason.into(),
    }
}

/// In vsmtpctl's words.
pub fn state_of(standing: Standing, deferred: bool) -> State {
    match standing {
        Standing::Active if deferred => State::Deferred,
        Standing::Active | Standing::Judging | Standing::Stale => State::Active,
        Standing::Held => State::Held,
        Standing::Quarantined => State::Quarantined,
        Standing::Dead => State::Dead,
        Standing::Delegated => State::Delegated,
    }
}

fn entry(ledger: &Ledger, id: QueueId, recipients: usize, unsettled_only: bool, clock: Clock) -> Entry {
    let survey = ledger.schedule.survey(id, clock.mono_ms);
    let state = survey.map_or(State::Active, |survey| state_of(survey.standing, survey.deferred));
    let next_attempt_ms = survey.map_or(0, |survey| next_attempt(&survey, clock));
    let mut entry = Entry {
        id: id.into(),
        state,
        quarantine: String::new(),
        reason: String::new(),
        priority: 0,
        expires_ms: 0,
        size: 0,
        arrived_ms: id.minted_ms(),
        next_attempt_ms,
        reverse_path: String::new(),
        recipients: Vec::new(),
        recipients_total: survey.map_or(0, |survey| survey.unsettled),
    };
    match ledger.store.message(id) {
        Ok(message) => {
            fill(&mut entry, &message, recipients, unsettled_only);
            if state == State::Delegated {
                // In the schedule one stands for all.
                let open = message.state.progress.iter().filter(|progress| !progress.is_settled()).count();
                entry.recipients_total = u32::try_from(open).unwrap_or(u32::MAX);
            }
        }
        // It is listed all the same: nothing in the queue is invisible.
        Err(error) => entry.recipients.push(unreadable(&error)),
    }
    entry
}

fn next_attempt(survey: &Survey, clock: Clock) -> u64 {
    match (survey.standing, survey.next_ms) {
        (Standing::Active | Standing::Delegated, Some(next_ms)) => {
            clock.wall_ms.saturating_add(next_ms.saturating_sub(clock.mono_ms))
        }
        (Standing::Active | Standing::Delegated, None) => clock.wall_ms,
        _ => 0,
    }
}

/// What stands for the recipients of a message that cannot be read.
pub fn unreadable(error: &ReadError) -> EntryRecipient {
    EntryRecipient {
        address: String::new(),
        next_hop: String::new(),
        status: "unreadable".to_owned(),
        attempts: 0,
        diagnostic: error.to_string(),
    }
}

/// Puts down what is stored of a message: all but its state and its next attempt.
pub fn fill(entry: &mut Entry, message: &Message, recipients: usize, unsettled_only: bool) {
    let state = &message.state;
    entry.size = message.len();
    entry.arrived_ms = state.arrival_ms;
    entry.reverse_path = state.envelope.reverse_path.to_string();
    match &state.disposition {
        Disposition::Active | Disposition::Delegated(_) => {}
        Disposition::Quarantine(name) => entry.quarantine = name.to_string(),
        Disposition::Hold(reason) | Disposition::Dead(reason) => entry.reason = reason.to_string(),
    }
    let timing = Timing::new(&state.envelope.terms, state.arrival_ms);
    entry.priority = timing.priority.number();
    let begins_ms = state.arrival_ms.saturating_add(timing.wait_ms);
    entry.expires_ms = timing.lifetime_ms.map_or(0, |lifetime_ms| begins_ms.saturating_add(lifetime_ms));
    let shown = state
        .envelope
        .recipients
        .iter()
        .zip(&state.progress)
        .filter(|(_, progress)| !unsettled_only || !progress.is_settled());
    let service =
        state.disposition.delegation().filter(|one| one.is_with_service()).map(Delegation::next_hop);
    entry.recipients = shown
        .take(recipients)
        .map(|(recipient, progress)| {
            let (status, attempts, diagnostic) = status(progress);
            EntryRecipient {
                address: recipient.address.to_string(),
                next_hop: service.as_ref().unwrap_or(&recipient.next_hop).to_string(),
                status: status.to_owned(),
                attempts,
                diagnostic,
            }
        })
        .collect();
}

fn status(progress: &RecipientState) -> (&'static str, u32, String) {
    let text = |diagnostic: &crate::store::Diagnostic| diagnostic.text.to_string();
    match progress {
        RecipientState::Waiting { last: None, attempts, .. } => {
            ("waiting", u32::from(*attempts), String::new())
        }
        RecipientState::Waiting { last: Some(last), attempts, .. } => {
            ("deferred", u32::from(*attempts), text(last))
        }
        RecipientState::Delivered(last) => ("delivered", 0, last.as_ref().map(text).unwrap_or_default()),
        RecipientState::Failed(last) => ("failed", 0, text(last)),
    }
}
