//! How rules reach the key holder.

use std::time::Duration;

use vsmtp_ipc::EdgeId;
use vsmtp_ipc::edge::client_resolver::SignatureAlgorithm;
use vsmtp_ipc::edge::filter_keys::{Answer, Ask, CREDITS};

use super::inquiry::{Door, Inquiry};
use crate::signer::Signer;

/// Longest wait of a rule for the key holder.
const PATIENCE: Duration = Duration::from_secs(5);

/// The edge to the key holder.
pub enum Signing {}

/// What a rule asks.
pub enum Wanted {
    /// The keys of a domain.
    Keys(String),
    /// A signature by one of them.
    Signature(String, u32, Vec<u8>),
}

impl Inquiry for Signing {
    type Asked = Wanted;
    type Heard = Answer;
    type Question = Ask;
    type Answer = Answer;
    const EDGE: EdgeId = EdgeId::FilterKeys;
    const CREDITS: u32 = CREDITS;

    fn question(wanted: &Wanted, ticket: u64, _: Duration) -> Ask {
        match wanted {
            Wanted::Keys(domain) => Ask::Keys { ticket, domain: domain.clone() },
            Wanted::Signature(domain, number, data) => {
                Ask::Sign { ticket, domain: domain.clone(), number: *number, data: data.clone() }
            }
        }
    }

    fn heard(answer: Answer) -> (u64, Answer) {
        let (Answer::Keys { ticket, .. } | Answer::Signed { ticket, .. }) = &answer;
        (*ticket, answer)
    }
}

impl Signer for Door<Signing> {
    fn keys(&self, domain: &str) -> Option<Vec<SignatureAlgorithm>> {
        match Door::ask(self, vec![Wanted::Keys(domain.to_owned())], PATIENCE).pop()? {
            Some(Answer::Keys { algorithms, .. }) => Some(algorithms),
            _ => None,
        }
    }

    fn sign(&self, domain: &str, number: u32, data: Vec<u8>) -> Option<Vec<u8>> {
        match Door::ask(self, vec![Wanted::Signature(domain.to_owned(), number, data)], PATIENCE).pop()? {
            Some(Answer::Signed { signature, .. }) => signature,
            _ => None,
        }
    }
}
