//! The daemon: what wakes it, and whom it wakes for that. Decides nothing about mail.

use std::os::fd::{AsFd, OwnedFd};

use mio::Interest;
use vsmtp_config::ReceiverSlice;
use vsmtp_daemon::{Boot, BootError, Daemon, Event, FIRST_TOKEN, Flow, Reactor, Record};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::master_child::{Listener, ToMaster};
use vsmtp_ipc::edge::receiver_limits;
use vsmtp_ipc::role::{ProcessName, Role};
use vsmtp_mail::QueueIdMint;
use vsmtp_smtp::Own;
use vsmtp_sys::fds;
use vsmtp_sys::sandbox::Profile;

use crate::auth_edge::{self, HelperKey};
use crate::filter_edge::{self, Answer, CREDIT_TIMER, EdgeKey, Waiter};
use crate::intake::{Arrival, Intake, MAX_LISTENERS, REOPEN_TIMER};
use crate::limits::{Budget, MAX_BODIES};
use crate::lobby::{self, LOBBY_TIMER, Lobby, MAX_WAITING};
use crate::metrics::Gauges;
use crate::names_edge::Heard;
use crate::sandbox;
use crate::services::{Context, Services};
use crate::sessions::{Client, DEADLINE_TIMER, Fate, Sessions, Why};
use crate::settings::Settings;
use crate::tls::{KEYS_TOKEN, Tls};

/// Descriptors that one process asks for.
const DESCRIPTORS: u64 = 65_536;
/// Tokens of filters begin here: behind the listeners, and below the sessions, which begin at 2^32.
const FIRST_EDGE_TOKEN: usize = 1 << 20;
/// The limiter's token.
const LIMITER_TOKEN: usize = FIRST_EDGE_TOKEN - 1;
/// The resolver's token.
const RESOLVER_TOKEN: usize = LIMITER_TOKEN - 1;
/// Tokens of auth helpers begin here.
const FIRST_HELPER_TOKEN: usize = 1 << 30;
/// How long clients wait at the door for the certificates to come, in milliseconds; then they are served without.
const KEYS_PATIENCE_MS: u64 = 3_000;
/// Tokens of clients that wait for a balancer's header: above those of filters, of which there are never so many.
const FIRST_LOBBY_TOKEN: usize = 1 << 31;
const LAST_LOBBY_TOKEN: usize = FIRST_LOBBY_TOKEN + MAX_WAITING;
/// The loop's timer for the hurried part of a drain.
const HURRY_TIMER: u64 = 3;
/// How long that is, in milliseconds: idle clients hear 421, and busy ones as soon as their command is done. Before it
/// they may go on, so that a reload disturbs nobody.
const HURRY_MS: u64 = 10_000;
/// The loop's timer that ends what a drain has left.
const LAST_CALL_TIMER: u64 = 4;
/// How long before the end of a drain that is, in milliseconds.
const LAST_CALL_MS: u64 = 100;

const _: () = assert!(FIRST_TOKEN + MAX_LISTENERS < KEYS_TOKEN && KEYS_TOKEN < RESOLVER_TOKEN);
const _: () = assert!(LAST_LOBBY_TOKEN < 1 << 32);
const _: () = assert!(usize::BITS == 64, "tokens hold 64-bit session numbers");

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

    fn meet(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        match name.role {
            Role::Limits => return self.meet_limiter(reactor, name, socket),
            Role::Keys => return self.meet_keys(reactor, name, socket),
            Role::Resolver => return self.meet_resolver(reactor, name, socket),
            _ => {}
        }
        if name.role == Role::Auth {
            return self.meet_helper(reactor, name, socket);
        }
        let token = |key: EdgeKey| FIRST_EDGE_TOKEN + key.0 as usize;
        match self.services.filters.introduce(reactor, name, socket, token) {
            Ok(Some(replaced)) => self.lose(reactor, replaced, &ChannelError::Closed),
            Ok(None) => {}
            Err(error) => log::error!("event=peer-failed peer={name} error=\"{error}\""),
        }
    }

    fn meet_helper(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        let token = |key: HelperKey| FIRST_HELPER_TOKEN + key.0 as usize;
        match self.services.helpers.introduce(reactor, name, socket, token) {
            Ok(Some(replaced)) => self.lose_helper(reactor, replaced, &ChannelError::Closed),
            Ok(None) => {}
            Err(error) => log::error!("event=peer-failed peer={name} error=\"{error}\""),
        }
    }

    fn meet_keys(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        if let Err(error) = self.services.tls.introduce(reactor, name, socket) {
            log::error!("event=peer-failed peer={name} error=\"{error}\"");
        }
    }

    fn hear_keys(&mut self, reactor: &mut Reactor) {
        let was_coming = self.services.tls.is_coming();
        self.services.tls.hear(reactor);
        if was_coming && !self.services.tls.is_coming() {
            self.intake.reopen();
        }
    }

    fn listen(&mut self, reactor: &Reactor, listener: &Listener, socket: OwnedFd) {
        if !self.stopping
            && let proxied = self.services.settings.is_proxied(listener)
            && let Err(error) = self.intake.open(reactor, listener, proxied, socket, FIRST_TOKEN)
        {
            log::error!("event=listener-failed error=\"{error}\"");
        }
    }

    fn ready(&mut self, reactor: &mut Reactor, token: usize, readable: bool, writable: bool, closed: bool) {
        match token {
            LIMITER_TOKEN => self.hear_limiter(reactor),
            KEYS_TOKEN => self.hear_keys(reactor),
            RESOLVER_TOKEN => self.hear_names(reactor),
            0..FIRST_EDGE_TOKEN => self.intake.knock(token.saturating_sub(FIRST_TOKEN)),
            FIRST_HELPER_TOKEN..FIRST_LOBBY_TOKEN => {
                self.hear_helper(reactor, HelperKey(u32::try_from(token - FIRST_HELPER_TOKEN).unwrap_or(0)));
            }
            FIRST_LOBBY_TOKEN..LAST_LOBBY_TOKEN => {
                if let Some(arrival) = self.lobby.look(reactor, token - FIRST_LOBBY_TOKEN) {
                    self.admit(reactor, arrival);
                }
            }
            FIRST_EDGE_TOKEN..FIRST_HELPER_TOKEN => {
                self.hear(reactor, EdgeKey(u32::try_from(token - FIRST_EDGE_TOKEN).unwrap_or(0)));
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

    fn meet_limiter(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        self.lose_limiter(reactor, &ChannelError::Closed);
        if let Err(error) = self.services.limiter.introduce(reactor, name, socket, LIMITER_TOKEN) {
            log::error!("event=peer-failed peer={name} error=\"{error}\"");
        }
    }

    /// Hears all that the limiter has to say.
    fn hear_limiter(&mut self, reactor: &mut Reactor) {
        loop {
            let heard = match self.services.limiter.hear() {
                Ok(Some(answer)) => self.heed_limiter(reactor, answer),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                return self.lose_limiter(reactor, &error);
            }
        }
    }

    fn heed_limiter(
        &mut self,
        reactor: &mut Reactor,
        answer: receiver_limits::Answer,
    ) -> Result<(), ChannelError> {
        use receiver_limits::Answer;
        let (session, fate) = match answer {
            Answer::Wanted(wanted) => {
                for session in self.sessions.select(Client::awaits_wanted) {
                    self.wake(reactor, session, |client, context| client.on_wanted(context));
                }
                let all = self.sessions.select(|_| wanted.connect);
                for session in all {
                    let Some(client) = self.sessions.get(session) else { continue };
                    client.present(&mut Context { reactor, services: &mut self.services });
                }
                return Ok(());
            }
            Answer::Entered { ticket, entry } => {
                let Some(client) = self.sessions.get(ticket) else { return Ok(()) };
                let context = &mut Context { reactor, services: &mut self.services };
                (ticket, client.on_entered(context, entry)?)
            }
            Answer::Spent { ticket, spent } => {
                let Some(client) = self.sessions.get(ticket) else { return Ok(()) };
                let context = &mut Context { reactor, services: &mut self.services };
                (ticket, client.on_spent(context, &spent)?)
            }
        };
        if let Fate::Gone(why) = fate {
            self.bury(reactor, session, why);
        }
        Ok(())
    }

    /// The limiter is gone, or must go: those who wait for it go on.
    fn lose_limiter(&mut self, reactor: &mut Reactor, error: &ChannelError) {
        let Some(name) = self.services.limiter.remove() else { return };
        let waiting = self.sessions.select(Client::awaits_limiter);
        self.services.limiter.was_lost(waiting.len());
        Record::at(log::Level::Warn, "limits-lost")
            .field("peer", name)
            .field("questions", waiting.len())
            .field("error", error)
            .emit();
        if let ChannelError::Misbehaved(_) | ChannelError::Overflow = error {
            reactor.tell_master(&ToMaster::Misbehaved(name));
        }
        for session in waiting {
            self.wake(reactor, session, |client, context| client.on_limiter_lost(context));
        }
    }

    fn meet_resolver(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        if let Err(error) = self.services.names.introduce(reactor, name, socket, RESOLVER_TOKEN) {
            log::error!("event=peer-failed peer={name} error=\"{error}\"");
        }
    }

    /// Hears all that the resolver has to say.
    fn hear_names(&mut self, reactor: &mut Reactor) {
        loop {
            match self.services.names.hear(reactor.now_ms()) {
                Ok(Some(Heard { address, name, sessions })) => {
                    for session in sessions {
                        self.wake(reactor, session, |client, context| {
                            client.on_name(context, address, &name)
                        });
                    }
                }
                Ok(None) => return,
                Err(error) => return self.lose_resolver(reactor, &error),
            }
        }
    }

    /// The resolver is gone, or must go: those who wait for a name go on without.
    fn lose_resolver(&mut self, reactor: &mut Reactor, error: &ChannelError) {
        let Some((name, waiting)) = self.services.names.remove() else { return };
        Record::at(log::Level::Warn, "resolver-lost")
            .field("peer", name)
            .field("names", waiting.len())
            .field("error", error)
            .emit();
        if let ChannelError::Misbehaved(_) | ChannelError::Overflow = error {
            reactor.tell_master(&ToMaster::Misbehaved(name));
        }
        for session in waiting {
            self.wake(reactor, session, |client, context| client.on_no_name(context));
        }
    }

    /// Hears all that a filter has to say.
    fn hear(&mut self, reactor: &mut Reactor, edge: EdgeKey) {
        loop {
            match self.services.filters.hear(edge) {
                Ok(Some(filter_edge::Heard::Noted)) => {}
                Ok(Some(filter_edge::Heard::Answer(session, answer))) => {
                    if let Err(error) = self.deliver(reactor, edge, session, answer) {
                        return self.lose(reactor, edge, &error);
                    }
                }
                Ok(None) => return,
                Err(error) => return self.lose(reactor, edge, &error),
            }
        }
    }

    fn deliver(
        &mut self,
        reactor: &mut Reactor,
        edge: EdgeKey,
        session: u64,
        answer: Answer,
    ) -> Result<(), ChannelError> {
        let client = self.sessions.get(session);
        let client = client
            .ok_or_else(|| ChannelError::Misbehaved("answered a session that is not there".to_owned()))?;
        let fate = client.on_answer(&mut Context { reactor, services: &mut self.services }, edge, answer)?;
        if let Fate::Gone(why) = fate {
            self.bury(reactor, session, why);
        }
        Ok(())
    }

    /// A filter is gone, or must go: what it was asked is answered with "not now".
    fn lose(&mut self, reactor: &mut Reactor, edge: EdgeKey, error: &ChannelError) {
        let Some(name) = self.services.filters.remove(edge) else { return };
        let waiting = self.sessions.select(|client| client.awaits(edge));
        Record::at(log::Level::Warn, "filter-lost")
            .field("peer", name)
            .field("questions", waiting.len())
            .field("error", error)
            .emit();
        if let ChannelError::Misbehaved(_) | ChannelError::Overflow = error {
            reactor.tell_master(&ToMaster::Misbehaved(name));
        }
        for session in waiting {
            self.wake(reactor, session, |client, context| client.on_edge_lost(context));
        }
    }

    /// Hears all that an auth helper has to say.
    fn hear_helper(&mut self, reactor: &mut Reactor, helper: HelperKey) {
        loop {
            match self.services.helpers.hear(helper) {
                Ok(Some(auth_edge::Heard::Noted)) => {}
                Ok(Some(auth_edge::Heard::Offer(names))) => {
                    if self.services.helpers.is_chosen(helper) {
                        self.services.settings.offer(&names);
                    }
                }
                Ok(Some(auth_edge::Heard::Word(session, word))) => {
                    if let Err(error) = self.pass_word(reactor, helper, session, word) {
                        return self.lose_helper(reactor, helper, &error);
                    }
                }
                Ok(None) => return,
                Err(error) => return self.lose_helper(reactor, helper, &error),
            }
        }
    }

    fn pass_word(
        &mut self,
        reactor: &mut Reactor,
        helper: HelperKey,
        session: u64,
        word: auth_edge::Word,
    ) -> Result<(), ChannelError> {
        let client = self.sessions.get(session);
        let client = client
            .ok_or_else(|| ChannelError::Misbehaved("answered a session that is not there".to_owned()))?;
        let fate = client.on_word(&mut Context { reactor, services: &mut self.services }, helper, word)?;
        if let Fate::Gone(why) = fate {
            self.bury(reactor, session, why);
        }
        Ok(())
    }

    /// An auth helper is gone, or must go: what it was asked is answered with "not now".
    fn lose_helper(&mut self, reactor: &mut Reactor, helper: HelperKey, error: &ChannelError) {
        let Some(name) = self.services.helpers.remove(helper) else { return };
        let waiting = self.sessions.select(|client| client.awaits_helper(helper));
        Record::at(log::Level::Warn, "helper-lost")
            .field("peer", name)
            .field("exchanges", waiting.len())
            .field("error", error)
            .emit();
        if let ChannelError::Misbehaved(_) | ChannelError::Overflow = error {
            reactor.tell_master(&ToMaster::Misbehaved(name));
        }
        for session in waiting {
            self.wake(reactor, session, |client, context| client.on_helper_lost(context));
        }
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
        self.services.limiter.flush(reactor);
        if let Some(error) = self.services.limiter.take_failed() {
            self.lose_limiter(reactor, &error);
            reactor.turn_again();
        }
        self.services.filters.flush(reactor);
        while let Some((edge, error)) = self.services.filters.take_failed() {
            self.lose(reactor, edge, &error);
            self.services.filters.flush(reactor);
        }
        self.services.helpers.flush(reactor);
        while let Some((helper, error)) = self.services.helpers.take_failed() {
            self.lose_helper(reactor, helper, &error);
            // What the sessions then ask others is sent at the end of the next turn.
            reactor.turn_again();
        }
        self.services.names.flush(reactor);
        if let Some(error) = self.services.names.take_failed() {
            self.lose_resolver(reactor, &error);
            reactor.turn_again();
        }
        self.services.tls.flush(reactor);
        self.publish(reactor);
        if !self.services.again.is_empty() || self.intake.has_work() {
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
            _ if !arrival.proxied => self.admit(reactor, arrival),
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
                let _ = arrival.socket.write(Own::TooBusy.wire().as_bytes());
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
            _ => self.bury(reactor, session, Why::Hangup),
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
