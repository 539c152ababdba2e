//! A private server of Redis, in memory, which ends when it is dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use crate::{free_port, run, said, wait_until};

/// A server with a password, whose Unix socket everybody may use.
pub struct RedisServer {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl RedisServer {
    /// What it takes to run one.
    pub const PROGRAMS: [&str; 2] = ["redis-server", "redis-cli"];

    /// Makes a server, which does not run yet.
    pub fn prepare() -> RedisServer {
        let folder = tempfile::Builder::new().prefix("vsmtp-redis.").tempdir().expect("make a folder");
        // Whoever asks it is another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open the folder");
        RedisServer { folder, port: free_port(), child: None }
    }

    /// Has it run; what it knew before is forgotten.
    pub fn start(&mut self) {
        let mut command = Command::new("/usr/bin/redis-server");
        command.args([
            "--port",
            &self.port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.args([
            "--requirepass",
            "s3cret:@/",
            "--unixsocket",
            &self.socket(),
            "--unixsocketperm",
            "777",
        ]);
        command.arg("--dir").arg(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("start redis-server"));
        wait_until("Redis listens", || self.try_command(&["PING"]).is_some());
    }

    /// Ends it at once, with all that is connected.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// What it says to its administrator.
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap_or_else(|| panic!("Redis did not take: {words:?}"))
    }

    fn try_command(&self, words: &[&str]) -> Option<String> {
        let socket = self.socket();
        let output = run(
            "redis-cli",
            &[&["-e", "--no-auth-warning", "-a", "s3cret:@/", "-s", &socket], words].concat(),
        );
        output.status.success().then(|| said(&output))
    }

    /// The URL by TCP, and by the Unix socket.
    pub fn urls(&self) -> [String; 2] {
        [
            format!("redis://:s3cret%3A%40%2F@127.0.0.1:{}", self.port),
            format!("redis+unix://{}?db=1&pass=s3cret%3A%40%2F", self.socket()),
        ]
    }

    fn socket(&self) -> String {
        self.folder.path().join("socket").display().to_string()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}
