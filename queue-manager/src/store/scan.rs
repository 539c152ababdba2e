//! Reads a segment from end to end and finds every record that is whole, whatever lies between them. A transaction of
//! which one record is missing is not seen at all. Nothing is changed here, and nothing that is read can stop it.

use std::io;

use super::disk::DiskFile;
use super::header::{RecordHeader, Seed};
use super::layout::{ALIGN, MAX_INLINE_BODY, MAX_META, RECORD_HEADER_LEN, SEGMENT_BLOCK};

/// Octets that are read at once.
const WINDOW: usize = 1024 * 1024;
/// What is skipped when the disk cannot read.
const UNREADABLE_STEP: u64 = 4096;

/// A whole record of a whole transaction.
#[derive(Debug)]
pub(super) struct Found {
    pub header: RecordHeader,
    pub offset: u64,
    pub meta: Vec<u8>,
}

/// Octets that are no whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    pub start: u64,
    pub end: u64,
    /// The first sequence that is missing here.
    pub sequence: u64,
    /// The header, if that at least is whole.
    pub header: Option<RecordHeader>,
}

/// What a scan says of the segment as a whole.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Where the last whole record ends.
    pub end: u64,
    /// The highest sequence of any whole header.
    pub last_sequence: u64,
    /// Everything up to this sequence had been synced.
    pub durable: u64,
    /// In order; the last may reach to the end of what was scanned.
    pub holes: Vec<Hole>,
}

/// What is to be scanned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub epoch: u32,
    pub seed: Seed,
    /// Where a record must begin.
    pub from: u64,
    /// Where the last record must have ended.
    pub limit: u64,
    /// The sequence before that of the first record.
    pub after_sequence: u64,
}

struct Window<'a> {
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    /// Offset of the buffer in the file.
    start: u64,
    /// Octets of the buffer that are from the file.
    have: usize,
    /// Octets that are read at once.
    size: usize,
}

impl Window<'_> {
    /// `len` octets from `offset`; fewer only at the end of the file.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        if let Some(skip) = skip.filter(|skip| skip + len <= self.have) {
            return Ok(self.buffer.get(skip..skip + len).unwrap_or_default());
        }
        if self.fill(offset, len.max(self.size)).is_err() {
            self.fill(offset, len)?;
        }
        Ok(self.buffer.get(..len.min(self.have)).unwrap_or_default())
    }

    fn fill(&mut self, offset: u64, wanted: usize) -> io::Result<()> {
        if self.buffer.len() < wanted {
            self.buffer = vec![0; wanted];
        }
        (self.start, self.have) = (offset, 0);
        let Some(target) = self.buffer.get_mut(..wanted) else { return Ok(()) };
        self.have = self.file.read_at(target, offset)?;
        Ok(())
    }

    /// From a place where no record begins to the next place where one might.
    fn next_candidate(&mut self, offset: u64, limit: u64) -> u64 {
        let mut at = offset + ALIGN;
        while at < limit {
            let wanted = usize::try_from(limit - at).unwrap_or(STRIDE).min(STRIDE);
            let Ok(bytes) = self.bytes(at, wanted) else {
                at = (at / UNREADABLE_STEP + 1) * UNREADABLE_STEP;
                continue;
            };
            if bytes.is_empty() {
                return limit;
            }
            // Most of what is searched was never written.
            if !is_zero(bytes) {
                let found = bytes.chunks(ALIGN as usize).position(|chunk| chunk.starts_with(&MAGIC));
                if let Some(found) = found {
                    return at + found as u64 * ALIGN;
                }
            }
            at += STRIDE as u64;
        }
        limit
    }
}

/// Octets that are searched at once.
const STRIDE: usize = 4096;
const ZEROS: [u8; STRIDE] = [0; STRIDE];
const MAGIC: [u8; 4] = super::layout::RECORD_MAGIC.to_le_bytes();

/// True if every octet is zero.
pub(super) fn is_zero(octets: &[u8]) -> bool {
    octets.chunks(STRIDE).all(|chunk| ZEROS.starts_with(chunk))
}

/// What stands at one place.
enum Here {
    Record(RecordHeader, Vec<u8>),
    /// A whole header whose record is not whole.
    Torn(RecordHeader),
    Nothing,
}

/// Scans a range and hands on the records of whole transactions, in order.
pub(super) fn scan(file: &dyn DiskFile, range: Range, visit: &mut dyn FnMut(Found)) -> Scanned {
    let size = usize::try_from(range.limit - range.from.min(range.limit)).unwrap_or(WINDOW).min(WINDOW);
    let mut window = Window { file, buffer: Vec::new(), start: 0, have: 0, size };
    let mut scanned = Scanned { end: range.from, last_sequence: range.after_sequence, ..Scanned::default() };
    let mut group = Group::default();
    let (mut at, mut sequence) = (range.from, range.after_sequence);
    let mut torn = None;
    while at + ALIGN <= range.limit {
        match look(&mut window, at, range, sequence) {
            Here::Record(header, meta) => {
                if at > scanned.end {
                    group.abandon(&mut scanned);
                    let hole = Hole { start: scanned.end, end: at, sequence: sequence + 1, header: torn };
                    scanned.holes.push(hole);
                }
                torn = None;
                sequence = header.sequence;
                scanned.last_sequence = scanned.last_sequence.max(sequence);
                scanned.durable = scanned.durable.max(header.durable());
                let next = at + header.span();
                group.add(Found { header, offset: at, meta }, &mut scanned, visit);
                at = next;
                scanned.end = next;
            }
            Here::Torn(header) => {
                scanned.last_sequence = scanned.last_sequence.max(header.sequence);
                torn = torn.or(Some(header));
                at = window.next_candidate(at, range.limit);
            }
            Here::Nothing => at = window.next_candidate(at, range.limit),
        }
    }
    group.abandon(&mut scanned);
    if scanned.end < range.limit {
        let (start, end) = (scanned.end, range.limit);
        scanned.holes.push(Hole { start, end, sequence: sequence + 1, header: torn });
    }
    scanned
}

fn look(window: &mut Window<'_>, at: u64, range: Range, sequence: u64) -> Here {
    let Ok(bytes) = window.bytes(at, RECORD_HEADER_LEN) else { return Here::Nothing };
    let Some(header) = RecordHeader::decode(bytes, range.seed, range.epoch) else { return Here::Nothing };
    let (meta_len, body_len) = (header.meta_len as usize, header.body_len as usize);
    let plausible = header.sequence > sequence && at + header.span() <= range.limit;
    if !plausible {
        return Here::Nothing;
    }
    if meta_len > MAX_META || body_len > MAX_INLINE_BODY {
        return Here::Nothing;
    }
    let Ok(bytes) = window.bytes(at, RECORD_HEADER_LEN + meta_len + body_len) else {
        return Here::Torn(header);
    };
    let payload = bytes.get(RECORD_HEADER_LEN..).and_then(|rest| rest.split_at_checked(meta_len));
    match payload {
        Some((meta, body))
            if body.len() == body_len
                && range.seed.checksum(meta) == header.meta_checksum
                && range.seed.checksum(body) == header.body_checksum =>
        {
            Here::Record(header, meta.to_vec())
        }
        _ => Here::Torn(header),
    }
}

/// Records of a transaction whose end has not been seen yet.
#[derive(Default)]
struct Group {
    waiting: Vec<Found>,
}

impl Group {
    fn add(&mut self, found: Found, scanned: &mut Scanned, visit: &mut dyn FnMut(Found)) {
        let follows = |last: &Found| {
            last.header.following.checked_sub(1) == Some(found.header.following)
                && last.header.preceding.checked_add(1) == Some(found.header.preceding)
                && last.header.sequence + 1 == found.header.sequence
                && last.offset + last.header.span() == found.offset
        };
        if self.waiting.last().is_some_and(|last| !follows(last)) {
            self.abandon(scanned);
        }
        let (begins, ends) = (found.header.preceding == 0, found.header.following == 0);
        let known = begins || !self.waiting.is_empty();
        self.waiting.push(found);
        if !known {
            self.abandon(scanned);
        } else if ends {
            self.waiting.drain(..).for_each(visit);
        }
    }

    /// The transaction's end is missing: none of it counts.
    fn abandon(&mut self, scanned: &mut Scanned) {
        let (Some(first), Some(last)) = (self.waiting.first(), self.waiting.last()) else { return };
        scanned.holes.push(Hole {
            start: first.offset,
            end: last.offset + last.header.span(),
            sequence: first.header.sequence,
            header: Some(first.header),
        });
        self.waiting.clear();
    }
}

/// Copies of a segment's header stand at these offsets.
pub(super) fn header_offsets(size: u64) -> [u64; 2] {
    [0, size.saturating_sub(SEGMENT_BLOCK)]
}
