//! What a captured deliver process would try fails under its table; what it must be able to do is listed here.
//!
//! Without the usual harness: a jail holds for a whole process, and is entered while that has one thread.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn};
use vsmtp_deliver::sandbox;
use vsmtp_sys::sandbox::{Denied, apply, probe};

/// Stands for a role.
const PORTS: &str = "ports";
const ROLE: &str = "VSMTP_TEST_JAIL";
const ROOT: &str = "VSMTP_TEST_ROOT";

/// All acts that neither the table nor Landlock may deny. `smtp` connects and opens no file; it can neither bind, listen nor
/// accept.
const SMTP: &[&str] = &["unix socket", "tcp socket", "tcp6 socket", "connect"];
/// The same where connections come from one of our own addresses.
const SMTP_FROM: &[&str] = &["unix socket", "tcp socket", "tcp6 socket", "connect", "bind"];
/// `mailbox` has files below its root and no socket. Here the names are missing, or their folder is.
const MAILBOX: &[&str] = &["open beneath", "remove file", "rename file", "link file"];

fn main() {
    match (std::env::var(ROLE), std::env::var(ROOT)) {
        (Ok(role), Ok(_)) if role == PORTS => bind_ports(),
        (Ok(role), Ok(root)) => inside(&role, Path::new(&root)),
        _ => {
            assert_eq!(possible("smtp"), SMTP);
            assert_eq!(possible("smtp from"), SMTP_FROM);
            assert_eq!(possible("mailbox"), MAILBOX);
            may_bind_no_port_of_its_choice();
        }
    }
}

/// Where Landlock is whole, that is: older kernels see no ports.
fn may_bind_no_port_of_its_choice() {
    let text = said(PORTS);
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

/// Enters the jail and says what each act answers.
fn inside(role: &str, root: &Path) {
    let profile = match role {
        "smtp" => sandbox::smtp(false),
        "smtp from" => sandbox::smtp(true),
        _ => sandbox::mailbox(root),
    };
    assert_eq!(profile.on_denied, Denied::Errno);
    apply(&profile).unwrap();
    let mut output = std::io::stdout().lock();
    for act in probe::acts() {
        let errno = act.attempt().err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        writeln!(output, "{}\t{errno}", act.name()).unwrap();
    }
}

/// The acts that were not denied.
fn possible(role: &str) -> Vec<String> {
    let text = said(role);
    let acts: Vec<_> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    assert_eq!(acts.len(), probe::acts().count(), "{text}");
    let denials = [nix::libc::EPERM, nix::libc::EACCES, nix::libc::ENOSYS];
    let denied = |errno: &str| denials.contains(&errno.parse().unwrap());
    acts.into_iter().filter(|(_, errno)| !denied(errno)).map(|(act, _)| act.to_owned()).collect()
}

/// What this program says as that role.
fn said(role: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.env(ROLE, role).env(ROOT, root.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
