//! The disk layout of the spool, written once. `docs/queue-format.md` is checked against these constants by a test;
//! every number on disk is little-endian. Nothing else in the store may name an offset.

/// Version of the structured part of a record that says nothing of terms.
pub const RECORD_VERSION: u8 = 1;
/// The same with terms behind the state of a message.
pub const RECORD_VERSION_WITH_TERMS: u8 = 2;
/// Version of the sidecars. One of another version is made anew from its segment.
pub const SIDECAR_VERSION: u16 = 4;
/// Version of the format. A segment with another version is left alone and reported.
pub const FORMAT_VERSION: u16 = 1;
/// First octets of a segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"vSMTPseg";
/// First octets of a sidecar (the index of one sealed segment).
pub const SIDECAR_MAGIC: [u8; 8] = *b"vSMTPidx";
/// First octets of a record.
pub const RECORD_MAGIC: u32 = 0x6351_5376;

/// Octets before the first record, and after the last: each holds a copy of the segment header.
pub const SEGMENT_BLOCK: u64 = 4096;
/// Records begin at multiples of this, so that a record header never crosses a sector.
pub const ALIGN: u64 = 64;
/// Length of a record header.
pub const RECORD_HEADER_LEN: usize = 64;
/// Length of a sidecar's header.
pub const SIDECAR_HEADER_LEN: usize = 64;
/// Smallest segment that can be configured (tests use it).
pub const MIN_SEGMENT_BYTES: u64 = 64 * 1024;
/// Largest segment that can be configured.
pub const MAX_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;
/// Longest structured part of one record: an envelope of 10,000 recipients fits.
pub const MAX_META: usize = 16 * 1024 * 1024;
/// Largest body that is kept inside a segment; larger ones are files of their own.
pub const MAX_INLINE_BODY: usize = 1024 * 1024;
/// Most records of one transaction.
pub const MAX_TRANSACTION_RECORDS: usize = 256;
/// Largest epoch that is believed. No spool lives so long, and behind it there is always room for the next.
pub const MAX_EPOCH: u32 = u32::MAX / 2;
/// Largest sequence that is believed, for the same reason.
pub const MAX_SEQUENCE: u64 = u64::MAX / 2;

/// Where a field of fixed size stands in its structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Name, as in `docs/queue-format.md`.
    pub name: &'static str,
    /// Offset in octets.
    pub at: usize,
    /// Length in octets.
    pub len: usize,
}

const fn span(name: &'static str, at: usize, len: usize) -> Span {
    Span { name, at, len }
}

/// The segment header.
pub mod segment {
    use super::{Span, span};

    /// [`super::SEGMENT_MAGIC`].
    pub const MAGIC: Span = span("magic", 0, 8);
    /// [`super::FORMAT_VERSION`].
    pub const VERSION: Span = span("version", 8, 2);
    /// Zero.
    pub const RESERVED: Span = span("reserved", 10, 2);
    /// Unique within the spool, growing: the order of the log.
    pub const EPOCH: Span = span("epoch", 12, 4);
    /// Random; part of every checksum in the segment.
    pub const SALT: Span = span("salt", 16, 8);
    /// Length of the file.
    pub const SIZE: Span = span("size", 24, 8);
    /// The number in the file's name.
    pub const NUMBER: Span = span("number", 32, 8);
    /// Segments with a smaller epoch hold nothing alive.
    pub const TAIL: Span = span("tail", 40, 4);
    /// Epoch of the segment before this one, 0 for none.
    pub const PREVIOUS_EPOCH: Span = span("previous epoch", 44, 4);
    /// Where that segment's acknowledged records end.
    pub const PREVIOUS_END: Span = span("previous end", 48, 8);
    /// Sequence of the first record.
    pub const FIRST_SEQUENCE: Span = span("first sequence", 56, 8);
    /// Random, the same in all segments of one spool: a segment of another spool is left alone.
    pub const SPOOL: Span = span("spool", 64, 8);
    /// crc32c of the octets before it.
    pub const CHECKSUM: Span = span("checksum", 72, 4);
    /// Octets of the header.
    pub const LEN: usize = 76;
    /// All fields in order.
    pub const FIELDS: [Span; 13] = [
        MAGIC,
        VERSION,
        RESERVED,
        EPOCH,
        SALT,
        SIZE,
        NUMBER,
        TAIL,
        PREVIOUS_EPOCH,
        PREVIOUS_END,
        FIRST_SEQUENCE,
        SPOOL,
        CHECKSUM,
    ];
}

/// The record header.
pub mod record {
    use super::{Span, span};

    /// [`super::RECORD_MAGIC`].
    pub const MAGIC: Span = span("magic", 0, 4);
    /// Version of the structured part.
    pub const VERSION: Span = span("version", 4, 1);
    /// What the record says.
    pub const KIND: Span = span("kind", 5, 1);
    /// Records of the same transaction that follow.
    pub const FOLLOWING: Span = span("following", 6, 2);
    /// The segment's epoch.
    pub const EPOCH: Span = span("epoch", 8, 4);
    /// Length of the structured part.
    pub const META_LEN: Span = span("meta length", 12, 4);
    /// Number of the record in the log.
    pub const SEQUENCE: Span = span("sequence", 16, 8);
    /// The message, or zero.
    pub const ID: Span = span("id", 24, 16);
    /// Length of the body that follows the structured part.
    pub const BODY_LEN: Span = span("body length", 40, 4);
    /// Sequence minus the last sequence that was known to be durable when this record was written.
    pub const LAG: Span = span("lag", 44, 4);
    /// crc32c of the structured part.
    pub const META_CHECKSUM: Span = span("meta checksum", 48, 4);
    /// crc32c of the body.
    pub const BODY_CHECKSUM: Span = span("body checksum", 52, 4);
    /// Records of the same transaction that precede.
    pub const PRECEDING: Span = span("preceding", 56, 2);
    /// Zero.
    pub const RESERVED: Span = span("reserved", 58, 2);
    /// crc32c of the octets before it.
    pub const CHECKSUM: Span = span("checksum", 60, 4);
    /// All fields in order.
    pub const FIELDS: [Span; 15] = [
        MAGIC,
        VERSION,
        KIND,
        FOLLOWING,
        EPOCH,
        META_LEN,
        SEQUENCE,
        ID,
        BODY_LEN,
        LAG,
        META_CHECKSUM,
        BODY_CHECKSUM,
        PRECEDING,
        RESERVED,
        CHECKSUM,
    ];
}

/// The sidecar's header.
pub mod sidecar {
    use super::{Span, span};

    /// [`super::SIDECAR_MAGIC`].
    pub const MAGIC: Span = span("magic", 0, 8);
    /// [`super::FORMAT_VERSION`].
    pub const VERSION: Span = span("version", 8, 2);
    /// Zero.
    pub const RESERVED: Span = span("reserved", 10, 2);
    /// Epoch of the segment it describes.
    pub const EPOCH: Span = span("epoch", 12, 4);
    /// Salt of the segment it describes.
    pub const SALT: Span = span("salt", 16, 8);
    /// Where the segment's records end.
    pub const END: Span = span("end", 24, 8);
    /// Octets of entries after the header.
    pub const ENTRIES_LEN: Span = span("entries length", 32, 8);
    /// Sequence of the segment's last record.
    pub const LAST_SEQUENCE: Span = span("last sequence", 40, 8);
    /// Entries.
    pub const COUNT: Span = span("count", 48, 8);
    /// crc32c of the entries.
    pub const ENTRIES_CHECKSUM: Span = span("entries checksum", 56, 4);
    /// crc32c of the octets before it.
    pub const CHECKSUM: Span = span("checksum", 60, 4);
    /// All fields in order.
    pub const FIELDS: [Span; 11] = [
        MAGIC,
        VERSION,
        RESERVED,
        EPOCH,
        SALT,
        END,
        ENTRIES_LEN,
        LAST_SEQUENCE,
        COUNT,
        ENTRIES_CHECKSUM,
        CHECKSUM,
    ];
}

/// What a record says: the `kind` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A message: its whole state, and its body or the name of its file.
    Accept = 1,
    /// The same, moved forward so that its old segment can be used again.
    Copy = 2,
    /// The message's whole state again, without the body.
    Revision = 3,
    /// What became of some recipients.
    Outcome = 4,
    /// Hold, release, requeue and the like.
    State = 5,
    /// The message is gone.
    Remove = 6,
    /// Segments before this epoch hold nothing alive, and all records before this one are durable.
    Tail = 7,
}

impl Kind {
    /// All kinds, with their names in `docs/queue-format.md`.
    pub const ALL: [(Kind, &'static str); 7] = [
        (Kind::Accept, "accept"),
        (Kind::Copy, "copy"),
        (Kind::Revision, "revision"),
        (Kind::Outcome, "outcome"),
        (Kind::State, "state"),
        (Kind::Remove, "remove"),
        (Kind::Tail, "tail"),
    ];

    /// The kind of a number on disk.
    pub fn from_u8(value: u8) -> Option<Kind> {
        Self::ALL.iter().find(|(kind, _)| *kind as u8 == value).map(|(kind, _)| *kind)
    }

    /// True for the records that a message begins with.
    pub fn is_base(self) -> bool {
        matches!(self, Kind::Accept | Kind::Copy)
    }
}

/// Rounds up to the next place where a record may begin.
pub const fn align_up(at: u64) -> u64 {
    at.div_ceil(ALIGN) * ALIGN
}

const _: () = assert!(SEGMENT_BLOCK.is_multiple_of(ALIGN) && RECORD_HEADER_LEN as u64 == ALIGN);

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(fields: &[Span], len: usize) {
        let mut at = 0;
        for field in fields {
            assert_eq!(field.at, at, "{}", field.name);
            at += field.len;
        }
        assert_eq!(at, len);
    }

    #[test]
    fn fields_leave_no_gap() {
        covers(&segment::FIELDS, segment::LEN);
        covers(&record::FIELDS, RECORD_HEADER_LEN);
        covers(&sidecar::FIELDS, SIDECAR_HEADER_LEN);
    }

    #[test]
    fn kinds_have_one_number_each() {
        for (kind, _) in Kind::ALL {
            assert_eq!(Kind::from_u8(kind as u8), Some(kind));
        }
        assert_eq!(Kind::from_u8(0), None);
    }
}
