//! A store on a disk in memory, messages for it, and segments made by hand whose checksums are right whatever they say.

use std::sync::Arc;
use std::time::Duration;

use vsmtp_mail::{
    Address, BodyType, Envelope, NextHop, Notify, OriginalRecipient, QueueId, Recipient, RecipientClass, Ret,
    ReversePath,
};
use vsmtp_queue_manager::store::layout::{
    self, RECORD_HEADER_LEN, RECORD_MAGIC, SEGMENT_BLOCK, SEGMENT_MAGIC, Span, record, segment,
};
use vsmtp_queue_manager::store::{
    BodyPart, Change, Chunk, Event, MessageState, NewBody, Options, Origin, RecoveryReport, Store, Text,
    Transaction, Unrecovered, Urgency,
};

use crate::disk::MemoryDisk;

/// Length of each segment.
pub const SEGMENT_BYTES: usize = layout::MIN_SEGMENT_BYTES as usize;

const OPTIONS: Options = Options {
    segment_bytes: layout::MIN_SEGMENT_BYTES,
    low_water_bytes: 0,
    lazy_delay: Duration::from_millis(1),
    warm_bytes: 0,
    max_in_flight_bytes: 1 << 20,
};

/// Starts a store. Whatever is on the disk, it must start.
pub fn open(disk: &MemoryDisk) -> (Store, RecoveryReport) {
    let recovered = Unrecovered::on(disk.arc(), OPTIONS).recover_inline();
    let (store, mut summaries, report) =
        recovered.expect("no octets on the disk may keep the queue from starting");
    for summary in summaries.by_ref() {
        assert!(store.contains(summary.id), "a summary of a message that is not there");
    }
    (store, report)
}

/// The id of a number.
pub fn id(n: u8) -> QueueId {
    QueueId::from_bytes([n; 16])
}

/// The body of a number, of `len` octets.
pub fn body(n: u8, len: usize) -> Vec<u8> {
    let mut dice = crate::cut::Dice(u64::from(n));
    (0..len).map(|_| dice.roll() as u8).collect()
}

/// A message's state, with something in most of its fields.
pub fn state(n: u8) -> MessageState {
    let recipient = |hop: &str| Recipient {
        chosen: false,
        address: Address::parse(&format!("r{n}@b.test")).expect("an address"),
        original: Some(OriginalRecipient { kind: "rfc822".into(), address: "o@b.test".into() }),
        notify: Notify::NEVER,
        class: RecipientClass::Relay,
        next_hop: NextHop::parse(hop).expect("a next hop"),
    };
    let envelope = Envelope {
        reverse_path: ReversePath::parse("s@a.test").expect("an address"),
        body: BodyType::EightBitMime,
        smtputf8: true,
        ret: Some(Ret::Headers),
        envid: Some("envid".into()),
        demands: vsmtp_mail::Demands::default(),
        // Every other message has some.
        terms: vsmtp_mail::Terms {
            lifetime_s: n.is_multiple_of(2).then_some(60),
            ..vsmtp_mail::Terms::default()
        },
        recipients: ["smtp:b.test", "lmtp:unix:/run/l", "smtp:[192.0.2.1]:25"].map(recipient).into(),
    };
    let origin = Origin {
        service: None,
        session: Text::new("S1"),
        client: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        helo: Text::new("c.test"),
        protocol: Text::new("ESMTP"),
        identity: None,
    };
    MessageState::fresh(1_700_000_000_000, origin, envelope)
}

/// A new message.
pub fn accept(n: u8, len: usize) -> Change {
    let body = NewBody::Inline(vec![Chunk::from(body(n, len))]);
    Change::Accept { id: id(n), state: Arc::new(state(n)), body }
}

/// Commits a change; panics if the store cannot.
pub fn commit(store: &mut Store, change: Change) {
    assert!(try_commit(store, change), "the store refuses");
}

/// Commits a change; false if the store refuses it.
pub fn try_commit(store: &mut Store, change: Change) -> bool {
    let ticket = store.submit(Transaction::one(change, Urgency::Durable)).expect("a change that is possible");
    let mut events = Vec::new();
    store.sync(&mut events);
    let result = events.iter().find_map(|event| match event {
        Event::Completed { ticket: done, result } if *done == ticket => Some(result.is_ok()),
        _ => None,
    });
    result.unwrap_or_else(|| panic!("no answer: {events:?}"))
}

/// All octets of a message as it goes out.
pub fn octets(parts: &[BodyPart]) -> Vec<u8> {
    let mut all = Vec::new();
    for part in parts {
        match part {
            BodyPart::Bytes(chunk) => all.extend_from_slice(chunk.as_bytes()),
            BodyPart::File { file, offset, len } => {
                let start = all.len();
                all.resize(start + *len as usize, 0);
                let have = file.read_at(&mut all[start..], *offset).expect("a body that can be read");
                assert_eq!(have as u64, *len, "a body ends before it should");
            }
        }
    }
    all
}

/// A segment by hand.
pub struct HandMade {
    octets: Vec<u8>,
    end: usize,
    epoch: u32,
    seed: u32,
}

/// A record by hand. The checksums will be right, whatever the rest is.
pub struct HandMadeRecord<'a> {
    /// Any number, known or not.
    pub kind: u8,
    /// The message.
    pub id: QueueId,
    /// Its number in the log.
    pub sequence: u64,
    /// How far what is durable lags behind.
    pub lag: u32,
    /// Records of the same transaction before and behind it.
    pub around: (u16, u16),
    /// The structured part.
    pub meta: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// What the header of a segment says besides its epoch.
pub struct Links {
    /// The oldest epoch with anything alive.
    pub tail: u32,
    /// The segment before, and where its records end.
    pub previous: (u32, u64),
    /// Sequence of the first record.
    pub first_sequence: u64,
}

impl HandMade {
    /// An empty segment.
    pub fn new(epoch: u32, number: u64, links: &Links) -> Self {
        const SALT: u64 = 0x5eed;
        let mut header = vec![0; segment::LEN];
        put(&mut header, &segment::MAGIC, &SEGMENT_MAGIC);
        put(&mut header, &segment::VERSION, &layout::FORMAT_VERSION.to_le_bytes());
        put(&mut header, &segment::EPOCH, &epoch.to_le_bytes());
        put(&mut header, &segment::SALT, &SALT.to_le_bytes());
        put(&mut header, &segment::SIZE, &(SEGMENT_BYTES as u64).to_le_bytes());
        put(&mut header, &segment::NUMBER, &number.to_le_bytes());
        put(&mut header, &segment::TAIL, &links.tail.to_le_bytes());
        put(&mut header, &segment::PREVIOUS_EPOCH, &links.previous.0.to_le_bytes());
        put(&mut header, &segment::PREVIOUS_END, &links.previous.1.to_le_bytes());
        put(&mut header, &segment::FIRST_SEQUENCE, &links.first_sequence.to_le_bytes());
        put(&mut header, &segment::SPOOL, &1u64.to_le_bytes());
        let checksum = crc32c::crc32c(&header[..segment::CHECKSUM.at]);
        put(&mut header, &segment::CHECKSUM, &checksum.to_le_bytes());
        let block = SEGMENT_BLOCK as usize;
        let mut octets = vec![0; SEGMENT_BYTES];
        octets[..header.len()].copy_from_slice(&header);
        octets[SEGMENT_BYTES - block..][..header.len()].copy_from_slice(&header);
        let seed = crc32c::crc32c_append(crc32c::crc32c(&SALT.to_le_bytes()), &epoch.to_le_bytes());
        HandMade { octets, end: block, epoch, seed }
    }

    /// Adds a record behind the last; nothing if there is no room.
    pub fn push(&mut self, new: &HandMadeRecord<'_>) {
        let sum = |bytes: &[u8]| crc32c::crc32c_append(self.seed, bytes).to_le_bytes();
        let mut header = vec![0; RECORD_HEADER_LEN];
        put(&mut header, &record::MAGIC, &RECORD_MAGIC.to_le_bytes());
        put(&mut header, &record::VERSION, &[1]);
        put(&mut header, &record::KIND, &[new.kind]);
        put(&mut header, &record::PRECEDING, &new.around.0.to_le_bytes());
        put(&mut header, &record::FOLLOWING, &new.around.1.to_le_bytes());
        put(&mut header, &record::EPOCH, &self.epoch.to_le_bytes());
        put(&mut header, &record::META_LEN, &(new.meta.len() as u32).to_le_bytes());
        put(&mut header, &record::SEQUENCE, &new.sequence.to_le_bytes());
        put(&mut header, &record::ID, &new.id.to_bytes());
        put(&mut header, &record::BODY_LEN, &(new.body.len() as u32).to_le_bytes());
        put(&mut header, &record::LAG, &new.lag.to_le_bytes());
        put(&mut header, &record::META_CHECKSUM, &sum(new.meta));
        put(&mut header, &record::BODY_CHECKSUM, &sum(new.body));
        let checksum = sum(&header[..record::CHECKSUM.at]);
        put(&mut header, &record::CHECKSUM, &checksum);
        let all = [&header[..], new.meta, new.body].concat();
        let limit = SEGMENT_BYTES - SEGMENT_BLOCK as usize;
        if self.end + all.len() <= limit {
            self.octets[self.end..][..all.len()].copy_from_slice(&all);
            self.end = layout::align_up((self.end + all.len()) as u64) as usize;
        }
    }

    /// Where the records end.
    pub fn end(&self) -> u64 {
        self.end as u64
    }

    /// The file's octets.
    pub fn into_octets(self) -> Vec<u8> {
        self.octets
    }
}

fn put(out: &mut [u8], span: &Span, value: &[u8]) {
    out[span.at..span.at + span.len].copy_from_slice(value);
}
