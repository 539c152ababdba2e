//! The daemon: what wakes it, and whom it wakes for that. Decides nothing about mail.

mod edges;

use std::os::fd::{AsFd, OwnedFd};

use mio::Interest;
use vsmtp_config::ReceiverSlice;
use vsmtp_daemon::{Boot, BootError, Daemon, Event, FIRST_TOKEN, Flow, Reactor, Record};
use vsmtp_ipc::edge::master_child::Listener;
use vsmtp_mail::QueueIdMint;
use vsmtp_smtp::Own;
use vsmtp_sys::fds;
use vsmtp_sys::sandbox::Profile;

use crate::filter_edge::{CREDIT_TIMER, Waiter};
use crate::intake::{Arrival, Intake, REOPEN_TIMER};
use crate::limits::{Budget, MAX_BODIES};
use crate::lobby::{self, LOBBY_TIMER, Lobby};
use crate::metrics::Gauges;
use crate::sandbox;
use crate::services::{Context, Services};
use crate::sessions::{Client, DEADLINE_TIMER, Fate, Sessions, Why};
use crate::settings::Settings;
use crate::tls::Tls;
use edges::{FIRST_EDGE_TOKEN, FIRST_LOBBY_TOKEN, LAST_LOBBY_TOKEN, Peer};

/// Descriptors that one process asks for.
const DESCRIPTORS: u64 = 65_536;
/// How long clients wait at the door for the certificates to come, in milliseconds; then they are served without.
const KEYS_PATIENCE_MS: u64 = 3_000;
/// The loop's timer for the hurried part of a drain.
const HURRY_TIMER: u64 = 3;
/// How long that is, in milliseconds: idle clients hear 421, and busy ones as soon as their command is done. Before it
/// they may go on, so that a reload disturbs nobody.
const HURRY_MS: u64 = 10_000;
/// The loop's timer that ends what a drain has left.
const LAST_CALL_TIMER: u64 = 4;
/// How long before the end of a drain that is, in milliseconds.
const LAST_CALL_MS: u64 = 100;

/// The receiver.
pub struct Receiver {
    services: Services,
    sessions: Sessions,
    intake: Intake,
    lobby: Lobby,
    descriptors: u64,
    stopping: bool,
    /// Memory was short when the last turn ended.
    short: bool,
}

impl Daemon for Receiver {
    const NAME: &'static str = "vsmtp-receiver";
    type Slice = ReceiverSlice;

    fn before_jail(boot: Boot<ReceiverSlice>) -> Result<Self, BootError> {
        let descriptors =
            fds::raise_nofile(DESCRIPTORS).map_err(|error| BootError::Io("raise limits", error))?;
        let receiver = Receiver::new(&boot, descriptors);
        receiver.services.tls.prepare().map_err(|error| BootError::Io("find randomness", error))?;
        Ok(receiver)
    }

    fn profile(&self) -> Profile {
        sandbox::profile(self.descriptors)
    }

    fn after_jail(&mut self, reactor: &mut Reactor) -> Result<(), BootError> {
        self.services.tls.start(reactor).map_err(|error| BootError::Io("start threads", error))?;
        if self.services.tls.is_coming() {
            self.intake.wait(reactor, KEYS_PATIENCE_MS);
        }
        Ok(())
    }

    fn on_event(&mut self, reactor: &mut Reactor, event: Event) -> Flow {
        match event {
            Event::Peer(name, socket) => self.meet(reactor, name, socket),
            Event::Listener(listener, socket) => self.listen(reactor, &listener, socket),
            Event::Ready { token, readable, writable, closed } => {
                self.ready(reactor, token, readable, writable, closed);
            }
            Event::Timer(CREDIT_TIMER) => self.expire_line(reactor),
            Event::Timer(REOPEN_TIMER) => self.intake.reopen(),
            Event::Timer(HURRY_TIMER) => self.hurry(reactor),
            Event::Timer(LAST_CALL_TIMER) => self.last_call(reactor),
            Event::Timer(DEADLINE_TIMER) => self.look_at_deadlines(reactor),
            Event::Timer(LOBBY_TIMER) => self.lobby.expire(reactor),
            Event::Timer(_) => {}
            Event::TurnEnd => return self.turn_end(reactor),
            Event::Reconfigure(_) => log::warn!("event=ignored what=reconfigure"),
            Event::Limits { .. } => log::warn!("event=ignored what=limits"),
            Event::Brakes { .. } => log::warn!("event=ignored what=brakes"),
            Event::File(..) => log::warn!("event=ignored what=file"),
            Event::StopAccepting => {
                self.intake.close();
                self.stopping = true;
            }
            Event::Drain { deadline_ms } => self.drain(reactor, deadline_ms),
        }
        Flow::Continue
    }
}

impl Receiver {
    fn new(boot: &Boot<ReceiverSlice>, descriptors: u64) -> Self {
        let settings = Settings::new(&boot.slice, descriptors);
        let mint = QueueIdMint::new(boot.node, boot.process);
        Receiver {
            services: Services::new(
                settings,
                Tls::new(boot.slice.tls.as_ref()),
                mint,
                Budget::new(MAX_BODIES),
            ),
            sessions: Sessions::default(),
            intake: Intake::default(),
            lobby: Lobby::default(),
            descriptors,
            stopping: false,
            short: false,
        }
    }

    fn listen(&mut self, reactor: &Reactor, listener: &Listener, socket: OwnedFd) {
        if !self.stopping
            && let manner = self.services.settings.manner(listener)
            && let Err(error) = self.intake.open(reactor, listener, manner, socket, FIRST_TOKEN)
        {
            log::error!("event=listener-failed error=\"{error}\"");
        }
    }

    fn ready(&mut self, reactor: &mut Reactor, token: usize, readable: bool, writable: bool, closed: bool) {
        if let Some(peer) = Peer::of_token(token) {
            return self.hear(reactor, peer);
        }
        match token {
            0..FIRST_EDGE_TOKEN => self.intake.knock(token.saturating_sub(FIRST_TOKEN)),
            FIRST_LOBBY_TOKEN..LAST_LOBBY_TOKEN => {
                if let Some(arrival) = self.lobby.look(reactor, token - FIRST_LOBBY_TOKEN) {
                    self.admit(reactor, arrival);
                }
            }
            session => self.wake(reactor, session as u64, |client, context| {
                client.on_ready(context, readable, writable, closed)
            }),
        }
    }

    /// Lets a session act, and buries it if that was its end.
    fn wake(
        &mut self,
        reactor: &mut Reactor,
        session: u64,
        act: impl FnOnce(&mut Client, &mut Context<'_>) -> Fate,
    ) {
        let Some(client) = self.sessions.get(session) else { return };
        let fate = act(client, &mut Context { reactor, services: &mut self.services });
        if let Fate::Gone(why) = fate {
            self.bury(reactor, session, why);
        }
    }

    fn bury(&mut self, reactor: &mut Reactor, session: u64, why: Why) {
        let Some(client) = self.sessions.remove(session) else { return };
        client.end(&mut Context { reactor, services: &mut self.services }, why);
    }

    fn look_at_deadlines(&mut self, reactor: &mut Reactor) {
        let (due, next) = self.services.deadlines.look(reactor.now_ms());
        if let Some(at) = next {
            reactor.set_timer(at, DEADLINE_TIMER);
        }
        for session in due {
            self.wake(reactor, session, |client, context| client.on_deadline(context));
        }
    }

    fn expire_line(&mut self, reactor: &mut Reactor) {
        while let Some(waiter) = self.services.filters.next_expired(reactor) {
            self.wake(reactor, waiter.session, |client, context| client.on_no_credit(context, waiter));
        }
    }

    fn turn_end(&mut self, reactor: &mut Reactor) -> Flow {
        while let Some((session, finished)) = self.services.tls.finished() {
            self.wake(reactor, session, |client, context| client.on_handshake(context, finished));
        }
        for session in self.services.tls.turns.begin() {
            self.wake(reactor, session, |client, context| client.on_turn(context));
        }
        for session in std::mem::take(&mut self.services.again) {
            self.wake(reactor, session, |client, context| client.go_on(context));
        }
        for arrival in self.intake.accept(reactor) {
            self.arrive(reactor, arrival);
        }
        self.relieve_memory(reactor);
        // Each once: with several filters, one without credit must not turn its sessions round and round.
        for _ in 0..self.services.filters.waiting() {
            let Some(waiter) = self.services.filters.next_in_line() else { break };
            let Waiter { session, .. } = waiter;
            self.wake(reactor, session, |client, context| client.on_credit(context, waiter));
        }
        self.flush_edges(reactor);
        self.publish(reactor);
        if !self.services.again.is_empty() || self.services.tls.turns.are_wanted() || self.intake.has_work() {
            reactor.turn_again();
        }
        if self.stopping && self.sessions.is_empty() && self.lobby.is_empty() {
            Flow::Exit
        } else {
            Flow::Continue
        }
    }

    /// A client is at the door, or a balancer with one.
    fn arrive(&mut self, reactor: &mut Reactor, arrival: Arrival) {
        match arrival.who.address() {
            _ if !arrival.manner.proxied => self.admit(reactor, arrival),
            Some(address) if self.services.settings.is_proxy(address) => {
                self.lobby.enter(reactor, arrival, FIRST_LOBBY_TOKEN);
            }
            _ => lobby::refuse(arrival.who, "not a proxy"),
        }
    }

    /// Begins a session, or tells the client why not.
    fn admit(&mut self, reactor: &mut Reactor, mut arrival: Arrival) {
        if self.sessions.len() >= self.services.settings.sessions as usize {
            self.services.figures.turned_away += 1;
            // The client may be gone already, and then needs no answer; one that begins with TLS would not understand it.
            if !arrival.service.begins_with_tls() {
                let mut reply = Vec::new();
                let dialogue = self.services.settings.dialogue(arrival.service, arrival.manner);
                dialogue.replies.write(Own::TooBusy, &mut reply);
                let _ = arrival.socket.write(&reply);
            }
            let who = arrival.who;
            Record::at(log::Level::Debug, "turned-away").field("client", who).field("limit", "all").emit();
            return;
        }
        self.services.figures.sessions += 1;
        let services = &self.services;
        let session = self.sessions.insert(|number| Client::new(number, arrival, reactor, services));
        let registered = self
            .sessions
            .get(session)
            .map(|client| reactor.register(client.socket().as_fd(), session as usize, Interest::READABLE));
        match registered {
            Some(Ok(())) => self.wake(reactor, session, |client, context| client.begin(context)),
            _ => self.bury(reactor, session, Why::Unwatched),
        }
    }

    /// When too much is held in memory, all who hold some pass it on; those who send nothing more too.
    fn relieve_memory(&mut self, reactor: &mut Reactor) {
        let short = self.services.budget.is_exceeded();
        if short && !std::mem::replace(&mut self.short, short) {
            log::warn!("event=memory-short held={}", self.services.budget.used());
            for session in self.sessions.select(Client::holds_body) {
                self.wake(reactor, session, |client, context| client.on_memory_short(context));
            }
        }
        self.short = short;
    }

    fn drain(&mut self, reactor: &mut Reactor, deadline_ms: u64) {
        self.intake.close();
        self.stopping = true;
        let hurry_ms = deadline_ms.saturating_sub(HURRY_MS);
        if reactor.now_ms() < hurry_ms {
            reactor.set_timer(hurry_ms, HURRY_TIMER);
        } else {
            self.hurry(reactor);
        }
        reactor.set_timer(deadline_ms.saturating_sub(LAST_CALL_MS), LAST_CALL_TIMER);
    }

    fn hurry(&mut self, reactor: &mut Reactor) {
        self.services.draining = true;
        for session in self.sessions.select(Client::is_idle) {
            self.wake(reactor, session, |client, context| client.go_on(context));
        }
    }

    /// The drain is nearly over: who is left is told so.
    fn last_call(&mut self, reactor: &mut Reactor) {
        for session in self.sessions.select(|_| true) {
            self.wake(reactor, session, |client, context| client.cut(context, Own::Shutdown));
        }
    }

    fn publish(&mut self, reactor: &mut Reactor) {
        let gauges = Gauges {
            open: self.sessions.len() as u64,
            in_flight: self.services.filters.in_flight(),
            waiting: self.services.filters.waiting(),
            held: self.services.budget.used(),
            limits_missed: self.services.limiter.missed(),
        };
        self.services.figures.publish(reactor, gauges);
    }
}
