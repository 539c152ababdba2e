//! Registration with epoll as mio does not offer it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::retry::check;

/// Watches a listening socket, edge-triggered, so that a client wakes one of the processes that wait and not all of them
/// (`EPOLLEXCLUSIVE`, epoll_ctl(2)). Events carry `token`. Closing the last descriptor of the socket ends the watch.
///
/// # Errors
/// The descriptors are not an epoll instance and a socket that is not watched yet, or a limit of the kernel is reached.
pub fn watch_exclusively(epoll: BorrowedFd<'_>, socket: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    let wanted = libc::EPOLLIN | libc::EPOLLET | libc::EPOLLEXCLUSIVE;
    let mut event = libc::epoll_event { events: wanted.cast_unsigned(), u64: token };
    let (epoll, socket) = (epoll.as_raw_fd(), socket.as_raw_fd());
    // SAFETY: both descriptors are open while they are borrowed; the kernel copies the event before the call returns.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket, &raw mut event) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};

    use super::*;

    fn waiting(epoll: &Epoll) -> Vec<u64> {
        let mut events = [EpollEvent::empty(); 4];
        let found = epoll.wait(&mut events, EpollTimeout::from(2000u16)).unwrap();
        events.iter().take(found).map(EpollEvent::data).collect()
    }

    #[test]
    fn a_client_is_announced_with_the_token_and_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        watch_exclusively(epoll.0.as_fd(), listener.as_fd(), 77).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(waiting(&epoll), [77]);
        let mut events = [EpollEvent::empty(); 4];
        assert_eq!(epoll.wait(&mut events, EpollTimeout::ZERO).unwrap(), 0);
    }

    #[test]
    fn of_two_who_wait_one_is_woken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (announced, heard) = std::sync::mpsc::channel();
        for _ in 0..2 {
            let (listener, announced) = (listener.try_clone().unwrap(), announced.clone());
            std::thread::spawn(move || {
                let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
                watch_exclusively(epoll.0.as_fd(), listener.as_fd(), 1).unwrap();
                announced.send(true).unwrap();
                announced.send(!waiting(&epoll).is_empty()).unwrap();
            });
        }
        assert!(heard.recv().unwrap() && heard.recv().unwrap());
        // Both are about to wait; who is late sees the client all the same, so give them a moment.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let woken = [heard.recv().unwrap(), heard.recv().unwrap()];
        assert_eq!(woken.iter().filter(|woken| **woken).count(), 1, "{woken:?}");
    }

    #[test]
    fn what_is_no_epoll_is_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(watch_exclusively(listener.as_fd(), listener.as_fd(), 1).is_err());
    }
}
