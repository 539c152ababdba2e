//! A resolver process under test, with its master and its clients in our hands. Every wait has an end.

use std::fs::File;
use std::net::SocketAddr;
use std::time::Duration;

use vsmtp_config::ResolverSlice;
use vsmtp_ipc::edge::client_resolver::{Answer, ClientEnd, DnsError, Query, Question, Records};
use vsmtp_ipc::edge::master_child::{ToChild, ToMaster};
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_ipc::{ChannelError, EdgeId, encode};
use vsmtp_stage::{Process, configure, next, say};

pub struct Resolver {
    pub process: Process,
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
        let configure = configure(Role::Resolver, encode(slice).unwrap());
        let mut process = Process::start(env!("CARGO_BIN_EXE_vsmtp-resolver"), &[], configure);
        for (at, file) in files.into_iter().enumerate() {
            process.tell(&ToChild::File(format!("/mta-sts.{at}")), vec![file.into()]);
        }
        process.hear_master(|said| matches!(said, ToMaster::Ready));
        Resolver { process }
    }

    pub fn tell(&mut self, message: &ToChild) {
        self.process.tell(message, Vec::new());
    }

    /// The next message to the master that is no mere sign of life.
    pub fn told(&mut self) -> ToMaster {
        self.process.hear_master(|said| !matches!(said, ToMaster::Beat(_)))
    }

    pub fn client(&mut self, role: Role, instance: u32) -> Client {
        let ours = self.process.introduce(ProcessName { role, instance });
        Client { edge: ClientEnd::new(ours, EdgeId::ClientResolver), last: 0 }
    }

    /// One client for a whole test.
    pub fn deliver(&mut self) -> Client {
        self.client(Role::DeliverSmtp, 0)
    }

    /// Waits for the end of the process.
    pub fn ended(&self) -> std::process::ExitStatus {
        self.process.ended()
    }

    /// Waits for a line that holds these words: answers may come before the log does.
    pub fn logged(&self, words: &str) {
        self.process.logged(words);
    }

    pub fn log(&self) -> String {
        self.process.log()
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
        say(&mut self.edge, &Question { ticket: self.last, query, deadline_ms }, Vec::new());
        self.last
    }

    pub fn hear(&mut self) -> Answer {
        next(&mut self.edge).expect("the resolver keeps the edge").message
    }

    /// The end of the edge.
    pub fn closed(&mut self) -> bool {
        matches!(next(&mut self.edge), Err(ChannelError::Closed))
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
