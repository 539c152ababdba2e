//! What rules may ask the resolver, and through what. The answers come from strangers' name servers, checked in form.

use std::fmt;
use std::time::Duration;

use vsmtp_ipc::edge::client_resolver::{DnsError, Query, Records};

/// Longest wait of a rule for one answer of the DNS.
pub const LOOK_UP: Duration = Duration::from_secs(10);
/// Most queries of one call.
pub const MAX_QUERIES: usize = 64;

/// The way to the resolver. Blocks the rule that asks, and hands the loop on before.
pub trait Names: fmt::Debug + Send + Sync {
    /// The answers, in the order of the queries, all waited for together and at most so long, or as long as the rule has.
    /// Whatever has no answer then is temporary; so are queries beyond [`MAX_QUERIES`].
    fn ask(&self, queries: Vec<Query>, limit: Duration) -> Vec<Result<Records, DnsError>>;

    /// The answer to one query.
    fn ask_one(&self, query: Query, limit: Duration) -> Result<Records, DnsError> {
        self.ask(vec![query], limit).pop().unwrap_or(Err(DnsError::Temporary))
    }
}

/// No resolver: as long as scripts are loaded, nothing can be asked.
#[derive(Debug)]
pub struct Nobody;

impl Names for Nobody {
    fn ask(&self, queries: Vec<Query>, _: Duration) -> Vec<Result<Records, DnsError>> {
        queries.iter().map(|_| Err(DnsError::Temporary)).collect()
    }
}
