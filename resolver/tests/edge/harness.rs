//! A resolver process under test, with its master and its clients in our hands. Every wait is bounded.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vsmtp_config::ResolverSlice;
use vsmtp_ipc::edge::client_resolver::{Answer, ClientEnd, DnsError, Query, Question, Records};
use vsmtp_ipc::edge::master_child::{Configure, LogTarget, MasterEnd, ToChild, ToMaster};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{Channel, ChannelError, EdgeId, Message, encode};
use vsmtp_sys::spawn::{Child, Spawn};
use vsmtp_sys::{clock, seqpacket};

/// Longest wait for anything; only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Resolver {
    pub master: MasterEnd,
    pub child: Child,
    log: tempfile::NamedTempFile,
}

/// Asks these servers, each question once, and waits long for an answer.
pub fn slice(servers: &[SocketAddr]) -> ResolverSlice {
    ResolverSlice {
        servers: Some(servers.to_vec()),
        timeout: Duration::from_secs(60),
        attempts: 1,
        cache_size: 100,
        trust_ad: false,
        ca_file: None,
    }
}

impl Resolver {
    pub fn with(servers: &[SocketAddr]) -> Self {
        Self::start(&slice(servers))
    }

    pub fn start(slice: &ResolverSlice) -> Self {
        Self::start_with(slice, [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()])
    }

    /// The same with these files for what it keeps.
    pub fn start_with(slice: &ResolverSlice, files: [File; 2]) -> Self {
        let (ours, theirs) = seqpacket::pair().unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let stderr = log.reopen().unwrap();
        let child = Spawn {
            program: File::open(env!("CARGO_BIN_EXE_vsmtp-resolver")).unwrap().into(),
            argv: vec![CString::new("vsmtp-resolver").unwrap()],
            env: vec![CString::new("RUST_BACKTRACE=1").unwrap()],
            uid_gid: None,
            fds: vec![theirs, log.reopen().unwrap().into()],
            stderr: stderr.as_fd(),
            new_netns: false,
            new_ipcns: false,
            pdeathsig: true,
            session: false,
        }
        .spawn()
        .unwrap();
        let mut resolver = Resolver { master: MasterEnd::new(ours, EdgeId::MasterChild), child, log };
        resolver.tell(&ToChild::Configure(Configure {
            name: ProcessName { role: Role::Resolver, instance: 0 },
            generation: 1,
            node: 1,
            process: 1,
            log: LogTarget::Stream,
            log_level: 4,
            log_facility: 0,
            slice: encode(slice).unwrap(),
        }));
        for (at, file) in files.into_iter().enumerate() {
            send(&mut resolver.master, &ToChild::File(format!("/mta-sts.{at}")), vec![file.into()]);
        }
        while !matches!(resolver.told(), ToMaster::Ready) {}
        resolver
    }

    pub fn tell(&mut self, message: &ToChild) {
        send(&mut self.master, message, Vec::new());
    }

    /// The next message to the master that is no mere sign of life.
    pub fn told(&mut self) -> ToMaster {
        loop {
            match receive(&mut self.master).unwrap() {
                ToMaster::Beat(_) => {}
                other => return other,
            }
        }
    }

    pub fn client(&mut self, role: Role, instance: u32) -> Client {
        let (ours, theirs) = seqpacket::pair().unwrap();
        self.introduce(ProcessName { role, instance }, theirs);
        Client { edge: Channel::new(ours, EdgeId::ClientResolver), last: 0 }
    }

    pub fn introduce(&mut self, name: ProcessName, fd: OwnedFd) {
        send(&mut self.master, &ToChild::Peer(name), vec![fd]);
    }

    /// One client for a whole test.
    pub fn deliver(&mut self) -> Client {
        self.client(Role::DeliverSmtp, 0)
    }

    /// Waits for the end of the process.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        wait(self.child.pidfd.as_fd());
        self.child.try_wait().unwrap().unwrap()
    }

    /// Waits for a line that holds these words: answers may come before the log does.
    pub fn logged(&self, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.log().contains(words) {
            assert!(Instant::now() < end, "{words} is not in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- log of the process\n{}", self.log());
        }
        let _ = self.child.signal(9);
        let _ = wait_quietly(self.child.pidfd.as_fd());
        let _ = self.child.try_wait();
    }
}

pub struct Client {
    pub edge: ClientEnd,
    last: u64,
}

impl Client {
    /// Asks with an ordinary deadline; answers the ticket.
    pub fn say(&mut self, query: Query) -> u64 {
        self.say_by(query, 60_000)
    }

    pub fn say_by(&mut self, query: Query, deadline_ms: u32) -> u64 {
        self.last += 1;
        send(&mut self.edge, &Question { ticket: self.last, query, deadline_ms }, Vec::new());
        self.last
    }

    pub fn hear(&mut self) -> Answer {
        receive(&mut self.edge).unwrap()
    }

    /// The end of the edge.
    pub fn closed(&mut self) -> bool {
        matches!(receive(&mut self.edge), Err(ChannelError::Closed))
    }

    pub fn ask(&mut self, query: Query) -> Answer {
        let ticket = self.say(query);
        let answer = self.hear();
        assert_eq!(answer.ticket, ticket);
        answer
    }

    /// The records of an answer, or why there are none.
    pub fn result(&mut self, query: Query) -> Result<Records, DnsError> {
        self.ask(query).result
    }
}

pub fn mx(name: &str) -> Query {
    Query::Mx(name.to_owned())
}

pub fn addresses(name: &str) -> Query {
    Query::Addresses(name.to_owned())
}

pub fn text(name: &str) -> Query {
    Query::Text(name.to_owned())
}

pub fn tlsa(name: &str) -> Query {
    Query::Tlsa(name.to_owned())
}

pub fn send<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>, message: &Tx, fds: Vec<OwnedFd>) {
    channel.send(message, fds).unwrap();
    assert_eq!(channel.flush().unwrap(), vsmtp_ipc::Flushed::All);
}

pub fn receive<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>) -> Result<Rx, ChannelError> {
    loop {
        if let Some(received) = channel.receive()? {
            return Ok(received.message);
        }
        wait(channel.socket());
    }
}

fn wait(fd: BorrowedFd<'_>) {
    assert!(wait_quietly(fd), "waited in vain");
}

fn wait_quietly(fd: BorrowedFd<'_>) -> bool {
    let end = clock::monotonic_ms() + PATIENCE.as_millis() as u64;
    loop {
        let left = end.saturating_sub(clock::monotonic_ms());
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::try_from(left).unwrap()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}
