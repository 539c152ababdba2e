//! A disk that fails when it is told to.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::{Area, Disk, DiskFile, Listed, RealDisk};

/// What goes wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) sync: AtomicBool,
    pub(super) read: AtomicBool,
}

#[derive(Debug)]
pub(super) struct FailingDisk {
    pub(super) disk: RealDisk,
    pub(super) faults: Arc<Faults>,
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn DiskFile>,
    faults: Arc<Faults>,
}

fn fail(fault: &AtomicBool) -> io::Result<()> {
    if fault.load(Ordering::Relaxed) { Err(io::Error::other("told to fail")) } else { Ok(()) }
}

impl FailingDisk {
    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FailingFile { file, faults: self.faults.clone() })
    }
}

impl Disk for FailingDisk {
    fn list(&self, area: Area) -> io::Result<Vec<Listed>> {
        self.disk.list(area)
    }
    fn create(&self, area: Area, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        fail(&self.faults.sync)?;
        self.disk.create(area, name, len).map(|file| self.wrap(file))
    }
    fn open(&self, area: Area, name: &str, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(area, name, writable).map(|file| self.wrap(file))
    }
    fn remove(&self, area: Area, name: &str) -> io::Result<()> {
        self.disk.remove(area, name)
    }
    fn rename(&self, from: (Area, &str), to: (Area, &str)) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn sync_area(&self, area: Area) -> io::Result<()> {
        self.disk.sync_area(area)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for FailingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        fail(&self.faults.read)?;
        self.file.read_at(buffer, offset)
    }
    fn write_all_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        fail(&self.faults.sync)?;
        self.file.write_all_at(slices, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        fail(&self.faults.sync)?;
        self.file.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn file(&self) -> Option<&std::fs::File> {
        self.file.file()
    }
}
