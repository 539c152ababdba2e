//! What filters ask about grants.

use vsmtp_daemon::Record;
use vsmtp_ipc::ChannelError;
use vsmtp_ipc::edge::filter_auth::{Answer, Ask, CREDITS, Identity, Verified};
use vsmtp_ipc::wire::Grant;

use super::{Act, Desk, Edge, Outcome, Purpose, Work, misbehaved};
use crate::mechanism::Mechanism;

impl Desk {
    /// A filter speaks.
    ///
    /// # Errors
    /// It said what nobody may say: its edge is to be closed.
    pub fn ask_about(&mut self, now_ms: u64, edge: Edge, ask: Ask) -> Result<Vec<Act>, ChannelError> {
        let open = self.filters.get_mut(&edge).ok_or_else(|| misbehaved("speaks without an edge"))?;
        match ask {
            Ask::Confirm { ticket, receiver, grant } => {
                let identity = self.grants.shown_by(grant, receiver).map(|granted| Identity {
                    name: granted.user.clone(),
                    mechanism: granted.mechanism.name().to_owned(),
                    vouched: granted.vouched,
                    settled: granted.settled,
                });
                Ok(vec![Act::Reply(edge, Answer::Confirmed { ticket, identity })])
            }
            Ask::Verify { ticket, grant } => {
                if *open >= CREDITS {
                    return Err(misbehaved("more questions than credits"));
                }
                *open += 1;
                Ok(self.verify(now_ms, edge, ticket, grant))
            }
            Ask::Settle { grant, accepted } => {
                self.settle(now_ms, grant, accepted);
                Ok(Vec::new())
            }
        }
    }

    fn verify(&mut self, now_ms: u64, edge: Edge, ticket: u64, grant: Grant) -> Vec<Act> {
        let Some(granted) = self.grants.get_mut(grant) else {
            return self.verified(edge, ticket, &Outcome::Unknown);
        };
        match granted.pending.clone() {
            Some(credentials) => {
                self.work(now_ms, Purpose::Verify { edge, ticket }, Work::Verify(credentials)).1
            }
            // The back-ends have said so already.
            None if granted.vouched => {
                let user = granted.user.clone();
                self.verified(edge, ticket, &Outcome::Yes(user))
            }
            None => self.verified(edge, ticket, &Outcome::Unknown),
        }
    }

    /// The answer to `Verify` is known.
    pub(super) fn verified(&mut self, edge: Edge, ticket: u64, outcome: &Outcome) -> Vec<Act> {
        let Some(open) = self.filters.get_mut(&edge) else { return Vec::new() };
        *open = open.saturating_sub(1);
        let verified = match outcome {
            Outcome::Yes(_) => Verified::Right,
            Outcome::No(_) | Outcome::NoGuess => Verified::Wrong,
            _ => Verified::Unavailable,
        };
        vec![Act::Reply(edge, Answer::Verified { ticket, verified })]
    }

    fn settle(&mut self, now_ms: u64, grant: Grant, accepted: bool) {
        if accepted {
            let Some(granted) = self.grants.get_mut(grant) else { return };
            granted.settled = true;
            if granted.pending.take().is_some() {
                Record::new("authenticated")
                    .field("user", &granted.user)
                    .field("mechanism", granted.mechanism.name())
                    .maybe("client", granted.client)
                    .field("receiver", granted.receiver)
                    .emit();
            }
        } else if let Some(granted) = self.grants.remove(grant) {
            // What a proxy has stated was guessed by nobody, and what clients guess there the proxy counts.
            if granted.mechanism != Mechanism::XClient {
                let trusted =
                    |ip: &std::net::IpAddr| self.trusted.iter().any(|network| network.contains(*ip));
                let client = granted.client.filter(|ip| !trusted(ip));
                let account = Some(granted.user.as_str()).filter(|_| self.is_guessed(granted.mechanism));
                self.brakes.count(now_ms, client, account);
            }
            Record::new("auth-failed")
                .field("why", "rules")
                .field("user", &granted.user)
                .field("mechanism", granted.mechanism.name())
                .maybe("client", granted.client)
                .emit();
        }
    }
}
