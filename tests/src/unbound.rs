//! A private unbound that validates: one zone signed on the spot, one that is not. It ends when it is dropped.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{free_port, run, said, wait_until};

/// The zone that is signed.
pub const SIGNED: &str = "signed.example";
/// The zone that is not.
pub const PLAIN: &str = "plain.example";

/// A running name server.
pub struct Unbound {
    port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Unbound {
    /// Serves these records, each a line below its zone, with names in full. In the signed zone every `(before, after)` of
    /// `forged` is replaced behind its signer's back. Needs unbound, ldns-keygen and ldns-signzone.
    pub fn start(signed: &str, plain: &str, forged: &[(&str, &str)]) -> Unbound {
        let folder = tempfile::Builder::new().prefix("vsmtp-unbound.").tempdir().expect("make a folder");
        let root = folder.path();
        write_zone(root, PLAIN, plain);
        write_zone(root, SIGNED, signed);
        sign(root);
        let zone = root.join(SIGNED);
        let mut text = fs::read_to_string(&zone).expect("read the signed zone");
        for (before, after) in forged {
            assert!(text.contains(before), "there is no {before} to be forged");
            text = text.replace(before, after);
        }
        fs::write(&zone, text).expect("write the forged zone");
        let port = free_port();
        fs::write(root.join("conf"), configuration(root, port)).expect("write the configuration");
        let log = fs::File::create(root.join("log")).expect("make the log");
        let child = Command::new("/usr/sbin/unbound")
            .args(["-d", "-c"])
            .arg(root.join("conf"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start unbound");
        wait_until("unbound listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Unbound { port, child, _folder: folder }
    }

    /// Its port at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The lines of configuration that have an MTA ask this server.
    pub fn config(&self) -> String {
        format!(
            "config.server.dns.type = \"custom\"; config.server.dns.config.name_servers = [\"127.0.0.1:{}\"];\n",
            self.port
        )
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_zone(root: &Path, name: &str, records: &str) {
    let text = format!(
        "{name}. 60 IN SOA ns.{name}. root.{name}. 1 3600 600 86400 60\n{name}. 60 IN NS ns.{name}.\n{records}\n"
    );
    fs::write(root.join(name), text).expect("write a zone");
}

/// Signs the zone with a fresh key, whose public part becomes the anchor.
fn sign(root: &Path) {
    let script = "cd \"$1\" && key=$(ldns-keygen -a ED25519 -k \"$2\") && ldns-signzone -f made \"$2\" \"$key\" && \
                  mv made \"$2\" && mv \"$key.key\" anchor";
    let folder = root.to_str().expect("a plain path");
    said(&run("sh", &["-c", script, "sh", folder, SIGNED]));
}

fn configuration(root: &Path, port: u16) -> String {
    let folder = root.display();
    let zone = |name: &str| {
        format!(
            "auth-zone:\n name: {name}\n zonefile: {folder}/{name}\n for-downstream: no\n for-upstream: yes\n"
        )
    };
    format!(
        "server:\n interface: 127.0.0.1@{port}\n do-ip6: no\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n \
         directory: {folder}\n pidfile: \"\"\n use-syslog: no\n module-config: \"validator iterator\"\n \
         trust-anchor-file: {folder}/anchor\n ede: yes\n num-threads: 1\nremote-control:\n control-enable: no\n{}{}",
        zone(SIGNED),
        zone(PLAIN),
    )
}
