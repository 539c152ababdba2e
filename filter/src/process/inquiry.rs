//! Questions of rules to another process, from any thread, answered while the rule waits. One loop carries them: it keeps
//! to the credits of the edge, and asks the next process once more what a dead one has left unanswered: a question that
//! kills whom it is put to must not kill one after the other. A question ends with its answer or at its time, never later.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vsmtp_daemon::{Link, Reactor, Record};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::{ChannelError, Credits, EdgeId, Message};

use super::leader::cede_or_stay;
use super::level_of_end;
use crate::engine::{party, time_left};
use crate::places::Places;

/// Most questions on their way to the loop.
const MAX_REQUESTS: usize = 4_096;
/// Most questions that wait for a credit or for a process.
const MAX_WAITING: usize = 16_384;

/// What is said on one kind of edge.
pub trait Inquiry: 'static {
    /// What a rule asks.
    type Asked: Send + 'static;
    /// What it hears.
    type Heard: Send + 'static;
    /// The question on the edge.
    type Question: Message;
    /// The answer on the edge.
    type Answer: Message;
    /// Which edge.
    const EDGE: EdgeId;
    /// Questions in flight.
    const CREDITS: u32;
    /// What a process has left unanswered when it died is put to the next one.
    const ASKS_AGAIN: bool = true;

    /// Puts the question; it is of no use after `left`.
    fn question(asked: &Self::Asked, ticket: u64, left: Duration) -> Self::Question;
    /// The descriptors that travel with it.
    fn descriptors(_: &Self::Asked) -> io::Result<Vec<OwnedFd>> {
        Ok(Vec::new())
    }
    /// The ticket of an answer, and what it says.
    fn heard(answer: Self::Answer) -> (u64, Self::Heard);
}

struct Waiting<P: Inquiry> {
    asked: P::Asked,
    until: Instant,
    number: usize,
    to: SyncSender<(usize, P::Heard)>,
    /// A process has died with it before.
    lost: bool,
}

struct Edge<P: Inquiry> {
    token: usize,
    name: ProcessName,
    link: Link<P::Question, P::Answer>,
    credits: Credits,
    pending: HashMap<u64, Waiting<P>>,
}

/// The loop's end.
pub struct Inquiries<P: Inquiry> {
    edge: Option<Edge<P>>,
    waiting: VecDeque<Waiting<P>>,
    last_ticket: u64,
    requests: Receiver<Waiting<P>>,
    door: Arc<Door<P>>,
}

/// What rules ask through.
pub struct Door<P: Inquiry> {
    requests: SyncSender<Waiting<P>>,
    /// Wakes the loop; set when there is one.
    wake: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    /// Of rules that wait.
    places: Places,
}

/// The answers to what was prepared when there was room for it.
type Prepared<H, E> = Result<Result<Vec<Option<H>>, E>, NoRoom>;

/// As many rules wait as may, in all or for this client's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

impl<P: Inquiry> fmt::Debug for Door<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Door({:?})", P::EDGE)
    }
}

impl<P: Inquiry> Door<P> {
    /// True once there is a loop that is woken: until then scripts are loaded.
    pub fn is_served(&self) -> bool {
        self.wake.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// As [`Self::ask_if_room`]; where there is no room nothing has an answer.
    pub fn ask(&self, asked: Vec<P::Asked>, limit: Duration) -> Vec<Option<P::Heard>> {
        let count = asked.len();
        self.ask_if_room(asked, limit).unwrap_or_else(|NoRoom| (0..count).map(|_| None).collect())
    }

    /// Asks all of these at once, and waits for all of them together: at most `limit`, or as long as the script has.
    /// `None` for what has no answer.
    ///
    /// # Errors
    /// As many rules wait as may: nothing was asked.
    pub fn ask_if_room(
        &self,
        asked: Vec<P::Asked>,
        limit: Duration,
    ) -> Result<Vec<Option<P::Heard>>, NoRoom> {
        let count = asked.len();
        let asked: Result<_, Infallible> = Ok(asked);
        let Ok(mut answers) = self.prepare_and_ask(limit, || asked)?;
        answers.resize_with(count, || None);
        Ok(answers)
    }

    /// As [`Self::ask_if_room`], of what is made only when there is room, for it takes what is scarce. There are no answers at
    /// all where nobody could be asked.
    ///
    /// # Errors
    /// The outer: as many rules wait as may; nothing was made. The inner: it cannot be made.
    pub fn prepare_and_ask<E>(
        &self,
        limit: Duration,
        make: impl FnOnce() -> Result<Vec<P::Asked>, E>,
    ) -> Prepared<P::Heard, E> {
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The loop itself must carry the questions: it cannot wait for its own answers.
        let (Some(wake), false) = (wake, cede_or_stay()) else { return Ok(Ok(Vec::new())) };
        let _place = self.places.take(party()).ok_or(NoRoom)?;
        let asked = match make() {
            Ok(asked) => asked,
            Err(error) => return Ok(Err(error)),
        };
        let mut answers: Vec<Option<P::Heard>> = asked.iter().map(|_| None).collect();
        let until = Instant::now() + time_left().map_or(limit, |left| left.min(limit));
        let (to, heard) = sync_channel(answers.len().max(1));
        for (number, asked) in asked.into_iter().enumerate() {
            // What finds no place has no answer.
            let _ = self.requests.try_send(Waiting { asked, until, number, to: to.clone(), lost: false });
        }
        drop(to);
        wake();
        while let Ok((number, answer)) = heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let Some(place) = answers.get_mut(number) {
                *place = Some(answer);
            }
        }
        Ok(Ok(answers))
    }
}

impl<P: Inquiry> Door<P> {
    /// As [`Places::leave_room`].
    pub fn leave_room(&self, workers: usize) {
        self.places.leave_room(workers);
    }

    /// As [`Places::take_all`]. Then the loop starts no job, and carries questions and answers.
    pub fn take_all(&self) {
        self.places.take_all();
    }

    /// Has the loop, which calls this, ask something of which nobody waits for the answer; of no use after `limit`.
    pub fn tell(&self, asked: P::Asked, limit: Duration) {
        let (to, _) = sync_channel(1);
        let until = Instant::now() + limit;
        // What finds no place is not said.
        let _ = self.requests.try_send(Waiting { asked, until, number: 0, to, lost: false });
    }
}

impl<P: Inquiry> Inquiries<P> {
    /// Nobody to ask yet.
    pub fn new() -> Self {
        let (sender, requests) = sync_channel(MAX_REQUESTS);
        let door = Arc::new(Door { requests: sender, wake: Mutex::new(None), places: Places::default() });
        Inquiries { edge: None, waiting: VecDeque::new(), last_ticket: 0, requests, door }
    }

    /// As [`Door::leave_room`], from the start.
    pub fn leave_room(&self, workers: usize) {
        self.door.leave_room(workers);
    }

    /// How the loop is woken from now on.
    pub fn wake_by(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        *self.door.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// What rules ask through.
    pub fn door(&self) -> Arc<Door<P>> {
        Arc::clone(&self.door)
    }

    /// Takes a new edge instead of the old one. What the old one was asked, the new one is asked.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: usize,
    ) -> io::Result<()> {
        let link = Link::new(reactor, socket, P::EDGE, token)?;
        self.lose();
        let credits = Credits::new(P::CREDITS);
        self.edge = Some(Edge { token, name, link, credits, pending: HashMap::new() });
        Ok(())
    }

    /// True if it is the token of the edge.
    pub fn has(&self, token: usize) -> bool {
        self.edge.as_ref().is_some_and(|edge| edge.token == token)
    }

    /// Hears all that there is to hear.
    pub fn hear(&mut self, reactor: &mut Reactor) {
        let result = loop {
            match self.hear_one() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if let Err(error) = result {
            self.close(reactor, &error);
        }
    }

    fn hear_one(&mut self) -> Result<bool, ChannelError> {
        let Some(edge) = &mut self.edge else { return Ok(false) };
        let Some(received) = edge.link.receive()? else { return Ok(false) };
        let (ticket, heard) = P::heard(received.message);
        let waiting = edge.pending.remove(&ticket).filter(|_| edge.credits.give_back());
        let Some(waiting) = waiting else {
            return Err(ChannelError::Misbehaved("answered what nobody asked".to_owned()));
        };
        // The rule may have been stopped meanwhile.
        let _ = waiting.to.try_send((waiting.number, heard));
        Ok(true)
    }

    /// Sends what rules have asked since the last time, as far as there are a process and credits.
    pub fn send(&mut self, reactor: &mut Reactor) {
        while let Ok(waiting) = self.requests.try_recv() {
            if self.waiting.len() < MAX_WAITING {
                self.waiting.push_back(waiting);
            }
        }
        let result = self.pump().and_then(|()| match &mut self.edge {
            Some(edge) => edge.link.flush(reactor),
            None => Ok(()),
        });
        if let Err(error) = result {
            self.close(reactor, &error);
        }
    }

    fn pump(&mut self) -> Result<(), ChannelError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        self.waiting.retain(|waiting| waiting.until > now);
        let Some(edge) = &mut self.edge else { return Ok(()) };
        while edge.credits.free() > 0 {
            let Some(waiting) = self.waiting.pop_front() else { break };
            self.last_ticket += 1;
            let left = waiting.until.saturating_duration_since(now);
            let question = P::question(&waiting.asked, self.last_ticket, left);
            // Without its descriptors it has no answer.
            let Ok(descriptors) = P::descriptors(&waiting.asked) else { continue };
            edge.pending.insert(self.last_ticket, waiting);
            let _ = edge.credits.take();
            edge.link.send(&question, descriptors)?;
        }
        Ok(())
    }

    fn close(&mut self, reactor: &mut Reactor, error: &ChannelError) {
        let Some(edge) = &self.edge else { return };
        let name = edge.name;
        Record::at(level_of_end(error, edge.pending.is_empty()), "edge-closed")
            .field("peer", name)
            .field("error", error)
            .emit();
        reactor.accuse(name, error);
        self.lose();
    }

    /// The edge is gone: what it has not answered waits for the next one, if it is the first that was lost with it.
    fn lose(&mut self) {
        if let Some(edge) = self.edge.take() {
            let again = edge.pending.into_values().filter(|waiting| P::ASKS_AGAIN && !waiting.lost);
            self.waiting.extend(again.map(|waiting| Waiting { lost: true, ..waiting }));
        }
    }
}
