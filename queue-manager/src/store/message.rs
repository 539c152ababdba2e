//! What the store keeps of a message: envelope, progress of each recipient, disposition, origin, pieces. These are the
//! store's own nouns; how they look on disk is `encode.rs`'s business.

use std::net::IpAddr;

use vsmtp_mail::{DeliverBy, EnhancedCode, Envelope, Priority, QueueId, Service, Terms};

use super::codec::cut_at;
use super::delegation::Delegation;

/// Longest free text that the store keeps of a peer's answer, a reason or a name, in octets.
pub const MAX_TEXT: usize = 1024;
/// Most pieces of one message.
pub const MAX_PIECES: usize = 256;

/// A text without control characters, at most [`MAX_TEXT`] octets: what logs and tables can print as it is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Text(Box<str>);

impl Text {
    /// Control characters become `?`; what is too long is cut.
    pub fn new(text: &str) -> Self {
        if text.len() <= MAX_TEXT && !text.chars().any(char::is_control) {
            return Text(text.into());
        }
        Text(vsmtp_mail::escape_text(cut_at(text, MAX_TEXT)).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text::new(text)
    }
}

/// Whether a message is up for delivery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Disposition {
    /// It is.
    #[default]
    Active,
    /// An operator or a rule stopped it, for this reason.
    Hold(Text),
    /// A rule put it aside under this name.
    Quarantine(Text),
    /// Nothing can be done with it any more, for this reason; an operator may look at it.
    Dead(Text),
    /// A service is to see it, sees it, or has seen it, and rules go on then.
    Delegated(Box<Delegation>),
}

impl Disposition {
    /// True for [`Disposition::Active`].
    pub fn is_active(&self) -> bool {
        matches!(self, Disposition::Active)
    }

    /// False if it stays until an operator acts.
    pub fn goes_on(&self) -> bool {
        matches!(self, Disposition::Active | Disposition::Delegated(_))
    }

    /// What is known of its service, if it is delegated.
    pub fn delegation(&self) -> Option<&Delegation> {
        match self {
            Disposition::Delegated(delegation) => Some(delegation),
            _ => None,
        }
    }
}

/// Where a message came from, for logs and trace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The receiver's session id.
    pub session: Text,
    /// The client's address; none for a local submission or a bounce.
    pub client: Option<IpAddr>,
    /// What the client called itself.
    pub helo: Text,
    /// `ESMTP`, `ESMTPS`, `local`, `bounce`...
    pub protocol: Text,
    /// The authenticated identity.
    pub identity: Option<Text>,
    /// What the client came for, if that is known.
    pub service: Option<Service>,
}

/// A next hop's last word about one recipient: what RFC 3464 wants in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// `Status:` of the report.
    pub status: EnhancedCode,
    /// The remote host, if one answered.
    pub remote: Option<Text>,
    /// Its reply on one line, or our own reason.
    pub text: Text,
}

/// How far one recipient has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientState {
    /// Not settled.
    Waiting {
        /// Attempts so far.
        attempts: u16,
        /// Do not try before, in seconds since 1970; 0 for at once.
        until: u64,
        /// Why the last attempt did not settle it.
        last: Option<Diagnostic>,
    },
    /// The next hop took it.
    Delivered(Option<Diagnostic>),
    /// It will not be tried again.
    Failed(Diagnostic),
}

impl RecipientState {
    /// A recipient that was never tried.
    pub const FRESH: RecipientState = RecipientState::Waiting { attempts: 0, until: 0, last: None };

    /// True if no attempt will follow.
    pub fn is_settled(&self) -> bool {
        !matches!(self, RecipientState::Waiting { .. })
    }

    pub(super) fn brief(&self) -> RecipientBrief {
        match self {
            RecipientState::Waiting { attempts, until, .. } => {
                RecipientBrief { settled: None, attempts: *attempts, until: *until }
            }
            RecipientState::Delivered(_) => {
                RecipientBrief { settled: Some(Settled::Delivered), attempts: 0, until: 0 }
            }
            RecipientState::Failed(_) => {
                RecipientBrief { settled: Some(Settled::Failed), attempts: 0, until: 0 }
            }
        }
    }
}

/// How a recipient was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The next hop took it.
    Delivered,
    /// It was given up.
    Failed,
}

/// What the schedule needs of a [`RecipientState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecipientBrief {
    /// None while attempts may follow.
    pub settled: Option<Settled>,
    /// Attempts so far.
    pub attempts: u16,
    /// Do not try before, in seconds since 1970.
    pub until: u64,
}

/// What has been done once for a message and must not be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// Post-queue rules have judged it.
    pub judged: bool,
    /// The sender was told of a delay.
    pub delay_reported: bool,
    /// It is to be given up at the next look.
    pub expired: bool,
    /// The routing tables are to choose its next hops anew before the next attempt.
    pub reroute: bool,
}

impl Marks {
    /// All of them.
    pub(super) const ALL: u8 = 15;

    /// One bit for each, as on disk.
    pub(super) fn bits(self) -> u8 {
        u8::from(self.judged)
            | u8::from(self.delay_reported) << 1
            | u8::from(self.expired) << 2
            | u8::from(self.reroute) << 3
    }

    /// From those bits; others are ignored.
    pub(super) fn from_bits(bits: u8) -> Self {
        Marks {
            judged: bits & 1 != 0,
            delay_reported: bits & 2 != 0,
            expired: bits & 4 != 0,
            reroute: bits & 8 != 0,
        }
    }

    /// Applies what a change of the whole message means for them.
    pub(super) fn change(&mut self, change: &StateChange) {
        match change {
            StateChange::Disposition(_) => {}
            StateChange::DelayReported => self.delay_reported = true,
            StateChange::Judged => (self.judged, self.reroute) = (true, false),
            StateChange::Expire => self.expired = true,
            StateChange::Requeue => {
                let delay_reported = self.delay_reported;
                *self = Marks { delay_reported, reroute: true, ..Marks::default() };
            }
        }
    }
}

/// One part of the message as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These octets.
    Inline(Box<[u8]>),
    /// A range of the body as it was stored.
    Stored {
        /// First octet.
        offset: u64,
        /// Octets.
        len: u64,
    },
}

impl Piece {
    /// Octets that this piece gives.
    pub fn len(&self) -> u64 {
        match self {
            Piece::Inline(bytes) => bytes.len() as u64,
            Piece::Stored { len, .. } => *len,
        }
    }

    /// True if it gives none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the schedule needs of a message's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// How urgent it is.
    pub priority: Priority,
    /// Milliseconds behind its arrival and its wait at which it fails; none if the queue's own lifetime holds.
    pub lifetime_ms: Option<u64>,
    /// Milliseconds after its arrival before which nothing is tried; its age begins then.
    pub wait_ms: u64,
    /// Milliseconds behind its arrival and its wait at which its sender is told that it is late; none if the queue's own
    /// time holds.
    pub late_ms: Option<u64>,
    /// Nothing at all is tried behind its lifetime.
    pub is_strict: bool,
}

impl Timing {
    /// Of a message with these terms that arrived then, in milliseconds since 1970.
    pub fn new(terms: &Terms, arrival_ms: u64) -> Self {
        let not_before_ms = terms.not_before_s.unwrap_or(0).saturating_mul(1000);
        let by = terms.by;
        let after_ms = |by: DeliverBy| u64::try_from(by.seconds).unwrap_or(0) * 1000;
        let returns_ms = by.filter(|by| by.returns).map(after_ms);
        let own_ms = terms.lifetime_s.map(|lifetime_s| u64::from(lifetime_s) * 1000);
        Timing {
            wait_ms: not_before_ms.saturating_sub(arrival_ms),
            priority: terms.priority,
            lifetime_ms: own_ms.into_iter().chain(returns_ms).min(),
            late_ms: by.filter(|by| !by.returns).map(after_ms),
            is_strict: returns_ms.is_some(),
        }
    }

    /// The same without the wait: it ends when it would have ended with it.
    pub fn at_once(self) -> Self {
        let later = |ms: u64| ms.saturating_add(self.wait_ms);
        let (lifetime_ms, late_ms) = (self.lifetime_ms.map(later), self.late_ms.map(later));
        Timing { wait_ms: 0, lifetime_ms, late_ms, ..self }
    }
}

/// All that the store knows of a message besides its id and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageState {
    /// When it was accepted, in milliseconds since 1970.
    pub arrival_ms: u64,
    /// Whether it is up for delivery.
    pub disposition: Disposition,
    /// What has been done once.
    pub marks: Marks,
    /// Where it came from.
    pub origin: Origin,
    /// Sender and recipients.
    pub envelope: Envelope,
    /// One per recipient, in the envelope's order.
    pub progress: Vec<RecipientState>,
    /// The message as it goes out, if that is not the stored body as it is.
    pub pieces: Option<Vec<Piece>>,
}

impl MessageState {
    /// A message that nothing has happened to yet.
    pub fn fresh(arrival_ms: u64, origin: Origin, envelope: Envelope) -> Self {
        let progress = vec![RecipientState::FRESH; envelope.recipients.len()];
        MessageState {
            arrival_ms,
            disposition: Disposition::Active,
            marks: Marks::default(),
            origin,
            envelope,
            progress,
            pieces: None,
        }
    }

    /// Applies one change as recovery does. Results for recipients that do not exist are ignored.
    pub fn apply(&mut self, results: &[(u32, RecipientState)]) {
        for (at, state) in results {
            if let Some(slot) = usize::try_from(*at).ok().and_then(|at| self.progress.get_mut(at)) {
                slot.clone_from(state);
            }
        }
    }

    /// Applies a change of the whole message.
    pub fn change(&mut self, change: &StateChange) {
        self.marks.change(change);
        match change {
            StateChange::Disposition(disposition) => self.disposition.clone_from(disposition),
            StateChange::DelayReported | StateChange::Judged | StateChange::Expire => {}
            StateChange::Requeue => {
                self.disposition = Disposition::Active;
                for state in self.progress.iter_mut().filter(|state| !state.is_settled()) {
                    *state = RecipientState::FRESH;
                }
            }
        }
    }

    /// True if every recipient is settled.
    pub fn is_settled(&self) -> bool {
        self.progress.iter().all(RecipientState::is_settled)
    }
}

/// A change of a message as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// Hold, release, quarantine, dead.
    Disposition(Disposition),
    /// Active again, attempts forgotten, to be routed and judged again.
    Requeue,
    /// Give it up at the next look.
    Expire,
    /// The sender was told of a delay.
    DelayReported,
    /// Post-queue rules and the routing tables have seen it and changed nothing.
    Judged,
}

/// Why a message left the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveReason {
    /// Every recipient is settled.
    Settled,
    /// An operator deleted it.
    Deleted,
    /// A rule discarded it.
    Discarded,
}

/// A message as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: QueueId,
    /// Octets of the stored body.
    pub stored_len: u64,
    /// All else.
    pub state: MessageState,
}

impl Message {
    /// Octets of the message as it goes out.
    pub fn len(&self) -> u64 {
        self.state.pieces.as_ref().map_or(self.stored_len, |pieces| pieces.iter().map(Piece::len).sum())
    }

    /// True if there is no octet at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
