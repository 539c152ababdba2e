//! Messages that are given to a service (a content filter) and come back: from the verdict that says so to the rules that go
//! on. The message is in this queue all the while, in a state of its own; what the service has is a copy. So nothing that a
//! service does, or that dies, can lose it, and the secret that goes with it is used up once, so it does not go on twice.
//!
//! On failure: a service that fails or keeps silent is asked again until the lifetime ends, or done without, as it was
//! declared; what it refuses for good fails, and the sender is told.

mod brought;

use std::collections::HashSet;
use std::sync::Arc;

use vsmtp_ipc::edge::filter_queue::{Delegate, Refusal, Returned};
use vsmtp_ipc::edge::queue_deliver::{Attempt, AttemptRecipient, MAX_LEASE_RECIPIENTS, Result3};
use vsmtp_ipc::edge::queue_filter::{PostStage, Resume};
use vsmtp_ipc::wire::{self, WireError};
use vsmtp_mail::{Address, BodyType, DelegationTicket, Envelope, MAX_DELEGATE_NAME, QueueId, Token};

use crate::intake::MAX_REASON;
use crate::ledger::{After, Clock, Fresh, Ledger, Reload, Tell, Turns};
use crate::notice;
use crate::outcome::{self, Attempted, Failure, One, Outcome};
use crate::schedule::{Settled, Standing};
use crate::store::{
    BodyPart, Change, Chunk, DelegatedAt, Delegation, Diagnostic, Disposition, MessageState, Phase,
    ReadError, RecipientState, RemoveReason, StateChange, SubmitError, Text, Urgency,
};
use crate::trace;

pub use brought::Brought;

/// Longest time that a service may take for one answer, in milliseconds.
const MAX_TIMEOUT_MS: u32 = 3_600_000;
/// Longest time that it may keep a message, in seconds.
const MAX_RETURN_S: u32 = 7 * 86_400;

/// A fresh secret; `None` if the kernel gives no randomness.
pub fn fresh_token() -> Option<Token> {
    let mut bytes = [0; Token::LEN];
    match vsmtp_sys::random::fill(&mut bytes) {
        Ok(()) => Some(Token::from_bytes(bytes)),
        Err(error) => {
            trace::trouble("no-randomness", &error);
            None
        }
    }
}

/// What a verdict says of it, checked.
///
/// # Errors
/// A field holds what it must not.
pub fn begun(wire: &Delegate, token: Token) -> Result<Disposition, WireError> {
    let stage = match wire.stage {
        PostStage::Postq => DelegatedAt::Postq,
        PostStage::Delivery => DelegatedAt::Delivery,
        PostStage::Routing | PostStage::Report => return Err(WireError("stage of a delegation")),
    };
    let is_clean = wire.directive.len() <= MAX_DELEGATE_NAME && !wire.directive.chars().any(char::is_control);
    let is_bounded = (1..=MAX_TIMEOUT_MS).contains(&wire.timeout_ms)
        && (1..=MAX_RETURN_S).contains(&wire.return_within_s)
        && wire.address.port() != 0
        && wire.hold.as_ref().is_none_or(|reason| wire::clean(reason, MAX_REASON));
    if !is_clean || !is_bounded {
        return Err(WireError("delegation"));
    }
    Ok(Disposition::Delegated(Box::new(Delegation {
        phase: Phase::Out,
        stage,
        directive: wire.directive.as_str().into(),
        token,
        address: wire.address,
        timeout_ms: wire.timeout_ms,
        return_within_s: wire.return_within_s,
        open: wire.open,
        hold: wire.hold.as_deref().map(Text::new),
    })))
}

/// Where the rules go on with a message, if it was with a service.
pub fn resume(state: &MessageState) -> Option<(PostStage, Resume)> {
    let one = state.disposition.delegation().filter(|one| !one.is_with_service())?;
    let stage = match one.stage {
        DelegatedAt::Postq => PostStage::Postq,
        DelegatedAt::Delivery => PostStage::Delivery,
    };
    let skip = one.phase == Phase::Skipped;
    let hold = one.hold.as_ref().map(|reason| reason.as_str().to_owned());
    Some((stage, Resume { directive: one.directive.to_string(), skip, hold }))
}

/// The octets for the service: the message with the field in front by which it is known again.
pub fn parts(id: QueueId, one: &Delegation, message: &[BodyPart]) -> Vec<BodyPart> {
    let ticket = DelegationTicket { id, token: one.token };
    let field = ticket.to_field(one.stage.name(), &one.directive).into_bytes();
    std::iter::once(BodyPart::Bytes(Chunk::from(field))).chain(message.iter().cloned()).collect()
}

/// The attempt for the service, from what it would be for a next hop. The service hears of the recipients as far as one
/// transaction goes, and nothing of reports: the message is still ours.
pub fn attempt(one: &Delegation, state: &MessageState, of_next_hop: Attempt) -> Attempt {
    let recipient = |(index, recipient): (u32, &vsmtp_mail::Recipient)| AttemptRecipient {
        index,
        address: recipient.address.to_string(),
        original: None,
        notify: vsmtp_mail::Notify::default().into(),
    };
    let recipients = unsettled(state)
        .into_iter()
        .filter_map(|index| Some((index, outcome::recipient(state, index)?)))
        .take(MAX_LEASE_RECIPIENTS);
    Attempt {
        next_hop: one.next_hop().to_string(),
        ret_full: None,
        envid: None,
        demands: wire::Demands::default(),
        by: None,
        recipients: recipients.map(recipient).collect(),
        service_ms: Some(one.timeout_ms),
        ..of_next_hop
    }
}

/// Places in the envelope of those who are not settled.
pub fn unsettled(state: &MessageState) -> Vec<u32> {
    let all = (0u32..).zip(&state.progress);
    all.filter(|(_, progress)| !progress.is_settled()).map(|(index, _)| index).collect()
}

/// What a service said of a message as a whole: it has it if it took it for anybody.
pub fn as_a_whole(outcome: &Outcome, index: u32) -> Option<One> {
    let of = |wanted: Result3| outcome.settled.iter().find(|one| one.result == wanted);
    let one = of(Result3::Delivered).or_else(|| of(Result3::Deferred)).or_else(|| of(Result3::Failed));
    one.map(|one| One { index, ..one.clone() })
}

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
            become_(ledger, id, Disposition::Delegated(Box::new(away)), None, Urgency::Lazy, clock);
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
    become_(ledger, id, again, None, Urgency::Durable, clock);
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

/// What becomes of a message that somebody brings back.
pub enum Welcome {
    /// It goes on in place of that one.
    Take(Box<MessageState>),
    /// It is here already: who brings it had no answer the last time.
    Repeated,
}

/// Looks whether somebody may bring this back. Where others come in too, what is for anybody for whom the message was not
/// is no copy of it, whatever stands in its header: a copy is thrown away, and that must not happen to another message.
///
/// # Errors
/// No message is away under that id and secret; or it cannot be told or taken now.
pub fn welcome(
    ledger: &Ledger,
    returned: Returned,
    brought: &Envelope,
    clock: Clock,
) -> Result<Welcome, Refusal> {
    let (id, token) = (QueueId::from(returned.id), Token::from_bytes(returned.token));
    if ledger.brought.has(token) {
        let is_copy = !returned.or_new || ledger.brought.has_for(token, brought);
        return if is_copy { Ok(Welcome::Repeated) } else { Err(Refusal::NotDelegated) };
    }
    // An operator's word about it, or ours, may be on its way to the disk.
    if ledger.store.is_leaving(id) || !ledger.may_return(id) || ledger.revising.contains(&id) {
        return Err(Refusal::Busy);
    }
    let message = match ledger.store.message(id) {
        Ok(message) => message,
        Err(ReadError::Disk(_)) => return Err(Refusal::Busy),
        Err(_) => return Err(Refusal::NotDelegated),
    };
    match message.state.disposition.delegation() {
        // An operator keeps it, or rules are to decide anew: it lives, and whoever brings it must not believe otherwise.
        None => Err(Refusal::Busy),
        Some(one) if !one.token.is(token) => Err(Refusal::NotDelegated),
        Some(_) if returned.or_new && !is_for_all(&message.state.envelope, brought) => {
            Err(Refusal::NotDelegated)
        }
        Some(one) if !one.is_with_service() => Ok(Welcome::Repeated),
        // While it is written down that the service has it, nothing is tried.
        Some(_) if ledger.is_changing(id) => Ok(Welcome::Take(Box::new(message.state))),
        Some(_) if standing(ledger, id, clock).is_some_and(|now| now != Standing::Delegated) => {
            Err(Refusal::Busy)
        }
        Some(_) => Ok(Welcome::Take(Box::new(message.state))),
    }
}

/// True if a message is for all to whom another one goes.
fn is_for_all(message: &Envelope, other: &Envelope) -> bool {
    let known: HashSet<&Address> = message.recipients.iter().map(|one| &one.address).collect();
    other.recipients.iter().all(|one| known.contains(&one.address))
}

/// Takes what was brought back in the place of what was given away, in one transaction: there is always exactly one of
/// them. It has the envelope and the origin of the old one, and the octets of the new one.
///
/// # Errors
/// It could not even be tried.
pub fn take_back(
    ledger: &mut Ledger,
    old: (QueueId, MessageState),
    mut fresh: Vec<Fresh>,
    tell: Tell,
    clock: Clock,
) -> Result<(), SubmitError> {
    let (old, before) = old;
    let Some(new) = fresh.first_mut() else { return Err(SubmitError::Empty) };
    let Some(delegation) = before.disposition.delegation().cloned() else { return Err(SubmitError::Empty) };
    new.state = successor(before, delegation.clone(), &new.state);
    let id = new.id;
    ledger.forget(old);
    let remove = Change::Remove { id: old, reason: RemoveReason::Settled };
    let after = After { tell, reload: Reload::OnFailure(old) };
    match ledger.commit(vec![remove], fresh, Urgency::Durable, after) {
        Ok(()) => {
            trace::brought_back(id, old, &delegation);
            Ok(())
        }
        Err(error) => {
            ledger.reload(old, 0, clock);
            Err(error)
        }
    }
}

/// The state of what was brought back.
fn successor(before: MessageState, delegation: Delegation, brought: &MessageState) -> MessageState {
    let mut state = before;
    let mut open = state.progress.iter().map(|progress| !progress.is_settled());
    state.envelope.recipients.retain(|_| open.next().unwrap_or(true));
    state.progress = vec![RecipientState::FRESH; state.envelope.recipients.len()];
    // What the service says of the octets is about those that it brings, but it may know less of them than we did.
    let width = |body: BodyType| match body {
        BodyType::SevenBit => 0,
        BodyType::EightBitMime => 1,
        BodyType::BinaryMime => 2,
    };
    if width(brought.envelope.body) > width(state.envelope.body) {
        state.envelope.body = brought.envelope.body;
    }
    state.envelope.smtputf8 |= brought.envelope.smtputf8;
    state.pieces.clone_from(&brought.pieces);
    state.disposition = Disposition::Delegated(Box::new(Delegation { phase: Phase::Back, ..delegation }));
    state
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
    become_(ledger, id, held(hold), first, Urgency::Durable, clock);
}

/// Goes on behind the directive, as if it were not there.
fn skip(ledger: &mut Ledger, id: QueueId, delegation: Delegation, why: &str, clock: Clock) {
    trace::done_without(id, &delegation, why);
    // The attempts were the service's.
    let state = ledger.store.message(id).map(|message| message.state);
    let first = state.ok().and_then(|state| unsettled(&state).first().copied());
    let skipped = Disposition::Delegated(Box::new(Delegation { phase: Phase::Skipped, ..delegation }));
    become_(ledger, id, skipped, first, Urgency::Durable, clock);
}

/// Commits how far it has come. Nothing is tried until that is done; then the message is read anew.
fn become_(
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

#[cfg(test)]
mod tests {
    use vsmtp_mail::{
        BodyType, Demands, MailboxFormat, NextHop, Notify, Recipient, RecipientClass, ReversePath, Terms,
    };

    use super::*;

    /// An envelope for these.
    pub fn envelope(to: &[&str]) -> Envelope {
        let recipient = |address: &&str| Recipient {
            chosen: false,
            address: Address::parse(address).unwrap(),
            original: None,
            notify: Notify::default(),
            class: RecipientClass::Other,
            next_hop: NextHop::Mailbox(MailboxFormat::Maildir),
        };
        Envelope {
            reverse_path: ReversePath::Null,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            demands: Demands::default(),
            terms: Terms::default(),
            recipients: to.iter().map(recipient).collect(),
        }
    }

    #[test]
    fn a_message_is_for_those_of_a_copy_and_perhaps_for_others() {
        let both = envelope(&["a@b.test", "c@d.test"]);
        assert!(is_for_all(&both, &envelope(&["c@d.test"])) && is_for_all(&both, &both));
        assert!(!is_for_all(&both, &envelope(&["e@f.test"])));
    }
}
