//! The servers of one table: in which order they are asked, and how long each may take. Pure: time comes in.
//!
//! One that has not answered rests: as long as it does, it is asked only if no other has answered, so that a server that
//! is down costs one key in a while its time, and not each.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server that has not answered is asked last.
const REST: Duration = Duration::from_secs(30);

/// When each of them has failed last, if it has not answered since.
#[derive(Debug)]
pub struct Servers(Mutex<Vec<Option<Instant>>>);

impl Servers {
    /// So many, of which nothing is known.
    pub fn new(count: usize) -> Self {
        Servers(Mutex::new(vec![None; count]))
    }

    /// Their places in the order in which to ask them now: as they were named, and those that rest behind. One that has
    /// rested is given to one caller as if it were good, so that one key tries it and not all.
    pub fn order(&self, now: Instant) -> Vec<usize> {
        let mut failed = self.lock();
        let (mut good, mut resting) = (Vec::new(), Vec::new());
        for (at, since) in failed.iter_mut().enumerate() {
            match since {
                Some(since) if now.saturating_duration_since(*since) < REST => resting.push(at),
                Some(since) => {
                    *since = now;
                    good.push(at);
                }
                None => good.push(at),
            }
        }
        good.extend(resting);
        good
    }

    /// The server at that place has answered, or has not.
    pub fn note(&self, at: usize, has_answered: bool, now: Instant) {
        if let Some(since) = self.lock().get_mut(at) {
            *since = (!has_answered).then_some(now);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<Instant>>> {
        // Whole, whoever has panicked: one value is put in the place of another.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the next one may take, if so much is left of all time and so many are to be asked, that one among them: what
/// one does not need goes to the others, and the last one gets all the rest.
pub fn share(left: Duration, servers: usize) -> Duration {
    left / u32::try_from(servers.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_answered_is_asked_last_and_tried_again_by_one() {
        let (servers, start) = (Servers::new(3), Instant::now());
        assert_eq!(servers.order(start), [0, 1, 2]);
        servers.note(0, false, start);
        servers.note(2, false, start);
        assert_eq!(servers.order(start), [1, 0, 2]);
        servers.note(2, true, start);
        assert_eq!(servers.order(start + REST / 2), [1, 2, 0]);
        assert_eq!(servers.order(start + REST), [0, 1, 2]);
        assert_eq!(servers.order(start + REST), [1, 2, 0], "another one tries it");
        servers.note(0, true, start + REST);
        assert_eq!(servers.order(start + REST), [0, 1, 2]);
        (0..3).for_each(|at| servers.note(at, false, start));
        assert_eq!(servers.order(start), [0, 1, 2], "rather those than nobody");
    }

    #[test]
    fn the_last_one_gets_some_time_too() {
        let mut left = Duration::from_secs(12);
        for (servers, seconds) in [(3, 4), (2, 4), (1, 4)] {
            assert_eq!(share(left, servers).as_secs(), seconds);
            left -= share(left, servers);
        }
        assert_eq!(share(Duration::from_secs(12), 0), Duration::from_secs(12));
    }
}
