//! The listening sockets. The master binds each once and keeps it over every restart, so that clients wait in the listen
//! queue instead of being refused. One socket per receiver and address (SO_REUSEPORT), so that one connection wakes one.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, sockopt,
};
use vsmtp_config::ByText;
use vsmtp_ipc::edge::master_child::Listener;
use vsmtp_mail::Service;
use vsmtp_sys::unix::{self, Kind};

use crate::accounts::Accounts;
use crate::error::Error;
use crate::layout::Layout;

/// Connections that the kernel keeps for us while no receiver accepts.
const BACKLOG: i32 = 4096;
/// The longest TCP segment, octets, that clients are asked to send: what a jumbo frame (9000 octets) carries of TCP over IPv6. Links
/// that carry more are hardly met but for loopback, with 64 KiB. Some clients make their buffers as long as a segment and fill
/// them with zeros at each connection, Postfix's among them: to those on this host that costs more than all else that they do
/// for a short message. Long messages lose nothing, as the kernel cuts them into segments late or never.
const MAX_SEGMENT: u32 = 8940;
/// Anybody on this machine may submit.
const SUBMIT_MODE: u32 = 0o666;
/// Root and the admin group.
const CONTROL_MODE: u32 = 0o660;

/// Where clients are served, and with what.
type Place = (SocketAddr, ByText<Service>);

/// All listening sockets.
pub struct Listeners {
    clients: BTreeMap<SocketAddr, Door>,
    /// Places of receivers, at least one.
    places: usize,
    submit: OwnedFd,
    queue: OwnedFd,
    /// vsmtpctl to the master itself.
    pub control: OwnedFd,
}

/// One address on the network.
struct Door {
    service: Service,
    /// One for each place of a receiver, and those of places that were: who waits in the queue of a socket that is closed is
    /// turned away by the kernel.
    sockets: Vec<OwnedFd>,
}

impl Listeners {
    /// Binds everything. Errors name the address or path.
    pub fn bind(layout: &Layout, accounts: &Accounts, doors: &[Place], places: u32) -> Result<Self, Error> {
        let local = |path: std::path::PathBuf, mode, owner, kind| {
            unix::listen_unix(&path, mode, owner, kind).map_err(Error::path("listen on", &path))
        };
        let mut listeners = Listeners {
            clients: BTreeMap::new(),
            places: 1,
            submit: local(layout.submit_socket(), SUBMIT_MODE, None, Kind::Stream)?,
            queue: local(layout.queue_socket(), CONTROL_MODE, accounts.admin(), Kind::SeqPacket)?,
            control: local(layout.control_socket(), CONTROL_MODE, accounts.admin(), Kind::SeqPacket)?,
        };
        listeners.rebind(doors, places)?;
        Ok(listeners)
    }

    /// Follows a new configuration: binds what is new, closes addresses that are gone. On error nothing has changed.
    pub fn rebind(&mut self, doors: &[Place], places: u32) -> Result<(), Error> {
        let mut fresh = Vec::new();
        for (address, service) in doors {
            let have = self.clients.get(address).map_or(0, |door| door.sockets.len());
            let missing = (have..places as usize).map(|_| listen_tcp(*address));
            let sockets = missing.collect::<io::Result<Vec<_>>>();
            fresh.push((*address, **service, sockets.map_err(Error::io(format!("listen on {address}")))?));
        }
        let mut before = std::mem::take(&mut self.clients);
        for (address, service, more) in fresh {
            let mut sockets = before.remove(&address).map(|door| door.sockets).unwrap_or_default();
            sockets.extend(more);
            self.clients.insert(address, Door { service, sockets });
        }
        self.places = (places as usize).max(1);
        Ok(())
    }

    /// The sockets of the receiver at that place. Each socket has a receiver, also when there are fewer than there were.
    pub fn for_receiver(&self, place: u32) -> io::Result<Vec<(Listener, OwnedFd)>> {
        // Local programs first: no number of addresses may leave them out.
        let mut out = vec![(Listener::Submit, self.submit.try_clone()?)];
        for (address, door) in &self.clients {
            for socket in door.sockets.iter().skip(place as usize).step_by(self.places) {
                let listener = Listener::Smtp { address: address.to_string(), service: door.service.into() };
                out.push((listener, socket.try_clone()?));
            }
        }
        Ok(out)
    }

    /// The socket of the queue-manager.
    pub fn for_queue(&self) -> io::Result<(Listener, OwnedFd)> {
        Ok((Listener::Control, self.queue.try_clone()?))
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(family, SockType::Stream, flags, SockProtocol::Tcp)?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    socket::setsockopt(&fd, sockopt::ReusePort, &true)?;
    if address.is_ipv6() {
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    socket::setsockopt(&fd, sockopt::TcpMaxSeg, &MAX_SEGMENT)?;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd());
    socket::bind(raw, &SockaddrStorage::from(address))?;
    socket::listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd)
}

/// Fails if another program listens there: SO_REUSEPORT would let two masters of one user share a port in silence.
pub fn refuse_if_taken(doors: &[Place]) -> Result<(), Error> {
    for (address, _) in doors {
        drop(std::net::TcpListener::bind(address).map_err(Error::io(format!("listen on {address}")))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn every_socket_has_a_receiver_when_there_are_fewer() {
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let spare = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut listeners = Listeners {
            clients: BTreeMap::new(),
            places: 1,
            submit: spare(),
            queue: spare(),
            control: spare(),
        };
        let doors = [(address, ByText::from(Service::Smtp))];
        for places in [3, 2, 1, 4] {
            listeners.rebind(&doors, places).unwrap();
            let of = |place| listeners.for_receiver(place).unwrap();
            let sockets: Vec<_> = (0..places)
                .flat_map(of)
                .filter(|(what, _)| matches!(what, Listener::Smtp { .. }))
                .map(|(_, socket)| socket_of(&socket))
                .collect();
            let mut kept: Vec<_> = listeners.clients[&address].sockets.iter().map(socket_of).collect();
            let mut given = sockets.clone();
            kept.sort_unstable();
            given.sort_unstable();
            assert_eq!(given, kept, "each once, with {places} receivers");
            assert!(kept.len() >= 3, "none is closed");
            assert!((0..places).all(|place| matches!(of(place)[0].0, Listener::Submit)));
        }
    }

    #[test]
    fn clients_on_this_host_are_told_of_segments_as_on_a_network() {
        let listening = std::net::TcpListener::from(listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap());
        let client = std::net::TcpStream::connect(listening.local_addr().unwrap()).unwrap();
        let segment = socket::getsockopt(&client, sockopt::TcpMaxSeg).unwrap();
        assert!((1000..=MAX_SEGMENT).contains(&segment), "{segment}");
    }

    /// Which socket a descriptor is of.
    fn socket_of(socket: &OwnedFd) -> std::path::PathBuf {
        std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap()
    }
}
