//! queue-manager → filter (post). The queue-manager asks, the filter answers; only `Wanted` comes unasked, first of all.
//! At most [`CREDITS`] in flight. A verdict's edits are committed as the message's next revision before any attempt.

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::edge::filter_queue::Disposition;
use crate::wire::{Body, Envelope, Expanded, Id, Notice, Origin, Piece, Reports};

/// Questions in flight.
pub const CREDITS: u32 = 64;
/// Most directives that are named with their services.
pub const MAX_DELEGATES: usize = 256;

/// Which rules to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum PostStage {
    /// None: only the routing tables are asked.
    Routing,
    /// After the message was accepted, once.
    Postq,
    /// Before the first attempt, once.
    Delivery,
    /// None, for it is a report of ours: the routing tables are asked, and it is signed.
    Report,
}

/// A question.
#[derive(Debug, Encode, Decode)]
pub struct PostAsk {
    /// Comes back in the verdict.
    pub ticket: u64,
    /// The message.
    pub id: Id,
    /// Which rules.
    pub stage: PostStage,
    /// An operator wants policy to decide anew: the routing tables choose the next hops again, before any rule.
    pub reroute: bool,
    /// The envelope of the present revision.
    pub envelope: Envelope,
    /// Where it came from.
    pub origin: Origin,
    /// When it was received, in milliseconds since 1970.
    pub arrived_ms: u64,
    /// It was with a service: the rules of the stage go on in their midst.
    pub resume: Option<Resume>,
    /// The bytes of the present revision. `Memfd` and `File` bring one descriptor.
    pub body: Body,
}

/// Where rules go on after a service has had the message, or was to have it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Resume {
    /// At this directive; at most [`vsmtp_mail::MAX_DELEGATE_NAME`] octets.
    pub directive: String,
    /// The service has failed: behind it.
    pub skip: bool,
    /// A rule before wants the message held when all is done, and why; may be empty.
    pub hold: Option<String>,
}

/// An answer.
#[derive(Debug, Encode, Decode)]
pub enum PostVerdict {
    /// First of all: which stages have rules.
    Wanted {
        /// Ask at postq.
        postq: bool,
        /// Ask at delivery.
        delivery: bool,
        /// Who delegates to whom: what is with somebody else is begun anew. At most [`MAX_DELEGATES`]; `None` if there are
        /// more.
        delegates: Option<Vec<(String, std::net::SocketAddr)>>,
    },
    /// Go on as it is.
    Keep {
        /// Of the question.
        ticket: u64,
        /// The rules of later stages are not to be asked.
        is_final: bool,
    },
    /// Go on changed.
    Edit {
        /// Of the question.
        ticket: u64,
        /// The new envelope.
        envelope: Envelope,
        /// Aliases for several of which the sender wants to hear.
        expanded: Vec<Expanded>,
        /// Mails that rules want sent about it.
        notices: Vec<Notice>,
        /// What becomes of the message.
        disposition: Disposition,
        /// How its bytes are put together now; empty: unchanged.
        pieces: Vec<Piece>,
    },
    /// Refused after acceptance: all recipients fail with this text and a bounce is due.
    Refuse {
        /// Of the question.
        ticket: u64,
        /// Text of the report.
        reply: crate::wire::Reply,
        /// What rules have asked of reports.
        reports: Reports,
    },
    /// No verdict (script error, overload): ask again later.
    Unavailable {
        /// Of the question.
        ticket: u64,
    },
}

impl Message for PostAsk {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self.body, Body::Memfd(_) | Body::File(_)))
    }
}

impl Message for PostVerdict {}

/// The queue-manager's end.
pub type QueueEnd = Channel<PostAsk, PostVerdict>;
/// The filter's end.
pub type FilterEnd = Channel<PostVerdict, PostAsk>;
