//! The process itself: how it starts, what the master hears of it, what it logs, how it ends.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::master_child::{Configure, LogTarget, MasterEnd, ToChild, ToMaster};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_sys::seqpacket;
use vsmtp_sys::spawn::{Child, Spawn};

use crate::PATIENCE;
use crate::edge::{is_readable, next, say};

/// How often somebody who waits for a line looks into the log.
const LOOK: Duration = Duration::from_millis(10);

/// A running daemon. Dropping it kills the process, and shows the log if the test has failed.
pub struct Process {
    /// The master's end of its edge.
    pub master: MasterEnd,
    /// The process.
    pub child: Child,
    log: File,
}

/// What the first process in a role is told, with this slice: level debug, to the file that [`Process::log`] reads.
pub fn configure(role: Role, slice: Vec<u8>) -> Configure {
    Configure {
        name: ProcessName { role, instance: 0 },
        generation: 1,
        node: 7,
        process: 9,
        log: LogTarget::Stream,
        log_level: 4,
        log_facility: 2,
        slice,
    }
}

impl Process {
    /// Starts the program of this path, with these arguments behind its name, and tells it who it is. It need not be
    /// ready when this returns: some are only when they have got files.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(path: impl AsRef<Path>, arguments: &[&CStr], configure: Configure) -> Process {
        let path = path.as_ref();
        let name = path.file_name().expect("the path of a program").as_encoded_bytes();
        let name = CString::new(name).expect("a path has no NUL");
        let (ours, theirs) = seqpacket::pair().expect("a pair of sockets");
        let mut master = MasterEnd::new(ours, EdgeId::MasterChild);
        // Before there is anybody to hear it: whatever becomes of the process, this cannot fail because of it.
        say(&mut master, &ToChild::Configure(configure), Vec::new());
        let log = tempfile::tempfile().expect("a file for the log");
        let child = Spawn {
            program: File::open(path).expect("the program is built").into(),
            argv: [name.as_c_str()].iter().chain(arguments).map(|word| CString::from(*word)).collect(),
            env: Vec::new(),
            uid_gid: None,
            fds: vec![theirs, log.try_clone().expect("a descriptor").into()],
            stderr: log.as_fd(),
            new_netns: false,
            new_ipcns: false,
            pdeathsig: true,
            session: false,
        };
        let child = child.spawn().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Process { master, child, log }
    }

    /// Stops it where it is, until it is thawed.
    ///
    /// # Panics
    /// If it is gone.
    pub fn freeze(&self) {
        self.child.signal(nix::libc::SIGSTOP).expect("it is there");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it is gone.
    pub fn thaw(&self) {
        self.child.signal(nix::libc::SIGCONT).expect("it is there");
    }

    /// Tells it something as its master.
    ///
    /// # Panics
    /// If it is gone, or does not listen.
    pub fn tell(&mut self, message: &ToChild, descriptors: Vec<OwnedFd>) {
        say(&mut self.master, message, descriptors);
    }

    /// Introduces a peer; answers our end of the edge to it.
    ///
    /// # Panics
    /// As `tell`.
    pub fn introduce(&mut self, peer: ProcessName) -> OwnedFd {
        let (ours, theirs) = seqpacket::pair().expect("a pair of sockets");
        self.tell(&ToChild::Peer(peer), vec![theirs]);
        ours
    }

    /// Waits until it tells its master something like this; what it tells before is dropped.
    ///
    /// # Panics
    /// If that does not come.
    pub fn hear_master(&mut self, wanted: impl Fn(&ToMaster) -> bool) -> ToMaster {
        let until = Instant::now() + PATIENCE;
        loop {
            // It reports its figures all the time, so the wait for one message is none for this one.
            assert!(Instant::now() < until, "the master waits in vain");
            match next(&mut self.master) {
                Ok(received) if wanted(&received.message) => return received.message,
                Ok(_) => {}
                Err(error) => panic!("the daemon is gone: {error}"),
            }
        }
    }

    /// All that it has logged, and said on its standard error.
    ///
    /// # Panics
    /// If the file cannot be read.
    pub fn log(&self) -> String {
        let length = self.log.metadata().expect("the file of the log").len();
        let mut bytes = vec![0; usize::try_from(length).expect("a short log")];
        // At a place, not by seeking: the process writes where this descriptor stands.
        self.log.read_exact_at(&mut bytes, 0).expect("the log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the log holds this: a line is written at the end of a turn, when others may have been told already.
    ///
    /// # Panics
    /// If that does not come, at once when the process has ended.
    pub fn logged(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let has_ended = is_readable(self.child.pidfd.as_fd(), Instant::now() + LOOK);
            if self.log().contains(text) {
                return;
            }
            assert!(!has_ended && Instant::now() < until, "the log does not say {text}");
        }
    }

    /// Waits for the end of the process, once.
    ///
    /// # Panics
    /// If it lives on.
    pub fn ended(&self) -> ExitStatus {
        assert!(is_readable(self.child.pidfd.as_fd(), Instant::now() + PATIENCE), "it lives on");
        self.child.try_wait().expect("nobody else waits for it").expect("it has ended")
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test shows the log")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the process\n{}", self.log());
        }
        // It may have ended, and been waited for.
        let _ = self.child.signal(9);
        is_readable(self.child.pidfd.as_fd(), Instant::now() + PATIENCE);
        let _ = self.child.try_wait();
    }
}
