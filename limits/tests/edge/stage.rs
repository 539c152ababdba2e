//! The other ends of a limiter. Every wait ends after ten seconds.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use vsmtp_config::{ByText, DnsblSite, LimitsSlice};
use vsmtp_config::{ScreenAction, ScreenSlice};
use vsmtp_ipc::edge::client_resolver::{self, DnsError, Query, Records, ResolverEnd};
use vsmtp_ipc::edge::filter_limits::{self, FilterEnd, Taken, Taking, Terms, Triple};
use vsmtp_ipc::edge::master_child::{Configure, LogTarget, MasterEnd, ToChild, ToMaster};
use vsmtp_ipc::edge::receiver_limits::{Answer, Ask, Entry, ReceiverEnd, Spent, Wanted};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{Channel, ChannelError, EdgeId, Flushed, Message};
use vsmtp_sys::seqpacket;
use vsmtp_sys::spawn::{Child, Spawn};

const PATIENCE: Duration = Duration::from_secs(10);

/// A running limiter.
pub struct Stage {
    pub master: MasterEnd,
    pub child: Child,
    log: File,
}

/// A receiver's end of its edge.
pub struct Receiver(pub ReceiverEnd);

/// A filter's end of its edge.
pub struct Filter(pub FilterEnd);

/// The resolver's end of its edge.
pub struct Resolver(pub ResolverEnd);

/// Two sessions at once, and nothing else.
pub fn slice() -> LimitsSlice {
    LimitsSlice {
        connections: Some(2),
        connection_rate: None,
        message_rate: None,
        recipient_rate: None,
        error_rate: None,
        tls_rate: None,
        auth_failure_rate: None,
        window: Duration::from_secs(60),
        soft_percent: 100,
        delay: Duration::from_secs(1),
        prefix_v4: 32,
        prefix_v6: 64,
        screen: ScreenSlice {
            greet_wait: Duration::ZERO,
            greet_action: ScreenAction::Enforce,
            sites: Vec::new(),
            threshold: 1,
            dnsbl_action: ScreenAction::Drop,
            deep: false,
            cache: Duration::from_secs(60),
            deep_cache: Duration::from_secs(60),
        },
    }
}

/// The same with lists that are asked.
pub fn listing(sites: &[&str]) -> LimitsSlice {
    let site = |text: &&str| ByText::from(DnsblSite::parse(text).unwrap());
    let mut slice = slice();
    slice.screen.sites = sites.iter().map(site).collect();
    slice
}

pub fn receiver(instance: u32) -> ProcessName {
    ProcessName { role: Role::Receiver, instance }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Stage {
    pub fn start(slice: &LimitsSlice) -> Stage {
        Self::start_with(slice, [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()])
    }

    /// The same with these files for what it keeps.
    pub fn start_with(slice: &LimitsSlice, files: [File; 2]) -> Stage {
        let (ours, theirs) = seqpacket::pair().unwrap();
        let log = tempfile::tempfile().unwrap();
        let child = Spawn {
            program: File::open(env!("CARGO_BIN_EXE_vsmtp-limits")).unwrap().into(),
            argv: vec![c"vsmtp-limits".into()],
            env: Vec::new(),
            uid_gid: None,
            fds: vec![theirs, log.try_clone().unwrap().into()],
            stderr: log.as_fd(),
            new_netns: false,
            new_ipcns: false,
            pdeathsig: true,
            session: false,
        }
        .spawn()
        .unwrap();
        let mut stage = Stage { master: MasterEnd::new(ours, EdgeId::MasterChild), child, log };
        let configure = ToChild::Configure(Configure {
            name: ProcessName { role: Role::Limits, instance: 0 },
            generation: 1,
            node: 7,
            process: 9,
            log: LogTarget::Stream,
            log_level: 4,
            log_facility: 2,
            slice: vsmtp_ipc::encode(slice).unwrap(),
        });
        stage.tell(&configure, Vec::new());
        for (at, file) in files.into_iter().enumerate() {
            stage.tell(&ToChild::File(format!("/greylist.{at}")), vec![file.into()]);
        }
        stage.hear_master(|said| matches!(said, ToMaster::Ready).then_some(()));
        stage
    }

    pub fn tell(&mut self, message: &ToChild, descriptors: Vec<OwnedFd>) {
        say(&mut self.master, message, descriptors);
    }

    /// Waits until the limiter tells the master this.
    pub fn hear_master<T>(&mut self, wanted: impl Fn(ToMaster) -> Option<T>) -> T {
        loop {
            match next(&mut self.master) {
                Ok(said) => {
                    if let Some(found) = wanted(said) {
                        return found;
                    }
                }
                Err(error) => panic!("the limiter is gone: {error}\n{}", self.log()),
            }
        }
    }

    /// A receiver that has heard what is wanted.
    pub fn receiver(&mut self, instance: u32) -> (Receiver, Wanted) {
        let (ours, theirs) = seqpacket::pair().unwrap();
        self.tell(&ToChild::Peer(receiver(instance)), vec![theirs]);
        let mut edge = Receiver(ReceiverEnd::new(ours, EdgeId::ReceiverLimits));
        match next(&mut edge.0).unwrap() {
            Answer::Wanted(wanted) => (edge, wanted),
            other => panic!("first of all what is wanted, not {other:?}"),
        }
    }

    pub fn filter(&mut self, role: Role, instance: u32) -> Filter {
        let (ours, theirs) = seqpacket::pair().unwrap();
        self.tell(&ToChild::Peer(ProcessName { role, instance }), vec![theirs]);
        Filter(FilterEnd::new(ours, EdgeId::FilterLimits))
    }

    pub fn resolver(&mut self) -> Resolver {
        let (ours, theirs) = seqpacket::pair().unwrap();
        self.tell(&ToChild::Peer(ProcessName { role: Role::Resolver, instance: 0 }), vec![theirs]);
        Resolver(ResolverEnd::new(ours, EdgeId::ClientResolver))
    }

    pub fn misbehaved(&mut self) -> ProcessName {
        self.hear_master(|said| if let ToMaster::Misbehaved(name) = said { Some(name) } else { None })
    }

    /// Waits for the end of its edge: then all is written.
    pub fn is_gone(&mut self) {
        let end = loop {
            match next(&mut self.master) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(end, ChannelError::Closed), "{end}");
    }

    pub fn log(&self) -> String {
        let log = &self.log;
        let mut bytes = vec![0; usize::try_from(log.metadata().unwrap().len()).unwrap()];
        // At a place, not by seeking: the process writes where this descriptor stands.
        log.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.child.signal(9);
        let _ = self.child.try_wait();
    }
}

impl Receiver {
    pub fn say(&mut self, ask: &Ask) {
        say(&mut self.0, ask, Vec::new());
    }

    /// A client at the door, and what becomes of it.
    pub fn connect(&mut self, ticket: u64, client: &str) -> Entry {
        self.say(&Ask::Connect { ticket, client: ip(client), screen: true });
        self.entered(ticket)
    }

    pub fn entered(&mut self, ticket: u64) -> Entry {
        match self.hear() {
            Answer::Entered { ticket: of, entry } if of == ticket => entry,
            other => panic!("expected what becomes of {ticket}, not {other:?}"),
        }
    }

    pub fn spend(&mut self, ask: &Ask) -> Spent {
        self.say(ask);
        match self.hear() {
            Answer::Spent { spent, .. } => spent,
            other => panic!("expected a grant, not {other:?}"),
        }
    }

    pub fn hear(&mut self) -> Answer {
        next(&mut self.0).expect("the limiter keeps the edge")
    }

    pub fn is_dropped(&mut self) -> bool {
        loop {
            match next(&mut self.0) {
                Ok(_) => {}
                Err(ChannelError::Closed) => return true,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

impl Filter {
    pub fn say(&mut self, ask: &filter_limits::Ask) {
        say(&mut self.0, ask, Vec::new());
    }

    pub fn take(&mut self, taking: &Taking) -> Taken {
        self.say(&filter_limits::Ask::Take { ticket: 7, taking: taking.clone() });
        match next(&mut self.0).expect("the limiter keeps the edge") {
            filter_limits::Answer::Taken { ticket: 7, taken } => taken,
            other => panic!("expected what was taken, not {other:?}"),
        }
    }

    pub fn greylist(&mut self, triple: &Triple, terms: Terms) -> u32 {
        self.say(&filter_limits::Ask::Greylist { ticket: 8, triple: triple.clone(), terms });
        match next(&mut self.0).expect("the limiter keeps the edge") {
            filter_limits::Answer::Greylisted { ticket: 8, wait_s } => wait_s,
            other => panic!("expected how long it waits, not {other:?}"),
        }
    }

    pub fn accepted(&mut self, triples: Vec<(Triple, Terms)>) {
        self.say(&filter_limits::Ask::Accepted { ticket: 9, triples });
        assert_eq!(next(&mut self.0).unwrap(), filter_limits::Answer::Noted { ticket: 9 });
    }

    pub fn is_dropped(&mut self) -> bool {
        matches!(next(&mut self.0), Err(ChannelError::Closed))
    }
}

impl Resolver {
    /// The next name that is asked for, and the ticket.
    pub fn asked(&mut self) -> (u64, String) {
        let question = next(&mut self.0).expect("the limiter keeps the edge");
        match question.query {
            Query::Ipv4(name) => (question.ticket, name),
            other => panic!("expected a list, not {other:?}"),
        }
    }

    pub fn answer(&mut self, ticket: u64, result: Result<Records, DnsError>) {
        say(&mut self.0, &client_resolver::Answer { ticket, result, secure: false }, Vec::new());
    }

    pub fn listed(&mut self, ticket: u64, address: &str) {
        self.answer(ticket, Ok(Records::Addresses(vec![ip(address)])));
    }

    pub fn not_listed(&mut self, ticket: u64) {
        self.answer(ticket, Err(DnsError::NoSuchName));
    }

    pub fn is_dropped(&mut self) -> bool {
        loop {
            match next(&mut self.0) {
                Ok(_) => {}
                Err(ChannelError::Closed) => return true,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

fn say<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>, message: &Tx, descriptors: Vec<OwnedFd>) {
    channel.send(message, descriptors).unwrap();
    let until = Instant::now() + PATIENCE;
    while channel.flush().unwrap() == Flushed::Blocked {
        assert!(Instant::now() < until, "nobody reads");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn next<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>) -> Result<Rx, ChannelError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let _ = channel.flush()?;
        if let Some(received) = channel.receive()? {
            return Ok(received.message);
        }
        assert!(Instant::now() < until, "nothing was said");
        std::thread::sleep(Duration::from_millis(2));
    }
}
