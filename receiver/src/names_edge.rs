//! The way to the resolver, for the names of clients. It knows no session but by its number, and asks about each address
//! once; what it hears it remembers for a short while.
//!
//! Nobody waits long for a name: without a resolver, or without an answer in time, a client has none.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vsmtp_daemon::{Link, Reactor};
use vsmtp_ipc::edge::client_resolver::{Answer, CREDITS, ClientName, DnsError, Query, Question, Records};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, EdgeId};
use vsmtp_mail::Domain;

use crate::filter_edge::misbehaved;

/// How long a client's name is waited for, in milliseconds, counted from the connection.
pub const NAME_MS: u32 = 4_000;
/// An answer that has not come after so long, in milliseconds, does not come; the resolver owes it after half of that.
const OVERDUE_MS: u64 = 2 * NAME_MS as u64;
/// Most sessions that wait for the name of one address; more have none.
const MAX_WAITING: usize = 256;
/// How long an answer is remembered, in milliseconds. The resolver itself keeps records as long as they hold.
const KEEP_MS: u64 = 60_000;
/// The same where a name could not be looked up.
const KEEP_FAILURE_MS: u64 = 5_000;
/// Most addresses that are remembered or being asked about.
const MAX_ADDRESSES: usize = 16_384;

/// The name of a client; `None` if it has none that is confirmed.
pub type Name = Option<Arc<Domain>>;

/// What is known of an address at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// This.
    Known(Name),
    /// The resolver is being asked.
    Asked,
}

/// What the resolver said.
#[derive(Debug)]
pub struct Heard {
    /// Of this address.
    pub address: IpAddr,
    /// The name.
    pub name: Name,
    /// Who wants to know.
    pub sessions: Vec<u64>,
}

/// The resolver, as far as it is there, and what it said.
#[derive(Default)]
pub struct Names {
    edge: Option<Edge>,
    addresses: HashMap<IpAddr, Entry>,
    /// Addresses that wait for a credit.
    line: VecDeque<IpAddr>,
    last_ticket: u64,
    failed: Option<ChannelError>,
}

struct Edge {
    name: ProcessName,
    link: Link<Question, Answer>,
    owed: Owed,
}

/// What the resolver has been asked and has not answered, by ticket. What is overdue still holds its credit: the resolver
/// counts them too.
#[derive(Default)]
struct Owed(BTreeMap<u64, Asked>);

struct Asked {
    address: IpAddr,
    at_ms: u64,
}

impl Owed {
    fn has_credit(&self) -> bool {
        self.0.len() < CREDITS as usize
    }

    /// No credit is left, and the oldest question is overdue: with this resolver, nobody would have a name ever again.
    fn is_stuck(&self, now_ms: u64) -> bool {
        let oldest = self.0.first_key_value();
        !self.has_credit() && oldest.is_some_and(|(_, asked)| is_overdue(asked.at_ms, now_ms))
    }
}

enum Entry {
    /// These sessions want to know, the first of them since then.
    Open {
        sessions: Vec<u64>,
        since_ms: u64,
    },
    Known {
        name: Name,
        until_ms: u64,
    },
}

impl Names {
    /// Takes a new edge instead of the old one, which is asked nothing any more: what it owes is asked of the new one.
    ///
    /// # Errors
    /// The loop does not take it. Whoever waits for a name waits for nothing, until the session's own time is up.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: usize,
    ) -> io::Result<()> {
        // The old socket must be closed before its token is used again.
        let owed = self.edge.take().map(|edge| edge.owed.0);
        self.line.extend(owed.into_iter().flat_map(BTreeMap::into_values).map(|asked| asked.address));
        let link = Link::new(reactor, socket, EdgeId::ClientResolver, token).inspect_err(|_| {
            self.forget_open();
        })?;
        self.edge = Some(Edge { name, link, owed: Owed::default() });
        self.failed = None;
        self.ask_those_in_line(reactor.now_ms());
        Ok(())
    }

    /// The name of a session's client, now or later.
    pub fn look(&mut self, now_ms: u64, session: u64, address: IpAddr) -> Look {
        if self.edge.as_ref().is_some_and(|edge| edge.owed.is_stuck(now_ms)) {
            self.failed.get_or_insert_with(|| misbehaved("does not answer"));
        }
        match self.addresses.get_mut(&address) {
            Some(Entry::Known { name, until_ms }) if now_ms < *until_ms => return Look::Known(name.clone()),
            // One that is overdue is asked about anew.
            Some(Entry::Open { sessions, since_ms }) if !is_overdue(*since_ms, now_ms) => {
                if sessions.len() >= MAX_WAITING {
                    return Look::Known(None);
                }
                sessions.push(session);
                return Look::Asked;
            }
            _ => {}
        }
        if self.edge.is_none() || !self.make_room(now_ms) {
            return Look::Known(None);
        }
        self.addresses.insert(address, Entry::Open { sessions: vec![session], since_ms: now_ms });
        self.line.push_back(address);
        self.ask_those_in_line(now_ms);
        Look::Asked
    }

    /// The next name that is known, whose it is, and the sessions that want it; `None` when there is no more for now.
    ///
    /// # Errors
    /// The edge is to be dropped.
    pub fn hear(&mut self, now_ms: u64) -> Result<Option<Heard>, ChannelError> {
        let Some(edge) = &mut self.edge else { return Ok(None) };
        let Some(received) = edge.link.receive()? else { return Ok(None) };
        let Answer { ticket, result, .. } = received.message;
        // Before the question is taken out: one that got a bad answer is still to be given up with the edge.
        let (name, keep_ms) = read(result)?;
        let asked = edge.owed.0.remove(&ticket);
        let Asked { address, .. } = asked.ok_or_else(|| misbehaved("answered what nobody asked"))?;
        let known = Entry::Known { name: name.clone(), until_ms: now_ms.saturating_add(keep_ms) };
        let sessions = match self.addresses.insert(address, known) {
            Some(Entry::Open { sessions, .. }) => sessions,
            _ => Vec::new(),
        };
        self.ask_those_in_line(now_ms);
        Ok(Some(Heard { address, name, sessions }))
    }

    /// Drops the edge: its name, if it was there, and the sessions that wait in vain.
    pub fn remove(&mut self) -> Option<(ProcessName, Vec<u64>)> {
        let edge = self.edge.take()?;
        Some((edge.name, self.forget_open()))
    }

    /// Forgets what nobody will answer. The sessions that wait for it.
    fn forget_open(&mut self) -> Vec<u64> {
        self.line.clear();
        let mut waiting = Vec::new();
        self.addresses.retain(|_, entry| match entry {
            Entry::Open { sessions, .. } => {
                waiting.append(sessions);
                false
            }
            Entry::Known { .. } => true,
        });
        waiting
    }

    /// Sends what was asked in this turn.
    pub fn flush(&mut self, reactor: &Reactor) {
        if let Some(edge) = &mut self.edge
            && let Err(error) = edge.link.flush(reactor)
        {
            self.failed.get_or_insert(error);
        }
    }

    /// Why it failed while something was sent, if it did.
    pub fn take_failed(&mut self) -> Option<ChannelError> {
        self.failed.take()
    }

    fn ask_those_in_line(&mut self, now_ms: u64) {
        let Some(edge) = &mut self.edge else { return };
        while edge.owed.has_credit()
            && let Some(address) = self.line.pop_front()
        {
            // Nobody waits for what was given up, or has been answered late.
            if !matches!(self.addresses.get(&address), Some(Entry::Open { .. })) {
                continue;
            }
            self.last_ticket += 1;
            edge.owed.0.insert(self.last_ticket, Asked { address, at_ms: now_ms });
            let question = Question {
                ticket: self.last_ticket,
                query: Query::ClientName(address),
                deadline_ms: NAME_MS,
            };
            if let Err(error) = edge.link.send(&question, Vec::new()) {
                self.failed.get_or_insert(error);
            }
        }
    }

    /// False if so many are being asked about that one more cannot be.
    fn make_room(&mut self, now_ms: u64) -> bool {
        if self.addresses.len() < MAX_ADDRESSES {
            return true;
        }
        let holds = |entry: &Entry| match entry {
            Entry::Open { since_ms, .. } => !is_overdue(*since_ms, now_ms),
            Entry::Known { until_ms, .. } => now_ms < *until_ms,
        };
        self.addresses.retain(|_, entry| holds(entry));
        if self.addresses.len() >= MAX_ADDRESSES {
            // All young: they are asked about again when they come again.
            self.addresses.retain(|_, entry| matches!(entry, Entry::Open { .. }));
        }
        self.addresses.len() < MAX_ADDRESSES
    }
}

fn is_overdue(since_ms: u64, now_ms: u64) -> bool {
    now_ms >= since_ms.saturating_add(OVERDUE_MS)
}

/// What an answer says, and how long that is to be remembered.
fn read(result: Result<Records, DnsError>) -> Result<(Name, u64), ChannelError> {
    match result {
        // It is a host's name, but not each of these is one that mail may bear.
        Ok(Records::ClientName(ClientName::Is(name))) => {
            Ok((Domain::parse(&name).ok().map(Arc::new), KEEP_MS))
        }
        Ok(Records::ClientName(ClientName::None)) => Ok((None, KEEP_MS)),
        Ok(Records::ClientName(ClientName::Unknown)) | Err(_) => Ok((None, KEEP_FAILURE_MS)),
        Ok(_) => Err(misbehaved("answered another question")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_another_question_is_the_resolvers_fault() {
        assert!(read(Ok(Records::Text(Vec::new()))).is_err());
        assert!(read(Ok(Records::Names(vec!["a.test".to_owned()]))).is_err());
    }

    #[test]
    fn names_that_mail_cannot_bear_are_none() {
        for (text, is_one) in [("host.test", true), ("localhost", true), ("a b", false), ("a\r\nb", false)] {
            let answer = Records::ClientName(ClientName::Is(text.to_owned()));
            let (name, keep_ms) = read(Ok(answer)).unwrap();
            assert_eq!((name.is_some(), keep_ms), (is_one, KEEP_MS), "{text:?}");
        }
        assert_eq!(read(Err(DnsError::Temporary)).unwrap(), (None, KEEP_FAILURE_MS));
        assert_eq!(read(Ok(Records::ClientName(ClientName::Unknown))).unwrap(), (None, KEEP_FAILURE_MS));
        assert_eq!(read(Ok(Records::ClientName(ClientName::None))).unwrap(), (None, KEEP_MS));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_who_waits_is_not_forgotten() {
        let mut names = Names::default();
        for n in 0..MAX_ADDRESSES as u32 - 1 {
            let known = Entry::Known { name: None, until_ms: 10 };
            names.addresses.insert(IpAddr::V4(n.into()), known);
        }
        names.addresses.insert(IpAddr::V4(u32::MAX.into()), Entry::Open { sessions: vec![7], since_ms: 0 });
        assert!(names.make_room(0), "young ones go too");
        assert_eq!(names.addresses.len(), 1);
        assert_eq!(names.look(0, 8, IpAddr::V4(u32::MAX.into())), Look::Asked);
        assert_eq!(names.look(0, 8, IpAddr::V4(1.into())), Look::Known(None), "there is no resolver");
    }

    #[test]
    fn so_many_wait_for_one_name_and_for_what_is_overdue_nobody_waits() {
        let (mut names, address) = (Names::default(), IpAddr::V4(1.into()));
        names.addresses.insert(address, Entry::Open { sessions: vec![0], since_ms: 0 });
        for session in 1..MAX_WAITING as u64 {
            assert_eq!(names.look(1, session, address), Look::Asked);
        }
        assert_eq!(names.look(1, 999, address), Look::Known(None), "that is one too many");
        let other = IpAddr::V4(2.into());
        names.addresses.insert(other, Entry::Open { sessions: vec![0], since_ms: 0 });
        assert_eq!(names.look(OVERDUE_MS - 1, 1, other), Look::Asked);
        assert_eq!(names.look(OVERDUE_MS, 2, other), Look::Known(None), "there is no resolver to ask anew");
    }

    #[test]
    fn a_resolver_without_a_credit_left_is_stuck_when_its_oldest_question_is_overdue() {
        let mut owed = Owed::default();
        for ticket in 0..u64::from(CREDITS) {
            assert!(!owed.is_stuck(u64::MAX), "there are credits left");
            owed.0.insert(ticket, Asked { address: IpAddr::V4(1.into()), at_ms: ticket });
        }
        assert!(!owed.is_stuck(OVERDUE_MS - 1) && owed.is_stuck(OVERDUE_MS));
        owed.0.remove(&0);
        assert!(!owed.is_stuck(u64::MAX));
    }
}
