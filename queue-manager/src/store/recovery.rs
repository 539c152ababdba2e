//! From a directory to a store: finds the segments, reads the log, sets aside what is damaged, reports it, and leaves a
//! log that can be written. Nothing that was acknowledged is dropped; nothing that is unreadable is deleted; only what a
//! crash left half-written, and nobody was told of, is passed over in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use vsmtp_mail::QueueId;

use super::disk::{Area, Disk, Listed};
use super::header::{SegmentHeader, SegmentStart};
use super::index::LARGE;
use super::layout::SEGMENT_BLOCK;
use super::log::{Active, LogStart};
use super::record::{Entry, Location};
use super::replay::Replay;
use super::scan::{self, Range, Scanned};
use super::segments::{Catalogue, Free, Known, Pool, segment_number, sidecar_name};
use super::sidecar::{Sidecar, SidecarWriter};

/// Most files that recovery adds to [`Area::Corrupt`] in one start; more are only counted.
const MAX_SET_ASIDE: usize = 1000;
/// Most octets of one damaged range that are copied.
const MAX_COPY: u64 = 1 << 30;
/// Octets that are copied at once.
const COPY_CHUNK: usize = 1024 * 1024;
/// Most notes that are kept; more are only counted.
const MAX_NOTES: usize = 1000;

/// Something recovery wants an operator to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A file that is no segment of this spool was left alone.
    Foreign(String),
    /// A segment of another version was left alone.
    OtherVersion(String, u16),
    /// A segment whose headers are destroyed was moved to `corrupt/`.
    Unreadable(String),
    /// A second copy of a segment was moved to `corrupt/`.
    Duplicate(String),
    /// A segment ends before it should.
    Truncated(String),
    /// A segment that should be there is not.
    Missing(u32),
    /// Octets that had been acknowledged are no whole record. Copied to `corrupt/`.
    Damaged {
        /// The segment's file.
        file: String,
        /// First octet.
        start: u64,
        /// The octet after the last.
        end: u64,
        /// The message, if the record's header is whole.
        id: Option<QueueId>,
    },
    /// A whole record whose content is not understood.
    Malformed {
        /// The segment's file.
        file: String,
        /// First octet.
        start: u64,
        /// The message.
        id: QueueId,
    },
    /// A large body is missing.
    BodyMissing(QueueId),
    /// A large body that no message refers to was moved to `corrupt/`, because there is damage.
    BodyOrphaned(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Foreign(name) => write!(f, "{name}: not a segment of this spool, left alone"),
            Note::OtherVersion(name, version) => write!(f, "{name}: format version {version}, left alone"),
            Note::Unreadable(name) => write!(f, "{name}: segment header destroyed, moved to corrupt/"),
            Note::Duplicate(name) => write!(f, "{name}: second copy of a segment, moved to corrupt/"),
            Note::Truncated(name) => write!(f, "{name}: segment is cut short"),
            Note::Missing(epoch) => write!(f, "segment of epoch {epoch} is missing"),
            Note::Damaged { file, start, end, id } => {
                write!(f, "{file}: octets {start} to {end} are damaged, copied to corrupt/")?;
                id.map_or(Ok(()), |id| write!(f, " (message {id})"))
            }
            Note::Malformed { file, start, id } => {
                write!(f, "{file}: record at {start} of message {id} is not understood, copied to corrupt/")
            }
            Note::BodyMissing(id) => write!(f, "message {id}: its body file is missing"),
            Note::BodyOrphaned(name) => write!(f, "{name}: body of no known message, moved to corrupt/"),
        }
    }
}

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Messages in the queue.
    pub messages: usize,
    /// Segments of the log.
    pub segments: usize,
    /// Segments that were read whole, because they had no usable sidecar.
    pub scanned: usize,
    /// Transactions that a crash interrupted and nobody was told of.
    pub interrupted: usize,
    /// Notes, at most a thousand.
    pub notes: Vec<Note>,
    /// Notes that did not fit.
    pub more_notes: usize,
}

impl RecoveryReport {
    pub(super) fn note(&mut self, note: Note) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        } else {
            self.more_notes += 1;
        }
    }
}

/// A segment whose header could be read.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub name: String,
    pub header: SegmentHeader,
    pub listed: Listed,
}

impl Candidate {
    /// Where records may end: the file may be shorter than its header says.
    fn limit(&self) -> u64 {
        let size = self.header.size.min(self.listed.len);
        if self.listed.len < self.header.size { size } else { size.saturating_sub(SEGMENT_BLOCK) }
    }
}

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
        tip.last_sequence = tip.last_sequence.max(part.last_sequence).max(candidate.header.first_sequence);
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
        if !settings.look_only && !shared.contains(&candidate.header.epoch) {
            start.active = run.resume(candidate, tip)?;
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

/// The segments, sorted out.
#[derive(Debug, Default)]
struct SortedOut {
    log: BTreeMap<u32, Candidate>,
    free: Vec<Candidate>,
    tail: u32,
    last_epoch: u32,
    spool: Option<u64>,
}

struct Run<'a> {
    disk: &'a Arc<dyn Disk>,
    settings: Settings,
    report: RecoveryReport,
    set_aside: usize,
    damaged: bool,
}

fn number_of(name: &str) -> u64 {
    segment_number(name).unwrap_or(0)
}

impl Run<'_> {
    /// Which files are the log, which are free, and which are neither.
    fn sort_out(&mut self, listed: Vec<Listed>) -> io::Result<SortedOut> {
        let mut candidates = Vec::new();
        for one in listed {
            if segment_number(&one.name).is_none() || !one.regular {
                self.report.note(Note::Foreign(one.name));
                continue;
            }
            match self.start_of(&one) {
                Ok(SegmentStart::Valid(header)) => {
                    candidates.push(Candidate { name: one.name.clone(), header, listed: one });
                }
                Ok(SegmentStart::OtherVersion(version)) => {
                    self.report.note(Note::OtherVersion(one.name, version));
                }
                Ok(SegmentStart::Blank) => self.blank(&one)?,
                Ok(SegmentStart::Foreign) => {
                    self.damaged = true;
                    self.report.note(Note::Foreign(one.name));
                }
                Ok(SegmentStart::Broken) => {
                    self.move_aside(&one.name)?;
                    self.damaged = true;
                    self.report.note(Note::Unreadable(one.name));
                }
                Err(_) => self.report.note(Note::Foreign(one.name)),
            }
        }
        let spool = self.settings.spool.or_else(|| majority(&candidates));
        let (ours, others): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|one| Some(one.header.spool) == spool);
        for other in others {
            self.report.note(Note::Foreign(other.name));
        }
        let tail = ours.iter().map(|one| one.header.tail).max().unwrap_or(0);
        let last_epoch = ours.iter().map(|one| one.header.epoch).max().unwrap_or(0);
        let mut sorted = SortedOut { tail, last_epoch, spool, ..SortedOut::default() };
        for one in ours {
            self.settle(one, &mut sorted)?;
        }
        Ok(sorted)
    }

    /// Puts a segment of ours where it belongs; of two with one epoch the one with the right name wins.
    fn settle(&mut self, one: Candidate, sorted: &mut SortedOut) -> io::Result<()> {
        if one.header.epoch < sorted.tail {
            sorted.free.push(one);
            return Ok(());
        }
        let Some(other) = sorted.log.remove(&one.header.epoch) else {
            sorted.log.insert(one.header.epoch, one);
            return Ok(());
        };
        let named_right = |one: &Candidate| number_of(&one.name) == one.header.number;
        let (keep, drop) =
            if named_right(&one) && !named_right(&other) { (one, other) } else { (other, one) };
        self.move_aside(&drop.name)?;
        self.report.note(Note::Duplicate(drop.name));
        sorted.log.insert(keep.header.epoch, keep);
        Ok(())
    }

    /// Both copies of the header are looked at; the newer one counts.
    fn start_of(&self, listed: &Listed) -> io::Result<SegmentStart> {
        let file = self.disk.open(Area::Segments, &listed.name, false)?;
        let mut block = vec![0; SEGMENT_BLOCK as usize];
        let mut starts = Vec::new();
        for offset in scan::header_offsets(listed.len) {
            let have = file.read_at(&mut block, offset).unwrap_or(0);
            starts.push(SegmentHeader::decode(block.get(..have).unwrap_or_default()));
        }
        let newest = starts.iter().filter_map(|start| match start {
            SegmentStart::Valid(header) => Some(*header),
            _ => None,
        });
        if let Some(header) = newest.max_by_key(|header| header.epoch) {
            return Ok(SegmentStart::Valid(header));
        }
        let version = starts.iter().find(|start| matches!(start, SegmentStart::OtherVersion(_)));
        let blank = listed.len == 0 || starts.iter().all(|start| *start == SegmentStart::Blank);
        Ok(match version {
            Some(version) => *version,
            None if blank => SegmentStart::Blank,
            None if starts.contains(&SegmentStart::Broken) => SegmentStart::Broken,
            None => SegmentStart::Foreign,
        })
    }

    /// A file whose creation was interrupted is removed; one that holds something is set aside.
    fn blank(&mut self, listed: &Listed) -> io::Result<()> {
        let file = self.disk.open(Area::Segments, &listed.name, false)?;
        let mut chunk = vec![0; COPY_CHUNK];
        let mut at = 0;
        loop {
            let have = file.read_at(&mut chunk, at).unwrap_or(0);
            if !scan::is_zero(chunk.get(..have).unwrap_or_default()) {
                self.move_aside(&listed.name)?;
                self.damaged = true;
                self.report.note(Note::Unreadable(listed.name.clone()));
                return Ok(());
            }
            at += have as u64;
            if have < chunk.len() {
                break;
            }
        }
        if !self.settings.look_only {
            self.disk.remove(Area::Segments, &listed.name)?;
        }
        Ok(())
    }

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
            let understood = Entry::decode(kind, &found.meta).and_then(|entry| {
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

    /// Makes the last segment ready to be written where its records end.
    fn resume(&mut self, candidate: &Candidate, tip: Tip) -> io::Result<Option<Active>> {
        let header = candidate.header;
        let file = self.disk.open(Area::Segments, &candidate.name, true)?;
        // What this reading relied on may still be in memory only: it must be durable before anything is built on it.
        if file.sync_data().is_err() {
            return Ok(None);
        }
        if tip.end + SEGMENT_BLOCK > candidate.limit() {
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

    /// Segments before the tail hold nothing alive.
    fn reuse(&mut self, free: Vec<Candidate>, pool: &Pool) -> io::Result<()> {
        for one in free {
            if one.listed.links == 1 && one.listed.len == self.settings.segment_bytes {
                let file = self.disk.open(Area::Segments, &one.name, true)?;
                pool.put(Free { number: number_of(&one.name), file });
            } else {
                self.disk.remove(Area::Segments, &one.name)?;
            }
        }
        Ok(())
    }

    fn tidy_bodies(&mut self, replay: &Replay) -> io::Result<()> {
        for one in self.disk.list(Area::Staging)? {
            self.disk.remove(Area::Staging, &one.name)?;
        }
        let listed = self.disk.list(Area::Large)?;
        let mut present = BTreeSet::new();
        for one in listed {
            let id = QueueId::parse(&one.name).ok();
            let slot = id.and_then(|id| replay.index.find(id));
            let wanted = slot.and_then(|slot| replay.index.at(slot)).is_some_and(|known| known.is(LARGE));
            if wanted {
                present.extend(id);
            } else if self.damaged {
                self.disk.rename((Area::Large, &one.name), (Area::Corrupt, &one.name))?;
                self.report.note(Note::BodyOrphaned(one.name));
            } else {
                self.disk.remove(Area::Large, &one.name)?;
            }
        }
        for (_, known) in replay.index.iter().filter(|(_, known)| known.is(LARGE)) {
            if !present.contains(&known.id()) {
                self.report.note(Note::BodyMissing(known.id()));
            }
        }
        Ok(())
    }

    fn tidy_sidecars(&mut self, log: &BTreeMap<u32, Candidate>) -> io::Result<()> {
        let wanted: BTreeSet<String> = log.keys().map(|epoch| sidecar_name(*epoch)).collect();
        for one in self.disk.list(Area::Index)? {
            if !wanted.contains(&one.name) {
                self.disk.remove(Area::Index, &one.name)?;
            }
        }
        Ok(())
    }

    fn move_aside(&mut self, name: &str) -> io::Result<()> {
        if self.settings.look_only {
            return Ok(());
        }
        let taken: BTreeSet<String> =
            self.disk.list(Area::Corrupt)?.into_iter().map(|one| one.name).collect();
        let mut target = name.to_owned();
        let mut attempt = 0;
        while taken.contains(&target) {
            attempt += 1;
            target = format!("{name}.{attempt}");
        }
        self.disk.rename((Area::Segments, name), (Area::Corrupt, &target))?;
        self.disk.sync_area(Area::Corrupt)?;
        self.disk.sync_area(Area::Segments)
    }

    /// Copies a range; the name says where it came from, so that a second start finds it there.
    fn copy_aside(&mut self, candidate: &Candidate, start: u64, end: u64) -> io::Result<()> {
        if self.settings.look_only || self.set_aside >= MAX_SET_ASIDE {
            return Ok(());
        }
        let name = format!("{:010}-{start:010}.damaged", candidate.header.epoch);
        let target = match self.disk.create(Area::Corrupt, &name, 0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            // A full disk must not keep the rest of the queue from starting; the original stays where it is.
            Err(_) => return Ok(()),
            Ok(target) => target,
        };
        self.set_aside += 1;
        let source = self.disk.open(Area::Segments, &candidate.name, false)?;
        let mut chunk = vec![0; COPY_CHUNK];
        let (mut at, end) = (start, end.min(start + MAX_COPY));
        while at < end {
            let wanted = COPY_CHUNK.min((end - at) as usize);
            let Some(part) = chunk.get_mut(..wanted) else { break };
            part.fill(0);
            let have = source.read_at(part, at).unwrap_or(wanted);
            if have == 0 || target.write_all_at(&[IoSlice::new(part)], at - start).is_err() {
                break;
            }
            at += have as u64;
        }
        let _ = target.sync_data();
        let _ = self.disk.sync_area(Area::Corrupt);
        Ok(())
    }
}

/// Where each segment's records must end, as its successor says.
fn expected_ends(log: &BTreeMap<u32, Candidate>) -> BTreeMap<u32, u64> {
    let told = log.values().map(|one| (one.header.previous_epoch, one.header.previous_end));
    told.filter(|(before, _)| log.contains_key(before)).collect()
}

/// The spool that most segments belong to; of equals, the one of the newest segment.
fn majority(candidates: &[Candidate]) -> Option<u64> {
    let mut votes: BTreeMap<u64, (usize, u32)> = BTreeMap::new();
    for one in candidates {
        let vote = votes.entry(one.header.spool).or_default();
        *vote = (vote.0 + 1, vote.1.max(one.header.epoch));
    }
    votes.into_iter().max_by_key(|(_, vote)| *vote).map(|(spool, _)| spool)
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
