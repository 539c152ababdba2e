//! From a directory to a store: finds the segments, reads the log, sets aside what is damaged, reports it, and leaves a
//! log that can be written. Nothing that was acknowledged is dropped; nothing that is unreadable is deleted; only what a
//! crash left half-written, and nobody was told of, is passed over in silence.

mod aside;
mod report;
mod sort;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

pub use report::{Note, RecoveryReport};
use sort::{Candidate, SortedOut, number_of};

use super::disk::{Area, Disk};
use super::layout::SEGMENT_BLOCK;
use super::log::{Active, LogStart};
use super::record::{Entry, Location};
use super::replay::Replay;
use super::scan::{self, Range, Scanned};
use super::segments::{Catalogue, Known, Pool, segment_number};
use super::sidecar::{Sidecar, SidecarWriter};

/// All that recovery has learned; what [`super::Store`] is made from.
#[derive(Debug)]
pub(super) struct Recovered {
    pub replay: Replay,
    pub start: LogStart,
    pub catalogue: Arc<Catalogue>,
    pub pool: Arc<Pool>,
    pub report: RecoveryReport,
    /// Segments that must not be written again.
    pub shared: BTreeSet<u32>,
}

/// Knobs of recovery.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub segment_bytes: u64,
    pub low_water: u64,
    pub salts: fn() -> u64,
    /// The spool's own number, if it is known; else that of most segments.
    pub spool: Option<u64>,
    /// Change nothing on disk: for looking at a spool from outside.
    pub look_only: bool,
}

/// Reads the log and makes it ready.
pub(super) fn recover(disk: &Arc<dyn Disk>, settings: Settings) -> io::Result<Recovered> {
    let mut run = Run { disk, settings, report: RecoveryReport::default(), set_aside: 0, damaged: false };
    let listed = disk.list(Area::Segments)?;
    let next_number = listed.iter().filter_map(|one| segment_number(&one.name)).max().unwrap_or(0) + 1;
    let mut found = run.sort_out(listed)?;
    let spool = found.spool.unwrap_or_else(|| (settings.salts)());
    let pool = Arc::new(Pool::new(disk.clone(), settings.segment_bytes, settings.low_water, next_number));
    let catalogue = Arc::new(Catalogue::new(disk.clone()));
    let mut replay = Replay::default();
    replay.tail = found.tail;
    for candidate in found.log.values() {
        let header = &candidate.header;
        let (number, seed) = (number_of(&candidate.name), header.seed());
        let known = Known { number, salt: header.salt, seed, size: header.size };
        catalogue.insert(header.epoch, known);
    }
    let ends = expected_ends(&found.log);
    let last_epoch = found.log.keys().next_back().copied();
    let mut tip = Tip::default();
    for (epoch, candidate) in &found.log {
        let end = ends.get(epoch).copied();
        let is_last = Some(*epoch) == last_epoch;
        let part = run.read(candidate, end, is_last, &mut replay)?;
        tip.last_sequence =
            tip.last_sequence.max(part.last_sequence).max(candidate.header.first_sequence.saturating_sub(1));
        tip.seen_sequence = tip.seen_sequence.max(part.seen_sequence);
        if is_last {
            tip.end = part.end;
            tip.sidecar = part.sidecar;
        }
    }
    run.drop_before_tail(&mut found, &mut replay, &catalogue);
    let mut shared = BTreeSet::new();
    for (epoch, candidate) in &found.log {
        if candidate.listed.links != 1 || candidate.listed.len != settings.segment_bytes {
            shared.insert(*epoch);
        }
    }
    let mut start = LogStart {
        next_epoch: found.last_epoch + 1,
        next_sequence: tip.seen_sequence.max(tip.last_sequence) + 1,
        durable: tip.last_sequence,
        tail: replay.tail,
        previous: (0, 0),
        active: None,
        spool,
    };
    if let Some(candidate) = found.log.values().next_back() {
        start.previous = (candidate.header.epoch, tip.end);
        if !settings.look_only {
            start.active = run.resume(candidate, tip, shared.contains(&candidate.header.epoch))?;
        }
    }
    if !settings.look_only {
        run.reuse(found.free, &pool)?;
        run.tidy_bodies(&replay)?;
        run.tidy_sidecars(&found.log)?;
    }
    run.report.messages = replay.index.len();
    run.report.segments = found.log.len();
    Ok(Recovered { replay, start, catalogue, pool, report: run.report, shared })
}

/// The end of the log.
#[derive(Debug, Default)]
struct Tip {
    end: u64,
    last_sequence: u64,
    /// Including what does not count.
    seen_sequence: u64,
    sidecar: Option<SidecarWriter>,
}

/// What one segment told.
struct PartRead {
    end: u64,
    last_sequence: u64,
    /// Including what does not count.
    seen_sequence: u64,
    sidecar: Option<SidecarWriter>,
}

struct Run<'a> {
    disk: &'a Arc<dyn Disk>,
    settings: Settings,
    report: RecoveryReport,
    set_aside: usize,
    damaged: bool,
}

impl Run<'_> {
    /// What the whole log says of its end may come late: segments before the tail are free, whatever is in them.
    fn drop_before_tail(&mut self, found: &mut SortedOut, replay: &mut Replay, catalogue: &Catalogue) {
        let kept = found.log.split_off(&replay.tail);
        for (epoch, candidate) in std::mem::replace(&mut found.log, kept) {
            catalogue.remove(epoch);
            found.free.push(candidate);
        }
        replay.drop_before(replay.tail);
        for candidate in found.log.values() {
            let before = candidate.header.previous_epoch;
            if before != 0 && before >= replay.tail && !found.log.contains_key(&before) {
                self.damaged = true;
                self.report.note(Note::Missing(before));
            }
        }
    }

    /// Replays one segment, from its sidecar as far as that reaches.
    fn read(
        &mut self,
        candidate: &Candidate,
        end: Option<u64>,
        is_last: bool,
        replay: &mut Replay,
    ) -> io::Result<PartRead> {
        let header = candidate.header;
        let limit = candidate.limit();
        if end.is_some_and(|end| end > limit) || candidate.listed.len < header.size {
            self.damaged = true;
            self.report.note(Note::Truncated(candidate.name.clone()));
        }
        let target = end.unwrap_or(limit).min(limit);
        let (mut from, mut sequence) = (SEGMENT_BLOCK, header.first_sequence.saturating_sub(1));
        let sidecar = Sidecar::read(&**self.disk, header.epoch, header.salt);
        let mut writer = None;
        if let Some(sidecar) = sidecar.filter(|sidecar| sidecar.header.end <= target)
            && replay_sidecar(&sidecar, header.epoch, replay)
        {
            (from, sequence) = (sidecar.header.end, sidecar.header.last_sequence);
            writer = Some(sidecar);
        }
        if from >= target && end.is_some() {
            return Ok(PartRead {
                end: from,
                last_sequence: sequence,
                seen_sequence: sequence,
                sidecar: None,
            });
        }
        let mut new_sidecar = match &writer {
            _ if !is_last || self.settings.look_only => None,
            Some(sidecar) => Some(sidecar.resume(&**self.disk)),
            None => Some(SidecarWriter::create(&**self.disk, header.epoch)),
        };
        if writer.is_none() {
            self.report.scanned += 1;
        }
        let mut range =
            Range { epoch: header.epoch, seed: header.seed(), from, limit: target, after_sequence: sequence };
        let mut seen_sequence = sequence;
        if is_last {
            (range.limit, seen_sequence) = self.find_cut(candidate, range)?;
        }
        let scanned = self.scan(candidate, range, replay, new_sidecar.as_mut())?;
        self.judge_holes(candidate, &scanned, end.is_some() || is_last)?;
        Ok(PartRead {
            end: scanned.end,
            last_sequence: scanned.last_sequence,
            seen_sequence: seen_sequence.max(scanned.last_sequence),
            sidecar: new_sidecar,
        })
    }

    /// Where the log ends. A batch that was cut off may have left any of its sectors; a record behind a hole that was
    /// never durable was not acknowledged either, and counting it would break the order of changes. So the log ends at
    /// the first such hole. Also returns the highest sequence that was seen anywhere: none may be used twice.
    fn find_cut(&mut self, candidate: &Candidate, range: Range) -> io::Result<(u64, u64)> {
        let file = self.disk.open(Area::Segments, &candidate.name, false)?;
        let mut ends = Vec::new();
        let scanned = scan::scan(&*file, range, &mut |found| ends.push(found.offset));
        let open = scanned.holes.iter().filter(|hole| hole.sequence > scanned.durable);
        let cut = open.clone().map(|hole| hole.start).min().unwrap_or(range.limit);
        let torn = open.filter(|hole| hole.header.is_some()).count();
        self.report.interrupted += torn + ends.iter().filter(|offset| **offset >= cut).count();
        Ok((cut, scanned.last_sequence))
    }

    fn scan(
        &mut self,
        candidate: &Candidate,
        range: Range,
        replay: &mut Replay,
        mut sidecar: Option<&mut SidecarWriter>,
    ) -> io::Result<Scanned> {
        let file = self.disk.open(Area::Segments, &candidate.name, false)?;
        let mut malformed = Vec::new();
        let mut brief = Vec::new();
        let scanned = scan::scan(&*file, range, &mut |found| {
            let (kind, id, span) = (found.header.kind, found.header.id, found.header.span());
            let at = Location::at(range.epoch, found.offset);
            brief.clear();
            let understood = Entry::decode(&found.header, &found.meta).and_then(|entry| {
                entry.put_brief(&mut brief, u64::from(found.header.body_len));
                replay.record(kind, id, at, span, &brief)
            });
            match (understood, &mut sidecar) {
                (Ok(()), Some(sidecar)) => sidecar.push(kind, id, at.unit, span, &brief),
                (Ok(()), None) => {}
                (Err(_), _) => malformed.push((found.offset, span, id)),
            }
        });
        for (start, span, id) in malformed {
            self.damaged = true;
            self.copy_aside(candidate, start, start + span)?;
            self.report.note(Note::Malformed { file: candidate.name.clone(), start, id });
        }
        Ok(scanned)
    }

    /// What lies before the known end of a segment had been acknowledged: a hole in it is damage. If the end is not
    /// known, what had been durable when something behind it was written must be there.
    fn judge_holes(
        &mut self,
        candidate: &Candidate,
        scanned: &Scanned,
        end_is_known: bool,
    ) -> io::Result<()> {
        for hole in scanned.holes.iter().filter(|hole| end_is_known || hole.sequence <= scanned.durable) {
            self.damaged = true;
            self.copy_aside(candidate, hole.start, hole.end)?;
            self.report.note(Note::Damaged {
                file: candidate.name.clone(),
                start: hole.start,
                end: hole.end,
                id: hole.header.map(|header| header.id),
            });
        }
        Ok(())
    }

    /// Makes the last segment ready to be written where its records end, unless it is shared.
    fn resume(&mut self, candidate: &Candidate, tip: Tip, is_shared: bool) -> io::Result<Option<Active>> {
        let header = candidate.header;
        let file = self.disk.open(Area::Segments, &candidate.name, !is_shared)?;
        // What this reading relied on may still be in memory only: it must be durable before anything is built on it.
        if file.sync_data().is_err() {
            return Ok(None);
        }
        if is_shared || tip.end + SEGMENT_BLOCK > candidate.limit() {
            return Ok(None);
        }
        let sidecar = tip.sidecar.unwrap_or_else(|| SidecarWriter::create(&**self.disk, header.epoch));
        Ok(Some(Active {
            epoch: header.epoch,
            number: number_of(&candidate.name),
            salt: header.salt,
            file,
            sidecar,
            end: tip.end,
            synced: tip.end,
            limit: candidate.limit(),
        }))
    }
}

/// Where each segment's records must end, as its successor says.
fn expected_ends(log: &BTreeMap<u32, Candidate>) -> BTreeMap<u32, u64> {
    let told = log.values().map(|one| (one.header.previous_epoch, one.header.previous_end));
    told.filter(|(before, _)| log.contains_key(before)).collect()
}

/// True if every entry was understood. What was replayed before an odd entry is replayed again by the scan, which does
/// no harm: the last word about a message counts.
fn replay_sidecar(sidecar: &Sidecar, epoch: u32, replay: &mut Replay) -> bool {
    sidecar.entries().all(|entry| {
        entry.is_ok_and(|entry| {
            let at = Location { epoch, unit: entry.unit };
            replay.record(entry.kind, entry.id, at, entry.span, entry.brief).is_ok()
        })
    })
}
