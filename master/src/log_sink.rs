//! Where all processes log. The master opens the sink, again and again if need be: jailed children cannot.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use vsmtp_config::{Facility, LogLevel, LogSlice, LogTarget, Role, SyslogTransport};
use vsmtp_ipc::edge::master_child::{self, ToChild};
use vsmtp_sys::clock;
use vsmtp_sys::fds::{self, FdKind};

/// journald's own socket.
const JOURNALD: &str = "/run/systemd/journal/socket";
/// Mode of a log file: the admin group may read it.
const FILE_MODE: u32 = 0o640;
/// A remote syslog daemon must take a connection within this time.
const CONNECT: Duration = Duration::from_secs(1);

/// A remote daemon that did not is left alone for so long, in milliseconds: each attempt holds the master up.
const AWAY_MS: u64 = 10_000;

/// The sink of one configuration.
#[derive(Debug, Clone)]
pub struct LogSink {
    slice: LogSlice,
    away_until_ms: Cell<u64>,
}

impl LogSink {
    /// The sink before there is a configuration: standard error.
    pub fn stderr() -> Self {
        LogSink::new(LogSlice { levels: Vec::new(), target: LogTarget::Stderr })
    }

    /// The sink that the configuration names.
    pub fn new(slice: LogSlice) -> Self {
        LogSink { slice, away_until_ms: Cell::new(0) }
    }

    /// The same for a message to a process of this role.
    pub fn message(&self, role: Role) -> ToChild {
        let (target, level, facility) = (self.kind(), self.level(role), self.facility());
        ToChild::LogSink(master_child::LogSink { target, level, facility })
    }

    /// A descriptor in any case: if the sink is not there at the moment, one that takes nothing. Its owner finds it broken
    /// and asks for another. No log daemon that is down may keep a process from being started.
    pub fn open_or_stand_in(&self) -> io::Result<OwnedFd> {
        let stand_in = || UnixDatagram::unbound().map(OwnedFd::from);
        if clock::monotonic_ms() < self.away_until_ms.get() {
            return stand_in();
        }
        self.open().or_else(|_| {
            if self.kind() == master_child::LogTarget::SyslogStream {
                self.away_until_ms.set(clock::monotonic_ms() + AWAY_MS);
            }
            stand_in()
        })
    }

    /// A fresh descriptor.
    pub fn open(&self) -> io::Result<OwnedFd> {
        match &self.slice.target {
            LogTarget::Stderr => stderr(),
            LogTarget::File(path) => append_to(Path::new(path)),
            LogTarget::Journald => datagram(JOURNALD),
            LogTarget::Syslog(SyslogTransport::Unix(path), _) => datagram(path),
            LogTarget::Syslog(SyslogTransport::Udp(address), _) => {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                socket.set_nonblocking(true)?;
                Ok(socket.into())
            }
            LogTarget::Syslog(SyslogTransport::Tcp(address), _) => {
                let stream = TcpStream::connect_timeout(address, CONNECT)?;
                stream.set_nonblocking(true)?;
                Ok(stream.into())
            }
        }
    }

    /// What children must know of it.
    pub fn kind(&self) -> master_child::LogTarget {
        match &self.slice.target {
            LogTarget::Stderr | LogTarget::File(_) => master_child::LogTarget::Stream,
            LogTarget::Journald => master_child::LogTarget::Journald,
            LogTarget::Syslog(SyslogTransport::Tcp(_), _) => master_child::LogTarget::SyslogStream,
            LogTarget::Syslog(..) => master_child::LogTarget::Syslog,
        }
    }

    /// How much a process of this role says: 1 error to 5 trace.
    pub fn level(&self, role: Role) -> u8 {
        match self.slice.level(role) {
            LogLevel::Error => 1,
            LogLevel::Warn => 2,
            LogLevel::Info => 3,
            LogLevel::Debug => 4,
            LogLevel::Trace => 5,
        }
    }

    /// The facility's number.
    pub fn facility(&self) -> u8 {
        match &self.slice.target {
            LogTarget::Syslog(_, facility) => facility.code(),
            _ => Facility::Mail.code(),
        }
    }
}

/// Standard error. A reader that stands still, or a terminal that somebody has stopped, must not stop us; and who shares it with
/// us may want to wait, so it is opened once more where that can be done. The exception: a terminal that our user may not open
/// again, as after `su`, stays as it is, for whoever shares it may want to wait. Stopped, it does stop us.
fn stderr() -> io::Result<OwnedFd> {
    let stderr = io::stderr();
    let share = || stderr.as_fd().try_clone_to_owned();
    match fds::fd_kind(stderr.as_fd()) {
        // What is left is a pipe of another user.
        FdKind::Pipe => fds::open_again_nonblocking(stderr.as_fd()).or_else(|_| {
            fds::set_nonblocking(&stderr)?;
            share()
        }),
        FdKind::Other => fds::open_again_nonblocking(stderr.as_fd()).or_else(|_| share()),
        _ => share(),
    }
}

fn append_to(path: &Path) -> io::Result<OwnedFd> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // It may be a FIFO: one that nobody reads is an error, and one that is read slowly makes nobody wait.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut options = OpenOptions::new();
    let file: File =
        options.append(true).create(true).mode(FILE_MODE).custom_flags(flags.bits()).open(path)?;
    Ok(file.into())
}

fn datagram(path: &str) -> io::Result<OwnedFd> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(target: LogTarget) -> LogSink {
        LogSink::new(LogSlice { levels: Vec::new(), target })
    }

    #[test]
    fn a_log_daemon_that_is_away_holds_nobody_up() {
        let path = std::env::temp_dir().join(format!("vsmtp-log-sink.{}", std::process::id()));
        let path = path.display().to_string();
        let syslog = sink(LogTarget::Syslog(SyslogTransport::Unix(path.clone()), Facility::Mail));
        assert!(syslog.open().is_err());
        let stand_in = UnixDatagram::from(syslog.open_or_stand_in().unwrap());
        assert!(stand_in.send(b"x").is_err(), "its owner must find out");
        let daemon = UnixDatagram::bind(&path).unwrap();
        UnixDatagram::from(syslog.open_or_stand_in().unwrap()).send(b"x").unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(daemon.recv(&mut [0; 4]).unwrap(), 1);
        assert!(
            matches!(syslog.message(Role::Receiver), ToChild::LogSink(it) if it.target == master_child::LogTarget::Syslog)
        );
    }

    #[test]
    fn a_fifo_that_nobody_reads_is_an_error_and_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = sink(LogTarget::File(path.display().to_string()));
        assert!(fifo.open().is_err());
        assert!(fifo.open_or_stand_in().is_ok());
        let _reader =
            OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).unwrap();
        let mut out = File::from(fifo.open().unwrap());
        let full = (0..10_000).find_map(|_| std::io::Write::write(&mut out, &[b'x'; 4096]).err());
        assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn a_remote_daemon_that_is_away_is_not_asked_at_once_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let remote = sink(LogTarget::Syslog(SyslogTransport::Tcp(address), Facility::Mail));
        assert!(remote.open_or_stand_in().is_ok());
        let _listener = std::net::TcpListener::bind(address).unwrap();
        let stand_in = UnixDatagram::from(remote.open_or_stand_in().unwrap());
        assert!(stand_in.peer_addr().is_err());
    }
}
