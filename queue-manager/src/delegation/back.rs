//! A message that somebody brings back: whether it is the one that is away, and how it takes the place of what was given
//! away. Nobody brings back what was not given, and nothing comes back twice.

use std::collections::HashSet;

use vsmtp_ipc::edge::filter_queue::{Refusal, Returned};
use vsmtp_mail::{Address, BodyType, Envelope, QueueId, Token};

use super::standing;
use crate::ledger::{After, Clock, Fresh, Ledger, Reload, Tell};
use crate::schedule::Standing;
use crate::store::{
    Change, Delegation, Disposition, MessageState, Phase, ReadError, RecipientState, RemoveReason,
    SubmitError, Urgency,
};
use crate::trace;

/// What becomes of a message that somebody brings back.
pub enum Welcome {
    /// It goes on in place of that one.
    Take(Box<MessageState>),
    /// It is here already: who brings it had no answer the last time.
    Repeated,
}

/// Looks whether somebody may bring this back. Where others come in too, what is for anybody for whom the message was
/// not is no copy of it, whatever stands in its header: a copy is thrown away, and that must not happen to another
/// message.
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

#[cfg(test)]
pub(super) mod tests {
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
