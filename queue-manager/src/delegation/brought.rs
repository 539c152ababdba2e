//! Secrets that were used up lately, and for whom. A service that lost our answer brings its message once more: it hears that
//! all is well rather than a refusal, which it would report to the sender. After a restart those are known whose messages the
//! rules have not gone on with yet.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

use vsmtp_mail::{Envelope, Token};

/// Most secrets that are remembered; the oldest goes first.
pub const MAX_BROUGHT: usize = 16_384;
/// Most recipients that are remembered with all of them.
const MAX_KNOWN: usize = 4 * MAX_BROUGHT;

/// Those used up lately.
#[derive(Debug, Default)]
pub struct Brought {
    order: VecDeque<Token>,
    /// Sorted hashes of the recipients. Under a key of this process, so that nobody finds two that are alike.
    known: HashMap<Token, Box<[u64]>>,
    key: RandomState,
    /// How many hashes there are.
    recipients: usize,
}

impl Brought {
    /// One more is used up: the message that went with it is for these.
    pub fn note(&mut self, token: Token, envelope: &Envelope) {
        if self.known.contains_key(&token) {
            return;
        }
        let mut recipients: Box<[u64]> = self.hashes(envelope).collect();
        recipients.sort_unstable();
        self.recipients += recipients.len();
        self.known.insert(token, recipients);
        self.order.push_back(token);
        while self.order.len() > MAX_BROUGHT || (self.recipients > MAX_KNOWN && self.order.len() > 1) {
            let oldest = self.order.pop_front().and_then(|oldest| self.known.remove(&oldest));
            self.recipients -= oldest.map_or(0, |oldest| oldest.len());
        }
    }

    /// True if it was used up.
    pub fn has(&self, token: Token) -> bool {
        self.known.contains_key(&token)
    }

    /// True if it was used up by a message that is for all of these, and perhaps for others.
    pub fn has_for(&self, token: Token, envelope: &Envelope) -> bool {
        let known = self.known.get(&token);
        known.is_some_and(|known| self.hashes(envelope).all(|one| known.binary_search(&one).is_ok()))
    }

    fn hashes(&self, envelope: &Envelope) -> impl Iterator<Item = u64> {
        envelope.recipients.iter().map(|recipient| self.key.hash_one(&recipient.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delegation::back::tests::envelope;

    fn token(number: usize) -> Token {
        Token::from_bytes((number as u128).to_le_bytes())
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut brought = Brought::default();
        let envelope = envelope(&["a@b.test"]);
        for number in 0..=MAX_BROUGHT {
            brought.note(token(number), &envelope);
            brought.note(token(number), &envelope);
        }
        assert_eq!((brought.order.len(), brought.known.len()), (MAX_BROUGHT, MAX_BROUGHT));
        assert_eq!(brought.recipients, MAX_BROUGHT);
        assert!(!brought.has(token(0)) && brought.has(token(1)) && brought.has(token(MAX_BROUGHT)));
    }

    #[test]
    fn many_recipients_push_others_out_and_never_themselves() {
        let mut brought = Brought::default();
        brought.note(token(0), &envelope(&["a@b.test"]));
        let many: Vec<String> = (0..=MAX_KNOWN).map(|number| format!("u{number}@b.test")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        brought.note(token(1), &envelope(&many));
        assert_eq!(brought.recipients, MAX_KNOWN + 1);
        assert!(!brought.has(token(0)) && brought.has_for(token(1), &envelope(&many[5..9])));
    }

    #[test]
    fn who_has_not_been_a_recipient_is_told_apart() {
        let mut brought = Brought::default();
        brought.note(token(1), &envelope(&["a@b.test", "c@d.test"]));
        assert!(brought.has_for(token(1), &envelope(&["c@d.test"])));
        assert!(!brought.has_for(token(1), &envelope(&["c@d.test", "e@f.test"])));
        assert!(!brought.has_for(token(2), &envelope(&["c@d.test"])));
    }
}
