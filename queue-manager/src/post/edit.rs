//! What a verdict changes of a message, checked, and in terms of what the store has.

use std::sync::Arc;

use vsmtp_ipc::edge::filter_queue;
use vsmtp_ipc::wire::{self, WireError};
use vsmtp_mail::{Address, Envelope, Expanded, Notify, Token};

use super::Asked;
use crate::bounce::Notice;
use crate::delegation;
use crate::intake::{disposition, piece};
use crate::store::{MAX_PIECES, MessageState, Piece, RecipientState};

/// A checked edit.
pub(super) struct Edit {
    /// The message's next revision.
    pub state: MessageState,
    /// Aliases for several of which the sender wants to hear.
    pub expanded: Vec<Expanded>,
    /// Mails that rules want sent about it.
    pub notices: Vec<Notice>,
}

impl Edit {
    /// Checks it against what was asked about; the token is for a service, if one is to see the message.
    pub fn new(
        envelope: &wire::Envelope,
        (wanted, token): (&filter_queue::Disposition, Token),
        pieces: Vec<wire::Piece>,
        asked: &Asked,
    ) -> Result<Self, WireError> {
        let mut envelope = Envelope::try_from(envelope)?;
        // Who has it already does not get it once more, whatever it is routed by now.
        let has = |to: &Address| {
            let delivered = |progress: &RecipientState| matches!(progress, RecipientState::Delivered(_));
            asked.settled.iter().any(|(settled, progress)| settled.address == *to && delivered(progress))
        };
        envelope.recipients.retain(|recipient| !has(&recipient.address));
        wire::check_pieces(&pieces, asked.size)?;
        let mut state = (*asked.state).clone();
        state.progress = vec![RecipientState::FRESH; envelope.recipients.len()];
        for (recipient, progress) in &asked.settled {
            envelope.recipients.push(recipient.clone());
            state.progress.push(progress.clone());
        }
        state.envelope = envelope;
        state.disposition = match wanted {
            filter_queue::Disposition::Delegate(to) => delegation::begun(to, token)?,
            other => disposition(other)?,
        };
        let is_judged = state.disposition.delegation().is_none();
        (state.marks.judged, state.marks.reroute) = (is_judged, false);
        if !pieces.is_empty() {
            let laid = overlay(state.pieces.as_deref(), pieces.into_iter().map(piece));
            state.pieces = Some(laid);
        }
        if state.pieces.as_ref().is_some_and(|pieces| pieces.len() > MAX_PIECES) {
            return Err(WireError("number of pieces"));
        }
        Ok(Edit { state, expanded: Vec::new(), notices: Vec::new() })
    }
}

/// The message as the report on its refusal is to see it.
pub(super) fn reported(reports: wire::Reports, asked: &Asked) -> Result<Arc<MessageState>, WireError> {
    let mut state = MessageState::clone(&asked.state);
    if reports.suppressed {
        state.envelope.recipients.iter_mut().for_each(|recipient| recipient.notify = Notify::NEVER);
    }
    reports.put_into(&mut state.envelope.terms)?;
    Ok(Arc::new(state))
}

/// Pieces of the present revision in terms of the stored body.
fn overlay(present: Option<&[Piece]>, new: impl Iterator<Item = Piece>) -> Vec<Piece> {
    let Some(present) = present else { return new.collect() };
    let mut laid = Vec::new();
    for piece in new {
        match piece {
            Piece::Inline(bytes) => laid.push(Piece::Inline(bytes)),
            Piece::Stored { offset, len } => cut(present, offset, len, &mut laid),
        }
    }
    laid
}

/// The octets `offset..offset + len` of what the pieces make.
fn cut(pieces: &[Piece], mut offset: u64, mut len: u64, out: &mut Vec<Piece>) {
    for piece in pieces {
        let here = piece.len().saturating_sub(offset).min(len);
        if here > 0 {
            out.push(match piece {
                Piece::Stored { offset: from, .. } => Piece::Stored { offset: from + offset, len: here },
                Piece::Inline(bytes) => {
                    let start = usize::try_from(offset).unwrap_or(usize::MAX);
                    let end = start.saturating_add(usize::try_from(here).unwrap_or(usize::MAX));
                    Piece::Inline(bytes.get(start..end).unwrap_or_default().into())
                }
            });
        }
        len -= here;
        offset = offset.saturating_sub(piece.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Inline(text.as_bytes().into())
    }

    #[test]
    fn edits_of_edits_refer_to_the_stored_body() {
        let present = [text("Header\r\n"), Piece::Stored { offset: 100, len: 50 }];
        let new =
            [text("New\r\n"), Piece::Stored { offset: 6, len: 12 }, Piece::Stored { offset: 8, len: 50 }];
        assert_eq!(
            overlay(Some(&present), new.into_iter()),
            [
                text("New\r\n"),
                text("\r\n"),
                Piece::Stored { offset: 100, len: 10 },
                Piece::Stored { offset: 100, len: 50 }
            ]
        );
    }
}
