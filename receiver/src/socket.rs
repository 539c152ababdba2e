//! A client's connection: TCP or the local socket. Non-blocking reads and writes, nothing else.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::{TcpStream, UnixStream};
use vsmtp_sys::stream;

/// An accepted connection.
#[derive(Debug)]
pub enum Socket {
    /// From the network.
    Tcp(TcpStream),
    /// From this host.
    Unix(UnixStream),
}

/// What a read or a write achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many octets, at least one.
    Some(usize),
    /// None now; an event will tell when.
    Blocked,
    /// It is over.
    Ended(End),
}

/// How a connection ended that this side did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client has closed its side.
    Closed,
    /// The connection failed: the client or something in between has broken it off.
    Failed,
    /// What came is no TLS, or was changed on the way.
    BrokenTls,
}

impl Socket {
    /// Reads what is there, as much as the buffer takes.
    pub fn read(&mut self, buffer: &mut [u8]) -> Moved {
        moved(|| Read::read(self, buffer))
    }

    /// Looks at what is there and leaves it there.
    pub fn peek(&mut self, buffer: &mut [u8]) -> Moved {
        moved(|| match self {
            Socket::Tcp(stream) => stream.peek(buffer),
            Socket::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        })
    }

    /// Writes as much as the kernel takes.
    pub fn write(&mut self, bytes: &[u8]) -> Moved {
        moved(|| Write::write(self, bytes))
    }

    /// Sends the end behind what was written. The client can still be heard.
    pub fn shut(&self) {
        // One that fails is no connection any more, which the next read finds out.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write_vectored(parts),
            Socket::Unix(stream) => stream.write_vectored(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that is closed behind what is written to it now: the kernel sends both together. Only where nothing unread is
/// left in the socket, see [`stream::write_with_end`].
pub struct Ending<'a>(pub &'a mut Socket);

impl Write for Ending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        stream::write_with_end(&*self.0, parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ending<'_> {
    /// Writes as much as the kernel takes.
    pub fn write(&mut self, bytes: &[u8]) -> Moved {
        moved(|| Write::write(self, bytes))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

fn moved(mut call: impl FnMut() -> io::Result<usize>) -> Moved {
    loop {
        return match call() {
            Ok(0) => Moved::Ended(End::Closed),
            Ok(count) => Moved::Some(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Moved::Blocked,
            Err(_) => Moved::Ended(End::Failed),
        };
    }
}
