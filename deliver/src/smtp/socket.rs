//! One outgoing stream, TCP or Unix, never blocking. TLS will wrap it here.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::{TcpStream, UnixStream};

use crate::smtp::route::Endpoint;

/// A connection being made, or made.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

impl Socket {
    /// Begins to connect. The socket becomes writable when that is decided.
    pub fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp(address) => TcpStream::connect(*address).map(Socket::Tcp),
            Endpoint::Unix(path) => UnixStream::connect(&**path).map(Socket::Unix),
        }
    }

    /// After it became writable: true if it is connected, false if that is not decided yet.
    pub fn connected(&self) -> io::Result<bool> {
        let (error, peer) = match self {
            Socket::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
            Socket::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
        };
        if let Some(error) = error {
            return Err(error);
        }
        match peer {
            Ok(()) => {
                // Everything is written in as few pieces as possible, so there is nothing to wait for.
                if let Socket::Tcp(stream) = self {
                    let _ = stream.set_nodelay(true);
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads what is there; `None` if there is nothing now, 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        now(|| match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        })
    }

    /// Writes as much as fits; `None` if nothing fits now.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        now(|| match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        })
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

/// How often an interrupted call is repeated.
const MAX_INTERRUPTS: usize = 16;

fn now(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    for _ in 0..MAX_INTERRUPTS {
        match call() {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
