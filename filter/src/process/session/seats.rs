//! Receivers and their sessions. A session has at most one question open; while it is judged, the session is not touched:
//! what comes meanwhile (reset, end) is done when the answer is out.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rhai::ImmutableString;
use vsmtp_daemon::{Link, Reactor};
use vsmtp_ipc::edge::receiver_filter::{Ask, CREDITS, Facts, Verdict};
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::wire::{Body, Id, MAX_INLINE_BODY, Origin};
use vsmtp_ipc::{ChannelError, EdgeId, Received};
use vsmtp_mail::{Reply, header_end};
use vsmtp_sys::memfd::Sealed;

use super::facts;
use crate::identity::Identity;
use crate::judge::{Judge, Source, Stored};
use crate::process::content::{Inline, Memory, Staged};
use crate::stage::Stage;
use crate::transaction::{Content, Shared, Transaction};

/// Most sessions of one receiver.
const MAX_SEATS: usize = 200_000;

/// One session of one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub token: usize,
    pub session: u64,
}

/// One receiver.
pub struct Receiver {
    pub name: ProcessName,
    link: Link<Verdict, Ask>,
    pub seats: HashMap<u64, Seat>,
    /// Sessions whose question waits until it is known who asks; true if that is of no interest any more.
    parked: HashMap<u64, bool>,
    open: u32,
}

/// What is kept of a session.
pub struct Seat {
    pub shared: Shared,
    /// The message that is judged or stored.
    pub incoming: Option<Incoming>,
    /// Rules of connect and helo have run.
    connect_ran: bool,
    helo_ran: bool,
    busy: bool,
    reset: bool,
    gone: bool,
    /// A large body that the queue-manager keeps for this session.
    staged: Option<Id>,
}

/// A message on its way from the receiver to the queue-manager.
pub struct Incoming {
    pub id: Id,
    pub body: Body,
    pub origin: Origin,
    pub arrived_ms: u64,
    /// A large body's file, if rules want to see it.
    pub staged: Option<Arc<Staged>>,
    /// What is still to be stored of it; the last one keeps the id and the body.
    pub messages: VecDeque<Stored>,
    /// What to say when all of it is stored, instead of the usual reply.
    pub reply: Option<Reply>,
    descriptor: Option<OwnedFd>,
    sealed: Option<Arc<Sealed>>,
}

fn misbehaved(what: &str) -> ChannelError {
    ChannelError::Misbehaved(what.to_owned())
}

impl Receiver {
    pub fn new(reactor: &Reactor, name: ProcessName, socket: OwnedFd, token: usize) -> io::Result<Self> {
        let link = Link::new(reactor, socket, EdgeId::ReceiverFilter, token)?;
        Ok(Receiver { name, link, seats: HashMap::new(), parked: HashMap::new(), open: 0 })
    }

    pub fn hear(&mut self) -> Result<Option<Received<Ask>>, ChannelError> {
        self.link.receive()
    }

    pub fn say(&mut self, verdict: &Verdict) -> Result<(), ChannelError> {
        self.link.send(verdict, Vec::new())
    }

    pub fn flush(&mut self, reactor: &Reactor) -> Result<(), ChannelError> {
        self.link.flush(reactor)
    }

    /// Questions without an answer.
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Opens a question of a session; the session begins if it is not known.
    /// A session that shows a grant is whom the auth helper has named, now or before.
    pub fn ask(
        &mut self,
        judge: &Judge,
        facts: &Facts,
        identity: Option<Identity>,
    ) -> Result<&mut Seat, ChannelError> {
        self.count_question()?;
        let helo = facts::helo(facts)?.map(ImmutableString::from);
        let tls = facts::tls(facts)?;
        if !self.seats.contains_key(&facts.session) {
            if self.seats.len() >= MAX_SEATS {
                return Err(misbehaved("more sessions than there can be"));
            }
            self.seats.insert(facts.session, Seat::new(judge, facts));
        }
        let seat = self.seats.get_mut(&facts.session).ok_or_else(|| misbehaved("session is not there"))?;
        if seat.busy || seat.gone {
            return Err(misbehaved("two questions of one session at once"));
        }
        seat.busy = true;
        let mut transaction = seat.shared.lock();
        transaction.esmtp = facts.esmtp;
        if identity.is_some() || facts.grant.is_none() {
            transaction.identify(identity.filter(|_| facts.grant.is_some()));
        }
        transaction.tls = tls;
        if transaction.helo != helo {
            transaction.helo = helo;
        }
        drop(transaction);
        Ok(seat)
    }

    /// Opens the question whether a chunk is stored. False if the session is not known.
    pub fn ask_chunk(&mut self, session: u64, id: Id) -> Result<bool, ChannelError> {
        self.count_question()?;
        let Some(seat) = self.seats.get_mut(&session) else { return Ok(false) };
        if seat.busy {
            return Err(misbehaved("two questions of one session at once"));
        }
        seat.busy = true;
        seat.staged = Some(id);
        Ok(true)
    }

    /// True if this session shows a grant, and we do not know yet whose it is.
    pub fn is_stranger(&self, facts: &Facts) -> bool {
        let Some(grant) = facts.grant else { return false };
        let seat = self.seats.get(&facts.session);
        let known = seat.and_then(|seat| seat.shared.lock().peer.identity.as_ref().map(|who| who.grant));
        known != Some(grant)
    }

    /// Opens a question that waits until it is known who asks.
    pub fn park(&mut self, session: u64) -> Result<(), ChannelError> {
        self.count_question()?;
        if self.parked.insert(session, false).is_some() {
            return Err(misbehaved("two questions of one session at once"));
        }
        Ok(())
    }

    /// The question of a session waits no more, and is closed. True if nobody wants its answer; `None` if there was none.
    pub fn unpark(&mut self, session: u64) -> Option<bool> {
        let gone = self.parked.remove(&session)?;
        self.open = self.open.saturating_sub(1);
        Some(gone)
    }

    fn count_question(&mut self) -> Result<(), ChannelError> {
        if self.open >= CREDITS {
            return Err(misbehaved("more questions than credits"));
        }
        self.open += 1;
        Ok(())
    }

    /// The open question of a session has its answer: what came meanwhile is done now. A large body that nobody will
    /// ask for any more is handed back.
    pub fn settle(&mut self, session: u64) -> Option<Id> {
        self.open = self.open.saturating_sub(1);
        let seat = self.seats.get_mut(&session)?;
        seat.busy = false;
        if seat.gone {
            return self.seats.remove(&session)?.staged;
        }
        if std::mem::take(&mut seat.reset) {
            seat.clear();
            return seat.staged.take();
        }
        None
    }

    /// The transaction was given up. A large body that nobody will ask for any more is handed back.
    pub fn reset(&mut self, session: u64, id: Option<Id>) -> Option<Id> {
        self.parked.entry(session).and_modify(|gone| *gone = true);
        let Some(seat) = self.seats.get_mut(&session) else { return id };
        if seat.busy {
            // Its chunk may be on the way; its body belongs to that until the answer.
            seat.reset = true;
            return None;
        }
        seat.clear();
        seat.staged.take().or(id)
    }

    /// The session is over. A large body that nobody will ask for any more is handed back.
    pub fn forget(&mut self, session: u64) -> Option<Id> {
        self.parked.entry(session).and_modify(|gone| *gone = true);
        let seat = self.seats.get_mut(&session)?;
        if seat.busy {
            seat.gone = true;
            return None;
        }
        self.seats.remove(&session)?.staged
    }

    /// Large bodies of sessions that end with this receiver.
    pub fn staged(&self) -> impl Iterator<Item = Id> {
        self.seats.values().filter(|seat| !seat.busy).filter_map(|seat| seat.staged)
    }
}

impl Seat {
    fn new(judge: &Judge, facts: &Facts) -> Self {
        let transaction = Transaction::new(Arc::new(facts::peer(judge, facts)), judge.max_recipients);
        Seat {
            shared: Shared::new(transaction),
            incoming: None,
            connect_ran: false,
            helo_ran: false,
            busy: false,
            reset: false,
            gone: false,
            staged: None,
        }
    }

    /// The stages whose rules are due: those of the session run again if another filter had run them.
    pub fn stages_up_to(&mut self, last: Stage) -> Vec<Stage> {
        let mut stages = Vec::new();
        if !std::mem::replace(&mut self.connect_ran, true) {
            stages.push(Stage::Connect);
        }
        if last == Stage::Helo || last > Stage::Helo && !self.helo_ran {
            self.helo_ran = true;
            stages.push(Stage::Helo);
        }
        if last >= Stage::Mail {
            stages.push(Stage::Mail);
        }
        stages
    }

    /// True if MAIL was said.
    pub fn has_mail(&self) -> bool {
        self.shared.lock().mail.is_some()
    }

    /// The message is done with; the session stays. A body that was not stored is handed back.
    pub fn end_message(&mut self, stored: bool) -> Option<Id> {
        self.clear();
        self.staged.take().filter(|_| !stored)
    }

    fn clear(&mut self) {
        self.incoming = None;
        self.shared.lock().reset();
    }
}

impl Incoming {
    pub fn new(id: Id, body: Body, descriptor: Option<OwnedFd>, facts: &Facts, arrived_ms: u64) -> Self {
        let origin = facts::origin(facts);
        Incoming {
            id,
            body,
            origin,
            arrived_ms,
            staged: None,
            messages: VecDeque::new(),
            reply: None,
            descriptor,
            sealed: None,
        }
    }

    /// False if its header cannot have the field: most messages are here, and need not be copied for that.
    pub fn may_claim(&self, field: &str) -> bool {
        let Body::Inline(bytes) = &self.body else { return true };
        let header = bytes.get(..header_end(bytes)).unwrap_or(bytes);
        header.windows(field.len()).any(|one| one.eq_ignore_ascii_case(field.as_bytes()))
    }

    /// What rules see of it. A sealed body is checked before it is read.
    pub fn source(&mut self, needed: bool) -> Result<Source, ChannelError> {
        let content: Option<Arc<dyn Content>> = match &self.body {
            _ if !needed => None,
            Body::Inline(bytes) if bytes.len() > MAX_INLINE_BODY => {
                return Err(misbehaved("inline body is too large"));
            }
            Body::Inline(bytes) => Some(Arc::new(Inline(Arc::new(bytes.clone())))),
            Body::Memfd(len) => {
                let descriptor =
                    self.descriptor.take().ok_or_else(|| misbehaved("body without descriptor"))?;
                let sealed =
                    Sealed::verify(descriptor, *len).map_err(|error| misbehaved(&error.to_string()))?;
                let sealed = Arc::new(sealed);
                self.sealed = Some(Arc::clone(&sealed));
                Some(Arc::new(Memory(sealed)))
            }
            Body::File(_) => self.staged.clone().map(|staged| staged as Arc<dyn Content>),
        };
        Ok(Source { id: self.id.into(), content })
    }

    /// The body once more, for a message that a split made; a file has been copied.
    pub fn copy_body(&self) -> io::Result<(Body, Option<OwnedFd>)> {
        let descriptor = match (&self.sealed, &self.descriptor) {
            (Some(sealed), _) => Some(sealed.try_clone()?.into_fd()),
            (None, Some(descriptor)) => Some(descriptor.try_clone()?),
            (None, None) => None,
        };
        Ok((self.body.clone(), descriptor))
    }

    /// The descriptor that goes on to the queue-manager.
    pub fn take_descriptor(&mut self) -> io::Result<Option<OwnedFd>> {
        match self.sealed.take() {
            Some(sealed) => match Arc::try_unwrap(sealed) {
                Ok(sealed) => Ok(Some(sealed.into_fd())),
                Err(shared) => Ok(Some(shared.try_clone()?.into_fd())),
            },
            None => Ok(self.descriptor.take()),
        }
    }
}
