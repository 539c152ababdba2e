//! What a hostile peer can put into a packet leaves no descriptor open here. One test, because it counts the
//! descriptors of the whole process.

use std::fs::File;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use vsmtp_sys::seqpacket::{self, MAX_FDS};

/// Sends what `seqpacket::send` refuses to.
fn send_raw(fd: &OwnedFd, text: &[u8], numbers: &[i32]) {
    let rights = [ControlMessage::ScmRights(numbers)];
    sendmsg::<()>(fd.as_raw_fd(), &[IoSlice::new(text)], &rights, MsgFlags::empty(), None).unwrap();
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn no_packet_leaks_a_descriptor() {
    let file = File::open("/dev/null").unwrap();
    let (here, there) = seqpacket::pair().unwrap();
    let mut buffer = [0; 8];
    let mut fds = vec![OwnedFd::from(File::open("/dev/null").unwrap())];
    let before = open_descriptors();

    for many in [MAX_FDS + 1, MAX_FDS + 2, 100, 253] {
        send_raw(&there, b"x", &vec![file.as_raw_fd(); many]);
        let error = seqpacket::recv(&here, &mut buffer, &mut fds).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{many} descriptors");
        assert_eq!((fds.len(), open_descriptors()), (1, before));
    }
    for few in 0..=MAX_FDS {
        send_raw(&there, b"more than eight bytes", &vec![file.as_raw_fd(); few]);
        let error = seqpacket::recv(&here, &mut buffer, &mut fds).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "too long with {few} descriptors");
        assert_eq!((fds.len(), open_descriptors()), (1, before));
    }
    send_raw(&there, b"", &[file.as_raw_fd()]);
    assert_eq!(seqpacket::recv(&here, &mut buffer, &mut fds).unwrap(), 0);
    assert_eq!((fds.len(), open_descriptors()), (1, before));

    // And the edge still works for a packet in order.
    send_raw(&there, b"fine", &[file.as_raw_fd(); MAX_FDS]);
    assert_eq!(seqpacket::recv(&here, &mut buffer, &mut fds).unwrap(), 4);
    assert_eq!((fds.len(), open_descriptors()), (1 + MAX_FDS, before + MAX_FDS));
    fds.truncate(1);
    assert_eq!(open_descriptors(), before);
}
