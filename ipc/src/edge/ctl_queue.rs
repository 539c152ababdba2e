//! vsmtpctl → queue-manager, over `/run/vsmtp/queue`. The queue-manager checks the peer's credentials before it reads. One
//! request in flight per connection; lists come in pages, and a page is sent only when the one before was taken.

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::edge::master_child::Figure;
use crate::wire::Id;

/// Most entries in one page.
pub const PAGE: u32 = 200;

/// Which messages.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Selection {
    /// This one.
    One(Id),
    /// All that are in this state, or all at all.
    All(Option<State>),
}

/// Where a message is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum State {
    /// Waiting for its first attempt, or being attempted.
    Active,
    /// Waiting for its next attempt.
    Deferred,
    /// Held by policy or an operator.
    Held,
    /// Kept by policy under a name.
    Quarantined,
    /// Given up, and no bounce could be made.
    Dead,
    /// Given to a service, or waiting for it.
    Delegated,
}

/// A request.
#[derive(Debug, Encode, Decode)]
pub enum Request {
    /// A page of entries behind `after`, in order of id.
    List {
        /// Only these.
        state: Option<State>,
        /// The last id of the page before.
        after: Option<Id>,
        /// At most [`PAGE`].
        limit: u32,
    },
    /// All about one message.
    Show(Id),
    /// The bytes of one message: answered by one descriptor.
    Cat(Id),
    /// Keep from being delivered.
    Hold(Selection),
    /// Undo a hold or a quarantine.
    Release(Selection),
    /// Try now.
    Flush(Selection),
    /// Remove without a trace but the log line.
    Delete(Selection),
    /// Have policy decide again, and forget past attempts.
    Requeue(Selection),
    /// Counts.
    Stats,
    /// A page of next hops with something to do, or with a memory of trouble.
    Destinations {
        /// The last number of the page before.
        after: Option<u32>,
        /// At most [`PAGE`].
        limit: u32,
    },
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// The message.
    pub id: Id,
    /// Where it is in its life.
    pub state: State,
    /// Name of its quarantine, if any.
    pub quarantine: String,
    /// Why it is held or dead; empty if it is neither.
    pub reason: String,
    /// How urgent it is, from -9 to 9.
    pub priority: i8,
    /// When it fails if it was given a lifetime of its own, in milliseconds since 1970; 0 if it was not.
    pub expires_ms: u64,
    /// Octets.
    pub size: u64,
    /// When it arrived, in milliseconds since 1970.
    pub arrived_ms: u64,
    /// When it is tried next, in milliseconds since 1970; 0 if never.
    pub next_attempt_ms: u64,
    /// Empty for the null sender.
    pub reverse_path: String,
    /// Unsettled recipients, at most a handful in lists; `recipients_total` has the count.
    pub recipients: Vec<EntryRecipient>,
    /// How many are unsettled.
    pub recipients_total: u32,
}

/// One recipient of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EntryRecipient {
    /// The mailbox.
    pub address: String,
    /// Text form of its next hop.
    pub next_hop: String,
    /// `waiting`, `deferred`, `delivered`, `failed`.
    pub status: String,
    /// Attempts so far.
    pub attempts: u32,
    /// Latest diagnostic.
    pub diagnostic: String,
}

/// How one next hop stands.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Destination {
    /// Its place in the order of the pages.
    pub number: u32,
    /// Text form.
    pub next_hop: String,
    /// How it is.
    pub condition: Condition,
    /// Messages with something for it.
    pub messages: u64,
    /// Attempts under way.
    pub attempts: u32,
    /// Attempts that it gets at a time at present.
    pub concurrency: u32,
    /// When the next attempt may begin, in milliseconds since 1970; 0 for at any time.
    pub next_attempt_ms: u64,
    /// Why nobody could be reached lately; empty if somebody was.
    pub reason: String,
}

/// How a next hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Condition {
    /// It takes mail, as far as we know.
    Up,
    /// It has had all that its rate allows for now.
    Limited,
    /// Its host asked for a pause.
    Resting,
    /// Nobody could be reached, and it is left alone for a while.
    Dead,
}

/// An answer.
#[derive(Debug, Encode, Decode)]
pub enum Answer {
    /// To `List`; fewer than asked for means the end.
    Page(Vec<Entry>),
    /// To `Show`.
    Shown(Entry),
    /// To `Cat`: a read-only descriptor with this many octets.
    Body(u64),
    /// So many messages were changed.
    Changed(u64),
    /// To `Stats`.
    Stats(Vec<Figure>),
    /// To `Destinations`; fewer than asked for means the end.
    Destinations(Vec<Destination>),
    /// Not done, with the reason.
    Failed(String),
}

impl Message for Request {}

impl Message for Answer {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Answer::Body(_)))
    }
}

/// The tool's end.
pub type CtlEnd = Channel<Request, Answer>;
/// The queue-manager's end.
pub type QueueEnd = Channel<Answer, Request>;
