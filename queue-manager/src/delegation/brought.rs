//! Secrets that were used up lately. A service that lost our answer brings its message once more: it hears that all is well
//! rather than a refusal, which it would report to the sender. After a restart those are known whose messages the rules have not
//! gone on with yet.

use std::collections::{HashSet, VecDeque};

use vsmtp_mail::Token;

/// Most secrets that are remembered; the oldest goes first.
pub const MAX_BROUGHT: usize = 16_384;

/// Those used up lately.
#[derive(Debug, Default)]
pub struct Brought {
    order: VecDeque<Token>,
    known: HashSet<Token>,
}

impl Brought {
    /// One more is used up.
    pub fn note(&mut self, token: Token) {
        if !self.known.insert(token) {
            return;
        }
        self.order.push_back(token);
        if self.order.len() > MAX_BROUGHT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// True if it was used up.
    pub fn has(&self, token: Token) -> bool {
        self.known.contains(&token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let token = |number: usize| Token::from_bytes((number as u128).to_le_bytes());
        let mut brought = Brought::default();
        for number in 0..=MAX_BROUGHT {
            brought.note(token(number));
            brought.note(token(number));
        }
        assert_eq!((brought.order.len(), brought.known.len()), (MAX_BROUGHT, MAX_BROUGHT));
        assert!(!brought.has(token(0)) && brought.has(token(1)) && brought.has(token(MAX_BROUGHT)));
    }
}
