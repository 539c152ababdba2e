//! Processes that have left their command's group: they become children of the runner when whoever started them ends, and
//! nobody can tell whose they were. Each may go on as long as a command that ran when it was first seen. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// What is known of them, by their number.
#[derive(Debug, Default)]
pub struct Strays {
    /// The jobs that each may belong to and that still run.
    seen: BTreeMap<i32, BTreeSet<usize>>,
}

impl Strays {
    /// Takes note of all that there are now, while these jobs run. Answers those whose time is over.
    pub fn look(&mut self, strays: &BTreeSet<i32>, running: &BTreeSet<usize>) -> Vec<i32> {
        self.seen.retain(|pid, _| strays.contains(pid));
        for pid in strays {
            let jobs = self.seen.entry(*pid).or_insert_with(|| running.clone());
            jobs.retain(|job| running.contains(job));
        }
        self.seen.iter().filter(|(_, jobs)| jobs.is_empty()).map(|(pid, _)| *pid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_may_stay_as_long_as_a_command_that_may_have_started_it() {
        let mut strays = Strays::default();
        let look = |strays: &mut Strays, pids: &[i32], jobs: &[usize]| {
            strays.look(&pids.iter().copied().collect(), &jobs.iter().copied().collect())
        };
        assert_eq!(look(&mut strays, &[10], &[1, 2]), []);
        // Job 3 has begun after it.
        assert_eq!(look(&mut strays, &[10, 11], &[2, 3]), []);
        assert_eq!(look(&mut strays, &[10, 11], &[3]), [10]);
        assert_eq!(look(&mut strays, &[10, 11], &[]), [10, 11]);
        // The number of one that is gone means another one.
        assert_eq!(look(&mut strays, &[], &[]), []);
        assert_eq!(look(&mut strays, &[10], &[4]), []);
    }
}
