//! A disk that forgets: after a crash it has what was synced, and of the rest whatever sectors and names it likes. It
//! can crash, or fail, at the n-th operation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Area, Disk, DiskFile, Listed};

const SECTOR: usize = 512;

/// A small generator; good enough to choose sectors.
#[derive(Debug, Clone)]
pub(super) struct Dice(pub u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
}

#[derive(Debug, Clone, Default)]
struct SimFile {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum NameOp {
    Link(Area, String, u64),
    Unlink(Area, String),
    Rename((Area, String), (Area, String), u64),
}

impl NameOp {
    fn touches(&self, area: Area) -> bool {
        match self {
            NameOp::Link(at, ..) | NameOp::Unlink(at, _) => *at == area,
            NameOp::Rename(from, to, _) => from.0 == area || to.0 == area,
        }
    }

    fn apply(&self, names: &mut BTreeMap<(Area, String), u64>) {
        match self {
            NameOp::Link(area, name, inode) => drop(names.insert((*area, name.clone()), *inode)),
            NameOp::Unlink(area, name) => drop(names.remove(&(*area, name.clone()))),
            NameOp::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
struct State {
    files: BTreeMap<u64, SimFile>,
    names: BTreeMap<(Area, String), u64>,
    durable_names: BTreeMap<(Area, String), u64>,
    name_ops: Vec<NameOp>,
    next_inode: u64,
    free: Option<u64>,
    ops: u64,
    syncs: u64,
    crash_at: Option<u64>,
    crashed: bool,
    fail: BTreeMap<u64, io::ErrorKind>,
    fail_syncs: BTreeSet<u64>,
    bad_sectors: BTreeSet<(u64, usize)>,
    blind: bool,
}

impl State {
    /// Counts an operation that changes something. True if it may take effect although the disk crashes now.
    fn op(&mut self) -> io::Result<bool> {
        if self.crashed {
            return Err(io::Error::other("crashed"));
        }
        self.ops += 1;
        if let Some(kind) = self.fail.get(&self.ops) {
            return Err((*kind).into());
        }
        if self.crash_at == Some(self.ops) {
            self.crashed = true;
            return Ok(false);
        }
        Ok(true)
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Operations so far.
    pub(super) fn ops(&self) -> u64 {
        self.state().ops
    }

    pub(super) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    pub(super) fn crash_at(&self, op: u64) {
        self.state().crash_at = Some(op);
    }

    pub(super) fn never_crash(&self) {
        self.state().crash_at = None;
    }

    pub(super) fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// The operation of this number fails.
    pub(super) fn fail_at(&self, op: u64, kind: io::ErrorKind) {
        self.state().fail.insert(op, kind);
    }

    /// The sync of this number fails, and what it should have synced is lost.
    pub(super) fn fail_sync(&self, sync: u64) {
        self.state().fail_syncs.insert(sync);
    }

    pub(super) fn set_free(&self, free: Option<u64>) {
        self.state().free = free;
    }

    /// All files' octets and names: for damage.
    pub(super) fn names(&self, area: Area) -> Vec<String> {
        self.state().names.keys().filter(|(at, _)| *at == area).map(|(_, name)| name.clone()).collect()
    }

    pub(super) fn edit(&self, area: Area, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.names[&(area, name.to_owned())];
        let file = state.files.get_mut(&inode).unwrap();
        edit(&mut file.current);
        file.durable.clone_from(&file.current);
        file.pending.clear();
    }

    /// A second name for a file, or a copy of it.
    pub(super) fn put(&self, area: Area, name: &str, octets: Vec<u8>) {
        let mut state = self.state();
        state.next_inode += 1;
        let inode = state.next_inode;
        state.files.insert(inode, SimFile { durable: octets.clone(), current: octets, pending: Vec::new() });
        state.names.insert((area, name.to_owned()), inode);
        state.durable_names.insert((area, name.to_owned()), inode);
    }

    pub(super) fn link(&self, area: Area, name: &str, other: &str) {
        let mut state = self.state();
        let inode = state.names[&(area, name.to_owned())];
        state.names.insert((area, other.to_owned()), inode);
        state.durable_names.insert((area, other.to_owned()), inode);
    }

    pub(super) fn octets(&self, area: Area, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[&state.names[&(area, name.to_owned())]].current.clone()
    }

    /// All reads fail, or none.
    pub(super) fn set_blind(&self, blind: bool) {
        self.state().blind = blind;
    }

    /// Reads of this sector fail.
    pub(super) fn bad_sector(&self, area: Area, name: &str, sector: usize) {
        let mut state = self.state();
        let inode = state.names[&(area, name.to_owned())];
        state.bad_sectors.insert((inode, sector));
    }

    /// The disk as the next process finds it after this one was killed.
    pub(super) fn after_kill(&self) -> SimDisk {
        let mut state = self.state().clone();
        (state.crashed, state.crash_at) = (false, None);
        (state.fail, state.fail_syncs) = Default::default();
        SimDisk(Arc::new(Mutex::new(state)))
    }

    /// The disk after a power cut. `seed` decides what of the unsynced is there.
    pub(super) fn after_power_cut(&self, seed: u64) -> SimDisk {
        let old = self.state();
        let mut dice = Dice(seed);
        let keep = |dice: &mut Dice| match seed % 4 {
            0 => false,
            1 => true,
            _ => dice.below(2) == 0,
        };
        let mut state = State { next_inode: old.next_inode, free: old.free, ..State::default() };
        state.bad_sectors.clone_from(&old.bad_sectors);
        for (inode, file) in &old.files {
            let mut octets = file.durable.clone();
            for (offset, data) in &file.pending {
                let mut at = *offset;
                let end = offset + data.len();
                while at < end {
                    let stop = ((at / SECTOR + 1) * SECTOR).min(end);
                    if keep(&mut dice) {
                        if octets.len() < stop {
                            octets.resize(stop, 0);
                        }
                        octets[at..stop].copy_from_slice(&data[at - offset..stop - offset]);
                    }
                    at = stop;
                }
            }
            let file = SimFile { durable: octets.clone(), current: octets, pending: Vec::new() };
            state.files.insert(*inode, file);
        }
        state.durable_names.clone_from(&old.durable_names);
        for op in &old.name_ops {
            if keep(&mut dice) {
                op.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        SimDisk(Arc::new(Mutex::new(state)))
    }
}

impl Disk for SimDisk {
    fn list(&self, area: Area) -> io::Result<Vec<Listed>> {
        let state = self.state();
        if state.crashed {
            return Err(io::Error::other("crashed"));
        }
        let links = |inode| state.names.values().filter(|other| **other == inode).count() as u64;
        let here = state.names.iter().filter(|((at, _), _)| *at == area);
        Ok(here
            .map(|((_, name), inode)| Listed {
                name: name.clone(),
                len: state.files[inode].current.len() as u64,
                regular: true,
                links: links(*inode),
                identity: (0, *inode),
            })
            .collect())
    }

    fn create(&self, area: Area, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.op()?;
        let key = (area, name.to_owned());
        if state.names.contains_key(&key) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if let Some(free) = state.free {
            state.free = Some(free.checked_sub(len).ok_or(io::ErrorKind::StorageFull)?);
        }
        state.next_inode += 1;
        let inode = state.next_inode;
        let octets = vec![0; len as usize];
        state.files.insert(inode, SimFile { durable: octets.clone(), current: octets, pending: Vec::new() });
        state.names.insert(key, inode);
        state.name_ops.push(NameOp::Link(area, name.to_owned(), inode));
        Ok(Arc::new(Handle { disk: self.clone(), inode }))
    }

    fn open(&self, area: Area, name: &str, _writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        if state.crashed {
            return Err(io::Error::other("crashed"));
        }
        let inode = *state.names.get(&(area, name.to_owned())).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Handle { disk: self.clone(), inode }))
    }

    fn remove(&self, area: Area, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let key = (area, name.to_owned());
        let inode = *state.names.get(&key).ok_or(io::ErrorKind::NotFound)?;
        state.op()?;
        let len = state.files[&inode].current.len() as u64;
        state.free = state.free.map(|free| free + len);
        state.names.remove(&key);
        state.name_ops.push(NameOp::Unlink(area, name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: (Area, &str), to: (Area, &str)) -> io::Result<()> {
        let mut state = self.state();
        let (from, to) = ((from.0, from.1.to_owned()), (to.0, to.1.to_owned()));
        let inode = *state.names.get(&from).ok_or(io::ErrorKind::NotFound)?;
        state.op()?;
        state.names.remove(&from);
        state.names.insert(to.clone(), inode);
        state.name_ops.push(NameOp::Rename(from, to, inode));
        Ok(())
    }

    fn sync_area(&self, area: Area) -> io::Result<()> {
        let mut state = self.state();
        if !state.op()? {
            return Err(io::Error::other("crashed"));
        }
        let ops = std::mem::take(&mut state.name_ops);
        let (now, later): (Vec<_>, Vec<_>) = ops.into_iter().partition(|op| op.touches(area));
        for op in now {
            op.apply(&mut state.durable_names);
        }
        state.name_ops = later;
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().free.unwrap_or(u64::MAX / 2))
    }
}

#[derive(Debug)]
struct Handle {
    disk: SimDisk,
    inode: u64,
}

impl DiskFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        if state.crashed {
            return Err(io::Error::other("crashed"));
        }
        let file = &state.files[&self.inode].current;
        let from = (offset as usize).min(file.len());
        let to = (from + buffer.len()).min(file.len());
        let bad = |sector: &(u64, usize)| {
            sector.0 == self.inode && sector.1 * SECTOR < to && (sector.1 + 1) * SECTOR > from
        };
        if state.blind || state.bad_sectors.iter().any(bad) {
            return Err(io::Error::other("bad sector"));
        }
        buffer[..to - from].copy_from_slice(&file[from..to]);
        Ok(to - from)
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let survives = state.op()?;
        let mut octets = Vec::new();
        slices.iter().for_each(|slice| octets.extend_from_slice(slice));
        let file = state.files.get_mut(&self.inode).unwrap();
        let (from, to) = (offset as usize, offset as usize + octets.len());
        if file.current.len() < to {
            file.current.resize(to, 0);
        }
        file.current[from..to].copy_from_slice(&octets);
        file.pending.push((from, octets));
        if survives { Ok(()) } else { Err(io::Error::other("crashed")) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if !state.op()? {
            return Err(io::Error::other("crashed"));
        }
        state.syncs += 1;
        let failed = {
            let sync = state.syncs;
            state.fail_syncs.contains(&sync)
        };
        let file = state.files.get_mut(&self.inode).unwrap();
        let pending = std::mem::take(&mut file.pending);
        if failed {
            // As Linux does: the pages are clean now, and what they held is on no disk.
            return Err(io::Error::other("input/output error"));
        }
        for (at, octets) in pending {
            if file.durable.len() < at + octets.len() {
                file.durable.resize(at + octets.len(), 0);
            }
            file.durable[at..at + octets.len()].copy_from_slice(&octets);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[&self.inode].current.len() as u64)
    }

    fn file(&self) -> Option<&File> {
        None
    }
}
