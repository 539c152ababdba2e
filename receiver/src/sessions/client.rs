//! One client: its connection, its dialogue, and what of it is open right now. An idle one is small.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use vsmtp_daemon::{Reactor, Record};
use vsmtp_ipc::edge::receiver_filter::Facts;
use vsmtp_mail::Service;
use vsmtp_smtp::{Hello, Session, Waiting, XForward};

use super::asking::{Asking, Introduced, Topic, Want};
use super::clock::Clock;
use super::limited::Limited;
use super::login::Login;
use super::message::Transaction;
use super::naming::Naming;
use super::trusted::Behind;
use crate::auth_edge::HelperKey;
use crate::connection::Connection;
use crate::filter_edge::EdgeKey;
use crate::intake::Arrival;
use crate::services::{Context, Services};
use crate::settings::Manner;
use crate::socket::End;

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fate {
    /// It waits for something.
    Stay,
    /// Take it out, call [`Client::end`], and drop it.
    Gone(Why),
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The dialogue came to its end.
    Closed,
    /// The client went away.
    Hangup,
    /// The connection was broken off.
    Reset,
    /// What came under TLS is no TLS, or was changed on the way.
    BrokenTls,
    /// The loop could not take its connection.
    Unwatched,
    /// The client did not read what it was sent.
    Stalled,
    /// Its handshake failed or took too long.
    Handshake,
    /// It needs TLS, and there is none now.
    NoTls,
    /// It made too many handshakes.
    Limited,
}

/// Who a client is.
#[derive(Debug, Clone, Copy)]
pub enum Who {
    /// Someone on the network: address and port, and ours as it sees them.
    Network {
        /// The client.
        client: (IpAddr, u16),
        /// Us.
        server: Option<(IpAddr, u16)>,
    },
    /// A process of this host, by its user id.
    Local(u32),
}

/// What is known of a connection's readiness.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Line {
    /// There may be something to read.
    pub readable: bool,
    /// The client will send no more; what it sent is still to be read.
    pub ending: bool,
    /// The kernel takes no more output now.
    pub blocked: bool,
    /// The handshake waits for the next turn of the loop.
    pub in_line: bool,
}

/// What a session achieved.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub accepted: u32,
    pub refused: u32,
    pub unavailable: u32,
    /// Errors that were there when the last reply was held back.
    pub errors: u32,
    pub timed_out: bool,
    /// That it ends because of too many errors is counted.
    pub ended: bool,
}

/// One session.
pub struct Client {
    pub(super) number: u64,
    pub(super) socket: Connection,
    pub(super) dialogue: Session,
    /// Who it is: another than the connection's peer if that is a proxy and said so.
    pub(super) who: Who,
    /// The proxy before it, if one has said who it is.
    pub(super) behind: Option<Box<Behind>>,
    /// Its name.
    pub(super) naming: Naming,
    /// What a proxy said of the origin of its next message, until the transaction is over.
    pub(super) forwarded: XForward,
    /// What it came for.
    pub(super) service: Service,
    /// What is particular to where it came in.
    pub(super) manner: Manner,
    /// Wall clock, milliseconds since 1970.
    pub(super) connected_ms: u64,
    pub(super) hello: Option<Hello>,
    /// Who has the exchange of AUTH that is under way.
    pub(super) exchange: Option<HelperKey>,
    /// In it the client has been refused already.
    pub(super) refused: bool,
    pub(super) login: Option<Login>,
    /// What the handshake has agreed on, if there was one.
    pub(super) tls: Option<Box<vsmtp_tls::Facts>>,
    pub(super) transaction: Option<Box<Transaction>>,
    /// What the dialogue wants to know.
    pub(super) topic: Option<Topic>,
    /// What the filter is being asked.
    pub(super) asking: Asking,
    pub(super) introduced: Introduced,
    pub(super) limited: Limited,
    pub(super) line: Line,
    pub(super) clock: Clock,
    pub(super) tally: Tally,
    /// All is said; so many octets of what the client still sends are thrown away.
    pub(super) leaving: Option<usize>,
    /// It is over, without another word.
    pub(super) doomed: Option<Why>,
}

impl Client {
    /// A session at its very start.
    pub fn new(number: u64, arrival: Arrival, reactor: &Reactor, services: &Services) -> Self {
        let settings = &services.settings;
        let Arrival { socket, who, service, manner } = arrival;
        let mut dialogue = Session::new(Arc::clone(settings.dialogue(service, manner)));
        dialogue.require_tls(settings.requires_tls(service, manner));
        dialogue.opened_at(reactor.wall_ms() / 1000);
        if let Who::Network { client: (address, _), .. } = who {
            dialogue.grant(settings.privileges(address, service));
        }
        Client {
            number,
            socket: Connection::new(socket),
            dialogue,
            who,
            behind: None,
            naming: Naming::Known(None),
            forwarded: XForward::default(),
            service,
            manner,
            connected_ms: reactor.wall_ms(),
            hello: None,
            exchange: None,
            refused: false,
            login: None,
            tls: None,
            transaction: None,
            topic: None,
            asking: Asking::Nothing,
            introduced: Introduced::default(),
            limited: Limited::new(who.address().filter(|address| !settings.exempts(*address))),
            line: Line::default(),
            clock: Clock::new(reactor.now_ms(), settings.timeouts.session),
            tally: Tally::default(),
            leaving: None,
            doomed: None,
        }
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its place among the sessions.
    pub(super) fn place(&self) -> usize {
        self.number as u32 as usize
    }

    /// Its token in the loop.
    pub(super) fn token(&self) -> usize {
        self.number as usize
    }

    /// Its connection.
    pub fn socket(&self) -> &Connection {
        &self.socket
    }

    /// True if nothing is going on but the wait for a command.
    pub fn is_idle(&self) -> bool {
        self.topic.is_none() && self.asking == Asking::Nothing && self.dialogue.waiting() == Waiting::Command
    }

    /// True if a question of this session is with that filter.
    pub fn awaits(&self, edge: EdgeKey) -> bool {
        matches!(self.asking, Asking::InFlight { edge: with, .. } if with == edge)
    }

    /// True if the message that comes in holds memory.
    pub fn holds_body(&self) -> bool {
        self.asking == Asking::Nothing && self.dialogue.waiting() == Waiting::Body
    }

    /// What the filter is told of the session with each question.
    pub(super) fn facts(&self, want: Want) -> Facts {
        let (client, server, uid) = match self.who {
            Who::Network { client, server } => (Some(client), server, None),
            Who::Local(uid) => (None, None, Some(uid)),
        };
        Facts {
            session: self.number,
            service: self.service.into(),
            client,
            client_name: self.name().map(|name| name.as_str().to_owned()),
            server,
            uid,
            connected_ms: self.connected_ms,
            helo: self.hello.as_ref().map(|hello| hello.name.as_str().to_owned()),
            tls: self.tls_facts(),
            esmtp: self.hello.as_ref().is_some_and(|hello| hello.extended),
            grant: self.shown_grant(want == Want::Login),
        }
    }

    /// The last act of a session, after it was taken out: the filter forgets it, and the log remembers it.
    pub fn end(mut self, context: &mut Context<'_>, why: Why) {
        context.services.deadlines.clear(self.place());
        let user = self.user().map(str::to_owned);
        if why == Why::Closed && !self.is_leaving() {
            self.socket.say_goodbye();
        }
        self.drop_transaction(context.services);
        self.stop_asking(context);
        self.drop_login(context.services);
        self.forget(context.services);
        self.leave(context);
        let user = user.as_deref();
        let notable = self.tally.timed_out || self.dialogue.errors() > 0 || why.is_notable();
        let level = if notable { log::Level::Info } else { log::Level::Debug };
        if log::log_enabled!(level) {
            Record::at(level, "disconnect")
                .field("session", self.number)
                .field("client", self.who)
                .maybe("client_name", self.name())
                .maybe("helo", self.hello.as_ref().map(|hello| hello.name.as_str()))
                .maybe("user", user)
                .maybe("tls", self.tls.as_ref().map(|tls| tls.protocol))
                .maybe("cipher", self.tls.as_ref().map(|tls| tls.cipher))
                .field("why", if self.tally.timed_out { "timeout" } else { why.name() })
                .field("accepted", self.tally.accepted)
                .field("refused", self.tally.refused)
                .field("unavailable", self.tally.unavailable)
                .field("errors", self.dialogue.errors())
                .emit();
        }
    }
}

impl Who {
    /// The address, of someone on the network.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Who::Network { client: (address, _), .. } => Some(address),
            Who::Local(_) => None,
        }
    }
}

impl From<End> for Why {
    fn from(end: End) -> Self {
        match end {
            End::Closed => Why::Hangup,
            End::Failed => Why::Reset,
            End::BrokenTls => Why::BrokenTls,
        }
    }
}

impl Why {
    /// True for what is seldom, and that somebody may look for.
    fn is_notable(self) -> bool {
        matches!(self, Why::Stalled | Why::NoTls | Why::BrokenTls | Why::Unwatched)
    }

    fn name(self) -> &'static str {
        match self {
            Why::Closed => "closed",
            Why::Hangup => "hangup",
            Why::Reset => "reset",
            Why::BrokenTls => "broken-tls",
            Why::Unwatched => "unwatched",
            Why::Stalled => "stalled",
            Why::Handshake => "handshake",
            Why::NoTls => "no-tls",
            Why::Limited => "limited",
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Network { client: (address, port), .. } => std::net::SocketAddr::new(*address, *port).fmt(f),
            Who::Local(uid) => write!(f, "uid:{uid}"),
        }
    }
}
