//! A private Dovecot that takes mail by LMTP on a Unix socket. It ends when it is dropped. Needs root.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::{program, signal, wait_until};

/// Whose the mailboxes are.
const MAIL_UID: u32 = 64_790;

/// A running Dovecot.
pub struct Dovecot {
    folder: tempfile::TempDir,
    master: Child,
}

impl Dovecot {
    /// Knows these users (by full address); others are refused.
    pub fn start(users: &[&str]) -> Dovecot {
        Dovecot::serve(Dovecot::socket, |root| {
            fs::create_dir(root.join("mail")).expect("make a folder for mail");
            chown(root.join("mail"), Some(MAIL_UID), Some(MAIL_UID)).expect("give the mail to its user");
            let line =
                |user: &&str| format!("{user}::{MAIL_UID}:{MAIL_UID}::{}/mail/{user}::\n", root.display());
            fs::write(root.join("users"), users.iter().map(line).collect::<String>()).expect("write users");
            configuration(root)
        })
    }

    /// Knows these users with these passwords, as Dovecot writes them, and tells who asks on its auth socket.
    pub fn with_auth(users: &[(&str, &str)]) -> Dovecot {
        let line = |(user, password): &(&str, &str)| format!("{user}:{password}\n");
        let users = users.iter().map(line).collect::<String>();
        Dovecot::serve(Dovecot::auth_socket, |root| {
            fs::write(root.join("users"), users).expect("write users");
            auth_configuration(
                root,
                "plain login scram-sha-256",
                &format!("driver = passwd-file\n  args = {}/users", root.display()),
            )
        })
    }

    /// Knows whom a token belongs to by asking at this port of this host (RFC 7662), and tells who asks on its auth socket.
    pub fn with_tokens(port: u16) -> Dovecot {
        Dovecot::serve(Dovecot::auth_socket, |root| {
            let ask = format!(
                "introspection_mode = post\nintrospection_url = http://127.0.0.1:{port}/introspect\n\
                 username_attribute = username\nactive_attribute = active\nactive_value = true\n"
            );
            fs::write(root.join("oauth2.conf.ext"), ask).expect("write oauth2.conf.ext");
            let backend = "driver = oauth2\n  mechanisms = xoauth2 oauthbearer";
            let backend = format!("{backend}\n  args = {}/oauth2.conf.ext", root.display());
            auth_configuration(root, "xoauth2 oauthbearer", &backend)
        })
    }

    /// Runs until this socket is there; the configuration is made for its folder.
    fn serve(socket: fn(&Dovecot) -> PathBuf, configuration: impl FnOnce(&Path) -> String) -> Dovecot {
        let folder = tempfile::Builder::new().prefix("vsmtp-dovecot.").tempdir().expect("make a folder");
        let root = folder.path();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("open the folder up");
        fs::write(root.join("dovecot.conf"), configuration(root)).expect("write dovecot.conf");
        let mut command = program("dovecot");
        command.arg("-F").arg("-c").arg(root.join("dovecot.conf"));
        let master = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start dovecot");
        let dovecot = Dovecot { folder, master };
        wait_until("dovecot listens", || {
            fs::metadata(socket(&dovecot)).is_ok_and(|it| it.file_type().is_socket())
        });
        dovecot
    }

    /// Its auth socket.
    pub fn auth_socket(&self) -> PathBuf {
        self.folder.path().join("run/auth-smtp")
    }

    /// Its LMTP socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("run/lmtp")
    }

    /// The messages of a user: lines end in LF.
    pub fn mail(&self, user: &str) -> Vec<Vec<u8>> {
        let new = self.folder.path().join("mail").join(user).join("Maildir/new");
        let Ok(found) = fs::read_dir(new) else { return Vec::new() };
        found.flatten().filter_map(|entry| fs::read(entry.path()).ok()).collect()
    }

    /// All of its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), self.log().as_bytes());
        }
        // `timeout` passes the signal on.
        signal(&[self.master.id()], "TERM");
        let _ = self.master.wait();
    }
}

/// Who fails waits a second each time, and no longer the next time.
fn auth_configuration(root: &Path, mechanisms: &str, backend: &str) -> String {
    let root = root.display();
    format!(
        "base_dir = {root}/run\nlog_path = {root}/log\nprotocols =\nssl = no\n\
         disable_plaintext_auth = no\nauth_mechanisms = {mechanisms}\nauth_failure_delay = 1s\n\
         passdb {{\n  {backend}\n}}\n\
         userdb {{\n  driver = static\n  args = uid={MAIL_UID} gid={MAIL_UID} home=/\n}}\n\
         service auth {{\n  unix_listener auth-smtp {{\n    mode = 0666\n  }}\n}}\n\
         service anvil {{\n  unix_listener anvil-auth-penalty {{\n    mode = 0\n  }}\n}}\n\
         service stats {{\n  unix_listener stats-writer {{\n    mode = 0666\n  }}\n}}\n"
    )
}

fn configuration(root: &Path) -> String {
    let root = root.display();
    format!(
        "base_dir = {root}/run\nlog_path = {root}/log\nprotocols = lmtp\nssl = no\n\
         mail_location = maildir:~/Maildir\nfirst_valid_uid = {MAIL_UID}\n\
         passdb {{\n  driver = passwd-file\n  args = username_format=%u {root}/users\n}}\n\
         userdb {{\n  driver = passwd-file\n  args = username_format=%u {root}/users\n}}\n\
         service lmtp {{\n  unix_listener lmtp {{\n    mode = 0666\n  }}\n}}\n\
         service stats {{\n  unix_listener stats-writer {{\n    mode = 0666\n  }}\n}}\n"
    )
}
