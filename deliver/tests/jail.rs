//! What a captured deliver process would try fails under its table; what it must be able to do is listed here.
//!
//! Without the usual harness: see `vsmtp_stage::jail`.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn};
use vsmtp_deliver::sandbox;
use vsmtp_stage::jail;
use vsmtp_sys::sandbox::{Denied, apply};

/// Stands for a role.
const PORTS: &str = "ports";
const ROOT: &str = "VSMTP_TEST_ROOT";

/// All acts that neither the table nor Landlock may deny. `smtp` connects and opens no file; it can neither bind, listen nor
/// accept.
const SMTP: &[&str] = &["unix socket", "tcp socket", "tcp6 socket", "connect"];
/// The same where connections come from one of our own addresses.
const SMTP_FROM: &[&str] = &["unix socket", "tcp socket", "tcp6 socket", "connect", "bind"];
/// `mailbox` has files below its root and no socket. Here the names are missing, or their folder is.
const MAILBOX: &[&str] = &["open beneath", "remove file", "rename file", "link file"];

fn main() {
    match jail::word().as_deref() {
        Some(PORTS) => bind_ports(),
        Some(role) => try_all(role),
        None => {
            each_role_can_do_its_own_and_nothing_else();
            may_bind_no_port_of_its_choice();
        }
    }
}

fn try_all(role: &str) {
    let root = std::env::var(ROOT).unwrap();
    let profile = match role {
        "smtp" => sandbox::smtp(false),
        "smtp from" => sandbox::smtp(true),
        _ => sandbox::mailbox(Path::new(&root)),
    };
    assert_eq!(profile.on_denied, Denied::Errno);
    jail::try_all(profile);
}

fn each_role_can_do_its_own_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    for (role, possible) in [("smtp", SMTP), ("smtp from", SMTP_FROM), ("mailbox", MAILBOX)] {
        let written = jail::inside(role, &[(ROOT, root.path().as_os_str())]);
        assert_eq!(jail::possible(&written), possible, "{role}");
    }
}

/// Where Landlock is whole, that is: older kernels see no ports.
fn may_bind_no_port_of_its_choice() {
    let text = jail::inside(PORTS, &[]);
    if text.contains("landlock\tFull") {
        assert!(text.contains("port 0\tNone\n"), "{text}");
        assert!(text.contains("port 2525\tSome(EACCES)\n"), "{text}");
    }
}

/// Enters the jail for connections from our own addresses, and says to which ports a socket could be bound.
fn bind_ports() {
    let applied = apply(&sandbox::smtp(true)).unwrap();
    let mut output = std::io::stdout().lock();
    writeln!(output, "landlock\t{:?}", applied.landlock).unwrap();
    for port in [0, 2525] {
        let kind = (AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC);
        let socket = socket::socket(kind.0, kind.1, kind.2, SockProtocol::Tcp).unwrap();
        let bound = socket::bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port));
        writeln!(output, "port {port}\t{:?}", bound.err()).unwrap();
    }
}
