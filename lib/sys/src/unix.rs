//! Unix sockets with a path: the control sockets and the local submission socket. Binds nothing but what it is told.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::{ffi::OsString, fs};

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr, sockopt};

/// Connections the kernel keeps for a listener that has not accepted them yet.
const BACKLOG: i32 = 128;

/// How a Unix socket carries bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A byte stream.
    Stream,
    /// Packets with borders.
    SeqPacket,
}

/// Who is at the other end of a connected Unix socket, as of when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id. The supplementary groups are not told.
    pub gid: u32,
    /// Process id; 0 if it is not visible from here.
    pub pid: i32,
}

/// Listens on `path` with these permission bits and, unless `None`, this (uid, gid). Close-on-exec, non-blocking.
///
/// The socket is made beside its place and renamed into it, so nobody meets it with other permissions, and a socket
/// that a dead process left is replaced. Whoever may run twice needs a lock of its own. Errors name the path.
pub fn listen_unix(path: &Path, mode: u32, owner: Option<(u32, u32)>, kind: Kind) -> io::Result<OwnedFd> {
    listen(path, mode, owner, kind).map_err(|error| at(path, &error))
}

fn listen(path: &Path, mode: u32, owner: Option<(u32, u32)>, kind: Kind) -> io::Result<OwnedFd> {
    let beside = with_suffix(path, ".new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let fd = open(kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    socket::bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(&beside)?)?;
    let placed = place(&fd, &beside, path, mode, owner);
    if placed.is_err() {
        // The error that counts is the one we have.
        let _ = fs::remove_file(&beside);
    }
    placed.map(|()| fd)
}

/// Nobody can connect before `listen`, and by then owner and mode are right.
fn place(fd: &OwnedFd, beside: &Path, path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    fs::set_permissions(beside, fs::Permissions::from_mode(mode))?;
    if let Some((uid, gid)) = owner {
        chown(beside, Some(uid), Some(gid))?;
    }
    socket::listen(fd, Backlog::new(BACKLOG)?)?;
    fs::rename(beside, path)
}

/// Connects to the socket at `path` and waits until it is accepted into the backlog. Close-on-exec, blocking.
pub fn connect_unix(path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let connect = || {
        let fd = open(kind, SockFlag::SOCK_CLOEXEC)?;
        socket::connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)?;
        Ok(fd)
    };
    connect().map_err(|error| at(path, &error))
}

/// The next waiting connection, close-on-exec and non-blocking; `None` when there is none (any more).
pub fn accept_unix(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    use nix::errno::Errno;
    let number = std::os::fd::AsRawFd::as_raw_fd(&listener.as_fd());
    match socket::accept4(number, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
        // SAFETY: the kernel just returned this number to us alone.
        Ok(number) => Ok(Some(unsafe { OwnedFd::from_raw_fd(number) })),
        Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Who connected (or made the pair). The kernel vouches for it.
pub fn peer_credentials(fd: impl AsFd) -> io::Result<Peer> {
    let credentials = socket::getsockopt(&fd.as_fd(), sockopt::PeerCredentials)?;
    Ok(Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() })
}

fn open(kind: Kind, flags: SockFlag) -> io::Result<OwnedFd> {
    let kind = match kind {
        Kind::Stream => SockType::Stream,
        Kind::SeqPacket => SockType::SeqPacket,
    };
    Ok(socket::socket(AddressFamily::Unix, kind, flags, None)?)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSlice;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn listens_with_the_asked_mode_and_knows_its_peer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        for kind in [Kind::Stream, Kind::SeqPacket] {
            // The second round replaces the socket that the first one left behind.
            let listener = listen_unix(&path, 0o640, None, kind).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
            assert!(accept_unix(&listener).unwrap().is_none());
            let client = connect_unix(&path, kind).unwrap();
            let server = accept_unix(&listener).unwrap().unwrap();
            let peer = peer_credentials(&server).unwrap();
            assert_eq!(peer.uid, fs::metadata(&path).unwrap().uid());
            assert_eq!(peer.pid, std::process::id() as i32);
            crate::seqpacket::send(&client, &[IoSlice::new(b"hello")], &[]).unwrap();
            let mut buffer = [0; 8];
            assert_eq!(crate::seqpacket::recv(&server, &mut buffer, &mut Vec::new()).unwrap(), 5);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn owner_is_set_when_root() {
        if !nix::unistd::geteuid().is_root() {
            std::io::Write::write_all(&mut io::stderr(), b"skipped without root: owner_is_set_when_root\n")
                .unwrap();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let _listener = listen_unix(&path, 0o660, Some((0, 12345)), Kind::Stream).unwrap();
        let status = fs::metadata(&path).unwrap();
        assert_eq!((status.uid(), status.gid()), (0, 12345));
    }

    #[test]
    fn errors_name_the_path_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/control");
        let error = listen_unix(&path, 0o600, None, Kind::Stream).unwrap_err();
        assert!(error.to_string().contains("missing/control"), "{error}");
        let error = connect_unix(&path, Kind::Stream).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        fs::create_dir(dir.path().join("occupied")).unwrap();
        listen_unix(&dir.path().join("occupied"), 0o600, None, Kind::Stream).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        listen_unix(Path::new(&"x".repeat(200)), 0o600, None, Kind::Stream).unwrap_err();
    }
}
