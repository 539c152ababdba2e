//! When each session has waited long enough. Deadlines move with every command and most sessions end before theirs, so
//! they are plain numbers side by side, looked over when the first could be due, instead of entries in the loop's timers.
//! Pure: the loop's timer is set by the caller.

/// How long after one look the next comes at the earliest, in milliseconds: a look at 10,000 sessions is cheap, but not
/// for nothing.
const REST_MS: u64 = 50;
/// No deadline.
const NEVER: u64 = u64::MAX;

/// The deadlines of all sessions.
#[derive(Debug)]
pub struct Deadlines {
    /// Session and deadline, by the session's place.
    places: Vec<(u64, u64)>,
    /// When the next look is due.
    next_ms: u64,
    /// Before this time there is none.
    rest_until_ms: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines { places: Vec::new(), next_ms: NEVER, rest_until_ms: 0 }
    }
}

impl Deadlines {
    /// Sets the deadline of the session at `place`. Answers when the loop's timer is to fire, if it must be set anew.
    #[must_use]
    pub fn set(&mut self, place: usize, session: u64, due_ms: u64) -> Option<u64> {
        if self.places.len() <= place {
            self.places.resize(place + 1, (0, NEVER));
        }
        if let Some(slot) = self.places.get_mut(place) {
            *slot = (session, due_ms);
        }
        self.look_at(due_ms)
    }

    /// The session at `place` is over.
    pub fn clear(&mut self, place: usize) {
        if let Some(slot) = self.places.get_mut(place) {
            *slot = (0, NEVER);
        }
    }

    /// The loop's timer has fired: the sessions that are due, and when the timer is to fire again.
    pub fn look(&mut self, now_ms: u64) -> (Vec<u64>, Option<u64>) {
        if now_ms < self.next_ms {
            // A timer of an earlier plan.
            return (Vec::new(), None);
        }
        let (mut due, mut first) = (Vec::new(), NEVER);
        for (session, due_ms) in &mut self.places {
            if *due_ms <= now_ms {
                due.push(*session);
                *due_ms = NEVER;
            }
            first = first.min(*due_ms);
        }
        self.next_ms = NEVER;
        self.rest_until_ms = now_ms + REST_MS;
        (due, self.look_at(first))
    }

    fn look_at(&mut self, due_ms: u64) -> Option<u64> {
        let at_ms = due_ms.max(self.rest_until_ms);
        if at_ms >= self.next_ms {
            return None;
        }
        self.next_ms = at_ms;
        Some(at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_is_set_for_the_first_only_and_again_after_each_look() {
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.set(3, 33, 1000), Some(1000));
        assert_eq!(deadlines.set(1, 11, 2000), None);
        assert_eq!(deadlines.set(2, 22, 900), Some(900));
        assert_eq!(deadlines.look(899), (vec![], None));
        assert_eq!(deadlines.look(900), (vec![22], Some(1000)));
        assert_eq!(deadlines.set(3, 33, 3000), None);
        assert_eq!(deadlines.look(1000), (vec![], Some(2000)), "moved meanwhile");
        deadlines.clear(1);
        assert_eq!(deadlines.look(2000), (vec![], Some(3000)));
        assert_eq!(deadlines.look(3000), (vec![33], None));
        assert_eq!(deadlines.look(9000), (vec![], None));
    }

    #[test]
    fn looks_keep_their_distance_and_miss_nobody() {
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.set(0, 7, 100), Some(100));
        assert_eq!(deadlines.set(1, 8, 101), None);
        assert_eq!(deadlines.look(100), (vec![7], Some(100 + REST_MS)));
        assert_eq!(deadlines.set(0, 9, 102), None);
        assert_eq!(deadlines.look(150), (vec![9, 8], None));
    }
}
