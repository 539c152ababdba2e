//! The processes that rules ask: resolver, key holder, limiter, runner and whoever asks databases. Both filters that judge
//! mail have the same five edges; what is asked there is each inquiry's own business.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vsmtp_config::FilterSlice;
use vsmtp_daemon::Reactor;
use vsmtp_ipc::role::{ProcessName, Role};

use super::asking::{self, Asking};
use super::inquiry::Inquiries;
use super::limiting::{Limiting, Limits};
use super::resolving::Resolving;
use super::running::{self, Running};
use super::signing::Signing;
use crate::api::Surroundings;

/// The edges to all of them.
pub struct Helpers {
    names: Inquiries<Resolving>,
    keys: Inquiries<Signing>,
    counts: Inquiries<Limiting>,
    limits: Arc<Limits>,
    commands: Inquiries<Running>,
    databases: Inquiries<Asking>,
}

impl Helpers {
    /// Nobody is there yet. Strangers decide how long a name, a command or a database takes, so those leave workers to other
    /// rules.
    pub fn new(slice: &FilterSlice) -> Self {
        let workers = slice.workers as usize;
        let (names, commands) = (Inquiries::<Resolving>::new(), Inquiries::<Running>::new());
        names.leave_room(workers);
        commands.leave_room(workers);
        let databases = Inquiries::<Asking>::new();
        databases.leave_room(workers);
        let counts = Inquiries::<Limiting>::new();
        let limits = Arc::new(Limits::new(counts.door(), workers));
        Helpers { names, keys: Inquiries::new(), counts, limits, commands, databases }
    }

    /// What scripts may ask, through these.
    pub fn surroundings(&self, slice: &FilterSlice) -> Surroundings {
        super::surroundings(
            self.names.door(),
            self.keys.door(),
            self.limits.clone(),
            running::way(self.commands.door(), slice.has_commands),
            asking::way(self.databases.door(), !slice.databases.is_empty(), slice.workers as usize),
        )
    }

    /// The loop is there, and woken by questions from now on.
    pub fn wake_by(&self, reactor: &Reactor) {
        self.names.wake_by(super::waker(reactor));
        self.keys.wake_by(super::waker(reactor));
        self.counts.wake_by(super::waker(reactor));
        self.commands.wake_by(super::waker(reactor));
        self.databases.wake_by(super::waker(reactor));
    }

    /// Takes the edge to one of them, under this token; others are none of its business.
    ///
    /// # Errors
    /// The loop does not take it.
    pub fn introduce(
        &mut self,
        reactor: &Reactor,
        name: ProcessName,
        socket: OwnedFd,
        token: usize,
    ) -> io::Result<()> {
        match name.role {
            Role::Resolver => self.names.introduce(reactor, name, socket, token),
            Role::Keys => self.keys.introduce(reactor, name, socket, token),
            Role::Limits => self.counts.introduce(reactor, name, socket, token),
            Role::Runner => self.commands.introduce(reactor, name, socket, token),
            Role::Database => self.databases.introduce(reactor, name, socket, token),
            _ => Ok(()),
        }
    }

    /// True if it is the token of one of them.
    pub fn has(&self, token: usize) -> bool {
        self.names.has(token)
            || self.keys.has(token)
            || self.counts.has(token)
            || self.commands.has(token)
            || self.databases.has(token)
    }

    /// Hears what one of them has said.
    pub fn hear(&mut self, reactor: &mut Reactor, token: usize) {
        match token {
            token if self.names.has(token) => self.names.hear(reactor),
            token if self.keys.has(token) => self.keys.hear(reactor),
            token if self.counts.has(token) => self.counts.hear(reactor),
            token if self.commands.has(token) => self.commands.hear(reactor),
            token if self.databases.has(token) => self.databases.hear(reactor),
            _ => {}
        }
    }

    /// Sends what was asked since the last time.
    pub fn send(&mut self, reactor: &mut Reactor) {
        self.names.send(reactor);
        self.keys.send(reactor);
        self.counts.send(reactor);
        self.commands.send(reactor);
        self.databases.send(reactor);
    }

    /// What the limiter is to be told; nobody waits for it.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}
