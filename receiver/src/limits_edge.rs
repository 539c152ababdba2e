//! The way to the limiter: whether it is there, what it wants to hear of, and what it said. It knows no session but by its
//! number.
//!
//! Nobody waits for a limiter that is away or silent: its edge is dropped, or its answer not waited for, and clients go on
//! without limits until it is back. That is counted, and logged once.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use vsmtp_daemon::{Link, Reactor, Record};
use vsmtp_ipc::edge::receiver_limits::{Answer, Ask, CREDITS, Kind, Wanted};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, EdgeId};

/// How long a session waits for the limiter, in milliseconds.
pub const ANSWER_MS: u64 = 1_000;
/// How long it waits for the result of its tests, in milliseconds: longer than lists in the DNS may take.
pub const SCREEN_MS: u64 = 8_000;

/// One life of a limiter, different from the others that this process has known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimiterKey(u32);

/// The limiter, as far as it is there.
#[derive(Default)]
pub struct Limiter {
    edge: Option<Edge>,
    last_key: u32,
    /// Questions that nobody answered in time, or that could not be asked.
    missed: u64,
    /// The log has heard that it is silent.
    is_reported: bool,
    /// It failed while something was sent, and why.
    failed: Option<ChannelError>,
}

struct Edge {
    key: LimiterKey,
    name: ProcessName,
    link: Link<Ask, Answer>,
    /// `None` until it has said so.
    wanted: Option<Wanted>,
    in_flight: u32,
}

impl Limiter {
    /// Takes a new edge instead of the old one.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: usize,
    ) -> io::Result<()> {
        self.last_key = self.last_key.wrapping_add(1);
        // The old socket must be closed before its token is used again.
        self.edge = None;
        let link = Link::new(reactor, socket, EdgeId::ReceiverLimits, token)?;
        let key = LimiterKey(self.last_key);
        self.edge = Some(Edge { key, name, link, wanted: None, in_flight: 0 });
        self.is_reported = false;
        Ok(())
    }

    /// Drops the edge. Its name, if it was there.
    pub fn remove(&mut self) -> Option<ProcessName> {
        self.edge.take().map(|edge| edge.name)
    }

    /// Which limiter there is.
    pub fn key(&self) -> Option<LimiterKey> {
        self.edge.as_ref().map(|edge| edge.key)
    }

    /// True if it is there and has not said yet what it wants.
    pub fn is_new(&self) -> bool {
        self.edge.as_ref().is_some_and(|edge| edge.wanted.is_none())
    }

    /// True if it wants to hear of every connection.
    pub fn wants_connections(&self) -> bool {
        self.wants(Kind::Connections)
    }

    /// True if it wants to be asked, or told, about this kind.
    pub fn wants(&self, kind: Kind) -> bool {
        self.edge.as_ref().and_then(|edge| edge.wanted).is_some_and(|wanted| wanted.kind(kind))
    }

    /// Asks. False if there is nobody to ask, or too much in flight: then there is no answer to wait for.
    pub fn ask(&mut self, ask: &Ask) -> bool {
        let has_credit = self.edge.as_ref().is_some_and(|edge| edge.in_flight < CREDITS);
        if !has_credit {
            self.missed += 1;
            return false;
        }
        self.say(ask);
        if let Some(edge) = &mut self.edge {
            edge.in_flight += 1;
        }
        self.failed.is_none()
    }

    /// Says what is not answered.
    pub fn say(&mut self, ask: &Ask) {
        if let Some(edge) = &mut self.edge
            && let Err(error) = edge.link.send(ask, Vec::new())
        {
            self.failed.get_or_insert(error);
        }
    }

    /// Tells that a client has done something, if the limiter wants to know.
    pub fn note(&mut self, client: IpAddr, kind: Kind, count: u32) {
        if self.wants(kind) {
            self.say(&Ask::Note { client, kind, count });
        }
    }

    /// The next thing that it has said; `None` when there is no more for now.
    ///
    /// # Errors
    /// The edge is to be dropped.
    pub fn hear(&mut self) -> Result<Option<Answer>, ChannelError> {
        let Some(edge) = &mut self.edge else { return Ok(None) };
        let Some(received) = edge.link.receive()? else { return Ok(None) };
        match &received.message {
            Answer::Wanted(wanted) => edge.wanted = Some(*wanted),
            Answer::Entered { .. } | Answer::Spent { .. } => match edge.in_flight.checked_sub(1) {
                Some(left) => edge.in_flight = left,
                None => return Err(ChannelError::Misbehaved("answered what nobody asked".to_owned())),
            },
        }
        Ok(Some(received.message))
    }

    /// A session has waited too long for an answer.
    pub fn was_silent(&mut self) {
        self.missed += 1;
        if !std::mem::replace(&mut self.is_reported, true) {
            Record::at(log::Level::Warn, "limits-silent")
                .field("effect", "clients go on without limits")
                .emit();
        }
    }

    /// Sessions have lost their question.
    pub fn was_lost(&mut self, questions: usize) {
        self.missed += questions as u64;
    }

    /// Sends what was said in this turn.
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

    /// Questions without an answer in time.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}
