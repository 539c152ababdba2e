//! Reads messages back, record by record, with `pread`. Every octet is checked against its checksum before it is used;
//! what does not match is an error that names the place.

use std::fmt;
use std::io;
use std::sync::Arc;

use vsmtp_mail::QueueId;

use super::body::{BodyPart, Chunk, LargeRef};
use super::codec::Malformed;
use super::disk::{Area, Disk};
use super::header::{RecordHeader, Seed};
use super::layout::{MAX_INLINE_BODY, MAX_META, RECORD_HEADER_LEN};
use super::maps::Maps;
use super::message::{Disposition, Message, MessageState, Piece, Text};
use super::record::{Entry, Location};
use super::segments::Catalogue;

/// Octets that are read in the hope that the record ends there.
const FIRST_READ: usize = 4096;

/// Why a message cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// No such message.
    Unknown,
    /// It is on its way into the queue.
    NotYet,
    /// What is stored is not what was written.
    Damaged(&'static str),
    /// The disk failed.
    Disk(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Unknown => f.write_str("no such message"),
            ReadError::NotYet => f.write_str("message is not committed yet"),
            ReadError::Damaged(what) => write!(f, "stored message is damaged: {what}"),
            ReadError::Disk(error) => write!(f, "queue disk: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Disk(error)
    }
}

/// The records of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub id: QueueId,
    pub base: Location,
    pub last: Location,
}

/// Reads records and bodies. Cheap to clone, and of no use to write.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub disk: Arc<dyn Disk>,
    pub catalogue: Arc<Catalogue>,
    pub maps: Arc<Maps>,
}

/// A record as it stands in its segment.
struct Raw {
    header: RecordHeader,
    meta: Vec<u8>,
    /// Offset of the body in the segment.
    body_at: u64,
}

impl Reader {
    /// The message, with everything that happened to it applied.
    pub(super) fn message(&self, place: Place) -> Result<Message, ReadError> {
        self.message_and_body(place).map(|(message, _)| message)
    }

    /// The message and where its body is.
    pub(super) fn message_and_body(&self, place: Place) -> Result<(Message, StoredBody), ReadError> {
        let raw = self.record(place.id, place.base)?;
        let Ok(Entry::Message(state, large)) = Entry::decode(&raw.header, &raw.meta) else {
            return Err(ReadError::Damaged("first record"));
        };
        let body = match large {
            Some(large) => StoredBody::Large(large),
            None => StoredBody::Inline {
                epoch: place.base.epoch,
                at: raw.body_at,
                len: raw.header.body_len as usize,
                checksum: raw.header.body_checksum,
            },
        };
        let state = self.apply_chain(place, *state)?;
        Ok((Message { id: place.id, stored_len: body.len(), state }, body))
    }

    /// Follows the records back from the latest, then applies them in order. Each step goes back in the log, so it ends.
    fn apply_chain(&self, place: Place, mut state: MessageState) -> Result<MessageState, ReadError> {
        let mut at = place.last;
        let mut later = Vec::new();
        while at != place.base {
            // What came before the message's first record is none of its history, and may be gone tomorrow.
            let entry = if at > place.base {
                self.entry(place.id, at)
            } else {
                Err(ReadError::Damaged("order of records"))
            };
            match entry {
                Ok(Entry::Revision(revised)) => {
                    state = *revised;
                    break;
                }
                // A copy that is not synced yet, so that the index does not name it: what follows it was reported at once.
                Ok(Entry::Message(copied, _)) => {
                    state = *copied;
                    break;
                }
                Ok(entry @ (Entry::Outcome(previous, _) | Entry::State(previous, _))) if previous < at => {
                    later.push(entry);
                    at = previous;
                }
                Err(ReadError::Disk(error)) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ReadError::Disk(error));
                }
                // What became of some recipients is lost. Nothing is sent twice or unchanged without an operator.
                _ => {
                    state.disposition = Disposition::Hold(Text::new("part of its history is damaged"));
                    break;
                }
            }
        }
        for entry in later.iter().rev() {
            match entry {
                Entry::Outcome(_, results) => state.apply(results),
                Entry::State(_, change) => state.change(change),
                _ => {}
            }
        }
        Ok(state)
    }

    fn entry(&self, id: QueueId, at: Location) -> Result<Entry, ReadError> {
        let raw = self.record(id, at)?;
        Entry::decode(&raw.header, &raw.meta).map_err(|Malformed(what)| ReadError::Damaged(what))
    }

    /// The stored body as it is, checked.
    pub(super) fn stored(&self, body: &StoredBody) -> Result<BodyPart, ReadError> {
        match body {
            StoredBody::Large(large) => {
                let file = self.disk.open(Area::Large, &large.name, false)?;
                if file.len()? != large.len {
                    return Err(ReadError::Damaged("length of large body"));
                }
                Ok(BodyPart::File { file, offset: 0, len: large.len })
            }
            StoredBody::Inline { epoch, at, len, checksum } => {
                let (known, file) = self.catalogue.file(*epoch)?;
                let mut octets = vec![0; *len];
                if file.read_at(&mut octets, *at)? < octets.len() || known.seed.checksum(&octets) != *checksum
                {
                    return Err(ReadError::Damaged("body"));
                }
                Ok(BodyPart::Bytes(Chunk::from(octets)))
            }
        }
    }

    fn seed(&self, epoch: u32) -> io::Result<Seed> {
        Ok(self.catalogue.lookup(epoch).ok_or(io::ErrorKind::NotFound)?.seed)
    }

    /// From the mapping of the segment, if it has one.
    fn read_at(&self, epoch: u32, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.maps.read(epoch, buffer, offset) {
            Some(have) => Ok(have),
            None => self.catalogue.file(epoch)?.1.read_at(buffer, offset),
        }
    }

    fn record(&self, id: QueueId, at: Location) -> Result<Raw, ReadError> {
        let seed = self.seed(at.epoch)?;
        let mut octets = vec![0; FIRST_READ];
        let have = self.read_at(at.epoch, &mut octets, at.offset())?;
        octets.truncate(have);
        let header = RecordHeader::decode(&octets, seed, at.epoch)
            .filter(|header| header.id == id)
            .ok_or(ReadError::Damaged("record header"))?;
        let meta_len = header.meta_len as usize;
        if meta_len > MAX_META || header.body_len as usize > MAX_INLINE_BODY {
            return Err(ReadError::Damaged("record length"));
        }
        let meta_end = RECORD_HEADER_LEN + meta_len;
        if meta_end > have {
            octets.resize(meta_end, 0);
            let (_, missing) = octets.split_at_mut(have);
            if self.read_at(at.epoch, missing, at.offset() + have as u64)? < meta_end - have {
                return Err(ReadError::Damaged("record end"));
            }
        }
        octets.truncate(meta_end);
        let meta = octets.split_off(RECORD_HEADER_LEN);
        if seed.checksum(&meta) != header.meta_checksum {
            return Err(ReadError::Damaged("record"));
        }
        Ok(Raw { header, meta, body_at: at.offset() + meta_end as u64 })
    }
}

/// Where a body is.
#[derive(Debug, Clone)]
pub(super) enum StoredBody {
    Inline { epoch: u32, at: u64, len: usize, checksum: u32 },
    Large(LargeRef),
}

impl StoredBody {
    pub(super) fn len(&self) -> u64 {
        match self {
            StoredBody::Inline { len, .. } => *len as u64,
            StoredBody::Large(large) => large.len,
        }
    }
}

/// Lays a message's pieces over its stored body.
pub(super) fn compose(state: &MessageState, stored: Vec<BodyPart>) -> Result<Vec<BodyPart>, ReadError> {
    let Some(pieces) = &state.pieces else { return Ok(stored) };
    let mut parts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match piece {
            Piece::Inline(octets) => parts.push(BodyPart::Bytes(Chunk::from(octets.to_vec()))),
            Piece::Stored { offset, len } => cut(&stored, *offset, *len, &mut parts)?,
        }
    }
    Ok(parts)
}

/// The octets `offset..offset + len` of the parts.
fn cut(parts: &[BodyPart], mut offset: u64, mut len: u64, out: &mut Vec<BodyPart>) -> Result<(), ReadError> {
    for part in parts {
        let here = part.len().saturating_sub(offset).min(len);
        if here > 0 {
            out.push(match part {
                BodyPart::File { file, offset: from, .. } => {
                    BodyPart::File { file: file.clone(), offset: from + offset, len: here }
                }
                BodyPart::Bytes(chunk) => {
                    let from = offset as usize;
                    let slice = chunk.slice(from..from + here as usize);
                    BodyPart::Bytes(slice.ok_or(ReadError::Damaged("pieces"))?)
                }
            });
        }
        len -= here;
        offset = offset.saturating_sub(part.len());
    }
    if len > 0 { Err(ReadError::Damaged("pieces")) } else { Ok(()) }
}
