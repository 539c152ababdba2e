//! How the DNS library reaches the network: TCP by tokio, UDP by connected sockets. A connected socket takes packets of its
//! server only, notices at once that nobody is there, and needs no `bind`, which the sandbox refuses; the kernel picks a
//! random port for each.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hickory_resolver::net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

type Soon<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

/// The network as one exchange sees it. Tasks that it was given end with its last copy.
#[derive(Clone, Default)]
pub struct Network(TokioRuntimeProvider);

impl RuntimeProvider for Network {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Connected;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        from: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Soon<Self::Tcp> {
        self.0.connect_tcp(server, from, limit)
    }

    fn bind_udp(&self, _any: SocketAddr, server: SocketAddr) -> Soon<Self::Udp> {
        Box::pin(async move { Connected::to(server) })
    }
}

/// A UDP socket for one server.
pub struct Connected {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Connected {
    fn to(server: SocketAddr) -> io::Result<Self> {
        let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let descriptor = socket(family, SockType::Datagram, flags, None)?;
        connect(descriptor.as_raw_fd(), &SockaddrStorage::from(server))?;
        Ok(Connected { socket: UdpSocket::from_std(descriptor.into())?, server })
    }
}

impl DnsUdpSocket for Connected {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(self.socket.poll_recv(cx, &mut buffer))?;
        Poll::Ready(Ok((buffer.filled().len(), self.server)))
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        packet: &[u8],
        _server: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_send(cx, packet)
    }
}
