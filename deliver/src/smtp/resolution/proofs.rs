//! What hosts can prove themselves by: the TLSA records of those that DNSSEC vouches for, at the end of their aliases first
//! (RFC 7672 2.2.2). What the records mean for a connection is decided elsewhere.

use vsmtp_ipc::edge::client_resolver::{DnsError, Query, Records};
use vsmtp_mail::Domain;

use super::{Candidate, Heard, MISFIT, Resolution, Step};
use crate::smtp::security::{Tlsa, asks_for_tlsa};

/// Where the aliases of a host's name end, if it is an alias all the way of which DNSSEC vouches for.
#[derive(Debug)]
pub(super) struct End {
    /// Empty if that cannot be told now.
    name: Box<str>,
    tlsa: Tlsa,
}

impl Resolution {
    /// Asks for the TLSA records of the hosts whose names and addresses DNSSEC vouches for (RFC 7672 2.2.2), and where their
    /// aliases end, if the policy wants them.
    pub(super) fn ask_proofs(&mut self) -> Step {
        let vouched = asks_for_tlsa(&self.policy) && self.secure;
        let hosts = self.hosts.iter().filter(|found| vouched && found.secure);
        let asked: Vec<Query> = hosts
            .flat_map(|found| {
                let name = &found.host.name;
                [Query::Tlsa(tlsa_name(self.port, name)), Query::Canonical(name.to_string())]
            })
            .collect();
        self.open.clone_from(&asked);
        if asked.is_empty() { Step::Done(self.route()) } else { Step::Ask(asked) }
    }

    /// Where the aliases of a host end: if that is elsewhere, the records there are asked for too.
    pub(super) fn on_canonical(&mut self, host: &str, heard: Heard) -> Result<Option<Step>, &'static str> {
        let end = match heard.result {
            Ok(Records::Names(names)) if heard.secure => {
                names.first().and_then(|name| Domain::parse(name).ok())
            }
            // Whoever vouched for the addresses says no more of the way to them: the records of the name itself may do.
            Ok(Records::Names(_)) | Err(DnsError::NoSuchName | DnsError::NoRecords) => None,
            Ok(_) => return Err(MISFIT),
            // The records there may ask for proof.
            Err(error) => {
                let tlsa = Tlsa::Unclear { forged: error == DnsError::Bogus };
                self.end_of(host, End { name: "".into(), tlsa });
                return Ok(None);
            }
        };
        let Some(end) = end.filter(|end| !end.as_str().eq_ignore_ascii_case(host)) else { return Ok(None) };
        self.end_of(host, End { name: end.as_str().into(), tlsa: Tlsa::None });
        let query = Query::Tlsa(tlsa_name(self.port, end.as_str()));
        // Two hosts may be aliases of one.
        if self.open.contains(&query) {
            return Ok(None);
        }
        self.open.push(query.clone());
        Ok(Some(Step::Ask(vec![query])))
    }

    pub(super) fn on_tlsa(&mut self, name: &str, tlsa: &Tlsa) {
        let port = self.port;
        for found in &mut self.hosts {
            if tlsa_name(port, &found.host.name) == name {
                found.tlsa = tlsa.clone();
            }
            if let Some(end) = found.end.as_mut().filter(|end| tlsa_name(port, &end.name) == name) {
                end.tlsa = tlsa.clone();
            }
        }
    }

    fn end_of(&mut self, host: &str, end: End) {
        if let Some(found) = self.hosts.iter_mut().find(|found| *found.host.name == *host) {
            found.end = Some(end);
        }
    }
}

impl Candidate {
    /// The records that count: those at the end of its aliases, or without any its own.
    pub(super) fn take_tlsa(&mut self) -> Tlsa {
        let own = std::mem::replace(&mut self.tlsa, Tlsa::None);
        match self.end.take() {
            Some(End { tlsa, name }) if tlsa != Tlsa::None => tlsa.belonging_to(&name),
            _ => own,
        }
    }
}

/// Where the TLSA records of a server are (RFC 6698 3).
fn tlsa_name(port: u16, host: &str) -> String {
    format!("_{port}._tcp.{host}")
}
