//! What recovery moves, copies and removes. Octets that might be somebody's mail are never removed: they go to the
//! corrupt area.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};

use vsmtp_mail::QueueId;

use super::super::disk::Area;
use super::super::index::LARGE;
use super::super::replay::Replay;
use super::super::segments::{Free, Pool, sidecar_name};
use super::{Candidate, Note, Run, number_of};

/// Most files that recovery adds to [`Area::Corrupt`] in one start.
const MAX_SET_ASIDE: usize = 1000;
/// Most octets of one damaged range that are copied.
const MAX_COPY: u64 = 1 << 30;
/// Octets that are copied at once.
const COPY_CHUNK: usize = 1024 * 1024;

impl Run<'_> {
    /// Segments before the tail hold nothing alive.
    pub(super) fn reuse(&mut self, free: Vec<Candidate>, pool: &Pool) -> io::Result<()> {
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

    pub(super) fn tidy_bodies(&mut self, replay: &Replay) -> io::Result<()> {
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

    pub(super) fn tidy_sidecars(&mut self, log: &BTreeMap<u32, Candidate>) -> io::Result<()> {
        let wanted: BTreeSet<String> = log.keys().map(|epoch| sidecar_name(*epoch)).collect();
        for one in self.disk.list(Area::Index)? {
            if !wanted.contains(&one.name) {
                self.disk.remove(Area::Index, &one.name)?;
            }
        }
        Ok(())
    }

    pub(super) fn move_aside(&mut self, name: &str) -> io::Result<()> {
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
    pub(super) fn copy_aside(&mut self, candidate: &Candidate, start: u64, end: u64) -> io::Result<()> {
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
