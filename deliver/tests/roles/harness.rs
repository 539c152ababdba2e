//! A deliver process under test, with the edges of its neighbours in our hands. Every wait is bounded.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vsmtp_config::{DeliverSlice, DeliverTls, Family, NextHopTimeouts, SourceAddresses, TlsPolicy};
use vsmtp_ipc::edge::client_resolver::ResolverEnd;
use vsmtp_ipc::edge::master_child::{Configure, LogTarget, MasterEnd, ToChild, ToMaster};
use vsmtp_ipc::edge::queue_deliver::{Ask, Attempt, AttemptRecipient, Outcome, QueueEnd, Result3, Said};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{Body, Body7, Id};
use vsmtp_ipc::{Channel, ChannelError, EdgeId, Message, encode};
use vsmtp_mail::Domain;
use vsmtp_sys::spawn::{Child, Spawn};
use vsmtp_sys::{clock, seqpacket};

/// Longest wait for anything; only a failing test waits so long.
pub const PATIENCE_MS: u64 = 10_000;

pub const MESSAGE: &str = "From: a@src.test\r\n\r\n.hidden\r\nbody\r\n";
pub const TO: &[&str] = &["b@dst.test"];

pub struct Deliver {
    pub master: MasterEnd,
    pub queue: QueueEnd,
    pub child: Child,
    log: tempfile::NamedTempFile,
    role: Role,
}

impl Deliver {
    pub fn start(role: Role, slice: Vec<u8>) -> Self {
        let word = if role == Role::DeliverMailbox { "mailbox" } else { "smtp" };
        let (ours, theirs) = seqpacket::pair().unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let stderr = log.reopen().unwrap();
        let argument = |text: &str| CString::new(text).unwrap();
        let child = Spawn {
            program: File::open(env!("CARGO_BIN_EXE_vsmtp-deliver")).unwrap().into(),
            argv: vec![argument("vsmtp-deliver"), argument("--role"), argument(word)],
            env: vec![argument("RUST_BACKTRACE=1")],
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
        let mut master = MasterEnd::new(ours, EdgeId::MasterChild);
        let configure = Configure {
            name: ProcessName { role, instance: 0 },
            generation: 1,
            node: 1,
            process: 1,
            log: LogTarget::Stream,
            log_level: 5,
            log_facility: 0,
            slice,
        };
        send(&mut master, &ToChild::Configure(configure), Vec::new());
        let (queue, theirs) = edge(EdgeId::QueueDeliver);
        let mut deliver = Deliver { master, queue, child, log, role };
        deliver.introduce(Role::QueueManager, theirs);
        while !matches!(deliver.told_master(), ToMaster::Ready) {}
        deliver
    }

    /// A new edge to the queue-manager instead of the old one.
    pub fn renew_queue(&mut self) {
        let (queue, theirs) = edge(EdgeId::QueueDeliver);
        self.queue = queue;
        self.introduce(Role::QueueManager, theirs);
    }

    /// The same, with room for two or three frames of outcomes. One with less would not take a frame at all.
    pub fn narrow_queue(&mut self) {
        let (queue, theirs) = edge(EdgeId::QueueDeliver);
        nix::sys::socket::setsockopt(&theirs, nix::sys::socket::sockopt::SndBuf, &70_000).unwrap();
        self.queue = queue;
        self.introduce(Role::QueueManager, theirs);
    }

    /// True if it ends within this time, though nothing is done for it.
    pub fn ends_within(&self, milliseconds: u16) -> bool {
        let mut fds = [PollFd::new(self.child.pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(milliseconds)) != Ok(0)
    }

    pub fn resolver(&mut self) -> ResolverEnd {
        let (resolver, theirs) = edge(EdgeId::ClientResolver);
        self.introduce(Role::Resolver, theirs);
        resolver
    }

    fn introduce(&mut self, role: Role, fd: OwnedFd) {
        send(&mut self.master, &ToChild::Peer(ProcessName { role, instance: 0 }), vec![fd]);
    }

    /// The next message to the master that is no mere sign of life.
    pub fn told_master(&mut self) -> ToMaster {
        loop {
            match receive(&mut self.master, self.role) {
                ToMaster::Beat(_) => {}
                other => return other,
            }
        }
    }

    /// Waits until it tells its master something like this.
    pub fn hear_master(&mut self, wanted: impl Fn(&ToMaster) -> bool) {
        let end = clock::monotonic_ms() + PATIENCE_MS;
        while !wanted(&receive(&mut self.master, self.role)) {
            assert!(clock::monotonic_ms() < end, "the master waits in vain");
        }
    }

    pub fn lease(&mut self, attempt: &Attempt) {
        send(&mut self.queue, &Ask::Attempt(attempt.clone()), Vec::new());
    }

    pub fn withdraw(&mut self, lease: u64) {
        send(&mut self.queue, &Ask::Withdraw(lease), Vec::new());
    }

    pub fn lease_with(&mut self, attempt: &Attempt, descriptor: OwnedFd) {
        send(&mut self.queue, &Ask::Attempt(attempt.clone()), vec![descriptor]);
    }

    pub fn outcome(&mut self) -> Outcome {
        self.try_outcome().unwrap()
    }

    /// The next outcome, whatever else it says before it.
    pub fn try_outcome(&mut self) -> Result<Outcome, ChannelError> {
        loop {
            if let Said::Outcome(outcome) = self.try_said()? {
                return Ok(outcome);
            }
        }
    }

    /// The next thing that it says to the queue-manager.
    pub fn try_said(&mut self) -> Result<Said, ChannelError> {
        try_receive(&mut self.queue, self.role)
    }

    pub fn stop_accepting(&mut self) {
        send(&mut self.master, &ToChild::StopAccepting, Vec::new());
    }

    pub fn drain(&mut self, deadline_ms: u64) {
        send(&mut self.master, &ToChild::Drain { deadline_ms }, Vec::new());
    }

    /// Waits for the end of the process.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        wait(self.child.pidfd.as_fd(), "the end of the process");
        self.child.try_wait().unwrap().unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Deliver {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- log of the process\n{}", self.log());
        }
        let _ = self.child.signal(9);
        let _ = wait_quietly(self.child.pidfd.as_fd());
        let _ = self.child.try_wait();
    }
}

pub fn edge<Tx: Message, Rx: Message>(id: EdgeId) -> (Channel<Tx, Rx>, OwnedFd) {
    let (ours, theirs) = seqpacket::pair().unwrap();
    (Channel::new(ours, id), theirs)
}

pub fn send<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>, message: &Tx, fds: Vec<OwnedFd>) {
    channel.send(message, fds).unwrap();
    let _ = channel.flush().unwrap();
}

pub fn receive<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>, from: Role) -> Rx {
    try_receive(channel, from).unwrap()
}

pub fn try_receive<Tx: Message, Rx: Message>(
    channel: &mut Channel<Tx, Rx>,
    from: Role,
) -> Result<Rx, ChannelError> {
    loop {
        if let Some(received) = channel.receive()? {
            return Ok(received.message);
        }
        wait(channel.socket(), &format!("a message from {from}"));
    }
}

pub fn wait_for(fd: impl AsFd, what: &str) {
    wait(fd.as_fd(), what);
}

fn wait(fd: std::os::fd::BorrowedFd<'_>, what: &str) {
    assert!(wait_quietly(fd), "waited in vain for {what}");
}

fn wait_quietly(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    let end = clock::monotonic_ms() + PATIENCE_MS;
    loop {
        let left = end.saturating_sub(clock::monotonic_ms());
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

pub fn attempt(lease: u64, next_hop: &str, recipients: &[&str], body: Body) -> Attempt {
    let recipient = |(index, address): (usize, &&str)| AttemptRecipient {
        index: index as u32,
        address: (*address).to_owned(),
        original: None,
        notify: vsmtp_mail::Notify::default().into(),
    };
    Attempt {
        lease,
        id: Id([lease as u8; 16]),
        next_hop: next_hop.to_owned(),
        reverse_path: "sender@src.test".to_owned(),
        body_type: Body7::SevenBit,
        smtputf8: false,
        ret_full: None,
        envid: None,
        demands: vsmtp_ipc::wire::Demands::default(),
        priority: 0,
        by: None,
        recipients: recipients.iter().enumerate().map(recipient).collect(),
        service_ms: None,
        body,
    }
}

pub fn inline(text: &str) -> Body {
    Body::Inline(text.as_bytes().to_vec())
}

/// The results in the order of the recipients' indexes.
pub fn results(outcome: &Outcome) -> Vec<(Result3, (u8, u16, u16))> {
    let mut settled = outcome.settled.clone();
    settled.sort_by_key(|settled| settled.index);
    settled.into_iter().map(|settled| (settled.result, settled.enhanced)).collect()
}

/// The result of the only recipient.
pub fn only(outcome: &Outcome) -> (Result3, (u8, u16, u16)) {
    let results = results(outcome);
    assert_eq!(results.len(), 1, "{outcome:?}");
    results[0]
}

pub fn slice<T: bincode::Encode>(slice: &T) -> Vec<u8> {
    encode(slice).unwrap()
}

pub fn settings() -> DeliverSlice {
    let long = Duration::from_secs(60);
    DeliverSlice {
        server_name: Domain::parse("us.test").unwrap().into(),
        own_addresses: Vec::new(),
        connections: 100,
        family: Family::Any,
        source: SourceAddresses::default().into(),
        sources: Vec::new(),
        chunking: false,
        mime_conversion: true,
        timeouts: NextHopTimeouts {
            connect: long,
            greeting: long,
            mail: long,
            rcpt: long,
            data: long,
            block: long,
            dot: long,
        },
        reuse_idle: Some(long),
        reuse_max_messages: None,
        tls: DeliverTls {
            level: TlsPolicy::parse("may").unwrap().into(),
            policies: Vec::new(),
            mta_sts: false,
            reports: false,
            ca_file: None,
        },
        credentials_file: None,
    }
}

pub fn start(change: impl FnOnce(&mut DeliverSlice)) -> Deliver {
    let mut settings = settings();
    change(&mut settings);
    Deliver::start(Role::DeliverSmtp, slice(&settings))
}
