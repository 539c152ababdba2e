//! The other ends of a limiter. Every wait has an end.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use vsmtp_config::{ByText, DnsblSite, LimitsSlice};
use vsmtp_config::{ScreenAction, ScreenSlice};
use vsmtp_ipc::edge::client_resolver::{self, DnsError, Query, Records, ResolverEnd};
use vsmtp_ipc::edge::filter_limits::{self, FilterEnd, Taken, Taking, Terms, Triple};
use vsmtp_ipc::edge::master_child::{ToChild, ToMaster};
use vsmtp_ipc::edge::receiver_limits::{Answer, Ask, Entry, ReceiverEnd, Spent, Wanted};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{Channel, ChannelError, EdgeId, Message};
use vsmtp_stage::{Process, configure, is_dropped, say};

/// A running limiter.
pub struct Stage {
    pub process: Process,
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
        let configure = configure(Role::Limits, vsmtp_ipc::encode(slice).unwrap());
        let mut process = Process::start(env!("CARGO_BIN_EXE_vsmtp-limits"), &[], configure);
        for (at, file) in files.into_iter().enumerate() {
            process.tell(&ToChild::File(format!("/greylist.{at}")), vec![file.into()]);
        }
        process.hear_master(|said| matches!(said, ToMaster::Ready));
        Stage { process }
    }

    pub fn tell(&mut self, message: &ToChild, descriptors: Vec<OwnedFd>) {
        self.process.tell(message, descriptors);
    }

    /// A receiver that has heard what is wanted.
    pub fn receiver(&mut self, instance: u32) -> (Receiver, Wanted) {
        let ours = self.process.introduce(receiver(instance));
        let mut edge = Receiver(ReceiverEnd::new(ours, EdgeId::ReceiverLimits));
        match next(&mut edge.0).unwrap() {
            Answer::Wanted(wanted) => (edge, wanted),
            other => panic!("first of all what is wanted, not {other:?}"),
        }
    }

    pub fn filter(&mut self, role: Role, instance: u32) -> Filter {
        Filter(FilterEnd::new(self.process.introduce(ProcessName { role, instance }), EdgeId::FilterLimits))
    }

    pub fn resolver(&mut self) -> Resolver {
        let name = ProcessName { role: Role::Resolver, instance: 0 };
        Resolver(ResolverEnd::new(self.process.introduce(name), EdgeId::ClientResolver))
    }

    pub fn misbehaved(&mut self) -> ProcessName {
        match self.process.hear_master(|said| matches!(said, ToMaster::Misbehaved(_))) {
            ToMaster::Misbehaved(name) => name,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the end of the process: then all is written.
    pub fn is_gone(&self) {
        assert!(self.process.ended().success());
    }

    pub fn log(&self) -> String {
        self.process.log()
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
        is_dropped(&mut self.0)
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
        is_dropped(&mut self.0)
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
        is_dropped(&mut self.0)
    }
}

fn next<Tx: Message, Rx: Message>(channel: &mut Channel<Tx, Rx>) -> Result<Rx, ChannelError> {
    vsmtp_stage::next(channel).map(|received| received.message)
}
