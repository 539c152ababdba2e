//! Rebuilds the index and the schedule's facts from the log, record after record. Pure: it sees briefs and remembers
//! what they add up to.

use std::collections::HashMap;

use vsmtp_mail::{NextHop, QueueId};

use super::brief::{Brief, MessageBrief};
use super::codec::{Malformed, Take};
use super::encode;
use super::index::{Index, Known, LARGE, MANY, Slot};
use super::layout::Kind;
use super::message::{Disposition, Marks, RecipientBrief, StateChange, Timing};
use super::record::Location;

/// From this many recipients on, a message's state is rewritten more rarely.
pub(super) const MANY_RECIPIENTS: u32 = 64;

/// Whether a message is up for delivery, without the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DispositionKind {
    /// It is.
    #[default]
    Active,
    /// Stopped.
    Hold,
    /// Put aside.
    Quarantine,
    /// Nothing can be done with it.
    Dead,
    /// Given to a service, or back from it.
    Delegated,
}

impl From<&Disposition> for DispositionKind {
    fn from(disposition: &Disposition) -> Self {
        match disposition {
            Disposition::Active => DispositionKind::Active,
            Disposition::Hold(_) => DispositionKind::Hold,
            Disposition::Quarantine(_) => DispositionKind::Quarantine,
            Disposition::Dead(_) => DispositionKind::Dead,
            Disposition::Delegated(_) => DispositionKind::Delegated,
        }
    }
}

/// A number that stands for a next hop in [`Summaries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopNumber(pub u32);

/// What the schedule needs of one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecipientSummary {
    /// Its next hop.
    pub hop: HopNumber,
    /// How far it has come.
    pub state: RecipientBrief,
}

/// What the schedule needs of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: QueueId,
    /// When it was accepted, in milliseconds since 1970.
    pub arrival_ms: u64,
    /// Octets of the stored body.
    pub stored_len: u64,
    /// Equal for equal senders, 0 for the null sender.
    pub sender: u32,
    /// Whether it is up for delivery.
    pub disposition: DispositionKind,
    /// What has been done once.
    pub marks: Marks,
    /// What is asked of the schedule.
    pub timing: Timing,
    /// In the envelope's order.
    pub recipients: Vec<RecipientSummary>,
}

#[derive(Debug, Clone, Copy)]
struct Fact {
    arrival_ms: u64,
    stored_len: u64,
    sender: u32,
    recipients_at: u32,
    recipients: u32,
    disposition: DispositionKind,
    marks: Marks,
}

const NO_FACT: Fact = Fact {
    arrival_ms: 0,
    stored_len: 0,
    sender: 0,
    recipients_at: 0,
    recipients: 0,
    disposition: DispositionKind::Active,
    marks: Marks { judged: false, delay_reported: false, expired: false, reroute: false },
};

/// One recipient in 16 octets.
#[derive(Debug, Clone, Copy)]
struct Packed {
    hop: u32,
    /// Attempts, or `SETTLED` and how.
    attempts: u16,
    settled: u8,
    until: u64,
}

impl Packed {
    fn new(hop: u32, state: RecipientBrief) -> Self {
        use super::message::Settled;
        let settled = match state.settled {
            None => 0,
            Some(Settled::Delivered) => 1,
            Some(Settled::Failed) => 2,
        };
        Packed { hop, attempts: state.attempts, settled, until: state.until }
    }

    fn state(&self) -> RecipientBrief {
        use super::message::Settled;
        let settled = match self.settled {
            0 => None,
            1 => Some(Settled::Delivered),
            _ => Some(Settled::Failed),
        };
        RecipientBrief { settled, attempts: self.attempts, until: self.until }
    }
}

/// Facts of the log, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub index: Index,
    pub tail: u32,
    /// Records of messages that are not known: their first record is in a segment that is gone.
    pub strays: u64,
    facts: Vec<Fact>,
    /// Of the few messages of which something is asked.
    timings: HashMap<u32, Timing>,
    recipients: Vec<Packed>,
    hops: Vec<NextHop>,
    hop_numbers: HashMap<Box<[u8]>, u32>,
}

impl Replay {
    /// Takes the next record of the log.
    pub(super) fn record(
        &mut self,
        kind: Kind,
        id: QueueId,
        at: Location,
        span: u64,
        brief: &[u8],
    ) -> Result<(), Malformed> {
        match (Brief::take(kind, brief)?, self.index.find(id)) {
            (Brief::Tail(epoch), _) if epoch > at.epoch => return Err(Malformed("tail")),
            (Brief::Tail(epoch), _) => self.tail = self.tail.max(epoch),
            (Brief::Message(brief), found) if kind.is_base() => self.begin(id, found, at, span, brief)?,
            (_, None) => self.strays += 1,
            (Brief::Message(brief), Some(slot)) => {
                self.describe(slot, brief)?;
                self.latest(slot, at, Some(1));
            }
            (Brief::Outcome(mut results), Some(slot)) => {
                let fact = self.fact(slot);
                while let Some((which, state)) = results.next()? {
                    if which < fact.recipients
                        && let Some(packed) = self.recipients.get_mut((fact.recipients_at + which) as usize)
                    {
                        *packed = Packed::new(packed.hop, state);
                    }
                }
                self.latest(slot, at, None);
            }
            (Brief::State(change), Some(slot)) => {
                self.change(slot, &change);
                self.latest(slot, at, None);
            }
            (Brief::Remove, Some(slot)) => self.index.remove(slot),
        }
        Ok(())
    }

    fn begin(
        &mut self,
        id: QueueId,
        found: Option<Slot>,
        at: Location,
        span: u64,
        brief: MessageBrief<'_>,
    ) -> Result<(), Malformed> {
        let slot = found.unwrap_or_else(|| self.index.insert(Known::new(id)));
        let flags = if brief.large { LARGE } else { 0 }
            | if brief.recipients.count > MANY_RECIPIENTS { MANY } else { 0 };
        let stored_len = brief.stored_len;
        self.describe(slot, brief)?;
        self.fact_mut(slot).stored_len = stored_len;
        if let Some(known) = self.index.at_mut(slot) {
            known.base = at;
            known.units = u32::try_from(span / super::layout::ALIGN).unwrap_or(u32::MAX);
            known.flags = flags;
        }
        self.latest(slot, at, Some(0));
        Ok(())
    }

    fn latest(&mut self, slot: Slot, at: Location, chain: Option<u16>) {
        if let Some(known) = self.index.at_mut(slot) {
            known.last = at;
            known.chain = chain.unwrap_or(known.chain.saturating_add(1));
        }
    }

    fn describe(&mut self, slot: Slot, mut brief: MessageBrief<'_>) -> Result<(), Malformed> {
        let disposition = match brief.disposition {
            0 => DispositionKind::Active,
            1 => DispositionKind::Hold,
            2 => DispositionKind::Quarantine,
            3 => DispositionKind::Dead,
            4 => DispositionKind::Delegated,
            _ => return Err(Malformed("brief disposition")),
        };
        let marks = Marks::from_bits(brief.marks);
        let (recipients_at, recipients) = (self.recipients.len() as u32, brief.recipients.count);
        while let Some((hop, state)) = brief.recipients.next()? {
            let hop = self.hop_number(hop)?;
            self.recipients.push(Packed::new(hop, state));
        }
        if brief.timing == Timing::default() {
            self.timings.remove(&slot.0);
        } else {
            self.timings.insert(slot.0, brief.timing);
        }
        let stored_len = self.fact(slot).stored_len;
        *self.fact_mut(slot) = Fact {
            arrival_ms: brief.arrival_ms,
            stored_len,
            sender: brief.sender,
            recipients_at,
            recipients,
            disposition,
            marks,
        };
        Ok(())
    }

    fn change(&mut self, slot: Slot, change: &StateChange) {
        let fact = self.fact_mut(slot);
        fact.marks.change(change);
        match change {
            StateChange::Disposition(disposition) => fact.disposition = disposition.into(),
            StateChange::Expire | StateChange::DelayReported | StateChange::Judged => {}
            StateChange::Requeue => {
                fact.disposition = DispositionKind::Active;
                let (from, count) = (fact.recipients_at as usize, fact.recipients as usize);
                for packed in self.recipients.iter_mut().skip(from).take(count) {
                    if packed.settled == 0 {
                        (packed.attempts, packed.until) = (0, 0);
                    }
                }
            }
        }
    }

    fn hop_number(&mut self, octets: &[u8]) -> Result<u32, Malformed> {
        if let Some(number) = self.hop_numbers.get(octets) {
            return Ok(*number);
        }
        let mut take = Take::new(octets, "next hop");
        let hop = encode::take_hop(&mut take)?;
        take.end()?;
        let number = self.hops.len() as u32;
        self.hops.push(hop);
        self.hop_numbers.insert(octets.into(), number);
        Ok(number)
    }

    fn fact(&self, slot: Slot) -> Fact {
        self.facts.get(slot.0 as usize).copied().unwrap_or(NO_FACT)
    }

    fn fact_mut(&mut self, slot: Slot) -> &mut Fact {
        let at = slot.0 as usize;
        if at >= self.facts.len() {
            self.facts.resize(at + 1, NO_FACT);
        }
        &mut self.facts[at]
    }

    /// Forgets messages that begin in a segment before this epoch.
    pub(super) fn drop_before(&mut self, epoch: u32) {
        let dead: Vec<Slot> =
            self.index.iter().filter(|(_, known)| known.base.epoch < epoch).map(|(slot, _)| slot).collect();
        for slot in dead {
            self.index.remove(slot);
        }
    }

    /// Splits into the index, which stays, and the facts, which the schedule takes over.
    pub(super) fn finish(self) -> (Index, Summaries) {
        let live = self.index.iter().map(|(slot, known)| (known.id(), slot)).collect();
        let Replay { index, facts, timings, recipients, hops, .. } = self;
        let summaries = Summaries { live, next: 0, facts, timings, recipients, hops };
        (index, summaries)
    }
}

/// Every message that was in the queue at the start, in no order. Drop it when the schedule has been built.
#[derive(Debug, Default)]
pub struct Summaries {
    live: Vec<(QueueId, Slot)>,
    next: usize,
    facts: Vec<Fact>,
    timings: HashMap<u32, Timing>,
    recipients: Vec<Packed>,
    hops: Vec<NextHop>,
}

impl Summaries {
    /// The hop that a number stands for.
    pub fn hop(&self, number: HopNumber) -> Option<&NextHop> {
        self.hops.get(number.0 as usize)
    }

    /// All hops, in the order of their numbers.
    pub fn hops(&self) -> &[NextHop] {
        &self.hops
    }

    /// Messages that are still to come.
    pub fn remaining(&self) -> usize {
        self.live.len() - self.next
    }
}

impl Iterator for Summaries {
    type Item = Summary;

    fn next(&mut self) -> Option<Summary> {
        let (id, slot) = *self.live.get(self.next)?;
        self.next += 1;
        let fact = self.facts.get(slot.0 as usize).copied().unwrap_or(NO_FACT);
        let packed = self.recipients.iter().skip(fact.recipients_at as usize).take(fact.recipients as usize);
        let recipients = packed
            .map(|packed| RecipientSummary { hop: HopNumber(packed.hop), state: packed.state() })
            .collect();
        Some(Summary {
            id,
            arrival_ms: fact.arrival_ms,
            stored_len: fact.stored_len,
            sender: fact.sender,
            disposition: fact.disposition,
            marks: fact.marks,
            timing: self.timings.get(&slot.0).copied().unwrap_or_default(),
            recipients,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_beyond_its_own_segment_frees_nothing() {
        let mut replay = Replay::default();
        let (nobody, at) = (QueueId::from_bytes([0; 16]), Location::at(3, 4096));
        assert!(replay.record(Kind::Tail, nobody, at, 64, &4u32.to_le_bytes()).is_err());
        assert_eq!(replay.tail, 0);
        assert!(replay.record(Kind::Tail, nobody, at, 64, &3u32.to_le_bytes()).is_ok());
        assert_eq!(replay.tail, 3);
    }
}
