//! File operations that durability depends on. Each does one thing, completely or with an error, and retries nothing
//! but interruptions: what a failed sync means is the caller's to decide.

use std::fs::{File, TryLockError};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;

use crate::gather;
use crate::retry::{check, count, repeated, uninterrupted};

/// How many zero bytes one write carries while a file is being prepared.
const ZEROS: usize = 1 << 20;

/// Reads from `offset` until the buffer is full or the file ends; returns the number of bytes.
pub fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let number = file.as_fd().as_raw_fd();
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = buffer.split_at_mut(filled).1;
        let Ok(position) = i64::try_from(offset.saturating_add(filled as u64)) else { break };
        // SAFETY: pointer and length are those of a live exclusive slice; the kernel writes at most that many bytes.
        let got =
            uninterrupted(|| unsafe { libc::pread(number, rest.as_mut_ptr().cast(), rest.len(), position) })?;
        if got == 0 {
            break;
        }
        filled += count(got);
    }
    Ok(filled)
}

/// Fills the buffer from `offset`; `UnexpectedEof` if the file ends before.
pub fn pread_exact(file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    if read_at(file, buffer, offset)? == buffer.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Writes all of `parts`, one after the other, from `offset` on.
///
/// One system call when the kernel takes everything. On an error an unknown part of it may have been written.
pub fn pwritev_all(file: impl AsFd, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
    let file = file.as_fd();
    gather::write_all(parts, |pieces, done| {
        let position = offset.checked_add(done).and_then(|position| i64::try_from(position).ok());
        let position = position.ok_or(io::ErrorKind::FileTooLarge)?;
        repeated(|| nix::sys::uio::pwritev(file, pieces, position).map_err(io::Error::from))
    })?;
    Ok(())
}

/// Makes `file` at least `length` bytes of written zeros on stable storage, whatever it held before.
///
/// Afterwards a write inside that range changes no metadata, so `fdatasync` flushes data and nothing else, and a full
/// disk cannot refuse it (on file systems that overwrite in place). On an error the file is of no use: remove it.
pub fn preallocate_zeroed(file: &File, length: u64) -> io::Result<()> {
    let signed = i64::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let number = file.as_raw_fd();
    // One extent if possible; file systems without the call get their blocks from the writes below.
    // SAFETY: fallocate touches no memory; the descriptor is open because it is borrowed.
    match uninterrupted(|| unsafe { libc::fallocate(number, 0, 0, signed.max(1)) }) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
            return Err(error);
        }
        _ => {}
    }
    let zeros = vec![0; ZEROS];
    let mut written = 0;
    while written < length {
        let piece = usize::try_from(length - written).unwrap_or(ZEROS).min(ZEROS);
        pwritev_all(file, &[IoSlice::new(zeros.split_at(piece).0)], written)?;
        written += piece as u64;
    }
    file.sync_all()
}

/// Flushes the file's data, and what metadata is needed to read it back, to stable storage.
///
/// After an error the kernel may have dropped the pages: the same data must not be trusted to a second call.
pub fn fdatasync(file: impl AsFd) -> io::Result<()> {
    let number = file.as_fd().as_raw_fd();
    // SAFETY: fdatasync touches no memory; the descriptor is open because it is borrowed.
    check(unsafe { libc::fdatasync(number) })?;
    Ok(())
}

/// Makes the names in a directory durable: needed after creating, renaming or removing an entry.
pub fn sync_dir(directory: impl AsFd) -> io::Result<()> {
    let number = directory.as_fd().as_raw_fd();
    // SAFETY: fsync touches no memory; the descriptor is open because it is borrowed.
    check(unsafe { libc::fsync(number) })?;
    Ok(())
}

/// The answer to `lock_exclusive`.
#[derive(Debug)]
pub enum Lock {
    /// Ours until this is dropped and no descriptor of the same open file is left.
    Held(Locked),
    /// Another process has it.
    Busy,
}

/// A file with an exclusive lock (flock).
#[derive(Debug)]
pub struct Locked {
    file: File,
}

impl Locked {
    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Tries to lock the file for this process alone; never waits.
pub fn lock_exclusive(file: File) -> io::Result<Lock> {
    match file.try_lock() {
        Ok(()) => Ok(Lock::Held(Locked { file })),
        Err(TryLockError::WouldBlock) => Ok(Lock::Busy),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What a file system has left for a process without privilege.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// Bytes.
    pub bytes: u64,
    /// Files; `u64::MAX` where the file system has no such limit.
    pub inodes: u64,
}

/// The room left on the file system that holds this file or directory.
pub fn free_space(file: impl AsFd) -> io::Result<FreeSpace> {
    let status = fstatvfs(file)?;
    let bytes = status.blocks_available().saturating_mul(status.fragment_size());
    let inodes = if status.files() == 0 { u64::MAX } else { status.files_available() };
    Ok(FreeSpace { bytes, inodes })
}

/// What `open_beneath` opens a file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// Writing at the end.
    Append,
    /// Reading a directory, and as the base of further names.
    Directory,
}

/// What `open_beneath` does about a name that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// It is an error.
    Never,
    /// It is made, with these permission bits (less the umask).
    IfMissing(u32),
    /// It is made, with these permission bits (less the umask), and a name that is there is an error.
    New(u32),
}

/// Opens `name` below `directory`. Neither `..`, nor an absolute name, nor any symbolic link leads out or is followed.
pub fn open_beneath(
    directory: impl AsFd,
    name: &Path,
    access: Access,
    create: Create,
) -> io::Result<OwnedFd> {
    let access = match access {
        Access::Read => OFlag::O_RDONLY,
        Access::ReadWrite => OFlag::O_RDWR,
        Access::Append => OFlag::O_WRONLY | OFlag::O_APPEND,
        Access::Directory => OFlag::O_RDONLY | OFlag::O_DIRECTORY,
    };
    let (create, mode) = match create {
        Create::Never => (OFlag::empty(), 0),
        Create::IfMissing(mode) => (OFlag::O_CREAT, mode),
        Create::New(mode) => (OFlag::O_CREAT | OFlag::O_EXCL, mode),
    };
    // O_NONBLOCK: a FIFO that somebody put there must not stop us; it changes nothing for a regular file.
    let flags = access | create | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let how = OpenHow::new()
        .flags(flags)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    repeated(|| nix::fcntl::openat2(&directory, name, how).map_err(io::Error::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

    #[test]
    fn writes_land_where_they_should_and_reads_bring_them_back() {
        let file = tempfile::tempfile().unwrap();
        let parts = [b"he".as_slice(), b"", b"llo"].map(IoSlice::new);
        pwritev_all(&file, &parts, 3).unwrap();
        pwritev_all(&file, &[], 900).unwrap();
        let mut all = [1; 9];
        assert_eq!(read_at(&file, &mut all, 0).unwrap(), 8);
        assert_eq!(&all, b"\0\0\0hello\x01");
        let mut some = [0; 4];
        pread_exact(&file, &mut some, 4).unwrap();
        assert_eq!(&some, b"ello");
        let error = pread_exact(&file, &mut some, 5).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let error = pwritev_all(&file, &parts, u64::MAX - 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_at(&file, &mut some, u64::MAX).unwrap(), 0);
    }

    #[test]
    fn more_pieces_than_one_call_takes() {
        let bytes: Vec<u8> = (0..5000u32).map(|number| number as u8).collect();
        let parts: Vec<IoSlice<'_>> = bytes.chunks(2).map(IoSlice::new).collect();
        let file = tempfile::tempfile().unwrap();
        pwritev_all(&file, &parts, 0).unwrap();
        let mut back = vec![0; bytes.len()];
        pread_exact(&file, &mut back, 0).unwrap();
        assert_eq!(back, bytes);
    }

    #[test]
    fn preallocation_gives_written_zeros_of_the_asked_length() {
        let file = tempfile::tempfile().unwrap();
        file.write_at(b"old", 0).unwrap();
        let length = 3 * ZEROS as u64 / 2 + 7;
        preallocate_zeroed(&file, length).unwrap();
        let status = file.metadata().unwrap();
        assert_eq!(status.len(), length);
        assert!(status.blocks() * 512 >= length);
        let mut content = vec![1; length as usize];
        pread_exact(&file, &mut content, 0).unwrap();
        assert!(content.iter().all(|&byte| byte == 0));
        preallocate_zeroed(&tempfile::tempfile().unwrap(), 0).unwrap();
    }

    #[test]
    fn syncing_works_on_files_and_directories_and_fails_on_sockets() {
        let dir = tempfile::tempdir().unwrap();
        fdatasync(File::create(dir.path().join("new")).unwrap()).unwrap();
        sync_dir(File::open(dir.path()).unwrap()).unwrap();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(fdatasync(&socket).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_lock_excludes_others_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::create(dir.path().join("lock")).unwrap();
        let Lock::Held(held) = lock_exclusive(open()).unwrap() else { panic!("nobody else has it") };
        assert!(matches!(lock_exclusive(open()).unwrap(), Lock::Busy));
        drop(held);
        assert!(matches!(lock_exclusive(open()).unwrap(), Lock::Held(_)));
    }

    #[test]
    fn free_space_is_a_plausible_number() {
        let free = free_space(tempfile::tempfile().unwrap()).unwrap();
        assert!(free.bytes > 0 && free.inodes > 0);
    }

    #[test]
    fn nothing_leads_out_of_the_directory() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "s").unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir_all(inner.join("sub")).unwrap();
        fs::write(inner.join("sub/mine"), "m").unwrap();
        symlink("../secret", inner.join("link")).unwrap();
        symlink("sub", inner.join("dirlink")).unwrap();
        let dir = File::open(&inner).unwrap();
        let read = |name: &str| open_beneath(&dir, Path::new(name), Access::Read, Create::Never);
        read("sub/mine").unwrap();
        for name in ["../secret", "/etc/passwd", "link", "dirlink/mine", "sub/../../secret", ""] {
            read(name).unwrap_err();
        }
        assert_eq!(read("absent").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn creating_honours_mode_and_exclusion() {
        let dir = tempfile::tempdir().unwrap();
        let base = File::open(dir.path()).unwrap();
        let open = |access, create| open_beneath(&base, Path::new("file"), access, create);
        open(Access::Append, Create::IfMissing(0o600)).unwrap();
        let mode = fs::metadata(dir.path().join("file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let error = open(Access::ReadWrite, Create::New(0o600)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        open(Access::ReadWrite, Create::Never).unwrap();
        open(Access::Directory, Create::Never).unwrap_err();
    }
}
