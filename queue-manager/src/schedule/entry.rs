//! The records of the schedule and what they cost: a message, its jobs (one per next hop), its recipients.
//! A million queued messages with one recipient each are a million of each, so every octet here is a megabyte.

use vsmtp_mail::QueueId;

use super::slab::NONE;

/// A message with unsettled recipients.
#[derive(Debug)]
pub(super) struct Message {
    pub id: [u8; QueueId::LEN],
    /// When it arrived, or is to be released, in milliseconds of the monotonic clock; before its start for recovered messages.
    pub born_ms: i64,
    /// First of its jobs, linked by `sibling`; `NONE` in an empty slot.
    pub jobs: u32,
    /// Recipients not settled yet.
    pub unsettled: u16,
    pub standing: Standing,
    pub marks: Marks,
}

impl Default for Message {
    fn default() -> Self {
        Message {
            id: [0; 16],
            born_ms: 0,
            jobs: NONE,
            unsettled: 0,
            standing: Standing::Active,
            marks: Marks(0),
        }
    }
}

impl Message {
    pub fn id(&self) -> QueueId {
        QueueId::from_bytes(self.id)
    }

    pub fn is_vacant(&self) -> bool {
        self.unsettled == 0
    }

    pub fn age_ms(&self, mono_ms: u64) -> u64 {
        u64::try_from(mono_ms as i64 - self.born_ms).unwrap_or(0)
    }
}

/// Whether a message may be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Active,
    /// Not before the post-queue filter has judged it.
    Judging,
    /// Not before an operator releases it.
    Held,
    /// The same, and it has a name.
    Quarantined,
    /// Never: given up, and no bounce could be made.
    Dead,
    /// To a service only; one entry stands for all its recipients.
    Delegated,
    /// Not before it was read anew: what is known of it here may be over already.
    Stale,
}

impl Standing {
    /// True if attempts are made.
    pub fn goes_out(self) -> bool {
        matches!(self, Standing::Active | Standing::Delegated)
    }

    /// True if only an operator can have it tried again.
    pub fn is_stopped(self) -> bool {
        matches!(self, Standing::Held | Standing::Quarantined | Standing::Dead)
    }
}

/// Independent facts of a message, in one octet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    /// Its sender is the null sender.
    pub const NULL_SENDER: Marks = Marks(1);
    /// The sender was told of the delay, or will not be.
    pub const WARNED: Marks = Marks(2);
    /// It seemed to be past its lifetime when it was loaded; the clock may be wrong, so it gets a grace. A lifetime of its
    /// own, which ends without another attempt, waits for one too.
    pub const OLD_AT_LOAD: Marks = Marks(4);
    /// It has a lifetime of its own, which stands apart: few messages have one.
    pub const OWN_LIFETIME: Marks = Marks(8);
    /// Its sender wants to hear at a time of its own that it is late; that stands apart too.
    pub const OWN_WARNING: Marks = Marks(16);

    pub fn has(self, mark: Marks) -> bool {
        self.0 & mark.0 != 0
    }

    pub fn set(&mut self, mark: Marks, on: bool) {
        if on { self.0 |= mark.0 } else { self.0 &= !mark.0 }
    }
}

/// The recipients of one message at one next hop: tried together, deferred together.
#[derive(Debug)]
pub(super) struct Job {
    /// `NONE` in an empty slot, and in one whose message is gone while the job still stands in a flow.
    pub message: u32,
    pub flow: u32,
    /// Next job of the message.
    pub sibling: u32,
    /// Next job in the flow's queue.
    pub behind: u32,
    /// Recipients to be tried now.
    pub ready: u32,
    /// Recipients to be tried at `due`.
    pub waiting: u32,
    /// In ticks; meaningless without waiting recipients.
    pub due: u32,
    /// Recipients out on leases.
    pub leased: u16,
    /// How often it was tried, as far as 255.
    pub attempts: u8,
    /// Stands in its flow's queue.
    pub queued: bool,
}

impl Default for Job {
    fn default() -> Self {
        Job {
            message: NONE,
            flow: NONE,
            sibling: NONE,
            behind: NONE,
            ready: NONE,
            waiting: NONE,
            due: 0,
            leased: 0,
            attempts: 0,
            queued: false,
        }
    }
}

/// One recipient: in its job's ready or waiting list, or on a lease.
#[derive(Debug)]
pub(super) struct Item {
    pub next: u32,
    /// Place in the envelope.
    pub index: u16,
}

impl Default for Item {
    fn default() -> Self {
        Item { next: NONE, index: 0 }
    }
}

const _: () = assert!(size_of::<Message>() == 32 && size_of::<Job>() == 32 && size_of::<Item>() == 8);
const _: () = assert!(vsmtp_mail::MAX_RECIPIENTS <= u16::MAX as usize);
