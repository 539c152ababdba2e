//! The listening sockets. The master binds each once and keeps it over every restart, so that clients wait in the listen
//! queue instead of being refused. One socket per receiver and address (SO_REUSEPORT), so that one connection wakes one.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, sockopt,
};
use vsmtp_ipc::edge::master_child::Listener;
use vsmtp_sys::unix::{self, Kind};

use crate::accounts::Accounts;
use crate::error::Error;
use crate::layout::Layout;

/// Connections that the kernel keeps for us while no receiver accepts.
const BACKLOG: i32 = 4096;
/// Anybody on this machine may submit.
const SUBMIT_MODE: u32 = 0o666;
/// Root and the admin group.
const CONTROL_MODE: u32 = 0o660;

/// All listening sockets.
pub struct Listeners {
    /// Each address has one socket per place of a receiver.
    smtp: BTreeMap<SocketAddr, Vec<OwnedFd>>,
    submit: OwnedFd,
    queue: OwnedFd,
    /// vsmtpctl to the master itself.
    pub control: OwnedFd,
}

impl Listeners {
    /// Binds everything. Errors name the address or path.
    pub fn bind(
        layout: &Layout,
        accounts: &Accounts,
        addresses: &[SocketAddr],
        places: u32,
    ) -> Result<Self, Error> {
        let local = |path: std::path::PathBuf, mode, owner, kind| {
            unix::listen_unix(&path, mode, owner, kind).map_err(Error::path("listen on", &path))
        };
        let mut listeners = Listeners {
            smtp: BTreeMap::new(),
            submit: local(layout.submit_socket(), SUBMIT_MODE, None, Kind::Stream)?,
            queue: local(layout.queue_socket(), CONTROL_MODE, accounts.admin(), Kind::SeqPacket)?,
            control: local(layout.control_socket(), CONTROL_MODE, accounts.admin(), Kind::SeqPacket)?,
        };
        listeners.rebind(addresses, places)?;
        Ok(listeners)
    }

    /// Follows a new configuration: binds what is new, closes what is gone. On error nothing has changed.
    pub fn rebind(&mut self, addresses: &[SocketAddr], places: u32) -> Result<(), Error> {
        let mut fresh = Vec::new();
        for address in addresses {
            let have = self.smtp.get(address).map_or(0, Vec::len);
            for _ in have..places as usize {
                let socket = listen_tcp(*address).map_err(Error::io(format!("listen on {address}")))?;
                fresh.push((*address, socket));
            }
        }
        self.smtp.retain(|address, _| addresses.contains(address));
        for (address, socket) in fresh {
            self.smtp.entry(address).or_default().push(socket);
        }
        for sockets in self.smtp.values_mut() {
            sockets.truncate(places as usize);
        }
        Ok(())
    }

    /// The sockets of the receiver at that place.
    pub fn for_receiver(&self, place: u32) -> io::Result<Vec<(Listener, OwnedFd)>> {
        let mut out = Vec::new();
        for (address, sockets) in &self.smtp {
            if let Some(socket) = sockets.get(place as usize) {
                out.push((Listener::Smtp(address.to_string()), socket.try_clone()?));
            }
        }
        out.push((Listener::Submit, self.submit.try_clone()?));
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
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd());
    socket::bind(raw, &SockaddrStorage::from(address))?;
    socket::listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd)
}

/// Fails if another program listens there: SO_REUSEPORT would let two masters of one user share a port in silence.
pub fn refuse_if_taken(addresses: &[SocketAddr]) -> Result<(), Error> {
    for address in addresses {
        drop(std::net::TcpListener::bind(address).map_err(Error::io(format!("listen on {address}")))?);
    }
    Ok(())
}
