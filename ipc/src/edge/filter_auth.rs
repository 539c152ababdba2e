//! filter (session) → auth. The filter asks who stands behind a grant that a receiver has shown, and whether a password is
//! right; the helper answers each question once, in any order. `Settle` is not answered. At most [`CREDITS`] in flight.

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::role::ProcessName;
use crate::wire::Grant;

/// Questions in flight.
pub const CREDITS: u32 = 256;

/// What the filter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Ask {
    /// Whose grant is this?
    Confirm {
        /// Comes back in the answer.
        ticket: u64,
        /// Who has shown it: a grant is good for the receiver that it was made for.
        receiver: ProcessName,
        /// The grant.
        grant: Grant,
    },
    /// Is the password that came with this grant the one of a user of this system? It is there for a short time only.
    Verify {
        /// Comes back in the answer.
        ticket: u64,
        /// The grant.
        grant: Grant,
    },
    /// The rules have judged the identity.
    Settle {
        /// The grant.
        grant: Grant,
        /// False: it is void from now on, and counts as a failure of its client.
        accepted: bool,
    },
}

/// What the helper says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To `Confirm`; `None` if there is no such grant.
    Confirmed {
        /// Of the question.
        ticket: u64,
        /// Who it is.
        identity: Option<Identity>,
    },
    /// To `Verify`.
    Verified {
        /// Of the question.
        ticket: u64,
        /// What was found.
        verified: Verified,
    },
}

/// Who stands behind a grant.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Identity {
    /// The name that was authenticated.
    pub name: String,
    /// The mechanism.
    pub mechanism: String,
    /// A back-end vouches for it. False: nobody but the rules has judged it.
    pub vouched: bool,
    /// The rules have accepted it.
    pub settled: bool,
}

/// What became of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Verified {
    /// It is right.
    Right,
    /// It is wrong, or there is no such user.
    Wrong,
    /// Nobody could be asked, or the password is forgotten already.
    Unavailable,
}

impl Message for Ask {}
impl Message for Answer {}

/// The filter's end.
pub type FilterEnd = Channel<Ask, Answer>;
/// The helper's end.
pub type AuthEnd = Channel<Answer, Ask>;
