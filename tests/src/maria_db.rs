//! A private MariaDB server, in memory where the host has room for that, which ends when it is dropped; files of SQLite.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{free_port, program, python, run, run_with_input, said, wait_until};

/// What it takes to run one.
pub const MARIADB: [&str; 3] = ["mariadbd", "mariadb-install-db", "mariadb"];

/// Makes a file of SQLite that everybody may read. Needs Python.
pub fn make_sqlite(path: &Path, sql: &str) {
    let script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2]).close()";
    said(&python(script, &[path.to_str().expect("a plain path"), sql]));
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("open the file");
}

/// A server with one database, `mail`, and one user, `mail`, who may come from anywhere.
pub struct MariaDb {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl MariaDb {
    /// The password of the user `mail`, as it stands in a URL.
    pub const PASSWORD: &str = "s3cret%3A%40%2F";

    /// Makes a server, which does not run yet. Needs what [`MARIADB`] names.
    pub fn prepare() -> MariaDb {
        // Making its tables writes much, which a slow disk would take long for.
        let place = ["/dev/shm", "/tmp"].into_iter().map(Path::new).find(|place| place.is_dir());
        let mut folder = tempfile::Builder::new();
        let folder = folder.prefix("vsmtp-mariadb.").tempdir_in(place.expect("a folder for temporary files"));
        let folder = folder.expect("make a folder");
        // Whoever asks it is another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open the folder");
        let server = MariaDb { folder, port: free_port(), child: None };
        let data = format!("--datadir={}", server.data().display());
        let arguments =
            ["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"];
        said(&run("mariadb-install-db", &[&arguments[..], &server.user()].concat()));
        server
    }

    /// Has it run, with the database and the user that are there from the first time on.
    pub fn start(&mut self) {
        let log = fs::File::create(self.folder.path().join("log")).expect("make the log");
        let mut command = Command::new("/usr/sbin/mariadbd");
        command.arg("--no-defaults").args(self.user());
        command.arg(format!("--datadir={}", self.data().display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.args([&format!("--port={}", self.port), "--bind-address=127.0.0.1", "--skip-name-resolve"]);
        command.args(["--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0"]);
        command.args(["--pid-file=pid", "--lc-time-names=en_US"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("start mariadbd"));
        wait_until("MariaDB listens", || self.try_query("select 1").is_some());
        self.query(
            "create database if not exists mail; \
             create user if not exists mail@'%' identified by 's3cret:@/'; grant all on mail.* to mail@'%'",
        );
    }

    /// Ends it at once, with all that is connected.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What it says to its administrator: a line for each row, values between tabs.
    pub fn query(&self, sql: &str) -> String {
        self.try_query(sql).unwrap_or_else(|| panic!("MariaDB did not take: {sql}"))
    }

    fn try_query(&self, sql: &str) -> Option<String> {
        let output = run_with_input("mariadb", &self.client(), sql.as_bytes());
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A client of the administrator's that waits for statements on its standard input.
    pub fn session(&self) -> Child {
        let mut command = program("mariadb");
        command.args(self.client()).arg("--unbuffered").stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().expect("start mariadb")
    }

    fn client(&self) -> [String; 5] {
        let socket = format!("--socket={}", self.socket().display());
        let words = ["--no-defaults", "--user=root", "--batch", "--skip-column-names"].map(str::to_owned);
        let [first, user, batch, names] = words;
        [first, user, batch, names, socket]
    }

    /// The URL by TCP, and by the Unix socket.
    pub fn urls(&self) -> [String; 2] {
        let login = format!("mysql://mail:{}", Self::PASSWORD);
        [
            format!("{login}@127.0.0.1:{}/mail", self.port),
            format!("{login}@localhost/mail?socket={}", self.socket().display()),
        ]
    }

    /// A file as Postfix has it for a table of this server's; the first of its hosts is away.
    pub fn table(&self, query: &str) -> String {
        let hosts = format!("127.0.0.1:1, 127.0.0.1:{}", self.port);
        format!("hosts = {hosts}\nuser = mail\npassword = s3cret:@/\ndbname = mail\nquery = {query}\n")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn user(&self) -> [&'static str; 1] {
        [if crate::is_root() { "--user=root" } else { "--skip-symbolic-links" }]
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.stop();
    }
}
