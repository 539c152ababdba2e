//! Packets with descriptors between our processes (AF_UNIX, SOCK_SEQPACKET). One system call per packet, no
//! allocation, no waiting, and no descriptor is ever leaked, whatever the peer sends.

use std::io::{self, IoSlice};
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, sockopt};

use crate::retry::{count, invalid, uninterrupted};

/// The most descriptors in one packet.
pub const MAX_FDS: usize = 4;

/// The send buffer asked for on each end, in bytes; the kernel may grant less.
const SEND_BUFFER: usize = 1 << 20;

/// A control message with room for exactly `MAX_FDS` descriptors, laid out as the CMSG macros would.
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    numbers: [libc::c_int; MAX_FDS],
}

// SAFETY: const arithmetic on a length; the call has no preconditions.
const RIGHTS_SPACE: usize = unsafe { libc::CMSG_SPACE((MAX_FDS * size_of::<libc::c_int>()) as u32) } as usize;
// SAFETY: as above.
const RIGHTS_START: usize = unsafe { libc::CMSG_LEN(0) } as usize;
const _: () = assert!(size_of::<Rights>() == RIGHTS_SPACE && offset_of!(Rights, numbers) == RIGHTS_START);

impl Rights {
    fn empty() -> Rights {
        // SAFETY: a header and integers; all zero bytes are a valid value of each.
        unsafe { std::mem::zeroed() }
    }

    /// The bytes of a control message with `fds` descriptors, header included.
    const fn length(fds: usize) -> usize {
        RIGHTS_START + fds * size_of::<libc::c_int>()
    }

    /// How many descriptors the kernel put here, given the control length it reported.
    fn received(&self, control_length: usize) -> usize {
        let is_rights =
            self.header.cmsg_level == libc::SOL_SOCKET && self.header.cmsg_type == libc::SCM_RIGHTS;
        if control_length < RIGHTS_START || !is_rights {
            return 0;
        }
        let bytes = self.header.cmsg_len.saturating_sub(RIGHTS_START);
        (bytes / size_of::<libc::c_int>()).min(MAX_FDS)
    }
}

/// A connected pair: close-on-exec, non-blocking, with a large send buffer where the kernel grants one.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (one, other) = socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    enlarge_send_buffer(&one);
    enlarge_send_buffer(&other);
    Ok((one, other))
}

/// A small buffer is a slower edge and not an error, so failures are ignored.
fn enlarge_send_buffer(fd: &OwnedFd) {
    if socket::setsockopt(fd, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
        // Without CAP_NET_ADMIN: whatever net.core.wmem_max allows.
        let _ = socket::setsockopt(fd, sockopt::SndBuf, &SEND_BUFFER);
    }
}

/// Sends one packet: the concatenation of `parts`, with `fds` (at most `MAX_FDS`) beside it. Returns its length.
///
/// All or nothing. `WouldBlock` when the peer's queue is full, `BrokenPipe` or `ConnectionReset` when it is gone,
/// EMSGSIZE when the packet can never fit, ETOOMANYREFS when this user has more descriptors in flight than
/// RLIMIT_NOFILE of this process allows. The descriptors stay open here. An empty packet is refused: the peer could
/// not tell it from the end.
pub fn send(fd: impl AsFd, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS || parts.iter().all(|part| part.is_empty()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut rights = Rights::empty();
    // SAFETY: pointers, integers and padding; all zero bytes are a valid value of each.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // IoSlice has the layout of iovec by its documentation; sendmsg only reads through the pointer.
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len();
    if !fds.is_empty() {
        rights.header.cmsg_level = libc::SOL_SOCKET;
        rights.header.cmsg_type = libc::SCM_RIGHTS;
        rights.header.cmsg_len = Rights::length(fds.len());
        for (slot, fd) in rights.numbers.iter_mut().zip(fds) {
            *slot = fd.as_raw_fd();
        }
        message.msg_control = ptr::from_mut(&mut rights).cast();
        message.msg_controllen = rights.header.cmsg_len;
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    let number = fd.as_fd().as_raw_fd();
    // SAFETY: the header points to `parts` and `rights`, both alive and unmoved until the call returns.
    uninterrupted(|| unsafe { libc::sendmsg(number, &raw const message, flags) }).map(count)
}

/// Receives one packet into `buffer` and appends its descriptors, at most `MAX_FDS`, to `fds`. Returns its length.
///
/// 0 is the end: the peer closed. `WouldBlock` when nothing is there. A packet longer than `buffer`, or with more
/// descriptors than `MAX_FDS`, is an `InvalidData` error, and everything that came with it is closed.
pub fn recv(fd: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut rights = Rights::empty();
    let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: pointers, integers and padding; all zero bytes are a valid value of each.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(&mut rights).cast();
    message.msg_controllen = size_of::<Rights>();
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let number = fd.as_fd().as_raw_fd();
    // SAFETY: the header points to `piece` (and through it to the exclusive `buffer`, with its length) and to
    // `rights`, with its size; all are alive and unmoved until the call returns.
    let mut receive = || uninterrupted(|| unsafe { libc::recvmsg(number, &raw mut message, flags) });
    let length = match receive() {
        // Told once when the peer closed without reading everything. What it sent before is still to come.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive(),
        result => result,
    };
    let length = length.map(count)?;

    let before = fds.len();
    let received = rights.received(message.msg_controllen);
    for &number in rights.numbers.iter().take(received) {
        // SAFETY: the kernel has just made this descriptor for us, and it says how many there are.
        fds.push(unsafe { OwnedFd::from_raw_fd(number) });
    }
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        fds.truncate(before);
        return Err(invalid("packet is too long or carries too many descriptors"));
    }
    if length == 0 {
        // The end, or an empty packet, which nobody of ours sends: nothing to go with descriptors.
        fds.truncate(before);
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    fn send_text(fd: &OwnedFd, text: &str) {
        send(fd, &[IoSlice::new(text.as_bytes())], &[]).unwrap();
    }

    #[test]
    fn packets_keep_their_borders_and_order() {
        let (one, other) = pair().unwrap();
        send(&one, &[IoSlice::new(b"a"), IoSlice::new(b""), IoSlice::new(b"bc")], &[]).unwrap();
        send_text(&one, "second");
        let (mut buffer, mut fds) = ([0; 16], Vec::new());
        assert_eq!(recv(&other, &mut buffer, &mut fds).unwrap(), 3);
        assert_eq!(&buffer[..3], b"abc");
        assert_eq!(recv(&other, &mut buffer, &mut fds).unwrap(), 6);
        let empty = recv(&other, &mut buffer, &mut fds).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert_eq!(recv(&other, &mut buffer, &mut fds).unwrap(), 0);
        assert!(fds.is_empty());
    }

    #[test]
    fn descriptors_travel_beside_the_bytes() {
        for wanted in 1..=MAX_FDS {
            let (one, other) = pair().unwrap();
            let files: Vec<File> = (0..wanted).map(|_| tempfile::tempfile().unwrap()).collect();
            for (number, mut file) in files.iter().enumerate() {
                writeln!(file, "file {number}").unwrap();
            }
            let lent: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
            assert_eq!(send(&one, &[IoSlice::new(b"x")], &lent).unwrap(), 1);
            let mut got = Vec::new();
            assert_eq!(recv(&other, &mut [0; 4], &mut got).unwrap(), 1);
            assert_eq!(got.len(), wanted);
            for (number, fd) in got.into_iter().enumerate() {
                let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
                assert_eq!(flags, libc::FD_CLOEXEC);
                let mut text = [0; 7];
                assert_eq!(crate::disk::read_at(&fd, &mut text, 0).unwrap(), 7);
                assert_eq!(text, *format!("file {number}\n").as_bytes());
            }
        }
    }

    #[test]
    fn a_peer_that_is_gone_or_full_is_told_apart() {
        let (one, other) = pair().unwrap();
        let packet = vec![0; 60_000];
        let error = (0..1000).find_map(|_| send(&one, &[IoSlice::new(&packet)], &[]).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(other);
        let mut told =
            [(); 2].map(|()| send(&one, &[IoSlice::new(b"x")], &[]).unwrap_err().kind()).into_iter();
        assert_eq!(told.next(), Some(io::ErrorKind::ConnectionReset));
        assert_eq!(told.next(), Some(io::ErrorKind::BrokenPipe));
    }

    #[test]
    fn what_a_peer_sent_before_it_died_is_not_lost() {
        let (one, other) = pair().unwrap();
        send_text(&one, "last words");
        send_text(&other, "never read");
        drop(one);
        let (mut buffer, mut fds) = ([0; 16], Vec::new());
        assert_eq!(recv(&other, &mut buffer, &mut fds).unwrap(), 10);
        assert_eq!(recv(&other, &mut buffer, &mut fds).unwrap(), 0);
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before_the_kernel_sees_it() {
        let (one, _other) = pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let kind = |parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]| send(&one, parts, fds).unwrap_err().kind();
        assert_eq!(kind(&[], &[]), io::ErrorKind::InvalidInput);
        assert_eq!(kind(&[IoSlice::new(b"")], &[]), io::ErrorKind::InvalidInput);
        assert_eq!(kind(&[IoSlice::new(b"x")], &[file.as_fd(); MAX_FDS + 1]), io::ErrorKind::InvalidInput);
    }
}
