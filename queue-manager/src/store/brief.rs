//! The short form of a record: what the index and the schedule need of it, and nothing that has to be allocated to be
//! read. Sidecars are made of briefs; a scan of a segment makes the same briefs from the records themselves.

use super::codec::{Malformed, Put, Take};
use super::encode;
use super::layout::Kind;
use super::message::{MessageState, RecipientBrief, RecipientState, Settled, StateChange, Timing};
use super::terms;

/// What one record means for index and schedule.
#[derive(Debug)]
pub(super) enum Brief<'a> {
    /// Accept, copy and revision: all that was known of the message before is void.
    Message(MessageBrief<'a>),
    Outcome(Results<'a>),
    State(StateChange),
    Remove,
    Tail(u32),
}

/// The short form of a message.
#[derive(Debug, Clone)]
pub(super) struct MessageBrief<'a> {
    pub arrival_ms: u64,
    /// Octets of the stored body; 0 in a revision.
    pub stored_len: u64,
    /// Equal for equal senders.
    pub sender: u32,
    pub large: bool,
    pub marks: u8,
    pub disposition: u8,
    pub timing: Timing,
    pub recipients: Recipients<'a>,
}

/// Recipients of a brief, read one by one.
#[derive(Debug, Clone)]
pub(super) struct Recipients<'a> {
    pub count: u32,
    take: Take<'a>,
}

/// Results of a brief, read one by one.
#[derive(Debug, Clone)]
pub(super) struct Results<'a> {
    left: u32,
    take: Take<'a>,
}

const LARGE: u8 = 0x80;
/// The terms are not all the default.
const TIMED: u8 = 0x40;

/// Writes the brief of an accept, copy or revision.
pub(super) fn put_message(out: &mut Vec<u8>, state: &MessageState, stored_len: u64, large: bool) {
    out.put_u64(state.arrival_ms);
    out.put_u64(stored_len);
    out.put_u32(sender_hash(state));
    let timing = Timing::new(&state.envelope.terms, state.arrival_ms);
    let is_timed = timing != Timing::default();
    out.put_u8(state.marks.bits() | if large { LARGE } else { 0 } | if is_timed { TIMED } else { 0 });
    encode::put_disposition(out, &state.disposition);
    if is_timed {
        terms::put_timing(out, &timing);
    }
    out.put_u32(u32::try_from(state.envelope.recipients.len()).unwrap_or(u32::MAX));
    for (recipient, progress) in state.envelope.recipients.iter().zip(&state.progress) {
        let at = out.len();
        out.put_u16(0);
        encode::put_hop(out, &recipient.next_hop);
        let len = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX);
        if let Some(slot) = out.get_mut(at..at + 2) {
            slot.copy_from_slice(&len.to_le_bytes());
        }
        put_recipient(out, progress.brief());
    }
}

fn sender_hash(state: &MessageState) -> u32 {
    state.envelope.reverse_path.address().map_or(0, |address| {
        let local = crc32c::crc32c(address.local_part().as_bytes());
        crc32c::crc32c_append(local, address.domain().as_str().as_bytes())
    })
}

/// Writes the brief of an outcome.
pub(super) fn put_results(out: &mut Vec<u8>, results: &[(u32, RecipientState)]) {
    out.put_u32(u32::try_from(results.len()).unwrap_or(u32::MAX));
    for (at, state) in results {
        out.put_u32(*at);
        put_recipient(out, state.brief());
    }
}

fn put_recipient(out: &mut Vec<u8>, brief: RecipientBrief) {
    match brief.settled {
        None => {
            out.put_u8(0);
            out.put_u16(brief.attempts);
            out.put_u64(brief.until);
        }
        Some(Settled::Delivered) => out.put_u8(1),
        Some(Settled::Failed) => out.put_u8(2),
    }
}

fn take_recipient(take: &mut Take<'_>) -> Result<RecipientBrief, Malformed> {
    let settled = match take.u8()? {
        0 => return Ok(RecipientBrief { settled: None, attempts: take.u16()?, until: take.u64()? }),
        1 => Settled::Delivered,
        2 => Settled::Failed,
        _ => return Err(Malformed("brief recipient")),
    };
    Ok(RecipientBrief { settled: Some(settled), attempts: 0, until: 0 })
}

impl<'a> Brief<'a> {
    /// Reads the brief of a record of this kind.
    pub(super) fn take(kind: Kind, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut take = Take::new(bytes, "brief");
        Ok(match kind {
            Kind::Accept | Kind::Copy | Kind::Revision => {
                let (arrival_ms, stored_len, sender, flags) =
                    (take.u64()?, take.u64()?, take.u32()?, take.u8()?);
                let disposition = take.u8()?;
                take.str()?;
                let timing =
                    if flags & TIMED != 0 { terms::take_timing(&mut take)? } else { Timing::default() };
                let recipients = Recipients { count: take.u32()?, take };
                let (large, marks) = (flags & LARGE != 0, flags & !(LARGE | TIMED));
                Brief::Message(MessageBrief {
                    arrival_ms,
                    stored_len,
                    sender,
                    large,
                    marks,
                    disposition,
                    timing,
                    recipients,
                })
            }
            Kind::Outcome => Brief::Outcome(Results { left: take.u32()?, take }),
            Kind::State => Brief::State(encode::take_change(&mut take)?),
            Kind::Remove => Brief::Remove,
            Kind::Tail => Brief::Tail(take.u32()?),
        })
    }
}

impl<'a> Recipients<'a> {
    /// The next recipient: the octets of its hop, equal for equal hops, and its state.
    pub(super) fn next(&mut self) -> Result<Option<(&'a [u8], RecipientBrief)>, Malformed> {
        if self.count == 0 {
            return Ok(None);
        }
        self.count -= 1;
        let len = usize::from(self.take.u16()?);
        Ok(Some((self.take.bytes(len)?, take_recipient(&mut self.take)?)))
    }
}

impl Results<'_> {
    /// The next result: which recipient, and its state.
    pub(super) fn next(&mut self) -> Result<Option<(u32, RecipientBrief)>, Malformed> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        Ok(Some((self.take.u32()?, take_recipient(&mut self.take)?)))
    }
}
