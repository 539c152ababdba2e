//! What a filter was asked about, and whether the message still is like that. Decides nothing and changes nothing.

use std::sync::Arc;

use vsmtp_ipc::edge::queue_filter::PostStage;
use vsmtp_mail::{QueueId, Recipient};

use crate::ledger::Ledger;
use crate::store::{MessageState, ReadError, RecipientState};

/// A recipient that is settled.
pub(super) type Done = (Recipient, RecipientState);

/// A question that has no answer yet.
pub(super) struct Asked {
    /// Edge of the filter.
    pub token: usize,
    /// The message.
    pub id: QueueId,
    /// Which rules.
    pub stage: PostStage,
    /// As it was asked about: with those recipients only that are not settled.
    pub state: Arc<MessageState>,
    /// The others.
    pub settled: Vec<Done>,
    /// Octets.
    pub size: u64,
}

impl Asked {
    /// True if something of the message is on its way to the disk, or an operator has had it requeued since: that must not be
    /// undone by a verdict on what was before.
    pub fn is_changing(&self, ledger: &Ledger) -> bool {
        ledger.store.is_busy(self.id) || ledger.rerouting.contains(&self.id) && !self.state.marks.reroute
    }

    /// True if the message is not what was asked about. To commit an edit would deliver once more to whoever has it by now,
    /// and to refuse it would report those as failed.
    ///
    /// # Errors
    /// The store does not tell.
    pub fn is_overtaken(&self, ledger: &Ledger) -> Result<bool, ReadError> {
        Ok(self.is_changing(ledger) || !self.is_about(ledger.store.message(self.id)?.state))
    }

    fn is_about(&self, now: MessageState) -> bool {
        let (open, settled) = unsettled(Arc::new(now));
        settled == self.settled
            && open.envelope.recipients == self.state.envelope.recipients
            && open.pieces == self.state.pieces
    }
}

/// The message with those recipients that can still be decided about, and the others. Usually there are none.
pub(super) fn unsettled(state: Arc<MessageState>) -> (Arc<MessageState>, Vec<Done>) {
    if !state.progress.iter().any(RecipientState::is_settled) {
        return (state, Vec::new());
    }
    let mut open = MessageState::clone(&state);
    let all =
        std::mem::take(&mut open.envelope.recipients).into_iter().zip(std::mem::take(&mut open.progress));
    let (settled, waiting): (Vec<_>, Vec<_>) = all.partition(|(_, progress)| progress.is_settled());
    (open.envelope.recipients, open.progress) = waiting.into_iter().unzip();
    (Arc::new(open), settled)
}

#[cfg(test)]
mod tests {
    use vsmtp_mail::{
        Address, BodyType, Demands, Envelope, MailboxFormat, NextHop, Notify, RecipientClass, ReversePath,
        Terms,
    };

    use super::*;
    use crate::store::{Origin, Piece};

    fn state() -> MessageState {
        let recipient = |address: &str| Recipient {
            chosen: false,
            address: Address::parse(address).unwrap(),
            original: None,
            notify: Notify::default(),
            class: RecipientClass::Other,
            next_hop: NextHop::Mailbox(MailboxFormat::Maildir),
        };
        let envelope = Envelope {
            reverse_path: ReversePath::Null,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            demands: Demands::default(),
            terms: Terms::default(),
            recipients: vec![recipient("a@dst.test"), recipient("b@dst.test")],
        };
        MessageState::fresh(0, Origin::default(), envelope)
    }

    #[test]
    fn a_verdict_is_about_the_recipients_that_waited_and_the_octets_as_they_were() {
        let changes: [fn(&mut MessageState); 4] = [
            |state| state.progress[1] = RecipientState::Delivered(None),
            |state| state.envelope.recipients[0].next_hop = NextHop::parse("smtp:other.test").unwrap(),
            |state| state.pieces = Some(vec![Piece::Inline(Box::default())]),
            |state| {
                state.envelope.recipients.pop();
                state.progress.pop();
            },
        ];
        let mut before = state();
        before.progress[0] = RecipientState::Delivered(None);
        let id = QueueId::from_bytes([7; 16]);
        for state in [state(), before] {
            let (open, settled) = unsettled(Arc::new(state.clone()));
            let asked = Asked { token: 1, id, stage: PostStage::Postq, state: open, settled, size: 0 };
            let mut tried = state.clone();
            tried.progress[1] = RecipientState::Waiting { attempts: 3, until: 9, last: None };
            assert!(asked.is_about(state.clone()) && asked.is_about(tried));
            for change in changes {
                let mut now = state.clone();
                change(&mut now);
                assert!(!asked.is_about(now));
            }
        }
    }
}
