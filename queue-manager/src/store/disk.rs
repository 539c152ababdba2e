//! What the store asks of a disk, and the disk of this machine. Every method does one thing to one file and says
//! whether it worked; nothing here retries, caches or decides. Tests put a simulated disk in its place.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vsmtp_sys::disk::{
    Access, Create, fdatasync, free_space, open_beneath, preallocate_zeroed, pwritev_all, sync_dir,
};
use vsmtp_sys::region::Region;

/// The folders of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// The log.
    Segments,
    /// One sidecar per sealed segment; may be deleted at any time.
    Index,
    /// Bodies that are files of their own.
    Large,
    /// Large bodies that are not accepted yet.
    Staging,
    /// What recovery set aside. Never read again by the store.
    Corrupt,
}

impl Area {
    /// All folders.
    pub const ALL: [Area; 5] = [Area::Segments, Area::Index, Area::Large, Area::Staging, Area::Corrupt];

    /// The folder's name below the spool.
    pub fn name(self) -> &'static str {
        match self {
            Area::Segments => "segments",
            Area::Index => "index",
            Area::Large => "large",
            Area::Staging => "staging",
            Area::Corrupt => "corrupt",
        }
    }
}

/// One directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Name.
    pub name: String,
    /// Length in octets.
    pub len: u64,
    /// A plain file, not a link, folder or device.
    pub regular: bool,
    /// Names that the file has.
    pub links: u64,
    /// Device and inode: two names with the same pair are one file.
    pub identity: (u64, u64),
}

/// An open file.
pub trait DiskFile: Send + Sync + std::fmt::Debug {
    /// Fills the buffer from `offset`, as far as the file goes; returns the octets read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all slices, one after the other, from `offset`.
    fn write_all_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Makes what was written durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Length in octets.
    fn len(&self) -> io::Result<u64>;
    /// True if the file has no octet.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// A mapping of its first octets, for copying out; none where there cannot be one.
    fn map(&self, _len: u64) -> Option<Region> {
        None
    }
    /// The file itself, to be handed to another process; none on a simulated disk.
    fn file(&self) -> Option<&File>;
}

/// A place for files.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Entries of an area, in no order.
    fn list(&self, area: Area) -> io::Result<Vec<Listed>>;
    /// Makes a new file of `len` zero octets whose blocks are allocated and written, mode 0600. It must not exist.
    fn create(&self, area: Area, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a plain file; never follows a link.
    fn open(&self, area: Area, name: &str, writable: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a name.
    fn remove(&self, area: Area, name: &str) -> io::Result<()>;
    /// Moves a file, within the spool.
    fn rename(&self, from: (Area, &str), to: (Area, &str)) -> io::Result<()>;
    /// Makes creations, renames and removals in an area durable.
    fn sync_area(&self, area: Area) -> io::Result<()>;
    /// Octets that are free for us.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// The disk of this machine, below one directory.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    areas: [Option<File>; Area::ALL.len()],
}

impl RealDisk {
    /// Makes the areas below `root` if they are missing. `root` itself must exist.
    pub fn create(root: &Path) -> io::Result<Self> {
        for area in Area::ALL {
            match fs::DirBuilder::new().mode(0o700).create(root.join(area.name())) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        sync_dir(File::open(root)?)?;
        let disk = Self::look(root)?;
        match Area::ALL.iter().find(|area| disk.directory(**area).is_err()) {
            Some(area) => Err(io::Error::new(io::ErrorKind::NotADirectory, area.name())),
            None => Ok(disk),
        }
    }

    /// Opens a spool to look at it; makes nothing. An area that is missing is an error when it is used.
    pub fn look(root: &Path) -> io::Result<Self> {
        let base = File::open(root)?;
        let open = |area: Area| {
            open_beneath(&base, Path::new(area.name()), Access::Directory, Create::Never).ok().map(File::from)
        };
        Ok(RealDisk { root: root.to_owned(), areas: Area::ALL.map(open) })
    }

    fn directory(&self, area: Area) -> io::Result<&File> {
        let found = Area::ALL.iter().zip(&self.areas).find(|(known, _)| **known == area);
        found.and_then(|(_, file)| file.as_ref()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn path(&self, area: Area, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.root.join(area.name()).join(name))
    }
}

/// Names come from directory listings and numbers, but one look too many costs nothing.
fn check_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name"));
    }
    Ok(())
}

impl Disk for RealDisk {
    fn list(&self, area: Area) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root.join(area.name()))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let about = match entry.path().symlink_metadata() {
                Ok(about) => about,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            found.push(Listed {
                name,
                len: about.len(),
                regular: about.is_file(),
                links: about.nlink(),
                identity: (about.dev(), about.ino()),
            });
        }
        Ok(found)
    }

    fn create(&self, area: Area, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let directory = self.directory(area)?;
        let file = open_beneath(directory, Path::new(name), Access::ReadWrite, Create::New(0o600))?;
        let file = File::from(file);
        if len > 0
            && let Err(error) = preallocate_zeroed(&file, len)
        {
            let _ = self.remove(area, name);
            return Err(error);
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, area: Area, name: &str, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let access = if writable { Access::ReadWrite } else { Access::Read };
        let file = File::from(open_beneath(self.directory(area)?, Path::new(name), access, Create::Never)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn remove(&self, area: Area, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(area, name)?)
    }

    fn rename(&self, from: (Area, &str), to: (Area, &str)) -> io::Result<()> {
        fs::rename(self.path(from.0, from.1)?, self.path(to.0, to.1)?)
    }

    fn sync_area(&self, area: Area) -> io::Result<()> {
        sync_dir(self.directory(area)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        free_space(self.directory(Area::Segments)?).map(|free| free.bytes)
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        vsmtp_sys::disk::read_at(&self.0, buffer, offset)
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        pwritev_all(&self.0, slices, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        fdatasync(&self.0)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|about| about.len())
    }

    fn map(&self, len: u64) -> Option<Region> {
        Region::map(&self.0, usize::try_from(len).ok()?).ok()
    }

    fn file(&self) -> Option<&File> {
        Some(&self.0)
    }
}
