//! The bytes of a message, wherever they are: in memory, in a sealed memory file, in a read-only file. Whoever sent
//! them, they are checked before the first read. Nothing here holds more of a message than the reader's buffer.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use vsmtp_ipc::wire::{Body, MAX_INLINE_BODY, MAX_MEMFD_BODY};
use vsmtp_sys::fds::{FdKind, fd_kind};
use vsmtp_sys::{disk, memfd::Sealed};

/// A message's bytes, of a known length.
pub enum Content {
    /// Small: came inside the lease.
    Memory(Vec<u8>),
    /// Medium: a sealed memory file.
    Sealed(Sealed),
    /// Large: a regular file, opened for reading only.
    File {
        /// The file.
        file: OwnedFd,
        /// Octets, as its owner stated and the file system confirmed.
        len: u64,
    },
}

/// The descriptor is not what the message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentError(String);

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message body: {}", self.0)
    }
}

impl std::error::Error for ContentError {}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        ContentError(error.to_string())
    }
}

impl Content {
    /// Checks a body that crossed an edge.
    pub fn from_wire(body: Body, descriptor: Option<OwnedFd>) -> Result<Self, ContentError> {
        let wrong = |what: &str| ContentError(what.to_owned());
        match (body, descriptor) {
            (Body::Inline(bytes), None) if bytes.len() <= MAX_INLINE_BODY => Ok(Content::Memory(bytes)),
            (Body::Inline(_), _) => Err(wrong("too large to be inline")),
            (Body::Memfd(len), Some(fd)) if len <= MAX_MEMFD_BODY => {
                Sealed::verify(fd, len).map(Content::Sealed).map_err(|error| ContentError(error.to_string()))
            }
            (Body::Memfd(_), _) => Err(wrong("too large for a memory file")),
            (Body::File(len), Some(file)) => Self::from_file(file, len),
            (Body::File(_), None) => Err(wrong("file is missing")),
        }
    }

    fn from_file(file: OwnedFd, len: u64) -> Result<Self, ContentError> {
        let wrong = |what: String| ContentError(what);
        if fd_kind(file.as_fd()) != FdKind::Regular {
            return Err(wrong("not a regular file".to_owned()));
        }
        let flags = fcntl(&file, FcntlArg::F_GETFL).map_err(|errno| wrong(errno.to_string()))?;
        if OFlag::from_bits_retain(flags) & OFlag::O_ACCMODE != OFlag::O_RDONLY {
            return Err(wrong("file can be written through its descriptor".to_owned()));
        }
        let status = nix::sys::stat::fstat(&file).map_err(|errno| wrong(errno.to_string()))?;
        if u64::try_from(status.st_size).ok() != Some(len) {
            return Err(wrong(format!("file holds {} octets, not {len}", status.st_size)));
        }
        Ok(Content::File { file, len })
    }

    /// Octets.
    pub fn len(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::Sealed(sealed) => sealed.len(),
            Content::File { len, .. } => *len,
        }
    }

    /// True if there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` from `offset` and answers how many octets there were; fewer than asked only at the end.
    ///
    /// # Errors
    /// The read failed, or the file has shrunk since it was checked.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.len().saturating_sub(offset);
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let target = buffer.get_mut(..wanted).unwrap_or_default();
        let got = match self {
            Content::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let source = bytes.get(start..).and_then(|rest| rest.get(..wanted)).unwrap_or_default();
                target.copy_from_slice(source);
                source.len()
            }
            Content::Sealed(sealed) => sealed.read_at(target, offset)?,
            Content::File { file, .. } => disk::read_at(file, target, offset)?,
        };
        if got == wanted { Ok(got) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// The first octets, at most `limit`.
    pub fn head(&self, limit: usize) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len()).unwrap_or(usize::MAX).min(limit);
        let mut head = vec![0; len];
        self.read_at(&mut head, 0)?;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::{IoSlice, Write};

    use super::*;

    fn file(bytes: &[u8]) -> (tempfile::NamedTempFile, OwnedFd) {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(bytes).unwrap();
        let read_only = File::open(named.path()).unwrap();
        (named, read_only.into())
    }

    #[test]
    fn all_three_kinds_read_the_same() {
        let text = b"From: a\r\n\r\nbody\r\n";
        let sealed = Sealed::create(c"t", &[IoSlice::new(text)]).unwrap().into_fd();
        let (_named, read_only) = file(text);
        let len = text.len() as u64;
        let all = [
            Content::from_wire(Body::Inline(text.to_vec()), None).unwrap(),
            Content::from_wire(Body::Memfd(len), Some(sealed)).unwrap(),
            Content::from_wire(Body::File(len), Some(read_only)).unwrap(),
        ];
        for content in all {
            let mut buffer = [0; 5];
            assert_eq!(content.len(), len);
            assert_eq!((content.read_at(&mut buffer, 6).unwrap(), &buffer), (5, b"a\r\n\r\n"));
            assert_eq!(content.read_at(&mut buffer, len - 2).unwrap(), 2);
            assert_eq!(content.read_at(&mut buffer, len + 2).unwrap(), 0);
            assert_eq!(content.head(7).unwrap(), b"From: a"[..7]);
            assert_eq!(content.head(1 << 20).unwrap(), text);
        }
    }

    #[test]
    fn what_could_change_or_block_is_refused() {
        let (named, read_only) = file(b"1234");
        let writable = OpenOptions::new().read(true).write(true).open(named.path()).unwrap();
        assert!(Content::from_wire(Body::File(4), Some(writable.into())).is_err());
        assert!(Content::from_wire(Body::File(5), Some(read_only.try_clone().unwrap())).is_err());
        assert!(Content::from_wire(Body::Memfd(4), Some(read_only)).is_err());
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(Content::from_wire(Body::File(0), Some(reader.into())).is_err());
        assert!(Content::from_wire(Body::Inline(vec![0; MAX_INLINE_BODY + 1]), None).is_err());
        assert!(Content::from_wire(Body::File(1), None).is_err());
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_no_short_message() {
        let (named, read_only) = file(b"12345678");
        let content = Content::from_wire(Body::File(8), Some(read_only)).unwrap();
        named.as_file().set_len(4).unwrap();
        assert!(content.read_at(&mut [0; 8], 0).is_err());
    }
}
