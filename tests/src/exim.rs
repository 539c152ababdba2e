//! A private Exim: its own root folder and port, nothing of the host's but programs and libraries, which it cannot write.
//! Debian's Exim and Postfix conflict, so tests/prepare unpacks its package instead of installing it. Needs root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::{free_port, make_certificate, program, run_with_input, said, signal, wait_until};

/// Where tests/prepare has unpacked it.
pub const EXIM: &str = "/var/lib/vsmtp-tests/exim/usr/sbin/exim4";
/// Who it is inside.
const EXIM_ID: u32 = 64_789;
/// Makes the root what it is for this process and its children only, and goes there.
const ENTER: &str = "mount --rbind -o ro /usr $0/usr && mount --rbind /dev $0/dev && mount -t proc proc $0/proc && exec chroot $0 \"$@\"";

/// A running Exim.
pub struct Exim {
    folder: tempfile::TempDir,
    port: u16,
    daemon: Child,
}

impl Exim {
    /// Puts all it is sent into one Maildir.
    pub fn keeping() -> Exim {
        Exim::start("", "keep:\n  driver = accept\n  transport = keep\n")
    }

    /// Sends whatever it is given to this port of this host, under TLS.
    pub fn relaying_to(port: u16) -> Exim {
        let route =
            "send:\n  driver = manualroute\n  route_list = * 127.0.0.1\n  self = send\n  transport = send\n";
        let transport = format!(
            "send:\n  driver = smtp\n  port = {port}\n  hosts_require_tls = *\n  tls_verify_certificates =\n"
        );
        Exim::start(&transport, route)
    }

    fn start(transports: &str, routers: &str) -> Exim {
        let folder = tempfile::Builder::new().prefix("vsmtp-exim.").tempdir().expect("make a folder");
        let port = free_port();
        build_root(folder.path());
        fs::write(folder.path().join("etc/exim4/exim4.conf"), configuration(port, transports, routers))
            .expect("write exim4.conf");
        let daemon = enter(folder.path(), &["/exim4", "-bdf", "-q5s"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start exim");
        let exim = Exim { folder, port, daemon };
        wait_until("exim listens", || std::net::TcpStream::connect(("127.0.0.1", exim.port)).is_ok());
        exim
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Hands it a message as a local program does: lines end in LF.
    pub fn sendmail(&self, from: &str, recipients: &[&str], message: &[u8]) {
        let root = self.folder.path().to_str().expect("a plain path");
        let words =
            [&["--mount", "sh", "-c", ENTER, root, "/exim4", "-i", "-f", from, "--"], recipients].concat();
        said(&run_with_input("unshare", &words, message));
    }

    /// The messages that it has kept: lines end in LF.
    pub fn kept(&self) -> Vec<Vec<u8>> {
        let Ok(found) = fs::read_dir(self.folder.path().join("mail/new")) else { return Vec::new() };
        found.flatten().filter_map(|entry| fs::read(entry.path()).ok()).collect()
    }

    /// All of its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log/main")).unwrap_or_default()
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), self.log().as_bytes());
        }
        // `timeout` passes the signal on.
        signal(&[self.daemon.id()], "TERM");
        let _ = self.daemon.wait();
    }
}

fn enter(root: &Path, words: &[&str]) -> std::process::Command {
    let mut command = program("unshare");
    command.args(["--mount", "sh", "-c", ENTER]).arg(root).args(words);
    command
}

fn build_root(root: &Path) {
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("open the folder up");
    for name in ["usr", "dev", "proc", "etc/exim4", "spool", "log", "mail", "tmp"] {
        fs::create_dir_all(root.join(name)).expect("make a folder of exim");
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        symlink(format!("usr/{name}"), root.join(name)).expect("link to a folder of programs");
    }
    for name in ["spool", "log", "mail", "tmp"] {
        chown(root.join(name), Some(EXIM_ID), Some(EXIM_ID)).expect("give the folder to exim");
    }
    fs::copy(EXIM, root.join("exim4")).expect("copy exim");
    fs::write(
        root.join("etc/passwd"),
        format!("root:x:0:0::/:/bin/sh\nDebian-exim:x:{EXIM_ID}:{EXIM_ID}::/:/bin/sh\n"),
    )
    .expect("write passwd");
    fs::write(root.join("etc/group"), format!("root:x:0:\nDebian-exim:x:{EXIM_ID}:\nmail:x:8:\n"))
        .expect("write group");
    make_certificate(&root.join("etc/exim4"), "exim", &["exim.test"]);
    chown(root.join("etc/exim4/exim.key"), Some(EXIM_ID), Some(EXIM_ID)).expect("give the key to exim");
}

fn configuration(port: u16, transports: &str, routers: &str) -> String {
    format!(
        "exim_path = /exim4\nprimary_hostname = exim.test\nspool_directory = /spool\nlog_file_path = /log/%s\n\
         pid_file_path = /tmp/pid\nnotifier_socket =\ntimezone = UTC\nlocal_interfaces = 127.0.0.1\ndaemon_smtp_ports = {port}\n\
         host_lookup =\nrfc1413_hosts =\nkeep_environment =\nadd_environment =\nnever_users =\ndeliver_drop_privilege = true\nmessage_size_limit = 100M\n\
         tls_advertise_hosts = *\ntls_certificate = /etc/exim4/exim.pem\ntls_privatekey = /etc/exim4/exim.key\n\
         chunking_advertise_hosts = *\nsmtp_accept_max_per_host = 0\nsmtp_accept_max_nonmail = 1000\n\
         acl_smtp_rcpt = all\nqualify_domain = exim.test\n\
         begin acl\nall:\n  accept\n\
         begin routers\n{routers}\
         begin transports\n{transports}\
         keep:\n  driver = appendfile\n  directory = /mail\n  maildir_format\n  user = Debian-exim\n  group = Debian-exim\n\
         begin retry\n* * F,1h,1s\n"
    )
}
