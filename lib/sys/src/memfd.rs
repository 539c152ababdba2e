//! Message bodies as sealed memory files: whoever holds one can rely on its bytes and its length for ever.
//!
//! Nothing here waits, and nothing a peer does to its own descriptor of the same file changes what we read.

use std::ffi::CStr;
use std::io::{self, IoSlice};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{Mmap, MmapOptions};

use crate::disk;
use crate::gather;
use crate::retry::{check, invalid, repeated};

/// The seals that make a memory file constant: no write, no shrinking, no growing, no further change of seals.
const ALL_SEALS: libc::c_int =
    libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// A memory file that is proven to carry all four seals, and its length.
#[derive(Debug)]
pub struct Sealed {
    fd: OwnedFd,
    length: u64,
}

impl Sealed {
    /// A new file with the concatenation of `parts`. The name is seen in /proc only.
    pub fn create(name: &CStr, parts: &[IoSlice<'_>]) -> io::Result<Sealed> {
        let mut growing = Growing::create(name, u64::MAX)?;
        growing.append_parts(parts)?;
        growing.seal()
    }

    /// Checks that `fd`, from whomever it came, is a memory file with all seals and of the length stated with it.
    ///
    /// `InvalidData` if it is anything else. (A file on tmpfs can report a seal, but never all four.)
    pub fn verify(fd: OwnedFd, stated_length: u64) -> io::Result<Sealed> {
        // SAFETY: F_GET_SEALS touches no memory; the descriptor is open because we own it.
        let seals = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) })
            .map_err(|_| invalid("descriptor is not a memory file"))?;
        if seals & ALL_SEALS != ALL_SEALS {
            return Err(invalid("memory file is not sealed"));
        }
        let length = u64::try_from(nix::sys::stat::fstat(&fd)?.st_size).unwrap_or(0);
        if length != stated_length {
            return Err(invalid(format!("memory file holds {length} bytes, not {stated_length}")));
        }
        Ok(Sealed { fd, length })
    }

    /// The length in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether the file holds no byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A second descriptor for the same file.
    pub fn try_clone(&self) -> io::Result<Sealed> {
        Ok(Sealed { fd: self.fd.try_clone()?, length: self.length })
    }

    /// Gives up the proof and returns the descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Reads from `offset` into `buffer`; returns how many bytes there were, less than asked only at the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        disk::read_at(&self.fd, buffer, offset)
    }

    /// The whole content, in one allocation. `FileTooLarge` if it is longer than `limit` bytes.
    pub fn read_all(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.length > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let length = usize::try_from(self.length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut content = vec![0; length];
        if self.read_at(&mut content, 0)? != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(content)
    }

    /// Maps the content read-only.
    pub fn map(&self) -> io::Result<SealedMap> {
        let length = usize::try_from(self.length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut options = MmapOptions::new();
        options.len(length);
        // SAFETY: the bytes behind the map never change and never go away: the file carries the write, shrink and
        // grow seals for good, which `Growing::seal` and `Sealed::verify`, the only constructors, have seen to.
        let map = unsafe { options.map(&self.fd) }?;
        Ok(SealedMap { map })
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The bytes of a sealed memory file. Stays valid after the `Sealed` is gone.
#[derive(Debug)]
pub struct SealedMap {
    map: Mmap,
}

impl Deref for SealedMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl AsRef<[u8]> for SealedMap {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// A memory file being filled. Only its end can be written, and it leaves this type sealed.
#[derive(Debug)]
pub struct Growing {
    fd: OwnedFd,
    length: u64,
    limit: u64,
}

impl Growing {
    /// An empty file that takes at most `limit` bytes. The name is seen in /proc only.
    pub fn create(name: &CStr, limit: u64) -> io::Result<Growing> {
        Ok(Growing { fd: create_memfd(name)?, length: 0, limit })
    }

    /// The number of bytes so far.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing was appended yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends `bytes`. `FileTooLarge`, and nothing appended, if the limit would be passed.
    ///
    /// After any other error (no memory, a file size limit) the content is unknown: drop the file.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.append_parts(&[IoSlice::new(bytes)])
    }

    /// Appends all of `parts`, in one system call when the kernel takes them whole.
    pub fn append_parts(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        if gather::total(parts) > self.limit.saturating_sub(self.length) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let fd = self.fd.as_fd();
        self.length += gather::write_all(parts, |pieces, _| {
            repeated(|| nix::sys::uio::writev(fd, pieces).map_err(io::Error::from))
        })?;
        Ok(())
    }

    /// Reads back from `offset`; returns how many bytes there were.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        disk::read_at(&self.fd, buffer, offset)
    }

    /// Ends the writing for good, for everyone who holds a descriptor of this file.
    pub fn seal(self) -> io::Result<Sealed> {
        // SAFETY: F_ADD_SEALS touches no memory; the descriptor is open because we own it.
        check(unsafe { libc::fcntl(self.fd.as_raw_fd(), libc::F_ADD_SEALS, ALL_SEALS) })?;
        Ok(Sealed { fd: self.fd, length: self.length })
    }
}

fn create_memfd(name: &CStr) -> io::Result<OwnedFd> {
    // Linux before 6.3 does not know MFD_NOEXEC_SEAL; asked once, remembered after.
    static REFUSES_NOEXEC: AtomicBool = AtomicBool::new(false);
    const FLAGS: libc::c_uint = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    if !REFUSES_NOEXEC.load(Ordering::Relaxed) {
        match memfd_create(name, FLAGS | libc::MFD_NOEXEC_SEAL) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                REFUSES_NOEXEC.store(true, Ordering::Relaxed);
            }
            result => return result,
        }
    }
    memfd_create(name, FLAGS)
}

fn memfd_create(name: &CStr, flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string that outlives the call.
    let number = check(unsafe { libc::memfd_create(name.as_ptr(), flags) })?;
    // SAFETY: the kernel just returned this number to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    fn sealed(bytes: &[u8]) -> Sealed {
        Sealed::create(c"test", &[IoSlice::new(bytes)]).unwrap()
    }

    #[test]
    fn holds_what_was_put_in() {
        let parts = [b"one ".as_slice(), b"", b"two"].map(IoSlice::new);
        let body = Sealed::create(c"test", &parts).unwrap();
        assert_eq!((body.len(), body.is_empty()), (7, false));
        assert_eq!(body.read_all(7).unwrap(), b"one two");
        assert_eq!(body.read_all(6).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(&*body.map().unwrap(), b"one two");
        let mut middle = [0; 3];
        assert_eq!(body.read_at(&mut middle, 2).unwrap(), 3);
        assert_eq!(&middle, b"e t");
        assert_eq!(body.read_at(&mut middle, 6).unwrap(), 1);
        assert_eq!(body.read_at(&mut middle, 700).unwrap(), 0);
        assert_eq!(body.read_at(&mut middle, u64::MAX).unwrap(), 0);
    }

    #[test]
    fn an_empty_body_works_everywhere() {
        let body = sealed(b"");
        assert!(body.is_empty());
        assert_eq!(body.read_all(0).unwrap(), b"");
        assert_eq!(&*body.map().unwrap(), b"");
        assert_eq!(Sealed::verify(body.into_fd(), 0).unwrap().len(), 0);
    }

    #[test]
    fn nobody_can_change_it_afterwards() {
        let body = sealed(b"constant");
        let mut other = File::from(body.try_clone().unwrap().into_fd());
        assert_eq!(other.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(other.set_len(3).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(other.set_len(30).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(body.read_all(8).unwrap(), b"constant");
    }

    #[test]
    fn verify_accepts_only_all_seals_and_the_stated_length() {
        let refused = |fd: OwnedFd, length| Sealed::verify(fd, length).unwrap_err().kind();
        assert_eq!(Sealed::verify(sealed(b"four").into_fd(), 4).unwrap().read_all(4).unwrap(), b"four");
        assert_eq!(refused(sealed(b"four").into_fd(), 5), io::ErrorKind::InvalidData);
        assert_eq!(refused(sealed(b"four").into_fd(), 3), io::ErrorKind::InvalidData);
        assert_eq!(refused(File::open("/dev/null").unwrap().into(), 0), io::ErrorKind::InvalidData);
        assert_eq!(refused(tempfile::tempfile().unwrap().into(), 0), io::ErrorKind::InvalidData);
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(refused(socket.into(), 0), io::ErrorKind::InvalidData);
    }

    #[test]
    fn verify_misses_no_single_seal() {
        let seals = [libc::F_SEAL_WRITE, libc::F_SEAL_SHRINK, libc::F_SEAL_GROW, libc::F_SEAL_SEAL];
        for missing in seals {
            let growing = Growing::create(c"test", 10).unwrap();
            let some = nix::fcntl::SealFlag::from_bits_truncate(ALL_SEALS & !missing);
            nix::fcntl::fcntl(&growing.fd, nix::fcntl::FcntlArg::F_ADD_SEALS(some)).unwrap();
            let error = Sealed::verify(growing.fd, 0).unwrap_err();
            assert_eq!(error.to_string(), "memory file is not sealed");
        }
    }

    #[test]
    fn growing_keeps_its_limit_and_its_content() {
        let mut growing = Growing::create(c"test", 10).unwrap();
        assert!(growing.is_empty());
        growing.append(b"12345").unwrap();
        assert_eq!(growing.append(b"678901").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        growing.append_parts(&[IoSlice::new(b"678"), IoSlice::new(b"90")]).unwrap();
        growing.append(b"").unwrap();
        assert_eq!(growing.append(b"x").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let mut end = [0; 4];
        assert_eq!((growing.len(), growing.read_at(&mut end, 8).unwrap()), (10, 2));
        let body = growing.seal().unwrap();
        assert_eq!(body.read_all(10).unwrap(), b"1234567890");
        Sealed::verify(body.into_fd(), 10).unwrap();
    }

    #[test]
    fn a_map_outlives_the_descriptor() {
        let map = sealed(&[7; 100_000]).map().unwrap();
        assert!(map.len() == 100_000 && map.iter().all(|&byte| byte == 7));
    }
}
