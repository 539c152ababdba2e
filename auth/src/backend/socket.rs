//! A connection to a service on this host. Every wait on it ends.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// Longest wait for one answer, in seconds. saslauthd lets PAM take its time with a wrong password.
pub const WAIT_SECONDS: u64 = 25;

/// Connects; also that wait ends.
pub fn connect(path: &str) -> io::Result<UnixStream> {
    let fd: OwnedFd = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // It also bounds the wait for a place in the listen queue.
    socket::setsockopt(&fd, sockopt::SendTimeout, &TimeVal::seconds(WAIT_SECONDS as i64))?;
    socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(fd);
    stream.set_read_timeout(Some(Duration::from_secs(WAIT_SECONDS)))?;
    Ok(stream)
}
