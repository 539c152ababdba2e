//! A spool's disk in memory. Nothing fails and everything is durable at once: the store's own tests care for the rest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vsmtp_queue_manager::store::{Area, Disk, DiskFile, Listed};

/// No file grows beyond this; a store that wants to write there has believed a number it should not have.
const MAX_FILE: usize = 16 << 20;

#[derive(Debug, Clone, Default)]
struct Files {
    names: BTreeMap<(Area, String), u64>,
    octets: BTreeMap<u64, Vec<u8>>,
    last: u64,
}

/// The disk. A clone is the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Files>>);

impl MemoryDisk {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the store wants it.
    pub fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Another disk with the same content.
    pub fn copy(&self) -> Self {
        MemoryDisk(Arc::new(Mutex::new(self.files().clone())))
    }

    /// All files.
    pub fn names(&self) -> Vec<(Area, String)> {
        self.files().names.keys().cloned().collect()
    }

    /// Puts a file there, or replaces it.
    pub fn put(&self, area: Area, name: &str, octets: Vec<u8>) {
        let mut files = self.files();
        files.last += 1;
        let inode = files.last;
        files.octets.insert(inode, octets);
        files.names.insert((area, name.to_owned()), inode);
    }

    /// The octets of a file.
    pub fn octets(&self, area: Area, name: &str) -> Vec<u8> {
        let files = self.files();
        let inode = files.names.get(&(area, name.to_owned()));
        inode.and_then(|inode| files.octets.get(inode)).cloned().unwrap_or_default()
    }

    /// Changes a file.
    pub fn edit(&self, area: Area, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut files = self.files();
        let inode = files.names.get(&(area, name.to_owned())).copied();
        if let Some(octets) = inode.and_then(|inode| files.octets.get_mut(&inode)) {
            edit(octets);
        }
    }
}

impl Disk for MemoryDisk {
    fn list(&self, area: Area) -> io::Result<Vec<Listed>> {
        let files = self.files();
        let here = files.names.iter().filter(|((at, _), _)| *at == area);
        Ok(here
            .map(|((_, name), inode)| Listed {
                name: name.clone(),
                len: files.octets.get(inode).map_or(0, |octets| octets.len() as u64),
                regular: true,
                links: 1,
                identity: (0, *inode),
            })
            .collect())
    }

    fn create(&self, area: Area, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        if self.files().names.contains_key(&(area, name.to_owned())) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let len = usize::try_from(len).ok().filter(|len| *len <= MAX_FILE);
        self.put(area, name, vec![0; len.ok_or(io::ErrorKind::StorageFull)?]);
        self.open(area, name, true)
    }

    fn open(&self, area: Area, name: &str, _writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let inode = *self.files().names.get(&(area, name.to_owned())).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Handle { disk: self.clone(), inode }))
    }

    fn remove(&self, area: Area, name: &str) -> io::Result<()> {
        let removed = self.files().names.remove(&(area, name.to_owned()));
        removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: (Area, &str), to: (Area, &str)) -> io::Result<()> {
        let mut files = self.files();
        let inode = files.names.remove(&(from.0, from.1.to_owned())).ok_or(io::ErrorKind::NotFound)?;
        files.names.insert((to.0, to.1.to_owned()), inode);
        Ok(())
    }

    fn sync_area(&self, _area: Area) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX / 2)
    }
}

#[derive(Debug)]
struct Handle {
    disk: MemoryDisk,
    inode: u64,
}

impl DiskFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let files = self.disk.files();
        let octets = files.octets.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(octets.len());
        let part = &octets[from..(from + buffer.len()).min(octets.len())];
        buffer[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut files = self.disk.files();
        let octets = files.octets.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let mut at = usize::try_from(offset).unwrap_or(usize::MAX);
        for slice in slices {
            let end = at.checked_add(slice.len()).filter(|end| *end <= MAX_FILE);
            let end = end.ok_or(io::ErrorKind::StorageFull)?;
            octets.resize(octets.len().max(end), 0);
            octets[at..end].copy_from_slice(slice);
            at = end;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let files = self.disk.files();
        Ok(files.octets.get(&self.inode).ok_or(io::ErrorKind::NotFound)?.len() as u64)
    }

    fn file(&self) -> Option<&File> {
        None
    }
}
