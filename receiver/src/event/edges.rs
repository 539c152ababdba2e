//! The edges to other processes: whom we meet, what they say, and what follows when one is lost. The same for all kinds; what
//! differs is who waits for an answer and what becomes of them.

use std::os::fd::OwnedFd;

use vsmtp_daemon::{FIRST_TOKEN, Reactor, Record};
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::receiver_limits;
use vsmtp_ipc::role::{ProcessName, Role};

use super::Receiver;
use crate::auth_edge::{self, HelperKey};
use crate::filter_edge::{self, EdgeKey, misbehaved};
use crate::intake::MAX_LISTENERS;
use crate::lobby::MAX_WAITING;
use crate::services::{Context, Services};
use crate::sessions::{Client, Fate};

/// Tokens of filters begin here: behind the listeners, and below the sessions, which begin at 2^32.
pub const FIRST_EDGE_TOKEN: usize = 1 << 20;
/// Edges of which there is one at a time.
const LIMITER_TOKEN: usize = FIRST_EDGE_TOKEN - 1;
const RESOLVER_TOKEN: usize = LIMITER_TOKEN - 1;
const KEYS_TOKEN: usize = RESOLVER_TOKEN - 1;
/// Tokens of auth helpers begin here.
const FIRST_HELPER_TOKEN: usize = 1 << 30;
/// Tokens of clients that wait for a balancer's header: above those of filters, of which there are never so many.
pub const FIRST_LOBBY_TOKEN: usize = 1 << 31;
pub const LAST_LOBBY_TOKEN: usize = FIRST_LOBBY_TOKEN + MAX_WAITING;

const _: () = assert!(FIRST_TOKEN + MAX_LISTENERS < KEYS_TOKEN);
const _: () = assert!(LAST_LOBBY_TOKEN < 1 << 32);
const _: () = assert!(usize::BITS == 64, "tokens hold 64-bit session numbers");

/// Who is at the other end of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Filter(EdgeKey),
    Helper(HelperKey),
    Limiter,
    Resolver,
    Keys,
}

impl Peer {
    /// Whose events have this token, if it is any edge's.
    pub fn of_token(token: usize) -> Option<Peer> {
        let key = |first: usize| u32::try_from(token - first).unwrap_or(0);
        match token {
            LIMITER_TOKEN => Some(Peer::Limiter),
            RESOLVER_TOKEN => Some(Peer::Resolver),
            KEYS_TOKEN => Some(Peer::Keys),
            FIRST_EDGE_TOKEN..FIRST_HELPER_TOKEN => Some(Peer::Filter(EdgeKey(key(FIRST_EDGE_TOKEN)))),
            FIRST_HELPER_TOKEN..FIRST_LOBBY_TOKEN => Some(Peer::Helper(HelperKey(key(FIRST_HELPER_TOKEN)))),
            _ => None,
        }
    }
}

/// What goes with an edge.
struct Loss {
    name: ProcessName,
    /// Sessions that wait for an answer.
    sessions: Vec<u64>,
    /// Answers that will not come.
    answers: usize,
}

impl Receiver {
    /// Takes a new edge, which may replace another one.
    pub(super) fn meet(&mut self, reactor: &mut Reactor, name: ProcessName, socket: OwnedFd) {
        let services = &mut self.services;
        let replaced = match name.role {
            Role::Limits => {
                self.lose(reactor, Peer::Limiter, &ChannelError::Closed);
                self.services.limiter.introduce(reactor, name, socket, LIMITER_TOKEN).map(|()| None)
            }
            // What the last resolver owes, the next one is asked.
            Role::Resolver => services.names.introduce(reactor, name, socket, RESOLVER_TOKEN).map(|()| None),
            Role::Keys => services.tls.introduce(reactor, name, socket, KEYS_TOKEN).map(|()| None),
            Role::Auth => services
                .helpers
                .introduce(reactor, name, socket, |key| FIRST_HELPER_TOKEN + key.0 as usize)
                .map(|replaced| replaced.map(Peer::Helper)),
            _ => services
                .filters
                .introduce(reactor, name, socket, |key| FIRST_EDGE_TOKEN + key.0 as usize)
                .map(|replaced| replaced.map(Peer::Filter)),
        };
        match replaced {
            Ok(Some(replaced)) => self.lose(reactor, replaced, &ChannelError::Closed),
            Ok(None) => {}
            Err(error) => log::error!("event=peer-failed peer={name} error=\"{error}\""),
        }
    }

    /// Hears all that a peer has to say.
    pub(super) fn hear(&mut self, reactor: &mut Reactor, peer: Peer) {
        loop {
            let heard = match peer {
                Peer::Filter(edge) => self.hear_filter(reactor, edge),
                Peer::Helper(helper) => self.hear_helper(reactor, helper),
                Peer::Limiter => self.hear_limiter(reactor),
                Peer::Resolver => self.hear_resolver(reactor),
                Peer::Keys => self.hear_keys(),
            };
            match heard {
                Ok(Some(())) => {}
                Ok(None) => return,
                Err(error) => return self.lose(reactor, peer, &error),
            }
        }
    }

    /// Sends what was said in this turn. Edges that fail with it are lost; what their sessions then ask others is sent at
    /// the end of the next turn.
    pub(super) fn flush_edges(&mut self, reactor: &mut Reactor) {
        let services = &mut self.services;
        services.limiter.flush(reactor);
        services.filters.flush(reactor);
        services.helpers.flush(reactor);
        services.names.flush(reactor);
        services.tls.flush();
        while let Some((peer, error)) = take_failed(&mut self.services) {
            self.lose(reactor, peer, &error);
            reactor.turn_again();
        }
    }

    /// A peer is gone, or must go. Those who wait for it go on in their way; the master hears of one that
    /// lives.
    fn lose(&mut self, reactor: &mut Reactor, peer: Peer, error: &ChannelError) {
        let Some(loss) = self.remove(peer) else { return };
        log_loss(peer, &loss, error);
        reactor.accuse(loss.name, error);
        for session in loss.sessions {
            self.wake(reactor, session, |client, context| match peer {
                Peer::Filter(_) => client.on_edge_lost(context),
                Peer::Helper(_) => client.on_helper_lost(context),
                Peer::Limiter => client.on_limiter_lost(context),
                Peer::Resolver => client.on_no_name(context),
                // Threads wait for it, and were told.
                Peer::Keys => Fate::Stay,
            });
        }
    }

    fn remove(&mut self, peer: Peer) -> Option<Loss> {
        let services = &mut self.services;
        let (name, sessions) = match peer {
            Peer::Filter(edge) => {
                (services.filters.remove(edge)?, self.sessions.select(|client| client.awaits(edge)))
            }
            Peer::Helper(helper) => (
                services.helpers.remove(helper)?,
                self.sessions.select(|client| client.awaits_helper(helper)),
            ),
            Peer::Limiter => {
                let name = services.limiter.remove()?;
                let sessions = self.sessions.select(Client::awaits_limiter);
                services.limiter.was_lost(sessions.len());
                (name, sessions)
            }
            Peer::Resolver => services.names.remove()?,
            Peer::Keys => {
                let (name, answers) = services.tls.remove()?;
                return Some(Loss { name, sessions: Vec::new(), answers });
            }
        };
        Some(Loss { name, answers: sessions.len(), sessions })
    }

    // Each hears one thing; `None` if there is no more for now.

    fn hear_filter(&mut self, reactor: &mut Reactor, edge: EdgeKey) -> Result<Option<()>, ChannelError> {
        use filter_edge::Heard;
        match self.services.filters.hear(edge)? {
            None => return Ok(None),
            Some(Heard::Noted) => {}
            Some(Heard::Answer(session, answer)) => {
                self.pass_on(reactor, session, |client, context| client.on_answer(context, edge, answer))?;
            }
        }
        Ok(Some(()))
    }

    fn hear_helper(&mut self, reactor: &mut Reactor, helper: HelperKey) -> Result<Option<()>, ChannelError> {
        use auth_edge::Heard;
        match self.services.helpers.hear(helper)? {
            None => return Ok(None),
            Some(Heard::Noted) => {}
            Some(Heard::Offer(names)) => {
                if self.services.helpers.is_chosen(helper) {
                    self.services.settings.offer(&names);
                }
            }
            Some(Heard::Word(session, word)) => {
                self.pass_on(reactor, session, |client, context| client.on_word(context, helper, word))?;
            }
        }
        Ok(Some(()))
    }

    fn hear_limiter(&mut self, reactor: &mut Reactor) -> Result<Option<()>, ChannelError> {
        use receiver_limits::Answer;
        match self.services.limiter.hear()? {
            None => return Ok(None),
            Some(Answer::Wanted(wanted)) => {
                for session in self.sessions.select(Client::awaits_wanted) {
                    self.wake(reactor, session, |client, context| client.on_wanted(context));
                }
                for session in self.sessions.select(|_| wanted.connect) {
                    self.wake(reactor, session, |client, context| {
                        client.present(context);
                        Fate::Stay
                    });
                }
            }
            // A session that is not there any more has no use for an answer.
            Some(Answer::Entered { ticket, entry }) if self.sessions.get(ticket).is_some() => {
                self.pass_on(reactor, ticket, |client, context| client.on_entered(context, entry))?;
            }
            Some(Answer::Spent { ticket, spent }) if self.sessions.get(ticket).is_some() => {
                self.pass_on(reactor, ticket, |client, context| client.on_spent(context, &spent))?;
            }
            Some(Answer::Entered { .. } | Answer::Spent { .. }) => {}
        }
        Ok(Some(()))
    }

    fn hear_resolver(&mut self, reactor: &mut Reactor) -> Result<Option<()>, ChannelError> {
        let Some(heard) = self.services.names.hear(reactor.now_ms())? else { return Ok(None) };
        for session in heard.sessions {
            self.wake(reactor, session, |client, context| {
                client.on_name(context, heard.address, &heard.name)
            });
        }
        Ok(Some(()))
    }

    fn hear_keys(&mut self) -> Result<Option<()>, ChannelError> {
        let was_coming = self.services.tls.is_coming();
        let heard = self.services.tls.hear()?;
        if was_coming && !self.services.tls.is_coming() {
            self.intake.reopen();
        }
        Ok(heard)
    }

    /// Gives a session its answer, and buries it if that was its end.
    fn pass_on(
        &mut self,
        reactor: &mut Reactor,
        session: u64,
        act: impl FnOnce(&mut Client, &mut Context<'_>) -> Result<Fate, ChannelError>,
    ) -> Result<(), ChannelError> {
        let client = self.sessions.get(session);
        let client = client.ok_or_else(|| misbehaved("answered a session that is not there"))?;
        let fate = act(client, &mut Context { reactor, services: &mut self.services })?;
        if let Fate::Gone(why) = fate {
            self.bury(reactor, session, why);
        }
        Ok(())
    }
}

/// An edge that failed while something was sent.
fn take_failed(services: &mut Services) -> Option<(Peer, ChannelError)> {
    let of = |peer: Peer| move |error: ChannelError| (peer, error);
    let limiter = services.limiter.take_failed().map(of(Peer::Limiter));
    limiter
        .or_else(|| services.filters.take_failed().map(|(edge, error)| (Peer::Filter(edge), error)))
        .or_else(|| services.helpers.take_failed().map(|(helper, error)| (Peer::Helper(helper), error)))
        .or_else(|| services.names.take_failed().map(of(Peer::Resolver)))
        .or_else(|| services.tls.take_failed().map(of(Peer::Keys)))
}

fn log_loss(peer: Peer, loss: &Loss, error: &ChannelError) {
    let level = log::Level::Warn;
    match peer {
        Peer::Filter(_) => Record::at(level, "filter-lost")
            .field("peer", loss.name)
            .field("questions", loss.answers)
            .field("error", error)
            .emit(),
        Peer::Helper(_) => Record::at(level, "helper-lost")
            .field("peer", loss.name)
            .field("exchanges", loss.answers)
            .field("error", error)
            .emit(),
        Peer::Limiter => Record::at(level, "limits-lost")
            .field("peer", loss.name)
            .field("questions", loss.answers)
            .field("error", error)
            .emit(),
        Peer::Resolver => Record::at(level, "resolver-lost")
            .field("peer", loss.name)
            .field("names", loss.answers)
            .field("error", error)
            .emit(),
        Peer::Keys => Record::at(level, "keys-lost")
            .field("peer", loss.name)
            .field("signatures", loss.answers)
            .field("error", error)
            .emit(),
    }
}
