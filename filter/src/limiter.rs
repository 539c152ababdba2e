//! The way to the limiter, as rules use it.

use std::fmt;

use vsmtp_ipc::edge::filter_limits::{Taken, Taking, Terms, Triple};

/// Counts and remembers for rules. Blocks the rule that asks, and hands the loop on before.
pub trait Limiter: fmt::Debug + Send + Sync {
    /// Counts what is wanted, if it is within the limit; `None` if nobody answers: then nothing is limited.
    fn take(&self, taking: Taking) -> Option<Taken>;

    /// Seconds that who writes to whom still waits; `None` if nobody answers: then nobody waits.
    fn greylist(&self, triple: Triple, terms: Terms) -> Option<u32>;
}

/// No limiter.
#[derive(Debug)]
pub struct NoLimiter;

impl Limiter for NoLimiter {
    fn take(&self, _: Taking) -> Option<Taken> {
        None
    }

    fn greylist(&self, _: Triple, _: Terms) -> Option<u32> {
        None
    }
}
