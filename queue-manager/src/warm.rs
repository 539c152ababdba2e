//! Messages that were just accepted, composed and ready to go out, so that the first attempt reads no disk. Bounded by
//! octets; the oldest goes first. Losing one costs a read.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use vsmtp_mail::QueueId;

use crate::store::{BodyPart, MessageState};

/// Charged for each message besides its octets.
const ENTRY_COST: usize = 1024;
/// Charged for each recipient.
const RECIPIENT_COST: usize = 256;

/// A message with its octets.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Everything but the octets; its progress may be out of date.
    pub state: Arc<MessageState>,
    /// The octets as they go out.
    pub parts: Arc<Vec<BodyPart>>,
}

/// The cache.
#[derive(Debug, Default)]
pub struct Warm {
    limit: usize,
    used: usize,
    messages: HashMap<QueueId, Outgoing>,
    order: VecDeque<QueueId>,
}

impl Warm {
    /// An empty cache of so many octets.
    pub fn new(limit: usize) -> Self {
        Warm { limit, ..Warm::default() }
    }

    /// Another limit.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.shrink();
    }

    /// Keeps a message.
    pub fn insert(&mut self, id: QueueId, outgoing: Outgoing) {
        let cost = cost(&outgoing);
        if cost > self.limit {
            return;
        }
        match self.messages.insert(id, outgoing) {
            Some(old) => self.used -= self::cost(&old),
            None => self.order.push_back(id),
        }
        self.used += cost;
        self.shrink();
    }

    /// The message, if it is here.
    pub fn lookup(&self, id: QueueId) -> Option<Outgoing> {
        self.messages.get(&id).cloned()
    }

    /// Forgets a message that is gone or has changed.
    pub fn forget(&mut self, id: QueueId) {
        if let Some(old) = self.messages.remove(&id) {
            self.used -= cost(&old);
        }
        // Ids of those that were forgotten stay in the order, but never outnumber the others.
        if self.order.len() > 2 * self.messages.len() + 1024 {
            self.order.retain(|id| self.messages.contains_key(id));
        }
    }

    fn shrink(&mut self) {
        while self.used > self.limit {
            let Some(oldest) = self.order.pop_front() else { return };
            self.forget(oldest);
        }
    }
}

fn cost(outgoing: &Outgoing) -> usize {
    let octets: u64 = outgoing.parts.iter().map(BodyPart::len).sum();
    let octets = usize::try_from(octets).unwrap_or(usize::MAX);
    octets
        .saturating_add(ENTRY_COST)
        .saturating_add(RECIPIENT_COST * outgoing.state.envelope.recipients.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Chunk, Origin};
    use vsmtp_mail::{BodyType, Envelope, QueueIdMint, ReversePath};

    fn outgoing(octets: usize) -> Outgoing {
        let envelope = Envelope {
            reverse_path: ReversePath::Null,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            demands: vsmtp_mail::Demands::default(),
            terms: vsmtp_mail::Terms::default(),
            recipients: Vec::new(),
        };
        let state = Arc::new(MessageState::fresh(0, Origin::default(), envelope));
        Outgoing { state, parts: Arc::new(vec![BodyPart::Bytes(Chunk::from(vec![0; octets]))]) }
    }

    #[test]
    fn the_newest_stay_within_the_limit() {
        let (mut warm, mut mint) = (Warm::new(3 * (ENTRY_COST + 10)), QueueIdMint::new(0, 0));
        let ids: Vec<QueueId> = (0..5).map(|_| mint.next(1)).collect();
        for id in &ids {
            warm.insert(*id, outgoing(10));
        }
        let kept: Vec<bool> = ids.iter().map(|id| warm.lookup(*id).is_some()).collect();
        assert_eq!(kept, [false, false, true, true, true]);
        warm.insert(ids[0], outgoing(100_000));
        assert!(warm.lookup(ids[0]).is_none() && warm.lookup(ids[4]).is_some());
        for id in &ids {
            warm.forget(*id);
        }
        assert_eq!(warm.used, 0);
    }
}
