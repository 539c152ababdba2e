//! What hosts can prove themselves by: the TLSA records of those that DNSSEC vouches for. What the records mean for a
//! connection is decided elsewhere.

use vsmtp_ipc::edge::client_resolver::Query;

use super::{Resolution, Step};
use crate::smtp::security::{Tlsa, asks_for_tlsa};

impl Resolution {
    /// Asks for the TLSA records of the hosts whose names and addresses DNSSEC vouches for (RFC 7672 2.2.2), if the
    /// policy wants them.
    pub(super) fn ask_proofs(&mut self) -> Step {
        let vouched = asks_for_tlsa(&self.policy) && self.secure;
        let asked: Vec<Query> = self
            .hosts
            .iter()
            .filter(|found| vouched && found.secure)
            .map(|found| Query::Tlsa(tlsa_name(self.port, &found.host.name)))
            .collect();
        self.open.clone_from(&asked);
        if asked.is_empty() { Step::Done(self.route()) } else { Step::Ask(asked) }
    }

    pub(super) fn on_tlsa(&mut self, name: &str, tlsa: Tlsa) {
        let port = self.port;
        if let Some(found) = self.hosts.iter_mut().find(|found| tlsa_name(port, &found.host.name) == name) {
            found.tlsa = tlsa;
        }
    }
}

/// Where the TLSA records of a server are (RFC 6698 3).
fn tlsa_name(port: u16, host: &str) -> String {
    format!("_{port}._tcp.{host}")
}
