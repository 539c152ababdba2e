//! How a delegation is said to others: what a verdict says of it, what the service gets, where the rules go on. Pure
//! but for the secret.

use vsmtp_ipc::edge::filter_queue::Delegate;
use vsmtp_ipc::edge::queue_deliver::{Attempt, AttemptRecipient, MAX_LEASE_RECIPIENTS, Result3};
use vsmtp_ipc::edge::queue_filter::{PostStage, Resume};
use vsmtp_ipc::wire::{self, WireError};
use vsmtp_mail::{DelegationTicket, MAX_DELEGATE_NAME, QueueId, Token};

use super::unsettled;
use crate::intake::MAX_REASON;
use crate::outcome::{self, One, Outcome};
use crate::store::{BodyPart, Chunk, DelegatedAt, Delegation, Disposition, MessageState, Phase, Text};
use crate::trace;

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

/// What a service said of a message as a whole: it has it if it took it for anybody.
pub fn as_a_whole(outcome: &Outcome, index: u32) -> Option<One> {
    let of = |wanted: Result3| outcome.settled.iter().find(|one| one.result == wanted);
    let one = of(Result3::Delivered).or_else(|| of(Result3::Deferred)).or_else(|| of(Result3::Failed));
    one.map(|one| One { index, ..one.clone() })
}
