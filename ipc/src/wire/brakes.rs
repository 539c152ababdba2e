//! What operators ask the auth helper about those who failed to log in, and what they hear. It goes through the master.

use std::net::IpAddr;

use bincode::{Decode, Encode};

use crate::edge::master_child::Figure;

/// Most clients, and most accounts, of one answer: those with most failures.
pub const BRAKES_LISTED: usize = 100;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum BrakesRequest {
    /// Who has failed most.
    List,
    /// Forget the failures of that client; of its network, if it has IPv6.
    ResetClient(IpAddr),
    /// Forget the failures for that account.
    ResetAccount(String),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum BrakesAnswer {
    /// To `List`.
    Listed(Braked),
    /// To the others: whether anything was known.
    Reset(bool),
}

/// Who has failed, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Braked {
    /// How long a failure counts, in milliseconds.
    pub window_ms: u64,
    /// Failures after which a client is not heard; `None` for no limit.
    pub per_client: Option<u32>,
    /// The same for an account.
    pub per_account: Option<u32>,
    /// Counts and sizes.
    pub figures: Vec<Figure>,
    /// Clients with most failures first, at most [`BRAKES_LISTED`]; of IPv6 the first address of a /64.
    pub clients: Vec<(IpAddr, u32)>,
    /// The same of accounts. Names are what strangers have said.
    pub accounts: Vec<(String, u32)>,
}
