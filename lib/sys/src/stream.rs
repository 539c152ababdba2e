//! Connected byte streams, where the standard library has no word for what a write means.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{self, MsgFlags};

/// Writes as much as the kernel takes, and lets it keep what fills no packet until something else is written or the stream
/// is closed: then the last octets and the end of the stream travel together. Nothing is kept for longer than 200 ms.
///
/// Not for a stream that has unread input when it is closed: TCP then throws away what it keeps.
///
/// # Errors
/// As a write: `WouldBlock`, or the stream has failed.
pub fn write_with_end(stream: impl AsFd, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::from_bits_retain(libc::MSG_MORE);
    Ok(socket::sendmsg::<()>(stream.as_fd().as_raw_fd(), parts, &[], flags, None)?)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// True if the reader saw nothing until the writer was closed, and then everything.
    fn is_kept() -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut reader, _) = listener.accept().unwrap();
        assert_eq!(write_with_end(&writer, &[IoSlice::new(b"b"), IoSlice::new(b"ye")]).unwrap(), 3);
        reader.set_nonblocking(true).unwrap();
        let early = reader.peek(&mut [0]).map_err(|error| error.kind());
        drop(writer);
        reader.set_nonblocking(false).unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"bye");
        early == Err(ErrorKind::WouldBlock)
    }

    #[test]
    fn the_last_octets_travel_with_the_end() {
        // More than one try: the kernel keeps them for a moment only, and this thread may be stopped for longer.
        assert!((0..10).any(|_| is_kept()));
    }
}
