//! Signals as things to read in an event loop; no handler of ours ever runs. Also the readiness note for systemd.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as Number, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A signal that the master acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: stop.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGHUP: reload.
    HangUp,
    /// SIGCHLD: at least one child ended.
    Child,
    /// SIGUSR1: for the operator.
    User1,
}

const WATCHED: [(Number, Signal); 5] = [
    (Number::SIGTERM, Signal::Terminate),
    (Number::SIGINT, Signal::Interrupt),
    (Number::SIGHUP, Signal::HangUp),
    (Number::SIGCHLD, Signal::Child),
    (Number::SIGUSR1, Signal::User1),
];

/// The watched signals, blocked and readable. Make it before any thread is started, so that none misses the block.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals above in this thread (and all it starts) and makes them readable.
    pub fn block() -> io::Result<Signals> {
        let mut set = SigSet::empty();
        for (number, _) in WATCHED {
            set.add(number);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd })
    }

    /// The next signal that has arrived; `None` when there is none. Several of one kind may count once.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        let Some(info) = self.fd.read_signal()? else { return Ok(None) };
        let arrived = |number: Number| i64::from(info.ssi_signo) == i64::from(number as i32);
        Ok(WATCHED.iter().find(|(number, _)| arrived(*number)).map(|(_, signal)| *signal))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Turns a write to a closed socket or beyond the file size limit from a signal into an error.
pub fn ignore_sigpipe_and_xfsz() -> io::Result<()> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for number in [Number::SIGPIPE, Number::SIGXFSZ] {
        // SAFETY: the action is "ignore", so no code of ours will run in a signal's context.
        unsafe { sigaction(number, &ignore) }?;
    }
    Ok(())
}

/// Tells systemd (`Type=notify`) a state such as `READY=1`. `Ok(false)` when nobody asked, by `NOTIFY_SOCKET`.
pub fn sd_notify(state: &str) -> io::Result<bool> {
    match env::var_os("NOTIFY_SOCKET") {
        None => Ok(false),
        Some(socket) => notify(&socket, state).map(|()| true),
    }
}

/// Sends one datagram to a socket named as systemd does: a path, or `@` and an abstract name. Never waits.
fn notify(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let datagram = UnixDatagram::unbound()?;
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_and_not_delivered() {
        // Blocked in this test's own thread, to which the signals are then directed.
        let signals = Signals::block().unwrap();
        assert_eq!(signals.next().unwrap(), None);
        for (number, signal) in WATCHED {
            nix::sys::signal::raise(number).unwrap();
            assert_eq!(signals.next().unwrap(), Some(signal));
        }
        assert_eq!(signals.next().unwrap(), None);
    }

    #[test]
    fn a_closed_pipe_is_an_error() {
        ignore_sigpipe_and_xfsz().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        let error = io::Write::write(&mut writer, b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_note_reaches_a_path_and_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("vsmtp-sys-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        for (socket, receiver) in [(path.into_os_string(), by_path), (format!("@{name}").into(), by_name)] {
            notify(&socket, "READY=1").unwrap();
            let mut buffer = [0; 16];
            assert_eq!(receiver.recv(&mut buffer).unwrap(), 7);
            assert_eq!(&buffer[..7], b"READY=1");
        }
        notify(OsStr::new("/nonexistent/socket"), "READY=1").unwrap_err();
    }
}
