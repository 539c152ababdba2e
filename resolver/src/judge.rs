//! Which judgement a question asks for, and what is said if its time is over first. Each judgement is a pure function of
//! what is known; see [`crate::zone`].

use std::net::IpAddr;

use vsmtp_ipc::edge::client_resolver::{ClientName, Query, Records, SpfResult, SpfVerdict};

use crate::zone::{Judged, Zone};
use crate::{client_name, spf};

/// What is to be judged.
#[derive(Debug)]
pub enum Task {
    /// What the client at this address is called.
    ClientName(IpAddr),
    /// Whether a host may send for a domain.
    Spf(spf::Subject),
}

impl Task {
    /// The judgement that a query asks for; `None` if it asks for records only. `now_s` is the time of day.
    pub fn of(query: &Query, now_s: u64) -> Option<Self> {
        match query {
            Query::ClientName(address) => Some(Task::ClientName(*address)),
            Query::Spf(question) => Some(Task::Spf(spf::Subject::of(question, now_s))),
            _ => None,
        }
    }

    /// Judges with what is known.
    ///
    /// # Errors
    /// Something must be looked up first.
    pub fn judge(&self, zone: &mut dyn Zone) -> Judged<Records> {
        match self {
            Task::ClientName(address) => client_name::find(*address, zone).map(Records::ClientName),
            Task::Spf(subject) => spf::check(subject, zone).map(Records::Spf),
        }
    }

    /// What is said when there is no time left.
    pub fn too_late(&self) -> Records {
        let by = "no answer in time".to_owned();
        match self {
            Task::ClientName(_) => Records::ClientName(ClientName::Unknown),
            Task::Spf(_) => Records::Spf(SpfVerdict { result: SpfResult::TempError, by, explanation: None }),
        }
    }
}
