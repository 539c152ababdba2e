//! Where all processes log. The master opens the sink, again and again if need be: jailed children cannot.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use vsmtp_config::{Facility, LogLevel, LogSlice, LogTarget, SyslogTransport};
use vsmtp_ipc::edge::master_child;

/// journald's own socket.
const JOURNALD: &str = "/run/systemd/journal/socket";
/// Mode of a log file: the admin group may read it.
const FILE_MODE: u32 = 0o640;
/// A remote syslog daemon must take a connection within this time.
const CONNECT: Duration = Duration::from_secs(1);

/// The sink of one configuration.
#[derive(Debug, Clone)]
pub struct LogSink {
    slice: LogSlice,
}

impl LogSink {
    /// The sink before there is a configuration: standard error.
    pub fn stderr() -> Self {
        LogSink { slice: LogSlice { level: LogLevel::Info, target: LogTarget::Stderr } }
    }

    /// The sink that the configuration names.
    pub fn new(slice: LogSlice) -> Self {
        LogSink { slice }
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

    /// 1 error to 5 trace.
    pub fn level(&self) -> u8 {
        match self.slice.level {
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

fn stderr() -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;
    io::stderr().as_fd().try_clone_to_owned()
}

fn append_to(path: &Path) -> io::Result<OwnedFd> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file: File = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
    Ok(file.into())
}

fn datagram(path: &str) -> io::Result<OwnedFd> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
