//! Which files of the spool are the log, which are free, and which are neither. Goes by the headers, never by a name
//! alone, and leaves alone what is not ours.

use std::collections::BTreeMap;
use std::io;

use super::super::disk::{Area, Listed};
use super::super::header::{SegmentHeader, SegmentStart};
use super::super::layout::SEGMENT_BLOCK;
use super::super::scan;
use super::super::segments::segment_number;
use super::{Note, Run};

/// Octets that are read at once.
const CHUNK: usize = 1024 * 1024;

/// A segment whose header could be read.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub name: String,
    pub header: SegmentHeader,
    pub listed: Listed,
}

impl Candidate {
    /// Where records may end: the file may be shorter than its header says.
    pub(super) fn limit(&self) -> u64 {
        let size = self.header.size.min(self.listed.len);
        if self.listed.len < self.header.size { size } else { size.saturating_sub(SEGMENT_BLOCK) }
    }
}

/// The segments, sorted out.
#[derive(Debug, Default)]
pub(super) struct SortedOut {
    pub log: BTreeMap<u32, Candidate>,
    pub free: Vec<Candidate>,
    pub tail: u32,
    pub last_epoch: u32,
    pub spool: Option<u64>,
}

pub(super) fn number_of(name: &str) -> u64 {
    segment_number(name).unwrap_or(0)
}

impl Run<'_> {
    /// Which files are the log, which are free, and which are neither.
    pub(super) fn sort_out(&mut self, listed: Vec<Listed>) -> io::Result<SortedOut> {
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
        let mut chunk = vec![0; CHUNK];
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
