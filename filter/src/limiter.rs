//! The way to the limiter, as rules use it.

use std::fmt;

use vsmtp_ipc::edge::filter_limits::{Taken, Taking};

/// Counts for rules. Blocks the rule that asks, and hands the loop on before.
pub trait Limiter: fmt::Debug + Send + Sync {
    /// Counts what is wanted, if it is within the limit; `None` if nobody answers: then nothing is limited.
    fn take(&self, taking: Taking) -> Option<Taken>;
}

/// No limiter.
#[derive(Debug)]
pub struct NoLimiter;

impl Limiter for NoLimiter {
    fn take(&self, _: Taking) -> Option<Taken> {
        None
    }
}
