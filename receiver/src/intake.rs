//! The door: listening sockets, and who may come in. The master opened and bound the sockets.
//!
//! When descriptors run out, the door stays shut for a moment and clients wait in the kernel's line; nothing spins.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::Interest;
use mio::net::{TcpListener, UnixListener};
use vsmtp_daemon::Reactor;
use vsmtp_ipc::edge::master_child::Listener;
use vsmtp_mail::Service;
use vsmtp_sys::{fds, unix};

use crate::sessions::Who;
use crate::settings::Manner;
use crate::socket::Socket;

/// The loop's timer that opens the door again.
pub const REOPEN_TIMER: u64 = 2;
/// How long the door stays shut when descriptors have run out, in milliseconds.
const SHUT_MS: u64 = 500;
/// Clients that one listener lets in before others have their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Most listeners.
pub const MAX_LISTENERS: usize = 1024;

/// All listeners of this process.
#[derive(Default)]
pub struct Intake {
    doors: Vec<Door>,
    shut: bool,
}

/// A client at the door.
pub struct Arrival {
    /// Its connection.
    pub socket: Socket,
    /// Who it is.
    pub who: Who,
    /// What it came for.
    pub service: Service,
    /// What is particular to where it came in.
    pub manner: Manner,
}

struct Door {
    socket: Listening,
    service: Service,
    manner: Manner,
    /// Someone may be waiting.
    ready: bool,
}

enum Listening {
    /// With the address, if it is not the unspecified one.
    Tcp(TcpListener, Option<(IpAddr, u16)>),
    Unix(UnixListener),
}

impl Intake {
    /// Takes a listening socket; `first_token` plus its place is its token.
    pub fn open(
        &mut self,
        reactor: &Reactor,
        what: &Listener,
        manner: Manner,
        socket: OwnedFd,
        first_token: usize,
    ) -> io::Result<()> {
        if self.doors.len() >= MAX_LISTENERS {
            return Err(io::Error::other("too many listeners"));
        }
        fds::set_nonblocking(&socket)?;
        let (socket, service) = match what {
            Listener::Smtp { service, .. } => {
                // What accept returns inherits this, so it is set once instead of for each client.
                let stream = std::net::TcpStream::from(socket);
                stream.set_nodelay(true)?;
                let listener = std::net::TcpListener::from(OwnedFd::from(stream));
                let address = listener.local_addr()?;
                let fixed = (!address.ip().is_unspecified()).then(|| pair(address));
                (Listening::Tcp(TcpListener::from_std(listener), fixed), Service::from(*service))
            }
            Listener::Submit => (Listening::Unix(UnixListener::from_std(socket.into())), Service::Local),
            Listener::Control => return Err(io::Error::other("a receiver has no control socket")),
        };
        reactor.register(socket.as_fd(), first_token + self.doors.len(), Interest::READABLE)?;
        self.doors.push(Door { socket, service, manner, ready: true });
        Ok(())
    }

    /// Someone knocks at that door.
    pub fn knock(&mut self, place: usize) {
        if let Some(door) = self.doors.get_mut(place) {
            door.ready = true;
        }
    }

    /// Keeps the door shut for so long, or until it is opened again.
    pub fn wait(&mut self, reactor: &mut Reactor, milliseconds: u64) {
        self.shut = true;
        reactor.set_timer(reactor.now_ms() + milliseconds, REOPEN_TIMER);
    }

    /// The loop's timer has fired: descriptors may be free again.
    pub fn reopen(&mut self) {
        self.shut = false;
        self.doors.iter_mut().for_each(|door| door.ready = true);
    }

    /// Lets nobody in any more.
    pub fn close(&mut self) {
        self.doors.clear();
    }

    /// True if someone may be waiting and could be let in.
    pub fn has_work(&self) -> bool {
        !self.shut && self.doors.iter().any(|door| door.ready)
    }

    /// Lets in those who wait, a bounded number at each door.
    pub fn accept(&mut self, reactor: &mut Reactor) -> Vec<Arrival> {
        let mut accepted = Vec::new();
        for door in &mut self.doors {
            for _ in 0..ACCEPTS_PER_TURN {
                if self.shut || !door.ready {
                    break;
                }
                match door.accept() {
                    Ok(Some(client)) => accepted.push(client),
                    Ok(None) => {}
                    Err(error) => {
                        self.shut = true;
                        log::warn!("event=accept-failed error=\"{error}\" pause_ms={SHUT_MS}");
                        reactor.set_timer(reactor.now_ms() + SHUT_MS, REOPEN_TIMER);
                    }
                }
            }
        }
        accepted
    }
}

impl Door {
    /// One client; `None` if there is none, or if this one is gone already.
    fn accept(&mut self) -> io::Result<Option<Arrival>> {
        let (service, manner) = (self.service, self.manner);
        let accepted = match &self.socket {
            Listening::Tcp(listener, fixed) => listener.accept().map(|(stream, client)| {
                let server = fixed.or_else(|| stream.local_addr().ok().map(pair));
                (Socket::Tcp(stream), Some(Who::Network { client: pair(client), server }))
            }),
            Listening::Unix(listener) => listener.accept().map(|(stream, _)| {
                let peer = unix::peer_credentials(&stream);
                (Socket::Unix(stream), peer.ok().map(|peer| Who::Local(peer.uid)))
            }),
        };
        match accepted {
            Ok((socket, who)) => Ok(who.map(|who| Arrival { socket, who, service, manner })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ready = false;
                Ok(None)
            }
            Err(error) if is_of_the_client(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// True if the error is about one client rather than about us (accept(2) passes network errors on).
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::TimedOut
    )
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listening::Tcp(listener, _) => listener.as_fd(),
            Listening::Unix(listener) => listener.as_fd(),
        }
    }
}

/// IPv4 over an IPv6 socket is IPv4 to everyone else.
fn pair(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}
