//! The log as it is written: one active segment, batches of transactions, one sync per batch. On a failed write or sync
//! the segment is closed and never written again, what waited for the sync is reported as failed, and what had been
//! reported before the sync is written again elsewhere. Runs on one thread and never waits for anything but the disk.

mod gather;
mod recent;
mod report;

use std::io::{self, IoSlice};
use std::sync::Arc;

use gather::Gather;
use recent::{Recent, moves_latest};
pub(super) use report::{Active, LogStart, Placed, Prepared, Report};

use super::disk::{Area, Disk};
use super::header::{RecordHeader, SegmentHeader};
use super::layout::{Kind, MAX_EPOCH, MAX_SEQUENCE, SEGMENT_BLOCK};
use super::record::{Draft, Location};
use super::segments::{Catalogue, Free, Known, Pool, RESERVE, Shortage, segment_name};
use super::sidecar::SidecarWriter;
use super::transaction::{Alarm, CommitError, Ticket, Urgency};

/// A transaction between its place and its sync.
#[derive(Debug)]
struct InFlight {
    prepared: Prepared,
    /// Still to be reported.
    placed: Vec<Placed>,
    /// What [`Recent`] knew of each record's message before; it counts again if the sync fails.
    displaced: Vec<Option<Location>>,
}

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    catalogue: Arc<Catalogue>,
    pool: Arc<Pool>,
    salts: fn() -> u64,
    active: Option<Active>,
    next_epoch: u32,
    next_sequence: u64,
    /// The highest sequence that is durable.
    durable: u64,
    /// The highest sequence of which a durable record says so.
    marked: u64,
    tail: u32,
    previous: (u32, u64),
    spool: u64,
    batch: u64,
    gather: Gather,
    /// Placed since the last write.
    staged: Vec<InFlight>,
    /// Written since the last sync, and reported or not.
    unsynced: Vec<InFlight>,
    /// To be written again: their segment failed.
    homeless: Vec<Prepared>,
    /// Why the last of these has found no place.
    shortage: CommitError,
    recent: Recent,
    reports: Vec<Report>,
}

impl Log {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        catalogue: Arc<Catalogue>,
        pool: Arc<Pool>,
        salts: fn() -> u64,
        start: LogStart,
    ) -> Self {
        Log {
            disk,
            catalogue,
            pool,
            salts,
            active: start.active,
            next_epoch: start.next_epoch,
            next_sequence: start.next_sequence,
            durable: start.durable,
            marked: 0,
            tail: start.tail,
            previous: start.previous,
            spool: start.spool,
            batch: 0,
            gather: Gather::default(),
            staged: Vec::new(),
            unsynced: Vec::new(),
            homeless: Vec::new(),
            shortage: CommitError::Full,
            recent: Recent::default(),
            reports: Vec::new(),
        }
    }

    /// True if something was written and not synced.
    pub(super) fn is_dirty(&self) -> bool {
        !self.unsynced.is_empty() || !self.homeless.is_empty()
    }

    /// Writes a batch; syncs if it holds something durable or if `sync` says so. Everything is in the reports.
    pub(super) fn process(&mut self, batch: Vec<Prepared>, sync: bool) -> Vec<Report> {
        self.batch += 1;
        // The least of them: whoever prepared the first may not have known yet what was known when the last was prepared.
        if let Some(seen) = batch.iter().map(|prepared| prepared.seen).min() {
            self.recent.prune(seen);
        }
        let sync = sync || !self.homeless.is_empty();
        self.rehouse();
        for prepared in batch {
            self.admit(prepared);
        }
        let sync = sync || self.staged.iter().any(|one| one.prepared.urgency == Urgency::Durable);
        self.flush(sync);
        if self.active.is_none() && self.previous.0 != 0 {
            // The next segment's header is what makes a refused record void; it must not wait for the next message.
            let _ = self.roll(0);
            self.rehouse();
            self.flush(true);
        }
        std::mem::take(&mut self.reports)
    }

    /// Places again what a failed segment has lost, before anything newer: the order of changes must stay.
    fn rehouse(&mut self) {
        for prepared in std::mem::take(&mut self.homeless) {
            self.admit(prepared);
        }
    }

    /// True if the disk does not say yet how much of it is durable.
    pub(super) fn wants_mark(&self) -> bool {
        self.active.is_some() && self.marked < self.durable && self.has_numbers(1)
    }

    /// True if so many more records can be numbered. What is beyond the largest sequence would not be read again, so it
    /// must not be accepted; only a spool that somebody else has written gets so far.
    fn has_numbers(&self, records: usize) -> bool {
        self.next_sequence.saturating_add(records as u64) <= MAX_SEQUENCE + 1
    }

    /// Writes a record that says that everything before it is durable. Without it the next start could not tell damage
    /// of the last batch from a batch that was never finished.
    pub(super) fn mark(&mut self) -> Vec<Report> {
        let covers = self.next_sequence - 1;
        let draft = Draft::tail(self.tail);
        let mark = Prepared::new(NOBODY, Urgency::Background, false, vec![draft], 0);
        let reports = self.process(vec![mark], true);
        if self.durable > covers {
            self.marked = self.durable;
        }
        reports
    }

    /// Syncs, and leaves a sidecar that makes the next start quick.
    pub(super) fn close(mut self) -> Vec<Report> {
        let mut reports = self.process(Vec::new(), true);
        if self.wants_mark() {
            reports.extend(self.mark());
        }
        if let Some(active) = &mut self.active {
            let (epoch, salt, synced) = (active.epoch, active.salt, active.synced);
            active.sidecar.finish(epoch, salt, synced, self.durable);
        }
        reports
    }

    /// Gives a transaction its place, in a new segment if need be.
    fn admit(&mut self, prepared: Prepared) {
        let span = prepared.span();
        if !self.has_numbers(prepared.drafts.len()) {
            return self.refuse(prepared, CommitError::Full);
        }
        if !self.homeless.is_empty() {
            // Something older has found no place.
            return self.refuse(prepared, self.shortage.clone());
        }
        let fits = |log: &Log| log.active.as_ref().is_some_and(|active| active.end + span <= active.limit);
        if !fits(self)
            && let Err(error) = self.roll(if prepared.accepts { RESERVE } else { 0 })
        {
            return self.refuse(prepared, error);
        }
        // The old segment may have failed at its last sync.
        self.rehouse();
        if !self.homeless.is_empty() {
            self.refuse(prepared, self.shortage.clone());
        } else if prepared.accepts && self.has_lost_reserve() {
            // What is left is for changes, also of the segment that was the reserve.
            self.refuse(prepared, CommitError::Full);
        } else if fits(self) {
            self.place(prepared);
        } else {
            self.refuse(prepared, CommitError::Failed(io::ErrorKind::InvalidInput));
        }
    }

    fn refuse(&mut self, mut prepared: Prepared, error: CommitError) {
        if prepared.urgency == Urgency::Durable {
            self.reports.push(Report::Done {
                ticket: prepared.ticket,
                batch: self.batch,
                result: Err(error),
            });
        } else {
            // What is known here now may be forgotten, since others know it, before there is a place for this.
            prepared.know(self.batch, |id| self.recent.lookup(id));
            self.shortage = error;
            self.homeless.push(prepared);
        }
    }

    fn place(&mut self, mut prepared: Prepared) {
        let Some(active) = &mut self.active else { return };
        let (seed, count) = (active.seed(), prepared.drafts.len());
        let (mut placed, mut displaced) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (at, draft) in prepared.drafts.iter_mut().enumerate() {
            let location = Location::at(active.epoch, active.end);
            draft.resolve_previous(self.recent.lookup(draft.id));
            displaced.push(if moves_latest(draft.kind) {
                self.recent.insert(draft.id, location)
            } else {
                None
            });
            let body_len = draft.body_len();
            let mut body_checksum = seed.checksum(&[]);
            for chunk in &draft.body {
                body_checksum = crc32c::crc32c_append(body_checksum, chunk.as_bytes());
            }
            let header = RecordHeader {
                version: draft.version,
                kind: draft.kind,
                preceding: u16::try_from(at).unwrap_or(u16::MAX),
                following: u16::try_from(count - 1 - at).unwrap_or(u16::MAX),
                epoch: active.epoch,
                sequence: self.next_sequence,
                id: draft.id,
                meta_len: u32::try_from(draft.meta().len()).unwrap_or(u32::MAX),
                body_len: u32::try_from(body_len).unwrap_or(u32::MAX),
                lag: u32::try_from(self.next_sequence - self.durable).unwrap_or(u32::MAX),
                meta_checksum: seed.checksum(draft.meta()),
                body_checksum,
            };
            self.next_sequence += 1;
            let span = header.span();
            self.gather.record(&header.encode(seed), draft.meta(), &draft.body, span);
            active.sidecar.push(draft.kind, draft.id, location.unit, span, draft.brief());
            placed.push(Placed { kind: draft.kind, id: draft.id, at: location, span });
            active.end += span;
            if draft.kind == Kind::Tail {
                self.tail = self.tail.max(tail_of(draft));
            }
        }
        self.staged.push(InFlight { prepared, placed, displaced });
    }

    /// Writes what is staged, and syncs.
    fn flush(&mut self, sync: bool) {
        let Some(active) = &mut self.active else { return };
        let staged_span: u64 = self.staged.iter().flat_map(|one| &one.placed).map(|placed| placed.span).sum();
        if staged_span > 0
            && let Err(error) = self.gather.write(&*active.file, active.end - staged_span)
        {
            return self.fail("write", &error);
        }
        for mut one in self.staged.drain(..) {
            if one.prepared.urgency == Urgency::Lazy && !one.prepared.reported {
                one.prepared.reported = true;
                self.recent.tell(&one.placed, self.batch);
                let result = Ok(std::mem::take(&mut one.placed));
                self.reports.push(Report::Done { ticket: one.prepared.ticket, batch: self.batch, result });
            }
            self.unsynced.push(one);
        }
        if sync && !self.unsynced.is_empty() {
            self.sync();
        }
    }

    fn sync(&mut self) {
        let Some(active) = &mut self.active else { return };
        if let Err(error) = active.file.sync_data() {
            return self.fail("sync", &error);
        }
        active.synced = active.end;
        self.durable = self.next_sequence - 1;
        for InFlight { prepared, placed, .. } in self.unsynced.drain(..) {
            self.recent.tell(&placed, self.batch);
            if !prepared.reported {
                let result = Ok(placed);
                self.reports.push(Report::Done { ticket: prepared.ticket, batch: self.batch, result });
            } else if !placed.is_empty() {
                self.reports.push(Report::Moved { batch: self.batch, placed });
            }
        }
    }

    /// The active segment cannot be trusted with anything that was not synced before.
    fn fail(&mut self, during: &'static str, error: &io::Error) {
        let Some(active) = self.active.take() else { return };
        self.previous = (active.epoch, active.synced);
        self.reports.push(Report::Alarm(Alarm::SegmentFailed {
            number: active.number,
            during,
            error: error.to_string(),
        }));
        self.gather = Gather::default();
        let kind = error.kind();
        let waiting: Vec<_> = self.unsynced.drain(..).chain(self.staged.drain(..)).collect();
        for one in waiting.iter().rev() {
            let drafts = one.prepared.drafts.iter().zip(&one.displaced).rev();
            for (draft, before) in drafts.filter(|(draft, _)| moves_latest(draft.kind)) {
                self.recent.restore(draft.id, *before, self.batch);
            }
        }
        for InFlight { prepared, .. } in waiting {
            self.refuse(prepared, CommitError::Failed(kind));
        }
    }

    /// True if changes have no other segment when this one is full, and the disk is too full for one. If it has room, one is
    /// being made.
    fn has_lost_reserve(&self) -> bool {
        self.pool.len() < RESERVE && self.pool.has_room(true).is_ok_and(|has_room| !has_room)
    }

    /// Makes another segment the active one, and leaves so many free ones.
    fn roll(&mut self, leave: usize) -> Result<(), CommitError> {
        self.flush(true);
        if self.next_epoch > MAX_EPOCH {
            return Err(CommitError::Full);
        }
        let free = self.pool.take(leave).map_err(|shortage| match shortage {
            Shortage::Full => CommitError::Full,
            Shortage::Failed(error) => self.no_segment(&error),
        })?;
        if let Some(mut old) = self.active.take() {
            old.sidecar.finish(old.epoch, old.salt, old.end, self.next_sequence - 1);
            self.previous = (old.epoch, old.end);
        }
        let name = segment_name(free.number);
        self.open(free).map_err(|error| {
            let _ = self.disk.remove(Area::Segments, &name);
            self.no_segment(&error)
        })
    }

    /// The disk has failed on the way to a segment.
    fn no_segment(&mut self, error: &io::Error) -> CommitError {
        self.reports.push(Report::Alarm(Alarm::NoSegment(error.to_string())));
        CommitError::Failed(error.kind())
    }

    /// Writes both copies of a new header; only when they are durable may a record follow.
    fn open(&mut self, free: Free) -> io::Result<()> {
        let (epoch, salt) = (self.next_epoch, (self.salts)());
        self.next_epoch += 1;
        let size = free.file.len()?;
        let header = SegmentHeader {
            epoch,
            salt,
            size,
            number: free.number,
            tail: self.tail,
            previous_epoch: self.previous.0,
            previous_end: self.previous.1,
            first_sequence: self.next_sequence,
            spool: self.spool,
        };
        let octets = header.encode();
        for at in [0, size - SEGMENT_BLOCK] {
            free.file.write_all_at(&[IoSlice::new(&octets)], at)?;
        }
        free.file.sync_data()?;
        self.catalogue.insert(epoch, Known { number: free.number, salt, seed: header.seed(), size });
        self.reports.push(Report::Opened { epoch, number: free.number, file: free.file.clone(), size });
        self.active = Some(Active {
            epoch,
            number: free.number,
            salt,
            file: free.file,
            sidecar: SidecarWriter::create(&*self.disk, epoch),
            end: SEGMENT_BLOCK,
            synced: SEGMENT_BLOCK,
            limit: size - SEGMENT_BLOCK,
        });
        Ok(())
    }
}

/// The ticket of a mark.
const NOBODY: Ticket = Ticket(0);

fn tail_of(draft: &Draft) -> u32 {
    draft.meta().try_into().map_or(0, u32::from_le_bytes)
}
