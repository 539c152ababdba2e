//! A deliver process under test, with the edges of its neighbours in our hands. Every wait has an end.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use vsmtp_config::{DeliverSlice, DeliverTls, Family, NextHopTimeouts, SourceAddresses, TlsPolicy};
use vsmtp_ipc::edge::client_resolver::ResolverEnd;
use vsmtp_ipc::edge::master_child::{Configure, ToChild, ToMaster};
use vsmtp_ipc::edge::queue_deliver::{Ask, Attempt, AttemptRecipient, Outcome, QueueEnd, Result3, Said};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::wire::{Body, Body7, Id};
use vsmtp_ipc::{Channel, ChannelError, EdgeId, Message, encode};
use vsmtp_mail::Domain;
use vsmtp_stage::{Process, configure, is_readable, next, say};
use vsmtp_sys::seqpacket;

pub const MESSAGE: &str = "From: a@src.test\r\n\r\n.hidden\r\nbody\r\n";
pub const TO: &[&str] = &["b@dst.test"];

const QUEUE_MANAGER: ProcessName = ProcessName { role: Role::QueueManager, instance: 0 };
const RESOLVER: ProcessName = ProcessName { role: Role::Resolver, instance: 0 };

pub struct Deliver {
    pub process: Process,
    pub queue: QueueEnd,
}

impl Deliver {
    pub fn start(role: Role, slice: Vec<u8>) -> Self {
        let word = if role == Role::DeliverMailbox { c"mailbox" } else { c"smtp" };
        let configure = Configure { log_level: 5, ..configure(role, slice) };
        let mut process = Process::start(env!("CARGO_BIN_EXE_vsmtp-deliver"), &[c"--role", word], configure);
        let queue = QueueEnd::new(process.introduce(QUEUE_MANAGER), EdgeId::QueueDeliver);
        process.hear_master(|said| matches!(said, ToMaster::Ready));
        Deliver { process, queue }
    }

    /// A new edge to the queue-manager instead of the old one.
    pub fn renew_queue(&mut self) {
        self.queue = QueueEnd::new(self.process.introduce(QUEUE_MANAGER), EdgeId::QueueDeliver);
    }

    /// The same, with room for two or three frames of outcomes. One with less would not take a frame at all.
    pub fn narrow_queue(&mut self) {
        let (ours, theirs) = seqpacket::pair().unwrap();
        nix::sys::socket::setsockopt(&theirs, nix::sys::socket::sockopt::SndBuf, &70_000).unwrap();
        self.process.tell(&ToChild::Peer(QUEUE_MANAGER), vec![theirs]);
        self.queue = QueueEnd::new(ours, EdgeId::QueueDeliver);
    }

    /// True if it ends within this time, though nothing is done for it.
    pub fn ends_within(&self, time: Duration) -> bool {
        is_readable(self.process.child.pidfd.as_fd(), Instant::now() + time)
    }

    pub fn resolver(&mut self) -> ResolverEnd {
        ResolverEnd::new(self.process.introduce(RESOLVER), EdgeId::ClientResolver)
    }

    /// The next message to the master that is no mere sign of life.
    pub fn told_master(&mut self) -> ToMaster {
        self.process.hear_master(|said| !matches!(said, ToMaster::Beat(_)))
    }

    pub fn lease(&mut self, attempt: &Attempt) {
        say(&mut self.queue, &Ask::Attempt(attempt.clone()), Vec::new());
    }

    pub fn withdraw(&mut self, lease: u64) {
        say(&mut self.queue, &Ask::Withdraw(lease), Vec::new());
    }

    pub fn lease_with(&mut self, attempt: &Attempt, descriptor: OwnedFd) {
        say(&mut self.queue, &Ask::Attempt(attempt.clone()), vec![descriptor]);
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
        next(&mut self.queue).map(|received| received.message)
    }

    pub fn stop_accepting(&mut self) {
        self.process.tell(&ToChild::StopAccepting, Vec::new());
    }

    pub fn drain(&mut self, deadline_ms: u64) {
        self.process.tell(&ToChild::Drain { deadline_ms }, Vec::new());
    }

    /// Waits for the end of the process.
    pub fn ended(&self) -> ExitStatus {
        self.process.ended()
    }

    /// Waits until the log holds this.
    pub fn logged(&self, text: &str) {
        self.process.logged(text);
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// The next message that comes.
pub fn hear<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>) -> Rx {
    next(channel).expect("the process keeps the edge").message
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
        public_addresses: Vec::new(),
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
