//! Keeps the log short: messages of the oldest segment that are still alive are written again at its end, then the
//! oldest segment is free. Always the oldest: a record that ends a message is thus never gone before the message is.

use std::collections::{BTreeSet, HashMap};

use vsmtp_mail::QueueId;

use super::Store;
use super::index::{LARGE, LEAVING};
use super::janitor::{Found, Job, Loaded, LoadedBody};
use super::layout::{Kind, SEGMENT_BLOCK};
use super::prepare::send_internal;
use super::reader::{Place, ReadError};
use super::record::{Draft, DraftBody, Location};
use super::segments::RESERVE;
use super::transaction::{Alarm, Event, Ticket};

/// Octets that are read for moving at once.
const STEP_BYTES: u64 = 1024 * 1024;
/// Messages that are read for moving at once.
const STEP_MESSAGES: usize = 256;

/// Reads of one message that may fail, each after some seconds, before it counts as unreadable and is set aside.
const MAX_READ_FAILURES: u32 = 16;

/// What is being moved.
#[derive(Debug)]
pub(super) struct Compaction {
    stage: Stage,
    /// Segments that must not be written again: others have a name for them, or the disk failed there.
    pub(super) retire: BTreeSet<u32>,
    filling: bool,
    /// Something was committed since the last [`Store::trim`].
    pub(super) busy: bool,
    /// A message could not be read; the next try comes after [`Store::trim`].
    paused: bool,
    /// Failed reads since a segment was freed, of the messages that were the first to fail after a pause.
    read_failures: HashMap<QueueId, u32>,
    /// The last attempt to make a segment ready failed; none is made until there is a reason to.
    full: bool,
    /// The disk failed at the last free segment; there may be room.
    failed: bool,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Listing(u32),
    Moving {
        epoch: u32,
        left: Vec<(QueueId, Location)>,
        reading: bool,
        copies: usize,
    },
    /// Waiting until the record is durable that says that segments before this epoch are free.
    Freeing {
        tail: u32,
        ticket: Ticket,
    },
}

impl Compaction {
    pub(super) fn new(retire: BTreeSet<u32>) -> Self {
        Compaction {
            stage: Stage::Idle,
            retire,
            filling: false,
            busy: false,
            paused: false,
            read_failures: HashMap::new(),
            full: false,
            failed: false,
        }
    }
}

impl Store {
    /// Looks whether something is to be moved, freed or made ready.
    pub(super) fn maintain(&mut self) {
        self.fill_pool();
        match &self.compaction.stage {
            Stage::Idle => self.begin_compaction(),
            Stage::Moving { .. } => self.move_on(),
            Stage::Listing(_) | Stage::Freeing { .. } => {}
        }
    }

    /// One free segment is the reserve; under load, a second one is made in time when the active one fills.
    fn fill_pool(&mut self) {
        let filling = self.compaction.busy && self.newest.1 > self.options.segment_bytes / 2;
        let wanted = if filling { RESERVE + 1 } else { RESERVE };
        let ready = !self.compaction.filling && !self.compaction.full && !self.compaction.failed;
        if ready && self.pool.len() < wanted {
            self.compaction.filling = true;
            self.engine.job(Job::FillPool(wanted));
        }
    }

    /// Something may have changed: room is looked for again.
    pub(super) fn look_for_room(&mut self) {
        self.compaction.full = false;
        self.compaction.failed = false;
    }

    /// True if there is no room for this many octets of new messages: without the reserve there is none, whatever room there
    /// is. The log has the last word.
    pub(super) fn is_full(&self, span: u64) -> bool {
        let end = self.options.segment_bytes.saturating_sub(SEGMENT_BLOCK);
        let does_not_fit = self.pool.len() == RESERVE && self.newest.1 + span > end;
        self.compaction.full && (self.pool.len() < RESERVE || does_not_fit)
    }

    /// The log and the reserve take more than the queue is worth: twice what is alive, and two segments. When a full disk
    /// has cost the reserve, whatever can be won back is: two segments, of which one is the active.
    fn is_too_long(&self) -> bool {
        let live: u64 = self.segments.values().map(|segment| segment.live).sum();
        if self.compaction.full && self.pool.len() < RESERVE {
            return self.log_bytes() > live + 2 * self.options.segment_bytes;
        }
        self.log_bytes() > 2 * live + self.options.segment_bytes
    }

    fn begin_compaction(&mut self) {
        let mut oldest = self.segments.iter();
        let Some(((epoch, segment), (next, _))) = oldest.next().zip(oldest.next()) else { return };
        if self.compaction.paused {
            return;
        }
        let (epoch, next, size, dead) = (*epoch, *next, segment.size, segment.live == 0);
        if dead {
            let ticket = send_internal(self, Draft::tail(next));
            self.compaction.stage = Stage::Freeing { tail: next, ticket };
        } else if self.is_too_long() {
            self.compaction.stage = Stage::Listing(epoch);
            self.engine.job(Job::List { epoch, end: size });
        }
    }

    /// The janitor has an answer.
    pub(super) fn compaction_found(&mut self, found: Found) {
        match (found, &mut self.compaction.stage) {
            (Found::PoolFilled { full, failed }, _) => {
                self.compaction.filling = false;
                self.compaction.full = full;
                self.compaction.failed = failed;
            }
            (Found::Listed { epoch, messages }, Stage::Listing(wanted)) if *wanted == epoch => {
                self.compaction.stage = Stage::Moving { epoch, left: messages, reading: false, copies: 0 };
                self.move_on();
            }
            (Found::Read(loaded), Stage::Moving { reading, .. }) => {
                *reading = false;
                self.move_all(loaded);
                self.move_on();
            }
            (Found::SetAside(place, why, kept), Stage::Moving { reading, .. }) => {
                *reading = false;
                self.set_aside(place, why, kept);
                self.move_on();
            }
            _ => {}
        }
    }

    /// Reads the next messages, or sees that all are moved.
    fn move_on(&mut self) {
        let is_paused = self.compaction.paused;
        let Stage::Moving { epoch, left, reading, copies } = &mut self.compaction.stage else { return };
        if *reading || is_paused {
            return;
        }
        let (mut places, mut busy, mut octets) = (Vec::new(), Vec::new(), 0);
        while let Some((id, at)) = left.pop() {
            let Some(known) = self.index.find(id).and_then(|slot| self.index.at(slot)) else { continue };
            if known.base != at {
                continue;
            }
            if known.is_busy() || known.is(LEAVING) {
                busy.push((id, at));
                continue;
            }
            octets += known.span();
            places.push(Place { id, base: known.base, last: known.last });
            if octets >= STEP_BYTES || places.len() >= STEP_MESSAGES {
                break;
            }
        }
        left.append(&mut busy);
        if !places.is_empty() {
            *reading = true;
            self.engine.job(Job::Read(places));
        } else if left.is_empty() && *copies == 0 {
            let epoch = *epoch;
            self.finish_moving(epoch);
        }
    }

    /// Everything listed is moved. What the list did not know of is found in the index.
    fn finish_moving(&mut self, epoch: u32) {
        let alive = self.segments.get(&epoch).is_some_and(|segment| segment.live > 0);
        let missed: Vec<_> = if alive {
            let here = self.index.iter().filter(|(_, known)| known.base.epoch == epoch);
            here.map(|(_, known)| (known.id(), known.base)).collect()
        } else {
            Vec::new()
        };
        if missed.is_empty() {
            if let Some(segment) = self.segments.get_mut(&epoch) {
                segment.live = 0;
            }
            self.compaction.stage = Stage::Idle;
            self.begin_compaction();
        } else {
            self.compaction.stage = Stage::Moving { epoch, left: missed, reading: false, copies: 0 };
        }
    }

    /// Writes again what was read. A disk that fails is left alone until the next try, and only the message that it failed
    /// at first is the worse for it: all others may fail with it and be as good as ever.
    fn move_all(&mut self, loaded: Vec<(Place, Result<Loaded, ReadError>)>) {
        let (mut again, mut first) = (Vec::new(), None);
        for (place, result) in loaded {
            let Some(known) = self.index.find(place.id).and_then(|slot| self.index.at(slot)).copied() else {
                continue;
            };
            let unchanged = known.base == place.base
                && known.last == place.last
                && !known.is_busy()
                && !known.is(LEAVING);
            match result {
                _ if !unchanged => again.push((place.id, known.base)),
                Ok(message) => self.copy(place.id, message),
                Err(ReadError::Disk(error)) if first.is_none() => first = Some((place, error.to_string())),
                Err(ReadError::Disk(_)) => again.push((place.id, place.base)),
                // One at a time, so that the answer is awaited.
                Err(why) if !self.is_reading() => self.begin_to_set_aside(place, why.to_string()),
                Err(_) => again.push((place.id, place.base)),
            }
        }
        if let Stage::Moving { left, .. } = &mut self.compaction.stage {
            left.append(&mut again);
        }
        let Some((place, why)) = first else { return };
        let failures = self.compaction.read_failures.entry(place.id).or_default();
        *failures += 1;
        if *failures >= MAX_READ_FAILURES && !self.is_reading() {
            return self.begin_to_set_aside(place, why);
        }
        self.compaction.paused = true;
        if let Stage::Moving { left, .. } = &mut self.compaction.stage {
            // The last is read first: at the next try this one fails first again, if it is the one that is bad.
            left.push((place.id, place.base));
        }
    }

    fn is_reading(&self) -> bool {
        matches!(self.compaction.stage, Stage::Moving { reading: true, .. })
    }

    fn copy(&mut self, id: QueueId, message: Loaded) {
        let body = match message.body {
            LoadedBody::Inline(chunk) => DraftBody::Inline(vec![chunk]),
            LoadedBody::Large(large) => DraftBody::Large(large),
        };
        send_internal(self, Draft::message(Kind::Copy, id, &message.state, body));
        if let Stage::Moving { copies, .. } = &mut self.compaction.stage {
            *copies += 1;
        }
    }

    /// The message stays in the queue, and in line, until something of it is kept elsewhere.
    fn begin_to_set_aside(&mut self, place: Place, why: String) {
        let Stage::Moving { left, reading, .. } = &mut self.compaction.stage else { return };
        left.push((place.id, place.base));
        *reading = true;
        self.engine.job(Job::SetAside(place, why));
    }

    fn set_aside(&mut self, place: Place, why: String, kept: bool) {
        self.compaction.read_failures.remove(&place.id);
        // If nothing could be read where it is, the disk may do better another time.
        self.compaction.paused |= !kept;
        let Some(slot) = self.index.find(place.id) else { return };
        let Some(known) = self.index.at(slot).copied() else { return };
        if kept && known.base == place.base && !known.is_busy() && !known.is(LEAVING) {
            self.index.remove(slot);
            self.release(known.base.epoch, known.span());
            if known.is(LARGE) {
                self.engine.job(Job::KeepBody(place.id.to_string()));
            }
            self.events.push_back(Event::Alarm(Alarm::Unreadable(place.id, why)));
        }
    }

    /// One of the store's own transactions has come to its end.
    pub(super) fn compaction_done(&mut self, ticket: Ticket) {
        match &mut self.compaction.stage {
            Stage::Moving { copies, .. } => *copies = copies.saturating_sub(1),
            Stage::Freeing { tail, ticket: awaited } if *awaited == ticket => {
                let tail = *tail;
                self.compaction.stage = Stage::Idle;
                self.free_before(tail);
            }
            _ => {}
        }
    }

    /// The log says durably that these segments are free.
    fn free_before(&mut self, tail: u32) {
        self.compaction.read_failures.clear();
        self.look_for_room();
        let kept = self.segments.split_off(&tail);
        for (epoch, segment) in std::mem::replace(&mut self.segments, kept) {
            self.catalogue.remove(epoch);
            self.reader.maps.remove(epoch);
            let reuse = !self.compaction.retire.remove(&epoch);
            self.engine.job(Job::Free { number: segment.number, epoch, reuse });
        }
    }

    /// Some seconds have passed: a disk that was full or failing is looked at again, and what only load needs is given
    /// back if there was none.
    pub(super) fn tick(&mut self) {
        let was_busy = self.compaction.busy;
        self.compaction.busy = false;
        self.compaction.paused = false;
        self.look_for_room();
        if !was_busy {
            self.give_back();
        }
    }

    /// What a store with threads does by itself every few seconds: gives back segments that only load needs, and looks
    /// again at a disk that was full or failing.
    pub fn trim(&mut self) {
        self.compaction.busy = false;
        self.tick();
    }

    fn give_back(&mut self) {
        while let Some(free) = self.pool.take_spare(RESERVE) {
            self.engine.job(Job::Free { number: free.number, epoch: 0, reuse: false });
        }
    }
}
