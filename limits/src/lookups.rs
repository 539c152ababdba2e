//! The edge to the resolver, and which look-ups are under way. What finds no credit waits in a bounded line; what finds no
//! place there, or no resolver, has no answer.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{FIRST_TOKEN, Link, Reactor, Record};
use vsmtp_ipc::edge::client_resolver::{Answer, CREDITS, DnsError, MAX_RECORDS, Query, Question, Records};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, Credits, EdgeId};

use crate::screen::Purpose;

/// The resolver's token.
pub const RESOLVER_TOKEN: usize = FIRST_TOKEN;
/// Longest wait for an answer of the DNS, in milliseconds.
pub const LOOK_UP_MS: u32 = 5_000;
/// Most look-ups that wait for a credit.
const MAX_WAITING: usize = 4_096;

/// An answer: addresses, none if the name does not exist, or `None` for no answer.
pub type Found = (Purpose, Option<Vec<IpAddr>>);

/// All look-ups.
pub struct LookUps {
    edge: Option<(ProcessName, Link<Question, Answer>)>,
    credits: Credits,
    /// What each ticket is for; `None` if nobody is interested any more.
    open: HashMap<u64, Option<Purpose>>,
    waiting: VecDeque<(Purpose, String)>,
    last_ticket: u64,
}

impl Default for LookUps {
    fn default() -> Self {
        LookUps {
            edge: None,
            credits: Credits::new(CREDITS),
            open: HashMap::new(),
            waiting: VecDeque::new(),
            last_ticket: 0,
        }
    }
}

impl LookUps {
    /// Takes a new edge. What the old one was asked has no answer.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
    ) -> io::Result<Vec<Found>> {
        let lost = self.drop_edge();
        self.edge = Some((name, Link::new(reactor, socket, EdgeId::ClientResolver, RESOLVER_TOKEN)?));
        Ok(lost)
    }

    /// Begins a look-up. False if there can be no answer.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn begin(&mut self, purpose: Purpose, name: String) -> Result<bool, ChannelError> {
        if self.edge.is_none() || self.waiting.len() >= MAX_WAITING {
            return Ok(false);
        }
        if self.credits.free() == 0 {
            self.waiting.push_back((purpose, name));
            return Ok(true);
        }
        self.ask(purpose, name).map(|()| true)
    }

    /// The next answer; `None` if there is none for now.
    ///
    /// # Errors
    /// The edge must be closed.
    pub fn hear(&mut self) -> Result<Option<Found>, ChannelError> {
        loop {
            let Some((_, link)) = &mut self.edge else { return Ok(None) };
            let Some(received) = link.receive()? else { return Ok(None) };
            let Answer { ticket, result, .. } = received.message;
            // Before the question is taken out: one that got a bad answer is still to be given up with the edge.
            let found = addresses(result)?;
            let Some(purpose) = self.open.remove(&ticket) else {
                return Err(ChannelError::Misbehaved("answered what nobody asked".to_owned()));
            };
            let _ = self.credits.give_back();
            while let Some((purpose, name)) = self.next_waiting() {
                self.ask(purpose, name)?;
            }
            if let Some(purpose) = purpose {
                return Ok(Some((purpose, found)));
            }
        }
    }

    /// Nobody is interested in the answers to what was asked so far.
    pub fn forget(&mut self) {
        self.waiting.clear();
        self.open.values_mut().for_each(|purpose| *purpose = None);
    }

    /// Sends what was said in this turn.
    pub fn flush(&mut self, reactor: &Reactor) -> Result<(), ChannelError> {
        match &mut self.edge {
            Some((_, link)) => link.flush(reactor),
            None => Ok(()),
        }
    }

    /// Drops the edge, and tells the master unless the resolver is gone. What it was asked has no answer.
    pub fn close(&mut self, reactor: &mut Reactor, error: &ChannelError) -> Vec<Found> {
        if let Some((name, _)) = &self.edge {
            Record::at(log::Level::Warn, "resolver-lost")
                .field("peer", name)
                .field("look_ups", self.open.len() + self.waiting.len())
                .field("error", error)
                .emit();
            reactor.accuse(*name, error);
        }
        self.drop_edge()
    }

    fn drop_edge(&mut self) -> Vec<Found> {
        self.edge = None;
        self.credits.reset();
        let waiting = self.waiting.drain(..).map(|(purpose, _)| purpose);
        let open = self.open.drain().filter_map(|(_, purpose)| purpose);
        waiting.chain(open).map(|purpose| (purpose, None)).collect()
    }

    fn next_waiting(&mut self) -> Option<(Purpose, String)> {
        if self.credits.free() == 0 { None } else { self.waiting.pop_front() }
    }

    fn ask(&mut self, purpose: Purpose, name: String) -> Result<(), ChannelError> {
        let Some((_, link)) = &mut self.edge else { return Ok(()) };
        let _ = self.credits.take();
        self.last_ticket += 1;
        let question =
            Question { ticket: self.last_ticket, query: Query::Ipv4(name), deadline_ms: LOOK_UP_MS };
        self.open.insert(self.last_ticket, Some(purpose));
        link.send(&question, Vec::new())
    }
}

/// What an answer says; an answer to another question is misbehaviour.
fn addresses(result: Result<Records, DnsError>) -> Result<Option<Vec<IpAddr>>, ChannelError> {
    match result {
        Ok(Records::Addresses(found)) if found.len() <= MAX_RECORDS => Ok(Some(found)),
        Ok(_) => Err(ChannelError::Misbehaved("answered another question".to_owned())),
        Err(DnsError::NoSuchName | DnsError::NoRecords) => Ok(Some(Vec::new())),
        Err(DnsError::Temporary | DnsError::Bogus | DnsError::BadName) => Ok(None),
    }
}
