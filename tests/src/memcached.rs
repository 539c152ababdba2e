//! A private memcached, which ends when it is dropped.

use std::process::{Child, Command, Stdio};

use crate::{free_port, is_root, wait_until};

/// A running server.
pub struct Memcached {
    port: u16,
    child: Option<Child>,
}

impl Memcached {
    /// What it takes to run one.
    pub const PROGRAM: &str = "memcached";

    /// Makes a server, which does not run yet.
    pub fn prepare() -> Memcached {
        Memcached { port: free_port(), child: None }
    }

    /// Has it run, empty.
    pub fn start(&mut self) {
        let mut command = Command::new("/usr/bin/memcached");
        command.args(["-l", "127.0.0.1", "-p", &self.port.to_string(), "-U", "0", "-m", "8", "-t", "1"]);
        if is_root() {
            command.args(["-u", "nobody"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("start memcached"));
        wait_until("memcached listens", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Ends it at once, with all that is connected and all that it knows.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("memcache://127.0.0.1:{}", self.port)
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.stop();
    }
}
