//! The file operations of mailbox delivery, one by one, so that tests can see their order and let each of them fail.
//! Every name is resolved below the mail root, and no symbolic link is ever followed.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, RenameFlags, fcntl, renameat2};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, ftruncate, linkat, unlinkat};
use vsmtp_sys::disk::{self, Access, Create};

/// Permissions of folders.
const FOLDER_MODE: u32 = 0o700;
/// Permissions of files.
const FILE_MODE: u32 = 0o600;

/// What mailbox delivery does to the disk.
pub trait Disk {
    /// Opens a folder by its path below the root.
    fn open_folder(&self, path: &Path) -> io::Result<OwnedFd>;
    /// Makes a folder; one that is there already is fine.
    fn make_folder(&self, parent: BorrowedFd<'_>, name: &str) -> io::Result<()>;
    /// Makes a file that is not there yet.
    fn create(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd>;
    /// Opens a regular file for reading and writing; makes it if it is missing.
    fn open_file(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd>;
    /// Writes at an offset, all of it.
    fn write(&self, file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Fills the buffer from an offset, as far as the file goes; returns the octets read.
    fn read(&self, file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes a file's content durable.
    fn sync_file(&self, file: BorrowedFd<'_>) -> io::Result<()>;
    /// Moves a file to a name that nobody has.
    fn publish(&self, from: BorrowedFd<'_>, name: &str, to: BorrowedFd<'_>, new_name: &str)
    -> io::Result<()>;
    /// Makes a folder's names durable.
    fn sync_folder(&self, folder: BorrowedFd<'_>) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<()>;
    /// Cuts a file to this many octets.
    fn truncate(&self, file: BorrowedFd<'_>, len: u64) -> io::Result<()>;
    /// Takes the record lock on the whole file; false if somebody else has it. Ends with the descriptor.
    fn lock(&self, file: BorrowedFd<'_>) -> io::Result<bool>;
    /// When a file was last changed, in seconds since 1970.
    fn changed_at(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<u64>;
}

/// The real disk below one folder.
#[derive(Debug)]
pub struct Below {
    root: OwnedFd,
}

impl Below {
    /// Everything happens below this open folder.
    pub fn new(root: OwnedFd) -> Self {
        Below { root }
    }
}

impl Disk for Below {
    fn open_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        disk::open_beneath(&self.root, path, Access::Directory, Create::Never)
    }

    fn make_folder(&self, parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        match mkdirat(parent, name, Mode::from_bits_truncate(FOLDER_MODE)) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn create(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
        disk::open_beneath(folder, Path::new(name), Access::ReadWrite, Create::New(FILE_MODE))
    }

    fn open_file(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
        let file =
            disk::open_beneath(folder, Path::new(name), Access::ReadWrite, Create::IfMissing(FILE_MODE))?;
        let kind = SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFREG { Ok(file) } else { Err(Errno::EINVAL.into()) }
    }

    fn write(&self, file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> io::Result<()> {
        disk::pwritev_all(file, &[IoSlice::new(bytes)], offset)
    }

    fn read(&self, file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        disk::read_at(file, buffer, offset)
    }

    fn sync_file(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        disk::fdatasync(file)
    }

    fn publish(
        &self,
        from: BorrowedFd<'_>,
        name: &str,
        to: BorrowedFd<'_>,
        new_name: &str,
    ) -> io::Result<()> {
        match renameat2(from, name, to, new_name, RenameFlags::RENAME_NOREPLACE) {
            // Some network file systems know links only.
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                linkat(from, name, to, new_name, AtFlags::empty())?;
                self.remove(from, name)
            }
            result => Ok(result?),
        }
    }

    fn sync_folder(&self, folder: BorrowedFd<'_>) -> io::Result<()> {
        disk::sync_dir(folder)
    }

    fn remove(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        Ok(unlinkat(folder, name, UnlinkatFlags::NoRemoveDir)?)
    }

    fn truncate(&self, file: BorrowedFd<'_>, len: u64) -> io::Result<()> {
        Ok(ftruncate(file, i64::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?)?)
    }

    fn lock(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        // A lock of the open file, not of the process: it holds against our other threads too.
        let whole = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn changed_at(&self, folder: BorrowedFd<'_>, name: &str) -> io::Result<u64> {
        let status = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(u64::try_from(status.st_mtime).unwrap_or(0))
    }
}

/// Octets of an open file.
pub fn file_len(file: impl AsFd) -> io::Result<u64> {
    Ok(u64::try_from(fstat(file)?.st_size).unwrap_or(0))
}

/// Opens the folder `path` below the root after making what is missing of it. Every folder on the way is made durable,
/// even if somebody else made it a moment ago: nothing below it may be answered for before.
pub fn make_folders(disk: &impl Disk, path: &[&str]) -> io::Result<OwnedFd> {
    let mut done = std::path::PathBuf::new();
    let mut folder = disk.open_folder(&done)?;
    for name in path {
        disk.make_folder(folder.as_fd(), name)?;
        disk.sync_folder(folder.as_fd())?;
        done.push(name);
        folder = disk.open_folder(&done)?;
    }
    Ok(folder)
}
