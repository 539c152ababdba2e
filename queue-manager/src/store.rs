//! The durable queue: what was accepted, what has become of it, and its bodies. A 250 may be given when a transaction
//! is reported as completed, never before. Owns the spool and everything in it; knows nothing of time, hosts or SMTP.
//!
//! On failure: a full disk refuses new messages and nothing else; a failed write or sync closes its segment, fails its
//! batch and goes on in another; damage found at the start is set aside and reported. The store never retries a sync.

mod body;
mod brief;
mod codec;
mod compaction;
mod delegation;
mod disk;
mod encode;
mod engine;
mod header;
mod heard;
mod index;
mod janitor;
pub mod layout;
mod lock;
mod log;
mod maps;
mod message;
mod offline;
mod prepare;
mod reader;
mod record;
mod recovery;
mod replay;
mod scan;
mod segments;
mod sidecar;
mod staging;
mod terms;
mod transaction;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vsmtp_mail::QueueId;

pub use body::{BodyPart, Chunk};
pub use delegation::{DelegatedAt, Delegation, Phase};
pub use disk::{Area, Disk, DiskFile, Listed, RealDisk};
pub use engine::Wake;
pub use lock::OpenError;
pub use message::{
    Diagnostic, Disposition, MAX_PIECES, MAX_TEXT, Marks, Message, MessageState, Origin, Piece,
    RecipientBrief, RecipientState, RemoveReason, Settled, StateChange, Text, Timing,
};
pub use offline::{Offline, Verified};
pub use reader::ReadError;
pub use recovery::{Note, RecoveryReport};
pub use replay::{DispositionKind, HopNumber, RecipientSummary, Summaries, Summary};
pub use staging::{StagedBody, Staging};
pub use transaction::{
    Alarm, Change, CommitError, Event, NewBody, SubmitError, Ticket, Transaction, Urgency,
};

use body::WarmCache;
use compaction::Compaction;
use engine::Engine;
use index::Index;
use janitor::Janitor;
use layout::Kind;
use lock::SpoolLock;
use log::Log;
use reader::{Place, Reader, compose};
use record::Location;
use recovery::{Recovered, Settings};
use segments::{Catalogue, Pool};

/// How a store behaves.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Length of a segment's file, in octets; from 64 KiB to 1 GiB, a multiple of 4096.
    pub segment_bytes: u64,
    /// New messages are refused when the disk would have less than this left, in octets.
    pub low_water_bytes: u64,
    /// How long something that is not urgent may wait for its sync.
    pub lazy_delay: Duration,
    /// Octets of bodies that are kept in memory after they were accepted.
    pub warm_bytes: usize,
    /// Octets that may be on their way to the disk before new messages are refused as [`SubmitError::Busy`].
    pub max_in_flight_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 64 * 1024 * 1024,
            low_water_bytes: 128 * 1024 * 1024,
            lazy_delay: Duration::from_millis(500),
            warm_bytes: 32 * 1024 * 1024,
            max_in_flight_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Options {
    /// The nearest options that are possible.
    fn clamped(mut self) -> Self {
        let bytes = self.segment_bytes.clamp(layout::MIN_SEGMENT_BYTES, layout::MAX_SEGMENT_BYTES);
        self.segment_bytes = bytes / layout::SEGMENT_BLOCK * layout::SEGMENT_BLOCK;
        self
    }
}

/// A spool that is locked and has not been read yet.
#[derive(Debug)]
pub struct Unrecovered {
    disk: Arc<dyn Disk>,
    options: Options,
    lock: Option<SpoolLock>,
    salts: fn() -> u64,
}

impl Unrecovered {
    /// Locks the spool, which must be an existing directory, for this process alone.
    pub fn open(root: &Path, options: Options) -> Result<Self, OpenError> {
        let lock = SpoolLock::take(root)?;
        let disk = RealDisk::create(root).map_err(|error| OpenError::io(root, error))?;
        Ok(Unrecovered { disk: Arc::new(disk), options, lock: Some(lock), salts: random })
    }

    /// A spool on another disk, for tests. Nothing is locked.
    pub fn on(disk: Arc<dyn Disk>, options: Options) -> Self {
        Unrecovered { disk, options, lock: None, salts: random }
    }

    /// Reads the log and starts to write it. `wake` is called from other threads when [`Store::poll`] has news.
    pub fn recover(self, wake: Wake) -> io::Result<(Store, Summaries, RecoveryReport)> {
        let lazy_delay = self.options.lazy_delay;
        self.recover_with(|log, janitor| Engine::threads(log, janitor, lazy_delay, wake))
    }

    /// The same without threads: the disk is used in [`Store::poll`] and [`Store::sync`], on the caller's time.
    pub fn recover_inline(self) -> io::Result<(Store, Summaries, RecoveryReport)> {
        self.recover_with(|log, janitor| Ok(Engine::inline(log, janitor)))
    }

    fn recover_with(
        self,
        engine: impl FnOnce(Log, Janitor) -> io::Result<Engine>,
    ) -> io::Result<(Store, Summaries, RecoveryReport)> {
        let options = self.options.clamped();
        let settings = Settings {
            segment_bytes: options.segment_bytes,
            low_water: options.low_water_bytes,
            salts: self.salts,
            spool: self.lock.as_ref().and_then(SpoolLock::spool),
            look_only: false,
        };
        let Recovered { replay, start, catalogue, pool, report, shared } =
            recovery::recover(&self.disk, settings)?;
        if let Some(lock) = &self.lock {
            lock.remember(start.spool)?;
        }
        let newest = start.active.as_ref().map_or((0, 0), |active| (active.epoch, active.end));
        let mut log = Log::new(self.disk.clone(), catalogue.clone(), pool.clone(), self.salts, start);
        // The first record says that what was read is durable, whatever an interrupted batch left behind it.
        let reports = if log.wants_mark() { log.mark() } else { Vec::new() };
        let reader = Reader { disk: self.disk.clone(), catalogue: catalogue.clone(), maps: Arc::default() };
        // What the janitor reads is old: it has no maps.
        let janitors = Reader { maps: Arc::default(), ..reader.clone() };
        let janitor = Janitor { disk: self.disk.clone(), pool: pool.clone(), reader: janitors };
        let (index, summaries) = replay.finish();
        let mut store = Store {
            engine: engine(log, janitor)?,
            reader,
            disk: self.disk,
            pool,
            segments: count_live(&index, &catalogue),
            newest,
            catalogue,
            index,
            options,
            warm: WarmCache::new(options.warm_bytes),
            waiting: HashMap::new(),
            in_flight_bytes: 0,
            next_ticket: 1,
            seen_batch: 0,
            events: VecDeque::new(),
            compaction: Compaction::new(shared),
            _lock: self.lock,
        };
        store.take_in(reports);
        store.maintain();
        Ok((store, summaries, report))
    }
}

/// Numbers nobody can guess. The kernel has them from its first second on; without it there is no store.
fn random() -> u64 {
    vsmtp_sys::random::random_u64().unwrap_or_else(|_| {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0)
    })
}

/// A segment of the log, as the main loop sees it.
#[derive(Debug, Clone, Copy)]
struct Segment {
    number: u64,
    /// Length of the file.
    size: u64,
    /// Octets of records that begin a message which is still in the queue.
    live: u64,
}

/// The segments with what is alive in each.
fn count_live(index: &Index, catalogue: &Catalogue) -> BTreeMap<u32, Segment> {
    let all = catalogue.all().into_iter();
    let mut segments: BTreeMap<_, _> = all
        .map(|(epoch, known)| (epoch, Segment { number: known.number, size: known.size, live: 0 }))
        .collect();
    for (_, known) in index.iter() {
        if let Some(segment) = segments.get_mut(&known.base.epoch) {
            segment.live += known.span();
        }
    }
    segments
}

/// What the main loop remembers of a transaction that is on its way.
#[derive(Debug)]
struct Waiting {
    weight: usize,
    changes: Vec<(Kind, QueueId)>,
    bodies: Vec<(QueueId, Vec<Chunk>)>,
    /// The store's own: nobody hears of it.
    internal: bool,
}

/// The recovered store. Lives on one thread.
#[derive(Debug)]
pub struct Store {
    engine: Engine,
    reader: Reader,
    disk: Arc<dyn Disk>,
    catalogue: Arc<Catalogue>,
    pool: Arc<Pool>,
    index: Index,
    /// The log, by epoch.
    segments: BTreeMap<u32, Segment>,
    /// Epoch of the newest segment, and where its last record ends.
    newest: (u32, u64),
    options: Options,
    warm: WarmCache,
    waiting: HashMap<Ticket, Waiting>,
    in_flight_bytes: usize,
    next_ticket: u64,
    seen_batch: u64,
    events: VecDeque<Event>,
    compaction: Compaction,
    _lock: Option<SpoolLock>,
}

/// How much room the queue takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Messages.
    pub messages: usize,
    /// Octets of records that begin a message.
    pub live_bytes: u64,
    /// Octets of the segments of the log.
    pub log_bytes: u64,
    /// Segments that wait to be written.
    pub free_segments: usize,
}

impl Store {
    /// Messages in the queue, those on their way into it included.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.index.len() == 0
    }

    /// True if a message of this id is in the queue or on its way into it.
    pub fn contains(&self, id: QueueId) -> bool {
        self.index.find(id).is_some()
    }

    /// True if its removal is on its way. What [`Store::message`] says of it then is over already; if the removal fails, it
    /// is there as before.
    pub fn is_leaving(&self, id: QueueId) -> bool {
        self.index.find(id).and_then(|slot| self.index.at(slot)).is_some_and(|known| known.is(index::LEAVING))
    }

    /// True if changes of it are on their way. What [`Store::message`] says of it then is not the last word.
    pub fn is_busy(&self, id: QueueId) -> bool {
        self.index.find(id).and_then(|slot| self.index.at(slot)).is_some_and(index::Known::is_busy)
    }

    /// Room taken.
    pub fn space(&self) -> Space {
        Space {
            messages: self.index.len(),
            live_bytes: self.segments.values().map(|segment| segment.live).sum(),
            log_bytes: self.log_bytes(),
            free_segments: self.pool.len(),
        }
    }

    fn log_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.size).sum()
    }

    /// Octets on their way to the disk.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Hands a transaction to the disk. An [`Event::Completed`] with its ticket will follow.
    pub fn submit(&mut self, transaction: Transaction) -> Result<Ticket, SubmitError> {
        prepare::submit(self, transaction)
    }

    /// Begins a body that is too large for a segment.
    pub fn stage(&self, id: QueueId) -> io::Result<Staging> {
        Staging::create(self.disk.clone(), id)
    }

    /// Takes in what has been done and appends what there is to tell. Never waits, unless the store is in-line.
    pub fn poll(&mut self, events: &mut Vec<Event>) {
        let reports = self.engine.reports();
        self.take_in(reports);
        self.maintain();
        events.extend(self.events.drain(..));
    }

    /// As [`Store::poll`]; in-line, it also makes everything durable that was written.
    pub fn sync(&mut self, events: &mut Vec<Event>) {
        let reports = self.engine.sync();
        self.take_in(reports);
        self.maintain();
        events.extend(self.events.drain(..));
    }

    /// Makes everything durable and ends. The next start will be quick.
    pub fn close(mut self) -> Vec<Event> {
        let engine = std::mem::replace(&mut self.engine, Engine::Closed);
        let reports = engine.close();
        self.take_in(reports);
        self.events.into_iter().collect()
    }

    /// The message as it stands, without its body. Reads the disk.
    pub fn message(&self, id: QueueId) -> Result<Message, ReadError> {
        self.reader.message(self.place(id)?)
    }

    /// The message and its octets as it goes out. Reads the disk, unless the body is warm.
    pub fn message_and_body(&self, id: QueueId) -> Result<(Message, Vec<BodyPart>), ReadError> {
        let (message, stored) = self.reader.message_and_body(self.place(id)?)?;
        let parts = match self.warm.lookup(id) {
            Some(chunks) => chunks.iter().cloned().map(BodyPart::Bytes).collect(),
            None => vec![self.reader.stored(&stored)?],
        };
        let parts = compose(&message.state, parts)?;
        Ok((message, parts))
    }

    /// The latest record of a message that this side knows of.
    fn latest(&self, id: QueueId) -> Option<Location> {
        self.index.find(id).and_then(|slot| self.index.at(slot)).map(|known| known.last)
    }

    fn place(&self, id: QueueId) -> Result<Place, ReadError> {
        let known = self.index.find(id).and_then(|slot| self.index.at(slot)).ok_or(ReadError::Unknown)?;
        if known.base.epoch == 0 {
            return Err(ReadError::NotYet);
        }
        Ok(Place { id, base: known.base, last: known.last })
    }
}
