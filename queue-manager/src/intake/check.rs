//! One submission, re-parsed into checked types whoever sent it.

use std::os::fd::OwnedFd;

use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::filter_queue::{self, NewMessage, Refusal, Returned};
use vsmtp_ipc::wire::{self, Body, MAX_INLINE_BODY, MAX_MEMFD_BODY, MAX_TEXT, WireError};
use vsmtp_mail::{Envelope, Expanded, MAX_WAIT_S, QueueId, Terms};
use vsmtp_sys::memfd::Sealed;

use super::staging::Stages;
use crate::bounce::{MAX_HEADER_RETURN, Notice};
use crate::ledger::{Clock, Fresh, Ledger};
use crate::reports;
use crate::store::{Chunk, Disposition, MessageState, NewBody, Origin, Piece, Staging, Text};

/// A message is at most so old when it is submitted, in milliseconds.
const LONGEST_SESSION_MS: u64 = 24 * 3_600_000;
/// Longest name of a quarantine.
const MAX_NAME: usize = 128;
/// Longest reason to hold a message.
pub const MAX_REASON: usize = 512;

/// A submission whose every field holds what it should.
pub struct Checked {
    id: QueueId,
    arrived_ms: u64,
    envelope: Envelope,
    origin: Origin,
    disposition: Disposition,
    judged: bool,
    expanded: Vec<Expanded>,
    notices: Vec<Notice>,
    pieces: Vec<Piece>,
    size: u64,
    bytes: Bytes,
    /// A service brings it back.
    pub returned: Option<Returned>,
}

enum Bytes {
    Here(Chunk),
    Staged(Staging),
    /// It went by chunks, but the staging file is gone: the disk failed, or the edge is a new one.
    Lost,
}

impl Checked {
    /// Checks everything.
    pub fn new(
        new: NewMessage,
        descriptor: Option<OwnedFd>,
        stages: &mut Stages,
        ledger: &Ledger,
    ) -> Result<Self, ChannelError> {
        let id = QueueId::from(new.id);
        let size = wire::check_pieces(&new.pieces, new.body.len())?;
        let most = ledger.settings.largest();
        if size > most || new.body.len() > most {
            return Err(WireError("size").into());
        }
        Ok(Checked {
            id,
            arrived_ms: new.arrived_ms,
            envelope: Envelope::try_from(&new.envelope)?,
            origin: origin(&new.origin)?,
            disposition: disposition(&new.disposition)?,
            judged: new.judged,
            expanded: wire::expanded(&new.expanded)?,
            notices: notices(&new.notices)?,
            pieces: new.pieces.into_iter().map(piece).collect(),
            size,
            bytes: bytes(id, new.body, descriptor, stages)?,
            returned: new.returned,
        })
    }

    /// Its id.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// From whom it comes and for whom it is.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The message as the store takes it, and behind it the report on aliases if one is due, and notices: there are not the
    /// ones without the other.
    pub fn into_fresh(self, ledger: &mut Ledger, clock: Clock) -> Result<Vec<Fresh>, Refusal> {
        let Checked { id, arrived_ms, envelope, origin, disposition, judged, pieces, size, bytes, .. } = self;
        let (expanded, notices) = (self.expanded, self.notices);
        // A receiver whose clock is wrong, or that lies, makes a message neither younger than now nor old.
        let arrived_ms = arrived_ms.clamp(clock.wall_ms.saturating_sub(LONGEST_SESSION_MS), clock.wall_ms);
        let mut state = MessageState::fresh(arrived_ms, origin, envelope);
        state.disposition = disposition;
        bound(&mut state.envelope.terms, clock);
        state.marks.judged = judged;
        let mut start = Vec::new();
        let (body, parts) = match bytes {
            Bytes::Lost => return Err(Refusal::Disk),
            Bytes::Here(chunk) => {
                let parts = compose(&chunk, &pieces);
                if !expanded.is_empty() {
                    start = parts
                        .iter()
                        .flat_map(|part| part.as_bytes())
                        .copied()
                        .take(MAX_HEADER_RETURN)
                        .collect();
                }
                state.pieces = (!pieces.is_empty()).then_some(pieces);
                (NewBody::Inline(vec![chunk]), Some(parts))
            }
            Bytes::Staged(staging) => {
                let staged = super::staging::compose(staging, id, &pieces, ledger)
                    .map_err(|error| super::staging::refusal(&error))?;
                if !expanded.is_empty() {
                    start = staged.start(MAX_HEADER_RETURN).unwrap_or_default();
                }
                (NewBody::Staged(staged.finish()), None)
            }
        };
        let told = reports::on_expansion(ledger, id, &state, Some((start, size)), &expanded, clock);
        let noticed = reports::notices(ledger, id, &state, &notices, clock);
        Ok(std::iter::once(Fresh { id, state, body, parts, size }).chain(told).chain(noticed).collect())
    }
}

/// Lays the pieces over the body; they were checked against its length.
fn compose(body: &Chunk, pieces: &[Piece]) -> Vec<Chunk> {
    if pieces.is_empty() {
        return vec![body.clone()];
    }
    let part = |piece: &Piece| match piece {
        Piece::Inline(bytes) => Some(Chunk::from(bytes.to_vec())),
        Piece::Stored { offset, len } => {
            let (start, len) = (usize::try_from(*offset).ok()?, usize::try_from(*len).ok()?);
            body.slice(start..start.checked_add(len)?)
        }
    };
    pieces.iter().filter_map(part).collect()
}

/// A piece in the store's words.
pub fn piece(piece: wire::Piece) -> Piece {
    match piece {
        wire::Piece::Text(text) => Piece::Inline(text.into()),
        wire::Piece::Original { offset, len } => Piece::Stored { offset, len },
    }
}

fn bytes(
    id: QueueId,
    body: Body,
    descriptor: Option<OwnedFd>,
    stages: &mut Stages,
) -> Result<Bytes, ChannelError> {
    match (body, descriptor) {
        (Body::Inline(bytes), _) if bytes.len() <= MAX_INLINE_BODY => Ok(Bytes::Here(Chunk::from(bytes))),
        (Body::Memfd(len), Some(fd)) if len <= MAX_MEMFD_BODY => {
            let sealed =
                Sealed::verify(fd, len).map_err(|error| ChannelError::Misbehaved(error.to_string()))?;
            let bytes = sealed.read_all(MAX_MEMFD_BODY).map_err(ChannelError::Io)?;
            Ok(Bytes::Here(Chunk::from(bytes)))
        }
        (Body::File(len), _) => match stages.take(id) {
            Some(staging) if staging.len() == len => Ok(Bytes::Staged(staging)),
            Some(_) => Err(WireError("length of the staged body").into()),
            None => Ok(Bytes::Lost),
        },
        _ => Err(WireError("body").into()),
    }
}

fn origin(wire: &wire::Origin) -> Result<Origin, WireError> {
    if [&wire.client, &wire.helo, &wire.protocol].iter().any(|text| text.len() > MAX_TEXT) {
        return Err(WireError("origin"));
    }
    Ok(Origin {
        session: Text::new(&wire.session.to_string()),
        client: wire.client.parse().ok(),
        helo: Text::new(&wire.helo),
        protocol: protocol(&wire.protocol),
        identity: wire.uid.map(|uid| Text::new(&format!("uid:{uid}"))),
        service: wire.service.map(Into::into),
    })
}

/// The protocols of our own reports are ours alone: who could claim them could silence a bounce.
fn protocol(text: &str) -> Text {
    let ours = [reports::BOUNCE, reports::DOUBLE_BOUNCE, reports::NOTICE, crate::tls_reports::TLS_REPORT];
    if ours.contains(&text) { "?".into() } else { Text::new(text) }
}

/// No message waits for its first attempt for longer than any may be asked to.
pub fn bound(terms: &mut Terms, clock: Clock) {
    let latest_s = (clock.wall_ms / 1000).saturating_add(MAX_WAIT_S.into());
    terms.not_before_s = terms.not_before_s.map(|not_before_s| not_before_s.min(latest_s));
}

/// Checks a list of notices.
pub fn notices(wire: &[wire::Notice]) -> Result<Vec<Notice>, WireError> {
    if wire.len() > wire::MAX_NOTICES {
        return Err(WireError("number of notices"));
    }
    wire.iter().map(Notice::try_from).collect()
}

/// A disposition that crossed an edge.
pub fn disposition(wire: &filter_queue::Disposition) -> Result<Disposition, WireError> {
    match wire {
        filter_queue::Disposition::Active => Ok(Disposition::Active),
        filter_queue::Disposition::Hold(reason) if reason.is_empty() => {
            Ok(Disposition::Hold("by policy".into()))
        }
        filter_queue::Disposition::Hold(reason) if wire::clean(reason, MAX_REASON) => {
            Ok(Disposition::Hold(Text::new(reason)))
        }
        filter_queue::Disposition::Hold(_) => Err(WireError("reason to hold")),
        filter_queue::Disposition::Quarantine(name) if !name.is_empty() && wire::clean(name, MAX_NAME) => {
            Ok(Disposition::Quarantine(Text::new(name)))
        }
        filter_queue::Disposition::Quarantine(_) => Err(WireError("name of the quarantine")),
        filter_queue::Disposition::Delegate(_) => Err(WireError("delegation of what is not in the queue")),
    }
}
