//! One outgoing stream, TCP or Unix, in clear or through TLS, never blocking.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mio::net::{TcpStream, UnixStream};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage};
use vsmtp_tls::client::{ClientSession, Secured, TlsFailure};

use crate::smtp::route::Endpoint;

/// A connection being made, or made.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    tls: Tls,
}

/// Where TLS stands.
#[derive(Debug)]
enum Tls {
    None,
    /// In the handshake: nothing else may be said.
    Starting(ClientSession),
    On(ClientSession, Secured),
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Begins to connect. The socket becomes writable when that is decided.
    pub fn connect(endpoint: &Endpoint, source: Option<IpAddr>) -> io::Result<Self> {
        let stream = match (endpoint, source) {
            (Endpoint::Tcp(address), Some(source)) => connect_from(source, *address).map(Stream::Tcp)?,
            (Endpoint::Tcp(address), None) => TcpStream::connect(*address).map(Stream::Tcp)?,
            (Endpoint::Unix(path), _) => UnixStream::connect(&**path).map(Stream::Unix)?,
        };
        Ok(Socket { stream, tls: Tls::None })
    }

    /// After it became writable: true if it is connected, false if that is not decided yet.
    pub fn connected(&self) -> io::Result<bool> {
        let (error, peer) = match &self.stream {
            Stream::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
            Stream::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(|_| ())),
        };
        if let Some(error) = error {
            return Err(error);
        }
        match peer {
            Ok(()) => {
                // Everything is written in as few pieces as possible, so there is nothing to wait for.
                if let Stream::Tcp(stream) = &self.stream {
                    let _ = stream.set_nodelay(true);
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// From now on everything goes through TLS, the handshake first. Once only.
    pub fn start_tls(&mut self, session: ClientSession) {
        self.tls = Tls::Starting(session);
    }

    /// True between the begin of a handshake and its end.
    pub fn is_starting_tls(&self) -> bool {
        matches!(self.tls, Tls::Starting(_))
    }

    /// What was agreed on, once the handshake is done.
    pub fn secured(&self) -> Option<&Secured> {
        match &self.tls {
            Tls::On(_, secured) => Some(secured),
            Tls::None | Tls::Starting(_) => None,
        }
    }

    /// What the server did not prove, where that was only looked at.
    pub fn doubt(&self) -> Option<&TlsFailure> {
        match &self.tls {
            Tls::On(session, _) => session.doubt(),
            Tls::None | Tls::Starting(_) => None,
        }
    }

    /// Our own address, once connected by TCP.
    pub fn local_ip(&self) -> Option<IpAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().ok().map(|address| address.ip()),
            Stream::Unix(_) => None,
        }
    }

    /// Goes on with the handshake; true when it is done.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub fn handshake(&mut self) -> Result<bool, TlsFailure> {
        let Tls::Starting(session) = &mut self.tls else { return Ok(true) };
        if !session.handshake(&mut self.stream)? {
            return Ok(false);
        }
        self.tls = match std::mem::replace(&mut self.tls, Tls::None) {
            Tls::Starting(session) => {
                let secured = session.secured();
                Tls::On(session, secured)
            }
            other => other,
        };
        Ok(true)
    }

    /// Reads what is there; `None` if there is nothing now, 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match &mut self.tls {
            Tls::None => now(|| self.stream.read(buffer)),
            Tls::Starting(_) => Ok(None),
            Tls::On(session, _) => session.read(&mut self.stream, buffer),
        }
    }

    /// Writes as much as fits; `None` if nothing fits now.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        match &mut self.tls {
            Tls::None => now(|| self.stream.write(bytes)),
            Tls::Starting(_) => Ok(None),
            Tls::On(session, _) => session.write(&mut self.stream, bytes),
        }
    }

    /// Sends what TLS has taken and not sent; true if nothing is left.
    pub fn flush(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            Tls::On(session, _) => session.flush(&mut self.stream),
            Tls::None | Tls::Starting(_) => Ok(true),
        }
    }

    /// Tells the other side that no more comes.
    pub fn close(&mut self) {
        if let Tls::On(session, _) = &mut self.tls {
            session.close(&mut self.stream);
        }
    }
}

/// Begins to connect from one of our own addresses, and from any port: the kernel chooses one when it knows the server, so
/// that there are as many as each server needs.
fn connect_from(source: IpAddr, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = bound(source)?;
    match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => Ok(TcpStream::from_std(socket.into())),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether connections can come from one of our own addresses at all.
///
/// # Errors
/// They cannot, for this reason.
pub fn try_source(source: IpAddr) -> io::Result<()> {
    bound(source).map(drop)
}

fn bound(source: IpAddr) -> io::Result<OwnedFd> {
    let family = if source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(family, SockType::Stream, flags, None)?;
    // Without it the port is taken before the server is known, and all servers together share 28,000.
    let _ = socket::setsockopt(&socket, socket::sockopt::IpBindAddressNoPort, &true);
    let from = SockaddrStorage::from(SocketAddr::new(source, 0));
    socket::bind(socket.as_raw_fd(), &from)
        .map_err(|errno| io::Error::new(io::Error::from(errno).kind(), format!("from {source}: {errno}")))?;
    Ok(socket)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
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
