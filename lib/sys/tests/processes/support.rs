//! Starting the probe and reading what it says.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vsmtp_sys::spawn::{Child, Spawn, SpawnError};

/// How to start the probe.
pub struct Launch {
    pub args: Vec<String>,
    pub env: &'static str,
    pub program: Option<OwnedFd>,
    pub uid_gid: Option<(u32, u32)>,
    pub fds: Vec<OwnedFd>,
    pub new_netns: bool,
    pub new_ipcns: bool,
    pub pdeathsig: bool,
}

/// What it said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub pid: i32,
    pub exit: ExitStatus,
    pub lines: Vec<(String, String)>,
}

impl Launch {
    pub fn new(args: &[&str]) -> Launch {
        Launch {
            args: args.iter().map(|arg| arg.to_string()).collect(),
            env: "ONLY=this",
            program: None,
            uid_gid: None,
            fds: Vec::new(),
            new_netns: false,
            new_ipcns: false,
            pdeathsig: false,
        }
    }

    pub fn start(self) -> Result<(Child, PipeReader), SpawnError> {
        let (output, theirs) = io::pipe().unwrap();
        let probe = || File::open(env!("CARGO_BIN_EXE_vsmtp-sys-probe")).unwrap().into();
        let words = ["vsmtp-probe".to_owned()].into_iter().chain(self.args);
        let spawn = Spawn {
            program: self.program.unwrap_or_else(probe),
            argv: words.map(|word| CString::new(word).unwrap()).collect(),
            env: vec![CString::new(self.env).unwrap()],
            uid_gid: self.uid_gid,
            fds: self.fds,
            stderr: theirs.as_fd(),
            new_netns: self.new_netns,
            new_ipcns: self.new_ipcns,
            pdeathsig: self.pdeathsig,
            session: true,
        };
        Ok((spawn.spawn()?, output))
    }

    pub fn run(self) -> Said {
        let (child, mut output) = self.start().unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        let split = |line: &str| line.split_once('\t').map(|(key, value)| (key.to_owned(), value.to_owned()));
        Said { pid: child.pid, exit: wait(&child), lines: text.lines().filter_map(split).collect() }
    }
}

impl Said {
    pub fn get(&self, key: &str) -> &str {
        let line = self.lines.iter().find(|(known, _)| known == key);
        &line.unwrap_or_else(|| panic!("no {key} in {self:?}")).1
    }

    pub fn keys(&self, prefix: &str) -> Vec<&str> {
        self.lines.iter().map(|(key, _)| key.as_str()).filter(|key| key.starts_with(prefix)).collect()
    }
}

/// Waits for the end of a child, through its descriptor.
pub fn wait(child: &Child) -> ExitStatus {
    let mut ended = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut ended, PollTimeout::NONE).unwrap();
    child.try_wait().unwrap().expect("the descriptor said that it has ended")
}

/// As a careless library would open it: without close-on-exec.
pub fn leaky(file: File) -> OwnedFd {
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    file.into()
}

pub fn root() -> bool {
    vsmtp_sys::users::is_root()
}

/// Says which test did not run, and why.
pub fn skipped(test: &str) {
    io::stderr().write_all(format!("skipped without root: {test}\n").as_bytes()).unwrap();
}
