//! What a session asks the limiter, and what its answers do: at the door, at MAIL and at RCPT. A limiter that is away or
//! silent is not waited for: the session goes on as if it had none.

use std::net::IpAddr;
use std::sync::Arc;

use vsmtp_daemon::Record;
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::receiver_limits::{Ask, Entry, Kind, MAX_WAIT_MS, Spent};
use vsmtp_ipc::wire;
use vsmtp_mail::{EnhancedCode, Reply, Service};
use vsmtp_smtp::{Own, Verdict, Waiting};

use super::asking::{Asking, Topic};
use super::client::{Client, Fate};
use crate::filter_edge::misbehaved;
use crate::limits_edge::{ANSWER_MS, LimiterKey, SCREEN_MS};
use crate::probe::Probe;
use crate::services::Context;
use crate::socket::Moved;

/// Where the question to the limiter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is a limiter, which has not said yet what it wants to hear of.
    Unknown,
    /// May this client come in?
    Entry,
    /// It may; so many milliseconds will show whether it keeps quiet until it is greeted.
    Greeting { wait_ms: u32 },
    /// What has come of that?
    Screening,
    /// May it do this?
    Spend,
    /// It may, so many milliseconds later.
    Delay { ms: u32 },
}

/// What the limiter made of a session.
#[derive(Debug)]
pub(super) enum Standing {
    /// Each recipient is refused with this.
    Condemned(Reply),
    /// It is watched, and no recipient is accepted.
    Watched(Probe),
}

/// What a session and the limiter have to do with each other.
#[derive(Debug)]
pub(super) struct Limited {
    /// The client, if limits hold for it.
    client: Option<IpAddr>,
    /// The limiter that counts this session.
    counted_by: Option<LimiterKey>,
    /// One that owes an answer which nobody waits for any more.
    owing: Option<LimiterKey>,
    /// It was asked whether this client may come in, before the handshake with which its connection begins.
    entered: bool,
    /// About the present topic the limiter has said what it has to say.
    pub consulted: bool,
    standing: Option<Box<Standing>>,
}

impl Stage {
    /// How long it may take, in milliseconds.
    pub fn longest_ms(self) -> u64 {
        match self {
            Stage::Unknown | Stage::Entry | Stage::Spend => ANSWER_MS,
            Stage::Screening => SCREEN_MS,
            Stage::Greeting { wait_ms: ms } | Stage::Delay { ms } => ms.into(),
        }
    }
}

impl Limited {
    pub fn new(client: Option<IpAddr>) -> Self {
        Limited { client, counted_by: None, owing: None, entered: false, consulted: false, standing: None }
    }

    /// The client has said who it is: what was made of it as a stranger counts no more.
    pub fn settle(&mut self) {
        self.standing = None;
    }
}

impl Client {
    /// Asks the limiter about the present topic, once. True if the session waits for it, or if that settled the topic.
    pub(super) fn consult(&mut self, context: &mut Context<'_>) -> bool {
        let (Some(client), false) =
            (self.limited.client, std::mem::replace(&mut self.limited.consulted, true))
        else {
            return false;
        };
        match (self.topic, self.limited.standing.as_deref()) {
            (Some(Topic::Door), _) => self.ask_to_enter(context, client, false),
            // It was asked before the handshake; but whoever speaks for another since then comes in anew.
            (Some(Topic::Connect), _) if self.limited.entered => false,
            // Tests before the greeting are for servers that come with strangers' mail.
            (Some(Topic::Connect), _) => self.ask_to_enter(context, client, self.service == Service::Smtp),
            (Some(Topic::Handshake), _) => self.ask_to_spend(context, client, Kind::Handshakes, 1),
            (Some(Topic::Mail), _) => self.ask_to_spend(context, client, Kind::Messages, 1),
            (Some(Topic::Recipients), Some(Standing::Condemned(reply))) => {
                let reply = reply.clone();
                self.refuse_recipients(context, &reply);
                true
            }
            (Some(Topic::Recipients), Some(Standing::Watched(_))) => {
                context.services.limiter.say(&Ask::Passed { ticket: self.number });
                self.refuse_recipients(context, &first_contact());
                true
            }
            (Some(Topic::Recipients), None) => {
                let count = self.transaction.as_ref().map_or(0, |transaction| transaction.batch.len());
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                self.ask_to_spend(context, client, Kind::Recipients, count)
            }
            _ => false,
        }
    }

    fn ask_to_enter(&mut self, context: &mut Context<'_>, client: IpAddr, screen: bool) -> bool {
        let limiter = &mut context.services.limiter;
        if limiter.is_new() {
            self.wait_for_limiter(context, Stage::Unknown);
            return true;
        }
        if !limiter.wants_connections() || !limiter.ask(&Ask::Connect { ticket: self.number, client, screen })
        {
            return false;
        }
        self.limited.counted_by = limiter.key();
        self.limited.entered = self.topic == Some(Topic::Door);
        self.wait_for_limiter(context, Stage::Entry);
        true
    }

    fn ask_to_spend(&mut self, context: &mut Context<'_>, client: IpAddr, kind: Kind, count: u32) -> bool {
        let limiter = &mut context.services.limiter;
        let owes = self.limited.owing.is_some() && self.limited.owing == limiter.key();
        let ticket = self.number;
        if !limiter.wants(kind) || owes || !limiter.ask(&Ask::Spend { ticket, client, kind, count }) {
            return false;
        }
        self.wait_for_limiter(context, Stage::Spend);
        true
    }

    fn wait_for_limiter(&mut self, context: &mut Context<'_>, stage: Stage) {
        self.asking = Asking::Limiter(stage);
        self.restart_wait(context);
    }

    /// The limiter has spoken about the door.
    ///
    /// # Errors
    /// It said what nobody may say: the edge is to be dropped.
    pub fn on_entered(&mut self, context: &mut Context<'_>, entry: Entry) -> Result<Fate, ChannelError> {
        if self.was_owed(context) || !matches!(self.asking, Asking::Limiter(Stage::Entry | Stage::Screening))
        {
            return Ok(Fate::Stay);
        }
        match entry {
            Entry::Screen { .. } | Entry::Test | Entry::Condemn(_) if self.topic == Some(Topic::Door) => {
                Err(misbehaved("tests a client that is not to be tested"))
            }
            Entry::Go { delay_ms: 0 } => Ok(self.go_on_unlimited(context)),
            Entry::Go { delay_ms } => {
                self.wait_for_limiter(context, Stage::Delay { ms: delay_ms.min(MAX_WAIT_MS) });
                Ok(Fate::Stay)
            }
            Entry::Refuse(reply) => {
                let reply = refusal(&reply)?;
                self.turn_away(context, &reply);
                Ok(self.go_on(context))
            }
            Entry::Screen { wait_ms: 0 } => Ok(self.say_waited(context, false)),
            Entry::Screen { wait_ms } => {
                self.wait_for_limiter(context, Stage::Greeting { wait_ms: wait_ms.min(MAX_WAIT_MS) });
                Ok(self.listen_early(context))
            }
            Entry::Condemn(reply) => {
                self.limited.standing = Some(Box::new(Standing::Condemned(refusal(&reply)?)));
                Ok(self.go_on_unlimited(context))
            }
            Entry::Test => {
                self.watch(context);
                Ok(self.go_on_unlimited(context))
            }
        }
    }

    /// The limiter has spoken about a command.
    ///
    /// # Errors
    /// It said what nobody may say: the edge is to be dropped.
    pub fn on_spent(&mut self, context: &mut Context<'_>, spent: &Spent) -> Result<Fate, ChannelError> {
        if self.was_owed(context) || self.asking != Asking::Limiter(Stage::Spend) {
            return Ok(Fate::Stay);
        }
        let asked = match (self.topic, &self.transaction) {
            (Some(Topic::Recipients), Some(transaction)) => transaction.batch.len(),
            _ => 1,
        };
        let refusal = spent.refusal.as_ref().map(refusal).transpose()?;
        let granted = spent.granted as usize;
        let fits = if refusal.is_some() { granted < asked } else { granted == asked };
        if !fits {
            return Err(misbehaved("granted another number than it was asked for"));
        }
        match refusal {
            Some(reply) if granted == 0 => {
                context.services.figures.limited += 1;
                match self.topic {
                    Some(Topic::Recipients) => self.refuse_recipients(context, &reply),
                    _ => self.answer(context, Verdict::Refuse(reply)),
                }
                return Ok(self.go_on(context));
            }
            Some(reply) => {
                context.services.figures.limited += 1;
                if let Some(transaction) = &mut self.transaction {
                    transaction.batch.truncate(granted);
                    transaction.beyond = Some((asked - granted, reply));
                }
            }
            None => {}
        }
        if spent.delay_ms > 0 {
            self.wait_for_limiter(context, Stage::Delay { ms: spent.delay_ms.min(MAX_WAIT_MS) });
            return Ok(Fate::Stay);
        }
        Ok(self.go_on_unlimited(context))
    }

    /// Time is up for the limiter, or for a wait that it wanted.
    pub(super) fn on_limiter_due(&mut self, context: &mut Context<'_>, stage: Stage) -> Fate {
        match stage {
            Stage::Greeting { .. } => return self.say_waited(context, false),
            Stage::Delay { .. } => {}
            Stage::Unknown => context.services.limiter.was_silent(),
            Stage::Entry | Stage::Screening | Stage::Spend => {
                context.services.limiter.was_silent();
                self.limited.owing = context.services.limiter.key();
            }
        }
        self.go_on_unlimited(context)
    }

    /// True if a question of this session is with the limiter.
    pub fn awaits_limiter(&self) -> bool {
        matches!(
            self.asking,
            Asking::Limiter(Stage::Unknown | Stage::Entry | Stage::Screening | Stage::Spend)
        )
    }

    /// The limiter that has the question is gone.
    pub fn on_limiter_lost(&mut self, context: &mut Context<'_>) -> Fate {
        if self.awaits_limiter() { self.go_on_unlimited(context) } else { Fate::Stay }
    }

    /// True if the client waits to hear what the limiter wants.
    pub fn awaits_wanted(&self) -> bool {
        self.asking == Asking::Limiter(Stage::Unknown)
    }

    /// The limiter has said what it wants to hear of.
    pub fn on_wanted(&mut self, context: &mut Context<'_>) -> Fate {
        self.limited.consulted = false;
        self.go_on_unlimited(context)
    }

    /// A limiter wants to know of all connections: one that it does not count yet is said to be there.
    pub fn present(&mut self, context: &mut Context<'_>) {
        let limiter = &mut context.services.limiter;
        if let Some(client) = self.limited.client
            && self.limited.counted_by != limiter.key()
        {
            self.limited.counted_by = limiter.key();
            limiter.say(&Ask::Present { ticket: self.number, client });
        }
    }

    /// The session goes on as that of another client, which is at the door from now on.
    pub(super) fn count_as(&mut self, context: &mut Context<'_>, address: IpAddr) {
        self.leave(context);
        let client = (!context.services.settings.exempts(address)).then_some(address);
        self.limited = Limited { owing: self.limited.owing, ..Limited::new(client) };
    }

    /// The session is over: the limiter that counts it counts it no more.
    pub(super) fn leave(&self, context: &mut Context<'_>) {
        let limiter = &mut context.services.limiter;
        if self.limited.counted_by.is_some() && self.limited.counted_by == limiter.key() {
            limiter.say(&Ask::Left { ticket: self.number });
        }
    }

    /// Tells the limiter that this client has done something, if limits hold for it.
    pub(super) fn note(&self, context: &mut Context<'_>, kind: Kind, count: u32) {
        if let Some(client) = self.limited.client {
            context.services.limiter.note(client, kind, count);
        }
    }

    /// Tells the limiter of new errors. How many have come, since it was told last.
    pub(super) fn note_errors(&mut self, context: &mut Context<'_>) -> u32 {
        let errors = self.dialogue.errors();
        let more = errors.saturating_sub(std::mem::replace(&mut self.tally.errors, errors));
        let is_watched = matches!(self.limited.standing.as_deref(), Some(Standing::Watched(_)));
        // That it must come again is not the client's error.
        if more > 0 && !is_watched {
            self.note(context, Kind::Errors, more);
        }
        more
    }

    /// Looks at what a client sent that is watched. False if it broke the protocol, and the session ends.
    pub(super) fn keeps_to_protocol(&mut self, context: &mut Context<'_>, input: &[u8]) -> bool {
        let Some(Standing::Watched(probe)) = self.limited.standing.as_deref_mut() else { return true };
        // What a client says in an exchange of AUTH is no command.
        if input.is_empty() || self.dialogue.waiting() != Waiting::Command || self.exchange.is_some() {
            return true;
        }
        let Some(fault) = probe.look(input) else { return true };
        context.services.figures.protocol_faults += 1;
        Record::new("protocol-fault")
            .field("session", self.number)
            .field("client", self.who)
            .maybe("helo", self.hello.as_ref().map(|hello| hello.name.as_str()))
            .field("fault", fault.name())
            .emit();
        self.dialogue.close(Own::ProtocolFault);
        false
    }

    /// While a client must keep quiet: has it said anything, or gone?
    pub(super) fn listen_early(&mut self, context: &mut Context<'_>) -> Fate {
        if !self.line.readable || !matches!(self.asking, Asking::Limiter(Stage::Greeting { .. })) {
            return Fate::Stay;
        }
        let mut buffer = std::mem::take(&mut context.services.buffer);
        let moved = self.socket.read(&mut context.services.raw, &mut buffer);
        let early = match moved {
            Moved::Some(count) => buffer.get(..count).unwrap_or_default(),
            Moved::Blocked | Moved::Ended(_) => &[],
        };
        // The dialogue keeps it for later: a client whose haste is only noted is heard out.
        let _ = self.dialogue.advance(early, &mut Vec::new());
        let filled = early.len() == buffer.len();
        context.services.buffer = buffer;
        match moved {
            Moved::Some(_) => {
                self.line.readable = filled || self.line.ending || self.socket.has_more();
                self.say_waited(context, true)
            }
            Moved::Blocked => {
                self.line.readable = self.socket.has_more();
                Fate::Stay
            }
            Moved::Ended(end) => Fate::Gone(end.into()),
        }
    }

    fn say_waited(&mut self, context: &mut Context<'_>, early: bool) -> Fate {
        if !context.services.limiter.ask(&Ask::Waited { ticket: self.number, early }) {
            return self.go_on_unlimited(context);
        }
        self.wait_for_limiter(context, Stage::Screening);
        Fate::Stay
    }

    /// The session begins anew, without PIPELINING, under watch.
    fn watch(&mut self, context: &mut Context<'_>) {
        self.limited.standing = Some(Box::new(Standing::Watched(Probe::default())));
        self.dialogue.restart(Arc::clone(context.services.settings.watched(self.manner)));
        // It asks about the connection once more, which is being answered.
        let _ = self.dialogue.advance(&[], &mut Vec::new());
    }

    /// One of too many: nothing for the log of people, since there may be thousands. The limiter's says it once.
    fn turn_away(&mut self, context: &mut Context<'_>, reply: &Reply) {
        context.services.figures.turned_away += 1;
        Record::at(log::Level::Debug, "turned-away")
            .field("client", self.who)
            .field("limit", "client")
            .field("reply", reply)
            .emit();
        self.asking = Asking::Nothing;
        let verdict = Verdict::Close(reply.clone());
        if self.topic.take() == Some(Topic::Door) {
            return self.let_in(context, &verdict);
        }
        let _ = self.dialogue.answer(verdict);
    }

    fn go_on_unlimited(&mut self, context: &mut Context<'_>) -> Fate {
        self.asking = Asking::Nothing;
        self.proceed(context);
        self.go_on(context)
    }

    /// True if the answer was one that nobody waits for any more. A limiter that is gone owes nothing.
    fn was_owed(&mut self, context: &Context<'_>) -> bool {
        let owing = self.limited.owing.take();
        owing.is_some() && owing == context.services.limiter.key()
    }
}

fn first_contact() -> Reply {
    Reply::fixed(450, EnhancedCode(4, 3, 2), "First contact, please try again in a moment")
}

fn refusal(wire: &wire::Reply) -> Result<Reply, ChannelError> {
    let reply = Reply::try_from(wire)?;
    if reply.is_transient() || reply.is_permanent() {
        Ok(reply)
    } else {
        Err(misbehaved("refused with a reply that refuses nothing"))
    }
}
