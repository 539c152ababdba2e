//! filter → limits. The filter asks what rules want to count and whom they have wait; each question is answered once, in order, from memory. At most
//! [`CREDITS`] in flight. A filter that gets no answer in time goes on as if nothing were limited.

use std::net::IpAddr;

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
/// Longest address of a triple, in octets. One of 254 octets grows when it is written in lower case, or quoted: to 320 at most.
pub const MAX_ADDRESS: usize = 512;
/// Longest time of greylisting, in seconds: a year.
pub const MAX_LIFETIME_S: u32 = 366 * 86_400;
/// Most triples of one `Accepted`.
pub const MAX_TRIPLES: usize = 100;

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
    /// Has this triple waited long enough? Begins its wait if it was never seen.
    Greylist {
        /// Comes back in the answer.
        ticket: u64,
        /// Who writes to whom.
        triple: Triple,
        /// How long it waits.
        terms: Terms,
    },
    /// A message of these triples was accepted: they need not wait again.
    Accepted {
        /// Comes back in the answer.
        ticket: u64,
        /// At most [`MAX_TRIPLES`], each with its terms.
        triples: Vec<(Triple, Terms)>,
    },
}

/// Who writes to whom: what greylisting remembers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Triple {
    /// The client's network, by its first address.
    pub client: IpAddr,
    /// The sender, at most [`MAX_ADDRESS`] octets.
    pub sender: String,
    /// The recipient, at most [`MAX_ADDRESS`] octets.
    pub recipient: String,
}

impl Triple {
    /// One that is within its bounds, whatever the addresses are: what is longer is cut, and a NUL is left out.
    pub fn fitting(client: IpAddr, sender: &str, recipient: &str) -> Self {
        let fit = |text: &str| {
            let text = text.replace('\0', "");
            text.get(..text.floor_char_boundary(MAX_ADDRESS)).unwrap_or_default().to_owned()
        };
        Triple { client, sender: fit(sender), recipient: fit(recipient) }
    }

    /// True if every field is within its bounds.
    ///
    /// # Errors
    /// Which is not.
    pub fn check(&self) -> Result<(), WireError> {
        let is_fine = |text: &str| text.len() <= MAX_ADDRESS && !text.contains('\0');
        if is_fine(&self.sender) && is_fine(&self.recipient) { Ok(()) } else { Err(WireError("triple")) }
    }
}

/// How long a triple waits, and is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Terms {
    /// Seconds before it is let in.
    pub delay_s: u32,
    /// Seconds from when it was first seen, in which it must come again.
    pub window_s: u32,
    /// Seconds for which one that was let in is remembered, from its latest message on.
    pub lifetime_s: u32,
    /// So many triples of a client that waited let in all others of it; 0 for never.
    pub known_after: u32,
}

impl Terms {
    /// True if every field is within its bounds.
    ///
    /// # Errors
    /// Which is not.
    pub fn check(&self) -> Result<(), WireError> {
        let is_fine = |seconds: u32| (1..=MAX_LIFETIME_S).contains(&seconds);
        let all = [self.delay_s, self.window_s, self.lifetime_s].into_iter().all(is_fine);
        if all { Ok(()) } else { Err(WireError("terms")) }
    }
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
    /// To `Greylist`.
    Greylisted {
        /// Of the question.
        ticket: u64,
        /// Seconds that it still waits; 0 if it is let in.
        wait_s: u32,
    },
    /// To `Accepted`.
    Noted {
        /// Of the question.
        ticket: u64,
    },
}

impl Message for Ask {}
impl Message for Answer {}

/// The filter's end.
pub type FilterEnd = Channel<Ask, Answer>;
/// The limiter's end.
pub type LimitsEnd = Channel<Answer, Ask>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_triple_is_made_to_fit_whatever_the_addresses_are() {
        let client = IpAddr::from([192, 0, 2, 0]);
        let (long, odd) = ("x".repeat(MAX_ADDRESS + 1), format!("a{}", "\u{130}".repeat(MAX_ADDRESS)));
        for (sender, recipient) in [(&*long, &*odd), (&odd, &long), ("a\0b", ""), ("a@b.test", "c@d.test")] {
            assert_eq!(Triple::fitting(client, sender, recipient).check(), Ok(()));
        }
        let triple = Triple::fitting(client, &odd, "a\0b");
        assert_eq!((triple.sender.len(), &*triple.recipient), (MAX_ADDRESS - 1, "ab"));
    }
}
