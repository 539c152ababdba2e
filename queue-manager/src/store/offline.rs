//! A spool seen from outside, without a lock and without changing an octet of it: for `vsmtpctl queue --spool`, when
//! nothing starts, or beside a running queue-manager. Messages are read one at a time; what is kept of all of them is
//! the index.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use vsmtp_mail::QueueId;

use super::body::BodyPart;
use super::disk::{Area, Disk, RealDisk};
use super::index::Index;
use super::layout::SEGMENT_BLOCK;
use super::lock;
use super::message::Message;
use super::reader::{Place, ReadError, Reader, StoredBody, compose};
use super::recovery::{self, RecoveryReport, Settings};
use super::scan::{self, Range};

/// Octets that are copied at once.
const CHUNK: usize = 256 * 1024;

/// A spool that is only looked at.
#[derive(Debug)]
pub struct Offline {
    reader: Reader,
    index: Index,
}

/// What a check of everything found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Messages whose every octet is as it was written.
    pub good: usize,
    /// Messages that cannot be read, and why.
    pub bad: Vec<(QueueId, String)>,
    /// Whole records, dead ones included.
    pub records: u64,
    /// Octets that were read.
    pub octets: u64,
}

/// Bad messages that are named.
const MAX_NAMED: usize = 10_000;

impl Offline {
    /// Reads the log. The report says what recovery would say.
    pub fn open(root: &Path) -> io::Result<(Self, RecoveryReport)> {
        Self::on(Arc::new(RealDisk::look(root)?), lock::look(root))
    }

    pub(super) fn on(disk: Arc<dyn Disk>, spool: Option<u64>) -> io::Result<(Self, RecoveryReport)> {
        let settings = Settings { segment_bytes: 0, low_water: 0, salts: || 0, spool, look_only: true };
        let recovered = recovery::recover(&disk, settings)?;
        let reader = Reader { disk, catalogue: recovered.catalogue, maps: Arc::default() };
        let (index, _) = recovered.replay.finish();
        Ok((Offline { reader, index }, recovered.report))
    }

    /// Messages in the queue.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.index.len() == 0
    }

    /// Every message, roughly oldest first, each read when it is asked for.
    pub fn messages(&self) -> impl Iterator<Item = (QueueId, Result<Message, ReadError>)> {
        self.places().map(|place| (place.id, self.reader.message(place)))
    }

    /// One message.
    pub fn message(&self, id: QueueId) -> Result<Message, ReadError> {
        self.reader.message(self.place(id)?)
    }

    /// Writes a message's octets as it would go out; returns their number.
    pub fn write_message(&self, id: QueueId, out: &mut dyn Write) -> Result<u64, ReadError> {
        let (message, stored) = self.reader.message_and_body(self.place(id)?)?;
        let parts = compose(&message.state, vec![self.reader.stored(&stored)?])?;
        let mut written = 0;
        for part in parts {
            written += write_part(&part, out)?;
        }
        Ok(written)
    }

    /// Reads everything and checks it against its checksums.
    pub fn verify(&self) -> Verified {
        let mut verified = Verified::default();
        for (epoch, known) in self.reader.catalogue.all() {
            let Ok((_, file)) = self.reader.catalogue.file(epoch) else { continue };
            let limit = known.size.saturating_sub(SEGMENT_BLOCK);
            let range = Range { epoch, seed: known.seed, from: SEGMENT_BLOCK, limit, after_sequence: 0 };
            let scanned = scan::scan(&*file, range, &mut |_| verified.records += 1);
            verified.octets += scanned.end;
        }
        for place in self.places() {
            match self.check(place) {
                Ok(octets) => {
                    verified.good += 1;
                    verified.octets += octets;
                }
                Err(error) if verified.bad.len() < MAX_NAMED => {
                    verified.bad.push((place.id, error.to_string()));
                }
                Err(_) => {}
            }
        }
        verified
    }

    /// Octets read besides the segments'.
    fn check(&self, place: Place) -> Result<u64, ReadError> {
        let (_, stored) = self.reader.message_and_body(place)?;
        let part = self.reader.stored(&stored)?;
        let StoredBody::Large(large) = stored else { return Ok(0) };
        let mut sum = Checksum(0);
        write_part(&part, &mut sum)?;
        if sum.0 == large.checksum { Ok(large.len) } else { Err(ReadError::Damaged("large body")) }
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let known = self.index.iter().map(|(_, known)| known);
        known.map(|known| Place { id: known.id(), base: known.base, last: known.last })
    }

    fn place(&self, id: QueueId) -> Result<Place, ReadError> {
        let known = self.index.find(id).and_then(|slot| self.index.at(slot)).ok_or(ReadError::Unknown)?;
        Ok(Place { id, base: known.base, last: known.last })
    }

    /// What recovery has set aside: name and length.
    pub fn set_aside(&self) -> io::Result<Vec<(String, u64)>> {
        let listed = self.reader.disk.list(Area::Corrupt)?;
        Ok(listed.into_iter().map(|one| (one.name, one.len)).collect())
    }
}

/// Sums up what is written to it.
struct Checksum(u32);

impl Write for Checksum {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0 = crc32c::crc32c_append(self.0, octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_part(part: &BodyPart, out: &mut dyn Write) -> io::Result<u64> {
    match part {
        BodyPart::Bytes(chunk) => {
            out.write_all(chunk.as_bytes())?;
            Ok(chunk.len() as u64)
        }
        BodyPart::File { file, offset, len } => {
            let mut buffer = vec![0; CHUNK];
            let mut done = 0;
            while done < *len {
                let wanted = CHUNK.min(usize::try_from(len - done).unwrap_or(CHUNK));
                let Some(target) = buffer.get_mut(..wanted) else { break };
                if file.read_at(target, offset + done)? < wanted {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                out.write_all(target)?;
                done += wanted as u64;
            }
            Ok(done)
        }
    }
}
