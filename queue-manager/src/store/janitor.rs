//! Work on the disk that nobody's 250 waits for: making segments ready, publishing large bodies, reading what
//! compaction moves, removing files. Decides nothing; the main loop asks and hears back.

use std::io::IoSlice;
use std::sync::Arc;

use vsmtp_mail::QueueId;

use super::body::{BodyPart, Chunk, LargeRef};
use super::disk::{Area, Disk};
use super::layout::{MAX_INLINE_BODY, SEGMENT_BLOCK};
use super::log::Prepared;
use super::message::MessageState;
use super::reader::{Place, ReadError, Reader, StoredBody};
use super::record::Location;
use super::scan::{self, Range};
use super::segments::{Free, Known, MOST_FREE, Pool, Shortage, segment_name, sidecar_name};
use super::sidecar::Sidecar;
use super::staging::StagedBody;
use super::transaction::CommitError;

/// Octets that are kept of a message that cannot be read: as many as a segment holds of any.
const MAX_SET_ASIDE: u64 = MAX_INLINE_BODY as u64 + SEGMENT_BLOCK;

/// Something to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Make the bodies durable, then commit.
    Publish(Vec<StagedBody>, Prepared),
    /// Have this many free segments.
    FillPool(usize),
    /// Which messages begin in this segment.
    List { epoch: u32, end: u64 },
    /// Read these messages whole.
    Read(Vec<Place>),
    /// Remove a large body.
    RemoveBody(String),
    /// Keep what is left of a message that cannot be read, and why, before its segment is used again.
    SetAside(Place, String),
    /// Keep the large body of a message that is set aside.
    KeepBody(String),
    /// This segment holds nothing alive: use it again, or remove it.
    Free { number: u64, epoch: u32, reuse: bool },
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Found {
    /// The bodies are durable, the rest is the committer's.
    Published(Prepared),
    /// They could not be made durable.
    NotPublished(Prepared, CommitError),
    /// The pool was filled, or could not be.
    PoolFilled { full: bool, failed: bool },
    /// The messages that begin in a segment, and where.
    Listed { epoch: u32, messages: Vec<(QueueId, Location)> },
    /// Messages with their bodies, or why they cannot be read.
    Read(Vec<(Place, Result<Loaded, ReadError>)>),
    /// A message that cannot be read, and why, and whether what the disk gives of it is kept now.
    SetAside(Place, String, bool),
}

/// A message that is on its way to another segment.
#[derive(Debug)]
pub(super) struct Loaded {
    pub state: MessageState,
    pub body: LoadedBody,
}

/// Its body.
#[derive(Debug)]
pub(super) enum LoadedBody {
    Inline(Chunk),
    Large(LargeRef),
}

/// Does the work.
#[derive(Debug)]
pub(super) struct Janitor {
    pub disk: Arc<dyn Disk>,
    pub pool: Arc<Pool>,
    pub reader: Reader,
}

impl Janitor {
    pub(super) fn work(&self, job: Job) -> Option<Found> {
        match job {
            Job::Publish(bodies, prepared) => Some(publish(bodies, prepared)),
            Job::FillPool(wanted) => {
                let shortage = self.pool.fill(wanted).err();
                let full = matches!(shortage, Some(Shortage::Full));
                Some(Found::PoolFilled { full, failed: shortage.is_some() && !full })
            }
            Job::List { epoch, end } => {
                let messages = self.list(epoch, end);
                Some(Found::Listed { epoch, messages })
            }
            Job::Read(places) => {
                Some(Found::Read(places.into_iter().map(|place| (place, self.load(place))).collect()))
            }
            Job::RemoveBody(name) => {
                let _ = self.disk.remove(Area::Large, &name);
                None
            }
            Job::SetAside(place, why) => {
                let kept = self.set_aside(place);
                Some(Found::SetAside(place, why, kept))
            }
            Job::KeepBody(name) => {
                let _ = self.disk.rename((Area::Large, &name), (Area::Corrupt, &name));
                let _ = self.disk.sync_area(Area::Corrupt);
                None
            }
            Job::Free { number, epoch, reuse } => {
                self.free(number, epoch, reuse);
                None
            }
        }
    }

    fn free(&self, number: u64, epoch: u32, reuse: bool) {
        let _ = self.disk.remove(Area::Index, &sidecar_name(epoch));
        let name = segment_name(number);
        match self.disk.open(Area::Segments, &name, true) {
            Ok(file) if reuse && self.pool.len() < MOST_FREE => self.pool.put(Free { number, file }),
            _ => {
                let _ = self.disk.remove(Area::Segments, &name);
                let _ = self.disk.sync_area(Area::Segments);
            }
        }
    }

    /// From the sidecar if there is one, else from the segment itself.
    fn list(&self, epoch: u32, end: u64) -> Vec<(QueueId, Location)> {
        let Ok((known, file)) = self.reader.catalogue.file(epoch) else { return Vec::new() };
        let mut messages = Vec::new();
        if let Some(sidecar) = sidecar_of(&*self.disk, epoch, known) {
            let whole = sidecar.header.end >= end;
            for entry in sidecar.entries().flatten().filter(|entry| entry.kind.is_base()) {
                messages.push((entry.id, Location { epoch, unit: entry.unit }));
            }
            if whole {
                return messages;
            }
            messages.clear();
        }
        let range = Range { epoch, seed: known.seed, from: SEGMENT_BLOCK, limit: end, after_sequence: 0 };
        scan::scan(&*file, range, &mut |found| {
            if found.header.kind.is_base() {
                messages.push((found.header.id, Location::at(epoch, found.offset)));
            }
        });
        messages
    }

    fn load(&self, place: Place) -> Result<Loaded, ReadError> {
        let (message, body) = self.reader.message_and_body(place)?;
        let body = match &body {
            StoredBody::Large(large) => LoadedBody::Large(large.clone()),
            StoredBody::Inline { .. } => match self.reader.stored(&body)? {
                BodyPart::Bytes(chunk) => LoadedBody::Inline(chunk),
                BodyPart::File { .. } => return Err(ReadError::Damaged("body")),
            },
        };
        Ok(Loaded { state: message.state, body })
    }

    /// What the disk gives of the record, in pieces: one bad sector must not cost the others. False if it gives nothing of
    /// all that may be the record, which is no matter of one sector, or takes nothing: then the message is only where it was.
    fn set_aside(&self, place: Place) -> bool {
        let Ok((_, file)) = self.reader.catalogue.file(place.base.epoch) else { return false };
        let name = format!("{}.record", place.id);
        let copied = self.disk.create(Area::Corrupt, &name, 0).and_then(|copy| {
            let mut octets = [0; SEGMENT_BLOCK as usize];
            let mut is_readable = false;
            for at in (0..MAX_SET_ASIDE).step_by(octets.len()) {
                let read = file.read_at(&mut octets, place.base.offset() + at);
                is_readable |= read.is_ok();
                let have = read.unwrap_or(octets.len());
                copy.write_all_at(&[IoSlice::new(octets.get(..have).unwrap_or_default())], at)?;
                octets.fill(0);
            }
            copy.sync_data()?;
            Ok(is_readable)
        });
        if !matches!(copied, Ok(true)) {
            let _ = self.disk.remove(Area::Corrupt, &name);
            return false;
        }
        self.disk.sync_area(Area::Corrupt).is_ok()
    }
}

fn sidecar_of(disk: &dyn Disk, epoch: u32, known: Known) -> Option<Sidecar> {
    Sidecar::read(disk, epoch, known.salt)
}

fn publish(bodies: Vec<StagedBody>, prepared: Prepared) -> Found {
    for body in bodies {
        if let Err(error) = body.publish() {
            return Found::NotPublished(prepared, CommitError::from_disk(&error));
        }
    }
    Found::Published(prepared)
}
