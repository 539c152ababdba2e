//! A private Postfix: its own folders and port, nothing of the host's. It ends when it is dropped. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::{free_port, program, run_with_input, said, wait_until};

/// The services that a Postfix without chroot and local delivery needs; tlsproxy keeps connections with TLS for reuse.
const SERVICES: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
tlsproxy unix - - n - 0 tlsproxy
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
";

/// A running Postfix.
pub struct Postfix {
    folder: tempfile::TempDir,
    port: u16,
}

impl Postfix {
    /// Keeps whatever it is sent in its hold queue.
    pub fn holding() -> Postfix {
        Postfix::start(
            "smtpd_recipient_restrictions = check_client_access static:HOLD, permit_mynetworks, reject",
        )
    }

    /// Sends whatever it is given to this port of this host.
    pub fn relaying_to(port: u16) -> Postfix {
        Postfix::start(&format!("relayhost = [127.0.0.1]:{port}"))
    }

    /// Starts with these lines of main.cf behind the defaults of tests.
    pub fn start(settings: &str) -> Postfix {
        let folder = tempfile::Builder::new().prefix("vsmtp-postfix.").tempdir().expect("make a folder");
        let postfix = Postfix { folder, port: free_port() };
        postfix.configure(settings);
        said(&postfix.command("postfix", &["start"]));
        wait_until("postfix listens", || std::net::TcpStream::connect(("127.0.0.1", postfix.port)).is_ok());
        postfix
    }

    fn configure(&self, settings: &str) {
        let root = self.folder.path();
        for name in ["etc", "spool", "data"] {
            fs::create_dir(root.join(name)).expect("make a folder of postfix");
        }
        said(&run_with_input("chmod", &[Path::new("755"), root], b""));
        said(&run_with_input("chown", &[Path::new("postfix"), &root.join("data")], b""));
        let place = root.display();
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {place}/spool\ndata_directory = {place}/data\n\
             mail_owner = postfix\nsetgid_group = postdrop\ncommand_directory = /usr/sbin\n\
             daemon_directory = /usr/lib/postfix/sbin\nmaillog_file_prefixes = {place}\nmaillog_file = {place}/log\n\
             myhostname = postfix.test\nmyorigin = postfix.test\nmydestination =\nmynetworks = 127.0.0.0/8\n\
             inet_interfaces = loopback-only\ninet_protocols = ipv4\nalias_maps =\nalias_database =\n\
             smtp_dns_support_level = disabled\nsmtp_host_lookup = native\nsmtpd_peername_lookup = no\n\
             message_size_limit = 104857600\nin_flow_delay = 0\nsmtpd_client_connection_count_limit = 0\n{settings}\n"
        );
        let services = format!("127.0.0.1:{} inet n - n - - smtpd\n{SERVICES}", self.port);
        fs::write(root.join("etc/main.cf"), main).expect("write main.cf");
        fs::write(root.join("etc/master.cf"), services).expect("write master.cf");
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Hands it a message as a local program does: lines end in LF.
    pub fn sendmail(&self, from: &str, recipients: &[&str], message: &[u8]) {
        let etc = self.etc();
        let mut words = vec!["-C", etc.to_str().expect("a plain path"), "-i", "-f", from, "--"];
        words.extend(recipients);
        said(&run_with_input("/usr/sbin/sendmail", &words, message));
    }

    /// The messages in its hold queue, as its own postcat prints them: lines end in LF.
    pub fn held(&self) -> Vec<Vec<u8>> {
        let mut ids: Vec<PathBuf> = files(&self.folder.path().join("spool/hold"));
        ids.sort();
        let cat = |id: &PathBuf| {
            let id = id.file_name().and_then(|name| name.to_str()).expect("a queue id");
            self.command("postcat", &["-q", "-h", "-b", id]).stdout
        };
        ids.iter().map(cat).collect()
    }

    /// Waits until its hold queue holds so many messages, complete, and answers them.
    pub fn wait_for_held(&self, count: usize) -> Vec<Vec<u8>> {
        // Postfix writes to incoming first and moves what is complete.
        wait_until("postfix holds the messages", || {
            files(&self.folder.path().join("spool/hold")).len() >= count
        });
        self.held()
    }

    /// How many messages it still has to send.
    pub fn queued(&self) -> usize {
        let spool = self.folder.path().join("spool");
        ["maildrop", "incoming", "active", "deferred"].iter().map(|queue| count(&spool.join(queue))).sum()
    }

    /// All of its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn etc(&self) -> PathBuf {
        self.folder.path().join("etc")
    }

    fn command(&self, name: &str, words: &[&str]) -> Output {
        let mut command = program(name);
        command.arg("-c").arg(self.etc()).args(words);
        // The daemon must not keep a pipe of ours open.
        if name == "postfix" {
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        }
        command.output().unwrap_or_else(|error| panic!("run {name}: {error}"))
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), self.log().as_bytes());
        }
        let _ = self.command("postfix", &["stop"]);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map_or_else(|_| Vec::new(), |found| found.flatten().map(|e| e.path()).collect())
}

/// Files below a folder; the deferred queue has one folder per first letter.
fn count(folder: &Path) -> usize {
    files(folder).iter().map(|path| if path.is_dir() { count(path) } else { 1 }).sum()
}
