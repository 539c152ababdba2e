//! Whose handshake goes on in this turn of the loop. A step that signs is made by a thread; but the whole of one that goes on with a
//! ticket is made here, so that without a bound all clients that come back at once, as after a restart, would be served before
//! those that are in the middle of a message. Whoever does not come to its turn is first in the next one. Pure.

use std::collections::VecDeque;

/// Steps of handshakes in one turn of the loop: a few milliseconds of work.
pub const STEPS_PER_TURN: usize = 32;

/// The line.
#[derive(Debug, Default)]
pub struct Turns {
    made: usize,
    waiting: VecDeque<u64>,
}

impl Turns {
    /// Whether this session may go on with its handshake now. If not it waits in line; a session that does must not ask again.
    #[must_use]
    pub fn take(&mut self, session: u64) -> bool {
        let is_free = self.waiting.is_empty() && self.made < STEPS_PER_TURN;
        if is_free {
            self.made += 1;
        } else {
            self.waiting.push_back(session);
        }
        is_free
    }

    /// The next turn begins: these may go on, as far as they still live.
    pub fn begin(&mut self) -> Vec<u64> {
        let count = self.waiting.len().min(STEPS_PER_TURN);
        self.made = count;
        self.waiting.drain(..count).collect()
    }

    /// True if somebody waits for the next turn.
    pub fn are_wanted(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_first_goes_on_first_and_a_turn_is_bounded() {
        let mut turns = Turns::default();
        let all = 3 * STEPS_PER_TURN as u64 + 1;
        let mut went: Vec<u64> = (0..all).filter(|session| turns.take(*session)).collect();
        assert_eq!(went.len(), STEPS_PER_TURN);
        for _ in 0..3 {
            assert!(turns.are_wanted());
            let next = turns.begin();
            assert!(next.len() <= STEPS_PER_TURN);
            went.extend(next);
        }
        assert_eq!(went, (0..all).collect::<Vec<_>>());
        // The rest of that turn is for those that come now.
        assert!(!turns.are_wanted());
        assert_eq!((0..all).filter(|session| turns.take(*session)).count(), STEPS_PER_TURN - 1);
    }

    #[test]
    fn nobody_passes_those_in_line() {
        let mut turns = Turns::default();
        assert_eq!((0..100).filter(|session| turns.take(*session)).count(), STEPS_PER_TURN);
        turns.begin();
        turns.begin();
        assert!(turns.are_wanted());
        assert!(!turns.take(100));
        assert_eq!(turns.begin().last(), Some(&100));
        assert!(turns.take(101));
    }
}
