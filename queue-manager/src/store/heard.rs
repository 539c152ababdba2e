//! What the log and the janitor report is taken into the index here, in the order in which they have done it: where records
//! are, what is over, what did not happen. Reads and writes no disk.

use vsmtp_mail::QueueId;

use super::index::{self, Slot};
use super::janitor::{Found, Job};
use super::layout::{self, Kind};
use super::log::{Placed, Report};
use super::transaction::{Alarm, CommitError, Event, Ticket};
use super::{Segment, Store};

impl Store {
    pub(super) fn take_in(&mut self, reports: Vec<Report>) {
        for report in reports {
            match report {
                Report::Done { ticket, batch, result } => {
                    self.seen_batch = self.seen_batch.max(batch);
                    self.done(ticket, result);
                }
                Report::Moved { batch, placed } => {
                    self.seen_batch = self.seen_batch.max(batch);
                    for one in placed {
                        self.put_in_place(one);
                    }
                }
                Report::Alarm(alarm) => {
                    if let Alarm::SegmentFailed { number, .. } = &alarm {
                        let failed = self.segments.iter().rev().find(|(_, one)| one.number == *number);
                        if let Some((epoch, _)) = failed {
                            self.reader.maps.remove(*epoch);
                            self.compaction.retire.insert(*epoch);
                        }
                    }
                    self.events.push_back(Event::Alarm(alarm));
                }
                Report::Opened { epoch, number, file, size } => {
                    if let Some(region) = file.map(size) {
                        self.reader.maps.insert(epoch, region);
                    }
                    self.segments.insert(epoch, Segment { number, size, live: 0 });
                    self.newest = (epoch, 0);
                }
                Report::Tick => self.tick(),
                Report::Found(Found::Published(mut prepared)) => {
                    // While its bodies were written, others have gone ahead of it.
                    prepared.know(self.seen_batch, |id| self.latest(id));
                    self.engine.commit(prepared);
                }
                Report::Found(Found::NotPublished(prepared, error)) => {
                    self.done(prepared.ticket, Err(error));
                }
                Report::Found(found) => self.compaction_found(found),
            }
        }
    }

    fn done(&mut self, ticket: Ticket, result: Result<Vec<Placed>, CommitError>) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        self.in_flight_bytes -= waiting.weight;
        for (_, id) in &waiting.changes {
            if let Some(slot) = self.index.find(*id) {
                self.index.arrive(slot);
            }
        }
        let result = match result {
            Ok(placed) => {
                for (id, body) in waiting.bodies {
                    self.warm.insert(id, body);
                }
                for one in placed {
                    self.put_in_place(one);
                }
                Ok(())
            }
            Err(error) => {
                for (kind, id) in &waiting.changes {
                    self.undo(*kind, *id);
                }
                Err(error)
            }
        };
        if waiting.internal {
            self.compaction_done(ticket);
        } else {
            self.compaction.busy = true;
            if result.is_ok() {
                self.look_for_room();
            }
            self.events.push_back(Event::Completed { ticket, result });
        }
    }

    /// A record is in the log.
    fn put_in_place(&mut self, placed: Placed) {
        if placed.at.epoch >= self.newest.0 {
            self.newest = (placed.at.epoch, placed.at.offset() + placed.span);
        }
        let Some(slot) = self.index.find(placed.id) else { return };
        match placed.kind {
            Kind::Accept | Kind::Copy => self.rebase(slot, placed),
            Kind::Remove => self.forget(slot),
            _ => {
                if let Some(known) = self.index.at_mut(slot) {
                    // Reports of one batch may come out of order: what is further on in the log is later.
                    known.last = known.last.max(placed.at);
                    known.chain =
                        if placed.kind == Kind::Revision { 1 } else { known.chain.saturating_add(1) };
                }
            }
        }
    }

    fn rebase(&mut self, slot: Slot, placed: Placed) {
        let Some(known) = self.index.at_mut(slot) else { return };
        let (old, old_span) = (known.base, known.span());
        known.base = placed.at;
        known.last = known.last.max(placed.at);
        known.chain = 0;
        known.units = u32::try_from(placed.span / layout::ALIGN).unwrap_or(u32::MAX);
        if let Some(segment) = self.segments.get_mut(&placed.at.epoch) {
            segment.live += placed.span;
        }
        if old.epoch != 0 {
            self.release(old.epoch, old_span);
        }
    }

    fn forget(&mut self, slot: Slot) {
        let Some(known) = self.index.at(slot).copied() else { return };
        self.index.remove(slot);
        self.warm.forget(known.id());
        self.release(known.base.epoch, known.span());
        if known.is(index::LARGE) {
            self.engine.job(Job::RemoveBody(known.id().to_string()));
        }
    }

    pub(super) fn release(&mut self, epoch: u32, span: u64) {
        if let Some(segment) = self.segments.get_mut(&epoch) {
            segment.live = segment.live.saturating_sub(span);
        }
    }

    /// A change did not happen.
    fn undo(&mut self, kind: Kind, id: QueueId) {
        let Some(slot) = self.index.find(id) else { return };
        match (kind, self.index.at_mut(slot)) {
            (Kind::Accept, Some(known)) => {
                let large = known.is(index::LARGE);
                self.index.remove(slot);
                if large {
                    self.engine.job(Job::RemoveBody(id.to_string()));
                }
            }
            (Kind::Remove, Some(known)) => known.flags &= !index::LEAVING,
            _ => {}
        }
    }
}
