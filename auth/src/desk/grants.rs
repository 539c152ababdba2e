//! What was granted to whom. A grant is good for the receiver that it was made for, and as long as that one's edge lives.

use std::collections::HashMap;
use std::net::IpAddr;

use vsmtp_ipc::edge::receiver_auth::MAX_GRANTS;
use vsmtp_ipc::role::ProcessName;
use vsmtp_ipc::wire::Grant;

use super::Edge;
use crate::mechanism::Mechanism;
use crate::secret::Credentials;

/// One authenticated session.
#[derive(Debug)]
pub struct Granted {
    /// The receiver's edge.
    pub edge: Edge,
    /// The receiver.
    pub receiver: ProcessName,
    /// Who the client is.
    pub user: String,
    /// How it proved it.
    pub mechanism: Mechanism,
    /// Where it is.
    pub client: Option<IpAddr>,
    /// A back-end vouches for it.
    pub vouched: bool,
    /// The rules have accepted it.
    pub settled: bool,
    /// What only the rules can have checked.
    pub pending: Option<Credentials>,
}

/// All grants.
#[derive(Debug, Default)]
pub struct Grants {
    all: HashMap<Grant, Granted>,
    /// How many each edge has.
    counts: HashMap<Edge, usize>,
}

impl Grants {
    /// Remembers a grant. False if its receiver has more than it can have sessions.
    pub fn add(&mut self, grant: Grant, granted: Granted) -> bool {
        let count = self.counts.entry(granted.edge).or_default();
        if *count >= MAX_GRANTS || self.all.contains_key(&grant) {
            return false;
        }
        *count += 1;
        self.all.insert(grant, granted);
        true
    }

    /// The grant that this receiver has shown.
    pub fn shown_by(&self, grant: Grant, receiver: ProcessName) -> Option<&Granted> {
        self.all.get(&grant).filter(|granted| granted.receiver == receiver)
    }

    /// A grant, whoever shows it.
    pub fn get_mut(&mut self, grant: Grant) -> Option<&mut Granted> {
        self.all.get_mut(&grant)
    }

    /// Forgets a grant.
    pub fn remove(&mut self, grant: Grant) -> Option<Granted> {
        let granted = self.all.remove(&grant)?;
        if let Some(count) = self.counts.get_mut(&granted.edge) {
            *count = count.saturating_sub(1);
        }
        Some(granted)
    }

    /// Forgets a grant, if it is of that edge.
    pub fn end(&mut self, edge: Edge, grant: Grant) {
        if self.all.get(&grant).is_some_and(|granted| granted.edge == edge) {
            self.remove(grant);
        }
    }

    /// Forgets the password that waits with a grant.
    pub fn forget_password(&mut self, grant: Grant) {
        if let Some(granted) = self.all.get_mut(&grant) {
            granted.pending = None;
        }
    }

    /// Forgets all grants of an edge.
    pub fn lose(&mut self, edge: Edge) {
        if self.counts.remove(&edge).is_some() {
            self.all.retain(|_, granted| granted.edge != edge);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }
}
