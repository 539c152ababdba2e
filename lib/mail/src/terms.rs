//! What is asked of the queue for one message beside its delivery: when, how soon, for how long, by whose rules, and
//! how reports on it are worded.

use crate::address::Address;
use crate::domain::Domain;

/// Longest lifetime that a message may be given, in seconds: a hundred days.
pub const MAX_LIFETIME_S: u32 = 100 * 24 * 3600;

/// Longest that a message may be kept back before its first attempt, in seconds: thirty days.
pub const MAX_WAIT_S: u32 = 30 * 24 * 3600;

/// Furthest that BY= may look, ahead or back, in seconds (RFC 2852: nine digits).
pub const MAX_BY_S: i32 = 999_999_999;

/// Most octets of the words of a report.
pub const MAX_REPORT_TEXT: usize = 2048;

/// How urgent a message is among others: from -9 to 9, as RFC 6710 counts it; 0 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Priority(i8);

impl Priority {
    /// The least urgent.
    pub const LEAST: Priority = Priority(-9);
    /// The most urgent.
    pub const MOST: Priority = Priority(9);

    /// `None` if the number is not from -9 to 9.
    pub fn new(number: i64) -> Option<Self> {
        let number = i8::try_from(number).ok()?;
        (Self::LEAST.0..=Self::MOST.0).contains(&number).then_some(Priority(number))
    }

    /// The number.
    pub fn number(self) -> i8 {
        self.0
    }
}

/// What a client asks of the queue in MAIL. Nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// MT-PRIORITY= (RFC 6710).
    pub priority: Priority,
    /// HOLDFOR= or HOLDUNTIL= (RFC 4865).
    pub release: Option<Release>,
    /// BY= (RFC 2852).
    pub by: Option<DeliverBy>,
}

/// By when a message is to be delivered, and what becomes of it if it is not (RFC 2852).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverBy {
    /// Seconds after its arrival, or after the time before which nothing is tried; at most [`MAX_BY_S`]. What is only
    /// notified of may be late from the start.
    pub seconds: i32,
    /// It fails then (`R`); otherwise its sender is told that it is late (`N`), and attempts go on.
    pub returns: bool,
    /// The sender wants to hear of each server that it is relayed to (`T`).
    pub traced: bool,
}

impl DeliverBy {
    /// `None` if it looks too far, or is to fail before it can be tried.
    pub fn new(seconds: i64, returns: bool, traced: bool) -> Option<Self> {
        let seconds =
            i32::try_from(seconds).ok().filter(|seconds| seconds.unsigned_abs() <= MAX_BY_S as u32)?;
        (seconds > 0 || !returns).then_some(DeliverBy { seconds, returns, traced })
    }
}

/// When a message is to be released (RFC 4865).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// So many seconds after it was submitted.
    After(u32),
    /// At this time, in seconds since 1970.
    At(u64),
}

impl Release {
    /// The time in seconds since 1970, for what is submitted at `now_s`; at most [`MAX_WAIT_S`] behind it.
    pub fn time_s(self, now_s: u64) -> u64 {
        let at_s = match self {
            Release::After(seconds) => now_s.saturating_add(seconds.into()),
            Release::At(at_s) => at_s,
        };
        at_s.min(now_s.saturating_add(MAX_WAIT_S.into()))
    }
}

/// Whose rules judge a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RulesOf {
    /// Those for the whole server.
    Root,
    /// Those of this domain for what it sends.
    Outgoing(Domain),
    /// Those of this domain for what stays within it.
    Internal(Domain),
    /// Those of this domain for what it receives.
    Incoming(Domain),
}

/// What is asked of the queue for one message. Nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// How urgent it is.
    pub priority: Priority,
    /// Seconds after its arrival, or behind the time before which nothing is tried, at which it fails, whatever the queue's
    /// own lifetime is; at most [`MAX_LIFETIME_S`].
    pub lifetime_s: Option<u32>,
    /// Nothing is tried before this time, in seconds since 1970; its age, for lifetimes and warnings, begins then.
    pub not_before_s: Option<u64>,
    /// What its client has asked for of that time; reports repeat it, whatever rules have made of it.
    pub release: Option<Release>,
    /// By when it is to be delivered.
    pub by: Option<DeliverBy>,
    /// Whose rules judge it behind the queue; `None` if that was not kept.
    pub rules: Option<RulesOf>,
    /// What a report of failure says to its reader in place of our own words: lines that end in LF, free of other control
    /// characters, at most [`MAX_REPORT_TEXT`] octets.
    pub report_text: Option<Box<str>>,
    /// Whom reports on it name as their author.
    pub report_from: Option<Address>,
}

impl Terms {
    /// By when it is to be delivered, in seconds since 1970, if it arrived at `arrival_s`.
    pub fn deadline_s(&self, arrival_s: u64) -> Option<i64> {
        let begins_s = i64::try_from(self.not_before_s.unwrap_or(0).max(arrival_s)).unwrap_or(i64::MAX);
        self.by.map(|by| begins_s.saturating_add(by.seconds.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_fail_has_time_before_it_does() {
        for (seconds, returns, is_fine) in [
            (1, true, true),
            (0, true, false),
            (-1, true, false),
            (0, false, true),
            (-999_999_999, false, true),
            (999_999_999, true, true),
            (1_000_000_000, true, false),
            (-1_000_000_000, false, false),
            (i64::MIN, false, false),
        ] {
            assert_eq!(DeliverBy::new(seconds, returns, false).is_some(), is_fine, "{seconds} {returns}");
        }
        let by = DeliverBy::new(60, true, false);
        let terms = |not_before_s| Terms { by, not_before_s, ..Terms::default() };
        assert_eq!(terms(None).deadline_s(1000), Some(1060));
        assert_eq!(terms(Some(5000)).deadline_s(1000), Some(5060));
        assert_eq!(terms(Some(u64::MAX)).deadline_s(1000), Some(i64::MAX));
    }

    #[test]
    fn priorities_end_at_nine() {
        assert_eq!(Priority::new(-9), Some(Priority::LEAST));
        assert_eq!(Priority::new(9), Some(Priority::MOST));
        assert_eq!(Priority::default().number(), 0);
        for wrong in [-10, 10, 128, i64::MIN, i64::MAX] {
            assert_eq!(Priority::new(wrong), None, "{wrong}");
        }
    }
}
