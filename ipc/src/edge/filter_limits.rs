//! filter → limits. The filter asks what rules want to count; each question is answered once, in order, from memory. At most
//! [`CREDITS`] in flight. A filter that gets no answer in time goes on as if nothing were limited.

use bincode::{Decode, Encode};

use crate::channel::{Channel, Message};
use crate::wire::WireError;

/// Questions in flight.
pub const CREDITS: u32 = 256;
/// Longest name of a rate, in octets.
pub const MAX_NAME: usize = 64;
/// Longest key, in octets: an address at its longest, and words beside it.
pub const MAX_KEY: usize = 512;
/// Highest limit of a rate.
pub const MAX_LIMIT: u32 = 1_000_000_000;
/// Longest period of a rate, in seconds: a week.
pub const MAX_PERIOD_S: u32 = 7 * 86_400;

/// From the filter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Ask {
    /// May this happen so often more? Counted if it may.
    Take {
        /// Comes back in the answer.
        ticket: u64,
        /// What is counted, and how far.
        taking: Taking,
    },
}

/// What is counted, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Taking {
    /// The name that the rule gave to the rate, 1 to [`MAX_NAME`] octets and no NUL.
    pub name: String,
    /// Of whom or what, at most [`MAX_KEY`] octets.
    pub key: String,
    /// Most in a period, 1 to [`MAX_LIMIT`].
    pub limit: u32,
    /// The period in seconds, 1 to [`MAX_PERIOD_S`]. It slides.
    pub period_s: u32,
    /// How many are wanted, all or none; 0 to hear only what is left.
    pub count: u32,
}

impl Taking {
    /// True if every field is within its bounds.
    ///
    /// # Errors
    /// Which is not.
    pub fn check(&self) -> Result<(), WireError> {
        let fields = [
            ("name", (1..=MAX_NAME).contains(&self.name.len()) && !self.name.contains('\0')),
            ("key", self.key.len() <= MAX_KEY),
            ("limit", (1..=MAX_LIMIT).contains(&self.limit)),
            ("period", (1..=MAX_PERIOD_S).contains(&self.period_s)),
        ];
        fields
            .into_iter()
            .try_for_each(|(field, is_fine)| if is_fine { Ok(()) } else { Err(WireError(field)) })
    }
}

/// To `Take`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Taken {
    /// All that were wanted are granted; otherwise none.
    pub granted: bool,
    /// How many are left now.
    pub left: u32,
}

/// From the limiter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To `Take`.
    Taken {
        /// Of the question.
        ticket: u64,
        /// What became of it.
        taken: Taken,
    },
}

impl Message for Ask {}
impl Message for Answer {}

/// The filter's end.
pub type FilterEnd = Channel<Ask, Answer>;
/// The limiter's end.
pub type LimitsEnd = Channel<Answer, Ask>;
