//! receiver → limits. The limiter speaks first: [`Answer::Wanted`], and again whenever its configuration changes. Then the
//! receiver asks and the limiter answers. A receiver that gets no answer in time goes on without one.
//!
//! At most one question in flight per session, at most [`CREDITS`] on the edge. What the receiver says of a client's
//! address is taken on its word.

use std::net::IpAddr;

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::wire::Reply;

/// Questions in flight. A client that is being screened keeps one for seconds.
pub const CREDITS: u32 = 16_384;
/// Most sessions that one receiver may have told the limiter of.
pub const MAX_OPEN: usize = 65_536;
/// Longest wait before a greeting, and longest delay of one reply, in milliseconds.
pub const MAX_WAIT_MS: u32 = 60_000;

/// What is counted of a client in each window, besides the sessions that it has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Kind {
    /// Connections begun.
    Connections,
    /// MAIL commands.
    Messages,
    /// RCPT commands.
    Recipients,
    /// Replies that say that the client did something wrong.
    Errors,
    /// TLS handshakes.
    Handshakes,
    /// Refused passwords.
    AuthFailures,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Kind; 6] = [
        Kind::Connections,
        Kind::Messages,
        Kind::Recipients,
        Kind::Errors,
        Kind::Handshakes,
        Kind::AuthFailures,
    ];

    /// The word in logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Connections => "connections",
            Kind::Messages => "messages",
            Kind::Recipients => "recipients",
            Kind::Errors => "errors",
            Kind::Handshakes => "handshakes",
            Kind::AuthFailures => "auth-failures",
        }
    }
}

/// From the receiver. `ticket` is the number of a session; it comes back in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Ask {
    /// A client is at the door, and has not been greeted. Answered by `Entered`. Unless that refuses it, the session is
    /// open until `Left`.
    Connect {
        /// The session.
        ticket: u64,
        /// Its client.
        client: IpAddr,
        /// It may be tested before it is greeted.
        screen: bool,
    },
    /// The wait of `Entry::Screen` is over. Answered by `Entered`.
    Waited {
        /// The session.
        ticket: u64,
        /// The client spoke before it was greeted.
        early: bool,
    },
    /// The client of a session wants to do something. Answered by `Spent`.
    Spend {
        /// The session.
        ticket: u64,
        /// Its client.
        client: IpAddr,
        /// What.
        kind: Kind,
        /// How often; 0 to hear only whether it still may.
        count: u32,
    },
    /// A client has done something. Not answered.
    Note {
        /// The client.
        client: IpAddr,
        /// What.
        kind: Kind,
        /// How often.
        count: u32,
    },
    /// A session that was open before this edge was. Not answered.
    Present {
        /// The session.
        ticket: u64,
        /// Its client.
        client: IpAddr,
    },
    /// The client of a session passed the tests of `Entry::Test`. Not answered.
    Passed {
        /// The session.
        ticket: u64,
    },
    /// The session is over. Not answered.
    Left {
        /// The session.
        ticket: u64,
    },
}

/// What the limiter wants to hear of. The rest is not said, so that it costs nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Wanted {
    /// `Connect`.
    pub connect: bool,
    /// `Spend` of messages.
    pub messages: bool,
    /// `Spend` of recipients.
    pub recipients: bool,
    /// `Note` of errors.
    pub errors: bool,
    /// `Spend` of TLS handshakes.
    pub handshakes: bool,
    /// `Spend` and `Note` of refused passwords.
    pub auth_failures: bool,
}

impl Wanted {
    /// True if that kind is to be asked about or noted.
    pub fn kind(&self, kind: Kind) -> bool {
        match kind {
            Kind::Connections => self.connect,
            Kind::Messages => self.messages,
            Kind::Recipients => self.recipients,
            Kind::Errors => self.errors,
            Kind::Handshakes => self.handshakes,
            Kind::AuthFailures => self.auth_failures,
        }
    }
}

/// What becomes of a client at the door.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Entry {
    /// It is greeted.
    Go {
        /// After so many milliseconds, at most [`MAX_WAIT_MS`].
        delay_ms: u32,
    },
    /// It hears this instead of a greeting, and the session ends.
    Refuse(Reply),
    /// It waits, and whether it keeps quiet meanwhile is to be said by `Waited`.
    Screen {
        /// So many milliseconds, at most [`MAX_WAIT_MS`].
        wait_ms: u32,
    },
    /// It is greeted, and hears this at each RCPT.
    Condemn(Reply),
    /// It is greeted, and watched: `Passed` if it keeps to the protocol as far as RCPT, which is answered with "not now".
    Test,
}

/// To `Spend`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Spent {
    /// How many of those that were asked for are granted.
    pub granted: u32,
    /// The reply comes so many milliseconds late, at most [`MAX_WAIT_MS`].
    pub delay_ms: u32,
    /// What is heard about the others; `None` if all are granted.
    pub refusal: Option<Reply>,
}

/// From the limiter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// First of all, and whenever it changes.
    Wanted(Wanted),
    /// To `Connect` and `Waited`.
    Entered {
        /// The session.
        ticket: u64,
        /// What becomes of it.
        entry: Entry,
    },
    /// To `Spend`.
    Spent {
        /// The session.
        ticket: u64,
        /// How much of it.
        spent: Spent,
    },
}

impl Message for Ask {}
impl Message for Answer {}

/// The receiver's end.
pub type ReceiverEnd = Channel<Ask, Answer>;
/// The limiter's end.
pub type LimitsEnd = Channel<Answer, Ask>;
