//! A connection to a server that is asked by a protocol of our own making. Every wait ends when the question is out of time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use vsmtp_config::Place;
use vsmtp_tls::client::ClientSession;

use crate::tls::Tls;

/// A connection.
#[derive(Debug)]
pub struct Wire {
    timed: Timed,
    /// From the moment on that it is encrypted.
    session: Option<ClientSession>,
}

/// A socket, and until when it is waited for.
#[derive(Debug)]
struct Timed {
    socket: Socket,
    until: Instant,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Wire {
    /// Connects. A name is looked up by the C library, in its own time.
    ///
    /// # Errors
    /// Nobody answers there in time.
    pub fn connect(place: &Place, until: Instant) -> io::Result<Self> {
        let socket = match place {
            Place::Tcp { host, port } => Socket::Tcp(tcp(host, *port, until)?),
            Place::Unix(path) => Socket::Unix(unix(path, left(until)?)?),
        };
        Ok(Wire { timed: Timed { socket, until }, session: None })
    }

    /// Begins TLS; all that follows is encrypted.
    ///
    /// # Errors
    /// The server has not proven who it is in time.
    pub fn secure(&mut self, tls: &Tls) -> io::Result<()> {
        let mut session = tls.session()?;
        match session.handshake(&mut self.timed) {
            Ok(true) => self.session = Some(session),
            Ok(false) => return Err(ErrorKind::TimedOut.into()),
            Err(failure) => return Err(io::Error::other(failure.to_string())),
        }
        Ok(())
    }

    /// What is waited for must be there before this.
    pub fn wait_until(&mut self, until: Instant) {
        self.timed.until = until;
    }

    /// The socket, which closes with this.
    pub fn fd(&self) -> RawFd {
        match &self.timed.socket {
            Socket::Tcp(stream) => stream.as_raw_fd(),
            Socket::Unix(stream) => stream.as_raw_fd(),
        }
    }

    /// True if the server has said nothing since it was last heard, not even that it is gone.
    pub fn is_quiet(&self) -> bool {
        let seen = recv(self.fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        seen == Err(nix::errno::Errno::EAGAIN)
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn tcp(host: &str, port: u16, until: Instant) -> io::Result<TcpStream> {
    first_of(&(host, port).to_socket_addrs()?.collect::<Vec<_>>(), until)
}

/// The first that answers. One that is silent, as behind a dead route, has its share of the time and no more.
fn first_of(addresses: &[SocketAddr], until: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(ErrorKind::NotFound, "its name has no address");
    for (at, address) in addresses.iter().enumerate() {
        let shares = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let share = (left(until)? / shares).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The kernel waits for a server that has more to accept than it does; the standard library cannot bound that.
fn unix(path: &str, left: Duration) -> io::Result<UnixStream> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let wait = TimeVal::milliseconds(i64::try_from(left.as_millis()).unwrap_or(i64::MAX).max(1));
    setsockopt(&socket.as_fd(), sockopt::SendTimeout, &wait)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}

impl Read for Wire {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        match &mut self.session {
            Some(session) => session.read(&mut self.timed, octets)?.ok_or_else(|| ErrorKind::TimedOut.into()),
            None => self.timed.read(octets),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match &mut self.session {
            Some(session) => {
                session.write(&mut self.timed, octets)?.ok_or_else(|| ErrorKind::TimedOut.into())
            }
            None => self.timed.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let is_sent = match &mut self.session {
            Some(session) => session.flush(&mut self.timed)?,
            None => true,
        };
        if is_sent { Ok(()) } else { Err(ErrorKind::TimedOut.into()) }
    }
}

impl Read for Timed {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let left = Some(left(self.until)?);
        match &mut self.socket {
            Socket::Tcp(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(octets)),
            Socket::Unix(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(octets)),
        }
    }
}

impl Write for Timed {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let left = Some(left(self.until)?);
        match &mut self.socket {
            Socket::Tcp(stream) => stream.set_write_timeout(left).and_then(|()| stream.write(octets)),
            Socket::Unix(stream) => stream.set_write_timeout(left).and_then(|()| stream.write(octets)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[test]
    fn words_of_a_server_that_nobody_asked_for_are_seen_and_so_is_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (local, tcp) = (UnixListener::bind(&path).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let port = tcp.local_addr().unwrap().port();
        let mut one = Wire::connect(&Place::Unix(path.to_str().unwrap().to_owned()), soon()).unwrap();
        let other = Wire::connect(&Place::Tcp { host: "127.0.0.1".to_owned(), port }, soon()).unwrap();
        let (mut server, _) = local.accept().unwrap();
        let (gone, _) = tcp.accept().unwrap();
        assert!(one.is_quiet() && other.is_quiet());
        server.write_all(b"x").unwrap();
        drop(gone);
        assert!(!one.is_quiet());
        let mut end = [0];
        let Socket::Tcp(stream) = &other.timed.socket else { panic!("it is by TCP") };
        assert_eq!(stream.peek(&mut end).unwrap(), 0);
        assert!(!other.is_quiet());
        one.wait_until(Instant::now());
        assert_eq!(one.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(one.write(b"x").unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn an_address_that_is_silent_leaves_time_for_the_next_one() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        nix::sys::socket::listen(&silent, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let address = silent.local_addr().unwrap();
        // It accepts nobody: once its line is full, the kernel does not answer any more.
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
        let _line: Vec<TcpStream> = std::iter::from_fn(|| connect().ok()).take(64).collect();
        assert_eq!(connect().unwrap_err().kind(), ErrorKind::TimedOut);
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let answers = other.local_addr().unwrap();
        let stream = first_of(&[address, answers], Instant::now() + Duration::from_secs(4)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), answers);
    }
}
