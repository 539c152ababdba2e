//! The three fixed headers of the spool: of a segment, of a record, of a sidecar. A header is believed only if its own
//! checksum holds; the checksums of a segment are seeded with its salt and epoch, so that neither an old record in a
//! recycled segment nor a record forged inside a message body can pass.

use vsmtp_mail::QueueId;

use super::codec::fixed::{get, get_u32, get_uint, put, put_uint};
use super::layout::{self, Kind, record, segment, sidecar};

/// A checksum state that has seen a segment's salt and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn new(salt: u64, epoch: u32) -> Self {
        Seed(crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &epoch.to_le_bytes()))
    }

    pub(super) fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub epoch: u32,
    pub salt: u64,
    pub size: u64,
    pub number: u64,
    pub tail: u32,
    pub previous_epoch: u32,
    pub previous_end: u64,
    pub first_sequence: u64,
    pub spool: u64,
}

/// What the first octets of a file that should be a segment turn out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SegmentStart {
    Valid(SegmentHeader),
    /// The magic is right, the version is not ours.
    OtherVersion(u16),
    /// All zero: created and never used.
    Blank,
    /// The magic is right, the rest is not.
    Broken,
    /// Anything else.
    Foreign,
}

impl SegmentHeader {
    pub(super) fn seed(&self) -> Seed {
        Seed::new(self.salt, self.epoch)
    }

    pub(super) fn encode(&self) -> [u8; segment::LEN] {
        let mut out = [0; segment::LEN];
        put(&mut out, &segment::MAGIC, &layout::SEGMENT_MAGIC);
        put_uint(&mut out, &segment::VERSION, u64::from(layout::FORMAT_VERSION));
        put_uint(&mut out, &segment::EPOCH, u64::from(self.epoch));
        put_uint(&mut out, &segment::SALT, self.salt);
        put_uint(&mut out, &segment::SIZE, self.size);
        put_uint(&mut out, &segment::NUMBER, self.number);
        put_uint(&mut out, &segment::TAIL, u64::from(self.tail));
        put_uint(&mut out, &segment::PREVIOUS_EPOCH, u64::from(self.previous_epoch));
        put_uint(&mut out, &segment::PREVIOUS_END, self.previous_end);
        put_uint(&mut out, &segment::FIRST_SEQUENCE, self.first_sequence);
        put_uint(&mut out, &segment::SPOOL, self.spool);
        let checksum = crc32c::crc32c(&out[..segment::CHECKSUM.at]);
        put_uint(&mut out, &segment::CHECKSUM, u64::from(checksum));
        out
    }

    pub(super) fn decode(block: &[u8]) -> SegmentStart {
        let Some(bytes) = block.get(..segment::LEN) else { return SegmentStart::Foreign };
        if super::scan::is_zero(block) {
            return SegmentStart::Blank;
        }
        if get(bytes, &segment::MAGIC) != layout::SEGMENT_MAGIC {
            return SegmentStart::Foreign;
        }
        let version = get_uint(bytes, &segment::VERSION) as u16;
        if version != layout::FORMAT_VERSION {
            return SegmentStart::OtherVersion(version);
        }
        if get_u32(bytes, &segment::CHECKSUM) != crc32c::crc32c(&bytes[..segment::CHECKSUM.at]) {
            return SegmentStart::Broken;
        }
        let header = SegmentHeader {
            epoch: get_u32(bytes, &segment::EPOCH),
            salt: get_uint(bytes, &segment::SALT),
            size: get_uint(bytes, &segment::SIZE),
            number: get_uint(bytes, &segment::NUMBER),
            tail: get_u32(bytes, &segment::TAIL),
            previous_epoch: get_u32(bytes, &segment::PREVIOUS_EPOCH),
            previous_end: get_uint(bytes, &segment::PREVIOUS_END),
            first_sequence: get_uint(bytes, &segment::FIRST_SEQUENCE),
            spool: get_uint(bytes, &segment::SPOOL),
        };
        if header.is_possible() { SegmentStart::Valid(header) } else { SegmentStart::Broken }
    }

    /// False for numbers that the store never writes, whatever their checksum says. A tail beyond the segment's own epoch
    /// would free the segments that come next, with all that will have been accepted into them.
    fn is_possible(&self) -> bool {
        (1..=layout::MAX_EPOCH).contains(&self.epoch)
            && self.tail <= self.epoch
            && self.previous_epoch < self.epoch
            && self.first_sequence <= layout::MAX_SEQUENCE
    }
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    /// Of the structured part; one that we know.
    pub version: u8,
    pub kind: Kind,
    /// Records of the same transaction before and after this one.
    pub preceding: u16,
    pub following: u16,
    pub epoch: u32,
    pub sequence: u64,
    pub id: QueueId,
    pub meta_len: u32,
    pub body_len: u32,
    pub lag: u32,
    pub meta_checksum: u32,
    pub body_checksum: u32,
}

impl RecordHeader {
    /// Octets from the beginning of this record to the beginning of the next.
    pub(super) fn span(&self) -> u64 {
        record_span(u64::from(self.meta_len), u64::from(self.body_len))
    }

    /// The last sequence that was known to be durable when the record was written.
    pub(super) fn durable(&self) -> u64 {
        self.sequence.saturating_sub(u64::from(self.lag))
    }

    pub(super) fn encode(&self, seed: Seed) -> [u8; layout::RECORD_HEADER_LEN] {
        let mut out = [0; layout::RECORD_HEADER_LEN];
        put_uint(&mut out, &record::MAGIC, u64::from(layout::RECORD_MAGIC));
        put_uint(&mut out, &record::VERSION, u64::from(self.version));
        put_uint(&mut out, &record::KIND, u64::from(self.kind as u8));
        put_uint(&mut out, &record::PRECEDING, u64::from(self.preceding));
        put_uint(&mut out, &record::FOLLOWING, u64::from(self.following));
        put_uint(&mut out, &record::EPOCH, u64::from(self.epoch));
        put_uint(&mut out, &record::META_LEN, u64::from(self.meta_len));
        put_uint(&mut out, &record::SEQUENCE, self.sequence);
        put(&mut out, &record::ID, &self.id.to_bytes());
        put_uint(&mut out, &record::BODY_LEN, u64::from(self.body_len));
        put_uint(&mut out, &record::LAG, u64::from(self.lag));
        put_uint(&mut out, &record::META_CHECKSUM, u64::from(self.meta_checksum));
        put_uint(&mut out, &record::BODY_CHECKSUM, u64::from(self.body_checksum));
        let checksum = seed.checksum(&out[..record::CHECKSUM.at]);
        put_uint(&mut out, &record::CHECKSUM, u64::from(checksum));
        out
    }

    /// `None` unless the octets are a header of this segment, whole, and of a version and kind that we know.
    pub(super) fn decode(bytes: &[u8], seed: Seed, epoch: u32) -> Option<Self> {
        let bytes = bytes.get(..layout::RECORD_HEADER_LEN)?;
        if get_u32(bytes, &record::MAGIC) != layout::RECORD_MAGIC || get_u32(bytes, &record::EPOCH) != epoch {
            return None;
        }
        if get_u32(bytes, &record::CHECKSUM) != seed.checksum(&bytes[..record::CHECKSUM.at]) {
            return None;
        }
        let version = get_uint(bytes, &record::VERSION) as u8;
        if !(layout::RECORD_VERSION..=layout::RECORD_VERSION_WITH_TERMS).contains(&version) {
            return None;
        }
        if get_uint(bytes, &record::SEQUENCE) > layout::MAX_SEQUENCE {
            return None;
        }
        Some(RecordHeader {
            version,
            kind: Kind::from_u8(get_uint(bytes, &record::KIND) as u8)?,
            preceding: get_uint(bytes, &record::PRECEDING) as u16,
            following: get_uint(bytes, &record::FOLLOWING) as u16,
            epoch,
            sequence: get_uint(bytes, &record::SEQUENCE),
            id: QueueId::from_bytes(get(bytes, &record::ID).try_into().ok()?),
            meta_len: get_u32(bytes, &record::META_LEN),
            body_len: get_u32(bytes, &record::BODY_LEN),
            lag: get_u32(bytes, &record::LAG),
            meta_checksum: get_u32(bytes, &record::META_CHECKSUM),
            body_checksum: get_u32(bytes, &record::BODY_CHECKSUM),
        })
    }
}

/// Octets that a record takes, up to the beginning of the next.
pub(super) fn record_span(meta_len: u64, body_len: u64) -> u64 {
    layout::align_up(layout::RECORD_HEADER_LEN as u64 + meta_len + body_len)
}

/// The header of a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SidecarHeader {
    pub epoch: u32,
    pub salt: u64,
    pub end: u64,
    pub entries_len: u64,
    pub last_sequence: u64,
    pub count: u64,
    pub entries_checksum: u32,
}

impl SidecarHeader {
    pub(super) fn encode(&self) -> [u8; layout::SIDECAR_HEADER_LEN] {
        let mut out = [0; layout::SIDECAR_HEADER_LEN];
        put(&mut out, &sidecar::MAGIC, &layout::SIDECAR_MAGIC);
        put_uint(&mut out, &sidecar::VERSION, u64::from(layout::SIDECAR_VERSION));
        put_uint(&mut out, &sidecar::EPOCH, u64::from(self.epoch));
        put_uint(&mut out, &sidecar::SALT, self.salt);
        put_uint(&mut out, &sidecar::END, self.end);
        put_uint(&mut out, &sidecar::ENTRIES_LEN, self.entries_len);
        put_uint(&mut out, &sidecar::LAST_SEQUENCE, self.last_sequence);
        put_uint(&mut out, &sidecar::COUNT, self.count);
        put_uint(&mut out, &sidecar::ENTRIES_CHECKSUM, u64::from(self.entries_checksum));
        let checksum = crc32c::crc32c(&out[..sidecar::CHECKSUM.at]);
        put_uint(&mut out, &sidecar::CHECKSUM, u64::from(checksum));
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..layout::SIDECAR_HEADER_LEN)?;
        let version = get_u32(bytes, &sidecar::VERSION);
        let checksum = crc32c::crc32c(&bytes[..sidecar::CHECKSUM.at]);
        let ours = get(bytes, &sidecar::MAGIC) == layout::SIDECAR_MAGIC
            && version == u32::from(layout::SIDECAR_VERSION)
            && get_u32(bytes, &sidecar::CHECKSUM) == checksum;
        ours.then(|| SidecarHeader {
            epoch: get_u32(bytes, &sidecar::EPOCH),
            salt: get_uint(bytes, &sidecar::SALT),
            end: get_uint(bytes, &sidecar::END),
            entries_len: get_uint(bytes, &sidecar::ENTRIES_LEN),
            last_sequence: get_uint(bytes, &sidecar::LAST_SEQUENCE),
            count: get_uint(bytes, &sidecar::COUNT),
            entries_checksum: get_u32(bytes, &sidecar::ENTRIES_CHECKSUM),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentHeader = SegmentHeader {
        epoch: 7,
        salt: 0x0102_0304_0506_0708,
        size: 1 << 26,
        number: 3,
        tail: 5,
        previous_epoch: 6,
        previous_end: 4160,
        first_sequence: 99,
        spool: 77,
    };

    fn record() -> RecordHeader {
        RecordHeader {
            version: layout::RECORD_VERSION,
            kind: Kind::Outcome,
            preceding: 2,
            following: 1,
            epoch: 7,
            sequence: 100,
            id: QueueId::from_bytes([9; 16]),
            meta_len: 10,
            body_len: 1000,
            lag: 3,
            meta_checksum: 1,
            body_checksum: 2,
        }
    }

    #[test]
    fn segment_headers_round_trip_and_any_flipped_bit_is_seen() {
        let good = SEGMENT.encode();
        assert_eq!(SegmentHeader::decode(&good), SegmentStart::Valid(SEGMENT));
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(SegmentHeader::decode(&bad), SegmentStart::Valid(_)), "bit {bit}");
        }
        assert_eq!(SegmentHeader::decode(&[0; 4096]), SegmentStart::Blank);
        assert_eq!(SegmentHeader::decode(&good[..10]), SegmentStart::Foreign);
    }

    #[test]
    fn numbers_that_the_store_never_writes_are_not_believed() {
        for impossible in [
            SegmentHeader { epoch: 0, tail: 0, previous_epoch: 0, ..SEGMENT },
            SegmentHeader { epoch: u32::MAX, ..SEGMENT },
            SegmentHeader { tail: 8, ..SEGMENT },
            SegmentHeader { previous_epoch: 7, ..SEGMENT },
            SegmentHeader { first_sequence: u64::MAX, ..SEGMENT },
        ] {
            assert_eq!(SegmentHeader::decode(&impossible.encode()), SegmentStart::Broken, "{impossible:?}");
        }
        for version in [0, layout::RECORD_VERSION_WITH_TERMS + 1] {
            let strange = RecordHeader { version, ..record() }.encode(SEGMENT.seed());
            assert_eq!(RecordHeader::decode(&strange, SEGMENT.seed(), 7), None, "{version}");
        }
        let endless = RecordHeader { sequence: u64::MAX, ..record() }.encode(SEGMENT.seed());
        assert_eq!(RecordHeader::decode(&endless, SEGMENT.seed(), 7), None);
    }

    #[test]
    fn record_headers_belong_to_one_salt_and_epoch() {
        let good = record().encode(SEGMENT.seed());
        assert_eq!(RecordHeader::decode(&good, SEGMENT.seed(), 7), Some(record()));
        assert_eq!(RecordHeader::decode(&good, Seed::new(1, 7), 7), None);
        assert_eq!(RecordHeader::decode(&good, Seed::new(SEGMENT.salt, 8), 8), None);
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&bad, SEGMENT.seed(), 7), None, "bit {bit}");
        }
    }

    #[test]
    fn sidecar_headers_round_trip() {
        let header = SidecarHeader {
            epoch: 1,
            salt: 2,
            end: 3,
            entries_len: 4,
            last_sequence: 5,
            count: 6,
            entries_checksum: 7,
        };
        let good = header.encode();
        assert_eq!(SidecarHeader::decode(&good), Some(header));
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SidecarHeader::decode(&bad), None, "bit {bit}");
        }
    }
}
