//! From a transaction to octets: checks it against the index and the limits, and writes its records but for their
//! place. Either everything is noted and sent, or nothing.

use vsmtp_mail::{MAX_RECIPIENTS, QueueId};

use super::body::Chunk;
use super::index::{Known, LARGE, LEAVING, MANY};
use super::janitor::Job;
use super::layout::{Kind, MAX_INLINE_BODY, MAX_META, MAX_TRANSACTION_RECORDS, SEGMENT_BLOCK};
use super::log::Prepared;
use super::message::{MAX_PIECES, MessageState, Piece};
use super::record::{Draft, DraftBody, Location};
use super::replay::MANY_RECIPIENTS;
use super::staging::StagedBody;
use super::transaction::{Change, NewBody, SubmitError, Ticket, Transaction, Urgency};
use super::{Store, Waiting};

/// Records of a message after which its whole state is written again.
const MAX_CHAIN: u16 = 32;
/// The same for a message of many recipients, whose state is long.
const MAX_CHAIN_MANY: u16 = 512;

/// What a transaction turns into.
#[derive(Default)]
struct Work {
    drafts: Vec<Draft>,
    staged: Vec<StagedBody>,
    bodies: Vec<(QueueId, Vec<Chunk>)>,
    /// Flags of the messages that begin.
    begins: Vec<(QueueId, u8)>,
    removes_large: bool,
}

pub(super) fn submit(store: &mut Store, transaction: Transaction) -> Result<Ticket, SubmitError> {
    let Transaction { changes, urgency } = transaction;
    if changes.is_empty() {
        return Err(SubmitError::Empty);
    }
    if changes.len() > MAX_TRANSACTION_RECORDS {
        return Err(SubmitError::TooLarge);
    }
    let mut work = Work::default();
    for change in changes {
        draft(store, change, &mut work)?;
    }
    let accepts = !work.begins.is_empty();
    let span: u64 = work.drafts.iter().map(Draft::span).sum();
    let fits = span <= store.options.segment_bytes - 2 * SEGMENT_BLOCK
        && work.drafts.iter().all(|draft| draft.meta().len() <= MAX_META);
    if !fits {
        return Err(SubmitError::TooLarge);
    }
    if accepts && store.in_flight_bytes >= store.options.max_in_flight_bytes {
        return Err(SubmitError::Busy);
    }
    if accepts && store.is_full(span) {
        return Err(SubmitError::Full);
    }
    let urgency = match urgency {
        _ if accepts => Urgency::Durable,
        // The body's file goes when the removal is reported: by then it must be durable.
        Urgency::Lazy if work.removes_large => Urgency::Background,
        other => other,
    };
    Ok(send(store, work, urgency, accepts, false))
}

/// Sends records of the store's own.
pub(super) fn send_internal(store: &mut Store, draft: Draft) -> Ticket {
    let work = Work { drafts: vec![draft], ..Work::default() };
    send(store, work, Urgency::Background, false, true)
}

fn send(store: &mut Store, work: Work, urgency: Urgency, accepts: bool, internal: bool) -> Ticket {
    let ticket = Ticket(store.next_ticket);
    store.next_ticket += 1;
    for (id, flags) in &work.begins {
        let mut known = Known::new(*id);
        known.flags = *flags;
        store.index.insert(known);
    }
    let changes: Vec<_> = work.drafts.iter().map(|draft| (draft.kind, draft.id)).collect();
    for (kind, id) in &changes {
        let Some(slot) = store.index.find(*id) else { continue };
        store.index.set_out(slot);
        if *kind == Kind::Remove
            && let Some(known) = store.index.at_mut(slot)
        {
            known.flags |= LEAVING;
        }
    }
    let prepared = Prepared::new(ticket, urgency, accepts, work.drafts, store.seen_batch);
    let weight = prepared.weight();
    store.in_flight_bytes += weight;
    store.waiting.insert(ticket, Waiting { weight, changes, bodies: work.bodies, internal });
    if work.staged.is_empty() {
        store.engine.commit(prepared);
    } else {
        store.engine.job(Job::Publish(work.staged, prepared));
    }
    ticket
}

fn draft(store: &Store, change: Change, work: &mut Work) -> Result<(), SubmitError> {
    match change {
        Change::Accept { id, state, body } => return accept(store, id, &state, body, work),
        Change::Revise { id, state } => {
            present(store, id)?;
            check_state(&state)?;
            work.drafts.push(Draft::revision(id, &state));
        }
        Change::Outcome { id, results } => {
            let known = present(store, id)?;
            if results.len() > MAX_RECIPIENTS {
                return Err(SubmitError::TooLarge);
            }
            let collapsed = collapse(store, id, &known, |state| state.apply(&results));
            work.drafts.push(collapsed.unwrap_or_else(|| Draft::outcome(id, known.last, &results)));
        }
        Change::State { id, change } => {
            let known = present(store, id)?;
            let collapsed = collapse(store, id, &known, |state| state.change(&change));
            work.drafts.push(collapsed.unwrap_or_else(|| Draft::state(id, known.last, &change)));
        }
        Change::Remove { id, reason } => {
            let known = present(store, id)?;
            work.removes_large |= known.is(LARGE);
            work.drafts.push(Draft::remove(id, reason));
        }
    }
    Ok(())
}

fn accept(
    store: &Store,
    id: QueueId,
    state: &MessageState,
    body: NewBody,
    work: &mut Work,
) -> Result<(), SubmitError> {
    if store.contains(id) || work.begins.iter().any(|(other, _)| *other == id) {
        return Err(SubmitError::Duplicate(id));
    }
    check_state(state)?;
    let many = if state.progress.len() as u32 > MANY_RECIPIENTS { MANY } else { 0 };
    let (body, flags, len) = match body {
        NewBody::Inline(chunks) => {
            let len: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
            if len > MAX_INLINE_BODY as u64 {
                return Err(SubmitError::TooLarge);
            }
            work.bodies.push((id, chunks.clone()));
            (DraftBody::Inline(chunks), many, len)
        }
        NewBody::Staged(staged) => {
            if staged.id() != id {
                return Err(SubmitError::Empty);
            }
            let (reference, len) = (staged.reference(), staged.len());
            work.staged.push(staged);
            (DraftBody::Large(reference), many | LARGE, len)
        }
    };
    check_pieces(state, len)?;
    work.drafts.push(Draft::message(Kind::Accept, id, state, body));
    work.begins.push((id, flags));
    Ok(())
}

fn present(store: &Store, id: QueueId) -> Result<Known, SubmitError> {
    let known = store.index.find(id).and_then(|slot| store.index.at(slot)).copied();
    known
        .filter(|known| known.base != Location::NOWHERE && !known.is(LEAVING))
        .ok_or(SubmitError::Unknown(id))
}

fn check_state(state: &MessageState) -> Result<(), SubmitError> {
    let recipients = state.envelope.recipients.len();
    if recipients == 0 || state.progress.len() != recipients {
        return Err(SubmitError::Empty);
    }
    let pieces = state.pieces.as_ref().map_or(0, Vec::len);
    if recipients > MAX_RECIPIENTS || pieces > MAX_PIECES { Err(SubmitError::TooLarge) } else { Ok(()) }
}

fn check_pieces(state: &MessageState, len: u64) -> Result<(), SubmitError> {
    let inside = |piece: &Piece| match piece {
        Piece::Inline(_) => true,
        Piece::Stored { offset, len: part } => offset.checked_add(*part).is_some_and(|end| end <= len),
    };
    if state.pieces.iter().flatten().all(inside) { Ok(()) } else { Err(SubmitError::Empty) }
}

/// Instead of one more change, the whole state, if there have been many changes and nothing is on its way.
fn collapse(
    store: &Store,
    id: QueueId,
    known: &Known,
    change: impl FnOnce(&mut MessageState),
) -> Option<Draft> {
    let limit = if known.is(MANY) { MAX_CHAIN_MANY } else { MAX_CHAIN };
    if known.chain < limit || known.is_busy() {
        return None;
    }
    let mut state = store.message(id).ok()?.state;
    change(&mut state);
    Some(Draft::revision(id, &state))
}
